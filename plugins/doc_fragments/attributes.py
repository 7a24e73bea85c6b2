# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every module of this collection promises, worded once."""

from __future__ import annotations


class ModuleDocFragment:
    """Options and attributes shared by the modules' documentation."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and return the changed status that a real run would return.
  diff_mode:
    description: Returns what changed, or would change, when in diff mode.
  idempotent:
    description: A second run with the same arguments changes nothing and reports no change.
"""
