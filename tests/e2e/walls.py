# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster with a stranger beside it, and scans by real connections and datagrams, on IPv4 and IPv6."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster, wait_for
from tests.e2e import shared
from tests.e2e.support import ROOT, Run, run_playbook

LAB = "fw"
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "fw.yml"
MEMBERS = ("node1", "node2", "node3")
STRANGER = "stranger"
NUMBERS = {"node1": 11, "node2": 12, "node3": 13, STRANGER: 14}
IPV4 = {host: f"10.88.70.{number}" for host, number in NUMBERS.items()}
IPV6 = {host: f"fd88:70::{number}" for host, number in NUMBERS.items()}
# What is closed: on a Docker host with its agent of Consul, and on a server of Consul alone.
DOCKER_PORTS = {"tcp": (2375, 2376, 7946, 8301, 8500), "udp": (4789, 7946, 8301)}
STORE_PORTS = {"tcp": (8300, 8301, 8500), "udp": (8301,)}
PORTS = {"node1": DOCKER_PORTS, "node2": DOCKER_PORTS, "node3": STORE_PORTS}
# What answers a peer on TCP; on the others nobody listens, or only on the loopback address.
ANSWERS = {"node1": {7946, 8301}, "node2": {7946, 8301}, "node3": {8300, 8301}}

# Connects and sends at once, and says of each connection how it ended. 4789 gets the header of VXLAN, with a VNI that nobody has.
SCAN = """
import json, socket, sys, concurrent.futures as f
def tcp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as s:
        s.settimeout(1.5)
        try:
            s.connect((address, port))
            return "open"
        except ConnectionRefusedError:
            return "refused"
        except OSError:
            return "silent"
def udp(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    data = bytes((8, 0, 0, 0, 255, 255, 240, 0)) + bytes(50) if port == 4789 else b"probe"
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        for _ in range(2):
            s.sendto(data, (address, port))
    return "sent"
jobs = json.loads(sys.argv[1])
with f.ThreadPoolExecutor(64) as pool:
    print(json.dumps(list(pool.map(lambda j: {"tcp": tcp, "udp": udp}[j[1]](j[0], j[2]), jobs))))
"""


def witness(host: str, source: str) -> str:
    """A table that counts, after ours and any other filter, what has come through from one source to each port."""
    rules = [
        f'ip{six} saddr {address} {protocol} dport {port} counter comment "{"6" if six else "4"} {protocol} {port}"'
        for six, address in (("", IPV4[source]), ("6", IPV6[source]))
        for protocol, ports in PORTS[host].items()
        for port in ports
    ]
    chain = "type filter hook input priority 300; policy accept;\n" + "\n".join(rules)
    return f"table inet witness\ndelete table inet witness\ntable inet witness {{\nchain input {{\n{chain}\n}}\n}}\n"


def prepare(cluster: Cluster, source: str, host: str) -> None:
    """IPv6 addresses, which a reboot takes away, and the witness, which a flush does."""
    for name in (source, host):
        cluster.run(name, "ip", "-6", "addr", "replace", f"{IPV6[name]}/64", "dev", "host0", "nodad")
    cluster.run(host, "sh", "-c", 'printf %s "$1" | nft -f /dev/stdin', "sh", witness(host, source))


def arrived(cluster: Cluster, host: str) -> set[str]:
    """``4 udp 7946``: what the witness has seen."""
    rows = json.loads(cluster.out(host, "nft", "-j", "list", "chain", "inet", "witness", "input"))["nftables"]
    rules = [row["rule"] for row in rows if "rule" in row]
    return {rule["comment"] for rule in rules for part in rule["expr"] if part.get("counter", {}).get("packets")}


def scan(cluster: Cluster, source: str, host: str) -> tuple[set[str], set[int]]:
    """What of the closed ports came through to the host, and which TCP ports answered on IPv4."""
    prepare(cluster, source, host)
    jobs = [
        (address, protocol, port)
        for address in (IPV4[host], IPV6[host])
        for protocol, ports in PORTS[host].items()
        for port in ports
    ]
    ends = json.loads(cluster.out(source, "python3", "-c", SCAN, json.dumps(jobs)))
    by_connection = {
        f"{'6' if ':' in address else '4'} tcp {port}"
        for (address, protocol, port), end in zip(jobs, ends, strict=True)
        if protocol == "tcp" and end != "silent"
    }
    seen = arrived(cluster, host)
    assert by_connection == {entry for entry in seen if "tcp" in entry}, "the witness and the scanner disagree"
    answered = {job[2] for job, end in zip(jobs, ends, strict=True) if end == "open" and ":" not in job[0]}
    return seen, answered


