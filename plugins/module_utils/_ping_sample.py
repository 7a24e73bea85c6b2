# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pairs a run measures where there are too many for all: the same in every run, and on every host. No I/O."""

from __future__ import annotations

import hashlib
from typing import Collection, List, Set, Tuple


def _weight(one: str, other: str) -> bytes:
    """Rendezvous hashing: each pair has a weight of its own, whatever other hosts there are; so few pairs change with a host."""
    return hashlib.sha256("\0".join(sorted((one, other))).encode()).digest()


def _heaviest(hosts: List[str], place: int, peers: int) -> Set[int]:
    others = [other for other in range(len(hosts)) if other != place]
    return set(sorted(others, key=lambda other: _weight(hosts[place], hosts[other]), reverse=True)[:peers])


def partners(hosts: List[str], peers: int, around: Collection[str] = ()) -> List[Set[int]]:
    """For each host the places of whom it measures: those it has chosen and those that have chosen it. All where ``peers`` is 0.

    Where there are hosts ``around`` which it goes, they and all others measure one another, and nobody else.
    """
    places = range(len(hosts))
    if around:
        middle = {place for place in places if hosts[place] in around}
        return [(set(places) if place in middle else middle) - {place} for place in places]
    if not peers or peers >= len(hosts) - 1:
        return [set(places) - {place} for place in places]
    chosen = [_heaviest(hosts, place, peers) for place in places]
    return [chosen[place] | {other for other in places if place in chosen[other]} for place in places]


def streams(hosts: List[str], number: int, peers: int, around: Collection[str] = ()) -> List[Tuple[int, int]]:
    """Ordered pairs for a stream: the heaviest of those measured, no host in two of them, so that none is in another's way."""
    measured = [
        (place, other) for place, own in enumerate(partners(hosts, peers, around)) for other in own if place < other
    ]
    used: Set[int] = set()
    found: List[Tuple[int, int]] = []
    for pair in sorted(measured, key=lambda pair: _weight(hosts[pair[0]], hosts[pair[1]]), reverse=True):
        if len(found) < number and not used & set(pair):
            used |= set(pair)
            found.append(pair)
    return found
