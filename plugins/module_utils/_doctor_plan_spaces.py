# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kernel's tables of each overlay against the store's endpoints, and the containers' DNS. Pure; reads nothing.

dockerd 20.10 fills these tables from announcements, and asks its peers when the kernel misses an address. So a missing entry is no
fault as long as somebody is told of misses, and an entry that leads elsewhere always is one.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable, Mapping, NamedTuple, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_store import locator, readable
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import NAMESPACES, OVERLAY_NAMESPACE
from ansible_collections.multihost.overlay.plugins.module_utils._netlink import Entry, Tunnel

# What VXLAN adds to each packet, and what IPsec does besides.
VXLAN, IPSEC = 50, 26
# Of entries that are said one by one, how many of each check are shown.
MOST = 5
ENTRIES = ("fdb_wrong", "fdb_missing", "neighbour_wrong", "neighbour_missing", "entry_of_nobody")
UNIT = "or start multihost-overlay-peers, which does it within ten seconds"

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


class Peer(NamedTuple):
    """An endpoint as the store knows it."""

    id: str
    name: str
    address: str
    mac: str
    host: str


class Overlay(NamedTuple):
    """A network that a running container of this host is on, with the namespace that it has here."""

    network: Mapping[str, Any]
    containers: Sequence[str]
    place: str
    # What _netlink reads; empty if it could not be read.
    tables: Mapping[str, Any]
    peers: Sequence[Peer]
    own: str

    @property
    def doubtful(self) -> set[str]:
        """Addresses and MACs that several endpoints have: who is right cannot be told."""
        claims = Counter(claim for peer in self.peers for claim in (peer.address, peer.mac))
        return {claim for claim, number in claims.items() if number > 1}

    def device(self, index: int) -> str:
        return next((tunnel.name for tunnel in self.tunnels if tunnel.device == index), "vxlan0")

    @property
    def tunnels(self) -> Sequence[Tunnel]:
        found: Sequence[Tunnel] = self.tables.get("tunnels", [])
        return found

    def command(self, text: str) -> str:
        return f"nsenter --net={NAMESPACES}/{self.place} {text}"


def peers_of(store: Observed, network: str) -> list[Peer]:
    """The endpoints of a network that the store describes in full; one that is being made has no address yet."""
    rows = [
        Peer(row["id"], row["name"], row["ipv4"].split("/")[0], store["macs"].get(row["id"], ""), row["host"])
        for row in store["endpoints"]
        if row["network_id"] == network
    ]
    return [peer for peer in rows if peer.address and peer.mac and peer.host]


def place_of(observed: Observed, network: str) -> str:
    """The namespace of a network on this host, the newest if there are several; '' if none."""
    matches = [OVERLAY_NAMESPACE.match(name) for name in observed["namespaces"]]
    own = [match for match in matches if match and network.startswith(match.group(2))]
    return max(own, key=lambda match: int(match.group(1))).group(0) if own else ""


def overlays(observed: Observed) -> Iterable[Overlay]:
    """The store's overlays that running containers of this host are on."""
    if not readable(observed) or observed["overlays"] is None:
        return
    for network in observed["store"]["networks"]:
        containers = [
            container["name"]
            for container in observed["containers"]
            if container["running"]
            and any(entry["id"] == network["id"] and entry["endpoint"] for entry in container["networks"].values())
        ]
        peers, own = peers_of(observed["store"], network["id"]), locator(observed)
        # A store that has none of this host's endpoints has lost something, which is said elsewhere.
        if network["driver"] == "overlay" and containers and any(peer.host == own for peer in peers):
            place = place_of(observed, network["id"])
            yield Overlay(network, containers, place, observed["overlays"].get(place) or {}, peers, own)


def seen_overlays(observed: Observed) -> Iterable[Overlay]:
    """Those whose tables could be read."""
    return (overlay for overlay in overlays(observed) if overlay.tables)


