#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sees a member of Consul, waits for it, lets it leave, or forces it out."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_member
short_description: See a member of Consul, wait for it, let it leave, or force it out
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - With O(state=left), on the member itself, lets its Consul leave the others, then stops and disables its unit.
  - With O(state=absent), on another host, takes a member that has left or failed out of Raft, of the members and of the catalog.
    Refuses one that is alive, which would only come back.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
options:
  state:
    description:
      - V(seen) only looks.
      - V(voter) waits until the member is a server with a vote.
      - V(left) is for the member's own host, V(absent) for another.
    type: str
    choices: [seen, voter, left, absent]
    default: seen
  name:
    description: The member's node name.
    type: str
    required: true
  url:
    description: The API of a Consul on this host.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: A token that may manage Consul.
    type: str
    required: true
  unit:
    description: Consul's unit on this host.
    type: str
    default: multihost-overlay-consul.service
  silent:
    description: With O(state=seen), whether the member is known not to answer; then it is waited until Consul has noticed that too.
    type: bool
    default: false
  wait:
    description: How long to wait, in seconds.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Force a dead host out
  multihost.overlay.consul_member:
    state: absent
    name: node4
    token: "{{ management_token }}"
  # One server tells the others.
  run_once: true
"""

RETURN = r"""
member:
  description: The member's state as it was found, alive, leaving, left or failed; empty where there is no such member.
  type: str
  returned: success
  sample: failed
leader:
  description: Address of the leader; empty where there is none.
  type: str
  returned: success
  sample: 10.88.0.11:8300
why:
  description: What Consul says where there is no leader.
  type: str
  returned: success
  sample: ""
voters:
  description: The servers with a vote, and whether they are alive.
  type: list
  elements: dict
  returned: success
  sample: [{node: node1, address: "10.88.0.11:8300", alive: true}]
steps:
  description: What was (or would be) done.
  type: list
  elements: str
  returned: success
  sample: [removed from Raft, forced out]
"""

import platform
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Mapping, Sequence
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import summary, units

ARGUMENTS: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["seen", "voter", "left", "absent"], "default": "seen"},
    "name": {"type": "str", "required": True},
    "url": {"type": "str", "default": "http://127.0.0.1:8500"},
    "token": {"type": "str", "required": True, "no_log": True},
    "unit": {"type": "str", "default": "multihost-overlay-consul.service"},
    "silent": {"type": "bool", "default": False},
    "wait": {"type": "int", "default": 60},
}
# Serf's own numbers.
STATES = {0: "", 1: "alive", 2: "leaving", 3: "left", 4: "failed"}
POLL = 1.0
# What of a member is left, and is to go.
RAFT = "removed from Raft"
MEMBERS = "forced out of the members"
CATALOG = "taken out of the catalog"
Seen = Dict[str, Any]


def voters(servers: Sequence[Mapping[str, Any]], members: Sequence[Mapping[str, Any]]) -> List[Dict[str, Any]]:
    """The servers with a vote. Of one that Raft has and nobody knows the name is its address."""
    states = {f"{row['Addr']}:{row['Tags'].get('port')}": row for row in members if row["Tags"].get("role") == "consul"}
    found = []
    for server in filter(lambda row: row["Voter"], servers):
        member = states.get(server["Address"], {})
        name = member.get("Name") or server["Node"]
        found.append({"node": name, "address": server["Address"], "alive": member.get("Status") == 1})
    return found


def look(consul: Consul, name: str) -> Seen:
    """The member, and the servers. Without a leader no server tells who has a vote."""
    members = consul.ask("GET", "agent/members")
    state = next((STATES.get(row["Status"], "") for row in members if row["Name"] == name), "")
    try:
        servers = consul.ask("GET", "operator/raft/configuration")["Servers"]
        leader, why = str(consul.ask("GET", "status/leader") or ""), ""
    except ConsulError as exc:
        servers, leader, why = [], "", str(exc)
    return {"member": state, "leader": leader, "why": why, "voters": voters(servers, members), "servers": servers}


def wait_for(seconds: float, look_once: Callable[[], Seen], done: Callable[[Seen], bool]) -> Seen:
    """What is seen at last."""
    deadline = time.monotonic() + seconds
    while True:
        seen = look_once()
        if done(seen) or time.monotonic() >= deadline:
            return seen
        time.sleep(POLL)


def see(consul: Consul, params: Mapping[str, Any]) -> Seen:
    """Somebody who has just died is seen so some seconds later; a leader too is found again within seconds."""
    return wait_for(
        params["wait"],
        lambda: look(consul, params["name"]),
        lambda seen: bool(seen["leader"]) and not (params["silent"] and seen["member"] == "alive"),
    )


def young(consul: Consul, name: str) -> Seen:
    """What a Consul sees that has just been started, and does not answer yet."""
    try:
        return look(consul, name)
    except ConsulError as exc:
        return {"member": "", "leader": "", "why": str(exc), "voters": [], "servers": []}


def await_vote(consul: Consul, params: Mapping[str, Any]) -> Seen:
    """A new server has a vote when it has been well for some seconds."""
    name = params["name"]
    seen = wait_for(
        params["wait"],
        lambda: young(consul, name),
        lambda seen: name in {row["node"] for row in seen["voters"] if row["alive"]},
    )
    if name not in {row["node"] for row in seen["voters"]}:
        raise ConsulError(
            f"{name} has not become a server with a vote within {params['wait']} s: see journalctl -u {params['unit']} there",
            0,
        )
    return seen


def remains(consul: Consul, name: str, seen: Seen) -> List[str]:
    """What is still to be done."""
    steps = [RAFT] if raft_peers(seen, name) else []
    steps += [MEMBERS] if seen["member"] else []
    there = any(row["Node"] == name for row in consul.ask("GET", "catalog/nodes"))
    return steps + ([CATALOG] if there else [])


def raft_peers(seen: Seen, name: str) -> List[str]:
    """Its addresses in Raft, also without a vote."""
    known = {row["address"] for row in seen["voters"] if row["node"] == name}
    return sorted(known | {row["Address"] for row in seen["servers"] if row["Node"] == name})


def force_out(consul: Consul, name: str, seen: Seen, steps: Sequence[str]) -> None:
    """One round; what others do at the same time, as Consul's autopilot does, is no failure."""
    for address in raft_peers(seen, name) if RAFT in steps else []:
        with suppress(ConsulError):
            consul.ask("DELETE", f"operator/raft/peer?address={quote(address)}")
    if MEMBERS in steps:
        with suppress(ConsulError):
            consul.ask("PUT", f"agent/force-leave/{quote(name)}?prune")
    if steps == [CATALOG]:
        with suppress(ConsulError):
            consul.ask("PUT", "catalog/deregister", {"Node": name})


