# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.host_files): asks the host only where what preflight read of it is not what it should be."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import trust_as_template

from ansible_collections.multihost.overlay.plugins.module_utils._owned_files import in_order
from ansible_collections.multihost.overlay.plugins.modules.host_files import ARGUMENTS
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain

# What preflight registers in this run; its fact may come from a cache, of an earlier one.
READ = "__overlay_preflight_result"
FACT = "overlay_host_facts"


def known(task_vars: dict[str, Any]) -> Any:
    """What preflight has read of the host's files in this run; None if it has not, or if they were changed since."""
    fresh = "findings" in task_vars.get(READ, {})
    return plain(task_vars["ansible_facts"].get(FACT, {}).get("owned")) if fresh else None


class ActionModule(ActionBase):
    """A remote execution less for each call on a host that is in order."""

    _supports_check_mode = True
    _supports_async = False

    def _with_content(self, entry: dict[str, Any]) -> dict[str, Any]:
        """What Ansible's lookup of templates would do, which copies all variables for each (a twentieth of a second)."""
        if not entry["template"]:
            return entry
        text = self._loader.get_text_file_contents(self._find_needle("templates", entry["template"]))
        content = self._templar.template(trust_as_template(text), escape_backslashes=False)
        return dict(entry, content=content, template=None)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Compare; run the module if there is something to do."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        args["files"] = [self._with_content(entry) for entry in args["files"]]
        owned = known(variables)
        if in_order(plain(args), owned):
            return dict(result, changed=False, written=[], units={name: owned["units"][name] for name in args["units"]})
        result.update(self._execute_module(module_args=args, task_vars=task_vars))
        if owned is not None and result.get("changed") and not self._task.check_mode:
            result["ansible_facts"] = {FACT: dict(variables["ansible_facts"][FACT], owned=None)}
        return result
