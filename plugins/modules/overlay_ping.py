#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures overlay networks from inside containers' network namespaces."""

from __future__ import annotations

DOCUMENTATION = r"""
module: overlay_ping
short_description: Measure overlay networks from inside containers
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Measures from a host to its peers on several networks at once, by address, by name and by alias, with loss, round-trip times and
    full-size packets that must not be fragmented, over ICMP, UDP and TCP. Tries beside that whether containers get out, whether networks
    are apart, and the next container on the same host.
  - Two or three calls per host make a run, whatever the number of peers. V(started) reads, V(probed) starts an agent that
    works and ends by itself, V(collected) takes its result if it was not done soon. M(multihost.overlay.verify_report) makes
    the plan between the first two and the report after the last; role C(overlay_verify) has all of it in order.
  - Sends from a container that runs already where a host has one on the network. Elsewhere from a temporary container,
    at an address that no running or stopped container of any host claims. Its image is made on the spot; nothing is
    pulled, and nothing is installed or run in a user's container.
  - Everything is removed at the end. A temporary container also ends and goes by itself when its agent is killed, and
    the first call of the next run removes what a killed run left.
requirements:
  - root on the host
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: partial
    details: V(started) reads as always and removes nothing; the other calls do nothing and are skipped.
  diff_mode:
    support: none
    details: What it makes is gone when it ends.
  idempotent:
    support: full
options:
  state:
    description:
      - V(started) returns what the plan needs to know of this host, and removes what killed runs left behind.
      - V(probed) starts the agent with O(plan), and returns when its endpoints are up, or after 60 seconds (5 where
        hosts start in rounds). Where all hosts start at the same time it also waits for as long as an agent takes when nothing is wrong
        (the plan says how long that is), and returns its result.
      - V(collected) waits until the agent has ended, and returns its result. Where all hosts are collected at the same time it tells
        the agent that all endpoints are up.
    type: str
    choices: [started, probed, collected]
    required: true
  run_id:
    description: The run's number, 16 hexadecimal digits, the same on all hosts.
    type: str
    required: true
  networks:
    description: Names of the networks. Needed for O(state=started).
    type: list
    elements: str
    default: []
  wait:
    description:
      - For O(state=started), how many seconds an engine may take to show a network that it does not show yet, as one that was just made on
        another host.
    type: int
    default: 0
  host:
    description: The inventory's name of this host, as in the plan. Needed for O(state=probed).
    type: str
  plan:
    description: RV(multihost.overlay.verify_report#module:plan). Needed for O(state=probed).
    type: dict
  late:
    description: >-
      For O(state=probed), how many seconds ago the plan was made. With few forks hosts start in rounds, and all shall give up silent peers
      at the same moment.
    type: float
    default: 0.0
  docker_socket:
    description: The engine's socket on the host.
    type: path
    default: /var/run/docker.sock
seealso:
  - module: multihost.overlay.verify_report
"""

EXAMPLES = r"""
- name: Read what containers hold and claim
  multihost.overlay.overlay_ping:
    state: started
    run_id: 0123456789abcdef
    networks: [vnet1]
  register: started

- name: Start the agent
  multihost.overlay.overlay_ping:
    state: probed
    run_id: 0123456789abcdef
    host: "{{ inventory_hostname }}"
    plan: "{{ planned.plan }}"

- name: Take its result
  multihost.overlay.overlay_ping:
    state: collected
    run_id: 0123456789abcdef
  register: collected
"""

RETURN = r"""
run_id:
  description: The run's number.
  returned: success
  type: str
  sample: 0123456789abcdef
networks:
  description:
    - With O(state=started), for each network its id, address ranges, whether it is internal, the addresses that containers hold or
      claim, and running containers that can serve as the probe.
    - Else, for each network what was sent and heard, by peer and round; what was tried beside the pairs (C(asides));
      and who was heard from another network (C(leaks)).
  returned: for O(state=started) and O(state=collected), and for O(state=probed) where the agent was done soon
  type: dict
  sample:
    vnet1:
      id: 0f2c
      ipam: [{subnet: 10.10.1.0/24, ip_range: null, reserved: [10.10.1.1]}]
      internal: false
      claims: [10.10.1.2]
      running: []
      error: null
egress:
  description: Networks and hosts out of whose containers packets were seen to come to this host.
  returned: with an agent's result
  type: list
  elements: list
  sample: [[vnet1, node2]]
engine_error:
  description: Why the engine could not be asked; V(null) when it could.
  returned: for O(state=started)
  type: str
  sample: null
removed:
  description: What killed runs had left and was removed.
  returned: for O(state=started)
  type: list
  elements: str
  sample: []
errors:
  description: What went wrong in the agent beyond the measurements.
  returned: with an agent's result
  type: list
  elements: str
  sample: []
strays:
  description: Threads of dockerd that were lost in namespaces that are gone, before the run and after it; null where they
      could not be counted.
  returned: with an agent's result
  type: dict
  sample: {before: 0, after: 0}
agent_died:
  description: Whether the agent ended without leaving a result.
  returned: with an agent's result
  type: bool
  sample: false
"""

