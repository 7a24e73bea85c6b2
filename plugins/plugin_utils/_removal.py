# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which host is to leave a cluster, who is a member meanwhile and afterwards, and why it must not leave. Pure; asks nobody."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory import JOINT_STORE, LEFT_STORE, SERVER_COUNTS

# In-memory groups that the plays go by: members while a replacement joins, members in the end, the host itself, and its replacement.
JOINT, LEFT = "overlay_removal", "overlay_remaining"
JOINT_HOSTS, LEFT_HOSTS = "overlay_removal_hosts", "overlay_remaining_hosts"
LEAVING, JOINING = "overlay_leaving", "overlay_joining"

Json = dict[str, Any]
LOST = "docs/day-2.md (The store has lost its quorum) says how to go on."


def without(names: Iterable[str], name: str) -> list[str]:
    return [other for other in names if other != name]


def joined(names: Sequence[str], name: str) -> list[str]:
    """With one more, if there is one and it is not there yet."""
    return [*names, *([name] if name and name not in names else [])]


def members(asked: Mapping[str, Any], store: Sequence[str], hosts: Sequence[str]) -> dict[str, list[str]]:
    """Group -> its hosts."""
    node, other = asked["node"], asked["replace_with"]
    servers = joined(store, other)
    every = list(dict.fromkeys([*servers, *hosts]))
    return {
        JOINT: every,
        JOINT_STORE: servers,
        JOINT_HOSTS: list(hosts),
        LEFT: without(every, node),
        LEFT_STORE: without(servers, node),
        LEFT_HOSTS: without(hosts, node),
        LEAVING: [node],
        JOINING: [other] if other else [],
    }


def check_node(asked: Mapping[str, Any], known: Sequence[str], store: Sequence[str], hosts: Sequence[str]) -> list[str]:
    """One host that is a member, and not the only one."""
    node = asked["node"]
    if not node:
        return ["it is not said which host is to leave: give -e node=NAME, as the inventory has it."]
    if "," in node or " " in node:
        return [f"node: {node}: one host at a time. Run this again for the next one."]
    if node not in known:
        return [
            (
                f"node: {node} is not in the inventory. Its name and address are needed until it is out: leave it in the inventory "
                "(or put it back), run this, then delete it there."
            )
        ]
    if node not in store and node not in hosts:
        return [f"node: {node} is in neither group of the cluster, so that there is nothing to take it out of."]
    if list(hosts) == [node]:
        return [f"node: {node} is the cluster's only Docker host: without it there is nothing left to serve."]
    return []


def check_replacement(asked: Mapping[str, Any], known: Sequence[str], store: Sequence[str]) -> list[str]:
    """A host that can become a server in the node's place."""
    node, other = asked["node"], asked["replace_with"]
    if not other:
        return []
    if not asked["managed"]:
        return ["replace_with: the store is somebody else's (overlay_consul_manage: false), so that no server is made."]
    if node not in store:
        return [f"replace_with: {node} is no host of the store, so that nobody takes its place there. Leave it out."]
    if other == node or other not in known:
        return [f"replace_with: {other} is {'the same host' if other == node else 'not in the inventory'}."]
    return []


def check_number(asked: Mapping[str, Any], store: Sequence[str], left: Sequence[str]) -> list[str]:
    """As many servers as survive a failure, as for any inventory."""
    node = asked["node"]
    if not asked["managed"] or node not in store:
        return []
    if not left:
        return [
            (
                f"node: {node} is the last host of the store: its secrets and networks would be gone with it. Give "
                "-e replace_with=NAME, a host of the inventory that takes its place."
            )
        ]
    if len(left) in SERVER_COUNTS or asked["allow_any_count"]:
        return []
    return [
        (
            f"node: {node} is a host of the store, and without it there are {len(left)} ({', '.join(left)}): an even number survives "
            "no more failures than one host less. Give -e replace_with=NAME, a host of the inventory that takes its place, or allow it "
            "with overlay_store_allow_any_count: true."
        )
    ]


def plan(asked: Mapping[str, Any], groups: Mapping[str, Sequence[str]]) -> tuple[dict[str, list[str]], list[str]]:
    """(group -> hosts, errors). Of a removal that cannot be there are no groups."""
    if asked["limit"]:
        return {}, [
            (
                "--limit: every host that remains is to close its ports to the one that leaves, and to prove that it still reaches "
                "the others. Run it without --limit."
            )
        ]
    store, hosts, known = (list(groups.get(name, [])) for name in (asked["store_group"], asked["hosts_group"], "all"))
    errors = check_node(asked, known, store, hosts)
    if not errors:
        left = members(asked, store, hosts)[LEFT_STORE]
        errors = check_replacement(asked, known, store) or check_number(asked, store, left)
    return ({} if errors else members(asked, store, hosts)), errors


