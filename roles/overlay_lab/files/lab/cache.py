# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A package cache for the lab's hosts: a small HTTP proxy on the bridge, its files shared by all labs and kept."""

from __future__ import annotations

import hashlib
import http.server
import ipaddress
import os
import shutil
import sys
import time
import urllib.error
import urllib.request
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path
from typing import Any, Dict
from urllib.parse import urlsplit

from .base import Log, Process, dump, locked, spawn, wait_for
from .machine import apt_proxy
from .spec import Lab

PORT = 3142
# Files under these names never change; all others are asked for again after so many seconds.
FOREVER = ("/pool/", "/by-hash/")
FRESH = 300


class Store:
    """Files by URL, each fetched once however many ask for it at a time."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def get(self, url: str) -> Path:
        """The file of a URL; its name lies beside it."""
        digest = hashlib.sha256(url.encode()).hexdigest()
        path = self.directory / digest[:2] / digest
        with locked(path.with_suffix(".lock")):
            if not self.is_fresh(path, url):
                self.fetch(url, path)
        return path

    @staticmethod
    def is_fresh(path: Path, url: str) -> bool:
        """Can it be served as it is?"""
        if not path.exists():
            return False
        asked = path.with_suffix(".json").stat().st_mtime if path.with_suffix(".json").exists() else 0.0
        return any(part in url for part in FOREVER) or 0 <= time.time() - asked < FRESH

    def fetch(self, url: str, path: Path) -> None:
        """Fetch into a temporary file; offline, what is there must do."""
        try:
            self.download(url, path)
        except urllib.error.HTTPError:
            raise
        except OSError:
            if not path.exists():
                raise

    @staticmethod
    def download(url: str, path: Path) -> None:
        """One request; the same content keeps its time, so that apt need not fetch it again."""
        print("fetch %s" % url, flush=True)
        temporary = path.with_suffix(".part")
        with urllib.request.urlopen(url, timeout=60) as answer, temporary.open("wb") as stream:
            shutil.copyfileobj(answer, stream, 1 << 18)
            expected = answer.headers.get("Content-Length")
            modified = answer.headers.get("Last-Modified")
        if expected and temporary.stat().st_size != int(expected):
            raise OSError("%s: only %d of %s bytes came" % (url, temporary.stat().st_size, expected))
        if path.exists() and digest_of(path) == digest_of(temporary):
            temporary.unlink()
        else:
            os.replace(str(temporary), str(path))
            if modified:
                when = parsedate_to_datetime(modified).timestamp()
                os.utime(str(path), (when, when))
        dump(path.with_suffix(".json"), {"url": url})
        # When it was asked for last.
        os.utime(str(path.with_suffix(".json")))


def digest_of(path: Path) -> str:
    """The checksum of a file."""
    with path.open("rb") as stream:
        return hashlib.sha256(stream.read()).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """GET and HEAD of http URLs for the hosts of one lab."""

    protocol_version = "HTTP/1.1"
    timeout = 600
    store: Store
    network: ipaddress.IPv4Network

    def do_GET(self) -> None:
        """Answer from the store."""
        if ipaddress.IPv4Address(self.client_address[0]) not in self.network:
            return self.refuse(403, "for hosts of the lab only")
        if urlsplit(self.path).scheme != "http":
            return self.refuse(400, "only http URLs")
        try:
            path = self.store.get(self.path)
        except urllib.error.HTTPError as exc:
            return self.refuse(exc.code, str(exc.reason))
        except Exception as exc:
            return self.refuse(502, "%s: %s" % (type(exc).__name__, exc))
        return self.answer(path)

    def do_HEAD(self) -> None:
        """The same, without a body."""
        self.do_GET()

    def answer(self, path: Path) -> None:
        """A file, or the news that the client has it already."""
        with path.open("rb") as stream:
            state = os.fstat(stream.fileno())
            modified = formatdate(state.st_mtime, usegmt=True)
            if self.headers.get("If-Modified-Since") == modified:
                self.send_response(304)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(200)
            self.send_header("Content-Type", "application/octet-stream")
            self.send_header("Content-Length", str(state.st_size))
            self.send_header("Last-Modified", modified)
            self.end_headers()
            if self.command == "GET":
                shutil.copyfileobj(stream, self.wfile, 1 << 18)

    def refuse(self, status: int, words: str) -> None:
        """An error, with its reason as the body."""
        body = (words + "\n").encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def serve(lab: Lab) -> None:
    """Serve until the process is ended; it notes itself, so that a kill of its starter leaves no unknown process."""
    dump(pid_file(lab), list(Process.of(os.getpid()) or ()))
    handler = type("LabHandler", (Handler,), {"store": Store(lab.cache), "network": lab.network})
    server = http.server.ThreadingHTTPServer((lab.gateway, PORT), handler)
    server.daemon_threads = True
    server.serve_forever()


def url(lab: Lab) -> str:
    """What hosts are told."""
    return "http://%s:%d" % (lab.gateway, PORT)


def answers(lab: Lab) -> bool:
    """Is the cache there? (It refuses this request, and that is an answer.)"""
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url(lab) + "/", timeout=5)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def pid_file(lab: Lab) -> Path:
    """Where the cache's process is noted."""
    return lab.dir / "cache.pid"


def ensure_cache(lab: Lab, log: Log) -> None:
    """Run the cache on the lab's own address."""
    running = Process.load(pid_file(lab))
    if running and answers(lab):
        return
    if not log.act("start the package cache"):
        return
    if running:
        running.end()
    lab.cache.mkdir(parents=True, exist_ok=True)
    start(lab)
    wait_for("the package cache does not answer; see %s" % (lab.dir / "cache.log"), lambda: answers(lab), 20)


def start(lab: Lab) -> None:
    """Start the proxy as a process of its own."""
    program = str(Path(__file__).resolve().parent.parent / "labctl.py")
    argv = [sys.executable, program, "--dir", str(lab.base), "--name", lab.name, "serve-cache"]
    with (lab.dir / "cache.log").open("a") as output:
        spawn(argv, output, **apt_proxy())


def stop_cache(lab: Lab, log: Log) -> None:
    """End it; what it has fetched stays."""
    running = Process.load(pid_file(lab))
    if running and log.act("stop the package cache"):
        running.end()


def statistics(lab: Lab) -> Dict[str, Any]:
    """How much there is."""
    files = [path for path in lab.cache.glob("*/*") if not path.suffix]
    return {"files": len(files), "bytes": sum(path.stat().st_size for path in files), "url": url(lab)}
