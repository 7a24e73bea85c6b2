# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.preflight_report): reads variables, writes a report, connects to nothing."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Mapping

from ansible.constants import COLOR_ERROR, COLOR_WARN
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import (
    all_findings,
    blocking,
    compose,
    failure,
    table,
)

COLOURS = {"error": COLOR_ERROR, "warning": COLOR_WARN}


def write_report(directory: str, report: Mapping[str, Any]) -> str:
    """Write preflight.json as a whole: who reads it while it is written sees the last one."""
    folder = os.path.abspath(os.path.expanduser(directory))
    os.makedirs(folder, exist_ok=True)
    target = os.path.join(folder, "preflight.json")
    descriptor, temporary = tempfile.mkstemp(prefix=".preflight", dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as handle:
        handle.write(json.dumps(report, indent=2, sort_keys=False) + "\n")
    # mkstemp makes it private; a report holds no secrets and is made to be shown.
    os.chmod(temporary, 0o644)
    os.replace(temporary, target)
    return target


class ActionModule(ActionBase):
    """Puts the hosts' findings together."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, write, show; fail with all findings that end the run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(
            {
                "hosts": {"type": "list", "elements": "str", "required": True},
                "result_variable": {"type": "str", "required": True},
                "addresses": {"type": "dict", "default": {}},
                "networks": {"type": "list", "elements": "dict", "default": []},
                "report_dir": {"type": "str", "required": True},
                "fail_on": {"type": "str", "choices": [*LEVELS, "never"], "default": "error"},
                "skip_unreachable": {"type": "bool", "default": False},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        results = {host: hostvars[host].get(args["result_variable"]) or {} for host in args["hosts"]}
        findings = all_findings(results, args["addresses"], args["networks"], args["skip_unreachable"])
        report = compose(results, findings)
        path = write_report(args["report_dir"], report)
        self._show(findings, report["summary"], path)
        result.update(changed=False, report=path, summary=report["summary"])
        blockers = blocking(findings, args["fail_on"])
        if blockers:
            return dict(result, failed=True, msg=failure(blockers, path))
        return dict(result, findings=report["findings"])

    @staticmethod
    def _show(findings: list[dict[str, str]], summary: Mapping[str, int], path: str) -> None:
        display = Display()
        for level, line in table(findings):
            display.display(line, color=COLOURS[level])
        counts = ", ".join(f"{label} {summary[label]}" for label in ("hosts", "errors", "warnings", "infos"))
        display.display(f"preflight: {counts}; all of it in {path}")
