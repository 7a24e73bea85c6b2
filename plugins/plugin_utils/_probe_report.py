# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From all hosts' books to findings about paths, and to what the underlay carries. Runs on the controller. No I/O."""

from __future__ import annotations

from typing import Any, Iterator

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_paths import found
from ansible_collections.multihost.overlay.plugins.module_utils._probe_codec import SMALL, VXLAN_PORT
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import Expected, problem_of
from ansible_collections.multihost.overlay.plugins.plugin_utils._probe_group import group

Json = dict[str, Any]
Finding = dict[str, str]
DEFAULT_MTU = 1500
# What an encrypted underlay will take of each packet, once there is one.
OVERHEAD = {"none": 0, "wireguard": 80, "ipsec": 80}

# What a call ends with when a firewall answers instead of being silent, and some other packet of the peer's came in.
REFUSALS = ("refused", "EHOSTUNREACH", "ENETUNREACH", "EACCES", "ENOPROTOOPT")


class Paths:
    """What every host did and heard, by the inventory's names. The receiver's book counts."""

    def __init__(self, topology: Json, ports: list[Json], plan: Json, started: Json, collected: Json) -> None:
        self.topology, self.ports, self.plan, self.started = topology, ports, plan, started
        self.hosts: list[str] = plan["hosts"]
        self.lost = {host: words for host in self.hosts if (words := _lost(collected.get(host)))}
        self.good = [host for host in self.hosts if host not in self.lost]
        self.books = {host: collected[host]["peers"] for host in self.good}
        self.pairs = [
            Path(self, source, target)
            for source in self.good
            for target in self.good
            if source != target and target in self.books[source] and source in self.books[target]
        ]
        self.by_ends = {(path.source, path.target): path for path in self.pairs}


def _lost(result: Json | None) -> str:
    """Why a host has no book; empty when it has one."""
    if result is None:
        return "it was lost during the run"
    if result.get("unreachable") or result.get("agent_died", True):
        return str(result.get("msg") or "; ".join(result.get("errors", [])) or "its agent left no result").strip()
    return str("; ".join(result["errors"])) if result["errors"] else ""


def _opened_later(paths: Paths, source: str, target: str) -> str:
    """Which firewall of the target role overlay_host will open to this peer; empty where it is no matter of that role."""
    if paths.topology.get("firewall") != "manage":
        return ""
    table = (paths.topology.get("tables") or {}).get(target) or {}
    if table.get("loaded"):
        return "" if paths.topology["addresses"][source] in table.get("peers", []) else "our own table"
    return str(paths.started[target].get("manager", ""))


class Path:
    """One direction between two hosts."""

    def __init__(self, paths: Paths, source: str, target: str) -> None:
        self.source, self.target = source, target
        self.sent: Json = paths.books[source][target]
        self.arrived: Json = paths.books[target][source]
        plan = paths.plan
        self.expected = Expected(plan, plan["hosts"].index(source), plan["hosts"].index(target))
        self.address: str = paths.topology["addresses"][target]
        self.opened_later = _opened_later(paths, source, target)
        # Consul's own word on the peer, where it has one.
        self.member: bool | None = paths.started[source]["members"].get(self.address)

    def packets(self, stream: int) -> int:
        """How many of a stream's packets arrived whole."""
        return int(self.arrived["heard"].get(str(stream), {}).get("packets", 0))

    def connected(self, port: int) -> bool:
        """Whether a handshake came about."""
        return bool(self.sent["tcp"].get(str(port)) == "connected")

    @property
    def dead(self) -> bool:
        """Nothing at all arrived."""
        heard = any(book["packets"] or book["mangled"] for book in self.arrived["heard"].values())
        shaken = any(outcome == "connected" for outcome in self.sent["tcp"].values())
        return not (heard or shaken or self.arrived["gossip"] or self.arrived["syn"])

    @property
    def mtu(self) -> int:
        """The largest packet that passes; 0 when none was large enough to tell."""
        largest = max([book["largest"] for book in self.arrived["heard"].values()] or [0])
        if largest <= SMALL:
            return 0
        return min(largest, self.sent["route_mtu"] or largest)

    def row(self) -> Json:
        """What was measured, for the report."""
        rtt = self.sent["rtt"]
        return {
            "from": self.source,
            "to": self.target,
            "mtu": self.mtu or None,
            "rtt_ms": dict(zip(("min", "avg", "max"), rtt or [None] * 3)),
            "clock_offset": self.sent["offset"],
        }


