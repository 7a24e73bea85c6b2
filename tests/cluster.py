# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of a lab as tests see and handle them: commands, containers, ends and starts. Nothing here runs Ansible.

There is no registry to pull an image from. A test's container has an empty image and the host's own programs, read-only:
enough for a web server and a client in Python.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LABCTL = ROOT / "roles" / "overlay_lab" / "files" / "labctl.py"
IMAGE = "multihost-overlay-test:empty"
PORT = 8080
# The folders that a host's Python needs; a container sees them read-only.
PROGRAMS = ("/usr", "/bin", "/lib", "/lib64")
CLIENT = "import sys, urllib.request as u; sys.stdout.write(u.urlopen(sys.argv[1], timeout=3).read().decode())"
SERVER = f"""
import http.server, signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit())  # the first process of a container is deaf to it otherwise
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())
    def log_message(self, *args): pass
http.server.ThreadingHTTPServer(("", {PORT}), Handler).serve_forever()
"""


def wait_for(what: str, condition: Callable[[], Any], seconds: float = 60, every: float = 0.5) -> Any:
    """Return the first true value of ``condition``; fail with ``what`` and its last value when the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"after {seconds:.0f} s still not: {what}; last seen: {value!r}")
        time.sleep(every)


# Docker 20.10 may keep a thread in the namespace of an overlay that its last container left, and later use it: then a
# call of the store or of a peer fails now and then, whoever made it (docs/verify.md). Prints such threads.
LOST_THREADS = """
pid=$(pidof dockerd) || exit 0
living=" $(stat -L -c %i /proc/self/ns/net /run/docker/netns/* 2>/dev/null | tr '\\n' ' ')"
for thread in /proc/$pid/task/*; do
    space=$(stat -L -c %i "$thread/ns/net") || continue
    case "$living" in *" $space "*) ;; *) echo "$thread" ;; esac
done
"""

# One call over HTTP, described on its standard input, so that no token is in a command line. Prints [status, text]; status 0 where no
# answer came, and the text says why. Without "ca" a certificate is not looked at.
CALL = """
import json, ssl, sys, urllib.error, urllib.request
call = json.load(sys.stdin)
context = ssl.create_default_context(cafile=call["ca"]) if call["ca"] else ssl._create_unverified_context()
if call["pair"]:
    context.load_cert_chain(call["pair"] + ".crt", call["pair"] + ".key")
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
headers = {"X-Consul-Token": call["token"]} if call["token"] else {}
body = call["body"].encode() if call["body"] is not None else None
try:
    with opener.open(urllib.request.Request(call["url"], body, headers, method=call["method"]), timeout=5) as answer:
        said = answer.status, answer.read().decode()
except urllib.error.HTTPError as error:
    said = error.code, error.read().decode()
except (OSError, ValueError) as error:
    said = 0, repr(getattr(error, "reason", error))
print(json.dumps(said))
"""


class Cluster:
    """A lab that is up."""

    def __init__(self, lab: str, hosts: Iterable[str]) -> None:
        self.lab = lab
        self.hosts = list(hosts)

    def labctl(self, *words: str) -> dict[str, Any]:
        """One command of the lab's control program; its answer."""
        command = [sys.executable, str(LABCTL), "--name", self.lab, *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer

    def run(
        self, host: str, *argv: str, check: bool = True, timeout: float = 60, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host, past its sshd."""
        command = [sys.executable, str(LABCTL), "--name", self.lab, "exec", host, *argv]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{host}: {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done

    def out(self, host: str, *argv: str, timeout: float = 60) -> str:
        """What a program on a host prints."""
        return self.run(host, *argv, timeout=timeout).stdout.strip()

    def call(
        self,
        host: str,
        url: str,
        method: str = "GET",
        *,
        token: str = "",
        body: str | None = None,
        ca: str = "",
        pair: str = "",
    ) -> tuple[int, str]:
        """Status and text of a call over HTTP from a host; ``ca`` is a file there, and ``pair`` names one less .crt and .key."""
        call = {"url": url, "method": method, "token": token, "body": body, "ca": ca, "pair": pair}
        status, text = json.loads(self.run(host, "python3", "-c", CALL, stdin=json.dumps(call)).stdout)
        return int(status), str(text)

    def consul(self, host: str, *words: str) -> str:
        """Consul's own client on a host, with the token of its engine, which may do all with Docker's keys."""
        script = 'set -a; . /etc/multihost-overlay/dockerd.env; exec consul "$@"'
        return self.out(host, "sh", "-c", script, "sh", *words)

    def unit(self, host: str, unit: str, what: str) -> str:
        """What systemd says of a property of a unit."""
        return self.out(host, "systemctl", "show", "--property", what, "--value", unit)

    def records(self, folder: str) -> dict[str, str]:
        """What the store has in one of Docker's folders, by key."""
        host = self.hosts[0]
        found = self.consul(host, "kv", "get", "-keys", "-separator=", f"docker/network/v1.0/{folder}/").split()
        values = {key: self.consul(host, "kv", "get", key) for key in found}
        return {key: value for key, value in values.items() if value}

    def write(self, host: str, path: str, content: str, mode: str = "0644") -> None:
        """Put a file on a host."""
        self.run(
            host,
            "sh",
            "-c",
            'mkdir -p "$(dirname "$1")"; printf %s "$2" >"$1"; chmod "$3" "$1"',
            "sh",
            path,
            content,
            mode,
        )

    def make_image(self, host: str) -> None:
        """The empty image, once for a host."""
        self.run(
            host,
            "sh",
            "-c",
            f"docker image inspect {IMAGE} >/dev/null 2>&1 || tar -cf - -T /dev/null | docker import - {IMAGE}",
        )

    def start_service(self, host: str, name: str, network: str, *options: str) -> None:
        """A container whose web server answers with the container's name."""
        self.make_image(host)
        mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
        self.run(
            host,
            "docker",
            "run",
            "-d",
            "--name",
            name,
            "--hostname",
            name,
            "--network",
            network,
            *options,
            *mounts,
            IMAGE,
            "/usr/bin/python3",
            "-c",
            SERVER,
            name,
        )

    def ask(self, host: str, container: str, target: str) -> str:
        """What the web server at ``target`` (a name or an address) answers to ``container``; '' when it cannot be reached."""
        done = self.run(
            host, "docker", "exec", container, "/usr/bin/python3", "-c", CLIENT, f"http://{target}:{PORT}/", check=False
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def unreached(self, services: dict[str, str]) -> list[str]:
        """Of all ordered pairs of services (container -> its host), those that cannot reach one another by name."""
        pairs = [(one, other) for one in services for other in services if one != other]
        with ThreadPoolExecutor(max_workers=8) as pool:
            answers = pool.map(lambda pair: self.ask(services[pair[0]], *pair), pairs)
        return [f"{one} -> {other}" for (one, other), answer in zip(pairs, answers, strict=True) if answer != other]

    def wait_until_whole(self, services: dict[str, dict[str, str]], when: str, seconds: float) -> None:
        """Wait until every container (network -> container -> host) reaches all others of its network by name."""
        for network, containers in services.items():
            wait_for(f"{network} is whole {when}", partial(self._whole, containers), seconds, every=2)

    def _whole(self, containers: dict[str, str]) -> bool:
        return not self.unreached(containers)

    def fresh_engines(self) -> None:
        """Restart engines that run nothing and have lost threads, one after another, so that a test has sound ones."""
        for host in self.hosts:
            if self.out(host, "docker", "ps", "-q") or not self.out(host, "sh", "-c", LOST_THREADS):
                continue
            self.run(host, "systemctl", "restart", "docker.service")
            wait_for(f"{host}'s engine gossips", partial(self._gossips, host))

    def _gossips(self, host: str) -> bool:
        return ":7946" in self.out(host, "ss", "-Hlnt")

    def remove_containers(self, *names: str) -> None:
        """Take a test's containers off all hosts."""
        for host in self.hosts:
            self.run(host, "docker", "rm", "-f", *names, check=False)
