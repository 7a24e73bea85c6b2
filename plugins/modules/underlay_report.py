#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: underlay_report
short_description: Plan the probe of the paths between hosts, and judge what it found
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Controller side of M(multihost.overlay.underlay_probe). V(begun) numbers a run, V(planned) makes the plan for all
    hosts, V(composed) reads the hosts' books and returns findings, each with both hosts and the direction.
  - Reads what the hosts' tasks registered as C(__overlay_preflight_started), C(__overlay_preflight_probed) and
    C(__overlay_preflight_collected); role C(overlay_preflight) has all of it in order.
  - Runs on the controller only; use it with C(run_once).
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: It changes no host.
  idempotent:
    support: full
options:
  state:
    description: The step.
    type: str
    choices: [begun, planned, composed]
    required: true
  topology:
    description:
      - C(mode), C(store_type), C(store_managed), C(docker_api), C(encryption), C(firewall) (as
        C(overlay_host_firewall)), C(addresses) by host, and C(groups) with
        the lists C(hosts), C(servers) and C(members), which is both.
    type: dict
    required: true
  run:
    description: RV(run). Needed for the other two states.
    type: dict
  plan:
    description: RV(plan). Needed for O(state=composed).
    type: dict
  patience:
    description: Seconds to wait for a peer's first sign. The time that the start of all hosts takes is added.
    type: float
    default: 3.0
  gossip:
    description: Seconds to listen for gossip of programs that run already.
    type: float
    default: 2.5
  clock_offset:
    description: Seconds by which clocks may differ.
    type: float
    default: 2.0
  clock_shift:
    description:
      - For tests of this collection, which cannot set a clock. By host, seconds that its stamps are to be ahead.
    type: dict
    default: {}
  unless_proven:
    description:
      - Leave the probe out where every Docker host uses the store already and has all networks of O(topology). For plays that end
        with a proof of these networks.
    type: bool
    default: false
seealso:
  - module: multihost.overlay.underlay_probe
"""

EXAMPLES = r"""
- name: Number the run
  multihost.overlay.underlay_report:
    state: begun
    topology: "{{ my_topology }}"
  register: begun
  # All hosts need the same number.
  run_once: true
"""

RETURN = r"""
run:
  description: The run's number, when it began, the ports that it is about, and why there is no probe, if so.
  returned: for O(state=begun)
  type: dict
  sample: {id: 0123456789abcdef, begun: 1800000000.0, ports: [udp/4789], skipped: ""}
plan:
  description: What every host's agent needs to know.
  returned: for O(state=planned)
  type: dict
  sample: {}
findings:
  description: What was found, with C(host), and C(from) and C(to) for those about paths.
  returned: for O(state=composed)
  type: list
  elements: dict
  sample: []
underlay:
  description: The smallest MTU, and for each direction MTU, round trip and how far the receiver's clock is ahead.
  returned: for O(state=composed)
  type: dict
  sample:
    mtu: 1500
    paths: [{from: node1, to: node2, mtu: 1500, rtt_ms: {min: 0.2, avg: 0.3, max: 0.4}, clock_offset: 0.0001}]
ports:
  description: The table of ports to open, if a finding is about one that is closed.
  returned: for O(state=composed)
  type: list
  elements: str
  sample: []
"""
