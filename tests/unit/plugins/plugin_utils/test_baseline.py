# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run of verify is compared with."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _baseline as baseline


def row(source: str, target: str, p50: float | None = 0.2, kind: str | None = None) -> Any:
    return {"network": "net", "from": source, "to": target, "ok": kind is None, "kind": kind, "rtt_ms": {"p50": p50}}


def test_what_is_written_can_be_read() -> None:
    rows = [row("a", "b", 0.25), row("b", "a", None)]
    text = json.dumps(baseline.compose(rows))
    assert baseline.parse(text) == {("net", "a", "b"): 0.25, ("net", "b", "a"): None}


GOOD = baseline.compose([row("a", "b")])

WRONG_TIMES: tuple[Any, ...] = ("1", -1, True, [])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "no JSON"),
        (json.dumps(GOOD)[:-3], "no JSON"),
        ([GOOD], "no baseline of verify"),
        ({"schema_version": 1, "pairs": GOOD["pairs"], "networks": [], "summary": {}}, "no baseline of verify"),
        ({**GOOD, "schema_version": 2}, "schema_version is 2, not 1"),
        ({**GOOD, "pairs": []}, "damaged"),
        ({**GOOD, "pairs": None}, "damaged"),
        ({**GOOD, "pairs": ["a"]}, "damaged"),
        ({**GOOD, "pairs": [{"network": "net", "from": "a", "p50": 1}]}, "damaged"),
        *(({**GOOD, "pairs": [{**GOOD["pairs"][0], "p50": wrong}]}, "damaged") for wrong in WRONG_TIMES),
    ],
)
def test_what_is_no_baseline_is_refused_with_the_reason(content: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        baseline.parse(content if isinstance(content, str) else json.dumps(content))


@pytest.mark.parametrize(
    ("was", "now", "slower"),
    [
        (0.2, 1.2, True),
        (0.2, 1.19, False),  # six times, but less than a millisecond more
        (10.0, 30.0, False),  # not more than three times
        (10.0, 30.1, True),
        (0.0, 1.0, True),
        (None, 50.0, False),
        (0.2, None, False),
        (50.0, 0.2, False),
    ],
)
def test_slower_is_by_a_factor_and_by_a_millisecond(was: float | None, now: float | None, slower: bool) -> None:
    assert baseline.is_slower(was, now, 3.0) is slower


def test_every_pair_is_in_one_list_at_most() -> None:
    old = baseline.parse(json.dumps(baseline.compose([row("a", "b"), row("b", "a"), row("a", "c"), row("c", "a")])))
    now = [row("a", "b", 9.0), row("b", "a", 9.0, "loss"), row("a", "c"), row("a", "d"), row("d", "a", None, "mtu")]
    found = baseline.compare(old, now, 3.0)
    assert {name: [(one["from"], one["to"]) for one in rows] for name, rows in found.items()} == {
        "slower": [("a", "b")],
        "lost": [("b", "a")],
        "new": [("a", "d"), ("d", "a")],
        "gone": [("c", "a")],
    }
    assert found["slower"][0] == {"network": "net", "from": "a", "to": "b", "was": 0.2, "p50": 9.0}
    assert found["lost"][0]["kind"] == "loss"


def test_only_a_few_pairs_are_named() -> None:
    new = [baseline.ends(("net", "a", f"b{place}")) for place in range(9)]
    words = baseline.compared_words({"path": "/p", "slower": [], "lost": [], "gone": [], "new": new})
    assert words[0] == "Baseline /p: 0 slower, 0 lost, 9 new, 0 gone"
    assert words[1:] == [*(f"   new: net: a -> b{place}" for place in range(5)), "   new: and 4 more"]
