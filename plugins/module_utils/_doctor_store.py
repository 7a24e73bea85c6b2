# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the engines wrote into a Consul. Only GET is sent to read it. Nothing here decides what it means."""

from __future__ import annotations

import base64
import ipaddress
import json
import struct
from typing import Any, List, Optional, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._store import DISCOVERY, LIBNETWORK, StoreError
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import Asker

IPAM_DATA = LIBNETWORK + "ipam/default/data/"
COUNTS = LIBNETWORK + "endpoint_count/"

Pairs = List[Tuple[str, Optional[bytes]]]


def prefix_of(url: str) -> str:
    """The folder that a store's URL ends with."""
    rest = url.partition("://")[2].partition("/")[2].strip("/")
    return rest + "/" if rest else ""


def parse_pairs(body: bytes, prefix: str) -> Pairs:
    """Consul's answer to a recursive read, with keys as they are without the URL's folder."""
    return [
        (entry["Key"][len(prefix) :], base64.b64decode(entry["Value"]) if entry.get("Value") else None)
        for entry in json.loads(body or b"[]")
    ]


def below(pairs: Pairs, folder: str) -> Pairs:
    return [(key, value) for key, value in pairs if key.startswith(folder)]


def set_bits(data: bytes, size: int) -> list[int]:
    """Which bits libnetwork's bit sequence has set: two numbers, then blocks of 32 bits with the number of their repeats."""
    found: list[int] = []
    position = 0
    for offset in range(16, len(data) - 11, 12):
        block, count = struct.unpack(">IQ", data[offset : offset + 12])
        if block:
            for repeat in range(min(count, size // 32 + 1)):
                start = position + 32 * repeat
                found += [start + bit for bit in range(32) if block & (1 << (31 - bit))]
        position += 32 * count
        if position >= size:
            break
    return [bit for bit in found if bit < size]


def taken_addresses(pairs: Pairs) -> dict[str, list[str]]:
    """Subnet -> the addresses that Docker holds for given out. Large subnets are left out: they would cost."""
    found = {}
    for key, value in pairs:
        try:
            subnet = ipaddress.IPv4Network(key[len(IPAM_DATA) :].strip("/").split("/", 1)[1])
            record = json.loads(value or b"{}")
            data = base64.b64decode(record["sequence"])
        except (ValueError, KeyError, IndexError, TypeError):
            continue
        if subnet.num_addresses <= 65536:
            found[str(subnet)] = [str(subnet[bit]) for bit in set_bits(data, subnet.num_addresses)]
    return found


def counts(pairs: Pairs) -> dict[str, int]:
    """Network's id -> the number of endpoints that Docker believes it has."""
    found = {}
    for key, value in pairs:
        try:
            found[key[len(COUNTS) :].strip("/")] = int(json.loads(value or b"{}").get("Count", 0))
        except (ValueError, AttributeError, TypeError):
            continue
    return found


def macs(pairs: Pairs) -> dict[str, str]:
    """Endpoint's id -> its MAC."""
    found = {}
    for _key, value in pairs:
        try:
            record = json.loads(value or b"{}")
            found[str(record["id"])] = str((record.get("ep_iface") or {}).get("mac") or "").lower()
        except (ValueError, AttributeError, KeyError, TypeError):
            continue
    return found


def reserved(pairs: Pairs) -> dict[str, list[str]]:
    """Network's id -> the addresses that are set apart on it: gateways and auxiliary ones."""
    found: dict[str, list[str]] = {}
    for key, value in pairs:
        try:
            infos = json.loads(json.loads(value or b"{}").get("ipamV4Info") or "[]") or []
            datas = [json.loads(info.get("IPAMData") or "{}") for info in infos]
        except (ValueError, AttributeError, TypeError):
            continue
        kept = [str(data.get("Gateway") or "") for data in datas]
        kept += [str(aux) for data in datas for aux in (data.get("AuxAddresses") or {}).values()]
        found[key.strip("/").rsplit("/", 1)[-1]] = [address.split("/")[0] for address in kept if address]
    return found


def read_content(pairs: Pairs) -> dict[str, Any]:
    """What the keys say."""
    networks, endpoints_there = below(pairs, LIBNETWORK + "network/"), below(pairs, LIBNETWORK + "endpoint/")
    return {
        "nodes": sorted(key.rsplit("/", 1)[-1] for key, value in below(pairs, DISCOVERY) if value),
        "networks": content.networks(networks, below(pairs, LIBNETWORK + "overlay/network/")),
        "endpoints": content.endpoints(endpoints_there),
        "macs": macs(endpoints_there),
        "counts": counts(below(pairs, COUNTS)),
        "taken": taken_addresses(below(pairs, IPAM_DATA)),
        "reserved": reserved(networks),
    }


def read_store(url: str, token: str, ask: Asker) -> dict[str, Any]:
    """Who leads, and what is in it. ``state`` is ok, silent, leaderless, denied, odd or unsupported."""
    result: dict[str, Any] = {"url": url, "state": "ok", "error": "", "leader": "", "open": False}
    if not url.startswith("consul://"):
        return dict(result, state="unsupported")
    status, body = ask("/v1/status/leader", token)
    if status == 0:
        return dict(result, state="silent", error=body.decode("utf-8", "replace"))
    leader = body.decode("utf-8", "replace").strip().strip('"')
    if status != 200 or not leader:
        return dict(result, state="leaderless", error=f"HTTP {status}: {leader[:200] or 'no leader'}")
    result["leader"] = leader
    prefix = prefix_of(url)
    status, body = ask(f"/v1/kv/{prefix}docker/?recurse", token)
    if status in (401, 403):
        return dict(result, state="denied", error=f"HTTP {status}: {body.decode('utf-8', 'replace')[:200]}")
    if b"leader" in body and status >= 500:
        return dict(result, state="leaderless", error=f"HTTP {status}: {body.decode('utf-8', 'replace')[:200]}")
    if status not in (200, 404):
        return dict(result, state="odd", error=f"HTTP {status}: {body.decode('utf-8', 'replace')[:200]}")
    # Consul says 404 for a folder without keys.
    try:
        result.update(read_content(parse_pairs(body if status == 200 else b"[]", prefix)))
    except (StoreError, ValueError, KeyError, TypeError) as exc:
        return dict(result, state="odd", error=str(exc))
    result["open"] = not token or ask(f"/v1/kv/{prefix}docker/?recurse&keys", "")[0] == 200
    return result
