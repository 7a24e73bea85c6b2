# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page shows, and that nothing that it shows can become markup."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.action.html_report import render
from ansible_collections.multihost.overlay.plugins.plugin_utils._html_report import view
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_matrix import matrix, shade_of
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import NAMES, Source, parse
from tests import reports

NOW = 1_800_000_000.0
HOSTS = ["a", "b", "c"]
DAY = 86400


def sources(**given: Any) -> dict[str, Source]:
    return {name: parse(name, json.dumps(given[name]) if name in given else None) for name in NAMES}


def healthy(**changes: Any) -> dict[str, Any]:
    fresh = {"verify": reports.verify(HOSTS, written=NOW - 60)}
    fresh.update({name: reports.findings(HOSTS, written=NOW - 60) for name in ("preflight", "doctor")})
    return {**fresh, **changes}


def shown(**given: Any) -> dict[str, Any]:
    return view(sources(**given), reports.topology(HOSTS), NOW)


def test_a_cluster_in_order() -> None:
    page = shown(**healthy())
    assert page["verdict"]["state"] == "good"
    assert "all 12 pairs good" in page["verdict"]["words"]
    assert [(source["state"], source["age"]) for source in page["sources"]] == [("good", "1 minute ago")] * 3
    assert page["failed"] == []
    assert [table["counts"] for table in page["matrices"]] == [{"good": 6, "bad": 0, "unknown": 0}] * 2


def test_nothing_is_known_without_a_proof() -> None:
    page = shown()
    assert (page["verdict"]["state"], page["verdict"]["words"]) == ("unknown", "verify: there is no verify.json")
    assert [source["state"] for source in page["sources"]] == ["unknown"] * 3
    assert page["matrices"] == []
    assert page["no_proof"] == "there is no verify.json"
    assert shown(**healthy(verify=reports.verify(["a"], written=NOW)))["verdict"]["state"] == "unknown"


def test_a_refused_run_proves_nothing() -> None:
    topology = reports.topology(HOSTS)
    content = view(sources(**healthy()), topology, NOW, refused=True)
    assert content["verdict"]["state"] == "unknown"
    assert "refused just now" in content["verdict"]["words"]


def test_a_proof_of_yesterday_is_not_one_of_today() -> None:
    old = reports.verify(HOSTS, written=NOW - 26 * 3600)
    page = shown(**healthy(verify=old))
    assert page["verdict"]["state"] == "unknown"
    assert "but that was 1 day ago" in page["verdict"]["words"]
    old.pop("written")
    assert "at an unknown time" in shown(**healthy(verify=old))["verdict"]["words"]


def test_who_was_not_run_does_not_count_and_who_is_broken_does() -> None:
    given = healthy()
    given.pop("doctor")
    assert shown(**given)["verdict"]["state"] == "good"
    given["preflight"] = reports.findings(HOSTS, [reports.finding("a", "x", "error")], written=NOW - 3 * DAY)
    page = shown(**given)
    assert (page["verdict"]["state"], page["sources"][1]["state"]) == ("good", "bad")
    assert shown(**healthy(doctor={"schema_version": 7}))["verdict"]["state"] == "unknown"


@pytest.mark.parametrize(
    ("change", "state"),
    [
        ({"doctor": reports.findings(HOSTS, [reports.finding("a", "x", "error")], written=NOW)}, "bad"),
        ({"doctor": reports.findings(HOSTS, [reports.finding("a", "x", "warning")], written=NOW)}, "good"),
        ({"verify": reports.verify(HOSTS, {("frontend", "a", "b"): reports.LOST}, written=NOW)}, "bad"),
        ({"verify": reports.verify(HOSTS, {("frontend", "a", "b"): reports.UNMEASURED}, written=NOW)}, "bad"),
        ({"preflight": {**reports.findings(HOSTS, written=NOW), "summary": {"hosts": 3, "hosts_read": 2}}}, "unknown"),
    ],
)
def test_the_verdict(change: dict[str, Any], state: str) -> None:
    assert shown(**healthy(**change))["verdict"]["state"] == state


