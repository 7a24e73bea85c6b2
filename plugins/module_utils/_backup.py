# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the store is backed up and restored, and how two states of it differ. Pure: rows of Consul's KV in, plain data out."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._store import DISCOVERY, LIBNETWORK, LOCK

Json = Dict[str, Any]
# As Consul answers `kv/...?recurse`: Key, Value (base64 or null), Flags, ModifyIndex and, of one that is held, Session.
Rows = Sequence[Mapping[str, Any]]

DOCKER = "docker/"
# Consul takes 64 operations, and half a megabyte, in one transaction.
MOST_OPERATIONS = 64
MOST_VALUES = 256 * 1024
ALIVE = 1


class Differences(NamedTuple):
    """What a restore takes away, brings back and changes, in words."""

    gone: List[str]
    back: List[str]
    changed: List[str]

    @property
    def any(self) -> bool:
        """Whether there is one."""
        return bool(self.gone or self.back or self.changed)


def _value(row: Mapping[str, Any]) -> bytes:
    return base64.b64decode(row.get("Value") or "")


def _pairs(rows: Rows, prefix: str) -> list[tuple[str, bytes]]:
    return [(row["Key"], _value(row)) for row in rows if row["Key"].startswith(LIBNETWORK + prefix)]


def stripped(rows: Rows, prefix: str) -> List[Json]:
    """The rows without the folder that a store's URL may name."""
    start = len(prefix) + 1 if prefix else 0
    return [dict(row, Key=row["Key"][start:]) for row in rows]


def lasting(rows: Rows) -> List[Json]:
    """Those that outlast their maker. An engine that is in the store without its session would stay there for ever."""
    return [
        {"Key": row["Key"], "Value": row.get("Value") or "", "Flags": row.get("Flags", 0)}
        for row in rows
        if not row.get("Session") and not row["Key"].startswith(DISCOVERY) and row["Key"] not in (DISCOVERY[:-1], LOCK)
    ]


def _ipam(record: Mapping[str, Any]) -> List[Json]:
    """Subnets of a network as the user asked for them, with what Docker chose where nothing was asked."""
    wanted = json.loads(record.get("ipamV4Config") or "[]") or []
    chosen = json.loads(record.get("ipamV4Info") or "[]") or []
    rows = []
    for number, info in enumerate(chosen):
        data = json.loads(info.get("IPAMData") or "{}")
        config = wanted[number] if number < len(wanted) else {}
        rows.append(
            {
                "subnet": data.get("Pool", ""),
                "gateway": (data.get("Gateway") or "").partition("/")[0],
                "ip_range": config.get("SubPool", ""),
            }
        )
    return rows


def _options(record: Mapping[str, Any]) -> Json:
    generic = (record.get("generic") or {}).get("com.docker.network.generic")
    return generic if isinstance(generic, dict) else {}


def inventory(rows: Rows) -> List[Json]:
    """The networks as somebody reads them who has to make them by hand, with who was on them."""
    known = {row["id"]: row for row in content.networks(_pairs(rows, "network/"), _pairs(rows, "overlay/network/"))}
    ends = content.endpoints(_pairs(rows, "endpoint/"))
    found = []
    for _key, value in _pairs(rows, "network/"):
        record = json.loads(value) if value else {}
        if record.get("id") not in known:
            continue
        row = known[record["id"]]
        found.append(
            {
                "name": row["name"],
                "id": row["id"],
                "driver": row["driver"],
                "scope": record.get("scope") or record.get("networkScope") or "global",
                "ipam": _ipam(record),
                "vnis": row["vnis"],
                "internal": bool(record.get("internal")),
                "attachable": bool(record.get("attachable")),
                "options": _options(record),
                "labels": record.get("labels") or {},
                "endpoints": [
                    {name: end[name] for name in ("name", "ipv4", "host", "id")}
                    for end in ends
                    if end["network_id"] == row["id"]
                ],
            }
        )
    return sorted(found, key=lambda network: (network["name"], network["id"]))


def networks_alone(networks: Iterable[Mapping[str, Any]]) -> List[Json]:
    """Without what changes with every container."""
    return [{key: value for key, value in row.items() if key not in ("endpoints", "vnis")} for row in networks]


def say_network(row: Mapping[str, Any]) -> str:
    """A network in words."""
    return f"network {row['name']} ({', '.join(pool['subnet'] for pool in row['ipam']) or 'no subnet'})"


def _ends(networks: Iterable[Mapping[str, Any]]) -> Dict[str, str]:
    return {
        end["id"]: f"container {end['name']} of {row['name']} on {end['host']}"
        for row in networks
        for end in row["endpoints"]
    }


