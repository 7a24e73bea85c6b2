# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What report.html shows, from the JSON reports: everything but the markup. Pure.

Three states: good, bad, and unknown, which is whatever was not measured, not read, or not of today.
"""

from __future__ import annotations

from collections import Counter
from typing import Any, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_matrix import (
    counted,
    failures,
    matrix,
    not_good,
    state_of,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import NAMES, Json, Source
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_topology import picture
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_words import (
    SIGNS,
    age_words,
    count,
    moment,
    one_line,
    seconds_words,
)

# So many failures are written out; the cells have them all.
NAMED = 60
KNOWN_OF_HOSTS = ("os", "kernel", "engine", "consul")
LEVEL_SIGNS = {"error": "✗", "warning": "!", "info": "i"}

Sources = Mapping[str, Source]


def judge_checks(source: Source) -> tuple[str, str]:
    """(state, words) of what was tried beside the pairs; no word where all of it is good."""
    failed = sum(row.get("ok") is False for row in source.checks)
    return ("bad", f", {failed} of {count(len(source.checks), 'other check')} failed") if failed else ("good", "")


def judge_verify(source: Source) -> tuple[str, str]:
    """(state, words) of the proof."""
    state, words = judge_pairs(source)
    beside, more = judge_checks(source)
    return ("bad" if "bad" in (state, beside) else state), words + more


def judge_pairs(source: Source) -> tuple[str, str]:
    """(state, words) of the pairs."""
    states = counted([state_of(row) for row in not_good(source.rows)])
    pairs, failed = len(source.rows), states["bad"] + states["unknown"]
    if not pairs:
        return "unknown", "no pair was verified"
    if not failed:
        return "good", f"{'all ' if pairs > 1 else ''}{count(pairs, 'pair')} good"
    if not states["bad"]:
        return "bad", f"{failed} of {count(pairs, 'pair')} could not be measured"
    # What could not be measured has failed too.
    unmeasured = f", {states['unknown']} of them could not be measured" if states["unknown"] else ""
    return "bad", f"{failed} of {count(pairs, 'pair')} failed{unmeasured}"


def judge_findings(source: Source) -> tuple[str, str]:
    """(state, words) of preflight or doctor."""
    levels = Counter(row["level"] for row in source.rows)
    words = ", ".join(count(levels[level], level) for level in LEVELS)
    if levels["error"]:
        return "bad", words
    unread = source.summary.get("hosts") != source.summary.get("hosts_read") or not source.summary.get("hosts")
    return ("unknown", f"{words}, not all hosts were read") if unread else ("good", words)


def judge(source: Source, now: float) -> tuple[str, str]:
    """(state, words) of a report. One that is not of today is not good."""
    if source.state != "read":
        return "unknown", source.problem
    state, words = judge_verify(source) if source.name == "verify" else judge_findings(source)
    if state == "good" and source.is_old(now):
        return "unknown", f"{words}, but that was {age_words(source.age(now))}"
    return state, words


def counts_for_all(source: Source, now: float) -> bool:
    """Without a proof nothing is known. Preflight and doctor may not have been run, or long ago; what is broken is no reason to be calm."""
    return source.name == "verify" or source.state == "broken" or (source.state == "read" and not source.is_old(now))


def verdict(sources: Sequence[Source], now: float, refused: bool) -> Json:
    """One state for the cluster, and why. ``refused`` is whether the last run of verify was, so that its report is of an earlier one."""
    judged = [(source.name, *judge(source, now)) for source in sources if counts_for_all(source, now)]
    judged += [("verify", "unknown", "it was refused just now, and its report is of an earlier run")] if refused else []
    states = [state for _name, state, _words in judged]
    state = next((value for value in ("bad", "unknown") if value in states), "good")
    reasons = [f"{name}: {words}" for name, value, words in judged if value == state]
    title = {"good": "Good", "bad": "Something is broken", "unknown": "Not known to be good"}[state]
    return {"state": state, "sign": SIGNS[state], "title": title, "words": "; ".join(reasons)}


def source_view(source: Source, now: float, longest: float) -> Json:
    """A report's line: state, when, how old, how long it took."""
    state, words = judge(source, now)
    there = source.state == "read"
    return {
        "name": source.name,
        "state": state,
        "sign": SIGNS[state],
        "words": words,
        "when": moment(source.written) if there else "-",
        "age": age_words(source.age(now)) if there else "-",
        "old": there and source.is_old(now),
        "seconds": seconds_words(source.seconds) if there else "-",
        "bar": round(100 * max(0.0, source.seconds or 0.0) / longest) if longest > 0 else 0,
    }


def sources_view(sources: Sequence[Source], now: float) -> list[Json]:
    longest = max([source.seconds or 0.0 for source in sources])
    return [source_view(source, now, longest) for source in sources]


def finding_view(row: Mapping[str, Any]) -> Json:
    """A finding's text; one about a path names both ends."""
    ends = [str(row[key]) for key in ("from", "to") if row.get(key)]
    return {
        "level": row["level"],
        "sign": LEVEL_SIGNS[row["level"]],
        "host": " → ".join(ends) if len(ends) == 2 else row["host"],
        "id": row["id"],
        "message": row["message"],
        "evidence": one_line(row.get("evidence", "")),
        "fix": one_line(row.get("fix", "")),
    }


def findings_view(source: Source, now: float) -> Json:
    """Errors and warnings, and the infos apart."""
    rows = sorted(source.rows, key=lambda row: LEVELS.index(row["level"]))
    shown = [finding_view(row) for row in rows]
    return {
        "name": source.name,
        "problem": source.problem,
        "age": age_words(source.age(now)),
        "grave": [row for row in shown if row["level"] != "info"],
        "infos": [row for row in shown if row["level"] == "info"],
    }