# -- what the hosts said


def quorum(voters: int) -> int:
    return voters // 2 + 1


def check_life(node: str, seen: Mapping[str, Any]) -> list[str]:
    """A host that cannot be reached must be dead: one that lives would keep its containers' addresses, which others are given then."""
    if seen["reached"]:
        return []
    if seen["unread"]:
        return [
            f"{node} answers and cannot be read: {seen['unread']}. Cure that, or power the host off and run this again."
        ]
    where = "Consul sees its agent alive" if seen["member"] == "alive" else ""
    if not where and not seen["member"] and seen["registered"]:
        where = "its engine is still registered in the store (docker/nodes)"
    if not where:
        return []
    return [
        (
            f"{node} cannot be reached by Ansible, but {where}: its containers may run, and their addresses would be given to "
            "others. Cure the connection, or power the host off. If it has just died, run this again in two minutes."
        )
    ]


def check_quorum(asked: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """The store works now, with the replacement, and without the node. ``voters`` is None where the store is somebody else's."""
    node, other = asked["node"], asked["replace_with"]
    if seen["voters"] is None:
        return []
    if not seen["leader"]:
        return [
            f"the store has no leader now ({seen['why'] or 'nobody says why'}), so that nothing can be taken out of it. {LOST}"
        ]
    alive = {row["node"] for row in seen["voters"] if row["alive"]}
    every = {row["node"] for row in seen["voters"]}
    # With its replacement, without it, or only without it.
    steps = [every | {other}] if other and other not in every else []
    # Ten seconds after its death Consul counts a server no more: it must not be missed when one that lives goes too.
    missed = set(asked["servers"]) if node in alive else set()
    for step in [every, *steps, (every | missed | ({other} if other else set())) - {node}]:
        there = step & (alive | {other})
        if len(there) < quorum(len(step)):
            dead = ", ".join(sorted(step - there))
            return [
                (
                    f"of the store's servers {', '.join(sorted(step))}, {quorum(len(step))} must be alive, and {dead} is not: without "
                    f"{node} the store would have no quorum. Bring {dead} back first, or take that one out before."
                )
            ]
    return []


def check_consent(node: str, seen: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """Containers lose their network, and may die with the engine's restart, only if somebody has said so."""
    errors = []
    if seen["containers"] and not asked["confirmed"]:
        errors.append(
            f"{node} has {len(seen['containers'])} containers on overlay networks (listed above), which they would lose. Move them, or say "
            "that it may be: -e remove_confirm=yes."
        )
    dying = [row["name"] for row in seen["dying"]]
    if asked["restart"] == "never" and seen["restarts"]:
        errors.append(f"{node}: its engine leaves its store only by a restart, and overlay_docker_restart is never.")
    elif asked["restart"] == "safe" and dying:
        errors.append(
            f"{node}: its engine leaves its store only by a restart, of which these running containers would die: {', '.join(dying)}. "
            "Consent with overlay_docker_restart: rolling."
        )
    return errors


def judge(asked: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """Why nothing is done."""
    node, other = asked["node"], asked["replace_with"]
    errors = [f"it could not be asked: {text}" for text in seen["troubles"]]
    if other in seen["silent"]:
        errors.append(f"replace_with: {other} cannot be reached or read, and is to become a server.")
    elif seen["silent"] and not asked["skip_unreachable"]:
        errors.append(
            f"{', '.join(seen['silent'])} cannot be reached or read, and would go on taking {node} for a peer. Bring them back, or "
            "go on without them with overlay_skip_unreachable: true, and run site.yml when they are back."
        )
    return [*errors, *check_life(node, seen), *check_quorum(asked, seen), *check_consent(node, seen, asked)]


def leaving(row: Mapping[str, Any]) -> str:
    """A container, and the commands that bring it back."""
    state = "running" if row["running"] else "stopped"
    return f"{state} container {row['name']} leaves {', '.join(row['networks'])}; back with: {'; '.join(row['back'])}"


def story(asked: Mapping[str, Any], seen: Mapping[str, Any]) -> list[str]:
    """What is going to happen, a line each."""
    node = asked["node"]
    lines = [f"{node} is {'alive' if seen['reached'] else 'silent'}"]
    lines += [leaving(row) for row in seen["containers"]]
    if seen["restarts"]:
        lines.append(f"the engine of {node} is restarted")
    gone = seen["endpoints"] if not seen["reached"] else []
    lines += [
        f"the store forgets container {row['name']} ({row['address'] or 'no address'}) on {row['network']}"
        for row in gone
    ]
    if asked["replace_with"]:
        lines.append(f"{asked['replace_with']} becomes a server of the store, before {node} leaves it")
    return lines