def _about(path: Path, check_id: str, message: str, evidence: Any) -> Finding:
    """A finding about a path; the receiving host is where to look first."""
    row = found(check_id, f"{path.source} -> {path.target}: {message}", evidence)
    return dict(row, host=path.target, **{"from": path.source, "to": path.target, "about": message})


def _passes(path: Path) -> str:
    """What does arrive: it tells a filter from a cut."""
    names = {"0": "ICMP", **{str(port): f"{port}/udp" for port in path.expected.udp}}
    good = [names[stream] for stream, book in path.arrived["heard"].items() if book["packets"] and stream in names]
    good += [f"{port}/tcp" for port in path.expected.tcp if path.connected(port)]
    return "what does arrive: " + (", ".join(sorted(good)) or "nothing else")


def _where(path: Path) -> str:
    return f"on the way or by a firewall of {path.target}"


def check_udp(path: Path) -> Iterator[Finding]:
    """Datagrams, on each port that may be sent some."""
    for port in path.expected.udp:
        if path.packets(port):
            continue
        error = path.sent["errors"].get(str(port))
        seen = [f"{path.sent['sent']} rounds sent, none arrived", _passes(path)]
        seen += [f"sending said: {error}"] if error else []
        if port != VXLAN_PORT:
            yield _about(path, "path_udp_dropped", f"datagrams to {port}/udp are dropped {_where(path)}", seen)
        elif path.arrived["heard"].get(str(port), {}).get("mangled"):
            yield _about(path, "path_vxlan_swallowed", "VXLAN packets to 4789/udp arrive, but changed on the way", seen)
        else:
            words = f"VXLAN packets to 4789/udp are swallowed {_where(path)}"
            yield _about(path, "path_vxlan_swallowed", words, seen)


def check_tcp(path: Path, back: Path) -> Iterator[Finding]:
    """Handshakes. One whose first packet arrived fails on the way back, and belongs to that direction."""
    for port in path.expected.tcp:
        if path.connected(port):
            continue
        outcome = path.sent["tcp"].get(str(port), "timeout")
        seen = [f"connecting to {path.address}:{port} ended with: {outcome}", _passes(path)]
        if port in path.arrived["syn"] and outcome == "timeout":
            if not back.dead and not back.opened_later:
                words = f"{path.target}'s answers to connections on {port}/tcp do not come back"
                yield _about(back, "path_tcp_dropped", words, seen)
        elif outcome in REFUSALS:
            words = "nothing listens on" if port in path.arrived["syn"] else "a firewall refuses"
            yield _about(path, "path_tcp_refused", f"{words} {port}/tcp of {path.target}", seen)
        else:
            yield _about(path, "path_tcp_dropped", f"connections to {port}/tcp are dropped {_where(path)}", seen)


def check_member(path: Path) -> Iterator[Finding]:
    """A member that its peer's Consul takes for dead."""
    if path.member is False and 8301 in path.expected.gossip:
        words = f"the Consul of {path.source} takes {path.target} for dead"
        yield _about(path, "path_store_gossip", words, [f"GET /v1/agent/members on {path.source}", _passes(path)])


