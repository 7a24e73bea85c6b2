#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Waits until Consul's servers are all there, vote and are up to date, and the Consul of this host is what it shall be."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_health
short_description: Wait until all servers of a Consul vote and are up to date
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Asks the Consul of this host for its version, and by way of it the leader for the state of all servers. Good is when there is a leader,
    and each of O(servers) is alive, votes, has heard of the leader lately and has what the leader has.
  - It fails with what is not so when that does not come within O(wait) seconds. Changes nothing.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.info
options:
  url:
    description: The API of a Consul on this host.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: A token that may read the operator's view (C(operator:read)) and the agent.
    type: str
    required: true
  servers:
    description: The names of all servers.
    type: list
    elements: str
    required: true
  version:
    description: The version that the Consul of this host shall have, such as V(1.8.7); empty for any.
    type: str
    default: ""
  wait:
    description: Seconds to wait for it.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Go on only when all servers vote again
  multihost.overlay.consul_health:
    token: "{{ management_token }}"
    servers: "{{ groups['overlay_store'] }}"
"""

RETURN = r"""
leader:
  description: The name of the leader.
  type: str
  returned: success
  sample: node1
version:
  description: The version of this host's Consul.
  type: str
  returned: success
  sample: 1.8.7
"""

import json
import platform
import time
from typing import Any, Dict, List, Mapping, Sequence, Tuple

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError
from ansible_collections.multihost.overlay.plugins.module_utils._upgrade_plan import numbers

Json = Dict[str, Any]
# Consul's answer while a server is not healthy; its body says which.
UNHEALTHY = 429
POLL = 0.5


def problems(health: Mapping[str, Any], servers: Sequence[str]) -> List[str]:
    """What is not as it should be, by what the leader says of the servers."""
    known = {str(row.get("Name")): row for row in health.get("Servers") or []}
    found = [f"{name} is not among the servers" for name in servers if name not in known]
    for name in [name for name in servers if name in known]:
        found += _problems(name, known[name])
    if not any(row.get("Leader") for row in known.values()):
        found.append("there is no leader")
    return found


def _problems(name: str, row: Mapping[str, Any]) -> List[str]:
    if row.get("SerfStatus") != "alive":
        return [f"{name} is {row.get('SerfStatus') or 'unknown'}"]
    if not row.get("Voter"):
        return [f"{name} does not vote yet"]
    if not row.get("Healthy"):
        seen = f"index {row.get('LastIndex')}, heard of the leader {row.get('LastContact')} ago"
        return [f"{name} is not up to date ({seen})"]
    return []


def own_problems(stats: Mapping[str, Any], health: Mapping[str, Any]) -> List[str]:
    """What a server says of itself: the leader looks at the others every two seconds only, and misses one that was just restarted."""
    raft = stats.get("raft")
    if not raft:
        return []  # an agent has none
    if raft.get("state") not in ("Leader", "Follower") or raft.get("last_contact") == "never":
        return [
            f"the server of this host is no peer yet ({raft.get('state')}, heard of the leader: {raft.get('last_contact')})"
        ]
    leads = max((int(row.get("LastIndex") or 0) for row in health.get("Servers") or []), default=0)
    if int(raft.get("applied_index") or 0) < leads:
        return [f"the server of this host is at index {raft.get('applied_index')} of {leads}"]
    return []


def leader_of(health: Mapping[str, Any]) -> str:
    """The leader's name."""
    return next((str(row["Name"]) for row in health.get("Servers") or [] if row.get("Leader")), "")


def ask_health(consul: Consul) -> Json:
    """What the leader says, also when it is not content."""
    try:
        return dict(consul.ask("GET", "operator/autopilot/health"))
    except ConsulError as exc:
        if exc.status != UNHEALTHY:
            raise
        return dict(json.loads(exc.body))


def look(consul: Consul, servers: Sequence[str], version: str) -> Tuple[Json, List[str]]:
    """One look: what to return, and what is wrong."""
    try:
        health = ask_health(consul)
        # Behind it: what it is compared with must not be younger.
        agent = consul.ask("GET", "agent/self")
    except ConsulError as exc:
        return {}, [str(exc)]
    own = str(agent["Config"]["Version"])
    found = problems(health, servers) + own_problems(agent.get("Stats") or {}, health)
    if numbers(version) and numbers(own) != numbers(version):
        found.append(f"Consul {own} runs here, not {version}")
    return {"leader": leader_of(health), "version": own}, found


def run(params: Mapping[str, Any]) -> Json:
    """Look until all is well, or the time is over."""
    consul = Consul(params["url"], params["token"])
    deadline = time.monotonic() + params["wait"]
    while True:
        result, found = look(consul, params["servers"], params["version"])
        if not found:
            return {"changed": False, **result}
        if time.monotonic() >= deadline:
            words = f"the store is not whole after {params['wait']} s: {'; '.join(found)}"
            raise ConsulError(f"{words}. See journalctl -u multihost-overlay-consul", 0)
        time.sleep(POLL)


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "token": {"type": "str", "required": True, "no_log": True},
            "servers": {"type": "list", "elements": "str", "required": True},
            "version": {"type": "str", "default": ""},
            "wait": {"type": "int", "default": 120},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params)
    except ConsulError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
