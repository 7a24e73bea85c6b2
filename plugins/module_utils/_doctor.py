# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One examination of a host: look, judge, and look again before blaming what may have been under way."""

from __future__ import annotations

import time
from typing import Any, Callable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan import CHECKS_OF_A_HOST
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_spaces import (
    CHECKS_OF_SPACES,
    ENTRIES,
    shortened,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_store import (
    CHECKS_OF_A_STORE,
    STORE_CHECKS_OF_A_HOST,
    had,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import plan

# What a container that starts or stops just now looks like for a moment.
FLEETING = frozenset(
    (
        *ENTRIES,
        "address_twice",
        "container_without_endpoint",
        "dns_rules_gone",
        "engine_unregistered",
        "gossip_silent",
        "leaked_address",
        "leftover_namespace",
        "lost_threads",
        "network_lost",
        "network_unseen",
        "orphan_endpoint",
        "stale_endpoint_count",
        "static_address_taken",
        "store_leaderless",
        "store_silent",
        "tunnel_differs",
        "tunnel_missing",
    )
)
PAUSE = 3.0
# multihost-overlay-peers puts the tables of an overlay right within ten seconds.
LONG_PAUSE = 12.0
AWAITED = frozenset(ENTRIES) - {"entry_of_nobody"}

Observed = Mapping[str, Any]
Findings = "list[dict[str, str]]"


def decide(check: Callable[..., Any], *arguments: Any) -> list[dict[str, str]]:
    """A check that stumbles over a strange host is a finding too, never a crash."""
    try:
        return list(check(*arguments))
    except Exception as exc:
        return [found("unexamined", f"{check.__name__} could not be decided", f"{type(exc).__name__}: {exc}")]


def judge_host(observed: Observed, wanted: Observed) -> list[dict[str, str]]:
    """All findings of this host."""
    checks = (*CHECKS_OF_A_HOST, *STORE_CHECKS_OF_A_HOST, *CHECKS_OF_SPACES)
    findings = [row for check in checks for row in decide(check, observed, wanted)]
    return findings + [
        found("unexamined", f"{entry['what']} could not be read", entry["error"]) for entry in observed["unreadable"]
    ]


def judge_store(observed: Observed) -> list[dict[str, str]]:
    """What is wrong within the store, whoever reads it."""
    if observed["store"].get("state") != "ok":
        return []
    return [row for check in CHECKS_OF_A_STORE for row in decide(check, observed["store"])]


def key(row: Mapping[str, str]) -> tuple[str, str]:
    """What makes two findings the same. A number of threads or addresses may grow meanwhile."""
    return row["id"], "" if row["id"] in ("lost_threads", "leaked_address") else row["message"]


def lasting(first: list[dict[str, str]], second: list[dict[str, str]]) -> list[dict[str, str]]:
    """The findings of the second look, without the fleeting ones that the first one had not."""
    before = {key(row) for row in first}
    return [row for row in second if row["id"] not in FLEETING or key(row) in before]


def facts(observed: Observed) -> dict[str, Any]:
    """What the comparison of hosts needs of this one."""
    engine, store = observed["engine"], observed["store"]
    info = engine["info"]
    return {
        "hostname": observed["hostname"],
        "machine_id": observed["machine_id"],
        # For the report alone.
        "distribution": observed.get("distribution"),
        "kernel": observed.get("kernel"),
        "consul_version": observed.get("consul_version"),
        "addresses": [entry["address"] for entry in observed["addresses"] or []],
        "engine": {
            "id": str(info.get("ID") or engine["stored_id"]),
            "answers": engine["answers"],
            "version": str(info.get("ServerVersion", "")),
            "store": str(info.get("ClusterStore") or ""),
            "advertise": str(info.get("ClusterAdvertise") or ""),
        },
        "had": had(observed),
        "complete": observed["complete"],
        "store": {
            name: store[name] for name in ("url", "state", "leader", "nodes", "networks", "endpoints") if name in store
        },
    }


def doctor(
    look: Callable[[], dict[str, Any]], wanted: Observed, sleep: Callable[[float], None] = time.sleep
) -> dict[str, Any]:
    """Examine, and again after a moment if something fleeting was seen."""
    observed = look()
    rows, stored = judge_host(observed, wanted), judge_store(observed)
    seen = {row["id"] for row in [*rows, *stored]}
    if seen & FLEETING:
        sleep(LONG_PAUSE if seen & AWAITED else PAUSE)
        observed = look()
        rows = lasting(rows, judge_host(observed, wanted))
        stored = lasting(stored, judge_store(observed))
    return {
        "findings": shortened(rows),
        "store_findings": stored,
        "facts": facts(observed),
        "repairs": plan(observed, rows),
    }
