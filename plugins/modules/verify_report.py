#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: verify_report
short_description: Plan and report a proof of all pairs of hosts
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - The controller's part of a run of M(multihost.overlay.overlay_ping). Reads what the hosts registered as
    C(__overlay_verify_started), C(__overlay_verify_probed) and C(__overlay_verify_collected).
  - The pairs come from O(hosts) and O(networks) alone. A host or an endpoint that did not start makes failed rows,
    never missing ones.
  - Runs on the controller only.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: It writes a report about a moment.
  idempotent:
    support: none
    details: Each run has a number and a report of its own.
options:
  state:
    description:
      - V(begun) numbers the run, and refuses it when hosts are left out of the play, or when O(baseline) is of no use.
      - V(planned) chooses a container or a free address for each host and network.
      - V(composed) writes C(verify.json) and C(verify.xml) (JUnit, a case for each pair), prints a
        matrix for each network, and fails when a pair failed.
    type: str
    choices: [begun, planned, composed]
    required: true
  hosts:
    description: The inventory's names of the overlay's hosts.
    type: list
    elements: str
    required: true
  addresses:
    description: The underlay address of each host, as in C(overlay_addresses). Needed for O(state=planned).
    type: dict
  networks:
    description: Names of the networks. Needed for O(state=planned).
    type: list
    elements: str
    default: []
  run:
    description: RV(run). Needed for O(state=planned) and O(state=composed).
    type: dict
  plan:
    description: RV(plan). Needed for O(state=composed).
    type: dict
  count:
    description: Packets of a pair's series.
    type: int
    default: 10
  interval:
    description: Seconds between them.
    type: float
    default: 0.05
  patience:
    description: Seconds to wait for a peer's first answer, once the endpoints of all hosts are up, and for its name.
    type: float
    default: 10.0
  start_wait:
    description: Seconds that the start of a host's temporary containers may take.
    type: float
    default: 60.0
  transport:
    description: Whether TCP connections and UDP datagrams are tried too.
    type: bool
    default: true
  peers:
    description: With how many peers each host is measured at least; 0 for all.
    type: int
    default: 0
  only:
    description: Measure only the pairs in which one of these of O(hosts) is; empty for all.
    type: list
    elements: str
    default: []
  rounds:
    description: How many times every pair is measured.
    type: int
    default: 1
  streams:
    description: On how many pairs a stream of TCP is measured.
    type: int
    default: 0
  max_loss:
    description: The greatest loss, as a fraction, at which a pair is still good.
    type: float
    default: 0.0
  baseline:
    description:
      - File on the controller with the medians of a good run. Where it is there, O(state=composed) compares with it. Pairs that are
        slower, lost (good then, failed now), new and gone are in C(verify.json) and on the terminal. Where it is not, O(state=composed)
        writes it if all pairs are good.
      - A relative one is under the folder that Ansible was started in. Empty, there is none.
    type: str
    default: ""
  slower:
    description:
      - A pair is slower when its median is more than so many times that of O(baseline), and at least one millisecond above it.
        It is warned of, and is no failure.
    type: float
    default: 3.0
  report_dir:
    description:
      - Folder on the controller for C(verify.json) and C(verify.xml). A relative one is under the folder that Ansible was started in.
    type: str
    default: ./overlay-report
seealso:
  - module: multihost.overlay.overlay_ping
"""

EXAMPLES = r"""
- name: Choose who probes, and from which address
  multihost.overlay.verify_report:
    state: planned
    hosts: "{{ groups['overlay_hosts'] }}"
    addresses: "{{ overlay_addresses }}"
    networks: [vnet1]
    run: "{{ begun.run }}"
  register: planned
"""

RETURN = r"""
run:
  description: The run's number and when it began.
  returned: for O(state=begun)
  type: dict
  sample: {id: 0123456789abcdef, begun: 1790000000.0}
plan:
  description: What every host needs to know; the same for all.
  returned: for O(state=planned)
  type: dict
  sample: {run: 0123456789abcdef, hosts: [node1, node2], networks: [vnet1], probes: [], timing: {}}
at:
  description: When the plan was made, in seconds since 1970 on the controller's clock.
  returned: for O(state=planned)
  type: float
  sample: 1790000000.0
path:
  description: The report on the controller.
  returned: for O(state=composed)
  type: str
  sample: /home/user/overlay-report/verify.json
summary:
  description: The number of pairs and of other checks, how many failed, and how long the run took.
  returned: for O(state=composed)
  type: dict
  sample: {pairs: 6, failed: 0, checks: 3, checks_failed: 0, seconds: 5.1}
"""
