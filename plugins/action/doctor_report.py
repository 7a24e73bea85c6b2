# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.doctor_report): reads variables, writes a report, connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._doctor_report import all_findings
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import show, write_junit, write_report
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import blocking, compose, failure

HEADLINE = "The doctor found what is wrong; nothing was changed on any host."


class ActionModule(ActionBase):
    """Puts the hosts' findings together with those that only show across hosts."""

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
                "report_dir": {"type": "str", "required": True},
                "fail_on": {"type": "str", "choices": [*LEVELS, "never"], "default": "error"},
                "skip_unreachable": {"type": "bool", "default": False},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        results = {host: hostvars[host].get(args["result_variable"]) or {} for host in args["hosts"]}
        findings = all_findings(results, args["addresses"], args["skip_unreachable"])
        blockers = blocking(findings, args["fail_on"])
        report = compose(results, findings)
        path = write_report(args["report_dir"], report, "doctor")
        write_junit(args["report_dir"], "doctor", list(results), findings, blockers)
        show("doctor", findings, report["summary"], path)
        result.update(changed=False, report=path, summary=report["summary"])
        if blockers:
            return dict(result, failed=True, msg=failure(blockers, path, HEADLINE))
        return dict(result, findings=report["findings"])
