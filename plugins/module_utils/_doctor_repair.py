# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of the doctor's findings can be put right without asking, and how. Pure: decides, and changes nothing.

Safe is what nobody can miss: an endpoint of this host that no container has, a namespace that no container and no network in use
has, a tunnel that lies outside its namespace. All else needs somebody who knows what the hosts are for.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import struct
from typing import Any, Iterable, List, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan import networks_here
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_store import (
    COUNT_KEY,
    ENDPOINT_KEY,
    names_of,
    readable,
)
from ansible_collections.multihost.overlay.plugins.module_utils._store import LIBNETWORK

ENDPOINT, NAMESPACE, TUNNEL = "endpoint", "namespace", "tunnel"
# Which finding names what, and in which of its fields.
KINDS = {"orphan_endpoint": ENDPOINT, "leftover_namespace": NAMESPACE, "leftover_vxlan": TUNNEL}
# What a step consists of: the same step is the same of all of these.
FIELDS = ("kind", "thing", "network_id", "network", "name", "address")

Observed = Mapping[str, Any]
# {kind, thing, network_id, network, name, address}; the last four of an endpoint only.
Step = Mapping[str, str]


def step(kind: str, thing: str, **more: str) -> dict[str, str]:
    return {**dict.fromkeys(FIELDS, ""), "kind": kind, "thing": thing, **more}


def endpoint_step(observed: Observed, endpoint: str) -> Iterable[dict[str, str]]:
    """An endpoint to be taken out of the store."""
    names = names_of(observed["store"])
    for row in observed["store"]["endpoints"]:
        if row["id"] == endpoint and not is_forgotten(observed, row):
            network = row["network_id"]
            more = {"network_id": network, "network": names.get(network, network)}
            yield step(ENDPOINT, endpoint, name=row["name"], address=row["ipv4"], **more)


def is_forgotten(observed: Observed, endpoint: Mapping[str, str]) -> bool:
    """Whether a running container of this name is on the network, of whose endpoint the engine knows nothing: it may well be this one."""
    return any(
        container["running"] and container["name"] == endpoint["name"] and entry["id"] == endpoint["network_id"]
        for container in observed["containers"]
        for entry in container["networks"].values()
    )


def is_tunnel_in_use(observed: Observed, tunnel: str) -> bool:
    """Whether a running container here is on the network that a tunnel's name speaks of: vx-VNI-BEGINNING_OF_ID."""
    _vx, vni, beginning = tunnel.split("-", 2)
    living = networks_here(observed)
    numbers = {number for row in observed["store"]["networks"] if row["id"] in living for number in row["vnis"]}
    return int(vni, 16) in numbers or any(network.startswith(beginning) for network in living)