def known_of(host: str, sources: Sequence[Source]) -> Json:
    """What is known of a host, by the latest report that knows it."""
    known: Json = dict.fromkeys(KNOWN_OF_HOSTS)
    for source in sorted(sources, key=lambda each: each.written or 0.0):
        hosts = source.data.get("hosts")
        own = hosts.get(host) if isinstance(hosts, dict) else None
        if isinstance(own, dict):
            known.update({key: str(own[key])[:80] for key in KNOWN_OF_HOSTS if own.get(key)})
    return known


def host_view(host: str, topology: Mapping[str, Any], known: Json, usual: Json) -> Json:
    """A host's line; what differs from most others is marked."""
    roles = [name for name, key in (("store", "store_hosts"), ("Docker", "hosts")) if host in topology[key]]
    cells = [
        {
            "text": known[key] or "unknown",
            "known": bool(known[key]),
            "differs": bool(known[key]) and known[key] != usual[key],
        }
        for key in KNOWN_OF_HOSTS
    ]
    return {
        "name": host,
        "address": str(topology["addresses"].get(host, "")),
        "roles": " and ".join(roles),
        "cells": cells,
    }


def hosts_view(topology: Mapping[str, Any], sources: Sequence[Source]) -> list[Json]:
    names = list(dict.fromkeys([*topology["hosts"], *topology["store_hosts"]]))
    known = {host: known_of(host, sources) for host in names}
    usual: Json = {}
    for key in KNOWN_OF_HOSTS:
        most = Counter(known[host][key] for host in names if known[host][key]).most_common(1)
        usual[key] = most[0][0] if most else None
    return [host_view(host, topology, known[host], usual) for host in names]


def complete(topology: Mapping[str, Any], verify: Source) -> Json:
    """The cluster of the inventory, and what only the proof knows of it."""
    ends = [row[key] for row in verify.rows for key in ("from", "to")]
    networks = [row["network"] for row in verify.rows]
    return dict(
        topology,
        hosts=list(dict.fromkeys([*topology["hosts"], *ends])),
        networks=list(dict.fromkeys([*topology["networks"], *networks])),
    )


def sampled(verify: Source) -> bool:
    """Whether pairs are missing because they were not asked for: a part of them all, or those of some hosts."""
    return bool({"peers", "only"} & set(verify.summary))


def matrices_of(topology: Mapping[str, Any], verify: Source) -> list[Json]:
    """A heat map for each network that was verified, or should have been."""
    if not verify.rows:
        return []
    return [
        matrix(
            network,
            topology["hosts"],
            [row for row in verify.rows if row["network"] == network],
            sampled(verify),
        )
        for network in topology["networks"]
    ]


def checks_view(verify: Source) -> list[Json]:
    """What was tried beside the pairs: failures, then what is not known, then the rest."""
    states = {True: "good", False: "bad"}
    shown = [
        {
            **{key: row[key] for key in ("network", "from", "to")},
            "check": row["check"].replace("_", " "),
            "state": next((state for ok, state in states.items() if row.get("ok") is ok), "unknown"),
            "error": one_line(row["error"]) if row.get("error") else "",
        }
        for row in verify.checks
    ]
    return sorted(
        (dict(row, sign=SIGNS[row["state"]]) for row in shown),
        key=lambda row: ("bad", "unknown", "good").index(row["state"]),
    )


def totals(topology: Mapping[str, Any], sources: Sources) -> list[tuple[str, str]]:
    """The figures at the top: (value, what)."""
    states = counted(states_of_pairs(sources["verify"]))
    levels = Counter(row["level"] for name in ("preflight", "doctor") for row in sources[name].rows)
    hosts = len(set(topology["hosts"]) | set(topology["store_hosts"]))
    figures = [count(hosts, "host"), count(len(topology["networks"]), "network")]
    figures += [f"{count(states[state], 'pair')} {state}" for state in SIGNS]
    known = sources["preflight"].state == "read" or sources["doctor"].state == "read"
    figures += [count(levels[level], level) if known else f"? {level}s" for level in LEVELS[:2]]
    return [(value, what) for value, _blank, what in (figure.partition(" ") for figure in figures)]


def states_of_pairs(verify: Source) -> list[str]:
    return [state_of(row) for row in verify.rows]


def view(sources: Sources, topology: Mapping[str, Any], now: float, refused: bool = False) -> Json:
    """Everything that the template shows."""
    ordered = [sources[name] for name in NAMES]
    whole = complete(topology, sources["verify"])
    failed = failures(sources["verify"].rows)
    return {
        "made": moment(now),
        "verdict": verdict(ordered, now, refused),
        "totals": totals(whole, sources),
        "sources": sources_view(ordered, now),
        "no_proof": "" if sources["verify"].rows else sources["verify"].problem or "verify.json has no pair",
        "matrices": matrices_of(whole, sources["verify"]),
        "failed": failed[:NAMED],
        "more_failed": max(0, len(failed) - NAMED),
        "failed_pairs": len(not_good(sources["verify"].rows)),
        "checks": checks_view(sources["verify"]),
        "sampled": sampled(sources["verify"]),
        "picture": picture(whole, sources["verify"].rows),
        "findings": [findings_view(sources[name], now) for name in ("preflight", "doctor")],
        "hosts": hosts_view(whole, ordered),
    }
