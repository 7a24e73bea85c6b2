#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Put the findings of all hosts together, with those that only show across hosts
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Takes the registered results of M(multihost.overlay.host_preflight) of all hosts, compares the hosts with one
    another, writes C(preflight.json) and C(preflight.xml) (JUnit) on the controller, shows errors and warnings on the
    terminal, and fails with all errors at once.
  - Hosts that could not be reached or read are findings too, if the task that read them had C(ignore_unreachable) and
    C(failed_when=false).
  - Runs on the controller only; use it with C(run_once).
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.findings
options:
  result_variable:
    description: Name of the variable that the task with M(multihost.overlay.host_preflight) registered.
    type: str
    required: true
  addresses:
    description: The underlay address of each host, as C(overlay_addresses).
    type: dict
    default: {}
  networks:
    description: The overlay networks, as C(overlay_networks).
    type: list
    elements: dict
    default: []
  findings:
    description: Findings about the paths between hosts, from M(multihost.overlay.underlay_report).
    type: list
    elements: dict
    default: []
  underlay:
    description: What was measured there, for the report.
    type: dict
    default: {}
  ports:
    description: Lines to be shown after the findings, from M(multihost.overlay.underlay_report).
    type: list
    elements: str
    default: []
seealso:
  - module: multihost.overlay.host_preflight
"""

EXAMPLES = r"""
- name: Put all findings together
  multihost.overlay.preflight_report:
    hosts: "{{ ansible_play_hosts_all }}"
    result_variable: preflight
    addresses: "{{ overlay_addresses }}"
    networks: "{{ overlay_networks }}"
    report_dir: ./overlay-report
  # It looks at all hosts in one go.
  run_once: true
"""

RETURN = r"""
report:
  description: Path of the written report on the controller.
  type: str
  returned: always
  sample: /home/me/overlay-report/preflight.json
summary:
  description: How many hosts there are, how many could be read, and how many findings there are of each level.
  type: dict
  returned: always
  sample: {hosts: 3, hosts_read: 3, errors: 0, warnings: 1, infos: 3}
findings:
  description: All findings, errors first. When it fails they are in the message and in the report.
  type: list
  elements: dict
  returned: success
  sample:
    - host: node1
      id: ip_forward_off
      level: info
      message: IPv4 forwarding is off now
      evidence: net.ipv4.ip_forward = 0
      fix: "nothing to do: role overlay_host sets it to 1"
"""