def plan(observed: Observed, findings: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """The steps that these findings of this host call for. None if its engine, its store or one of its containers cannot be read."""
    if not readable(observed) or not observed["complete"]:
        return []
    steps: List[dict[str, str]] = []
    for row in findings:
        kind, thing = KINDS.get(row["id"]), row.get("thing", "")
        if kind == ENDPOINT:
            steps += endpoint_step(observed, thing)
        elif kind == NAMESPACE or (kind == TUNNEL and not is_tunnel_in_use(observed, thing)):
            steps.append(step(kind, thing))
    return steps


def still_due(wanted: Sequence[Step], fresh: Sequence[Step]) -> list[Step]:
    """Of the steps that were shown, those that a new look calls for too."""
    return [one for one in wanted if {name: one.get(name, "") for name in FIELDS} in fresh]


def refusal(results: Mapping[str, Mapping[str, Any]]) -> str:
    """Why nothing may be repaired: "on no host" can be said of a container only if all hosts have been read."""
    unread = [host for host, result in results.items() if not result.get("facts")]
    if unread:
        return f"{', '.join(unread)} could not be examined, or was left out by --limit"
    blind = [
        host
        for host, result in results.items()
        if not result["facts"]["engine"]["answers"] or result["facts"]["store"].get("state") != "ok"
    ]
    if blind:
        return f"the engine or the store of {', '.join(blind)} does not answer"
    partly = [host for host, result in results.items() if not result["facts"]["complete"]]
    if partly:
        return f"not all containers of {', '.join(partly)} could be read: unexamined says why"
    # Entries come and go while hosts are read one after another; but one store has some in common.
    nodes = [set(result["facts"]["store"]["nodes"]) for result in results.values()]
    return "" if set.intersection(*nodes) else "the hosts have different stores"


def permitted(host: str, results: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """The steps of a host, less those for an endpoint that a container of any host has."""
    had = {endpoint for result in results.values() for endpoint in result["facts"]["had"]}
    return [one for one in results[host].get("repairs", []) if one["kind"] != ENDPOINT or one["thing"] not in had]


def say(one: Step) -> str:
    """A step in words."""
    if one["kind"] == ENDPOINT:
        address = one["address"] or "without an address"
        return f"remove the endpoint {one['name']} ({address}) of network {one['network']} from the store"
    if one["kind"] == NAMESPACE:
        return f"remove the namespace /run/docker/netns/{one['thing']}"
    return f"delete the tunnel {one['thing']} of the host's own namespace"


def can_disconnect(one: Step, observed: Observed) -> bool:
    """Whether Docker's own way is safe: it goes by the name, which must be nobody else's, nor the beginning of a container's id."""
    same = [
        row
        for row in observed["store"]["endpoints"]
        if row["network_id"] == one["network_id"] and row["name"] == one["name"]
    ]
    here = any(one["name"] in (row["name"], row["id"][: len(one["name"])]) for row in observed["containers"])
    known = observed["known"].get(one["network_id"]) == "overlay"
    return known and len(same) == 1 and bool(one["name"]) and not here


def endpoint_key(one: Step) -> str:
    return ENDPOINT_KEY.format(network=one["network_id"], endpoint=one["thing"])


def count_key(one: Step) -> str:
    return COUNT_KEY.format(network=one["network_id"])


def touched(steps: Iterable[Step], observed: Observed) -> list[str]:
    """The keys, or what they begin with, that Docker or a deletion changes with these steps."""
    found = set()
    subnets = {row["id"]: row["subnets"] for row in observed["store"]["networks"]}
    for one in steps:
        if one["kind"] == ENDPOINT:
            found |= {endpoint_key(one), count_key(one)}
            found |= {
                f"{LIBNETWORK}ipam/default/data/GlobalDefault/{text}/" for text in subnets.get(one["network_id"], [])
            }
    return sorted(found)


def exported(pairs: Iterable[Mapping[str, Any]]) -> str:
    """Keys as `consul kv import` takes them."""
    rows = [{"key": row["Key"], "flags": row.get("Flags", 0), "value": row.get("Value") or ""} for row in pairs]
    return json.dumps(rows, indent=1) + "\n"


def deletion(key: str, endpoint: Mapping[str, Any], count: Mapping[str, Any] | None) -> list[dict[str, Any]]:
    """A transaction of Consul's: the endpoint goes and the count with it, or neither if one of them has changed meanwhile."""
    operations = [{"KV": {"Verb": "delete-cas", "Key": key, "Index": endpoint["ModifyIndex"]}}]
    if count is None:
        return operations
    try:
        record = json.loads(base64.b64decode(count.get("Value") or ""))
        record["Count"] = max(int(record["Count"]) - 1, 0)
    except (ValueError, KeyError, TypeError):
        return operations
    value = base64.b64encode(json.dumps(record).encode()).decode()
    put = {"Verb": "cas", "Key": count["Key"], "Value": value, "Flags": count.get("Flags", 0)}
    return [*operations, {"KV": {**put, "Index": count["ModifyIndex"]}}]


def cleared(sequence: bytes, bit: int) -> bytes:
    """libnetwork's bit sequence without one bit: two numbers (all bits, and free ones), then blocks with the number of their repeats."""
    bits, free = struct.unpack(">QQ", sequence[:16])
    blocks = [struct.unpack(">IQ", sequence[at : at + 12]) for at in range(16, len(sequence) - 11, 12)]
    target, position, runs, found = bit // 32, 0, [], False
    for block, count in blocks:
        before = target - position
        if 0 <= before < count and block & (mask := 1 << (31 - bit % 32)):
            found = True
            runs += [(block, before), (block & ~mask, 1), (block, count - before - 1)]
        else:
            runs.append((block, count))
        position += count
    merged: List[List[int]] = []
    for block, count in runs:
        if merged and merged[-1][0] == block:
            merged[-1][1] += count
        elif count:
            merged.append([block, count])
    return struct.pack(">QQ", bits, free + found) + b"".join(struct.pack(">IQ", *run) for run in merged)


def pool_keys(one: Step, observed: Observed) -> list[tuple[str, int]]:
    """Where Docker holds the address of an endpoint for given out: what the key begins with, and which bit. Not if another has it too."""
    same = [row for row in observed["store"]["endpoints"] if row["network_id"] == one["network_id"]]
    try:
        address = ipaddress.IPv4Interface(one["address"]).ip
    except ValueError:
        return []
    if [row["ipv4"] for row in same].count(one["address"]) > 1:
        return []
    subnets = [
        text for row in observed["store"]["networks"] if row["id"] == one["network_id"] for text in row["subnets"]
    ]
    return [
        (f"{LIBNETWORK}ipam/default/data/GlobalDefault/{text}/", int(address) - int(network.network_address))
        for text, network in ((text, ipaddress.IPv4Network(text)) for text in subnets if ":" not in text)
        if address in network
    ]


def release(pair: Mapping[str, Any], bit: int) -> list[dict[str, Any]]:
    """The operation that gives an address back; none where the key does not hold what libnetwork writes."""
    try:
        record = json.loads(base64.b64decode(pair.get("Value") or ""))
        record["sequence"] = base64.b64encode(cleared(base64.b64decode(record["sequence"]), bit)).decode()
    except (ValueError, KeyError, TypeError, struct.error):
        return []
    value = base64.b64encode(json.dumps(record).encode()).decode()
    put = {"Verb": "cas", "Key": pair["Key"], "Value": value, "Flags": pair.get("Flags", 0)}
    return [{"KV": {**put, "Index": pair["ModifyIndex"]}}]
