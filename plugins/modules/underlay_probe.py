#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Proves the real TCP and UDP ports between hosts before anything is installed, and measures the paths."""

from __future__ import annotations

DOCUMENTATION = r"""
module: underlay_probe
short_description: Prove the ports between hosts by packets, before anything is installed
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Sends packets from a host to all its peers on the ports that an overlay needs, TCP and UDP, and listens for theirs.
    Measures for each direction the largest packet that passes, the round trip, and how far the clocks are apart.
  - Three calls per host make a run, whatever the number of peers. V(started) reads, V(probed) starts an agent that
    works and ends by itself, V(collected) takes its result. M(multihost.overlay.underlay_report) makes the plan between
    the first two and the findings after the third; role C(overlay_preflight) has all of it in order.
  - Ports that are free are really bound for that time. Where a program or the kernel has the port, TCP is proven by a
    handshake alone, VXLAN by datagrams with a reserved VNI (0xFFFFFE), which the kernel drops, and gossip by listening.
    A raw socket with a filter hears them, so that no device is made and no program gets a datagram that is not meant for
    it.
  - Changes nothing on the host, and leaves nothing behind.
requirements:
  - root on the host
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
attributes:
  check_mode:
    details: It changes nothing, so that packets are sent in check mode too.
options:
  state:
    description:
      - V(started) returns what the plan needs to know of this host, and ends and removes what earlier runs left behind.
      - V(probed) starts the agent with O(plan) and returns at once; where the plan says that all agents start together, it goes on with
        V(collected).
      - V(collected) waits until the agent has ended, and returns its result.
    type: str
    choices: [started, probed, collected]
    required: true
  run_id:
    description: The run's number, 16 hexadecimal digits, the same on all hosts.
    type: str
    required: true
  address:
    description: The underlay address of this host. Needed for O(state=started).
    type: str
  ports:
    description: The ports that peers must reach here, as C(udp/4789). Used with O(state=started).
    type: list
    elements: str
    default: []
  networks:
    description: Names of networks whose MTU is to be read. Used with O(state=started).
    type: list
    elements: str
    default: []
  consul_port:
    description: Port of a Consul's HTTP API on the loopback address; V(0) asks none. Used with O(state=started).
    type: int
    default: 0
  host:
    description: The inventory's name of this host, as in the plan. Needed for O(state=probed).
    type: str
  plan:
    description: RV(multihost.overlay.underlay_report#module:plan). Needed for O(state=probed).
    type: dict
  docker_socket:
    description: The engine's socket on the host.
    type: path
    default: /var/run/docker.sock
seealso:
  - module: multihost.overlay.underlay_report
"""

EXAMPLES = r"""
- name: See which ports are free
  multihost.overlay.underlay_probe:
    state: started
    run_id: 0123456789abcdef
    address: 10.88.0.11
    ports: [udp/4789, tcp/7946, udp/7946]
  register: started

- name: Start the agent
  multihost.overlay.underlay_probe:
    state: probed
    run_id: 0123456789abcdef
    host: "{{ inventory_hostname }}"
    plan: "{{ planned.plan }}"

- name: Take its result
  multihost.overlay.underlay_probe:
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
problem:
  description: Why the host cannot take part; empty when it can.
  returned: for O(state=started)
  type: str
  sample: ""
interface:
  description: The interface that has the address.
  returned: for O(state=started)
  type: str
  sample: eth0
mtu:
  description: Its MTU.
  returned: for O(state=started)
  type: int
  sample: 1500
held:
  description: Those of O(ports) that a program or the kernel has.
  returned: for O(state=started)
  type: list
  elements: str
  sample: []
bridges:
  description: The MTU that containers get on Docker's bridges, where there are any.
  returned: for O(state=started)
  type: dict
  sample: {docker0: 1500}
networks:
  description: The underlay MTU that each network was made with; V(0) for Docker's default.
  returned: for O(state=started)
  type: dict
  sample: {vnet1: 0}
manager:
  description: V(firewalld) or V(ufw) where it rules the host's firewall, else empty.
  returned: for O(state=started)
  type: str
  sample: ""
members:
  description: By address, whether the local Consul takes the member for alive.
  returned: for O(state=started)
  type: dict
  sample: {10.88.0.12: true}
removed:
  description: The numbers of earlier runs of which something was left, and was removed.
  returned: for O(state=started)
  type: list
  elements: str
  sample: []
peers:
  description: What was sent and heard, by peer.
  returned: with the agent's result
  type: dict
  sample: {}
errors:
  description: What went wrong in the agent.
  returned: with the agent's result
  type: list
  elements: str
  sample: []
agent_died:
  description: Whether the agent ended without leaving a result.
  returned: with the agent's result
  type: bool
  sample: false
"""

