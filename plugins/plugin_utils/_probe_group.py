# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings about many paths that say the same are said once. Runs on the controller. No I/O."""

from __future__ import annotations

import re

Finding = dict[str, str]


def _merged(rows: list[Finding], message: str, **ends: str) -> Finding:
    """One finding for several that say the same."""
    evidence = f"{len(rows)} directions; {rows[0]['message'].split(':')[0]}: {rows[0]['evidence']}"
    return dict(rows[0], message=message, evidence=evidence, **ends)


def _by(rows: list[Finding], key: str) -> dict[str, list[Finding]]:
    found_by: dict[str, list[Finding]] = {}
    for row in rows:
        found_by.setdefault(row[key], []).append(row)
    return found_by


def group(rows: list[Finding], hosts: list[str]) -> list[Finding]:
    """Say once what fails between all hosts, to one host from all others, or from one host to all others."""
    peers = len(hosts) - 1
    kept = []
    for same in _by([dict(row, same=row["id"] + _port(row)) for row in rows], "same").values():
        if peers > 1 and len(same) == peers * len(hosts):
            kept.append(
                _merged(same, f"between all hosts: {_plain(same[0])}", **{"from": "*", "to": "*", "host": hosts[0]})
            )
            continue
        for target, to_one in _by(same, "to").items():
            if peers > 1 and len(to_one) == peers:
                names = ", ".join(row["from"] for row in to_one)
                kept.append(_merged(to_one, f"all peers -> {target}: {to_one[0]['about']}", **{"from": names}))
                same = [row for row in same if row["to"] != target]
        for source, from_one in _by(same, "from").items():
            if peers > 1 and len(from_one) == peers:
                names = ", ".join(row["to"] for row in from_one)
                words = f"{source} -> all peers: {_plain(from_one[0])}"
                kept.append(_merged(from_one, words, to=names, host=source))
            else:
                kept += from_one
    return [{key: value for key, value in row.items() if key not in ("about", "same")} for row in kept]


def _port(row: Finding) -> str:
    """The port that a finding is about, so that only findings of one port are put together."""
    return "".join(re.findall(r"\b\d+/(?:tcp|udp)\b", row["about"]))


def _plain(row: Finding) -> str:
    """What it says, without the one host that another of the same would not name."""
    return row["about"].replace(f"a firewall of {row['to']}", "a firewall").replace(f" of {row['to']}", "")