def expected_mtus(network: Observed) -> set[int]:
    plain = (network["mtu"] or 1500) - VXLAN
    return {plain, (plain - IPSEC) // 4 * 4}


def check_tunnels(observed: Observed, _wanted: Observed) -> Findings:
    """Each overlay in use has its vxlan device, with the network's number and MTU."""
    if not observed["namespaces"]:
        return  # an engine with another exec-root has them elsewhere
    for overlay in overlays(observed):
        name = overlay.network["name"]
        if overlay.place and not overlay.tables:
            continue  # it could not be read, or ended meanwhile
        if not overlay.tunnels:
            text = f"the network {name} has no vxlan device on this host, and {', '.join(overlay.containers[:5])} on it"
            where = f"{NAMESPACES}/{overlay.place}" if overlay.place else f"no namespace of it in {NAMESPACES}"
            yield found("tunnel_missing", text, where)
        for device in overlay.tunnels:
            seen = f"{device.name} in {NAMESPACES}/{overlay.place}: id {device.vni}, mtu {device.mtu}"
            if overlay.network["vnis"] and device.vni not in overlay.network["vnis"]:
                numbers = ", ".join(map(str, overlay.network["vnis"]))
                yield found(
                    "tunnel_differs", f"the network {name} has the number {numbers}, and {device.vni} here", seen
                )
            elif device.mtu not in expected_mtus(overlay.network):
                mtu = max(expected_mtus(overlay.network))
                yield found(
                    "tunnel_differs", f"the MTU of the network {name} is {device.mtu} here instead of {mtu}", seen
                )


def entries_of_peers(observed: Observed, table: str) -> Iterable[tuple[Overlay, Entry, Peer]]:
    """Entries that stay, each with the peer that it is for, where no other endpoint claims the same."""
    for overlay in seen_overlays(observed):
        doubtful = overlay.doubtful
        peers = {claim: peer for peer in overlay.peers for claim in (peer.address, peer.mac) if claim not in doubtful}
        for entry in overlay.tables[table]:
            if entry.stays and entry.key in peers:
                yield overlay, entry, peers[entry.key]


def check_forwarding(observed: Observed, _wanted: Observed) -> Findings:
    """No MAC of a container leads to another host than its own."""
    for overlay, entry, peer in entries_of_peers(observed, "forwarding"):
        if entry.value == peer.host:
            continue
        command = f"bridge fdb replace {peer.mac} dev {overlay.device(entry.device)} dst {peer.host} self permanent"
        if peer.host == overlay.own:
            command = f"bridge fdb del {peer.mac} dev {overlay.device(entry.device)} dst {entry.value} self"
        yield found(
            "fdb_wrong",
            f"packets to {peer.name} ({peer.address}) on {overlay.network['name']} go to {entry.value}, and it is on {peer.host}",
            f"{overlay.place}: {entry.key} dst {entry.value}",
            f"{overlay.command(command)}; {UNIT}",
        )


def check_neighbours(observed: Observed, _wanted: Observed) -> Findings:
    """No address of a container has the MAC of another."""
    for overlay, entry, peer in entries_of_peers(observed, "neighbours"):
        if entry.value == peer.mac:
            continue
        command = f"ip neigh replace {peer.address} lladdr {peer.mac} dev {overlay.device(entry.device)} nud permanent"
        yield found(
            "neighbour_wrong",
            f"{peer.address} on {overlay.network['name']} has the MAC {entry.value} here, and {peer.name} has {peer.mac}",
            f"{overlay.place}: {entry.key} lladdr {entry.value}",
            f"{overlay.command(command)}; {UNIT}",
        )


def check_nobodys(observed: Observed, _wanted: Observed) -> Findings:
    """Entries of containers that are gone."""
    for overlay in seen_overlays(observed):
        known = {claim for peer in overlay.peers for claim in (peer.address, peer.mac)}
        for table in ("neighbours", "forwarding"):
            for entry in overlay.tables[table]:
                if entry.stays and entry.key not in known:
                    text = f"{entry.key} on {overlay.network['name']} leads to {entry.value}, and no container has it"
                    yield found("entry_of_nobody", text, f"{overlay.place}, {table}")


def check_missing(observed: Observed, _wanted: Observed) -> Findings:
    """Remote containers that the kernel does not find, and for which nobody looks."""
    for overlay in (overlay for overlay in seen_overlays(observed) if overlay.tunnels):
        macs = {entry.key: entry.value for entry in overlay.tables["neighbours"] if entry.stays}
        led = {entry.key for entry in overlay.tables["forwarding"]}
        for peer in overlay.peers:
            if peer.host == overlay.own or overlay.doubtful & {peer.address, peer.mac}:
                continue
            told = {"endpoint": peer.id, "vtep": peer.host}
            where = f"{peer.name} ({peer.address}) on {overlay.network['name']}, which is on {peer.host}"
            device = overlay.device(-1)
            if macs.get(peer.address) == peer.mac and peer.mac not in led:
                command = f"bridge fdb add {peer.mac} dev {device} dst {peer.host} self permanent"
                text = f"packets to {where}, go nowhere: its MAC is known, and not its host"
                yield {**found("fdb_missing", text, overlay.place, f"{overlay.command(command)}; {UNIT}"), **told}
            elif peer.address not in macs and not overlay.tables["watched"]:
                text = f"this host does not know {where}, and does not ask for it"
                seen = f"{overlay.place}: no neighbour {peer.address}, and nobody is told what the kernel misses"
                yield {**found("neighbour_missing", text, seen), **told}


def check_dns(observed: Observed, _wanted: Observed) -> Findings:
    """Docker answers on 127.0.0.11 by rules within the container's namespace."""
    for name, there in sorted(observed["dns"].items()):
        if there is False:
            text = f"container {name} cannot resolve names: Docker's rules for its DNS are gone"
            seen = "iptables -t nat -S in its namespace: no way from 127.0.0.11:53 to Docker"
            yield found("dns_rules_gone", text, seen, f"docker restart {name}")


def shortened(rows: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """A few of the entries of each kind; the last of them says how many more there are."""
    numbers: Counter[str] = Counter(row["id"] for row in rows)
    seen: Counter[str] = Counter()
    kept = []
    for row in rows:
        seen[row["id"]] += 1
        if row["id"] in ENTRIES and seen[row["id"]] > MOST:
            continue
        if row["id"] in ENTRIES and seen[row["id"]] == MOST and numbers[row["id"]] > MOST:
            row = dict(row, evidence=f"{row['evidence']}; and {numbers[row['id']] - MOST} more like it")
        kept.append(row)
    return kept


CHECKS_OF_SPACES = (check_tunnels, check_forwarding, check_neighbours, check_nobodys, check_missing, check_dns)