def test_what_failed_beside_the_pairs_is_bad_and_comes_first() -> None:
    given = healthy()
    rows = [reports.check("egress", "frontend", host, ok) for host, ok in zip("abc", (True, None, False), strict=True)]
    given["verify"]["checks"] = [*rows, {"check": "no row"}, "nor is this"]
    content = shown(**given)
    assert [(row["from"], row["state"]) for row in content["checks"]] == [("c", "bad"), ("b", "unknown"), ("a", "good")]
    assert content["verdict"]["state"] == "bad"
    assert "1 of 3 other checks failed" in content["verdict"]["words"]
    assert "c: egress failed" in render(content)


@pytest.mark.parametrize("asked_for", ["peers", "only"])
def test_pairs_that_are_not_in_the_sample_are_not_unknown(asked_for: str) -> None:
    given = healthy()
    given["verify"]["pairs"] = given["verify"]["pairs"][1:]
    assert [table["counts"]["unknown"] for table in shown(**given)["matrices"]] == [1, 0]
    given["verify"]["summary"][asked_for] = 1
    assert [table["counts"]["unknown"] for table in shown(**given)["matrices"]] == [0, 0]


def test_cells_tell_states_apart() -> None:
    broken = {
        ("n", "a", "b"): {**reports.LOST, **reports.NO_TIMES, "error": "dead"},
        ("n", "b", "a"): reports.NO_TIMES,
        ("n", "a", "c"): {**reports.UNMEASURED, "error": "gone"},
        ("n", "c", "a"): {"ok": False, "kind": "tcp_dead", "news": [1, {"x": None}]},
    }
    rows = reports.verify(HOSTS, broken, networks=["n"])["pairs"]
    table = matrix("n", [*HOSTS, "later"], rows)
    cells = {(cell["from"], cell["to"]): cell for _host, line in table["lines"] for cell in line if cell}
    texts = {ends: (cell["state"], cell["text"].split()[0]) for ends, cell in cells.items()}
    assert texts["a", "b"] == ("bad", "X")
    assert texts["b", "a"] == ("good", "→")
    assert texts["a", "c"] == ("unknown", "?")
    assert texts["c", "a"] == ("bad", "T")
    assert texts["b", "c"] == ("good", "✓")
    # A host that joined after the proof is not proven.
    assert {texts["later", host] for host in HOSTS} == {("unknown", "?")}
    assert table["counts"] == {"good": 3, "bad": 2, "unknown": 7}
    assert {("kind", "no_answer"), ("error", "dead"), ("loss", "100 %")} <= set(cells["a", "b"]["words"])
    assert ("news", "1, x unknown") in cells["c", "a"]["words"]
    assert any(what == "rtt in ms" and "p50" in value and "p99" in value for what, value in cells["b", "c"]["words"])


def test_shades_are_equal_ratios() -> None:
    assert [shade_of(value, (1.0, 32.0)) for value in (1.0, 2.1, 4.1, 8.1, 32.0)] == [0, 1, 2, 3, 4]
    assert [shade_of(value, (1.0, 1.9)) for value in (1.0, 1.9)] == [0, 0]
    assert shade_of(None, (1.0, 32.0)) == shade_of(3.0, None) == 0


def test_one_lost_host_is_one_line() -> None:
    gone = {**reports.UNMEASURED, "error": "c: lost"}
    broken = {("frontend", source, target): gone for source in HOSTS for target in HOSTS if "c" in (source, target)}
    page = shown(**healthy(verify=reports.verify(HOSTS, broken, written=NOW)))
    assert [(line["error"], len(line["paths"])) for line in page["failed"]] == [("c: lost", 4)]
    assert page["failed_pairs"] == 4


def test_findings_begin_with_errors() -> None:
    rows = [reports.finding("a", "i", "info"), reports.finding("b", "w", "warning")]
    rows.append(reports.finding("c", "e", "error", **{"from": "c", "to": "a"}))
    _preflight, doctor = shown(**healthy(doctor=reports.findings(HOSTS, rows, written=NOW)))["findings"]
    assert [(row["id"], row["host"]) for row in doctor["grave"]] == [("e", "c → a"), ("w", "b")]
    assert [row["id"] for row in doctor["infos"]] == ["i"]