import os
import re
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient
from ansible_collections.multihost.overlay.plugins.module_utils._probe_agent import observe, spawn
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import limits

Json = Dict[str, Any]
NOBODY: Json = {
    "interface": "",
    "mtu": 0,
    "held": [],
    "bridges": {},
    "networks": {},
    "members": {},
    "manager": "",
    "removed": [],
}


def started(params: Json) -> Json:
    """Read; send away what runs that were killed have left, since it would be in the way of this one."""
    removed = state.runs(kind=state.PROBE)
    for run in removed:
        state.dismiss(run, 3.0, kind=state.PROBE)
    client = DockerClient(params["docker_socket"], timeout=5.0)
    seen = observe(params["address"], params["ports"], params["networks"], params["consul_port"], client)
    return dict(seen, changed=False, removed=removed)


def probed(params: Json) -> Json:
    """Let the agent go its way; it holds ports for a moment and changes nothing."""
    spawn(params["plan"], params["host"])
    return collected(params) if params["plan"]["timing"]["together"] else {"changed": False}


def collected(params: Json) -> Json:
    """Wait for the agent, and send it away."""
    run = params["run_id"]
    plan = state.read_json(state.directory(run, kind=state.PROBE), state.PLAN)
    died: Json = {"changed": False, "peers": {}, "agent_died": True}
    if plan is None:
        return dict(died, errors=["no agent of this run is on this host"])
    result = state.wait_json(run, limits(plan, 0)[2], [state.RESULT], kind=state.PROBE)
    errors = [] if state.dismiss(run, 5.0, kind=state.PROBE) else ["the agent is still there"]
    if result is None:
        return dict(died, errors=errors)
    return dict(result, changed=False, agent_died=False, errors=errors + result["errors"])


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["started", "probed", "collected"], "required": True},
            "run_id": {"type": "str", "required": True},
            "address": {"type": "str"},
            "ports": {"type": "list", "elements": "str", "default": []},
            "networks": {"type": "list", "elements": "str", "default": []},
            "consul_port": {"type": "int", "default": 0},
            "host": {"type": "str"},
            "plan": {"type": "dict"},
            "docker_socket": {"type": "path", "default": "/var/run/docker.sock"},
        },
        required_if=[("state", "started", ("address",)), ("state", "probed", ("host", "plan"))],
        supports_check_mode=True,
    )
    params = module.params
    if not re.fullmatch(r"[0-9a-f]{16}", params["run_id"]):
        module.fail_json(msg=f"run_id must be 16 hexadecimal digits, not {params['run_id']!r}")
    if os.geteuid() != 0:
        if params["state"] != "started":
            module.fail_json(
                msg="only root can send and hear the probe's packets: set ansible_become: true in the inventory, or log in as root"
            )
        module.exit_json(run_id=params["run_id"], changed=False, **dict(NOBODY, problem="it was not read as root"))
    steps = {"started": started, "probed": probed, "collected": collected}
    module.exit_json(run_id=params["run_id"], **steps[params["state"]](params))


if __name__ == "__main__":
    main()
