# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads packet filters, the kernel's network settings, and what tampers with interfaces.

To ask iptables about a table makes that table: legacy is asked only for tables that are there, nft only by its own lists.
"""

from __future__ import annotations

import json
import re
from typing import Any, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import TABLE
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

LINK_DIRS = ("/etc/systemd/network", "/run/systemd/network", "/usr/lib/systemd/network", "/lib/systemd/network")
NOTHING: dict[str, Any] = {"rules": 0, "forward": "", "docker": False}
UNCONNECTED, LISTEN = "07", "0A"


def parse_save(text: str) -> dict[str, Any]:
    """What iptables-save prints, in either flavour: number of rules, FORWARD's policy, whether Docker's rules are in it."""
    table, forward, docker, rules = "", "", False, 0
    for line in text.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith("-A "):
            rules += 1
            docker = docker or (table == "filter" and re.match(r"-A FORWARD .*(DOCKER|docker0)", line) is not None)
        elif table == "filter" and line.startswith(":FORWARD "):
            forward = line.split()[1]
    return {"rules": rules, "forward": forward, "docker": docker}


def read_legacy(reader: Reader) -> dict[str, Any]:
    """Only tables that the kernel has already; none where nobody uses the legacy flavour."""
    names = (reader.text("/proc/net/ip_tables_names") or "").split()
    text = ""
    for name in names:
        status, out, _err = reader.run(["iptables-legacy-save", "-t", name])
        text += out if status == 0 else ""
    return parse_save(text)


def read_chains(reader: Reader) -> list[dict[str, Any]]:
    """The base chains of nftables; none where there is no nft, whose tables are then iptables' own."""
    status, out, _err = reader.run(["nft", "-j", "list", "chains"])
    if status != 0:
        return []
    entries = [entry["chain"] for entry in json.loads(out)["nftables"] if "chain" in entry]
    return [entry for entry in entries if "hook" in entry]


def read_walls(reader: Reader, chains: list[dict[str, Any]]) -> list[str]:
    """Base chains for forwarded packets that drop by policy, are not iptables', and do not speak of Docker."""
    found = []
    for chain in chains:
        if chain["hook"] != "forward" or chain.get("policy") != "drop" or chain["family"] not in ("ip", "inet"):
            continue
        if (chain["family"], chain["table"], chain["name"]) == ("ip", "filter", "FORWARD"):
            continue
        name = f"{chain['family']} {chain['table']} {chain['name']}"
        _status, out, _err = reader.run(["nft", "list", "table", chain["family"], chain["table"]])
        if not re.search(r"docker|br-", out):
            found.append(name)
    return found


def read_rp_filter(reader: Reader, interface: str) -> int:
    """The greater of the two settings holds: 1 is strict, 2 is loose."""
    values = [reader.line(f"/proc/sys/net/ipv4/conf/{name}/rp_filter") for name in ("all", interface) if name]
    return max([int(value) for value in values if value.isdigit()] or [0])


def read_managed(reader: Reader) -> list[str]:
    """Docker's interfaces that NetworkManager takes for its own, as it prints them."""
    if not reader.exists("/run/NetworkManager"):
        return []
    _status, out, _err = reader.run(["nmcli", "-t", "-f", "DEVICE,TYPE,STATE", "device"])
    rows = [line.split(":") for line in out.splitlines()]
    ours = re.compile(r"^(veth|docker0$|docker_gwbridge$|br-[0-9a-f]{12}$|vx-|ov-|flannel)")
    return [
        " ".join(row)
        for row in rows
        if len(row) == 3 and ours.match(row[0]) and row[2] != "unmanaged" and "externally" not in row[2]
    ]


def read_mac_policy(reader: Reader) -> str:
    """The .link file that changes tunnels' MAC addresses, or an empty string; the first file that matches is used alone."""
    chosen: dict[str, str] = {}
    for folder in LINK_DIRS:
        for name in reader.names(folder):
            if name.endswith(".link"):
                chosen.setdefault(name, f"{folder}/{name}")
    for name in sorted(chosen):
        text = reader.text(chosen[name]) or ""
        if re.search(r"^(OriginalName=.*(\*|flannel)|Driver=.*vxlan)", text, re.MULTILINE):
            return chosen[name] if re.search(r"^MACAddressPolicy=persistent", text, re.MULTILINE) else ""
    return ""


def listening_ports(text: str, protocol: str, state: str) -> set[str]:
    """NUMBER/PROTOCOL of the sockets in a /proc/net/{tcp,udp}{,6} that take packets from other hosts."""
    found = set()
    for row in [line.split() for line in text.splitlines()[1:]]:
        if len(row) < 4 or row[3] != state:
            continue
        address, _colon, port = row[1].rpartition(":")
        # 127.0.0.0/8 in the host's byte order, ::1, and 127.0.0.0/8 mapped into IPv6.
        loopback = address[-2:] == "7F" and (len(address) == 8 or address[16:24] == "FFFF0000")
        if not loopback and address != "00000000000000000000000001000000":
            found.add(f"{int(port, 16)}/{protocol}")
    return found


def read_table(reader: Reader) -> dict[str, Any]:
    """Whether our own table is loaded, and whom it lets in as peers."""
    status, out, _err = reader.run(["nft", "-j", "list", "set", "inet", TABLE, "peers"])
    if status != 0:
        return {"loaded": False, "peers": []}
    sets = [entry["set"] for entry in json.loads(out)["nftables"] if "set" in entry]
    return {"loaded": True, "peers": [str(element) for entry in sets for element in entry.get("elem", [])]}


def read_open(reader: Reader, wanted: Mapping[str, Any]) -> list[str]:
    """Which of the cluster's ports something listens on; asked for in a report only."""
    if wanted.get("firewall") != "report":
        return []
    found: set[str] = set()
    for protocol, state in (("tcp", LISTEN), ("udp", UNCONNECTED)):
        for suffix in ("", "6"):
            found |= listening_ports(reader.text(f"/proc/net/{protocol}{suffix}") or "", protocol, state)
    return [port for port in wanted["ports"] if port in found]


def interface_of(observed: Mapping[str, Any], address: str) -> str:
    entries = [entry for entry in observed["addresses"] or [] if entry["address"] == address]
    return str(entries[0]["interface"]) if entries else ""


def read_kernel(reader: Reader, observed: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of this file."""
    threshold = reader.line("/proc/sys/net/ipv4/neigh/default/gc_thresh3")
    status, saved, _err = reader.run(["iptables-nft-save"])
    interface = interface_of(observed, wanted.get("address", ""))
    return {
        "legacy": read_legacy(reader),
        "nft": parse_save(saved) if status == 0 else dict(NOTHING),
        # Without a program that prints rules nothing is said of their absence.
        "readable": status == 0,
        "walls": read_walls(reader, read_chains(reader)),
        "interface": interface,
        "rp_filter": read_rp_filter(reader, interface),
        # In a namespace of a container it does not exist.
        "gc_thresh3": int(threshold) if threshold.isdigit() else None,
        "managed": read_managed(reader),
        "mac_policy": read_mac_policy(reader),
        "firewall": read_table(reader),
        "open": read_open(reader, wanted),
    }
