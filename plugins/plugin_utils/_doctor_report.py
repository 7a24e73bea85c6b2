# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a running cluster only shows when all hosts are looked at together. Pure; runs on the controller."""

from __future__ import annotations

from collections import Counter
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_store import names_of, remove_endpoint
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import say
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import by_severity
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import (
    Results,
    check_identities,
    judge_result,
    said,
)

# Stands for the cluster's store where a finding belongs to no host.
STORE = "(store)"

Facts = Mapping[str, Mapping[str, Any]]
Rows = Iterable["tuple[str, dict[str, str]]"]


def facts_of(results: Results) -> dict[str, Mapping[str, Any]]:
    """The facts of the hosts that were read."""
    return {host: result["facts"] for host, result in results.items() if result.get("facts")}


def usual_store(facts: Facts) -> str:
    """The store that most engines have; of several equally frequent ones the first."""
    urls = Counter(fact["engine"]["store"] for fact in facts.values() if fact["engine"]["store"])
    return urls.most_common(1)[0][0] if urls else ""


def is_same_store(fact: Mapping[str, Any], usual: Mapping[str, Any]) -> bool:
    """Whether another URL leads to the same store, as a server's own does where others ask it from afar: it has the same engines."""
    store, engine = fact["store"], fact["engine"]
    nodes = store.get("nodes", []) if store.get("url") == engine["store"] else []
    return engine["advertise"] in nodes and set(nodes) == set(usual.get("nodes", []))


def check_stores(facts: Facts) -> Rows:
    """All engines have one store."""
    usual = usual_store(facts)
    others = {host: fact["engine"]["store"] for host, fact in facts.items() if fact["engine"]["answers"]}
    having = ", ".join(host for host, url in others.items() if url == usual)
    for host, url in others.items():
        if usual and not url:
            yield (
                host,
                found(
                    "store_missing", f"the engine has no store, and {having} use {usual}", "no Cluster Store in /info"
                ),
            )
        elif url != usual and not is_same_store(facts[host], stores(facts)):
            yield (
                host,
                found(
                    "store_differs", f"the engine's store is {url}, and {having} use {usual}", f"Cluster Store {url}"
                ),
            )


def stores(facts: Facts) -> Mapping[str, Any]:
    """What one of the hosts with the usual store read there; empty if none could."""
    usual = usual_store(facts)
    read = [fact["store"] for fact in facts.values() if fact["store"].get("state") == "ok"]
    return next((store for store in read if usual and store["url"] == usual), {})


def is_ghost(node: str, facts: Facts, addresses: Mapping[str, str]) -> bool:
    """Whether no engine is behind an entry. Of a host that could not be read, or whose engine is down, nothing is said."""
    address = node.rpartition(":")[0]
    for host, fact in facts.items():
        if fact["engine"]["advertise"] == node:
            return False
        if address in fact["addresses"]:
            return bool(fact["engine"]["answers"])
        if addresses.get(host) == address and not fact["engine"]["answers"]:
            return False
    unread = {value for host, value in addresses.items() if host not in facts}
    return address not in unread


def check_ghosts(facts: Facts, addresses: Mapping[str, str]) -> Rows:
    for node in stores(facts).get("nodes", []):
        if is_ghost(node, facts, addresses):
            text = f"{node} is registered in the store, and no engine of the inventory is there"
            fix = f"wait for a minute (discovery.ttl); if it stays: consul kv delete docker/nodes/{node}"
            yield STORE, found("ghost_host", text, f"docker/nodes/{node}", fix)


def check_endpoints(facts: Facts, addresses: Mapping[str, str]) -> Rows:
    """Endpoints whose host is nobody's. Those of known hosts are judged there."""
    store = stores(facts)
    known = set(addresses.values()) | {address for fact in facts.values() for address in fact["addresses"]}
    known |= {fact["engine"]["advertise"].rpartition(":")[0] for fact in facts.values()}
    names = names_of(store) if store else {}
    for row in store.get("endpoints", []):
        if row["host"] and row["host"] not in known:
            network = names.get(row["network_id"], row["network_id"])
            text = f"the endpoint {row['name']} on network {network} belongs to {row['host']}, which is no host of the inventory"
            evidence = f"endpoint {row['id']}, address {row['ipv4'] or '-'}"
            yield (
                STORE,
                found(
                    "endpoint_of_nobody",
                    text,
                    evidence,
                    f"if that host is gone for good, on one without a container {row['name']}: {remove_endpoint(network, row)}",
                ),
            )


