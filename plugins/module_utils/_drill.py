# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A throwaway Consul on this host's loopback address, to try a snapshot in. It never hears of the real one.

It is a transient unit of systemd's, which ends it after a while and removes its folder, also when this process was killed.
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import socket
import time
from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError
from ansible_collections.multihost.overlay.plugins.module_utils._consul_snapshot import patiently
from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner, run_program

NAME = "multihost-overlay-drill"
FOLDER = f"/run/{NAME}"
# Within it a snapshot of the bound's size is restored and read.
MOST_SECONDS = 300
START = 60
# Consul's own user (template sysusers.conf.j2 of the role overlay_consul).
USER = "overlay-consul"
LOOPBACK = "127.0.0.1"


def free_ports(number: int) -> List[int]:
    """Ports that nobody has at the moment; all at once, so that they differ."""
    sockets = [socket.socket() for _number in range(number)]
    try:
        for one in sockets:
            one.bind((LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


def configuration(ports: List[int], datacenter: str, management: Dict[str, str]) -> Dict[str, Any]:
    """One server that hears nobody. Who has no token of the cluster's is refused, since the snapshot holds all others."""
    http, rpc, gossip = ports
    return {
        "server": True,
        "bootstrap": True,
        "node_name": NAME,
        "datacenter": datacenter,
        "data_dir": f"{FOLDER}/data",
        "bind_addr": LOOPBACK,
        "client_addr": LOOPBACK,
        "ports": {"http": http, "server": rpc, "serf_lan": gossip, "serf_wan": -1, "dns": -1, "grpc": -1},
        "acl": {"enabled": True, "default_policy": "deny", "tokens": management},
        "performance": {"raft_multiplier": 1},
        "disable_remote_exec": True,
        "disable_update_check": True,
        "log_level": "warn",
    }


def unit(program: str) -> List[str]:
    """What starts it."""
    properties = {
        "User": USER,
        "Group": USER,
        "RuntimeDirectory": NAME,
        "RuntimeDirectoryMode": "0700",
        "RuntimeMaxSec": str(MOST_SECONDS),
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
    }
    words = [f"--property={name}={value}" for name, value in properties.items()]
    argv = [program, "agent", f"-config-file={FOLDER}/config.json"]
    return ["systemd-run", f"--unit={NAME}", "--collect", "--quiet", *words, *argv]


def write_config(text: str) -> None:
    """Into a folder of Consul's user alone, which goes with the unit."""
    owner = pwd.getpwnam(USER)
    os.mkdir(FOLDER, 0o700)
    descriptor = os.open(f"{FOLDER}/config.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(descriptor, "w", encoding="utf-8") as stream:
        stream.write(text)
    for path in (f"{FOLDER}/config.json", FOLDER):
        os.chown(path, owner.pw_uid, owner.pw_gid)


class Drill:
    """The throwaway one, while it is there."""

    def __init__(self, program: str, datacenter: str, key: str, token: str, run: Runner = run_program) -> None:
        self.program, self.datacenter, self.management, self.run = program, datacenter, {key: token}, run
        self.token = token

    def __enter__(self) -> Consul:
        self.sweep()
        try:
            return self._start()
        except BaseException:
            self.sweep()
            raise

    def __exit__(self, *_exc: object) -> None:
        self.sweep()

    def _start(self) -> Consul:
        ports = free_ports(3)
        try:
            write_config(json.dumps(configuration(ports, self.datacenter, self.management)))
        except KeyError as exc:
            raise ConsulError(
                f"there is no user {USER} here: a drill needs a host of the store that site.yml has made", 0
            ) from exc
        status, _out, words = self.run(unit(self.program))
        if status:
            raise ConsulError(f"the throwaway Consul was not started: {words.strip()}", 0)
        consul = Consul(f"http://{LOOPBACK}:{ports[0]}", self.token)
        # Its own tokens are there a moment after its leader.
        patiently(lambda: consul.ask("GET", "acl/token/self"), START)
        return consul

    def sweep(self) -> None:
        """Nothing is left, also of one before that was killed between writing and starting."""
        self.run(["systemctl", "stop", f"{NAME}.service"])
        deadline = time.monotonic() + 10
        while os.path.exists(FOLDER) and time.monotonic() < deadline:
            shutil.rmtree(FOLDER, ignore_errors=True)