import os
import re
import time
from contextlib import suppress
from typing import Any, Dict, List

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._ping_claims import (
    alias_of,
    missing_network,
    read_network,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_endpoint import remove_runs
from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import ROUND, waits

Json = Dict[str, Any]
POLL = 0.25  # seconds


def remove_leftovers(client: DockerClient) -> List[str]:
    """Remove what runs whose agent is dead have left."""
    removed = remove_runs(client, lambda run: not state.alive(run))
    for run in state.dead_runs():
        state.remove(run)
        removed.append(state.directory(run))
    return removed


def add_alias(client: DockerClient, view: Json, name: str) -> None:
    """A list of containers does not tell aliases, so the one that probes is looked at."""
    for container in view["running"][:1]:
        try:
            container["alias"] = alias_of(client.get(f"/containers/{container['id']}/json"), name, view["id"])
        except DockerError as exc:
            if exc.status is None:
                raise
            # It ended just now, as its agent will say; or the engine is in trouble, which is no fault of the network's.


def look_at(client: DockerClient, name: str, listed: List[Json], containers: List[Json]) -> Json:
    """Only who needs an address there asks for the network itself, for which the engine reads each of its endpoints from the store.

    A list tells nothing of endpoints since API 1.28 (engine 17.04), and costs a tenth with 30 of them.
    """
    same = [network for network in listed if network["Name"] == name]
    if len(same) == 1:
        view = read_network(name, same[0], containers)
        if view["running"]:
            return view
    try:
        return read_network(name, client.get(f"/networks/{name}"), containers)
    except DockerError as exc:
        if exc.status is None:
            raise
        return missing_network(containers, name, exc.message)


def read_networks(client: DockerClient, names: List[str]) -> Json:
    """Return what this host knows of each network."""
    # All containers, also stopped ones: Docker does not reserve the addresses that those will ask for.
    containers = client.get("/containers/json", {"all": True}) or []
    listed = client.get("/networks") or []
    found: Json = {}
    for name in names:
        found[name] = look_at(client, name, listed, containers)
        add_alias(client, found[name], name)
    return found


def await_networks(client: DockerClient, names: List[str], wait: float) -> Json:
    """The same, as soon as the engine shows all of them, or when the time is over."""
    deadline = time.monotonic() + wait
    while True:
        found = read_networks(client, names)
        if time.monotonic() >= deadline or not any(network["error"] for network in found.values()):
            return found
        time.sleep(POLL)


def started(client: DockerClient, params: Json, check_mode: bool) -> Json:
    """Read; a silent engine is a result, not a failure, because its pairs must be reported too."""
    try:
        removed = [] if check_mode else remove_leftovers(client)
        networks = await_networks(client, params["networks"], params["wait"])
    except DockerError as exc:
        return {"changed": False, "networks": {}, "engine_error": exc.message, "removed": []}
    return {"changed": bool(removed), "networks": networks, "engine_error": None, "removed": removed}


def probed(client: DockerClient, params: Json) -> Json:
    """Let the agent go its way once its endpoints are up; what it makes is gone when it ends, so nothing changes. It may be done soon."""
    # Python compiles the agent each time, which is most of what the other two states would do on a host.
    from ansible_collections.multihost.overlay.plugins.module_utils._ping_agent import Agent, spawn

    run, timing = params["run_id"], params["plan"]["timing"]
    client.timeout = max(client.timeout, timing["start_wait"])
    spawn(Agent(client, params["plan"], params["host"], params["late"]))
    # Where collecting tells all agents that all are up, the controller waits for that here. Else only for what a round may take.
    state.wait_json(run, ROUND if timing["stop"] else timing["start_wait"], [state.READY, state.RESULT])
    result = state.wait_json(run, timing["soon"], [state.RESULT])
    return taken(run, result) if result else {"changed": False}


def taken(run: str, result: Json) -> Json:
    """What the agent has left for the controller; it may go."""
    late = [] if state.dismiss(run, 5.0) else ["the agent is still there"]
    return dict(result, changed=False, agent_died=False, errors=result["errors"] + late)


def collected(client: DockerClient, params: Json) -> Json:
    """Tell the agent that all are up, wait for it, and clean up in its place when it died."""
    run = params["run_id"]
    plan = state.read_json(state.directory(run), state.PLAN)
    died: Json = {"changed": False, "networks": {}, "agent_died": True}
    if plan is None:
        return dict(died, errors=["no agent of this run is on this host"])
    if not plan["timing"]["stop"]:
        with suppress(OSError):  # it ended by itself meanwhile
            state.write_json(state.directory(run), state.TOGETHER, {})
    # Its own last deadline, and the time that the removal of its containers may take.
    removal = max(client.timeout, plan["timing"]["start_wait"])
    result = state.wait_json(run, waits(plan["timing"], 0.0)[1] + removal, [state.RESULT])
    if result is not None:
        return taken(run, result)
    errors = [] if state.dismiss(run, 5.0) else ["the agent is still there"]
    try:
        remove_runs(client, lambda owner: owner == run)
    except DockerError as exc:
        errors.append(exc.message)
    return dict(died, errors=errors)


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "probed", "collected"], "required": True},
            "run_id": {"type": "str", "required": True},
            "networks": {"type": "list", "elements": "str", "default": []},
            "wait": {"type": "int", "default": 0},
            "host": {"type": "str"},
            "plan": {"type": "dict"},
            "late": {"type": "float", "default": 0.0},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        required_if=[("state", "started", ("networks",)), ("state", "probed", ("host", "plan"))],
        supports_check_mode=True,
    )
    params = module.params
    if not re.fullmatch(r"[0-9a-f]{16}", params["run_id"]):
        module.fail_json(msg=f"run_id must be 16 hexadecimal digits, not {params['run_id']!r}")
    if os.geteuid() != 0:
        module.fail_json(
            msg="only root can enter a container's network namespace: set ansible_become: true in the inventory, or log in as root"
        )
    client = DockerClient(params["docker_socket"])
    if params["state"] == "started":
        module.exit_json(run_id=params["run_id"], **started(client, params, module.check_mode))
    if module.check_mode:
        module.exit_json(changed=False, skipped=True, msg="no packets are sent in check mode")
    result = (probed if params["state"] == "probed" else collected)(client, params)
    module.exit_json(run_id=params["run_id"], **result)


if __name__ == "__main__":
    main()