def check_mtu(path: Path, back: Path) -> Iterator[Finding]:
    """Full-size packets."""
    full = path.expected.mtu
    if not path.mtu:
        return
    if path.mtu < full:
        route = path.sent["route_mtu"]
        seen = f"the largest that passed has {path.mtu} bytes"
        seen = f"the route of {path.source} says {route}" if route == path.mtu else seen
        words = f"packets of {full} bytes, the interface's size, do not pass whole, {path.mtu} do"
        yield _about(path, "path_mtu_small", words, seen)
        if back.mtu > path.mtu:
            words = f"passes {path.mtu} bytes, the other direction {back.mtu}"
            yield _about(path, "path_mtu_asymmetric", words, seen)


def dead_hosts(paths: Paths) -> dict[str, int]:
    """Hosts that are dead in both directions to all of two or more peers, and to how many."""
    found_dead = {}
    for host in paths.good:
        mine = [path for path in paths.pairs if host in (path.source, path.target)]
        if len(mine) >= 4 and all(path.dead and not path.opened_later for path in mine):
            found_dead[host] = len(mine) // 2
    # Where all are dead to all, there is no one host to blame.
    return found_dead if len(found_dead) < len(paths.good) - 1 else {}


def check_paths(paths: Paths) -> Iterator[Finding]:
    """Each direction, the whole of it once where all of it fails."""
    isolated = dead_hosts(paths)
    for host, peers in isolated.items():
        words = f"{host} reaches none of its {peers} peers, and none reaches it"
        row = found("path_host_dead", words, "no packet of the probe arrived in either direction, not even ICMP")
        yield dict(row, host=host, **{"from": host, "to": "*"})
    rows = []
    for path in paths.pairs:
        if path.source not in isolated and path.target not in isolated:
            rows += list(check_path(path, paths.by_ends[path.target, path.source]))
    yield from group(rows, [host for host in paths.good if host not in isolated])


def check_path(path: Path, back: Path) -> Iterator[Finding]:
    """One direction."""
    if path.dead and not path.opened_later:
        seen = f"{path.sent['sent']} rounds sent to {path.address}, none arrived, not even ICMP"
        yield _about(path, "path_dead", f"nothing arrives; it is dropped {_where(path)}", seen)
        return
    closed = [*check_udp(path), *check_tcp(path, back)]
    later = [row for row in closed if row["to"] == path.target and path.opened_later]
    yield from (row for row in closed if row not in later)
    if later:
        words = f"{path.opened_later} of {path.target} does not let it in yet; role overlay_host changes that"
        yield _about(path, "path_opened_later", words, [row["about"] for row in later])
    # Whom the store's gossip does not reach yet it takes for dead.
    if not (path.opened_later or back.opened_later):
        yield from check_member(path)
    yield from check_mtu(path, back)


def check_unproven(paths: Paths) -> Iterator[Finding]:
    """Gossip that was not heard: once for each listening host."""
    for target in paths.good:
        silent: dict[int, list[str]] = {}
        for path in paths.pairs:
            if path.target == target and not path.dead:
                for port in path.expected.gossip:
                    if port not in path.arrived["gossip"] and path.member is None:
                        silent.setdefault(port, []).append(path.source)
        if silent:
            seen = [f"{port}/udp from {', '.join(sources)}" for port, sources in sorted(silent.items())]
            row = found("path_unproven", f"{target} did not hear the gossip of all peers in time", seen)
            first = silent[min(silent)]
            yield dict(row, host=target, **{"from": ", ".join(first), "to": target})


