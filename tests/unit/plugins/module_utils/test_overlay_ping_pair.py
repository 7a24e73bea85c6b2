# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The packets of verify, and what an agent does over time."""

from __future__ import annotations

import socket
import struct
import time
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _ping_codec as codec
from ansible_collections.multihost.overlay.plugins.module_utils import _ping_loop
from ansible_collections.multihost.overlay.plugins.module_utils._ping_pair import (
    CLOSED,
    DATAGRAMS,
    SETTLE,
    NameCheck,
    Pair,
    round_trips,
)

RUN = bytes.fromhex("0123456789abcdef")
TIMING = {"count": 4, "interval": 0.1, "patience": 10.0}
IP = bytes([0x45]) + b"\0" * 19


def probe(phase=codec.SERIES):
    return codec.Probe(1, 2, 3, phase, 7, 12.5)


def test_echo_survives_the_way_and_has_the_asked_size():
    packet = IP + codec.encode(RUN, probe(), 1450)
    assert len(packet) == 1450
    assert codec.checksum(packet[20:]) == 0
    assert codec.decode(RUN, packet) == codec.Echo(codec.ECHO_REQUEST, probe(), 1450)


@pytest.mark.parametrize("packet", [b"", IP, IP + b"\x08\0" * 40, IP + codec.encode(b"another1", probe())])
def test_what_is_not_of_this_run_is_ignored(packet):
    assert codec.decode(RUN, packet) is None


def test_question_has_the_name_in_labels():
    assert b"\x04pg-1\x05vnet1\0\0\x01\0\x01" in codec.encode_question(9, "pg-1.vnet1")
    with pytest.raises(ValueError, match="63 bytes"):
        codec.encode_question(9, "x" * 64)


def answer(flags, records):
    data = struct.pack("!HHHHHH", 9, flags, 1, len(records), 0, 0) + b"\x01a\0\0\x01\0\x01"
    for address in records:
        data += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 60, 4) + bytes(address)
    return data


def test_answers_are_read():
    assert codec.decode_answer(answer(0x8180, [(10, 0, 0, 2), (10, 0, 0, 3)])) == (9, ["10.0.0.2", "10.0.0.3"], None)
    assert codec.decode_answer(answer(0x8183, [])) == (9, [], "NXDOMAIN")
    assert codec.decode_answer(answer(0x8180, [(10, 0, 0, 2)])[:-2])[2] == "an answer that is not DNS"


def play(pair, until, replies=True, heard_from=None, name_at=None):
    """Let time pass; the peer answers at once, and is heard and done at given moments."""
    now, sent = 0.0, []
    while now < until and pair.stage != CLOSED:
        if heard_from is not None and now >= heard_from:
            pair.on_heard(codec.KNOCK, 0, now)
        if pair.name.step(now) and name_at is not None and now >= name_at:
            pair.name.answer(["10.0.0.2"], None)
        for phase, seq in pair.step(now):
            sent.append((phase, seq, round(now, 2)))
            if replies:
                pair.on_reply(phase, seq, 0.001, now)
        now += 0.05
    return sent


def test_healthy_pair_is_measured_and_closed_at_once():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    sent = play(pair, 60.0, heard_from=2.0, name_at=0.0)
    assert pair.stage == CLOSED
    assert not pair.agreed()
    pair.on_heard(codec.DONE, 1, 5.0)
    assert pair.agreed()
    assert sent[-1][2] < 4.0
    assert pair.result()["replied"] == pair.result()["sent"] == 4
    assert pair.result()["rtt"] == [1.0] * 5


@pytest.mark.parametrize(
    ("times", "percentiles"),
    [([7], [7, 7]), ([1, 2], [1, 2]), ([3, 1, 2], [2, 3]), (range(10), [4, 9]), (range(1, 201), [100, 198])],
)
def test_percentiles_are_the_nearest_ranks_of_what_was_measured(times, percentiles):
    found = round_trips(times)
    assert found and found[3:] == percentiles


def test_one_late_answer_changes_the_mean_and_not_the_median():
    assert round_trips([0.2] * 9 + [100.0]) == [0.2, 10.18, 100.0, 0.2, 100.0]
    assert round_trips([]) is None


def test_reply_alone_starts_nothing_as_a_kernel_answers_before_its_agent_listens():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    sent = play(pair, 20.0, name_at=0.0)
    assert {phase for phase, _seq, _now in sent} == {codec.KNOCK}


