# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Containers that ask each other, a published port and a server outside ten times a second, and write down what fails."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from tests.cluster import IMAGE, PORT, PROGRAMS, Cluster, wait_for

PUBLISHED = 18080
OUTSIDE = 18081
FOLDER = "/run/multihost-overlay-test"
EVERY = 0.1
# A thread for each target, so that one that hangs does not keep the others from asking. By address: Docker's DNS is part of the engine.
ASKER = f"""
import http.client, sys, threading, time
def ask(target):
    address, port = target.split(":")
    asked = 0
    while True:
        begun = time.time()
        try:
            link = http.client.HTTPConnection(address, int(port), timeout=float(sys.argv[1]))
            link.request("GET", "/"); link.getresponse().read(); link.close()
        except OSError as exc:
            with open("/out/failed", "a") as file: file.write(f"{{begun:.1f}} {{target}} {{exc}}\\n")
        asked += 1
        with open("/out/" + target, "w") as file: file.write(str(asked))
        time.sleep(max(0, {EVERY} - (time.time() - begun)))
for target in sys.argv[2:]:
    threading.Thread(target=ask, args=(target,)).start()
"""


# One connection to each of the others that is never made anew: what is sent comes back, or it is written down, and the connection is over.
STREAM = f"""
import socket, socketserver, sys, threading, time
class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(4096): self.request.sendall(data)
class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
def link_to(name):
    while True:
        try: return socket.create_connection((name, {PORT}), timeout=5)
        except OSError: time.sleep(0.5)
def stream(name):
    link, sent = link_to(name), 0
    try:
        while True:
            begun, data = time.time(), b"x" * 512
            link.sendall(data)
            while data: data = data[len(link.recv(len(data)) or exit("closed")):]
            sent += 1
            with open("/out/stream-to-" + name, "w") as file: file.write(str(sent))
            time.sleep(max(0, {EVERY} - (time.time() - begun)))
    except (OSError, SystemExit) as exc:
        with open("/out/failed", "a") as file: file.write(f"{{begun:.1f}} stream to {{name}} {{exc!r}}\\n")
for name in sys.argv[1:]: threading.Thread(target=stream, args=(name,)).start()
Server(("", {PORT}), Echo).serve_forever()
"""


class Quiet(http.server.BaseHTTPRequestHandler):
    """Answers everything with nothing."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_words: object) -> None:
        """Say nothing."""


class Traffic:
    """What is asked on a cluster's hosts, and what became of it."""

    def __init__(
        self, cluster: Cluster, addresses: dict[str, str], network: str, outside: str, patience: float
    ) -> None:
        self.patience = patience
        self.cluster, self.addresses, self.network, self.outside = cluster, addresses, network, outside
        self.servers: dict[str, str] = {}

    def start(self) -> None:
        """A server on each host, and one that asks all others."""
        for host in self.cluster.hosts:
            publish = ("-p", f"{PUBLISHED}:{PORT}", "--restart", "unless-stopped")
            self.cluster.start_service(host, f"server-{host}", self.network, *publish)
        self.servers = {host: self._address(host) for host in self.cluster.hosts}
        for host in self.cluster.hosts:
            others = [other for other in self.cluster.hosts if other != host]
            targets = [f"{self.servers[other]}:{PORT}" for other in others]
            targets += [f"{self.addresses[other]}:{PUBLISHED}" for other in others] + [f"{self.outside}:{OUTSIDE}"]
            self._start_asker(host, targets)
            wait_for(f"{host} asks all", partial(self._asks, host, len(targets)), 60)

    def _address(self, host: str) -> str:
        form = f'{{{{(index .NetworkSettings.Networks "{self.network}").IPAddress}}}}'
        return self.cluster.out(host, "docker", "inspect", "-f", form, f"server-{host}")

    def _start_asker(self, host: str, targets: list[str]) -> None:
        mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
        self.cluster.run(host, "rm", "-rf", FOLDER)
        self.cluster.run(host, "mkdir", FOLDER)
        options = ["--name", f"asker-{host}", "--network", self.network, "--restart", "unless-stopped", *mounts]
        program = ["/usr/bin/python3", "-c", ASKER, str(self.patience), *targets]
        self.cluster.run(host, "docker", "run", "-d", *options, "-v", f"{FOLDER}:/out", IMAGE, *program)

    def stream(self) -> None:
        """A connection from each host to each other that stays."""
        for host in self.cluster.hosts:
            self._start_stream(host, [f"stream-{other}" for other in self.cluster.hosts if other != host])
        for host in self.cluster.hosts:
            wait_for(f"{host} streams to all", partial(self._streams, host), 60)

    def _start_stream(self, host: str, others: list[str]) -> None:
        mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
        options = ["--name", f"stream-{host}", "--network", self.network, *mounts, "-v", f"{FOLDER}:/out", IMAGE]
        self.cluster.run(host, "docker", "run", "-d", *options, "/usr/bin/python3", "-c", STREAM, *others)

    def _streams(self, host: str) -> bool:
        names = self.cluster.out(host, "sh", "-c", f"ls {FOLDER} | grep -c stream-to- || true")
        return int(names) == len(self.cluster.hosts) - 1

    def _asks(self, host: str, targets: int) -> bool:
        return len(self.counts(host)) == targets and min(self.counts(host).values()) >= 10

    def counts(self, host: str) -> dict[str, int]:
        """How often each target was asked."""
        text = self.cluster.out(host, "sh", "-c", f"cd {FOLDER} && grep -H . *:* || true")
        rows = [line.rsplit(":", 1) for line in text.splitlines()]
        return {target: int(number) for target, number in rows if number.isdigit()}

    def failed(self, *hosts: str) -> list[str]:
        """What failed since it was asked last, on all hosts or on these."""
        lines = []
        for host in hosts or self.cluster.hosts:
            text = self.cluster.out(host, "sh", "-c", f"cat {FOLDER}/failed 2>/dev/null; rm -f {FOLDER}/failed")
            lines += [f"{host}: {line}" for line in text.splitlines()]
        return lines

    def stop(self) -> None:
        """Leave nothing behind."""
        names = [f"{kind}-{host}" for kind in ("asker", "server", "stream") for host in self.cluster.hosts]
        self.cluster.remove_containers(*names)
        for host in self.cluster.hosts:
            self.cluster.run(host, "rm", "-rf", FOLDER)


@contextmanager
def traffic(
    cluster: Cluster, addresses: dict[str, str], network: str, outside: str, patience: float = 2
) -> Iterator[Traffic]:
    """Traffic between all hosts of a cluster, and to ``outside``, an address of this machine in the lab's network. An answer may
    take ``patience`` seconds.
    """
    server = http.server.ThreadingHTTPServer((outside, OUTSIDE), Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    running = Traffic(cluster, addresses, network, outside, patience)
    try:
        running.start()
        running.failed()  # what came too early
        yield running
    finally:
        running.stop()
        server.shutdown()
        server.server_close()
