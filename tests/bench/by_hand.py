# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do by hand to get the same cluster, by parallel ssh: each on all hosts at once, unchecked, in a script that is known to work.

`ByHand` is the open cluster of the write-ups, who check nothing and send a ping. `LockedByHand` takes the same steps as the collection:
checks, kernel settings that a boot keeps, certificates, tokens, closed ports, engines that find each other, a proof of each pair. Only
where the next step would fail at once is something waited for, as somebody at a keyboard would try again.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.bench.lab import NETWORK, BenchLab
from tests.cluster import IMAGE, PROGRAMS

PACKAGES = ("docker.io", "consul")
# A step that takes longer has failed.
TIMEOUT = 900
INSTALL = f"""export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get -q -y --no-install-recommends install {" ".join(PACKAGES)}
"""
CONSUL = """systemctl stop consul.service || true
mkdir -p /etc/consul-by-hand
echo '{settings}' > /etc/consul-by-hand/consul.json
systemd-run -q --unit=consul-by-hand consul agent -config-dir=/etc/consul-by-hand
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

# What a careful person looks at before, and what has to hold after a boot too.
CHECK = """uname -r
if ss -Hlntu | grep -E ':(2375|2376|4789|7946|8300|8301|8500)\\s'; then exit 1; fi
df -h /var/lib
modprobe -a overlay bridge br_netfilter veth vxlan || true  # some are built in
printf 'overlay\\nbridge\\nbr_netfilter\\nveth\\nvxlan\\n' > /etc/modules-load.d/by-hand.conf
echo net.ipv4.ip_forward=1 > /etc/sysctl.d/by-hand.conf
sysctl -q -p /etc/sysctl.d/by-hand.conf
"""
# Whether the underlay carries whole packets.
PATH = "ping -q -c 3 -i 0.05 -W 2 -M do -s 1472 {address}\n"
# Of each pair the same as the collection's proof: packets in a row, whole ones, a connection, a datagram that comes back.
ECHO = """docker exec -d from-{host} python3 -c '
import socket, threading
udp, tcp = socket.socket(type=socket.SOCK_DGRAM), socket.create_server(("", 9))
udp.bind(("", 9))
threading.Thread(target=lambda: [tcp.accept() for _ in iter(int, 1)]).start()
while True: udp.sendto(*udp.recvfrom(64))'
"""
PROVE = """docker exec from-{host} sh -ec '
for peer in {peers}; do
  ping -q -c 10 -i 0.05 -W 2 $peer
  ping -q -c 3 -i 0.05 -W 2 -M do -s 1422 $peer
  until python3 -c "