def clock_offsets(paths: Paths) -> dict[str, float]:
    """How far each host's clock is ahead of its peers': of half of them at least, so the one that is wrong is named."""
    offsets: dict[str, list[float]] = {}
    for path in paths.pairs:
        if path.sent["offset"] is not None:
            offsets.setdefault(path.target, []).append(path.sent["offset"])
    return {host: sorted(seen, key=abs)[(len(seen) - 1) // 2] for host, seen in offsets.items()}


def check_clocks(paths: Paths, most: float) -> Iterator[Finding]:
    """Clocks that differ, each wrong one once."""
    wrong = {host: offset for host, offset in clock_offsets(paths).items() if abs(offset) > most}
    for number, (host, offset) in enumerate(wrong.items()):
        peers = [other for other in paths.good if other != host]
        if len(paths.good) == 2 and number:
            return  # of two, nobody knows which is wrong
        side = "ahead of" if offset > 0 else "behind"
        words = f"the clock of {host} is {abs(offset):.1f} s {side} {peers[0] if len(peers) == 1 else 'its peers'}"
        row = found("clock_offset", words, f"{offset:+.3f} s, the round trip taken off")
        yield dict(row, host=host, **{"from": ", ".join(peers), "to": host})


def underlay_mtu(paths: Paths) -> int:
    """The smallest MTU of the paths between Docker hosts; Docker's own assumption where none was measured."""
    docker = set(paths.topology["groups"]["hosts"])
    sizes = [path.mtu for path in paths.pairs if path.mtu and {path.source, path.target} <= docker]
    return min(sizes) if sizes else DEFAULT_MTU


def check_networks(paths: Paths, encryption: str) -> Iterator[Finding]:
    """What the underlay carries, against what networks and bridges were made for."""
    mtu = underlay_mtu(paths)
    usable = mtu - OVERHEAD[encryption]
    if not paths.pairs:
        return
    if usable < DEFAULT_MTU:
        words = f"the underlay carries packets of {usable} bytes; new networks give their containers {usable - 50}"
        yield dict(found("underlay_mtu_below_default", words, f"smallest MTU of all paths: {mtu}"), host=paths.good[0])
    seen: Json = {}
    for host in paths.good:
        for name, made in paths.started[host]["networks"].items():
            seen.setdefault(name, (host, made or DEFAULT_MTU))
    for name, (host, made) in seen.items():
        if made > usable:
            words = f"network {name} was made for an underlay of {made} bytes, but it carries {usable}"
            yield dict(found("network_mtu_large", words, f"MTU option of the network: {made}"), host=host)


def check_bridges(paths: Paths) -> Iterator[Finding]:
    """Docker's own bridges on each host."""
    for host in paths.good:
        view = paths.started[host]
        sizes = [path.mtu for path in paths.pairs if path.source == host and path.mtu]
        most = min([view["mtu"], *sizes])
        large = [f"{name} has {mtu}" for name, mtu in view["bridges"].items() if mtu > most]
        if large:
            words = f"{' and '.join(large)}, but the underlay carries {most}"
            yield dict(found("bridge_mtu_large", words, f"{view['interface']} has {view['mtu']}"), host=host)


def check_lost(paths: Paths) -> Iterator[Finding]:
    """Hosts that are not proven."""
    for host, words in paths.lost.items():
        yield dict(found("probe_failed", f"the paths from and to {host} were not proven", words[-600:]), host=host)
    for host in paths.topology["groups"]["members"]:
        view = paths.started.get(host)
        # One that could not be read has its own finding, and its task was skipped.
        if not view or view.get("skipped") or not problem_of(view):
            continue
        if "mtu" in view:
            row = found("probe_skipped", f"the paths from and to {host} were not probed", problem_of(view))
        else:
            row = found("probe_failed", f"the paths from and to {host} were not proven", problem_of(view)[-600:])
        yield dict(row, host=host)


def findings_of(paths: Paths, clock_most: float, encryption: str = "none") -> list[Finding]:
    """All findings of a run."""
    return [
        *check_lost(paths),
        *check_paths(paths),
        *check_unproven(paths),
        *check_clocks(paths, clock_most),
        *check_networks(paths, encryption),
        *check_bridges(paths),
    ]


def underlay(paths: Paths) -> Json:
    """What was measured: for the report, and for networks to be made."""
    return {"mtu": underlay_mtu(paths), "paths": [path.row() for path in paths.pairs]}


def needs_ports(findings: list[Finding]) -> bool:
    """Whether the table of ports to open helps."""
    ids = {"path_dead", "path_host_dead", "path_tcp_dropped", "path_tcp_refused", "path_udp_dropped"}
    return any(row["id"] in ids | {"path_vxlan_swallowed"} for row in findings)
