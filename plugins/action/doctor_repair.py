# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.doctor_repair): refuses without all hosts, shows the steps, asks the hosts that have some."""

from __future__ import annotations

from typing import Any

from ansible.constants import COLOR_CHANGED
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import permitted, refusal, say
from ansible_collections.multihost.overlay.plugins.modules.doctor_repair import ARGUMENTS
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, results_of

NOTHING: dict[str, Any] = {"changed": False, "steps": [], "backup": "", "refused": ""}


class ActionModule(ActionBase):
    """A host without a step costs no remote execution."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse, or show the host's steps and do them."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        results, host = results_of(args, task_vars), (task_vars or {})["inventory_hostname"]
        refused = refusal(results)
        steps = [] if refused else plain(permitted(host, results))
        if not steps:
            return dict(result, **dict(NOTHING, refused=refused))
        verb = "would" if self._task.check_mode else "will"
        for one in steps:
            Display().display(f"repair: {host} {verb} {say(one)}", color=COLOR_CHANGED)
        result.update(self._execute_module(module_args=dict(args, steps=steps), task_vars=task_vars))
        return result