import socket, sys
peer = (sys.argv[1], 9)
socket.create_connection(peer, 5)
echo = socket.socket(type=socket.SOCK_DGRAM)
echo.settimeout(5)
echo.sendto(b\\"x\\", peer)
assert echo.recv(64)
" $peer; do sleep 0.2; done
done'
"""

CERTIFICATES = "/etc/consul-by-hand/tls"
CA = f"""mkdir -p {CERTIFICATES}
cd {CERTIFICATES}
consul tls ca create
"""
CERTIFICATE = "consul tls cert create -server -additional-ipaddress={address}\n"
UNPACK = f"mkdir -p {CERTIFICATES}\ntar -x -C {CERTIFICATES}\n"
CLOSE = """mkdir -p /etc/nftables.d
cat > /etc/nftables.d/by-hand.nft <<'END'
table inet by_hand
delete table inet by_hand
table inet by_hand {{
  chain input {{
    type filter hook input priority -10
    iif lo accept
    ip saddr {{ {peers} }} accept
    meta l4proto {{ tcp, udp }} th dport {{ 2375, 2376, 4789, 7946, 8300, 8301, 8302, 8500 }} drop
  }}
}}
END
cat > /etc/systemd/system/by-hand-nftables.service <<'END'
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft -f /etc/nftables.d/by-hand.nft
[Install]
WantedBy=multi-user.target
END
systemctl daemon-reload
systemctl enable --now by-hand-nftables.service
"""
LOGIN = "export CONSUL_HTTP_TOKEN={management}\n"
POLICIES = """until consul acl policy list; do sleep 0.2; done
consul acl policy create -name engine -rules 'key_prefix "docker/" { policy = "write" } session_prefix "" { policy = "write" }'
consul acl policy create -name agent -rules 'node_prefix "" { policy = "write" } service_prefix "" { policy = "read" }'
"""
TOKEN = "consul acl token create -policy-name {policy} -secret {secret}\n"
ENVIRONMENT = """mkdir -p /etc/systemd/system/docker.service.d
umask 077
echo 'CONSUL_HTTP_TOKEN={token}' > /etc/docker/store.env
printf '[Service]\\nEnvironmentFile=/etc/docker/store.env\\n' > /etc/systemd/system/docker.service.d/store.conf
"""


class ByHand:
    """The steps, on the hosts of a lab."""

    def __init__(self, lab: BenchLab) -> None:
        self.lab = lab
        self.seconds: dict[str, float] = {}

    def build(self) -> float:
        """Bare hosts to a cluster whose containers have reached one another; the seconds it took."""
        started = time.monotonic()
        self.check()
        self.step("install", lambda host: INSTALL)
        self.store()
        self.engines()
        self.step("network", lambda host: CREATE.format(**NETWORK), self.lab.hosts[:1])
        self.step("containers", self.container)
        self.prove()
        return time.monotonic() - started

    def check(self) -> None:
        """The write-ups have nothing of the kind."""

    def step(self, name: str, script: Callable[[str], str], hosts: list[str] | None = None, given: bytes = b"") -> None:
        """Run a script on all hosts at once, and wait for the last one."""
        started = time.monotonic()
        running = {host: self.start(host, script(host), given) for host in hosts or self.lab.hosts}
        try:
            for host, process in running.items():
                status = process.wait(max(1.0, started + TIMEOUT - time.monotonic()))
                assert status == 0, f"{name} by hand: status {status}, see {self.lab.folder / host}.log"
        finally:
            for process in running.values():
                process.kill()
        self.seconds[name] = round(time.monotonic() - started, 2)

    def ssh(self, host: str, script: str) -> list[str]:
        """The command of one ssh."""
        options = [*self.lab.connections.options, *self.lab.ssh_options, "-i", str(self.lab.key)]
        return ["ssh", *options, f"root@{self.lab.addresses[host]}", "set -e\n" + script]

    def start(self, host: str, script: str, given: bytes) -> subprocess.Popen[bytes]:
        """One ssh, begun."""
        with (self.lab.folder / f"{host}.log").open("ab") as log:
            process = subprocess.Popen(self.ssh(host, script), stdin=subprocess.PIPE, stdout=log, stderr=log)
        assert process.stdin
        with process.stdin as stdin:
            stdin.write(given)  # less than a pipe takes
        return process

    def store(self) -> None:
        """As many servers as the collection's inventory has."""
        self.step("store", self.server, self.lab.stores)

    def server(self, host: str) -> str:
        """Start one server, and wait until it has a leader."""
        return CONSUL.format(settings=json.dumps(self.consul(host)))

    def consul(self, host: str) -> dict[str, Any]:
        """The settings of one server."""
        return {
            "server": True,
            "bootstrap_expect": len(self.lab.stores),
            "bind_addr": self.lab.addresses[host],
            "client_addr": "0.0.0.0",
            "ui": True,
            "data_dir": "/var/lib/consul-by-hand",
            "retry_interval": "1s",
            "retry_join": [self.lab.addresses[store] for store in self.lab.stores],
        }

    def engines(self) -> None:
        """All at once, as the write-ups have it."""
        self.step("engines", self.engine)

    def engine(self, host: str) -> str:
        """Every engine asks the first server, as the write-ups have it."""
        return self.daemon(host, f"consul://{self.lab.addresses[self.lab.stores[0]]}:8500")

    def daemon(self, host: str, store: str) -> str:
        """Start an engine with a store."""
        advertise = f"{self.lab.addresses[host]}:2376"
        return ENGINE.format(settings=json.dumps({"cluster-store": store, "cluster-advertise": advertise}))

    def container(self, host: str) -> str:
        """There is no registry: the image is empty, the programs are the host's."""
        mounts = " ".join(f"-v {folder}:{folder}:ro" for folder in PROGRAMS)
        return CONTAINER.format(host=host, network=NETWORK["name"], mounts=mounts, image=IMAGE)

    def prove(self) -> None:
        """A ping is all that the write-ups know."""
        self.step("pings", self.pings)

    def pings(self, host: str) -> str:
        """Every other container, by its name."""
        return "".join(PING.format(host=host, peer=peer) for peer in self.lab.hosts if peer != host)


