# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which ports are probed how, the packets, and what an agent sends when."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _probe_codec as codec
from ansible_collections.multihost.overlay.plugins.module_utils import _probe_pair as pair
from ansible_collections.multihost.overlay.plugins.module_utils import _probe_plan as planner
from ansible_collections.multihost.overlay.plugins.module_utils import _probe_sockets as sockets

RUN = bytes.fromhex("0123456789abcdef")
GROUPS = {"hosts": ["a", "b"], "servers": ["s"], "members": ["s", "a", "b"]}
ADDRESSES = {"s": "10.0.0.1", "a": "10.0.0.2", "b": "10.0.0.3"}
TIMING = {"count": 1, "interval": 1.0, "patience": 3.0, "gossip": 2.5, "spread": 6.0}


def topology(**changes: Any) -> dict[str, Any]:
    base = {"mode": "classic", "store_type": "consul", "store_managed": True, "docker_api": "none"}
    return {**base, "groups": GROUPS, "addresses": ADDRESSES, **changes}


def names(**changes: Any) -> set[str]:
    return {f"{row['proto']}/{row['port']}" for row in planner.ports_of(topology(**changes))}


def plan(held: dict[str, list[str]] | None = None, **changes: Any) -> dict[str, Any]:
    seen = {"problem": "", "mtu": 1500, "members": {}}
    started = {host: dict(seen, held=(held or {}).get(host, [])) for host in GROUPS["members"]}
    started.update(changes)
    return planner.make_plan("0123456789abcdef", topology(), planner.ports_of(topology()), started, TIMING)


def test_the_topology_says_which_ports() -> None:
    always = {"udp/4789", "tcp/7946", "udp/7946"}
    assert names() == always | {"tcp/8300", "tcp/8301", "udp/8301"}
    assert names(store_managed=False) == always
    assert names(store_managed=False, docker_api="tls") == always | {"tcp/2376"}
    assert names(mode="swarm") == always | {"tcp/2377"}


def test_where_engines_ask_the_servers_only_those_gossip() -> None:
    rows = {
        (row["proto"], row["port"]): (row["from"], row["to"])
        for row in planner.ports_of(topology(store_https_port=8501))
    }
    assert rows["tcp", 8501] == ("hosts", "servers")
    assert {rows[key] for key in (("tcp", 8300), ("tcp", 8301), ("udp", 8301))} == {("servers", "servers")}


def test_around_some_hosts_the_others_leave_one_another_alone() -> None:
    started = {host: {"problem": "", "mtu": 1500, "members": {}, "held": []} for host in GROUPS["members"]}
    ports = planner.ports_of(topology())
    made = planner.make_plan("0123456789abcdef", topology(only=[GROUPS["members"][2], "lost"]), ports, started, TIMING)
    assert [planner.peers_of(made, place) for place in range(3)] == [[2], [2], [0, 1]]
    assert planner.peers_of(plan(), 0) == [1, 2]


def test_the_table_of_ports_names_hosts_and_addresses() -> None:
    text = "\n".join(planner.ports_text(planner.ports_of(topology()), GROUPS, ADDRESSES))
    assert " 4789/udp  from hosts   to hosts" in text
    assert " 8300/tcp  from members to servers" in text
    assert "servers: s (10.0.0.1)" in text


def test_a_host_of_the_store_alone_needs_no_overlay_port() -> None:
    made = plan()
    to_store = planner.Expected(made, 1, 0)
    assert (to_store.udp, to_store.tcp) == ([8301], [8300, 8301])
    assert (planner.Expected(made, 1, 2).udp, planner.Expected(made, 1, 2).tcp) == ([4789, 7946, 8301], [7946, 8301])
    assert planner.bound_ports(made, 0) == {"udp": [8301], "tcp": [8300, 8301]}


def test_a_held_port_gets_no_datagram_but_vxlan_does() -> None:
    made = plan({"b": ["udp/4789", "udp/7946", "tcp/7946"], "a": ["udp/7946"]})
    way = planner.Expected(made, 1, 2)
    assert (way.udp, way.gossip, way.audible) == ([4789, 8301], [7946], [7946])
    # The gossip of a host that runs no engine yet cannot be heard.
    made = plan({"b": ["udp/7946"]})
    assert planner.Expected(made, 1, 2).audible == []


