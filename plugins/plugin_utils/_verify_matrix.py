# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Verify's matrix for the terminal: rows send, columns receive, no line is longer than a terminal is wide. Pure."""

from __future__ import annotations

import statistics
import textwrap
from typing import Any, Sequence

from ansible_collections.multihost.overlay.plugins.plugin_utils._report_words import decimals

Json = dict[str, Any]
Cells = dict[tuple[str, str], str]

WIDTH = 80
# A name is shortened to no less, as long as all columns fit beside it.
NAME_LEAST = 12
# How many letters of a name a line about one pair, and the headline, have room for.
NAME_IN_PAIR, NETWORK = 20, 40
WORST = 5
# A pair stands out when its time is so many times the network's median, and so many ms above it: short times vary.
SLOW_TIMES, SLOW_MS = 3.0, 1.0
LETTERS = {
    "no_answer": "X",
    "address_taken": "A",
    "loss": "L",
    "mtu": "M",
    "udp": "U",
    "tcp": "T",
    "name_wrong": "N",
    "name_failed": "N",
    "alias_wrong": "N",
    "alias_failed": "N",
    "endpoint_failed": "?",
    "network_missing": "?",
    "engine_down": "?",
    "host_unreachable": "?",
    "agent_died": "?",
    "not_measured": "?",
}
OTHER, ONE_WAY, GOOD, NONE = "!", ">", "+", "."
LEGEND = {
    ONE_WAY: "> good one-way: arrives, the answer is lost",
    "X": "X no packet arrives",
    "A": "A another container has the address",
    "L": "L loss",
    "M": "M full-size packets fail",
    "U": "U no UDP",
    "T": "T no TCP",
    "N": "N name wrong or unknown",
    "?": "? not measured",
    OTHER: "! failed otherwise, see verify.json",
    NONE: ". not expected",
}
# From the richest to the tersest; the first that fits is taken.
STYLES = ("words", "times", "marks")


def shorten(text: str, width: int) -> str:
    """A name's head and tail: names of one cluster often differ at one of the two ends."""
    if len(text) <= width:
        return text
    tail = (width - 2) // 2
    return f"{text[: width - 2 - tail]}..{text[len(text) - tail :]}"


def cell(row: Json, style: str) -> str:
    """What is said of one pair."""
    if not row["ok"]:
        return str(row["kind"]) if style == "words" else LETTERS.get(row["kind"], OTHER)
    if row["rtt_ms"]["p50"] is None:
        # Arrived, but the answer did not: the other direction fails and has the time.
        return "one-way" if style == "words" else ONE_WAY
    return GOOD if style == "marks" else decimals(row["rtt_ms"]["p50"])


