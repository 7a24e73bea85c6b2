# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.preflight_report): reads variables, writes a report, connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import (
    ARGUMENTS,
    conclude,
    hosts_section,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import all_findings, facts_of
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import results_of

OWN_ARGUMENTS: dict[str, dict[str, Any]] = {
    "networks": {"type": "list", "elements": "dict", "default": []},
    "findings": {"type": "list", "elements": "dict", "default": []},
    "underlay": {"type": "dict", "default": {}},
    "ports": {"type": "list", "elements": "str", "default": []},
}
HEADLINE = "Preflight found what stands in the way; nothing was changed on any host."


class ActionModule(ActionBase):
    """Puts the hosts' findings together."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Judge, write, show; fail with all findings that end the run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec({**ARGUMENTS, **OWN_ARGUMENTS})
        results = results_of(args, task_vars)
        findings = all_findings(
            results, args["addresses"], args["networks"], args["skip_unreachable"], args["findings"]
        )
        # Unknown is null: the paths were not probed.
        others = {"underlay": args["underlay"] or None, "hosts": hosts_section(results, facts_of(results))}
        return dict(result, **conclude("preflight", HEADLINE, args, results, findings, args["ports"], **others))
