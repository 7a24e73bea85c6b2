# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules of this collection promise, worded once; where a module says something else, that holds."""

from __future__ import annotations


class ModuleDocFragment:
    """What each attribute means, for all modules, and beside it the sets that several of them support."""

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

    FULL = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
"""

    CHANGES_NOTHING = r"""
options: {}
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: It changes nothing.
  idempotent:
    support: full
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details: Changes nothing anyway.
  diff_mode:
    support: N/A
  idempotent:
    support: full
"""
