#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action of the same name, which runs on the controller alone."""

from __future__ import annotations

DOCUMENTATION = r"""
module: upgrade_report
short_description: Plan an upgrade of engines and Consul, judge each step, and say how it ended
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - With O(state=planned) it shows what there is and what would be on every host, refuses what cannot be, and says who comes after whom.
  - With O(state=judged) it fails, with what is done and how to go on and back, if the step before it failed.
  - With O(state=ended) it fails if engines wait for consent to their restart, except where nobody was to be restarted at all.
  - It works on the controller alone. Register it per cluster (C(run_once)), since it looks at all hosts.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  state:
    description: Which step.
    type: str
    choices: [planned, judged, ended]
    required: true
  hosts:
    description: All hosts of the cluster.
    type: list
    elements: str
    required: true
  result_variable:
    description: Under which name each host's result of M(multihost.overlay.host_upgrade) was registered.
    type: str
    default: ""
  servers:
    description: The hosts that run a Consul server.
    type: list
    elements: str
    default: []
  leader:
    description: The server that leads; it comes last of them.
    type: str
    default: ""
  despite:
    description: Which refusals do not hold, of V(verify), V(downgrade) and V(jump).
    type: list
    elements: str
    choices: [verify, downgrade, jump]
    default: []
  archive:
    description: The archive of the engine on the controller, and C(backend), the client of a store that it must have. Empty for none.
    type: dict
    default: {}
  plan:
    description: What O(state=planned) returned.
    type: dict
    default: {}
  turn:
    description: The step that is judged, one of RV(turns).
    type: dict
    default: {}
  problem:
    description: What is known to have failed in it; empty for nothing.
    type: str
    default: ""
  back:
    description: What became of going back.
    type: str
    default: ""
seealso:
  - module: multihost.overlay.host_upgrade
"""

EXAMPLES = r"""
- name: Plan the upgrade
  multihost.overlay.upgrade_report:
    state: planned
    hosts: "{{ ansible_play_hosts_all }}"
    result_variable: offered
  register: plan
  # One plan for the cluster; nothing runs on a host.
  run_once: true
"""

RETURN = r"""
rows:
  description: What is there and what would be, for every host and program.
  type: list
  elements: dict
  returned: O(state=planned)
  sample:
    - {host: node1, program: engine, have: 20.10.5, want: 20.10.24, action: upgrade, why: from the archive, packages: []}
turns:
  description: Who is upgraded after whom.
  type: list
  elements: dict
  returned: O(state=planned)
  sample: [{host: node1, program: engine}]
waiting:
  description: The rows of engines that wait for consent to their restart.
  type: list
  elements: dict
  returned: O(state=planned)
  sample: []
"""
