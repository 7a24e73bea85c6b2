#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gives each host of an overlay its policy and tokens in Consul's ACL, in one call."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_acl
short_description: Give each host of an overlay its policy and tokens in Consul's ACL
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Makes, for each host, policies and tokens for its Consul and for its engine, in a single remote execution where a task
    for each would cost three for each host.
  - An engine may read and write Docker's keys and hold sessions on its own node, nothing else.
  - Tokens of its own making that were made from other secrets are taken away where the host is among O(settled). Tokens and policies of
    hosts that are not among O(hosts) any more go. Whatever was not made by this module is left alone.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Names what is made and taken away; never a token.
  idempotent:
    support: full
options:
  url:
    description: The API of a Consul server or agent on this host.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: A token that may manage the ACL.
    type: str
    required: true
  hosts:
    description: The hosts.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The node's name in Consul.
        type: str
        required: true
      agent:
        description: The token of its Consul, a UUID.
        type: str
        required: true
      engine:
        description: The token of its engine, a UUID.
        type: str
        required: true
  present:
    description: Those of O(hosts) that are to get what they lack; all by default. Of the others what is there stays.
    type: list
    elements: str
  servers:
    description: Nodes of the servers that engines of other hosts ask, and on which their sessions are then.
    type: list
    elements: str
    default: []
  settled:
    description:
      - Those of O(hosts) whose engines run with the present token, so that tokens which were made from other secrets can go.
    type: list
    elements: str
    default: []
  wait:
    description: Seconds to wait for a Consul that has no leader, or does not know the token, yet.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Give each host its tokens
  multihost.overlay.consul_acl:
    token: "{{ management_token }}"
    hosts:
      - name: node1
        agent: "{{ agent_token }}"
        engine: "{{ engine_token }}"
  # The store is one for all.
  run_once: true
  no_log: true
"""

RETURN = r"""
made:
  description: What was made, changed or taken away, in words.
  type: list
  elements: str
  returned: success
  sample: ["policy multihost-overlay-engine-node1-6c9e2c61", "token multihost.overlay: engine of node1"]
old:
  description: Accessor IDs of tokens that were made from other secrets and are left, because their hosts are not among O(settled).
  type: list
  elements: str
  returned: success
  sample: []
"""

import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._consul_acl import Acl, Steps, plan, wants
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError


def words(steps: Steps) -> list[str]:
    """What is done, without any secret."""
    return [
        *(f"policy {policy['Name']}" for policy in steps.policies),
        *(f"token {token['Description']}" for token in steps.tokens),
        *(f"token {accessor} taken away" for accessor in steps.stale),
        *(f"policy {name} taken away" for name in steps.unused.values()),
    ]


def run(module: AnsibleModule) -> dict[str, Any]:
    """List, compare, do."""
    params = module.params
    acl = Acl(params["url"], params["token"])
    policies, tokens = acl.lists(params["wait"])
    want, due = wants(params["hosts"], params["servers"], params["present"])
    every = [host["name"] for host in params["hosts"]]
    steps = plan(want, policies, tokens, params["settled"], due)
    if not module.check_mode:
        acl.do(steps)
    made = words(steps)
    diff = {"before": "", "after": "".join(f"{line}\n" for line in made)}
    old = [accessor for accessor in plan(want, policies, tokens, every).stale if accessor not in steps.stale]
    return {"changed": steps.any, "made": made, "old": old, "diff": diff}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "token": {"type": "str", "required": True, "no_log": True},
            "hosts": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": {
                    "name": {"type": "str", "required": True},
                    "agent": {"type": "str", "required": True, "no_log": True},
                    "engine": {"type": "str", "required": True, "no_log": True},
                },
            },
            "present": {"type": "list", "elements": "str"},
            "servers": {"type": "list", "elements": "str", "default": []},
            "settled": {"type": "list", "elements": "str", "default": []},
            "wait": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module)
    except ConsulError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
