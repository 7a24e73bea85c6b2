# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports the topology needs between which hosts, and the plan of one run of the underlay's probe. No I/O."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import GRACE
from ansible_collections.multihost.overlay.plugins.module_utils._probe_codec import VXLAN_PORT

Json = Dict[str, Any]

GOSSIP_PORT = 7946
API_PORTS = {"tls": 2376, "insecure": 2375}
# Seconds that an agent whose work is done waits for the play to take its result, and may take beyond its last deadline.
KEEP = 20.0
LAST = 5.0
# A controller with few forks starts hosts in rounds; one of the second task takes about as long as one of the first.
ROUND_MARGIN = 1.5
MIN_ROUND = 1.0
Port = Tuple[str, int, str, str, str]


def consul_ports(topology: Json) -> List[Port]:
    """Servers take calls from all members, and all members gossip: those with a Consul, which are servers alone where engines ask them over
    HTTPS. The HTTP API listens on loopback only.
    """
    https = topology.get("store_https_port", 0)
    who = "servers" if https else "members"
    return [
        ("tcp", 8300, who, "servers", "Consul's servers: calls of all members"),
        ("tcp", 8301, who, who, "Consul's gossip"),
        ("udp", 8301, who, who, "Consul's gossip"),
        *([("tcp", https, "hosts", "servers", "Consul's servers: calls of engines")] if https else []),
    ]


STORE_PORTS: Dict[str, Callable[[Json], List[Port]]] = {"consul": consul_ports}


def ports_of(topology: Json) -> List[Json]:
    """The table of ports to open: what, from whom, to whom, why. ``members`` are the hosts of both groups.

    ``topology``: mode, store_type, store_managed, docker_api, and store_https_port, 0 where every host has an agent of its own.
    """
    rows = [
        ("udp", VXLAN_PORT, "hosts", "hosts", "VXLAN: the containers' packets"),
        ("tcp", GOSSIP_PORT, "hosts", "hosts", "the engines' gossip"),
        ("udp", GOSSIP_PORT, "hosts", "hosts", "the engines' gossip"),
    ]
    if topology["mode"] == "swarm":
        rows.append(("tcp", 2377, "hosts", "hosts", "Swarm's managers"))
    elif topology["store_managed"]:
        rows += STORE_PORTS[topology["store_type"]](topology) if topology["store_type"] in STORE_PORTS else []
    if topology["docker_api"] in API_PORTS:
        rows.append(("tcp", API_PORTS[topology["docker_api"]], "hosts", "hosts", "the engines' API"))
    return [dict(zip(("proto", "port", "from", "to", "why"), row)) for row in rows]


def ports_text(ports: List[Json], groups: Dict[str, List[str]], addresses: Dict[str, str]) -> List[str]:
    """The same for people: what to open, in words that fit a security group's form."""
    lines = ["Ports that must be open between the hosts:"]
    lines += [
        f"  {row['port']:>5}/{row['proto']}  from {row['from']:7} to {row['to']:7}  {row['why']}" for row in ports
    ]
    used = {row[key] for row in ports for key in ("from", "to")}
    for name in ("hosts", "servers", "members"):
        if name in used:
            listed = ", ".join(f"{host} ({addresses[host]})" for host in groups[name][:20])
            more = f" and {len(groups[name]) - 20} more" if len(groups[name]) > 20 else ""
            lines.append(f"  {name}: {listed}{more}")
    return lines


def problem_of(started: Json | None) -> str:
    """Why a host takes no part, from the result of its first task; empty when it does."""
    if started is None:
        return "it was lost before"
    if started.get("unreachable"):
        return str(started.get("msg", "it cannot be reached")).strip()
    if "mtu" not in started:
        return str(started.get("msg", "its probe could not be prepared")).strip()
    return str(started["problem"] or "")


def make_plan(run: str, topology: Json, ports: List[Json], started: Json, timing: Json) -> Json:
    """The plan that every host gets; it grows with the hosts, not with the pairs.

    ``topology`` has addresses and groups besides; only hosts that can take part are in the plan.
    """
    hosts = [host for host in topology["groups"]["members"] if not problem_of(started.get(host))]
    place = {host: number for number, host in enumerate(hosts)}
    only = [place[host] for host in topology.get("only", []) if host in place]
    addresses = topology["addresses"]
    groups = {name: [place[host] for host in members if host in place] for name, members in topology["groups"].items()}
    return {
        "run": run,
        "hosts": hosts,
        "addresses": [addresses[host] for host in hosts],
        "mtus": [started[host]["mtu"] for host in hosts],
        "held": [started[host]["held"] for host in hosts],
        # Of whom the host's own Consul has a word: for their gossip nobody has to listen.
        "members": [[place[peer] for peer in hosts if addresses[peer] in started[host]["members"]] for host in hosts],
        "ports": [dict(row, **{"from": groups[row["from"]], "to": groups[row["to"]]}) for row in ports],
        # Hosts that were proven before need not be proven to one another once more.
        "only": only,
        "timing": timing,
    }


def peers_of(plan: Json, place: int) -> List[int]:
    """The hosts that one probes: all, or, where only some are to be proven, those and those that they probe."""
    only = plan.get("only") or []
    others = [peer for peer in range(len(plan["hosts"])) if peer != place]
    return [peer for peer in others if not only or place in only or peer in only]


class Expected:
    """What one host shall send another, and how it is proven there."""

    def __init__(self, plan: Json, source: int, target: int) -> None:
        rows = [row for row in plan["ports"] if source in row["from"] and target in row["to"]]
        held = plan["held"][target]
        udp = [row["port"] for row in rows if row["proto"] == "udp"]
        self.tcp: List[int] = [row["port"] for row in rows if row["proto"] == "tcp"]
        # A vxlan port that is held drops a VNI it does not know; a program's port gets nothing that is not meant for it.
        self.udp = [port for port in udp if port == VXLAN_PORT or f"udp/{port}" not in held]
        self.gossip = [port for port in udp if port not in self.udp]
        # Nobody gossips there whose own port is free; and what Consul's list of members says needs no waiting.
        silent = target in plan["members"][source]
        self.audible = [port for port in self.gossip if not silent and f"udp/{port}" in plan["held"][source]]
        self.mtu: int = plan["mtus"][source]


def bound_ports(plan: Json, place: int) -> Dict[str, List[int]]:
    """The ports of each protocol that some host is to reach on this one."""
    return {
        proto: sorted({row["port"] for row in plan["ports"] if row["proto"] == proto and place in row["to"]})
        for proto in ("udp", "tcp")
    }


def spread(elapsed: float, hosts: int, forks: int) -> float:
    """How much later than the first the last host may start: measured on the first task, at least a second a round."""
    return round(max(elapsed * ROUND_MARGIN, MIN_ROUND * -(-hosts // max(forks, 1))), 1)


def deadlines(timing: Json, place: int, hosts: int) -> tuple[float, float]:
    """Seconds after a host's start: when it gives up waiting for first answers, and when it ends.

    Hosts that start early wait longer, so that all of them stop waiting at about the same moment.
    """
    knock_until = timing["patience"] + timing["spread"] * (1 - place / max(hosts, 1))
    return knock_until, knock_until + max(timing["patience"], timing["count"] * timing["interval"]) + GRACE


def limits(plan: Json, place: int) -> tuple[float, float, float, float]:
    """Seconds: to wait for a peer's first sign, to work, to live, and to keep the result."""
    knock, finish = deadlines(plan["timing"], place, len(plan["hosts"]))
    return knock, finish, finish + LAST, KEEP + 4 * plan["timing"]["spread"]