class Grid:
    """Some hosts' cells in one style, and how wide its parts are."""

    def __init__(self, hosts: Sequence[str], rows: Sequence[Json], style: str) -> None:
        self.places = {host: place for place, host in enumerate(hosts, 1)}
        self.style = style
        self.cells: Cells = {(row["from"], row["to"]): cell(row, style) for row in rows}
        digits = len(str(len(hosts)))
        self.column = 1 + max([digits, *map(len, self.cells.values())])
        longest = max(len(host) for host in hosts)
        self.digits, self.name = max(2, digits), longest
        # Where names are shortened all columns still fit, or as many as shortest names leave room for.
        self.fits = self._room(len(hosts)) >= min(longest, NAME_LEAST)
        self.name = min(longest, max(NAME_LEAST, self._room(len(hosts))))
        self.band = max(1, (WIDTH - self.left) // self.column)

    def _room(self, columns: int) -> int:
        return WIDTH - self.digits - 1 - columns * self.column

    @property
    def left(self) -> int:
        """What stands before the first column."""
        return self.digits + 1 + self.name

    def lines(self, sources: Sequence[str], targets: Sequence[str]) -> list[str]:
        """The table of some senders and receivers, in bands of as many columns as fit."""
        drawn = []
        for first in range(0, len(targets), self.band):
            band = targets[first : first + self.band]
            drawn.append(" " * self.left + "".join(f"{self.places[host]:>{self.column}}" for host in band))
            drawn += [self._line(source, band) for source in sources]
        return drawn

    def _line(self, source: str, band: Sequence[str]) -> str:
        head = f"{self.places[source]:>{self.digits}} {shorten(source, self.name):<{self.name}}"
        return head + "".join(f"{self.cells.get((source, target), NONE):>{self.column}}" for target in band)

    def legend(self) -> list[str]:
        """The marks that occur, where they are no words."""
        seen = set(self.cells.values()) - {GOOD}
        pairs = len(self.places) * (len(self.places) - 1)
        if len(self.cells) < pairs:
            seen.add(NONE)
        words = "; ".join(text for mark, text in LEGEND.items() if mark in seen)
        return textwrap.wrap(words, WIDTH, initial_indent="   ", subsequent_indent="   ")


def choose(hosts: Sequence[str], rows: Sequence[Json]) -> Grid:
    """The richest style in which all columns fit beside each other; the tersest if none."""
    grids = (Grid(hosts, rows, style) for style in STYLES)
    return next((grid for grid in grids if grid.fits), Grid(hosts, rows, STYLES[-1]))


def _pair(row: Json) -> str:
    return f"{shorten(row['from'], NAME_IN_PAIR)} -> {shorten(row['to'], NAME_IN_PAIR)}"


def slowest(rows: Sequence[Json]) -> list[str]:
    """The pairs that take far longer than is usual on this network."""
    timed = [row for row in rows if row["rtt_ms"]["p50"] is not None]
    if not timed:
        return []
    usual = statistics.median(row["rtt_ms"]["p50"] for row in timed)
    bound = max(SLOW_TIMES * usual, usual + SLOW_MS)
    slow = sorted((row for row in timed if row["rtt_ms"]["p50"] > bound), key=lambda row: -row["rtt_ms"]["p50"])
    times = f"usual {decimals(usual)}"
    return [f"   slow: {_pair(row)}: {decimals(row['rtt_ms']['p50'])} ms, {times}" for row in slow[:WORST]]


def lossy(rows: Sequence[Json]) -> list[str]:
    """The pairs that lose most. Where all is lost, the matrix says it."""
    some = sorted((row for row in rows if row["loss"] and row["loss"] < 1), key=lambda row: -row["loss"])
    return [f"   loss: {_pair(row)}: {100 * row['loss']:.3g} %" for row in some[:WORST]]


def headline(network: str, rows: Sequence[Json], unit: str) -> list[str]:
    """How many pairs are good, and how to read the table."""
    good = f"Network {shorten(network, NETWORK)}: {sum(row['ok'] for row in rows)} of {len(rows)} pairs good"
    how = f"(row sends to column; {unit})"
    return [f"{good} {how}"] if len(good) + len(how) < WIDTH else [good, f"   {how}"]


class Matrix:
    """One network: a headline, the table, what its marks mean, and the worst pairs."""

    def __init__(self, hosts: Sequence[str], network: str, rows: Sequence[Json]) -> None:
        self.grid = choose(hosts, rows)
        self.rows = rows
        self.sources, self.targets = list(hosts), list(hosts)
        self.head = headline(network, rows, "+ is good" if self.grid.style == "marks" else "median in ms")
        if not self.grid.fits:
            self._only_failures(len(hosts))

    def _only_failures(self, hosts: int) -> None:
        bad = [row for row in self.rows if not row["ok"]]
        self.sources = [host for host in self.sources if host in {row["from"] for row in bad}]
        self.targets = [host for host in self.targets if host in {row["to"] for row in bad}]
        self.head.append(
            f"   of {hosts} hosts, those with failed pairs:" if bad else f"   no table of {hosts} hosts: nothing failed"
        )

    @property
    def lines(self) -> list[str]:
        """All but the names that were shortened."""
        table = [*self.grid.lines(self.sources, self.targets), *self.grid.legend()] if self.sources else []
        return [*self.head, *table, *slowest(self.rows), *lossy(self.rows)]

    @property
    def unnamed(self) -> set[str]:
        """The hosts whose whole name no row has, but their number is used."""
        return {*self.sources, *self.targets} - {host for host in self.sources if len(host) <= self.grid.name}


def render(hosts: Sequence[str], report: Json) -> str:
    """The matrices of all networks, and the names that were shortened in them."""
    pairs = report["pairs"]
    matrices = [Matrix(hosts, name, [row for row in pairs if row["network"] == name]) for name in report["networks"]]
    unnamed = set().union(*(matrix.unnamed for matrix in matrices))
    lines = [line for matrix in matrices for line in matrix.lines]
    lines += [f"{place:>3} = {shorten(host, WIDTH - 6)}" for place, host in enumerate(hosts, 1) if host in unnamed]
    return "\n".join(lines)
