# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.consul_secrets): does not ask a host where preflight found in this run that it keeps none."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action.host_files import known
from ansible_collections.multihost.overlay.plugins.module_utils._secrets import PATH


def keeps_none(owned: Any, path: str) -> bool:
    """Whether it is certain: preflight has looked for the file, nothing was written since, and there was none."""
    return owned is not None and owned["files"].get(path, "unknown") is None


class ActionModule(ActionBase):
    """A remote execution less on a host that is new."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Answer for the host, or ask it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if keeps_none(known(task_vars or {"ansible_facts": {}}), str(self._task.args.get("path", PATH))):
            return dict(result, changed=False, secrets=None, in_order=False)
        return dict(result, **self._execute_module(task_vars=task_vars))
