#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes the key of Consul's gossip while it runs."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_keyring
short_description: Change the key with which Consul encrypts its gossip, while it runs
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Installs a key on all members, makes them use it, and takes all other keys away, in this order; each step only when every member has
    taken the one before.
  - Refuses to begin while a member is not alive, which would keep the old key and never come back.
  - Safe to run again after it was interrupted, and without effect where the key is the only one.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: Keys are secret.
  idempotent:
    support: full
options:
  url:
    description: The API of a Consul on this host.
    type: str
    default: http://127.0.0.1:8500
  token:
    description: A token that may write the keyring (C(operator:write)) and read the members.
    type: str
    required: true
  key:
    description: The key that is to be the only one, 16, 24 or 32 bytes in base64.
    type: str
    required: true
"""

EXAMPLES = r"""
- name: Use the new key and no other
  multihost.overlay.consul_keyring:
    token: "{{ management_token }}"
    key: "{{ new_key }}"
  # One asks all members.
  run_once: true
  no_log: true
"""

RETURN = r"""
steps:
  description: What was (or would be) done.
  type: list
  elements: str
  returned: success
  sample: [installed, used, removed 1]
"""

import platform
from typing import Any, Dict, List, Mapping, Sequence

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError

ALIVE = 1
Ring = Mapping[str, Any]


def problem(members: Sequence[Mapping[str, Any]]) -> str:
    """Why no key may change now; empty when it may. Those that left (3) are no members any more."""
    absent = sorted(str(member["Name"]) for member in members if member["Status"] not in (ALIVE, 3))
    if not absent:
        return ""
    return f"{', '.join(absent)} would keep the old key and could never join again: bring them back first, or take them off"


def lacking(rings: Sequence[Ring], key: str) -> bool:
    """Whether some member does not have the key."""
    return any(ring["Keys"].get(key, 0) < ring["NumNodes"] for ring in rings)


def others(rings: Sequence[Ring], key: str) -> List[str]:
    """The other keys that some member has."""
    return sorted({found for ring in rings for found in ring["Keys"]} - {key})


def rotate(consul: Consul, key: str, check_mode: bool) -> List[str]:
    """Install, use, remove."""
    rings = consul.ask("GET", "operator/keyring")
    missing, old = lacking(rings, key), others(rings, key)
    steps = ["installed"] * missing + (["used", f"removed {len(old)}"] if old else [])
    if check_mode or not steps:
        return steps
    consul.ask("POST", "operator/keyring", {"Key": key})
    if lacking(consul.ask("GET", "operator/keyring"), key):
        raise ConsulError("not every member has taken the new key; the old one stays in use. Run this again", 0)
    consul.ask("PUT", "operator/keyring", {"Key": key})
    for found in old:
        consul.ask("DELETE", "operator/keyring", {"Key": found})
    return steps


def run(params: Dict[str, Any], check_mode: bool) -> Dict[str, Any]:
    """Look whether all are there, then rotate."""
    consul = Consul(params["url"], params["token"])
    wrong = problem(consul.ask("GET", "agent/members"))
    if wrong:
        raise ConsulError(wrong, 0)
    steps = rotate(consul, params["key"], check_mode)
    return {"changed": bool(steps), "steps": steps}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "token": {"type": "str", "required": True, "no_log": True},
            "key": {"type": "str", "required": True, "no_log": True},
        },
        supports_check_mode=True,
    )
    try:
        result = run(module.params, module.check_mode)
    except ConsulError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