@pytest.mark.parametrize("alive", [True, False])
def test_whom_the_host_s_consul_knows_nobody_listens_for(alive: bool) -> None:
    held = ["udp/4789", "udp/7946", "udp/8301"]
    knows = {"problem": "", "mtu": 1500, "held": held, "members": {ADDRESSES["b"]: alive}}
    made = plan({"b": held}, a=knows)
    assert (planner.Expected(made, 1, 2).gossip, planner.Expected(made, 1, 2).audible) == ([7946, 8301], [])
    assert planner.Expected(made, 2, 1).audible == [7946, 8301]


@pytest.mark.parametrize(
    "result", [None, {"unreachable": True, "msg": "no route"}, {"msg": "broken"}, {"problem": "no root", "mtu": 0}]
)
def test_hosts_that_cannot_take_part_are_not_planned(result: Any) -> None:
    made = plan(a=result)
    assert made["hosts"] == ["s", "b"]
    assert made["addresses"] == ["10.0.0.1", "10.0.0.3"]
    assert planner.problem_of(result)


def test_early_hosts_wait_longer_and_all_have_a_last_deadline() -> None:
    made = plan()
    knocks = [planner.limits(made, place)[0] for place in range(3)]
    assert knocks == sorted(knocks, reverse=True)
    assert all(
        knock < finish < last for knock, finish, last, _keep in (planner.limits(made, place) for place in range(3))
    )


# -- packets


def packet(stream: int, size: int = codec.SMALL) -> codec.Packet:
    return codec.Packet(1, 2, stream, 1, 5, size, 10.5, 1800000000.25, 3.5, 0.125)


def on_the_wire(stream: int, content: bytes) -> bytes:
    header = bytes([0x45]) + bytes(11) + bytes([10, 0, 0, 2]) + bytes([10, 0, 0, 3])
    udp = (5).to_bytes(2, "big") + stream.to_bytes(2, "big") + bytes(4)
    return header + (udp if stream else b"") + content


def decode(data: bytes, stream: int) -> codec.Packet | None:
    return codec.decode_udp(RUN, data) if stream else codec.decode_icmp(RUN, data)


@pytest.mark.parametrize("stream", [0, 4789, 7946])
@pytest.mark.parametrize("size", [codec.SMALL, 1400, 1500])
def test_packets_have_their_size_and_come_back_whole(stream: int, size: int) -> None:
    sent = packet(stream, size)
    data = on_the_wire(stream, codec.encode(RUN, sent))
    assert len(data) == size
    assert decode(data, stream) == sent


def test_vxlan_packets_carry_the_reserved_vni_with_its_flag() -> None:
    content = codec.encode(RUN, packet(4789))
    assert content[:8] == bytes([8, 0, 0, 0, 0xFF, 0xFF, 0xFE, 0])
    assert codec.ports_of(on_the_wire(4789, content)) == ("10.0.0.2", 5, 4789)


@pytest.mark.parametrize("place", [20 + 8 + 1, 20 + 8 + 5, 20 + 8 + 22 + 40, -1])
def test_a_changed_byte_is_noticed(place: int) -> None:
    data = bytearray(on_the_wire(4789, codec.encode(RUN, packet(4789, 1500))))
    data[place] ^= 1
    with pytest.raises(codec.MangledError):
        codec.decode_udp(RUN, bytes(data))


def test_others_packets_are_nobodys() -> None:
    data = on_the_wire(4789, codec.encode(b"otherrun", packet(4789)))
    assert codec.decode_udp(RUN, data) is None
    assert codec.decode_udp(RUN, on_the_wire(7946, b"gossip")) is None
    assert codec.decode_udp(RUN, b"") is None
    assert codec.decode_icmp(RUN, on_the_wire(0, b"\0" * 80)) is None


# -- filters


def admits(program: list[tuple[int, int, int, int]], data: bytes) -> bool:
    """What the kernel makes of a filter."""
    accumulator = index = place = 0
    while True:
        code, yes, no, value = program[place]
        place += 1
        if code == 0xB1:
            index = (data[value] & 15) * 4
        elif code in (0x40, 0x48, 0x50):
            width = {0x40: 4, 0x48: 2, 0x50: 1}[code]
            accumulator = int.from_bytes(data[index + value : index + value + width], "big")
        elif code == 0x54:
            accumulator &= value
        elif code == 0x15:
            place += yes if accumulator == value else no
        else:
            return bool(value)


