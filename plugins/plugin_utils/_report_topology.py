# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The picture of a cluster: hosts on a ring, the store's servers marked, broken paths as arrows. Pure; coordinates only."""

from __future__ import annotations

import math
from typing import Any, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.plugin_utils._report_matrix import state_of
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import Json

# Up to so many hosts each has a card, and good paths are drawn too; more are dots with their names around the ring.
CARDS = 8
CARD = (176.0, 56.0)
DOT = 9.0
NAME_LENGTH = 22
GAP = 5.0

Point = tuple[float, float]
# (network, from, to) -> state
States = Mapping[tuple[str, str, str], str]


def short(text: str, length: int = NAME_LENGTH) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def on_ring(number: int, radii: Point, begin: float) -> list[tuple[Point, float]]:
    """(place, angle) of each host around (0, 0), clockwise."""
    angles = [begin + 2 * math.pi * place / max(1, number) for place in range(number)]
    return [((radii[0] * math.cos(angle), radii[1] * math.sin(angle)), angle) for angle in angles]


def room_for(labels: Sequence[str]) -> float:
    """What the longest name around a ring takes."""
    return 60 + 7.6 * max(len(label) for label in labels)


def ring(labels: Sequence[str]) -> tuple[list[tuple[Point, float]], Point]:
    """(place, angle) of each host, and the picture's width and height. Two hosts stand side by side."""
    number = len(labels)
    if number > CARDS:
        radius = max(170.0, number * 7.5)
        spots, margin = on_ring(number, (radius, radius), -math.pi / 2), (room_for(labels),) * 2
    else:
        radii, begin = ((250.0, 0.0), math.pi) if number < 3 else ((300.0, 132.0), -math.pi / 2)
        spots, margin = on_ring(number, radii, begin), (CARD[0] / 2 + 6, CARD[1] / 2 + 6)
    across, down = ([spot[0][axis] for spot in spots] or [0.0] for axis in (0, 1))
    corner = (min(across) - margin[0], min(down) - margin[1])
    size = (max(across) + margin[0] - corner[0], max(down) + margin[1] - corner[1])
    return [((x - corner[0], y - corner[1]), angle) for (x, y), angle in spots], size


def shift_of(begin: Point, end: Point) -> Point:
    """To one side of the way, so that the two directions lie beside one another."""
    across, down = end[0] - begin[0], end[1] - begin[1]
    length = math.hypot(across, down) or 1.0
    return -down / length * GAP, across / length * GAP


def share_of(way: float, half: float, shift: float) -> float:
    """How much of a way lies within what stands at its end, on one axis."""
    return (math.copysign(half, way) - shift) / way if way else math.inf


def edge(far: Point, near: Point, shift: Point, cards: bool) -> Point:
    """Where the shifted line from ``far`` meets the border of what stands at ``near``."""
    across, down = far[0] - near[0], far[1] - near[1]
    if cards:
        half = (CARD[0] / 2 + 4, CARD[1] / 2 + 4)
        share = min(share_of(across, half[0], shift[0]), share_of(down, half[1], shift[1]), 1.0)
    else:
        share = (DOT + 3) / (math.hypot(across, down) or 1.0)
    return near[0] + shift[0] + across * share, near[1] + shift[1] + down * share


def line(begin: Point, end: Point, cards: bool) -> Json:
    """From border to border."""
    shift = shift_of(begin, end)
    first, last = edge(end, begin, shift, cards), edge(begin, end, shift, cards)
    return {"x1": round(first[0], 1), "y1": round(first[1], 1), "x2": round(last[0], 1), "y2": round(last[1], 1)}


def joined(states: Sequence[str]) -> str:
    """One state for several: what is bad somewhere is bad."""
    for state in ("bad", "unknown", "good"):
        if state in states:
            return state
    return "unknown"


def states_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str, str], str]:
    return {(row["network"], row["from"], row["to"]): state_of(row) for row in rows}


def paths(states: States) -> dict[tuple[str, str], dict[str, str]]:
    """(from, to) -> network -> state."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for (network, source, target), state in states.items():
        found.setdefault((source, target), {})[network] = state
    return found


def host_state(host: str, states: States) -> str:
    """Bad where a path from or to it is; what a lost peer took with it says nothing of this host."""
    own = [state for (_network, source, target), state in states.items() if host in (source, target)]
    if "bad" in own:
        return "bad"
    return "good" if "good" in own else "unknown"


def node(host: str, place: tuple[Point, float], topology: Mapping[str, Any], states: States) -> Json:
    (across, down), angle = place
    turned = math.degrees(angle)
    left = math.cos(angle) < -1e-9
    return {
        "name": host,
        "short": short(host),
        "address": str(topology["addresses"].get(host, "")),
        "x": round(across, 1),
        "y": round(down, 1),
        # Names run outwards, and none stands on its head.
        "turn": round(turned + 180 if left else turned, 1),
        "left": left,
        "store": host in topology["store_hosts"],
        "docker": host in topology["hosts"],
        "state": host_state(host, states) if host in topology["hosts"] else "none",
    }


def links(places: Mapping[str, tuple[Point, float]], states: States, cards: bool) -> list[Json]:
    """Arrows for what is broken or unknown; good paths only where there is room. The broken ones come last, on top."""
    found = []
    for (source, target), networks in paths(states).items():
        state = joined(list(networks.values()))
        if source not in places or target not in places or (state != "bad" and not cards):
            continue
        which = [network for network, value in networks.items() if value == state]
        drawn = line(places[source][0], places[target][0], cards)
        found.append(dict(drawn, state=state, title=f"{source} → {target}: {state} on {', '.join(which)}"))
    return sorted(found, key=lambda link: ("good", "unknown", "bad").index(link["state"]))


def networks_of(networks: Sequence[str], states: States) -> list[Json]:
    """Each network with the number of its good pairs."""
    found = []
    for network in networks:
        own = [state for (name, _source, _target), state in states.items() if name == network]
        found.append({"name": network, "good": own.count("good"), "pairs": len(own), "state": joined(own)})
    return found


def picture(topology: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> Json:
    """Everything that the template draws."""
    hosts = [*topology["hosts"], *[host for host in topology["store_hosts"] if host not in topology["hosts"]]]
    spots, size = ring([short(host) + str(topology["addresses"].get(host, "")) for host in hosts])
    places, states, cards = dict(zip(hosts, spots)), states_of(rows), len(hosts) <= CARDS
    return {
        "width": round(size[0]),
        "height": round(size[1]),
        "cards": cards,
        "card": {"width": CARD[0], "height": CARD[1]},
        "dot": DOT,
        "nodes": [node(host, places[host], topology, states) for host in hosts],
        "links": links(places, states, cards),
        "networks": networks_of(topology["networks"], states),
    }
