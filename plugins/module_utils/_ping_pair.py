# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one agent does about one peer on one network, as a state machine over time. No I/O.

An echo reply proves both directions, a request that arrives proves one. So both ends keep books: what was sent and
answered, and what was heard of the peer. The controller puts the two books together, and one dropped direction fails
one pair only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Sequence, Set, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    DATAGRAM,
    DONE,
    FULL,
    KNOCK,
    SERIES,
    SIZED,
    SMALL,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sizes import SizeSearch

NEVER = float("inf")
KNOCK_FIRST = 0.1  # seconds; doubled with each knock
KNOCK_SLOWEST = 1.0
SETTLE = 3.0  # heard but never answered for so long: measure all the same
DRAIN = 1.0  # how long the last answers may take
FULL_EVERY = 3  # a full-size packet and a datagram go with every third of the series until one is answered
DATAGRAMS = 12  # at most
DONE_TIMES = 5
DONE_EVERY = 0.2
ASK_EVERY = 0.5  # where the answer is not the right one
UNANSWERED = 2.0  # an engine that has much to do does not get more of it meanwhile

KNOCKING, MEASURING, DRAINING, SEARCHING, CLOSING, CLOSED = (
    "knocking",
    "measuring",
    "draining",
    "searching",
    "closing",
    "closed",
)
Packets = List[Tuple[int, int]]


