# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""JUnit XML that a CI system can read, whatever the names in it."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_junit
from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import junit, junit_of_pairs
from tests import reports

EVIL = "a<b>&\"'c]]>\x00\x1b[31m\ud800 \u00e9"


def row(host: str, check: str, level: str = "error", text: str = "m") -> dict[str, str]:
    return {"host": host, "id": check, "level": level, "message": text, "evidence": text, "fix": text}


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text.encode())


def cases(root: ElementTree.Element) -> list[tuple[str | None, str | None, bool]]:
    return [
        (case.get("classname"), case.get("name"), case.find("failure") is not None) for case in root.iter("testcase")
    ]


def test_sound_hosts_pass() -> None:
    root = parsed(junit("preflight", ["a", "b"], [], []))
    assert cases(root) == [("preflight.a", "preflight", False), ("preflight.b", "preflight", False)]
    assert (root.get("tests"), root.get("failures")) == ("2", "0")


def test_what_ends_the_run_fails() -> None:
    findings = [row("a", "x"), row("b", "y", "warning"), row("(store)", "z")]
    root = parsed(junit("doctor", ["a", "b"], findings, [findings[0], findings[2]]))
    assert cases(root) == [
        ("doctor.a", "doctor", True),
        ("doctor.a", "x", True),
        ("doctor.b", "doctor", False),
        ("doctor.b", "y", False),
        ("doctor.(store)", "doctor", True),
        ("doctor.(store)", "z", True),
    ]
    suite = root.find("testsuite")
    assert suite is not None
    assert (suite.get("tests"), suite.get("failures")) == ("6", "4")
    assert "warning" in str(next(root.iter("system-out")).text)


def test_markup_is_text() -> None:
    findings = [row(EVIL, EVIL, text=EVIL)]
    root = parsed(junit("preflight", [EVIL], findings, findings))
    (failure,) = [case.find("failure") for case in root.iter("testcase") if str(case.get("name")).startswith("a<b>")]
    assert failure is not None
    assert str(failure.get("message")).startswith("a<b>&\"'c]]>??[31m? \u00e9")
    assert len(list(root.iter())) == 6


def test_the_file_is_whole(tmp_path: Path) -> None:
    path = write_junit(str(tmp_path / "new"), "doctor", ["a"], [], [])
    assert Path(path).name == "doctor.xml"
    assert parsed(Path(path).read_text()).tag == "testsuites"
    assert [entry.name for entry in Path(path).parent.iterdir()] == ["doctor.xml"]


def test_pairs_are_cases() -> None:
    broken = {("frontend", "a", "b"): {**reports.LOST, "error": EVIL}, ("backend", "b", "a"): reports.UNMEASURED}
    root = parsed(junit_of_pairs(reports.verify(["a", "b"], broken)["pairs"]))
    assert cases(root) == [
        ("verify.frontend", "a -> b", True),
        ("verify.frontend", "b -> a", False),
        ("verify.backend", "a -> b", False),
        ("verify.backend", "b -> a", True),
    ]
    assert (root.get("tests"), root.get("failures")) == ("4", "2")
    assert [(suite.get("name"), suite.get("failures")) for suite in root] == [
        ("verify.frontend", "1"),
        ("verify.backend", "1"),
    ]
    failures = list(root.iter("failure"))
    assert [failure.get("type") for failure in failures] == ["no_answer", "host_unreachable"]
    assert str(failures[0].text).startswith("a<b>&\"'c]]>??")


def test_names_of_networks_are_text() -> None:
    rows = [reports.pair(EVIL, EVIL, "b", ok=False, kind=EVIL, error=EVIL)]
    root = parsed(junit_of_pairs(rows))
    assert len(list(root.iter())) == 4
    assert parsed(junit_of_pairs([])).get("tests") == "0"


def test_what_is_tried_beside_the_pairs_is_a_case_too() -> None:
    checks = [reports.check("egress", "net", host, ok) for host, ok in zip("abc", (True, None, False), strict=True)]
    root = parsed(junit_of_pairs([], checks))
    assert [(case.get("name"), len(case)) for case in root.iter("testcase")] == [
        ("egress: a -> x", 0),
        ("egress: b -> x", 0),
        ("egress: c -> x", 1),
    ]
