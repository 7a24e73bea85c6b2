# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of the budget: what was measured, what is allowed, and by how much it is missed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


@dataclasses.dataclass
class Row:
    """One bound. A ratio has no unit."""

    id: str
    what: str
    measured: float
    bound: float
    unit: str = ""
    basis: str = ""  # what the figure was made of
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Is the bound kept?"""
        return self.measured >= self.bound if self.at_least else self.measured <= self.bound

    @property
    def verdict(self) -> str:
        """Kept, or by how much not."""
        if self.met:
            return "met"
        return f"MISSED by {number(abs(self.measured - self.bound))}{self.unit}"

    def as_dict(self) -> dict[str, Any]:
        """For the JSON."""
        return {**dataclasses.asdict(self), "met": self.met}


def number(value: float) -> str:
    """Whole numbers as such, others with two digits."""
    return str(int(value)) if float(value).is_integer() else f"{value:.2f}"


def table(rows: Iterable[Row]) -> str:
    """For the terminal."""
    cells = [("what", "measured", "bound", "", "from")]
    for row in rows:
        sign = ">=" if row.at_least else "<="
        cells.append(
            (
                row.what,
                number(row.measured) + row.unit,
                f"{sign} {number(row.bound)}{row.unit}",
                row.verdict,
                row.basis,
            )
        )
    widths = [max(len(line[column]) for line in cells) for column in range(5)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])
