# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall's files, made of ports, peers and the operator's list. Pure; reads and writes nothing."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable, NamedTuple, Sequence

TABLE = "multihost_overlay"
RULES_FILE = "/etc/multihost-overlay/firewall.nft"
UNIT = "multihost-overlay-firewall.service"
UNIT_FILE = f"/etc/systemd/system/{UNIT}"
# nftables.service begins, reloads and ends with `flush ruleset`, which takes every table with it.
DROPIN_FILE = "/etc/systemd/system/nftables.service.d/50-multihost-overlay.conf"
PROTOCOLS = ("tcp", "udp")


class Firewall(NamedTuple):
    """What is to be closed, and who may pass."""

    tcp: tuple[int, ...]
    udp: tuple[int, ...]
    peers: tuple[str, ...]
    allow4: tuple[str, ...]
    allow6: tuple[str, ...]


def parse_ports(texts: Iterable[str]) -> dict[str, tuple[int, ...]]:
    """``["8301/tcp", "8301/udp"]`` as sorted numbers by protocol; ValueError names what is wrong."""
    found: dict[str, set[int]] = {name: set() for name in PROTOCOLS}
    for text in texts:
        number, _slash, protocol = str(text).partition("/")
        if protocol not in found or not number.isdigit() or not 0 < int(number) < 65536:
            raise ValueError(f"{text!r} is no port: write NUMBER/tcp or NUMBER/udp")
        found[protocol].add(int(number))
    return {name: tuple(sorted(numbers)) for name, numbers in found.items()}


def parse_network(text: Any) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """An address or a network in CIDR notation, host bits zero; ValueError says how to write it."""
    try:
        return ipaddress.ip_network(str(text))
    except ValueError as exc:
        raise ValueError(
            f"{text!r} is neither an IPv4 or IPv6 address nor a network in CIDR notation ({exc}); "
            "write 192.0.2.7, 192.0.2.0/24 or 2001:db8::/64"
        ) from exc


def collapsed(texts: Iterable[Any]) -> dict[int, tuple[str, ...]]:
    """The operator's list by IP version, without overlaps: nft refuses those in a set."""
    networks = [parse_network(text) for text in texts]
    four = ipaddress.collapse_addresses(net for net in networks if isinstance(net, ipaddress.IPv4Network))
    six = ipaddress.collapse_addresses(net for net in networks if isinstance(net, ipaddress.IPv6Network))
    return {4: tuple(map(short, four)), 6: tuple(map(short, six))}


def short(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """A network of one address is written as an address."""
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def parse(ports: Iterable[str], peers: Iterable[str], allow: Iterable[Any]) -> Firewall:
    """All of the parameters at once; ValueError names the one that cannot be used."""
    numbers, lists = parse_ports(ports), collapsed(allow)
    addresses = sorted({ipaddress.IPv4Address(peer) for peer in peers})
    return Firewall(numbers["tcp"], numbers["udp"], tuple(map(str, addresses)), lists[4], lists[6])


def locked_out(firewall: Firewall, ssh_ports: Iterable[int]) -> list[int]:
    """The ports of SSH that this firewall would close."""
    return sorted(set(ssh_ports) & set(firewall.tcp))


def _set(name: str, kind: str, elements: Sequence[str], interval: bool) -> list[str]:
    # An empty list of elements is a syntax error; a set without one is empty.
    lines = [f"    type {kind}"]
    lines += ["    flags interval"] if interval else []
    lines += [f"    elements = {{ {', '.join(elements)} }}"] if elements else []
    return [f"  set {name} {{", *lines, "  }"]


def _drop(protocol: str, ports: Sequence[int], to: str = "") -> list[str]:
    if not ports:
        return []
    return [f"    {to}{protocol} dport {{ {', '.join(map(str, ports))} }} counter drop"]


def ruleset(firewall: Firewall) -> str:
    """The file for ``nft -f``: one transaction that replaces our table and names no other."""
    lines = [
        "# Written by multihost.overlay: closes the overlay's ports to all but the cluster's hosts and the operator's list.",
        "# A drop is final in nftables whatever other tables accept, and an accept here overrules no drop of theirs.",
        f"table inet {TABLE}",
        f"delete table inet {TABLE}",
        f"table inet {TABLE} {{",
        *_set("peers", "ipv4_addr", firewall.peers, interval=False),
        *_set("operators4", "ipv4_addr", firewall.allow4, interval=True),
        *_set("operators6", "ipv6_addr", firewall.allow6, interval=True),
        "  chain input {",
        "    type filter hook input priority -150; policy accept;",
        '    iifname "lo" accept',
        # The host's own connection may come from a port of ours when net.ipv4.ip_local_port_range is widened. TCP only:
        # gossip over UDP goes both ways between the same two ports, and would stay open to a peer that has left.
        "    meta l4proto tcp ct direction reply accept",
        "    ip saddr @peers accept",
        "    ip saddr @operators4 accept",
        "    ip6 saddr @operators6 accept",
        *_drop("tcp", firewall.tcp),
        *_drop("udp", firewall.udp),
        "  }",
        # A container's packets leave its host under the host's address, which the peers let in. So they end here.
        "  chain forward {",
        "    type filter hook forward priority -150; policy accept;",
        "    ip saddr @peers accept",
        "    ip saddr @operators4 accept",
        *_drop("tcp", firewall.tcp, "ip daddr @peers "),
        *_drop("udp", firewall.udp, "ip daddr @peers "),
        "  }",
        "}",
    ]
    return "\n".join(lines) + "\n"


def unit(nft: str) -> str:
    """Loads the table at boot before there is a network; who stops it opens the ports."""
    return f"""# Written by multihost.overlay.
[Unit]
Description=Close the overlay's ports to all but the cluster's hosts
DefaultDependencies=no
Wants=network-pre.target
# After what may flush all tables at boot; before whatever could be talked to.
After=local-fs.target nftables.service
Before=network-pre.target docker.service shutdown.target
Conflicts=shutdown.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart={nft} -f {RULES_FILE}
ExecReload={nft} -f {RULES_FILE}
ExecStop=-{nft} delete table inet {TABLE}

[Install]
WantedBy=sysinit.target
"""


def dropin(nft: str) -> str:
    """nftables.service flushes all tables when it starts, reloads and stops: ours is back in the same breath."""
    # The file is gone when the firewall was taken away between two reloads of systemd: no reason for it to fail.
    again = f"-{nft} -f {RULES_FILE}"
    return f"""# Written by multihost.overlay: its table is back after every flush.
[Service]
ExecStartPost={again}
ExecReload={again}
ExecStopPost={again}
"""


def files(firewall: Firewall, nft: str) -> dict[str, str]:
    """Path -> content of all that we write."""
    return {RULES_FILE: ruleset(firewall), UNIT_FILE: unit(nft), DROPIN_FILE: dropin(nft)}
