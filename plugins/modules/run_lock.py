#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time: takes the lock of a cluster on one of its hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Take the lock of a cluster, so that no two runs change it at a time
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Takes the lock on one host, which is the same for all runs. A process on the controller then renews it every 15 seconds and gives it
    back when ansible-playbook is gone, however it ended. It is in C(/run/multihost-overlay-lock), root's alone.
  - A holder that was not heard of for 60 seconds of the host's own clock has lost it, and so has one on this controller whose process
    is gone.
  - A run whose lock was taken from it, because its controller slept, is ended as soon as that is noticed.
  - The playbook that runs holds the lock, so that a second task of it takes nothing more.
  - Does not fail if another run holds it, nor if the host cannot be asked; what it returns says so. In check mode it only looks, and warns.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: A lock is no change of the cluster.
  idempotent:
    support: full
options:
  take_over:
    description: Take it whoever holds it. Two runs may then change the same hosts until the other one has noticed.
    type: bool
    default: false
  holder:
    description: Who takes it. Set by the action plugin of this name, on the controller.
    type: dict
    default: {}
  gone:
    description: Holders whose process is known to be gone. Set by the action plugin of this name.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Take the lock on the first host that can be reached
  multihost.overlay.run_lock:
  delegate_to: "{{ item }}"
  loop: "{{ groups['overlay_hosts'] }}"
  loop_control:
    break_when: lock.problem == ''
  register: lock
  run_once: true
"""

RETURN = r"""
held:
  description: Whether this run has the lock now.
  type: bool
  returned: always
  sample: false
again:
  description: Whether it had it before.
  type: bool
  returned: always
  sample: false
holder:
  description: Who else holds it; empty if nobody does.
  type: dict
  returned: always
  sample: {user: alice, controller: laptop, pid: 4711, playbook: site.yml, taken_ago: 12.5, heard_ago: 3.1}
taken_from:
  description: From whom it was taken.
  type: list
  elements: dict
  returned: always
  sample: []
refusal:
  description: Why the run must not go on, and what to do; empty if it may.
  type: str
  returned: always
  sample: ""
problem:
  description: Why this host could not be asked; empty if it was.
  type: str
  returned: always
  sample: ""
"""

from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._run_lock import DIRECTORY, judge, look, take

ARGUMENTS: Dict[str, Dict[str, Any]] = {
    "take_over": {"type": "bool", "default": False},
    "holder": {"type": "dict", "default": {}},
    "gone": {"type": "list", "elements": "str", "default": []},
}


def run(params: Dict[str, Any], check_mode: bool) -> Dict[str, Any]:
    """Take it, or only look."""
    wanted, gone, take_over = params["holder"]["id"], params["gone"], params["take_over"]
    if check_mode:
        living, over = judge(look(DIRECTORY), wanted, gone, take_over)
    else:
        living, over = take(DIRECTORY, params["holder"], gone, take_over)
    again = living.get("id") == wanted
    other = {} if again else living
    held = not other and not check_mode
    return {
        "held": held,
        "again": again,
        "holder": other,
        "taken_from": [] if other else over,
        "refusal": "",
        "problem": "",
    }


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except OSError as exc:
        module.fail_json(msg=f"{DIRECTORY}: {exc}")
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
