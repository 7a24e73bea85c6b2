#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: html_report
short_description: Show what verify, preflight and doctor have written on one page, and as metrics
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads C(verify.json), C(preflight.json) and C(doctor.json) in O(report_dir), and writes C(report.html) and
    C(overlay.prom) (metrics for Prometheus) beside them.
  - Says how old each report is. What was not measured, cannot be read or is older than a day is unknown, never good.
  - A report that is missing is said on the page. One that is not JSON, or of another version, is a warning too.
  - The page is one file and asks for nothing else. What names and errors contain is shown as text.
  - Runs on the controller only; use it with C(run_once).
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
    details: The page is written in check mode too, it is no change of a host.
  diff_mode:
    support: none
    details: It changes no host.
  idempotent:
    support: full
    details: It never reports a change; the page says when it was made.
options:
  hosts:
    description: The inventory's names of the overlay's hosts.
    type: list
    elements: str
    required: true
  store_hosts:
    description: The inventory's names of the store's servers.
    type: list
    elements: str
    default: []
  addresses:
    description: The underlay address of each host, as C(overlay_addresses).
    type: dict
    default: {}
  networks:
    description: Names of the networks that are to be there. Those of C(verify.json) are shown in any case.
    type: list
    elements: str
    default: []
  report_dir:
    description:
      - Folder on the controller that has the reports; it is made if missing. A relative one is under the folder that
        Ansible was started in.
    type: path
    required: true
  refused:
    description: Whether verify was refused just now. Then C(verify.json) is of an earlier run, and the cluster is not known to be good.
    type: bool
    default: false
seealso:
  - module: multihost.overlay.verify_report
  - module: multihost.overlay.preflight_report
  - module: multihost.overlay.doctor_report
"""

EXAMPLES = r"""
- name: Make the page of what the reports say
  multihost.overlay.html_report:
    hosts: "{{ groups['overlay_hosts'] }}"
    store_hosts: "{{ groups['overlay_store'] }}"
    addresses: "{{ overlay_addresses }}"
    report_dir: ./overlay-report
  # It reads files of the controller, once for all hosts.
  run_once: true
"""

RETURN = r"""
path:
  description: The page on the controller. C(overlay.prom) lies beside it.
  type: str
  returned: always
  sample: /home/user/overlay-report/report.html
summary:
  description: The cluster's state, V(good), V(bad) or V(unknown), why, and the state of each report.
  type: dict
  returned: always
  sample:
    state: good
    words: "verify: all 12 pairs good; preflight: 0 errors, 0 warnings, 3 infos"
    sources: {verify: good, preflight: good, doctor: unknown}
"""