def remove(consul: Consul, params: Mapping[str, Any], check_mode: bool) -> Seen:
    """Round after round until nothing of it is left."""
    name, deadline = params["name"], time.monotonic() + params["wait"]
    first = seen = look(consul, name)
    done: List[str] = []
    while True:
        steps = remains(consul, name, seen)
        done += [step for step in steps if step not in done]
        if not steps or check_mode:
            return dict(first, steps=done)
        if time.monotonic() >= deadline:
            why = "it is alive: stop its Consul, or power the host off" if seen["member"] == "alive" else seen["why"]
            raise ConsulError(f"{name} is still to be {', '.join(steps)} after {params['wait']} s. {why}", 0)
        if seen["member"] != "alive":
            force_out(consul, name, seen, steps)
        time.sleep(POLL)
        seen = look(consul, name)


def leave(consul: Consul, params: Mapping[str, Any], check_mode: bool) -> Seen:
    """Whoever cannot leave in order is stopped, and is forced out by the others."""
    unit = params["unit"]
    state = summary(units([unit]).get(unit, {}))
    active, enabled = state["active"] in ("active", "activating"), state["enabled"] == "enabled"
    steps = ["left the others"] * active + [f"stopped and disabled {unit}"] * (active or enabled)
    if steps and not check_mode:
        if active:
            # It closes the connection as it goes.
            with suppress(ConsulError):
                consul.ask("PUT", "agent/leave", timeout=60)
        # At once: its unit would start it again.
        status, _out, err = run_program(["systemctl", "disable", "--now", unit], timeout=120)
        if status:
            raise ConsulError(f"systemctl disable --now {unit}: {err.strip()}", 0)
    return {"member": "", "leader": "", "why": "", "voters": [], "steps": steps}


def run(params: Dict[str, Any], check_mode: bool) -> Dict[str, Any]:
    """One of the four."""
    consul = Consul(params["url"], params["token"])
    if params["state"] == "left":
        seen = leave(consul, params, check_mode)
    elif params["state"] == "absent":
        seen = remove(consul, params, check_mode)
    elif params["state"] == "voter" and not check_mode:
        seen = await_vote(consul, params)
    else:
        seen = see(consul, params)
    steps = seen.get("steps", [])
    diff = {
        "before": f"{params['name']}\n" if steps else "",
        "after": "".join(f"{params['name']}: {step}\n" for step in steps),
    }
    shown = {name: seen[name] for name in ("member", "leader", "why", "voters")}
    return {"changed": bool(steps), "steps": steps, "diff": diff, **shown}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except ConsulError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
