#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts right on one host what the doctor found and what is safe to put right."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_repair
short_description: Put right what the doctor found, where that is safe
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Removes endpoints of this host that no container has from the store, namespaces that no running container and no network in use has,
    and Docker's tunnels that were left in the host's own namespace. Nothing else, and nothing that was not shown before.
  - Looks again before it does anything, and does what is still so. Keys are written down first, below O(backup_dir) and for root
    alone, in the form of C(consul kv import). A key that changes meanwhile is left alone, and no key outside of C(docker/) is touched.
  - Refuses, without a failure, if one of O(hosts) was not read by M(multihost.overlay.host_doctor) in this run, or does not answer.
    Only who has seen all hosts knows that a container is on none. M(multihost.overlay.doctor_report) then reports C(repair_refused).
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
options:
  hosts:
    description: All hosts of the cluster, also those that a run with C(--limit) leaves out.
    type: list
    elements: str
    required: true
  result_variable:
    description: Name of the variable that the task with M(multihost.overlay.host_doctor) registered.
    type: str
    required: true
  address:
    description: The host's underlay address.
    type: str
    default: ""
  store_token:
    description: Token that may write C(docker/) in the store. Without it the one of dockerd's environment, if any.
    type: str
    default: ""
  backup_dir:
    description: Where the keys are kept before they are changed.
    type: path
    default: /var/lib/multihost-overlay/backups
  steps:
    description: What to do. Set by the action plugin of this name from what was found, on the controller.
    type: list
    elements: dict
    default: []
seealso:
  - module: multihost.overlay.host_doctor
  - module: multihost.overlay.doctor_report
"""

EXAMPLES = r"""
- name: Put right what is safe to put right
  multihost.overlay.doctor_repair:
    hosts: "{{ groups['overlay_hosts'] }}"
    result_variable: doctor
    address: 10.88.0.11
  register: repair
"""

RETURN = r"""
steps:
  description: What was to be done. In check mode none is V(done).
  type: list
  elements: dict
  returned: always
  sample:
    - kind: endpoint
      thing: 0f1e2d3c
      network_id: a1b2c3d4
      network: shop
      name: web
      address: 10.100.80.2/24
      done: true
      error: ""
backup:
  description: The file with the keys as they were; empty if none was touched.
  type: str
  returned: always
  sample: /var/lib/multihost-overlay/backups/doctor-20270101T120000Z.json
refused:
  description: Why nothing was repaired on any host; empty if it was not refused.
  type: str
  returned: always
  sample: ""
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._doctor import judge_host
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import (
    examine,
    options_of,
    patient_client,
    token_of,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import Step, plan, say, still_due
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_steps import Keys, Repairer, RepairError
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import http_asker

ARGUMENTS: dict[str, Any] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "result_variable": {"type": "str", "required": True},
    "address": {"type": "str", "default": ""},
    "store_token": {"type": "str", "default": "", "no_log": True},
    "backup_dir": {"type": "path", "default": "/var/lib/multihost-overlay/backups"},
    "steps": {"type": "list", "elements": "dict", "default": []},
}


def make_repairer(reader: Reader, observed: dict[str, Any], params: dict[str, Any]) -> Repairer:
    """With the token and the certificates of dockerd."""
    engine, url = observed["engine"], observed["store"].get("url", "")
    token = params["store_token"] or token_of(reader, engine["pid"])
    return Repairer(observed, patient_client(), Keys(url, token, http_asker(url, options_of(engine))), run_program)


def repair(due: list[Step], repairer: Repairer, params: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Keep, then do: the steps as they ended, and where the keys are kept."""
    backup = repairer.backup(due, params["backup_dir"], time.time())
    return [repairer.do(one) for one in due], backup


def main() -> None:
    """Look again, do what is still due, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    reader = Reader()
    observed = examine(reader, {**module.params, "journal_minutes": 1})
    due = still_due(module.params["steps"], plan(observed, judge_host(observed, module.params)))
    backup = ""
    steps: list[dict[str, Any]] = [{**one, "done": False, "error": ""} for one in due]
    if due and not module.check_mode:
        try:
            steps, backup = repair(due, make_repairer(reader, observed, module.params), module.params)
        except (RepairError, OSError) as exc:
            steps = [{**one, "done": False, "error": f"nothing was done: {exc}"} for one in due]
    changed = bool(due) if module.check_mode else any(one["done"] for one in steps)
    before = "".join(f"{say(one)}\n" for one in steps if one["done"] or module.check_mode)
    diff = {"before": before, "after": "", "before_header": "to be repaired", "after_header": "repaired"}
    module.exit_json(changed=changed, steps=steps, backup=backup, refused="", diff=diff)


if __name__ == "__main__":
    main()
