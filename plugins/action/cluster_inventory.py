# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.cluster_inventory): nothing is run on any host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory import validate


def _message(errors: list[str]) -> str:
    lines = "\n".join(f"  - {error}" for error in errors)
    return f"The inventory cannot be used; nothing was changed on any host.\n{lines}"


class ActionModule(ActionBase):
    """Validates the inventory and hands out each host's underlay address."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(["cluster"])

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return ``overlay_addresses`` as a fact, or fail with all errors at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        addresses, errors = validate(variables["groups"], variables["hostvars"], self._task.args["cluster"])
        result.update(changed=False, errors=errors, addresses=addresses, hosts=variables.get("ansible_play_hosts", []))
        if errors:
            result.update(failed=True, msg=_message(errors))
        else:
            result["ansible_facts"] = {"overlay_addresses": addresses}
        return result
