#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_report
short_description: Put the doctor's findings of all hosts together, with those that only show across hosts
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Takes the registered results of M(multihost.overlay.host_doctor) of all hosts, compares the hosts and the store with
    one another, writes C(doctor.json) and C(doctor.xml) (JUnit) on the controller, shows errors and warnings on the
    terminal, and fails with all errors at once.
  - A finding that belongs to the store and to no host has V((store\)) as its host.
  - Hosts that could not be reached or examined are findings too, if the task that examined them had
    C(ignore_unreachable) and C(failed_when=false).
  - Runs on the controller only; use it with C(run_once).
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.findings
options:
  result_variable:
    description: Name of the variable that the task with M(multihost.overlay.host_doctor) registered.
    type: str
    required: true
  repair_variable:
    description: Name of the variable that the task with M(multihost.overlay.doctor_repair) registered; empty if there was none.
    type: str
    default: ""
  addresses:
    description: The underlay address of each host of the inventory, as C(overlay_addresses).
    type: dict
    default: {}
seealso:
  - module: multihost.overlay.host_doctor
  - module: multihost.overlay.doctor_repair
"""

EXAMPLES = r"""
- name: Put all findings together
  multihost.overlay.doctor_report:
    hosts: "{{ ansible_play_hosts_all }}"
    result_variable: doctor
    addresses: "{{ overlay_addresses }}"
    report_dir: ./overlay-report
  # It looks at all hosts together, and connects to none.
  run_once: true
"""

RETURN = r"""
report:
  description: Path of C(doctor.json) on the controller. C(doctor.xml) lies beside it.
  type: str
  returned: always
  sample: /home/user/overlay-report/doctor.json
summary:
  description: Numbers of hosts and of findings of each level.
  type: dict
  returned: always
  sample: {hosts: 3, hosts_read: 3, errors: 0, warnings: 1, infos: 0}
repaired:
  description: What M(multihost.overlay.doctor_repair) did, or in check mode would do, on all hosts; also in the report.
  type: list
  elements: dict
  returned: when O(repair_variable) is given, and it does not fail
  sample:
    - host: node1
      kind: tunnel
      thing: vx-000100-abcde
      done: true
      error: ""
      backup: ""
findings:
  description: All findings, errors first. When it fails they are in the message and in the report.
  type: list
  elements: dict
  returned: success
  sample:
    - host: (store)
      id: ghost_host
      level: warning
      message: 10.88.0.9:2376 is registered in the store, and no engine of the inventory is there
      evidence: docker/nodes/10.88.0.9:2376
      fix: "wait for a minute (discovery.ttl); if it stays: consul kv delete docker/nodes/10.88.0.9:2376"
"""
