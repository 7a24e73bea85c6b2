# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what Docker's libnetwork wrote into a key-value store. Pure: pairs of key and value in, plain data out."""

from __future__ import annotations

import json
from typing import Any, Iterable, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError

# A key and its raw value, as any store gives them.
Pairs = Iterable["tuple[str, bytes | None]"]


def _decode(key: str, value: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(value)
    except ValueError as exc:
        raise StoreError(f"the store's key {key} does not hold the JSON that Docker writes there: {exc}") from exc
    if not isinstance(parsed, dict):
        raise StoreError(f"the store's key {key} holds {type(parsed).__name__} instead of a JSON object")
    return parsed


def _records(pairs: Pairs) -> dict[str, dict[str, Any]]:
    # libkv ends keys with a slash on Consul and without one elsewhere. Keys without a value are folders that it made.
    return {key.rstrip("/"): _decode(key, value) for key, value in pairs if value}


def _pools(record: dict[str, Any]) -> list[str]:
    """The subnets of a network: JSON in a string inside JSON in a string inside JSON."""
    infos = json.loads(record.get("ipamV4Info") or "[]") or []
    datas = [json.loads(info.get("IPAMData") or "{}") for info in infos]
    return [data["Pool"] for data in datas if data.get("Pool")]


def networks(pairs: Pairs, overlay_pairs: Pairs) -> list[dict[str, Any]]:
    """Every network that is not being removed, sorted by name: id, name, driver, subnets, vnis, mtu.

    ``vnis`` is empty until a container first joins, and ``mtu`` is None where the overlay driver has no record.
    """
    drivers = {key.rsplit("/", 1)[-1]: record for key, record in _records(overlay_pairs).items()}
    result = []
    for record in _records(pairs).values():
        if record.get("inDelete"):
            continue
        driver = drivers.get(record["id"], {})
        vnis = [subnet["Vni"] for subnet in driver.get("subnets") or [] if subnet.get("Vni")]
        result.append(
            {
                "id": record["id"],
                "name": record["name"],
                "driver": record.get("networkType", ""),
                "subnets": _pools(record),
                "vnis": vnis,
                "mtu": driver.get("mtu"),
            }
        )
    return sorted(result, key=lambda network: (network["name"], network["id"]))


def endpoints(pairs: Pairs) -> list[dict[str, Any]]:
    """Every endpoint: id, name, network_id, ipv4 (with its prefix length) and host, the address of its engine."""
    result = []
    for key, record in _records(pairs).items():
        address = (record.get("ep_iface") or {}).get("addr") or ""
        result.append(
            {
                "id": record["id"],
                "name": record.get("name", ""),
                "network_id": key.split("/")[-2],
                "ipv4": address,
                "host": record.get("locator", ""),
            }
        )
    return sorted(result, key=lambda endpoint: (endpoint["network_id"], endpoint["name"], endpoint["id"]))


def same_name(stored: Iterable[dict[str, Any]], name: str) -> list[str]:
    """The ids of all networks called ``name``."""
    return [network["id"] for network in stored if network["name"] == name]


def duplicates(stored: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Names that more than one network has, with their ids."""
    names = {network["name"] for network in stored}
    found = {name: same_name(stored, name) for name in sorted(names)}
    return {name: ids for name, ids in found.items() if len(ids) > 1}


def _is_expected(node: str, expected: Iterable[str]) -> bool:
    # An expectation without a port matches any port: the port is only a label in classic mode.
    return any(node == want or node.rsplit(":", 1)[0] == want for want in expected)


def compare_hosts(nodes: Sequence[str], expected: Sequence[str]) -> tuple[list[str], list[str]]:
    """The expected addresses that are not registered, and the registered ones that nobody expects."""
    missing = [want for want in expected if not any(_is_expected(node, [want]) for node in nodes)]
    ghosts = [node for node in nodes if not _is_expected(node, expected)]
    return missing, ghosts
