# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reports are read with suspicion: what is missing, broken, strange or old is said, and never taken for good."""

from __future__ import annotations

import json

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import OLD, parse
from tests import reports

NOW = 1_800_000_000.0


def text(**changes: object) -> str:
    return json.dumps({**reports.verify(["a", "b"], written=NOW), **changes})


def test_a_sound_report() -> None:
    source = parse("verify", text())
    assert (source.state, source.problem, len(source.rows)) == ("read", "", 4)
    assert (source.seconds, source.age(NOW + 5), source.is_old(NOW + 5)) == (4.2, 5.0, False)


def test_there_is_none() -> None:
    source = parse("doctor", None)
    assert (source.state, source.problem) == ("missing", "there is no doctor.json")
    assert (source.rows, source.age(NOW), source.is_old(NOW)) == ([], None, True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not JSON"),
        ("{" * 100_000, "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"schema_version": NaN}', "not JSON"),
        ("[]", "not a JSON object"),
        (text(schema_version=2), "schema_version is 2, and this version reads 1; run verify again"[:30]),
        (text(schema_version=None), "schema_version is None"),
        (text(pairs={}), "no pairs or no summary"),
        (text(summary=None), "no pairs or no summary"),
        (text(pairs=["a"]), "1 of its pairs is not an object"),
        (text(pairs=[{"network": "n", "from": 1, "to": "b"}]), "1 of its pairs has no from"),
    ],
)
def test_what_cannot_be_used(content: str, words: str) -> None:
    source = parse("verify", content)
    assert source.state == "broken"
    assert source.problem.startswith("verify.json ")
    assert words in source.problem
    assert source.rows == []


def test_a_level_that_nobody_knows() -> None:
    odd = reports.findings(["a"], [reports.finding("a", "x", "fatal")])
    assert "unknown level fatal" in parse("doctor", json.dumps(odd)).problem


@pytest.mark.parametrize("written", [None, "yesterday", True, 1e300, NOW + 3600])
def test_of_what_time_it_is_may_be_unknown(written: object) -> None:
    source = parse("verify", text(written=written))
    assert source.age(NOW) is None
    assert source.is_old(NOW)


def test_a_proof_of_yesterday_is_old() -> None:
    assert not parse("verify", text()).is_old(NOW + OLD)
    assert parse("verify", text()).is_old(NOW + OLD + 1)


def test_no_character_that_a_file_cannot_hold() -> None:
    source = parse("verify", text(pairs=[reports.pair("n\ud800", "a\x00", "b")]))
    assert (source.rows[0]["network"], source.rows[0]["from"]) == ("n?", "a?")
