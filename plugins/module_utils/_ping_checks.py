# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What verify tells beside the pairs of hosts: ways out of the overlay, networks that are apart, containers on one host. No I/O."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_report import Books

Json = Dict[str, Any]


def _check(kind: str, network: str, source: str, target: str, ok: bool | None, words: str) -> Json:
    """``target`` is what was tried: peers' underlay addresses, another network, another container."""
    bad = ok is False
    return {
        "check": kind,
        "network": network,
        "from": source,
        "to": target,
        "ok": ok,
        "kind": kind if bad else None,
        "error": words if bad else None,
    }


def _asides(books: Books, network: str, host: str, kind: str) -> List[Json]:
    measured = books.measured(host).get(network) or {}
    return [
        aside for aside in measured.get("asides", []) if aside["check"] == kind and (aside["sent"] or aside["error"])
    ]


def _egress(books: Books, network: str, host: str) -> Iterator[Json]:
    """One answer from outside is enough, or one packet that a peer saw come in, where peers do not answer pings."""
    tried = _asides(books, network, host, "egress")
    if not tried:
        return
    seen = any([network, host] in (result.get("egress") or []) for result in books.collected.values())
    answered = seen or any(aside["replied"] for aside in tried)
    # Of hosts that are lost themselves no answer is to be had.
    ok = answered or (False if any(not books.lost[aside["to"]] for aside in tried) else None)
    peers = ", ".join(aside["to"] for aside in tried)
    why = next((f": {aside['error']}" for aside in tried if aside["error"]), "")
    words = (
        f"{host}: a container on {network} does not get out: no packet of its came to {peers}{why}; look at docker_gwbridge, at "
        "net.ipv4.ip_forward and at Docker's MASQUERADE rules (iptables -t nat -S POSTROUTING)"
    )
    yield _check("egress", network, host, peers, ok, words)


def _isolation(books: Books, network: str, host: str) -> Iterator[Json]:
    """Known by whom it reached, who stays until all is tried if the two have met on some network: else it proves nothing."""
    for other in sorted({aside["to"] for aside in _asides(books, network, host, "isolation")}):
        number = books.plan["networks"].index(other)
        target = books.hosts[books.plan["apart"][number]]
        there = books.measured(target).get(other) or {}
        met = any(books.book(name, target, host).get("heard", {}).get("any") for name in books.plan["networks"])
        ok = False if [network, host] in there.get("leaks", []) else (True if met else None)
        words = f"a container on {network} at {host} reaches one at {target} that is on {other} alone: the two networks are not apart"
        yield _check("isolation", network, host, other, ok, words)


def _same_host(books: Books, network: str, host: str) -> Iterator[Json]:
    for aside in _asides(books, network, host, "same_host"):
        words = f"{host}: no answer from container {aside['to']} on the same host and network"
        yield _check("same_host", network, host, aside["to"], aside["replied"] > 0, words)


def make_checks(books: Books) -> List[Json]:
    """One row for each thing that was tried. Of a host that could not measure there is none: its pairs have failed."""
    return [
        row
        for network in books.plan["networks"]
        for host in books.hosts
        for check in (_egress, _isolation, _same_host)
        for row in check(books, network, host)
    ]


def merge_checks(rounds: List[List[Json]]) -> List[Json]:
    """The first failure of each, else what the last round that has it says."""
    merged: Dict[tuple[str, ...], Json] = {}
    for row in [row for rows in rounds for row in rows]:
        key = (row["network"], row["from"], row["check"], row["to"])
        if merged.get(key, {}).get("ok") is not False:
            merged[key] = row
    return list(merged.values())
