# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.doctor_bundle): reads variables and reports, writes an archive, connects to nothing."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.plugin_utils._bundle import bundle
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, results_of

ARGUMENTS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "result_variable": {"type": "str", "required": True},
    "doctor_variable": {"type": "str", "required": True},
    "report_dir": {"type": "str", "required": True},
    "secrets": {"type": "list", "elements": "str", "default": [], "no_log": True},
}


class ActionModule(ActionBase):
    """Puts what was gathered of all hosts into one archive."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect, write, say where it is."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        supports = plain(results_of(args, task_vars))
        doctors = plain(results_of(dict(args, result_variable=args["doctor_variable"]), task_vars))
        path, notes = bundle(supports, doctors, args["report_dir"], args["secrets"])
        left = f", with {len(notes)} things cut or missing (NOTES.txt in it)" if notes else ""
        Display().display(f"doctor: {path} has what a helper asks for, without secrets{left}")
        return dict(result, changed=False, bundle=path)
