#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: doctor_bundle
short_description: Put what was gathered of all hosts into one archive for somebody who is to help
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Writes C(doctor.tar.gz), which its owner alone may read, on the controller. In it are what M(multihost.overlay.host_support)
    gathered of each host, what M(multihost.overlay.host_doctor) saw there, the reports in O(report_dir), and the versions of the
    controller's programs.
  - Runs on the controller only; use it with C(run_once).
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
    details: The archive is written in check mode too, it is no change of a host.
  diff_mode:
    support: none
    details: It changes no host.
  idempotent:
    support: none
    details: It writes the archive anew.
options:
  hosts:
    description: The hosts whose results are put together.
    type: list
    elements: str
    required: true
  result_variable:
    description: Name of the variable that the task with M(multihost.overlay.host_support) registered.
    type: str
    required: true
  doctor_variable:
    description: Name of the variable that the task with M(multihost.overlay.host_doctor) registered.
    type: str
    required: true
  report_dir:
    description: Directory on the controller with the reports, where the archive is written.
    type: str
    required: true
  secrets:
    description: Values that must not be shown.
    type: list
    elements: str
    default: []
seealso:
  - module: multihost.overlay.host_support
"""

EXAMPLES = r"""
- name: Put all into one archive
  multihost.overlay.doctor_bundle:
    hosts: "{{ ansible_play_hosts_all }}"
    result_variable: support
    doctor_variable: doctor
    report_dir: ./overlay-report
  # It takes the results of all hosts, and connects to none.
  run_once: true
"""

RETURN = r"""
bundle:
  description: Path of the archive on the controller.
  type: str
  returned: always
  sample: /home/user/overlay-report/doctor.tar.gz
"""
