# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight and doctor do with findings: write them as JSON and as JUnit XML, show them. Runs on the controller."""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from typing import Any, Iterable, Mapping, Sequence

from ansible.constants import COLOR_ERROR, COLOR_WARN
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import junit

SCHEMA_VERSION = 1
# Of a finding; the last two only where it is about a path.
KEYS = ("host", "id", "level", "message", "evidence", "fix", "from", "to")
# The arguments that both reports have.
ARGUMENTS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "result_variable": {"type": "str", "required": True},
    "addresses": {"type": "dict", "default": {}},
    "report_dir": {"type": "str", "required": True},
    "begun": {"type": "float"},
    "fail_on": {"type": "str", "choices": [*LEVELS, "never"], "default": "error"},
    "skip_unreachable": {"type": "bool", "default": False},
}
COLOURS = {"error": COLOR_ERROR, "warning": COLOR_WARN}


def by_severity(rows: list[dict[str, str]], order: list[str]) -> list[dict[str, str]]:
    """Errors first, then in the order of the hosts."""
    return sorted(rows, key=lambda row: (LEVELS.index(row["level"]), order.index(row["host"])))


def version(text: Any) -> str | None:
    """What is not known is null."""
    return str(text) if text else None


def bare_version(text: Any) -> str | None:
    """20.10.5 of 20.10.5+dfsg1: the engine's own words have the build, those of its program have not."""
    found = re.match(r"\d+(\.\d+)*", str(text or ""))
    return found.group(0) if found else version(text)


def known(facts: Mapping[str, Any]) -> dict[str, str | None]:
    """What the reports tell of a host, from the facts of either module."""
    distribution = facts.get("distribution") or {}
    return {
        "os": version(" ".join(filter(None, (distribution.get("id"), distribution.get("version"))))),
        "kernel": version(facts.get("kernel")),
        "engine": bare_version((facts.get("engine") or {}).get("version")),
        "consul": version(facts.get("consul_version")),
    }


def hosts_section(hosts: Iterable[str], facts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, str | None]]:
    """Every host, those too that could not be read."""
    return {host: known(facts.get(host, {})) for host in hosts}


def timing(begun: float | None, now: float) -> dict[str, float | None]:
    """When a report was written, and how long the run took."""
    return {"written": round(now, 3), "seconds": None if begun is None else round(max(0.0, now - begun), 3)}


def compose(results: Mapping[str, Any], findings: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """The content of preflight.json, and of doctor.json."""
    summary: dict[str, Any] = {"hosts": len(results), "hosts_read": sum("findings" in row for row in results.values())}
    summary.update({level + "s": sum(row["level"] == level for row in findings) for level in LEVELS})
    ordered = [{key: row[key] for key in KEYS if key in row} for row in findings]
    return {"schema_version": SCHEMA_VERSION, "findings": ordered, "summary": summary}


def table(findings: Sequence[Mapping[str, str]]) -> list[tuple[str, str]]:
    """(level, text) for the terminal; infos only count, their lines are in the report."""
    shown = [row for row in findings if row["level"] != "info"]
    host_width = max([len(row["host"]) for row in shown] or [0])
    id_width = max([len(row["id"]) for row in shown] or [0])
    lines = []
    for row in shown:
        lines.append(
            (
                row["level"],
                f"{row['level'].upper():7}  {row['host']:{host_width}}  {row['id']:{id_width}}  {row['message']}",
            )
        )
        indent = " " * (9 + host_width + 2)
        lines.append((row["level"], f"{indent}seen: {row['evidence']}"))
        lines.append((row["level"], f"{indent}cure: {row['fix']}"))
    return lines


def blocking(findings: Sequence[Mapping[str, str]], fail_on: str) -> list[Mapping[str, str]]:
    """The findings that end the run."""
    limit = -1 if fail_on == "never" else LEVELS.index(fail_on)
    return [row for row in findings if LEVELS.index(row["level"]) <= limit]


def failure(blockers: Sequence[Mapping[str, str]], report: str, headline: str) -> str:
    """One message with all of them."""
    lines = [
        f"  - {row['host']}: {row['message']} [{row['id']}]. Seen: {row['evidence']}. Cure: {row['fix']}."
        for row in blockers
    ]
    return headline + "\n" + "\n".join(lines) + f"\nThe whole report: {report}"


def write_whole(directory: str, name: str, content: str | bytes, mode: int = 0o644) -> str:
    """Write a report as a whole: who reads it while it is written sees the last one."""
    folder = os.path.abspath(os.path.expanduser(directory))
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, name)
    descriptor, temporary = tempfile.mkstemp(prefix="." + name, dir=folder)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(content.encode() if isinstance(content, str) else content)
    # mkstemp makes it private; a report holds no secrets and is made to be shown.
    os.chmod(temporary, mode)
    os.replace(temporary, target)
    return target


def write_report(directory: str, report: Mapping[str, Any], name: str) -> str:
    """Write NAME.json and return its path."""
    return write_whole(directory, name + ".json", json.dumps(report, indent=2, sort_keys=False) + "\n")


def write_junit(
    directory: str,
    name: str,
    hosts: Sequence[str],
    findings: Sequence[Mapping[str, str]],
    blockers: Sequence[Mapping[str, str]],
) -> str:
    """Write NAME.xml and return its path."""
    return write_whole(directory, name + ".xml", junit(name, hosts, findings, blockers))


def show(
    name: str,
    findings: Sequence[Mapping[str, str]],
    summary: Mapping[str, int],
    path: str,
    more: Sequence[str] = (),
) -> None:
    """Errors and warnings on the terminal, ``more`` lines that help with them, and a line with all counts."""
    display = Display()
    for level, line in table(findings):
        display.display(line, color=COLOURS[level])
    for line in more:
        display.display(line, color=COLOURS["warning"])
    counts = ", ".join(f"{label} {summary[label]}" for label in ("hosts", "errors", "warnings", "infos"))
    display.display(f"{name}: {counts}; all of it in {path}")


def conclude(
    name: str,
    headline: str,
    args: Mapping[str, Any],
    results: Mapping[str, Any],
    findings: list[dict[str, str]],
    more: Sequence[str] = (),
    **others: Any,
) -> dict[str, Any]:
    """Write, show, judge: the module's result, failed if a finding ends the run. ``others`` go into the report."""
    blockers = blocking(findings, args["fail_on"])
    report = dict(compose(results, findings), **timing(args["begun"], time.time()), **others)
    path = write_report(args["report_dir"], report, name)
    write_junit(args["report_dir"], name, list(results), findings, blockers)
    show(name, findings, report["summary"], path, more)
    result = {"changed": False, "report": path, "summary": report["summary"]}
    if blockers:
        return dict(result, failed=True, msg=failure(blockers, path, headline))
    return dict(result, findings=report["findings"])
