# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the hosts' tasks have registered, read from the play's variables. Runs on the controller."""

from __future__ import annotations

from typing import Any, Mapping


def plain(value: Any) -> Any:
    """Copy templated values into plain ones: JSON and the planner know nothing of lazy containers."""
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def registered(hostvars: Any, hosts: list[str], name: str, run: str) -> dict[str, Any]:
    """Return what each host registered under a name; hosts that fell out have nothing, or what another run left."""
    found = {}
    for host in hosts:
        variables = hostvars[host]
        value = plain(variables[name]) if name in variables else None
        if value is not None and value.get("run_id", run) == run:
            found[host] = value
    return found


def results_of(args: Mapping[str, Any], task_vars: Mapping[str, Any] | None) -> dict[str, Any]:
    """What each host's module has returned; nothing where it could not be run."""
    hostvars = (task_vars or {})["hostvars"]
    return {host: hostvars[host].get(args["result_variable"]) or {} for host in args["hosts"]}
