# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A finding: one thing that was seen on a host, why it matters, and what cures it."""

from __future__ import annotations

LEVELS = ("error", "warning", "info")


def finding(check_id: str, level: str, message: str, evidence: str, fix: str) -> dict[str, str]:
    """Build a finding; ``fix`` is a command or a setting that the operator can use as it stands."""
    if level not in LEVELS:
        raise ValueError(f"unknown level {level!r}")
    return {"id": check_id, "level": level, "message": message, "evidence": evidence, "fix": fix}