def test_heard_but_never_answered_is_measured_after_a_while():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    sent = play(pair, 20.0, replies=False, heard_from=1.0, name_at=0.0)
    first = next(now for phase, _seq, now in sent if phase == codec.SERIES)
    assert 1.0 + SETTLE <= first < 1.2 + SETTLE
    assert pair.result()["replied"] == 0
    assert pair.result()["sent"] == 4


def test_silent_peer_is_measured_when_patience_ends():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 5.0)
    sent = play(pair, 60.0, replies=False)
    assert [seq for phase, seq, _now in sent if phase == codec.SERIES] == [0, 1, 2, 3]
    assert not pair.agreed()
    assert pair.stage == CLOSED
    assert pair.result()["name"] == {
        "ok": False,
        "kind": "failed",
        "addresses": [],
        "error": "no answer from 127.0.0.11:53",
    }


def test_once_all_are_up_a_silent_peer_is_given_up_soon():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 1000.0)
    assert {phase for phase, _seq, _now in play(pair, 20.0, replies=False)} == {codec.KNOCK}
    pair.hurry(20.0)
    assert pair.knock_until == 20.0 + TIMING["patience"]
    for step in range(1000):
        pair.name.step(20.0 + step / 20)
        pair.step(20.0 + step / 20)
        if pair.stage == CLOSED:
            break
    assert (pair.stage, pair.result()["sent"]) == (CLOSED, 4)
    # The name too has its patience.
    assert step / 20 < 2 * TIMING["patience"] + 3


@pytest.mark.parametrize("kernel_answers", [False, True])
def test_a_peer_that_comes_after_it_was_given_up_is_measured_from_the_beginning(kernel_answers):
    """Also where the container runs all the time, and its kernel answers before the agent is there."""
    pair = Pair(TIMING, "10.0.0.2", 0.0, 5.0)
    play(pair, 60.0, replies=kernel_answers)
    assert (pair.stage, pair.name.ok) == (CLOSED, False)
    pair.on_heard(codec.KNOCK, 0, 60.0)
    sent = []
    for step in range(200):
        now = 60.0 + step / 20
        if pair.name.step(now):
            pair.name.answer(["10.0.0.2"], None)
        for phase, seq in pair.step(now):
            sent.append((phase, seq))
            pair.on_reply(phase, seq, 0.001, now)
    pair.on_heard(codec.DONE, 1, 80.0)
    assert pair.agreed()
    assert [seq for phase, seq in sent if phase == codec.SERIES] == [0, 1, 2, 3]
    assert {phase for phase, _seq in sent} == {codec.SERIES, codec.FULL, codec.DONE}
    result = pair.result()
    assert (result["replied"], result["sent"], result["full_replied"], result["name"]["ok"]) == (4, 4, True, True)


def test_the_name_of_a_peer_may_lead_to_its_spare_address():
    check = NameCheck("10.0.0.2", 10.0, 0.0, "10.0.0.77")
    check.step(0.0)
    check.answer(["10.0.0.77"], None)
    assert check.result()["ok"]


def test_a_pair_that_is_under_way_is_not_hurried():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 1000.0)
    play(pair, 60.0, heard_from=0.0, name_at=0.0)
    pair.hurry(60.0)
    assert (pair.stage, pair.wake_at()) == (CLOSED, float("inf"))


def test_a_peer_that_never_says_done_is_not_waited_for_for_ever():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 5.0, rest=13.0)
    play(pair, 60.0, replies=False)
    assert (pair.stage, pair.wake_at()) == (CLOSED, 18.0)
    assert (pair.finished(17.9), pair.finished(18.0)) == (False, True)
    # Who comes all the same is measured, and has its time.
    pair.on_heard(codec.KNOCK, 0, 30.0)
    assert (pair.finished(30.0), pair.over) == (False, 43.0)


def test_done_is_not_said_before_the_name_is_known():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    sent = play(pair, 60.0, heard_from=0.0, name_at=4.0)
    assert min(now for phase, _seq, now in sent if phase == codec.DONE) >= 4.0


def test_wrong_name_may_still_become_right():
    check = NameCheck("10.0.0.2", 10.0, 0.0)
    assert check.step(0.0)
    check.answer(["10.0.0.9"], None)
    assert check.result()["kind"] == "wrong"
    check.answer(["10.0.0.9", "10.0.0.2"], None)
    assert check.result()["ok"]


@pytest.mark.parametrize(
    ("answered", "asked"), [(False, [0.0, 2.0, 4.0]), (True, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5])]
)
def test_who_does_not_answer_is_asked_less_often_than_who_does_not_know_yet(answered, asked):
    """A hundred hosts that ask on and on would keep busy engines from ever answering."""
    check = NameCheck("10.0.0.2", 5.0, 0.0)
    times = []
    for now in [tenth / 10 for tenth in range(60)]:
        if check.step(now):
            times.append(now)
            if answered:
                check.answer([], "it is not known")
    assert times == asked
    assert check.finished and not check.ok


