# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Findings, and the pairs of a proof, as JUnit XML, which CI systems show. Pure; the standard library escapes what names contain."""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence
from xml.etree import ElementTree

# Characters that XML cannot hold, escaped or not.
FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def clean(text: str) -> str:
    """The text without what XML cannot hold."""
    return FORBIDDEN.sub("?", text)


def add_case(suite: ElementTree.Element, name: str, host: str, check: str) -> ElementTree.Element:
    attributes = {"classname": clean(f"{name}.{host}"), "name": clean(check), "time": "0"}
    return ElementTree.SubElement(suite, "testcase", attributes)


def add_finding(suite: ElementTree.Element, name: str, row: Mapping[str, str], failed: bool) -> None:
    """A finding that ends the run has failed; a milder one has passed, and says so in its output."""
    case = add_case(suite, name, row["host"], row["id"])
    words = clean(f"{row['message']}\nseen: {row['evidence']}\ncure: {row['fix']}")
    if failed:
        attributes = {"message": clean(row["message"]), "type": clean(row["level"])}
        ElementTree.SubElement(case, "failure", attributes).text = words
    else:
        ElementTree.SubElement(case, "system-out").text = f"{row['level']}: {words}"


def count_cases(suite: ElementTree.Element, cases: int, failures: int) -> None:
    """The sums that a suite carries."""
    suite.attrib.update({"tests": str(cases), "failures": str(failures), "errors": "0", "skipped": "0", "time": "0"})


def document(name: str, suites: Sequence[ElementTree.Element]) -> str:
    """The whole file."""
    sums = {key: str(sum(int(suite.attrib[key]) for suite in suites)) for key in ("tests", "failures")}
    root = ElementTree.Element("testsuites", {"name": clean(name), **sums})
    root.extend(suites)
    return "<?xml version='1.0' encoding='utf-8'?>\n" + ElementTree.tostring(root, encoding="unicode") + "\n"


def junit(
    name: str, hosts: Sequence[str], findings: Sequence[Mapping[str, str]], blockers: Sequence[Mapping[str, str]]
) -> str:
    """One test case for each host, which fails if something of it does, and one for each finding."""
    failed = {id(row) for row in blockers}
    bad_hosts = {row["host"] for row in blockers}
    places = [*hosts, *sorted({row["host"] for row in findings} - set(hosts))]
    suite = ElementTree.Element("testsuite", {"name": clean(name)})
    failures = len(blockers)
    for host in places:
        case = add_case(suite, name, host, name)
        if host in bad_hosts:
            failures += 1
            ids = sorted({row["id"] for row in blockers if row["host"] == host})
            ElementTree.SubElement(case, "failure", {"message": clean(", ".join(ids)), "type": "host"})
        for row in findings:
            if row["host"] == host:
                add_finding(suite, name, row, id(row) in failed)
    cases = len(places) + len(findings)
    count_cases(suite, cases, failures)
    return document(name, [suite])


def add_pair(suite: ElementTree.Element, row: Mapping[str, Any]) -> None:
    """A case for an ordered pair; what could not be measured has failed too."""
    attributes = {
        "classname": clean(f"verify.{row['network']}"),
        "name": clean(f"{row['from']} -> {row['to']}"),
        "time": "0",
    }
    case = ElementTree.SubElement(suite, "testcase", attributes)
    if not row["ok"]:
        kind, error = (clean(str(row[key] or "")) for key in ("kind", "error"))
        ElementTree.SubElement(case, "failure", {"message": f"{kind}: {error}", "type": kind}).text = error


def as_pair(check: Mapping[str, Any]) -> dict[str, Any]:
    """A check of verify's as a row of its own; what is not known has not failed."""
    return dict(check, **{"from": f"{check['check']}: {check['from']}"}, ok=check["ok"] is not False)


def junit_of_pairs(rows: Sequence[Mapping[str, Any]], checks: Sequence[Mapping[str, Any]] = ()) -> str:
    """verify.xml: a suite for each network, with its pairs and what was tried beside them."""
    suites = []
    cases = [*rows, *map(as_pair, checks)]
    for network in dict.fromkeys(row["network"] for row in cases):
        own = [row for row in cases if row["network"] == network]
        suite = ElementTree.Element("testsuite", {"name": clean(f"verify.{network}")})
        for row in own:
            add_pair(suite, row)
        count_cases(suite, len(own), sum(not row["ok"] for row in own))
        suites.append(suite)
    return document("verify", suites)
