# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.preflight_report): reads variables, writes a report, connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import show, write_junit, write_report
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import (
    all_findings,
    blocking,
    compose,
    failure,
)


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
                "findings": {"type": "list", "elements": "dict", "default": []},
                "underlay": {"type": "dict", "default": {}},
                "ports": {"type": "list", "elements": "str", "default": []},
                "report_dir": {"type": "str", "required": True},
                "fail_on": {"type": "str", "choices": [*LEVELS, "never"], "default": "error"},
                "skip_unreachable": {"type": "bool", "default": False},
            }
        )
        hostvars = (task_vars or {})["hostvars"]
        results = {host: hostvars[host].get(args["result_variable"]) or {} for host in args["hosts"]}
        findings = all_findings(
            results, args["addresses"], args["networks"], args["skip_unreachable"], args["findings"]
        )
        blockers = blocking(findings, args["fail_on"])
        # Unknown is null: the paths were not probed.
        report = dict(compose(results, findings), underlay=args["underlay"] or None)
        path = write_report(args["report_dir"], report)
        write_junit(args["report_dir"], "preflight", list(results), findings, blockers)
        show("preflight", findings, report["summary"], path, args["ports"])
        result.update(changed=False, report=path, summary=report["summary"])
        if blockers:
            return dict(result, failed=True, msg=failure(blockers, path))
        return dict(result, findings=report["findings"])
