# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The largest packet that passes between two probes, found by packets of several sizes at once. No I/O."""

from __future__ import annotations

from typing import List, Set

STEPS = 8  # sizes of a rung
TRIES = 3  # of each size: one that is lost by chance must not look too large
EVERY = 0.1  # seconds between them
WAIT = 0.3  # seconds for the last answers


def rung(low: int, high: int) -> List[int]:
    """Sizes between one that passes and one that does not, the largest one included."""
    step = max(1, -(-(high - 1 - low) // STEPS))
    return sorted({min(low + step * number, high - 1) for number in range(1, STEPS + 1)} - {low})


class SizeSearch:
    """Narrows it down rung by rung; the first one tries the full size again, which may have been lost by chance."""

    def __init__(self, passes: int, full: int) -> None:
        self.low, self.high = passes, full + 1
        self.sizes = rung(self.low, self.high)
        self.tries = 0
        self.answered: Set[int] = set()

    @property
    def finished(self) -> bool:
        return not self.sizes

    def answer(self, size: int) -> None:
        """A packet of this size came back."""
        self.answered.add(size)

    def step(self) -> List[int]:
        """Return the sizes to send now; none when the answers of a rung have had their time."""
        if self.tries >= TRIES:
            self._climb()
            return []
        self.tries += 1
        return [size for size in self.sizes if size not in self.answered]

    def pause(self) -> float:
        """Seconds until the next step."""
        return EVERY if self.tries < TRIES else WAIT

    def _climb(self) -> None:
        self.low = max([self.low, *self.answered])
        self.high = min([size for size in self.sizes if size > self.low], default=self.high)
        self.sizes = rung(self.low, self.high) if self.high - self.low > 1 else []
        self.tries = 0
