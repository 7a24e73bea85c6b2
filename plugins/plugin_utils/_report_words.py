# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Words for what a report says: times, numbers, states. Pure."""

from __future__ import annotations

import time
from typing import Any

# Every state has a sign: colour alone tells nothing to who does not see it.
SIGNS = {"good": "✓", "bad": "✗", "unknown": "?"}
UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
LONGEST = 600


def count(amount: int, noun: str) -> str:
    """1 pair, 2 pairs."""
    return f"{amount} {noun}" if amount == 1 else f"{amount} {noun}s"


def age_words(age: float | None) -> str:
    """How long ago."""
    if age is None:
        return "at an unknown time"
    for size, unit in UNITS:
        if age >= size:
            return count(int(age // size), unit) + " ago"
    return "just now"


def moment(stamp: float | None) -> str:
    """A time that reads the same everywhere."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(stamp)) if stamp is not None else "unknown"
    except (OverflowError, ValueError, OSError):
        return "unknown"


def seconds_words(seconds: float | None) -> str:
    return "unknown" if seconds is None else f"{seconds:.1f} s"


def decimals(value: float) -> str:
    """Three figures that count, as many as a cell has room for."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def one_line(value: Any) -> str:
    """Any value of a report on one line: fields may come that are not known here yet."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, dict):
        return ", ".join(f"{key} {one_line(item)}" for key, item in value.items())
    if isinstance(value, list):
        return ", ".join(one_line(item) for item in value)
    return str(value)[:LONGEST]
