# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.doctor_report): reads variables, writes a report, connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.plugin_utils._doctor_report import (
    STORE,
    all_findings,
    facts_of,
    refused,
    repair_lines,
    repaired,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import (
    ARGUMENTS,
    by_severity,
    conclude,
    hosts_section,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, results_of

HEADLINE = "The doctor found what is wrong; nothing was changed on any host."
REPAIRED = "The doctor found what is wrong, and put right what the report has as repaired; this is left."
REPAIR = {"repair_variable": {"type": "str", "default": ""}}


class ActionModule(ActionBase):
    """Puts the hosts' findings together with those that only show across hosts."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, write, show; fail with all findings that end the run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec({**ARGUMENTS, **REPAIR})
        results = results_of(args, task_vars)
        findings = all_findings(results, args["addresses"], args["skip_unreachable"])
        hosts = hosts_section(results, facts_of(results))
        if not args["repair_variable"]:
            return dict(result, **conclude("doctor", HEADLINE, args, results, findings, hosts=hosts))
        repairs = plain(results_of(dict(args, result_variable=args["repair_variable"]), task_vars))
        done = repaired(repairs)
        findings = by_severity([*findings, *refused(repairs)], [*results, STORE])
        headline = REPAIRED if any(row["done"] for row in done) else HEADLINE
        concluded = conclude(
            "doctor", headline, args, results, findings, repair_lines(done), repaired=done, hosts=hosts
        )
        return dict(result, **concluded, repaired=done)