def rank(ordered: Sequence[float], percent: int) -> float:
    """The nearest rank: the smallest value that so many percent of all do not exceed."""
    return ordered[max(0, -(-percent * len(ordered) // 100) - 1)]


def round_trips(times: Sequence[float]) -> List[float] | None:
    """Least, mean, greatest, 50th and 99th percentile; None of no times."""
    if not times:
        return None
    ordered = sorted(times)
    mean = sum(ordered) / len(ordered)
    return [round(value, 3) for value in (ordered[0], mean, ordered[-1], rank(ordered, 50), rank(ordered, 99))]


class NameCheck:
    """Asks for the peer's name until the answer holds the peer's address, or patience ends."""

    def __init__(self, expected: str, patience: float, latest: float, spare: str = "") -> None:
        self.expected = expected
        self.spare = spare
        self.patience = patience
        self.at = latest
        self.asked = latest
        self.deadline = NEVER
        self.ok = False
        self.finished = False
        self.addresses: List[str] = []
        self.error: str | None = "it was not asked for"

    def start(self, now: float) -> None:
        """Begin to ask: there is a sign that the peer is up, or the latest moment to begin has come."""
        if self.deadline == NEVER:
            self.at, self.deadline = now, now + self.patience
            self.error = "no answer from 127.0.0.11:53"

    def hurry(self, latest: float) -> None:
        """Begin to ask at an earlier moment at the latest."""
        if self.deadline == NEVER:
            self.at = min(self.at, latest)

    def step(self, now: float) -> bool:
        """Whether to send a question now."""
        if self.finished or now < self.at:
            return False
        self.start(now)
        if now >= self.deadline:
            self.finished, self.at = True, NEVER
            return False
        self.asked, self.at = now, min(now + UNANSWERED, self.deadline)
        return True

    def renew(self, now: float) -> None:
        """Ask again from now on, if the answer was not the right one."""
        if not self.ok:
            self.finished, self.at, self.deadline = False, now, now + self.patience

    def answer(self, addresses: List[str], error: str | None) -> None:
        """Take an answer, or the reason why there was none."""
        if self.finished:
            return
        self.addresses, self.error = addresses, error
        self.at = min(self.at, self.asked + ASK_EVERY)
        if self.expected in addresses or (self.spare and self.spare in addresses):
            self.ok = self.finished = True
            self.at = NEVER

    def result(self) -> Dict[str, Any]:
        """The row's share of this check."""
        kind = None if self.ok else "wrong" if self.addresses else "failed"
        return {"ok": self.ok, "kind": kind, "addresses": self.addresses, "error": None if self.ok else self.error}


class Dialogue:
    """A TCP connection to the peer's agent, from its first packet to the last word; it may be left out."""

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.begun = self.finished = False
        self.at = NEVER
        self.ok: bool | None = None
        self.error: str | None = None
        self.rate: float | None = None  # bits per second of a stream, where one was asked for

    def begin(self, now: float) -> None:
        """The connection is on its way."""
        self.begun, self.at = True, now + self.patience

    def end(self, ok: bool | None, error: str | None = None) -> None:
        """The last word, the first time that it comes; None where it could not be tried."""
        if not self.finished:
            self.finished, self.at, self.ok, self.error = True, NEVER, ok, error

    def step(self, now: float) -> None:
        """Give up when patience ends."""
        if self.begun and now >= self.at:
            self.end(False, f"no answer within {self.patience:g} s")

    def pending(self) -> bool:
        return self.begun and not self.finished

    def result(self) -> Dict[str, Any]:
        """The row's share of this check."""
        return {"ok": self.ok, "error": self.error, "rate": self.rate}


class Pair:
    """Knocks until the peer's agent is heard and answers, sends the series, waits for all other answers, says done."""

    def __init__(
        self,
        timing: Dict[str, Any],
        expected: str,
        now: float,
        knock_until: float,
        spare: str = "",
        alias: bool = False,
        full: int = SMALL,
        stream: float = 0.0,
        rest: float = NEVER,
    ) -> None:
        self.count = int(timing["count"])
        self.interval = float(timing["interval"])
        self.patience = float(timing["patience"])
        self.stage = KNOCKING
        self.at = now
        self.backoff = KNOCK_FIRST
        self.knock_until = knock_until
        # So long after it was heard, or given up, a peer's own last word is waited for.
        self.rest = rest
        # Nothing heard of the peer by half time: the name may still be right, and tells the user where to look.
        self.half_time = now + (knock_until - now) / 2
        self.name = NameCheck(expected, self.patience, self.half_time, spare)
        self.alias = NameCheck(expected, self.patience, self.half_time, spare) if alias else None
        self.checks = [check for check in (self.name, self.alias) if check]
        self.tcp = Dialogue(self.patience)
        # Where this pair is a sample: how much a connection carries.
        self.stream = Dialogue(self.patience + stream) if stream else None
        # Whether something else still needs the peer.
        self.held = False
        # Where the peer's agent listens, once it was heard.
        self.port = 0
        self.full = full
        self.replied_at = self.heard_at = NEVER
        self.heard: Dict[int, Set[int]] = {phase: set() for phase in (KNOCK, SERIES, FULL, SIZED, DATAGRAM, DONE)}
        self.largest = 0  # bytes, of what was heard
        self.send_error: str | None = None
        self._forget()

    @property
    def over(self) -> float:
        """When a peer that has not said its last word is not waited for any more."""
        return self.rest + (self.knock_until if self.heard_at == NEVER else max(self.knock_until, self.heard_at))

    def _forget(self) -> None:
        self.sent = self.done_sent = self.datagrams = 0
        self.replies: Dict[int, float] = {}
        self.full_replied = self.done_acked = self.datagram_replied = False
        self.search: SizeSearch | None = None

    def hurry(self, now: float) -> None:
        """All endpoints are up now: patience begins for the first sign of the peer."""
        if self.stage == KNOCKING:
            self.knock_until = min(self.knock_until, now + self.patience)
            self.at = min(self.at, self.knock_until)
        self.half_time = min(self.half_time, now + self.patience / 2)
        for check in self.checks:
            check.hurry(self.half_time)

    def _ask_names(self, now: float) -> None:
        for check in self.checks:
            check.start(now)

    def on_reply(self, phase: int, seq: int, rtt: float, now: float, size: int = 0) -> None:
        """What this side has sent came back."""
        if self.replied_at == NEVER:
            self.replied_at = now
            self._ask_names(now)
        if phase == SERIES:
            self.replies.setdefault(seq, rtt)
        elif phase == SIZED and self.search:
            self.search.answer(size)
        self.full_replied = self.full_replied or phase == FULL or (phase == SIZED and size == self.full)
        self.datagram_replied = self.datagram_replied or phase == DATAGRAM
        self.done_acked = self.done_acked or phase == DONE
        if self._news():
            self.at = now

    def on_heard(self, phase: int, seq: int, now: float, size: int = 0, port: int = 0) -> None:
        """The peer's own request came in: its agent is at work."""
        self.heard[phase].add(seq)
        self.largest = max(self.largest, size)
        self.port = port or self.port
        if self.heard_at == NEVER:
            self.heard_at = now
            self.backoff = KNOCK_FIRST
            self._ask_names(now)
            if self.stage != KNOCKING:
                self._begin_anew(now)
            self.at = now

    def _begin_anew(self, now: float) -> None:
        """It was given up, and is there after all. What was answered until now may have been its kernel, or another's."""
        self.stage = MEASURING
        self._forget()
        for check in self.checks:
            check.renew(now)

    def _news(self) -> bool:
        """Whether an answer that just came lets the next stage begin before its time."""
        if self.stage == KNOCKING:
            return self.heard_at != NEVER
        if self.stage == DRAINING:
            return len(self.replies) >= self.sent and self.full_replied
        if self.stage == SEARCHING:
            return self.full_replied
        return self.stage == CLOSING and (self.done_acked or self.datagram_replied)

    def may_connect(self) -> bool:
        """Whether packets pass both ways and the peer's agent listens: else a connection says nothing about one direction."""
        return bool(self.port) and NEVER not in (self.heard_at, self.replied_at) and not self.tcp.begun

    def release(self, now: float) -> None:
        """Nothing else needs the peer any more."""
        if self.held:
            self.held, self.at = False, min(self.at, now)

    def missed(self, now: float) -> bool:
        """Whether half of the time is over without a sign of the peer's agent; others may answer at its address."""
        return self.heard_at == NEVER and now >= self.half_time

    def measured(self) -> bool:
        """Whether nothing is sent to this peer that a stream could be in the way of."""
        return self.stage in (CLOSING, CLOSED)

    def wants_stream(self) -> bool:
        """Whether a stream is to begin as soon as it is in nobody's way."""
        return self.stage == CLOSING and bool(self.stream and not self.stream.begun and self.tcp.ok)

    def _dialogues(self) -> List[Dialogue]:
        return [self.tcp] + ([self.stream] if self.stream else [])

    def _open(self) -> List[float]:
        """When to look again at each thing that is to be known before the peer may go."""
        times = [check.at for check in self.checks if not check.finished]
        times += [dialogue.at for dialogue in self._dialogues() if dialogue.pending()]
        times += [self.at] if self._datagram_due() else []
        return times + ([NEVER] if self.held or self.wants_stream() else [])

    def wake_at(self) -> float:
        """When there is something to do next."""
        if self.stage == CLOSED:
            return self.over
        if self.stage == CLOSING and self._open():
            return min(self._open())
        times = [dialogue.at for dialogue in self._dialogues()] + [check.at for check in self.checks]
        return min([self.at, *times])

    def step(self, now: float) -> Packets:
        """Return the packets to send now, as (phase, seq); of those that are sized, seq is the size."""
        for dialogue in self._dialogues():
            dialogue.step(now)
        if now < self.at:
            return []
        if self.stage == KNOCKING:
            return self._knock(now)
        if self.stage == MEASURING:
            return self._measure(now)
        if self.stage == DRAINING:
            self._drained(now)
        if self.stage == SEARCHING:
            return self._search(now)
        return self._close(now) if self.stage == CLOSING else []

    def _drained(self, now: float) -> None:
        """Where small packets pass and full ones do not, look for what does."""
        self.stage, self.at = CLOSING, now
        if self.replies and not self.full_replied and self.full > SMALL:
            self.stage, self.search = SEARCHING, SizeSearch(SMALL, self.full)

    def _search(self, now: float) -> Packets:
        if not self.search or self.search.finished or self.full_replied:
            self.stage, self.at = CLOSING, now
            return []
        sizes = self.search.step()
        self.at = now + self.search.pause() if sizes else now
        return [(SIZED, size) for size in sizes]

    def _may_start(self, now: float) -> bool:
        # A running container's kernel answers long before an agent listens there: a reply alone is no start signal.
        both = self.heard_at != NEVER and self.replied_at != NEVER
        return both or now >= self.heard_at + SETTLE or now >= self.knock_until

    def _knock(self, now: float) -> Packets:
        if self._may_start(now):
            self.stage = MEASURING
            return self._measure(now)
        self.at = min(now + self.backoff, self.knock_until, self.heard_at + SETTLE)
        self.backoff = min(self.backoff * 2, KNOCK_SLOWEST)
        return [(KNOCK, 0)]

    def _measure(self, now: float) -> Packets:
        packets = [(SERIES, self.sent)]
        if self.sent % FULL_EVERY == 0:
            packets += self._extras()
        self.sent += 1
        # Keep the pace, but never send a burst to catch up: bursts lose packets that the network does not.
        self.at = now + self.interval
        if self.sent >= self.count:
            self.stage, self.at = DRAINING, now + DRAIN
        return packets

    def _extras(self) -> Packets:
        packets = [] if self.full_replied else [(FULL, self.sent)]
        return packets + (self._datagram() if self._datagram_due() else [])

    def _datagram_due(self) -> bool:
        return bool(self.port) and not self.datagram_replied and self.datagrams < DATAGRAMS

    def _datagram(self) -> Packets:
        self.datagrams += 1
        return [(DATAGRAM, self.datagrams)]

    def _close(self, now: float) -> Packets:
        """Say done until it is acknowledged; the peer may go then, so all else must be known before."""
        if self._datagram_due():
            self.at = now + DONE_EVERY
            return self._datagram()
        if self._open():
            return []
        if self.done_acked or self.done_sent >= DONE_TIMES:
            self.stage, self.at = CLOSED, NEVER
            return []
        self.done_sent += 1
        self.at = now + DONE_EVERY
        return [(DONE, self.done_sent)]

    def agreed(self) -> bool:
        """Nothing more to do for this peer, and it needs nothing more of us."""
        return self.stage == CLOSED and bool(self.heard[DONE])

    def finished(self, now: float) -> bool:
        """The same, or it is not waited for any more."""
        return self.agreed() or (self.stage == CLOSED and now >= self.over)

    def result(self) -> Dict[str, Any]:
        """This side's book."""
        return {
            "sent": self.sent,
            "replied": len(self.replies),
            "rtt": round_trips([rtt * 1000.0 for rtt in self.replies.values()]),
            "full_replied": self.full_replied,
            "largest_replied": self.search.low if self.search else None,
            "datagrams": self.datagrams,
            "datagram_replied": self.datagram_replied,
            "tcp": self.tcp.result(),
            "stream": self.stream.result() if self.stream else None,
            "heard": self._heard(),
            "name": self.name.result(),
            "alias": self.alias.result() if self.alias else None,
            "send_error": self.send_error,
        }

    def _heard(self) -> Dict[str, Any]:
        return {
            "any": self.heard_at != NEVER,
            "series": len(self.heard[SERIES]),
            "largest": self.largest,
            "datagram": bool(self.heard[DATAGRAM]),
        }