class LastAct:
    """A network whose last act is all that is left to do."""

    timing: Any = {"interval": 0.05}

    def __init__(self):
        self.acted = False

    def attend(self, watch):
        watch.wait = lambda _seconds: pytest.fail("nobody would wake it")
        self.asides = self

    def release(self, now):
        self.released = True

    def measured(self):
        return True

    def act(self, now, quiet):
        self.acted = True
        return now + 60

    def finished(self, now):
        return self.acted


def test_who_has_nothing_left_to_do_waits_for_nothing():
    network: Any = LastAct()
    _ping_loop.run_loop([network], lambda: False)
    assert network.acted


class Busy(LastAct):
    """A network on which packets never cease to arrive, for half a second."""

    def __init__(self):
        self.near, self.far = socket.socketpair()
        self.acts = self.packets = 0
        self.until = time.monotonic() + 0.5

    def attend(self, watch):
        self.asides = self
        self.far.send(b"x")
        watch.reading(self.near, self.take)

    def take(self):
        self.packets += 1
        self.far.send(self.near.recv(1))

    def act(self, now, quiet):
        self.acts += 1
        return now + 60

    def finished(self, now):
        return now > self.until


@pytest.mark.parametrize(("interval", "most"), [(0.05, 30), (0.01, 110)])
def test_not_every_packet_is_a_reason_to_go_through_all_peers(interval, most):
    """Whose packets go out more often are gone through more often."""
    network: Any = Busy()
    network.timing = {"interval": interval}
    _ping_loop.run_loop([network], lambda: False)
    assert network.acts <= most < network.packets
    network.near.close()
    network.far.close()


def search(pair, passes, until=30.0, lost=None):
    """Let time pass with a peer that is there; only packets of so many bytes come back."""
    now, sent = 0.0, []
    pair.on_heard(codec.KNOCK, 0, now)
    while now < until and pair.stage != CLOSED:
        pair.name.step(now)
        pair.name.answer([pair.name.expected], None)
        for phase, seq in pair.step(now):
            size = {codec.FULL: pair.full, codec.SIZED: seq}.get(phase, codec.SMALL)
            sent.append(size)
            if size <= passes and phase != lost:
                pair.on_reply(phase, seq, 0.001, now, size)
        now += 0.05
    return sent


@pytest.mark.parametrize("passes", [100, 576, 1399, 1400, 1449])
def test_where_full_packets_vanish_the_largest_that_passes_is_found(passes):
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0, full=1450)
    search(pair, passes)
    result = pair.result()
    assert (pair.stage, result["full_replied"], result["largest_replied"]) == (CLOSED, False, passes)


def test_a_full_packet_lost_by_chance_is_no_small_path():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0, full=1450)
    sent = search(pair, 1450, lost=codec.FULL)
    result = pair.result()
    assert sent.count(1450) > 1
    assert (pair.stage, result["full_replied"]) == (CLOSED, True)


def test_datagrams_are_repeated_a_bounded_number_of_times():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    pair.on_heard(codec.KNOCK, 0, 0.0, port=4711)
    sent = play(pair, 60.0, replies=False, heard_from=0.0, name_at=0.0)
    assert [phase for phase, _seq, _now in sent].count(codec.DATAGRAM) == DATAGRAMS
    assert (pair.stage, pair.result()["datagram_replied"]) == (CLOSED, False)


def test_a_peer_may_not_go_while_a_connection_is_open_or_something_else_needs_it():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    pair.held = True
    pair.tcp.begin(0.0)
    sent = play(pair, 5.0, heard_from=0.0, name_at=0.0)
    assert codec.DONE not in {phase for phase, _seq, _now in sent}
    pair.tcp.end(True)
    assert codec.DONE not in {phase for phase, _seq in pair.step(5.0)}
    pair.release(5.0)
    assert pair.step(5.0) == [(codec.DONE, 1)]


def test_a_connection_without_an_answer_is_given_up():
    pair = Pair(TIMING, "10.0.0.2", 0.0, 30.0)
    pair.tcp.begin(0.0)
    play(pair, 60.0, heard_from=0.0, name_at=0.0)
    assert (pair.stage, pair.result()["tcp"]["ok"]) == (CLOSED, False)
    assert "within 10 s" in pair.result()["tcp"]["error"]
