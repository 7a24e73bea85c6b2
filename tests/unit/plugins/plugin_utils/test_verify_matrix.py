# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify's matrix: it fits a terminal, whatever the hosts are called and whatever failed."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _verify_matrix as matrix

KINDS = [*matrix.LETTERS, "unheard_of"]
NETWORK = "n" * 63


def row(source: str, target: str, kind: str | None = None, p50: float | None = 0.2, loss: float = 0.0) -> Any:
    times = dict.fromkeys(("min", "avg", "max", "p50", "p99"), p50)
    ends = {"network": "net", "from": source, "to": target}
    return {**ends, "ok": kind is None, "kind": kind, "loss": loss, "rtt_ms": times}


def pairs(hosts: list[str], **changed: Any) -> list[Any]:
    """All pairs, good but for those that are given by their names."""
    expected = [(source, target) for source in hosts for target in hosts if source != target]
    return [changed.get(f"{source}_{target}") or row(source, target) for source, target in expected]


def rendered(hosts: list[str], rows: list[Any], network: str = "net") -> list[str]:
    report = {"networks": [network], "pairs": [dict(one, network=network) for one in rows]}
    return matrix.render(hosts, report).splitlines()


def names(number: int, length: int) -> list[str]:
    """Hosts whose names differ in the middle, where they are cut."""
    return [f"{'a' * (length // 2 - 2)}{place:03}{'z' * (length - length // 2 - 1)}" for place in range(number)]


