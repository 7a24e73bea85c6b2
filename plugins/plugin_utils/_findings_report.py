# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What preflight and doctor do with findings: write them as JSON and as JUnit XML, show them. Runs on the controller."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Mapping, Sequence

from ansible.constants import COLOR_ERROR, COLOR_WARN
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import junit
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import table

COLOURS = {"error": COLOR_ERROR, "warning": COLOR_WARN}


def write_whole(directory: str, name: str, text: str) -> str:
    """Write a report as a whole: who reads it while it is written sees the last one."""
    folder = os.path.abspath(os.path.expanduser(directory))
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, name)
    descriptor, temporary = tempfile.mkstemp(prefix="." + name, dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(text)
    # mkstemp makes it private; a report holds no secrets and is made to be shown.
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)
    return target


def write_report(directory: str, report: Mapping[str, Any], name: str = "preflight") -> str:
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
