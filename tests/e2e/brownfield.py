# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that had a life before this collection: what their users set up, and how to see that it is still there.

node1  an engine with the user's daemon.json, two containers, one without a restart policy; no word of live-restore
node2  an engine that is in the user's store by flags in a drop-in, with an overlay network of the user's
node3  no Docker; a Consul of somebody else's, started by the user's own unit, with keys of other users
node4  like node1, but the user has said that live-restore is to be off
"""

from __future__ import annotations

import concurrent.futures
import json
from typing import Any

from tests.cluster import Cluster, wait_for

STORE = "consul://10.88.30.13:8500"
DAEMON_JSON = "/etc/docker/daemon.json"
MANIFEST = "/var/lib/multihost-overlay/manifest.json"
DROP_INS = "/etc/systemd/system/docker.service.d"
FLAGS = f"{DROP_INS}/flags.conf"
# Four blanks and an order of their own: both are the user's.
USERS_KEYS = {"log-driver": "json-file", "log-opts": {"max-size": "5m"}, "shutdown-timeout": 15, "debug": False}
USERS_JSON = json.dumps(USERS_KEYS, indent=4) + "\n"
USERS_JSON_OFF = json.dumps({"live-restore": False, **USERS_KEYS}, indent=4) + "\n"
USERS_FLAGS = f"""[Service]
ExecStart=
ExecStart=/usr/sbin/dockerd -H fd:// --cluster-store={STORE} --cluster-advertise=10.88.30.12:2376 $DOCKER_OPTS
"""
CONSUL_JSON = {
    "server": True, "bootstrap": True, "node_name": "theirs", "datacenter": "theirs", "data_dir": "/var/lib/theirs",
    "bind_addr": "10.88.30.13", "client_addr": "0.0.0.0", "disable_update_check": True,
}  # fmt: skip
CONSUL_UNIT = """[Unit]
Description=The key-value store of somebody else
[Service]
ExecStart=/usr/bin/consul agent -config-file=/etc/theirs.json
Restart=on-failure
[Install]
WantedBy=multi-user.target
"""
OTHERS_KEYS = {"app/config": "42", "dockers/decoy": "not Docker's", "service/lock": "held"}
INSTALL = """export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get install -q -y --no-install-recommends "$@" || exit 1
"""
FOLDERS = "/etc /usr/local /lib/systemd /var/lib/multihost-overlay"
DIGESTS = f"find {FOLDERS} -type f -exec sha256sum {{}} + 2>/dev/null | sort -k2"
PIDS = "{{.Name}} {{.State.Pid}} {{.Id}}"


class Brownfield(Cluster):
    """The hosts, with what a user would miss."""

    theirs = ""  # the id of node2's overlay network

    def set_up(self) -> None:
        """Everything that the users did before they heard of us. Consul first: an engine needs its store."""
        self.install("node3", "consul", "curl")
        self.write("node3", "/etc/theirs.json", json.dumps(CONSUL_JSON))
        self.write("node3", "/etc/systemd/system/theirs.service", CONSUL_UNIT)
        self.run("node3", "systemctl", "enable", "--now", "theirs.service")
        wait_for("their Consul has a leader", lambda: ":" in self.theirs_says("status/leader"), 60)
        for key, value in OTHERS_KEYS.items():
            self.run("node3", "consul", "kv", "put", key, value)
        self.write("node1", DAEMON_JSON, USERS_JSON)
        self.write("node2", DAEMON_JSON, USERS_JSON)
        self.write("node2", FLAGS, USERS_FLAGS)
        self.write("node4", DAEMON_JSON, USERS_JSON_OFF)
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.install(host, "docker.io"), ("node1", "node2", "node4")))
        for host in ("node1", "node4"):
            self.run(host, "docker", "network", "create", "shop")
            self.start_service(host, f"{host}-kept", "shop", "--restart", "always")
            self.start_service(host, f"{host}-fleeting", "shop")
        self.run("node2", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.32.0/24", "theirs")
        self.theirs = self.network_id("node2", "theirs")
        self.start_service("node2", "node2-kept", "theirs", "--ip", "10.100.32.7")

    def install(self, host: str, *packages: str) -> None:
        """Debian's packages, as a user would."""
        self.run(host, "sh", "-c", INSTALL, "sh", *packages, timeout=300)

    def theirs_says(self, path: str) -> str:
        """What their Consul answers."""
        done = self.run("node3", "curl", "-fsS", f"http://127.0.0.1:8500/v1/{path}", check=False)
        return done.stdout

    def keys(self) -> dict[str, tuple[str, int]]:
        """The keys that are not Docker's: key -> (value, index of the last write)."""
        entries = json.loads(self.theirs_says("kv/?recurse"))
        return {
            entry["Key"]: (entry["Value"], entry["ModifyIndex"])
            for entry in entries
            if not entry["Key"].startswith("docker/")
        }

    def containers(self, host: str) -> dict[str, tuple[str, str]]:
        """name -> (process, id) of all containers; process "0" is a stopped one."""
        ids = self.out(host, "docker", "ps", "-aq").split()
        lines = self.out(host, "docker", "inspect", "-f", PIDS, *ids).splitlines() if ids else []
        return {line.split()[0].lstrip("/"): (line.split()[1], line.split()[2]) for line in lines}

    def process(self, host: str, unit: str = "docker.service") -> str:
        """The main process of a unit."""
        return self.out(host, "systemctl", "show", "-p", "MainPID", "--value", unit)

    def info(self, host: str) -> dict[str, Any]:
        """What the engine tells of itself."""
        told: dict[str, Any] = json.loads(self.out(host, "docker", "info", "-f", "{{json .}}"))
        return told

    def text(self, host: str, path: str) -> str:
        """A file's content, byte for byte; '' when there is none."""
        return self.run(host, "cat", path, check=False).stdout

    def manifest(self, host: str) -> dict[str, Any]:
        """What a host says that we own."""
        content: dict[str, Any] = json.loads(self.text(host, MANIFEST) or "{}")
        return content

    def network_id(self, host: str, name: str) -> str:
        """The id of a network; '' when the engine does not know it."""
        return self.run(host, "docker", "network", "inspect", "-f", "{{.Id}}", name, check=False).stdout.strip()

    def state(self, host: str) -> dict[str, Any]:
        """All that a run that must not change a host could change on it."""
        files = self.out(host, "sh", "-c", DIGESTS)
        docker = host != "node3"
        return {
            "files": files.splitlines(),
            "packages": self.out(host, "dpkg-query", "-W").splitlines(),
            "containers": self.containers(host) if docker else self.keys(),
            "engine": self.process(host, "docker.service" if docker else "theirs.service"),
            "forwarding": self.out(host, "sysctl", "-n", "net.ipv4.ip_forward"),
        }

    def states(self) -> dict[str, Any]:
        """The same of all hosts."""
        return {host: self.state(host) for host in self.hosts}
