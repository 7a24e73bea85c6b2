# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do by hand to get the same cluster, by parallel ssh: each on all hosts at once, unchecked, unsecured.

Only where the next step would fail at once is something waited for, as somebody at a keyboard would try again.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable

from tests.bench.lab import NETWORK, BenchLab
from tests.cluster import IMAGE, PROGRAMS

PACKAGES = ("docker.io", "consul")
# A step that takes longer has failed.
TIMEOUT = 900
INSTALL = f"""export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get -q -y --no-install-recommends install {" ".join(PACKAGES)}
"""
CONSUL = """systemctl stop consul.service || true
systemd-run -q --unit=consul-by-hand consul agent -server -bootstrap-expect={number} -bind={address} \\
  -client=0.0.0.0 -ui -data-dir=/var/lib/consul-by-hand -retry-interval=1s {joins}
until consul operator raft list-peers 2>/dev/null | grep -q leader; do sleep 0.2; done
"""
ENGINE = """echo '{settings}' > /etc/docker/daemon.json
systemctl daemon-reload
systemctl restart docker
"""
CREATE = "docker network create -d overlay --subnet {subnet} {name}\n"
CONTAINER = """until docker network inspect {network} >/dev/null 2>&1; do sleep 0.2; done
tar -cf - -T /dev/null | docker import - {image}
docker run -d --name from-{host} --network {network} {mounts} {image} /usr/bin/sleep infinity
"""
PING = "until docker exec from-{host} ping -c 1 -W 2 from-{peer}; do sleep 0.2; done\n"


class ByHand:
    """The steps, on the hosts of a lab."""

    def __init__(self, lab: BenchLab) -> None:
        self.lab = lab
        self.seconds: dict[str, float] = {}

    def build(self) -> float:
        """Bare hosts to a cluster whose containers have reached one another; the seconds it took."""
        started = time.monotonic()
        self.step("install", lambda host: INSTALL)
        self.step("store", self.consul, self.lab.stores)
        self.step("engines", self.engine)
        self.step("network", lambda host: CREATE.format(**NETWORK), self.lab.hosts[:1])
        self.step("containers", self.container)
        self.step("pings", self.pings)
        return time.monotonic() - started

    def step(self, name: str, script: Callable[[str], str], hosts: list[str] | None = None) -> None:
        """Run a script on all hosts at once, and wait for the last one."""
        started = time.monotonic()
        running = {host: self.start(host, script(host)) for host in hosts or self.lab.hosts}
        try:
            for host, process in running.items():
                status = process.wait(max(1.0, started + TIMEOUT - time.monotonic()))
                assert status == 0, f"{name} by hand: status {status}, see {self.lab.folder / host}.log"
        finally:
            for process in running.values():
                process.kill()
        self.seconds[name] = round(time.monotonic() - started, 2)

    def start(self, host: str, script: str) -> subprocess.Popen[bytes]:
        """One ssh."""
        options = [*self.lab.connections.options, *self.lab.ssh_options, "-i", str(self.lab.key)]
        command = ["ssh", *options, f"root@{self.lab.addresses[host]}", "set -e\n" + script]
        with (self.lab.folder / f"{host}.log").open("ab") as log:
            return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def consul(self, host: str) -> str:
        """As many servers as the collection's inventory has."""
        joins = " ".join(f"-retry-join={self.lab.addresses[store]}" for store in self.lab.stores)
        return CONSUL.format(number=len(self.lab.stores), address=self.lab.addresses[host], joins=joins)

    def engine(self, host: str) -> str:
        """Every engine asks the first server, as the write-ups have it."""
        settings = {
            "cluster-store": f"consul://{self.lab.addresses[self.lab.stores[0]]}:8500",
            "cluster-advertise": f"{self.lab.addresses[host]}:2376",
        }
        return ENGINE.format(settings=json.dumps(settings))

    def container(self, host: str) -> str:
        """There is no registry: the image is empty, the programs are the host's."""
        mounts = " ".join(f"-v {folder}:{folder}:ro" for folder in PROGRAMS)
        return CONTAINER.format(host=host, network=NETWORK["name"], mounts=mounts, image=IMAGE)

    def pings(self, host: str) -> str:
        """Every other container, by its name."""
        return "".join(PING.format(host=host, peer=peer) for peer in self.lab.hosts if peer != host)
