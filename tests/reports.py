# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports as verify, preflight and doctor write them, of clusters that need not be there: for tests of what is made of them."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Pair = tuple[str, str, str]

NETWORKS = ("frontend", "backend")
# What every field that comes from a host or a container must be shown as.
EVIL = "</style></title><script>alert(1)</script><img src=x onerror=alert(2)>\" onfocus='alert(3)' javascript:alert(4) {{ 7*7 }} &lt;"
LOST: Json = {"ok": False, "address_ok": False, "loss": 1.0, "mtu_ok": False, "kind": "no_answer"}
UNMEASURED: Json = {
    "ok": False,
    "address_ok": None,
    "name_ok": None,
    "mtu_ok": None,
    "loss": None,
    "kind": "host_unreachable",
}
NO_TIMES: Json = {"rtt_ms": dict.fromkeys(("min", "avg", "p50", "p99", "max"))}


def names(number: int) -> list[str]:
    """node1, node2, ..."""
    return [f"node{place}" for place in range(1, number + 1)]


def addresses(hosts: Iterable[str]) -> dict[str, str]:
    return {host: f"10.88.0.{place}" for place, host in enumerate(hosts, 11)}


def pair(network: str, source: str, target: str, average: float = 0.4, **changes: Any) -> Json:
    """A good pair, or what is changed of it."""
    times = {"min": 0.6, "avg": 1.0, "p50": 0.9, "p99": 2.5, "max": 3.0}
    row: Json = {"network": network, "from": source, "to": target, "ok": True, "address_ok": True, "name_ok": True}
    row.update(
        {"mtu_ok": True, "loss": 0.0, "rtt_ms": {key: round(average * value, 3) for key, value in times.items()}}
    )
    row.update({"path_mtu": 1450, "tcp_ok": True, "kind": None, "error": None})
    return {**row, **changes}


def verify(
    hosts: Sequence[str],
    broken: Mapping[Pair, Json] | None = None,
    networks: Sequence[str] = NETWORKS,
    written: float | None = None,
) -> Json:
    """verify.json; averages differ from pair to pair, and are the same every time."""
    rows = [
        pair(
            network,
            source,
            target,
            0.2 + 0.13 * ((3 * one + 7 * other) % 23),
            **(broken or {}).get((network, source, target), {}),
        )
        for network in networks
        for one, source in enumerate(hosts)
        for other, target in enumerate(hosts)
        if source != target
    ]
    summary = {"pairs": len(rows), "failed": sum(not row["ok"] for row in rows), "seconds": 4.2}
    stamp = time.time() - 75 if written is None else written
    return {
        "schema_version": 1,
        "written": stamp,
        "networks": list(networks),
        "pairs": rows,
        "checks": [check("egress", networks[0], host, True) for host in hosts],
        "summary": summary,
    }


def check(kind: str, network: str, host: str, ok: bool | None) -> Json:
    """What verify tried beside the pairs."""
    bad = ok is False
    error = f"{host}: {kind} failed" if bad else None
    row = {"check": kind, "network": network, "from": host, "to": "x", "ok": ok, "kind": kind if bad else None}
    return {**row, "error": error}


def finding(host: str, check: str, level: str, text: str = "", **others: str) -> Json:
    text = text or f"{check} was found on {host}"
    return {"host": host, "id": check, "level": level, "message": text, "evidence": text, "fix": text, **others}


def findings(hosts: Sequence[str], rows: Sequence[Json] = (), written: float | None = None) -> Json:
    """preflight.json or doctor.json."""
    levels = {f"{level}s": sum(row["level"] == level for row in rows) for level in ("error", "warning", "info")}
    known = {"os": "debian 11", "kernel": "5.10.0-33-amd64", "engine": "20.10.5", "consul": "1.8.7"}
    return {
        "schema_version": 1,
        "written": time.time() - 90 if written is None else written,
        "seconds": 2.5,
        "hosts": {host: dict(known) for host in hosts},
        "findings": list(rows),
        "summary": {"hosts": len(hosts), "hosts_read": len(hosts), **levels},
    }


def topology(hosts: Sequence[str], networks: Sequence[str] = NETWORKS) -> Json:
    """What html_report is told of the inventory."""
    return {
        "hosts": list(hosts),
        "store_hosts": list(hosts[:3]),
        "addresses": addresses(hosts),
        "networks": list(networks),
    }


def write(folder: Path, **reports: Json) -> None:
    for name, content in reports.items():
        (folder / f"{name}.json").write_text(json.dumps(content))


def healthy(folder: Path, number: int = 3) -> Json:
    """A cluster in order; returns its topology."""
    hosts = names(number)
    infos = [finding(host, "ip_forward_off", "info") for host in hosts[:2]]
    write(folder, verify=verify(hosts), preflight=findings(hosts, infos), doctor=findings(hosts))
    return topology(hosts)


def broken(folder: Path, number: int = 3) -> Json:
    """One direction is dead, another loses packets, one name is unknown, one host was not there; nothing new from preflight."""
    hosts = names(number)
    first, second, last = hosts[0], hosts[1], hosts[-1]
    rows: dict[Pair, Json] = {
        ("frontend", first, last): {**LOST, **NO_TIMES, "error": f"no packet from {first} arrived at {last}"}
    }
    rows["frontend", second, first] = {"ok": False, "loss": 0.2, "kind": "loss", "error": "2 of 10 packets were lost"}
    rows["backend", second, first] = {
        "ok": False,
        "name_ok": False,
        "kind": "name_failed",
        "error": "a name is unknown",
    }
    rows["frontend", last, first] = dict(NO_TIMES)
    gone = {**UNMEASURED, **NO_TIMES, "error": f"{last}: it was lost during the run"}
    rows.update({("backend", host, last): gone for host in hosts[:-1]})
    rows.update({("backend", last, host): gone for host in hosts[:-1]})
    errors = [
        finding(last, "peers_unit_down", "warning", "the service that adds peers is down"),
        finding(first, "udp_dropped", "error", "udp/4789 is dropped", **{"from": first, "to": last}),
    ]
    old = findings(hosts, [finding(first, "ip_forward_off", "info")], written=time.time() - 3 * 86400)
    write(folder, verify=verify(hosts, rows), preflight=old, doctor=findings(hosts, errors))
    return topology(hosts)
