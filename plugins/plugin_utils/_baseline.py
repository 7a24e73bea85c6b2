# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A good run of verify, kept, and what a later run has worse. Pure."""

from __future__ import annotations

import json
from typing import Any, Sequence

Json = dict[str, Any]
Key = tuple[str, str, str]

SCHEMA_VERSION = 1
KIND = "multihost.overlay.verify.baseline"
# Healthy paths of a local network differ by some tenths of a millisecond from run to run, which is several times their median.
SLOWER_BY_MS = 1.0
NAMED = 5


def key(row: Json) -> Key:
    """What makes a pair the same in two runs."""
    return row["network"], row["from"], row["to"]


def ends(pair: Key) -> Json:
    """A pair as the reports name it."""
    return dict(zip(("network", "from", "to"), pair))


def _entry(row: Any) -> bool:
    """Whether this is a pair of a baseline."""
    if not isinstance(row, dict) or not all(isinstance(row.get(name), str) for name in ("network", "from", "to")):
        return False
    p50 = row.get("p50")
    return p50 is None or (isinstance(p50, (int, float)) and not isinstance(p50, bool) and p50 >= 0)


def compose(rows: Sequence[Json]) -> Json:
    """The content of a baseline: the pairs of a good run and their medians."""
    pairs = [{**ends(key(row)), "p50": row["rtt_ms"]["p50"]} for row in rows]
    return {"schema_version": SCHEMA_VERSION, "kind": KIND, "pairs": pairs}


def parse(text: str) -> dict[Key, float | None]:
    """The medians of a baseline by pair. ValueError says why it is none."""
    try:
        content = json.loads(text)
    except ValueError as exc:
        raise ValueError(f"it is no JSON ({exc})") from exc
    if not isinstance(content, dict) or content.get("kind") != KIND:
        raise ValueError(f"it is no baseline of verify (its kind is not {KIND})")
    if content.get("schema_version") != SCHEMA_VERSION:
        raise ValueError(f"its schema_version is {content.get('schema_version')!r}, not {SCHEMA_VERSION}")
    pairs = content.get("pairs")
    if not isinstance(pairs, list) or not pairs or not all(map(_entry, pairs)):
        raise ValueError("its pairs are damaged")
    return {key(row): row.get("p50") for row in pairs}


def is_slower(was: float | None, now: float | None, times: float) -> bool:
    """Whether a median is worse by far more than medians vary; of an unknown one nothing is said."""
    return was is not None and now is not None and now > times * was and now - was >= SLOWER_BY_MS


def compare(baseline: dict[Key, float | None], rows: Sequence[Json], times: float) -> Json:
    """What is worse than in the baseline, and which pairs only one of the two has."""
    slower, lost, new = [], [], []
    for row in rows:
        pair, now = key(row), row["rtt_ms"]["p50"]
        if pair not in baseline:
            new.append(ends(pair))
        elif not row["ok"]:
            lost.append({**ends(pair), "kind": row["kind"]})
        elif is_slower(baseline[pair], now, times):
            slower.append({**ends(pair), "was": baseline[pair], "p50": now})
    expected = {key(row) for row in rows}
    gone = [ends(pair) for pair in baseline if pair not in expected]
    return {"slower": slower, "lost": lost, "new": new, "gone": gone}


def _words(pair: Json) -> str:
    """A pair, and what is known of it."""
    times = f": {pair['p50']} ms, was {pair['was']}" if "was" in pair else ""
    kind = f": {pair['kind']}" if "kind" in pair else ""
    return f"{pair['network']}: {pair['from']} -> {pair['to']}{times}{kind}"


def named(pairs: Sequence[Json]) -> list[str]:
    """The first few pairs, and how many more there are."""
    more = [f"and {len(pairs) - NAMED} more"] if len(pairs) > NAMED else []
    return [*map(_words, pairs[:NAMED]), *more]


def slower_words(found: Json) -> str:
    """The warning; a slower pair is a good one all the same."""
    pairs = found["slower"]
    return f"{len(pairs)} pair(s) are slower than in the baseline {found['path']}: {'; '.join(named(pairs))}"


def first_words(path: str, written: bool, why_not: str) -> list[str]:
    """What became of a baseline that was not there."""
    if written:
        return [f"Baseline: this run is kept in {path}; later runs are compared with it."]
    return [f"Baseline: {path} is not written, because {why_not}."]


def compared_words(found: Json) -> list[str]:
    """How this run compares; the slower pairs have a warning of their own."""
    counts = ", ".join(f"{len(found[word])} {word}" for word in ("slower", "lost", "new", "gone"))
    told = [f"   {word}: {text}" for word in ("lost", "new", "gone") for text in named(found[word])]
    return [f"Baseline {found['path']}: {counts}", *told]
