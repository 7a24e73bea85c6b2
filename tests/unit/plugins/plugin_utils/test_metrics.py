# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Metrics as Prometheus reads them, and alerts that use the ones that are there."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.multihost.overlay.plugins.plugin_utils._metrics import HELP, PREFIX, metrics
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import NAMES, Source, parse
from tests import reports

HOSTS = ["a", "b"]
# The exposition format: a name, labels with escaped values, a number.
LABEL = r'(\w+)="((?:[^"\\\n]|\\[\\n"])*)"'
SAMPLE = re.compile(rf"^([a-zA-Z_:][\w:]*)(?:\{{((?:{LABEL},?)*)\}})? (\S+)$")


def sources(**given: Any) -> dict[str, Source]:
    return {name: parse(name, json.dumps(given[name]) if name in given else None) for name in NAMES}


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """(name, labels) -> value. Every line is one or says HELP and TYPE of those that follow, and no series is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    described = ""
    assert text.endswith("\n")
    for line in text.removesuffix("\n").split("\n"):
        if line.startswith("# TYPE "):
            assert line == f"# TYPE {described} gauge"
            continue
        if line.startswith("# HELP "):
            described = line.split()[2]
            continue
        match = SAMPLE.match(line)
        assert match, line
        assert match[1] == described
        labels = [
            (name, re.sub(r"\\(.)", lambda at: {"n": "\n"}.get(at[1], at[1]), value))
            for name, value in re.findall(LABEL, match[2] or "")
        ]
        key = (match[1].removeprefix(PREFIX), frozenset(labels))
        assert key not in found, line
        found[key] = float(match[match.lastindex or 0])
    return found


def everything() -> dict[str, Source]:
    """Reports with something for every metric."""
    rows = [reports.finding("a", "x", "error"), reports.finding("b", "x", "error"), reports.finding("b", "y", "info")]
    broken = {("frontend", "a", "b"): {**reports.UNMEASURED, **reports.NO_TIMES}}
    findings = reports.findings(HOSTS, rows, written=1.5)
    return sources(verify=reports.verify(HOSTS, broken, written=1000.25), preflight=findings, doctor=findings)


def of(found: dict[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float | None:
    return found.get((name, frozenset(labels.items())))


def test_checks_that_are_not_known_have_no_sample() -> None:
    verify = reports.verify(HOSTS)
    verify["checks"] = [
        reports.check("isolation", "net", host, ok) for host, ok in zip("abc", (True, False, None), strict=True)
    ]
    found = samples(metrics(sources(verify=verify), HOSTS))
    ends = {"check": "isolation", "network": "net", "to": "x"}
    told = [of(found, "verify_check_ok", **ends, **{"from": host}) for host in "abc"]
    assert told == [1, 0, None]


def test_pairs() -> None:
    found = samples(metrics(everything(), HOSTS))
    good, bad = {"network": "backend", "from": "a", "to": "b"}, {"network": "frontend", "from": "a", "to": "b"}
    assert (of(found, "verify_pair_ok", **good), of(found, "verify_pair_ok", **bad)) == (1, 0)
    assert of(found, "verify_pair_loss_ratio", **good) == 0
    # 0.2 ms and 13 % for each step, as reports.py has it, in seconds.
    average = of(found, "verify_pair_rtt_seconds", **good, statistic="avg")
    assert average is not None
    assert 0.0001 < average < 0.01
    assert of(found, "verify_pair_rtt_seconds", **good, statistic="p99") is not None
    # What was not measured has no value, rather than a good one.
    assert of(found, "verify_pair_loss_ratio", **bad) is None
    assert of(found, "verify_pair_rtt_seconds", **bad, statistic="avg") is None
    assert (of(found, "verify_pairs", network="frontend"), of(found, "verify_pairs_failed", network="frontend")) == (
        2,
        1,
    )
    assert of(found, "verify_pairs_failed", network="backend") == 0


def test_findings_and_sources() -> None:
    found = samples(metrics(everything(), HOSTS))
    assert of(found, "findings", source="doctor", level="error") == 2
    assert of(found, "findings", source="doctor", level="warning") == 0
    assert of(found, "check_findings", source="doctor", check="x", level="error") == 2
    assert (of(found, "hosts", source="doctor"), of(found, "hosts_read", source="doctor")) == (2, 2)
    assert of(found, "report_timestamp_seconds", source="verify") == 1000.25
    assert of(found, "report_duration_seconds", source="doctor") == 2.5
    assert (
        of(found, "host_info", host="a", os="debian 11", kernel="5.10.0-33-amd64", engine="20.10.5", consul="1.8.7")
        == 1
    )


def test_missing_reports_can_be_alerted_on() -> None:
    found = samples(metrics(sources(verify={"schema_version": 9}), []))
    assert {name for name, _labels in found} == {"report_readable"}
    assert set(found.values()) == {0}


def test_any_name_is_a_label() -> None:
    evil = 'a"b\\c\nd{e="f"} 1 #é' + reports.EVIL
    rows = [reports.finding(evil, evil, "error")] * 2
    given = {"verify": reports.verify([evil, "b"], networks=[evil]), "doctor": reports.findings([evil], rows)}
    found = samples(metrics(sources(**given), [evil]))
    assert of(found, "verify_pair_ok", network=evil, **{"from": evil, "to": "b"}) == 1
    assert of(found, "check_findings", source="doctor", check=evil, level="error") == 2


def test_a_pair_that_is_there_twice_is_one_series() -> None:
    verify = reports.verify(HOSTS)
    verify["pairs"] += verify["pairs"]
    assert samples(metrics(sources(verify=verify), HOSTS))


def test_alerts_use_metrics_and_labels_that_are_there(root: Path) -> None:
    found = samples(metrics(everything(), HOSTS))
    labels: dict[str, set[str]] = {}
    for name, pairs in found:
        labels.setdefault(PREFIX + name, set()).update(label for label, _value in pairs)
    assert set(labels) == {PREFIX + name for name in HELP}
    (group,) = yaml.safe_load((root / "docs" / "alerts.example.yml").read_text())["groups"]
    assert len({rule["alert"] for rule in group["rules"]}) == len(group["rules"]) > 5
    for rule in group["rules"]:
        named = set(re.findall(rf"{PREFIX}\w+", rule["expr"]))
        assert named, rule
        assert named <= set(labels), rule
        used = set(re.findall(r"(\w+)=~?\"", rule["expr"])) | set(
            re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))
        )
        assert used <= set.intersection(*(labels[name] for name in named)), rule


def test_the_page_about_metrics_names_them_all(root: Path) -> None:
    page = (root / "docs" / "report.md").read_text()
    assert {PREFIX + name for name in HELP} == set(re.findall(rf"`({PREFIX}\w+)`", page))