def scan_from_container(cluster: Cluster, source: str, container: str, host: str) -> set[str]:
    """What of the closed ports came through from a container, whose packets have its host's address by then."""
    prepare(cluster, source, host)
    jobs = [(IPV4[host], protocol, port) for protocol, ports in PORTS[host].items() for port in ports]
    cluster.out(source, "docker", "exec", container, "/usr/bin/python3", "-c", SCAN, json.dumps(jobs))
    return arrived(cluster, host)


def every(host: str, version: int) -> set[str]:
    """All closed ports of a host, as the witness names them."""
    return {f"{version} {protocol} {port}" for protocol, ports in PORTS[host].items() for port in ports}


def closed_to_the_stranger(cluster: Cluster, *hosts: str) -> None:
    """The stranger reaches none of the ports on any member."""
    for host in hosts or MEMBERS:
        assert scan(cluster, STRANGER, host)[0] == set(), host


def open_to_peers(cluster: Cluster, *pairs: tuple[str, str]) -> None:
    """A peer gets through on IPv4, and what it needs answers."""
    for source, host in pairs or (("node2", "node1"), ("node3", "node2"), ("node1", "node3")):
        seen, answered = scan(cluster, source, host)
        assert seen == every(host, 4), (source, host)
        assert answered == ANSWERS[host], (source, host)


def inventory(folder: Path, *changes: Callable[[dict[str, Any]], None]) -> Path:
    """The inventory with something changed in it."""
    return shared.variation(folder, *changes, base=INVENTORY)


def without(host: str) -> Callable[[dict[str, Any]], None]:
    """A host is no member any more."""

    def change(content: dict[str, Any]) -> None:
        for group in ("overlay_hosts", "overlay_store"):
            content[group]["hosts"].pop(host, None)

    return change


def site(report: Path, **options: Any) -> Run:
    """site.yml on the cluster, or on a variation of it."""
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook("site.yml", inventory=options.pop("inventory", INVENTORY), extra_vars=extra, **options)


def role(report: Path, **options: Any) -> Run:
    """The role overlay_host alone: what site.yml does with it, in a fraction of the time."""
    play = {"hosts": "overlay_store:overlay_hosts", "gather_facts": False, "roles": ["multihost.overlay.overlay_host"]}
    path = report / "role.yml"
    path.write_text(yaml.safe_dump([play]))
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook(path, inventory=options.pop("inventory", INVENTORY), extra_vars=extra, **options)


def verify(report: Path) -> None:
    """Every pair, by packets."""
    run_playbook("playbooks/verify.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(report)})


def loaded(cluster: Cluster, host: str) -> bool:
    """Whether our table is there."""
    return cluster.run(host, "nft", "list", "table", "inet", "multihost_overlay", check=False).returncode == 0


def wait_until_joined(cluster: Cluster, host: str) -> None:
    """A host that was rebooted gossips again."""
    cluster.labctl("wait", host)
    wait_for(f"{host}'s engine gossips", partial(_gossips, cluster, host), 120)


def wait_until_alone(cluster: Cluster, host: str) -> None:
    """Consul on a host takes all others for dead."""
    wait_for(f"{host}'s Consul is alone", lambda: _alive(cluster, host) == 1, 120)


def wait_until_met(cluster: Cluster) -> None:
    """Consul takes a member that was cut off for dead, and knocks at its door every now and then."""
    wait_for("every Consul sees all members alive", lambda: all(_alive(cluster, host) == 3 for host in MEMBERS), 180)


# The last word on each member is what Consul takes it for.
MEMBER = re.compile(r"serf\.lan: serf: EventMember(Join|Leave|Failed|Reap): (\S+)")


def _alive(cluster: Cluster, host: str) -> int:
    """From what its Consul has said since it was started: one that is no member any more has no token to ask with."""
    script = 'journalctl -o cat --no-pager _SYSTEMD_INVOCATION_ID="$(systemctl show -p InvocationID --value "$1")"'
    said = cluster.out(host, "sh", "-c", script, "sh", "multihost-overlay-consul.service")
    return list({name: how for how, name in MEMBER.findall(said)}.values()).count("Join")


def _gossips(cluster: Cluster, host: str) -> bool:
    return ":7946" in cluster.out(host, "ss", "-Hlnt")
