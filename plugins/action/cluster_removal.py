# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.cluster_removal): nothing is run on any host."""

from __future__ import annotations

from typing import Any

from ansible.constants import COLOR_CHANGED
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory import agreed
from ansible_collections.multihost.overlay.plugins.plugin_utils._removal import judge, plan, story
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain

ARGUMENTS: dict[str, dict[str, Any]] = {
    "state": {"type": "str", "choices": ["planned", "judged"], "required": True},
    "node": {"type": "str", "default": ""},
    "replace_with": {"type": "str", "default": ""},
    "limit": {"type": "str", "default": ""},
    "store_group": {"type": "str", "default": "overlay_store"},
    "hosts_group": {"type": "str", "default": "overlay_hosts"},
    "managed": {"type": "bool", "default": True},
    "allow_any_count": {"type": "bool", "default": False},
    "confirmed": {"type": "bool", "default": False},
    "restart": {"type": "str", "default": "safe"},
    "address": {"type": "str", "default": ""},
    "others": {"type": "list", "elements": "str", "default": []},
    "skip_unreachable": {"type": "bool", "default": False},
}
# What the tasks of role overlay register on the hosts that they ask.
HOST, STORE = "__overlay_preflight_result", "__overlay_removal_member"
CONTAINERS, ENGINE, LEFT = "__overlay_removal_containers", "__overlay_removal_engine", "__overlay_removal_forgotten"
NOBODY = "no engine runs on the hosts that stay, and one of them is to take its containers out of the store: systemctl start docker"
Json = dict[str, Any]


def told(hostvars: Any, name: str, key: str) -> Json:
    """What a host that was asked has registered; of several one that knows a leader, or has an answer."""
    answers = [plain(hostvars[host].get(name) or {}) for host in hostvars]
    asked = [found for found in answers if found and not found.get("skipped")]
    return next(iter(sorted(asked, key=lambda found: (not found.get("leader"), key not in found))), {})


def trouble(result: Json, key: str) -> str:
    """Why it could not be asked: its task was let fail, and there is no answer in what it has left."""
    unasked = not result or result.get("skipped") or key in result
    return "" if unasked else str(result.get("msg", "no message"))


def observations(args: Json, hostvars: Any) -> Json:
    """All that was said of the node and of the store."""
    node = hostvars[args["node"]]
    host, containers, engine = (plain(node.get(name)) or {} for name in (HOST, CONTAINERS, ENGINE))
    store, left = told(hostvars, STORE, "leader"), told(hostvars, LEFT, "nodes")
    reached = "findings" in host
    asked = [trouble(left, "nodes") if left else NOBODY]
    asked += [trouble(containers, "containers"), trouble(engine, "restart_pending")]
    return {
        "reached": reached,
        "unread": "" if reached or host.get("unreachable") else str(host.get("msg", "no message")),
        "troubles": [text for text in asked if text],
        "silent": [name for name in args["others"] if "findings" not in (plain(hostvars[name].get(HOST)) or {})],
        "member": store.get("member", ""),
        "leader": store.get("leader", ""),
        "why": store.get("why") or trouble(store, "leader"),
        "voters": store.get("voters", []) if args["managed"] else None,
        "registered": bool(left.get("nodes")),
        "endpoints": left.get("endpoints", []),
        "containers": containers.get("containers", []),
        "restarts": bool(engine.get("restart_pending")),
        "dying": [row for row in engine.get("containers", []) if row["would_die"]],
    }


class ActionModule(ActionBase):
    """Says who is a member meanwhile and afterwards; later, whether it may be."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan by the inventory, or judge by what the hosts have said."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        if args["state"] == "planned":
            groups, errors = plan(self._of_the_cluster(args, variables), plain(variables["groups"]))
            result.update(changed=False, groups=groups)
        else:
            seen = observations(args, variables["hostvars"])
            asked = {**args, "servers": list(variables["groups"].get(args["store_group"], []))}
            lines, errors = story(args, seen), judge(asked, seen)
            for line in lines:
                Display().display(f"remove_node: {line}", color=COLOR_CHANGED)
            result.update(changed=False, story=lines, alive=seen["reached"], address=args["address"])
        if errors:
            text = "\n".join(f"  - {error}" for error in errors)
            result.update(failed=True, msg=f"The host is not taken out; nothing was changed on any host.\n{text}")
        return result

    @staticmethod
    def _of_the_cluster(args: Json, variables: Json) -> Json:
        """With what the inventory sets for its hosts, which the controller's own variables do not have."""
        groups = variables["groups"]
        members = [*groups.get(args["store_group"], []), *groups.get(args["hosts_group"], [])]
        names = {"managed": "overlay_consul_manage", "allow_any_count": "overlay_store_allow_any_count"}
        found = {key: agreed(name, members, variables["hostvars"], args[key])[0] for key, name in names.items()}
        return {**args, **found}