def test_the_latest_report_knows_a_host_best() -> None:
    preflight, doctor = reports.findings(HOSTS, written=NOW - 60), reports.findings(HOSTS, written=NOW)
    doctor["hosts"]["b"] = {"os": None, "kernel": "6.1", "engine": "24.0", "consul": None}
    page = shown(**healthy(preflight=preflight, doctor=doctor))
    cells = {host["name"]: [(cell["text"], cell["differs"]) for cell in host["cells"]] for host in page["hosts"]}
    assert cells["b"] == [("debian 11", False), ("6.1", True), ("24.0", True), ("1.8.7", False)]
    assert {cell["text"] for cell in shown()["hosts"][0]["cells"]} == {"unknown"}


class Structure(HTMLParser):
    """Elements and the names of their attributes, without any text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[str, ...]]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, tuple(name for name, _value in attrs)))
        self.links += [str(value) for name, value in attrs if name in ("href", "src", "xlink:href", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def everywhere(value: Any, word: str) -> Any:
    """All texts replaced, but those by which a report is read and put together."""
    if isinstance(value, dict):
        kept = ("level", "network", "from", "to", "host")
        return {key: item if key in kept else everywhere(item, word) for key, item in value.items()}
    if isinstance(value, list):
        return [everywhere(item, word) for item in value]
    return word if isinstance(value, str) else value


def page_with(word: str, number: int) -> Structure:
    """A page in which everything is called like that, and a number that tells hosts apart."""
    hosts = [f"{word}{place}" for place in range(number)]
    networks = [f"{word}net"]
    rows = {(networks[0], hosts[0], hosts[1]): {**reports.LOST, "error": word, "kind": word, "new_field": word}}
    rows[networks[0], hosts[1], hosts[0]] = {**reports.UNMEASURED, "error": word}
    found = [reports.finding(hosts[0], word, level, word, **{"from": word, "to": word}) for level in ("error", "info")]
    findings = reports.findings(hosts, found, written=NOW)
    given = {"verify": reports.verify(hosts, rows, networks, written=NOW), "doctor": findings, "preflight": findings}
    read = sources(**{name: everywhere(report, word) for name, report in given.items()})
    assert [source.state for source in read.values()] == ["read"] * 3
    topology = {**reports.topology(hosts, networks), "addresses": dict.fromkeys(hosts, word)}
    return Structure(render(view(read, topology, NOW)))


@pytest.mark.parametrize("number", [3, 14])
def test_markup_in_any_name_is_text(number: int) -> None:
    """The page has the same elements and attributes as with harmless names of the same kind."""
    evil, harmless = page_with(reports.EVIL, number), page_with("harmless", number)
    assert evil.found == harmless.found
    assert {tag for tag, _names in evil.found} & {"script", "img", "iframe", "object"} == set()
    assert not [name for _tag, names in evil.found for name in names if name.startswith("on")]
    assert all(link.startswith(("#", "data:,")) for link in evil.links)
    assert evil.text.count("<script>alert(1)</script>") > 20
    # What looks like a template is none, and what looks escaped was so before.
    assert "{{ 7*7 }}" in evil.text
    assert "&lt;" in evil.text


def test_the_problem_of_a_report_is_text_too() -> None:
    read = {**sources(**healthy()), "doctor": parse("doctor", json.dumps({"schema_version": "<b>x</b>"}))}
    page = render(view(read, reports.topology(HOSTS), NOW))
    assert "<b>x</b>" not in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page


def test_the_page_asks_for_nothing() -> None:
    page = render(shown(**healthy()))
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page


@pytest.mark.parametrize("topology", [reports.topology([]), reports.topology(["a"]), reports.topology(["a", "b"])])
def test_small_clusters_have_a_page(topology: dict[str, Any]) -> None:
    assert "<svg" in render(view(sources(), topology, NOW))