def compare_networks(saved: Sequence[Mapping[str, Any]], live: Sequence[Mapping[str, Any]]) -> Differences:
    """What putting the saved ones in place of the living ones means: networks, and who is on them."""
    old, new = ({row["id"]: row for row in rows} for rows in (saved, live))
    old_ends, new_ends = _ends(saved), _ends(live)
    plain_old, plain_new = ({row["id"]: row for row in networks_alone(rows)} for rows in (saved, live))
    both = [key for key in old if key in new]
    return Differences(
        [say_network(new[key]) for key in new if key not in old]
        + [said for key, said in new_ends.items() if key not in old_ends],
        [say_network(old[key]) for key in old if key not in new]
        + [said for key, said in old_ends.items() if key not in new_ends],
        [say_network(old[key]) for key in both if plain_old[key] != plain_new[key]],
    )


def _named(row: Mapping[str, Any]) -> str:
    """A key in words: what Docker wrote there has a name."""
    key = row["Key"]
    try:
        record = json.loads(_value(row))
        name = record["name"] if isinstance(record, dict) else ""
    except (ValueError, KeyError):
        name = ""
    for folder, word in (("network/", "network"), ("endpoint/", "container")):
        if name and key.startswith(LIBNETWORK + folder):
            return f"{word} {name}"
    return f"key {key}"


def compare_rows(saved: Rows, live: Rows) -> Differences:
    """Key by key: what the living store has and the saved one has not, the other way round, and what has another value."""
    # Keys without a value are folders, which an engine makes when it looks into them.
    old, new = ({row["Key"]: row for row in lasting(rows) if row["Value"]} for rows in (saved, live))
    return Differences(
        [_named(new[key]) for key in sorted(new.keys() - old.keys())],
        [_named(old[key]) for key in sorted(old.keys() - new.keys())],
        [_named(old[key]) for key in sorted(old.keys() & new.keys()) if old[key] != new[key]],
    )


def operations(saved: Rows, live: Rows, prefix: str) -> Iterator[Json]:
    """What brings the living keys to the saved ones, each only if nobody has changed it meanwhile; what goes comes last."""
    found = {row["Key"]: row for row in live}
    have = {row["Key"]: row for row in lasting(live)}
    folder = f"{prefix}/" if prefix else ""
    want = {row["Key"]: row for row in lasting(saved) if row["Key"].startswith(DOCKER)}
    for key, row in want.items():
        if have.get(key) != row:
            index = found[key]["ModifyIndex"] if key in found else 0
            yield {"Verb": "cas", "Key": folder + key, "Value": row["Value"], "Flags": row["Flags"], "Index": index}
    for key in sorted(have.keys() - want.keys()):
        yield {"Verb": "delete-cas", "Key": folder + key, "Index": found[key]["ModifyIndex"]}


def batches(steps: Iterable[Mapping[str, Any]]) -> Iterator[List[Json]]:
    """As bodies of transactions that Consul takes."""
    batch: List[Json] = []
    size = 0
    for step in steps:
        more = len(step.get("Value") or "")
        if batch and (len(batch) == MOST_OPERATIONS or size + more > MOST_VALUES):
            yield batch
            batch, size = [], 0
        batch.append({"KV": dict(step)})
        size += more
    if batch:
        yield batch


def strangers(nodes: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]) -> List[str]:
    """Nodes in the catalog that are no living member: those of hosts that are no more, whose names new hosts may have."""
    living = {member["Tags"].get("id") for member in members if member["Status"] == ALIVE}
    return sorted(node["Node"] for node in nodes if node["ID"] not in living)


def registrations(members: Sequence[Mapping[str, Any]], names: Sequence[str]) -> List[Json]:
    """As the leader would register members whose namesakes went, but now: without it no engine on them gets a session for a minute."""
    health = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
    return [
        {
            "Node": member["Name"],
            "ID": member["Tags"]["id"],
            "Address": member["Addr"],
            "Check": dict(health, Node=member["Name"], Output="Agent alive and reachable"),
        }
        for member in members
        if member["Status"] == ALIVE and member["Name"] in names
    ]


def numbers(version: str) -> tuple[int, ...]:
    """1.8.7 of 1.8.7+dfsg1."""
    found = re.match(r"\d+(\.\d+)*", version)
    return tuple(int(part) for part in found.group(0).split(".")) if found else ()


def is_older(version: str, than: str) -> bool:
    """By the first two numbers: Consul changes what a snapshot holds with these alone."""
    return bool(numbers(version)) and numbers(version)[:2] < numbers(than)[:2]