class LockedByHand(ByHand):
    """The same with what the collection's default has: TLS and tokens in the store, ports closed to strangers. All hosts run a server."""

    def __init__(self, lab: BenchLab) -> None:
        super().__init__(lab)
        self.gossip = base64.b64encode(os.urandom(32)).decode()
        self.management = str(uuid.uuid4())
        self.login = LOGIN.format(management=self.management)
        self.tokens = {host: {kind: str(uuid.uuid4()) for kind in ("agent", "engine")} for host in lab.hosts}

    def check(self) -> None:
        """The hosts, and the paths between them."""
        paths = {host: PATH.format(address=address) for host, address in self.lab.addresses.items()}
        self.step("check", lambda host: CHECK + "".join(path for peer, path in paths.items() if peer != host))

    def store(self) -> None:
        """Certificates from the first host to all others; then Consul; then its tokens."""
        first, addresses = self.lab.hosts[:1], self.lab.addresses
        certificates = "".join(CERTIFICATE.format(address=addresses[host]) for host in self.lab.hosts)
        self.step("certificates", lambda host: CA + certificates, first)
        taken = self.ssh(first[0], f"tar -c -C {CERTIFICATES} .")
        archive = subprocess.run(taken, stdout=subprocess.PIPE, timeout=TIMEOUT, check=True).stdout
        self.step("handed out", lambda host: UNPACK, self.lab.hosts[1:], archive)
        self.step("firewall", lambda host: CLOSE.format(peers=", ".join(addresses.values())))
        super().store()
        tokens = [
            TOKEN.format(policy=kind, secret=token) for own in self.tokens.values() for kind, token in own.items()
        ]
        self.step("tokens", lambda host: self.login + POLICIES + "".join(tokens), first)

    def server(self, host: str) -> str:
        """Who asks for the leader needs a token."""
        return self.login + super().server(host)

    def consul(self, host: str) -> dict[str, Any]:
        """The settings of one server."""
        own = f"{CERTIFICATES}/dc1-server-consul-{self.lab.hosts.index(host)}"
        verified = {f"verify_{what}": True for what in ("incoming", "outgoing", "server_hostname")}
        tokens = {"master": self.management, "agent": self.tokens[host]["agent"]}
        return {
            **super().consul(host),
            **verified,
            "client_addr": "127.0.0.1",
            "ui": False,
            "encrypt": self.gossip,
            "acl": {"enabled": True, "default_policy": "deny", "tokens": tokens},
            "ca_file": f"{CERTIFICATES}/consul-agent-ca.pem",
            "cert_file": f"{own}.pem",
            "key_file": f"{own}-key.pem",
        }

    def engines(self) -> None:
        """One after another: those that start at the same moment may never find each other, and with a Consul each they did not here."""
        started = time.monotonic()
        for host in self.lab.hosts:
            self.step(f"engine of {host}", self.engine, [host])
        self.seconds["engines"] = round(time.monotonic() - started, 2)

    def engine(self, host: str) -> str:
        """Every engine asks the Consul of its own host, with a token."""
        return ENVIRONMENT.format(token=self.tokens[host]["engine"]) + self.daemon(host, "consul://127.0.0.1:8500")

    def prove(self) -> None:
        """What the collection proves of each pair."""
        self.step("echo", lambda host: ECHO.format(host=host))
        super().prove()
        containers = " ".join(f"from-{peer}" for peer in self.lab.hosts)
        self.step("proof", lambda host: PROVE.format(host=host, peers=containers.replace(f"from-{host}", "")))
