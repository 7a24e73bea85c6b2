# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules that report findings of all hosts share."""

from __future__ import annotations


class ModuleDocFragment:
    """Their options and attributes."""

    DOCUMENTATION = r"""
options:
  hosts:
    description: The hosts to report on, usually C(ansible_play_hosts_all).
    type: list
    elements: str
    required: true
  report_dir:
    description: Directory on the controller for the reports; it is made if missing.
    type: str
    required: true
  begun:
    description: When the run began, in seconds since 1970 on the controller's clock, for the report to say how long it took.
    type: float
  fail_on:
    description: Fail if a finding has this level or a worse one. V(never) only reports.
    type: str
    choices: [error, warning, info, never]
    default: error
  skip_unreachable:
    description: Whether a host that cannot be reached is a warning instead of an error.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    details: The report is written in check mode too, it is no change of a host.
  diff_mode:
    support: none
    details: It changes no host.
  idempotent:
    support: full
"""