@pytest.mark.parametrize("length", [5, 14, 63])
@pytest.mark.parametrize("number", range(2, 21))
def test_no_line_is_longer_than_80_columns_and_every_pair_is_shown(number: int, length: int) -> None:
    hosts = names(number, length)
    for failed in [(), *((kind,) for kind in KINDS), KINDS]:
        for time in (0.234, 23456.7, None):
            rows = pairs(hosts)
            for place, one in enumerate(rows):
                one.update(row(one["from"], one["to"], None, time, 0.123456))
                if place == 0 and time:
                    one["rtt_ms"]["p50"] = 9 * time
                if failed and place % 2:
                    one.update(ok=False, kind=failed[place // 2 % len(failed)])
            lines = rendered(hosts, rows, NETWORK)
            assert max(map(len, lines)) <= 80, max(lines, key=len)
            table = [line for line in lines if line.endswith(".") or " . " in line]
            assert len(table) >= number
            assert not any("those with failed pairs" in line for line in lines)
            assert any("slow: " in line for line in lines) == (number > 2 and time is not None)
            assert all(any(host in line for line in lines) for host in hosts)


@pytest.mark.parametrize("number", [21, 30, 100])
@pytest.mark.parametrize("length", [5, 63])
def test_more_hosts_fit_too(number: int, length: int) -> None:
    hosts = names(number, length)
    rows = [one if one["from"] != hosts[7] else dict(one, ok=False, kind="agent_died") for one in pairs(hosts)]
    lines = rendered(hosts, rows, NETWORK)
    assert max(map(len, lines)) <= 80, max(lines, key=len)


def test_few_hosts_have_times_and_words() -> None:
    lines = rendered(
        ["a", "b", "c"], pairs(["a", "b", "c"], a_b=row("a", "b", "no_answer"), b_a=row("b", "a", p50=None))
    )
    assert lines == [
        "Network net: 5 of 6 pairs good (row sends to column; median in ms)",
        "             1         2         3",
        " 1 a         . no_answer      0.20",
        " 2 b   one-way         .      0.20",
        " 3 c      0.20      0.20         .",
    ]


def test_more_hosts_have_times_and_letters() -> None:
    hosts = [f"node{place}" for place in range(1, 11)]
    lines = rendered(
        hosts, pairs(hosts, node1_node2=row("node1", "node2", "mtu"), node2_node1=row("node2", "node1", p50=None))
    )
    assert lines[2] == " 1 node1     .    M 0.20 0.20 0.20 0.20 0.20 0.20 0.20 0.20"
    assert lines[3].startswith(" 2 node2     >    . 0.20")
    assert lines[12:] == ["   > good one-way: arrives, the answer is lost; M full-size packets fail"]


def test_many_hosts_have_letters() -> None:
    hosts = [f"node{place}" for place in range(1, 21)]
    bad = {f"node1_node{place}": row("node1", f"node{place}", kind) for place, kind in enumerate(KINDS, 2)}
    lines = rendered(hosts, pairs(hosts, **bad))
    assert lines[0].endswith("(row sends to column; + is good)")
    assert lines[2].split() == [
        "1",
        "node1",
        ".",
        *(matrix.LETTERS.get(kind, matrix.OTHER) for kind in KINDS),
        *"+" * (19 - len(KINDS)),
    ]
    assert [word.split()[0] for word in " ".join(lines[22:]).split("; ")] == list("XALMUTN?!")


def test_of_too_many_hosts_only_failures_are_shown() -> None:
    hosts = [f"node{place}" for place in range(1, 31)]
    lines = rendered(hosts, pairs(hosts, node3_node7=row("node3", "node7", "loss", loss=0.5)))
    assert lines == [
        "Network net: 869 of 870 pairs good (row sends to column; + is good)",
        "   of 30 hosts, those with failed pairs:",
        "           7",
        " 3 node3   L",
        "   L loss",
        "   loss: node3 -> node7: 50 %",
        "  7 = node7",
    ]
    assert rendered(hosts, pairs(hosts))[1:] == ["   no table of 30 hosts: nothing failed"]


def test_a_dead_host_of_too_many_is_shown_in_bands() -> None:
    hosts = [f"node{place}" for place in range(1, 31)]
    rows = [
        dict(one, ok=False, kind="no_answer") if "node9" in (one["from"], one["to"]) else one for one in pairs(hosts)
    ]
    lines = rendered(hosts, rows)
    whole = [line for line in lines if line.startswith(" 9 node9")]
    assert len(whole) > 1
    assert sum(line.split()[2:].count("X") for line in whole) == 29


def test_pairs_that_are_not_expected_are_dots() -> None:
    hosts = ["a", "b", "c"]
    lines = rendered(hosts, [one for one in pairs(hosts) if (one["from"], one["to"]) != ("a", "c")])
    assert lines[2].split() == ["1", "a", ".", "0.20", "."]
    assert lines[-1] == "   . not expected"
    assert rendered(hosts, [])[2].split() == ["1", "a", ".", ".", "."]


def test_the_worst_pairs_are_named_only_when_they_stand_out() -> None:
    hosts = [f"node{place}" for place in range(1, 9)]
    usual = [dict(one) for one in pairs(hosts)]
    assert not any("slow" in line or "loss" in line for line in rendered(hosts, usual))
    # Three times as long, but by less than a millisecond.
    near = row("node1", "node2", p50=0.9)
    far = {f"node3_node{place}": row("node3", f"node{place}", p50=place * 10.0) for place in (1, 2, 4, 5, 6, 7, 8)}
    lossy = row("node1", "node3", "loss", loss=0.25)
    lines = rendered(hosts, pairs(hosts, node1_node2=near, node1_node3=lossy, **far))
    assert [line for line in lines if "->" in line] == [
        *(f"   slow: node3 -> node{place}: {place * 10}.0 ms, usual 0.20" for place in (8, 7, 6, 5, 4)),
        "   loss: node1 -> node3: 25 %",
    ]


def test_names_keep_both_ends() -> None:
    assert matrix.shorten("database-eu-west-1-node01", 14) == "databa..node01"
    assert matrix.shorten("short", 5) == "short"


def test_names_are_explained_once_for_all_networks() -> None:
    hosts = names(3, 63)
    report = {"networks": ["x", "y"], "pairs": [dict(one, network=name) for name in "xy" for one in pairs(hosts)]}
    lines = matrix.render(hosts, report).splitlines()
    assert lines[-3:] == [f"{place:>3} = {host}" for place, host in enumerate(hosts, 1)]
    assert sum(" = " in line for line in lines) == 3
