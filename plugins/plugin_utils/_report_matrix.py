# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The heat map of a network: a cell for each ordered pair of hosts. Pure."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import Json, number
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_words import SIGNS, decimals, one_line
from ansible_collections.multihost.overlay.plugins.plugin_utils._verify_matrix import LETTERS

SHADES = 5
# Up to so many hosts a cell has room for a time.
WIDE = 12
# With more hosts the table is wider than a page, and scrolls by itself.
BROAD = 36
ORDER = ("min", "avg", "p50", "p99", "max")
SAID = frozenset(("network", "from", "to", "ok", "loss", "rtt_ms", "kind", "error"))


def average(row: Mapping[str, Any]) -> float | None:
    """Milliseconds there and back; unknown where no echo came back."""
    times = row.get("rtt_ms")
    return number(times.get("avg")) if isinstance(times, dict) else None


def state_of(row: Mapping[str, Any]) -> str:
    """Where nothing was measured nothing is known, though verify counts the pair as failed."""
    if row.get("ok") is True:
        return "good"
    return "unknown" if row.get("address_ok") is None and row.get("loss") is None else "bad"


def letter_of(row: Mapping[str, Any], state: str) -> str:
    """The terminal's letters; a kind that has none gives its first."""
    if state == "good":
        return SIGNS["good"] if average(row) is not None else "→"
    if state == "unknown":
        return SIGNS["unknown"]
    kind = str(row.get("kind") or "")
    return LETTERS.get(kind) or kind[:1].upper() or SIGNS["bad"]


def times_words(times: Any) -> str:
    """min 0.21, avg 0.30 and whatever else was taken, in milliseconds."""
    if not isinstance(times, dict):
        return "unknown"
    names = [name for name in ORDER if name in times] + sorted(set(times) - set(ORDER))
    known = [(name, number(times[name])) for name in names]
    return ", ".join(f"{name} {decimals(value)}" for name, value in known if value is not None) or "unknown"


def words_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a cell says when one points at it: (what, value)."""
    loss = number(row.get("loss"))
    lines = [
        ("loss", "unknown" if loss is None else f"{100 * loss:g} %"),
        ("rtt in ms", times_words(row.get("rtt_ms"))),
    ]
    # Fields that later versions add are shown as they are.
    lines += [(key.replace("_", " "), one_line(value)) for key, value in row.items() if key not in SAID]
    lines += [(key, str(row[key])) for key in ("kind", "error") if row.get(key)]
    return lines


def scale_of(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """The shortest and the longest average of a network."""
    known = [value for value in map(average, rows) if value is not None and value > 0]
    return (min(known), max(known)) if known else None


def shade_of(value: float | None, scale: tuple[float, float] | None) -> int:
    """0 is the shortest; steps are equal ratios. Times that hardly differ are all short."""
    if value is None or value <= 0 or scale is None or scale[1] < 2 * scale[0]:
        return 0
    place = math.log(value / scale[0]) / math.log(scale[1] / scale[0])
    return max(0, min(SHADES - 1, int(place * SHADES)))


def text_of(row: Mapping[str, Any], letter: str, wide: bool) -> str:
    """Few hosts leave room for times and kinds."""
    value = average(row)
    if not wide:
        return letter
    if row.get("ok") is True:
        return f"{letter} {decimals(value)}" if value is not None else f"{letter} one-way"
    return f"{letter} {row.get('kind') or 'failed'}"


def cell_of(row: Mapping[str, Any], scale: tuple[float, float] | None, wide: bool) -> Json:
    state = state_of(row)
    return {
        "from": row["from"],
        "to": row["to"],
        "state": state,
        "text": text_of(row, letter_of(row, state), wide),
        "shade": shade_of(average(row), scale),
        "words": words_of(row),
    }


def no_row(network: str, source: str, target: str) -> Json:
    """A pair of the inventory that the report does not know, as of a host that came later."""
    return {"network": network, "from": source, "to": target, "error": "verify.json has no such pair"}


def counted(states: Sequence[str]) -> Json:
    return {state: list(states).count(state) for state in SIGNS}


def matrix(network: str, hosts: Sequence[str], rows: Sequence[Json], sampled: bool = False) -> Json:
    """All cells of a network, a list for each sender; None is the host itself, or a pair that is not in the sample."""
    found = {(row["from"], row["to"]): row for row in rows}
    scale, wide = scale_of(rows), len(hosts) <= WIDE
    lines = [
        (
            source,
            [
                None
                if source == target or (sampled and (source, target) not in found)
                else cell_of(found.get((source, target)) or no_row(network, source, target), scale, wide)
                for target in hosts
            ],
        )
        for source in hosts
    ]
    states = [cell["state"] for _source, cells in lines for cell in cells if cell]
    shown = [decimals(value) for value in scale] if scale else []
    size = "wide" if wide else "broad" if len(hosts) > BROAD else "small"
    return {
        "network": network,
        "hosts": list(hosts),
        "lines": lines,
        "counts": counted(states),
        "scale": shown,
        "size": size,
    }


def not_good(rows: Sequence[Json]) -> list[Json]:
    return [row for row in rows if row.get("ok") is not True]


def failures(rows: Sequence[Json]) -> list[Json]:
    """What failed, the bad before the unknown, as lines to be read: one for all pairs of which the same is said, as of a lost host."""
    found: dict[tuple[str, ...], list[str]] = {}
    for row in not_good(rows):
        said = (state_of(row), row["network"], str(row.get("kind") or "failed"), str(row.get("error") or ""))
        found.setdefault(said, []).append(f"{row['from']} → {row['to']}")
    lines = [dict(zip(("state", "network", "kind", "error"), said), paths=paths) for said, paths in found.items()]
    return sorted(lines, key=lambda line: line["state"] != "bad")