def store_rows(results: Results, facts: Facts) -> Rows:
    """What is wrong within the usual store, once, whoever read it."""
    usual, seen = usual_store(facts), set()
    for host, result in results.items():
        if host not in facts or facts[host]["engine"]["store"] != usual:
            continue
        for row in result.get("store_findings", []):
            if (row["id"], row["message"]) not in seen:
                seen.add((row["id"], row["message"]))
                yield STORE, dict(row)


def is_unreachable_anyway(row: Mapping[str, Any], facts: Facts, rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the endpoint's engine does not answer, or no container has the endpoint: then nobody misses a way to it."""
    living = {fact["engine"]["advertise"].rpartition(":")[0] for fact in facts.values() if fact["engine"]["answers"]}
    orphans = {other.get("thing") for other in rows if other["id"] == "orphan_endpoint"}
    return row.get("vtep") not in living or row.get("endpoint") in orphans


def explained(row: Mapping[str, str], facts: Facts, rows: Sequence[Mapping[str, str]]) -> bool:
    """Whether another finding names the cause of this one: an engine that is down or elsewhere, or two hosts of one name."""
    twice = {other["host"] for other in rows if other["id"] == "hostname_duplicate"}
    if row["id"] == "journal_name_taken":
        return bool(twice)
    if row["id"] in ("fdb_missing", "neighbour_missing"):
        return is_unreachable_anyway(row, facts, rows)
    # All members vote on a name that is there twice, and who loses leaves the gossip (serf's resolution of conflicts; seen).
    if row["id"] == "gossip_silent":
        return row["host"] in twice
    if row["id"] != "journal_peer_suspect":
        return False
    engines = {fact["hostname"]: fact["engine"] for fact in facts.values() if fact["engine"]["answers"]}
    usual = usual_store(facts)
    well = {name for name, engine in engines.items() if engine["advertise"] and engine["store"] == usual}
    return bool(twice) or row.get("peer") not in well


def refused(repairs: Results) -> list[dict[str, str]]:
    """The findings that say why nothing was repaired: all hosts give the same reason, unless one could not do it."""
    reasons = sorted({str(result["refused"]) for result in repairs.values() if result.get("refused")})
    text = "nothing was repaired on any host"
    rows = [dict(found("repair_refused", text, reasons), host=STORE)] if reasons else []
    return rows + [
        dict(found("doctor_failed", f"the repair of {host} failed", said(result)), host=host)
        for host, result in repairs.items()
        if "steps" not in result
    ]


def repaired(repairs: Results) -> list[dict[str, Any]]:
    """What was done on all hosts, and what was not and why."""
    return [
        {"host": host, **one, "backup": result.get("backup", "")}
        for host, result in repairs.items()
        for one in result.get("steps", [])
    ]


def repair_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The same for the terminal, with the way back."""
    rows = list(rows)
    lines = []
    for row in rows:
        state = "done" if row["done"] else row["error"] or "not done: check mode"
        lines.append(f"repair: {row['host']}: {say(row)}: {state}")
    kept = sorted({(row["host"], row["backup"]) for row in rows if row["backup"]})
    return lines + [f"repair: {host}: the keys as they were: consul kv import @{path}" for host, path in kept]


def all_findings(results: Results, addresses: Mapping[str, str], skip_unreachable: bool) -> list[dict[str, str]]:
    """Each host's own findings and those across hosts, errors first, then in the order of the hosts."""
    rows = []
    for host, result in results.items():
        for row in judge_result(host, result, skip_unreachable):
            if row["id"] == "preflight_failed":
                row = found("doctor_failed", row["message"], row["evidence"])
            rows.append(dict(row, host=host))
    facts = facts_of(results)
    across: Sequence[tuple[str, dict[str, str]]] = [
        *check_identities(facts),
        *check_stores(facts),
        *check_ghosts(facts, addresses),
        *check_endpoints(facts, addresses),
        *store_rows(results, facts),
    ]
    rows += [dict(row, host=host) for host, row in across]
    return by_severity([row for row in rows if not explained(row, facts, rows)], [*results, STORE])