@pytest.mark.parametrize("gossip", [[], [7946], [7946, 8301]])
def test_containers_vxlan_never_reaches_the_agent(gossip: list[int]) -> None:
    program = sockets.udp_filter(gossip)
    assert admits(program, on_the_wire(4789, codec.encode(RUN, packet(4789))))
    assert not admits(program, on_the_wire(4789, bytes(100)))
    assert not admits(program, on_the_wire(53, bytes(100)))
    assert [admits(program, on_the_wire(port, bytes(100))) for port in (7946, 8301)] == [
        port in gossip for port in (7946, 8301)
    ]


def test_only_first_packets_of_connections_are_heard() -> None:
    program = sockets.tcp_filter([7946, 8300])

    def tcp(port: int, flags: int) -> bytes:
        return on_the_wire(0, (5).to_bytes(2, "big") + port.to_bytes(2, "big") + bytes(9) + bytes([flags]) + bytes(6))

    assert admits(program, tcp(7946, 0x02))
    assert admits(program, tcp(8300, 0xC2))
    assert [admits(program, tcp(*case)) for case in ((7946, 0x12), (7946, 0x10), (22, 0x02))] == [False] * 3


# -- the pair


def make_pair(now: float = 0.0, knock: float = 3.0, gossip: float = 0.0) -> pair.Pair:
    made = plan()
    return pair.Pair(planner.Expected(made, 1, 2), planner.Expected(made, 2, 1), now, now + knock, now + gossip)


def complete(one: pair.Pair, now: float) -> None:
    for stream in (4789, 7946, 8301):
        one.on_packet(stream, codec.SMALL, 0, 0b111 | pair.FULL_BIT, now)
    one.on_packet(4789, 1500, 0, 0b111 | pair.FULL_BIT, now)
    one.tcp = dict.fromkeys(one.tcp, "connected")
    for _count in range(pair.SAMPLES):
        one.on_sample(0.001, 0.0)


def test_a_healthy_pair_parts_at_once() -> None:
    one = make_pair()
    assert {stream for stream, _size in one.step(0.0)} == {0, 4789, 7946, 8301}
    assert not one.is_done(0.1)
    complete(one, 0.1)
    assert one.is_done(0.1)
    assert one.flags() == pair.DONE_FLAG
    assert not one.closed(0.1)
    for tick in range(pair.PARTING):
        assert one.step(0.2 + tick * pair.EVERY)
    one.on_packet(4789, codec.SMALL, pair.DONE_FLAG, 0, 0.4)
    assert one.closed(0.4)


def test_a_silent_peer_is_given_up_when_patience_ends() -> None:
    one = make_pair()
    assert not one.is_done(2.9)
    assert one.is_done(3.0)
    assert one.closed(3.0 + pair.PARTING_LIMIT)


def test_what_is_missing_of_a_living_peer_is_lost_after_a_while() -> None:
    one = make_pair(knock=60.0)
    one.on_packet(0, codec.SMALL, 0, 0, 1.0)
    assert not one.is_done(3.1)
    assert one.is_done(3.3)


def test_many_hosts_are_given_more_time() -> None:
    made = plan()
    ways = planner.Expected(made, 1, 2), planner.Expected(made, 2, 1)
    few, many, most = (pair.Pair(*ways, 0.0, 3.0, 0.0, hosts) for hosts in (3, 20, 200))
    assert (few.every, few.burst) == (pair.EVERY, pair.BURST)
    assert few.settle < many.settle < most.settle == pair.SETTLE_MOST
    assert few.every < many.every < most.every


def test_gossip_is_waited_for_only_where_it_can_be_heard() -> None:
    one = make_pair(gossip=5.0)
    one.back.audible = [7946]
    complete(one, 0.1)
    assert not one.is_done(0.2)
    one.gossip.add(7946)
    assert one.is_done(0.3)


def test_sizes_go_down_in_small_steps_only_when_full_ones_are_lost() -> None:
    sizes = pair.ladder(1500)
    assert sizes == sorted(sizes, reverse=True)
    assert {1400, 1420, 1480} <= set(sizes)
    assert max(sizes) < 1500
    assert {8948, 1500} <= set(pair.ladder(9000))
    one = make_pair()
    one.on_packet(4789, codec.SMALL, 0, 1, 0.0)
    sent = [size for tick in range(1, 30) for _stream, size in one.step(tick * pair.EVERY)]
    assert 1400 in sent
    healthy = make_pair()
    complete(healthy, 0.0)
    assert {size for tick in range(1, 30) for _stream, size in healthy.step(tick * pair.EVERY)} == {codec.SMALL}
