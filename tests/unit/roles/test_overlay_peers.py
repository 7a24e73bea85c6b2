# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which entries the unit of overlay_docker adds to the tables of an overlay, and which it takes away."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import socket
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import Any

import overlay_store
import pytest

ROOT = Path(__file__).resolve().parents[3]
OWN, OTHER, THIRD = "10.88.0.11", "10.88.0.12", "10.88.0.13"
NID = "c4e52eb1441ef6b9c9961e4396c264f8"
SPACE = "1-c4e52eb144"
HERE, THERE, NEWEST = "a" * 12, "b" * 12, "c" * 12  # short ids of containers
COUNT = f"network/v1.0/endpoint_count/{NID}/"


@pytest.fixture(scope="module")
def keep() -> ModuleType:
    spec = importlib.util.spec_from_file_location("overlay_peers", ROOT / "roles/overlay_docker/files/overlay_peers.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def mac(number: int) -> str:
    return f"02:42:0a:64:5a:{number:02x}"


def record(number: int, host: str = OTHER, **changes: Any) -> dict[str, Any]:
    """An endpoint as Docker 20.10 writes it, without what is not read."""
    interface = {"addr": f"10.100.90.{number}/24", "mac": mac(number), "srcName": "veth36ad6e5", "v6PoolID": ""}
    return {"id": "e" * 64, "name": "one", "locator": host, "ep_iface": interface, "virtualIP": "<nil>", **changes}


# What `ip -json -details address`, `ip -json neighbour` and `bridge -json fdb` of Debian 11 print, shortened.
LINKS: list[dict[str, Any]] = [
    {"ifname": "lo", "addr_info": [{"family": "inet", "local": "127.0.0.1", "prefixlen": 8}]},
    {
        "ifname": "br0",
        "linkinfo": {"info_kind": "bridge"},
        "addr_info": [
            {"family": "inet", "local": "10.100.90.1", "prefixlen": 24},
            {"family": "inet6", "local": "fe80::1", "prefixlen": 64},
        ],
    },
    {"ifname": "vxlan0", "master": "br0", "linkinfo": {"info_kind": "vxlan"}, "addr_info": []},
    {"ifname": "veth0", "master": "br0", "linkinfo": {"info_kind": "veth"}, "addr_info": []},
]
NEIGHBOURS = [
    {"dst": "10.100.90.2", "dev": "vxlan0", "lladdr": mac(2), "state": ["PERMANENT"]},
    {"dst": "10.100.90.3", "dev": "vxlan0", "state": ["FAILED"]},
    {"dst": "10.100.90.9", "dev": "br0", "lladdr": mac(9), "state": ["REACHABLE"]},
]
FORWARDING = [
    {"mac": "33:33:00:00:00:01", "ifname": "br0", "flags": ["self"], "state": "permanent"},
    {"mac": mac(2), "ifname": "vxlan0", "flags": [], "master": "br0", "state": ""},
    {"mac": mac(2), "ifname": "vxlan0", "dst": OTHER, "link_netnsid": 0, "flags": ["self"], "state": "permanent"},
    {"mac": mac(3), "ifname": "vxlan0", "dst": OTHER, "flags": ["self"], "state": ""},
]


def printed(links: Any = None) -> str:
    return "\n".join(json.dumps(rows) for rows in (links or LINKS, NEIGHBOURS, FORWARDING)) + "\n"


def neigh(keep: ModuleType, number: int) -> Any:
    return keep.Entry("neigh", "vxlan0", f"10.100.90.{number}", mac(number))


def fdb(keep: ModuleType, number: int, host: str = OTHER) -> Any:
    return keep.Entry("fdb", "vxlan0", mac(number), host)


def peer(keep: ModuleType, number: int, host: str = OTHER) -> Any:
    return keep.Peer(f"10.100.90.{number}", mac(number), host)


def test_the_kernels_tables_are_read(keep: ModuleType) -> None:
    space = keep.parse(printed())
    assert {device: str(subnet) for device, subnet in space.subnets.items()} == {"vxlan0": "10.100.90.0/24"}
    assert space.fixed == {neigh(keep, 2), fdb(keep, 2)}
    assert space.passing == {("neigh", "vxlan0", "10.100.90.3"), ("fdb", "vxlan0", mac(3))}


def test_empty_tables_are_read(keep: ModuleType) -> None:
    assert keep.parse("[{}]\n[ ]\n[ ]\n".replace("{}", json.dumps(LINKS[2]))).fixed == set()


def test_each_subnet_has_its_device(keep: ModuleType) -> None:
    second = [{"family": "inet", "local": "10.100.91.1", "prefixlen": 24}]
    links = [*LINKS, {"ifname": "br1", "addr_info": second}, {**LINKS[2], "ifname": "vxlan1", "master": "br1"}]
    devices = keep.parse(printed(links)).subnets
    there = keep.wanted([keep.Peer("10.100.91.7", mac(7), OTHER)], OWN, devices)
    assert there == {
        keep.Entry("neigh", "vxlan1", "10.100.91.7", mac(7)),
        keep.Entry("fdb", "vxlan1", mac(7), OTHER),
    }


def test_a_record_is_read_when_it_is_whole(keep: ModuleType) -> None:
    assert keep.peer_of(record(4)) == [peer(keep, 4)]
    assert keep.peer_of(record(4, locator="")) == []
    assert keep.peer_of(record(4, ep_iface={})) == []
    with pytest.raises(ValueError, match="nonsense"):
        keep.peer_of(record(4, "nonsense"))


def test_what_leads_to_other_hosts_is_wanted(keep: ModuleType) -> None:
    devices = keep.parse(printed()).subnets
    assert keep.wanted([peer(keep, 4), peer(keep, 5, OWN)], OWN, devices) == {neigh(keep, 4), fdb(keep, 4)}
    assert keep.wanted([keep.Peer("10.1.1.1", mac(4), OTHER)], OWN, devices) == set(), "of no subnet here"


@pytest.mark.parametrize("second", [OWN, THIRD])
def test_an_address_of_two_is_nobodys(keep: ModuleType, second: str) -> None:
    peers = [peer(keep, 4), peer(keep, 4, second), peer(keep, 5)]
    assert keep.claimed_twice(peers) == {"10.100.90.4", mac(4)}
    assert keep.wanted(peers, OWN, keep.parse(printed()).subnets) == {neigh(keep, 5), fdb(keep, 5)}


def test_only_what_is_missing_is_added(keep: ModuleType) -> None:
    space = keep.parse(printed())
    want = {entry for number in (2, 3, 4) for entry in (neigh(keep, number), fdb(keep, number))}
    away, missing, ours = keep.plan(space, want, set(), set(), set())
    assert away == set()
    assert missing == ours == {neigh(keep, 3), fdb(keep, 3), neigh(keep, 4), fdb(keep, 4)}
    assert keep.batch(space, away, missing) == [
        f"fdb replace {mac(3)} dev vxlan0 dst {OTHER} self permanent\n",  # the device had learnt it
        f"fdb add {mac(4)} dev vxlan0 dst {OTHER} self permanent\n",
        f"neigh replace 10.100.90.3 dev vxlan0 lladdr {mac(3)} nud permanent\n",
        f"neigh add 10.100.90.4 dev vxlan0 lladdr {mac(4)} nud permanent\n",
    ]


def test_what_dockerd_says_otherwise_stays_until_it_is_known_to_be_wrong(keep: ModuleType) -> None:
    space, want = keep.parse(printed()), {neigh(keep, 2), fdb(keep, 2, THIRD)}
    assert keep.plan(space, want, set(), set(), set()) == (set(), set(), set())
    right = {fdb(keep, 2, THIRD)}
    assert keep.plan(space, want, set(), set(), {fdb(keep, 2)}) == ({fdb(keep, 2)}, right, right)


def test_what_leads_elsewhere_is_wrong(keep: ModuleType) -> None:
    space = keep.parse(printed())
    assert keep.contradicted(space, [peer(keep, 2)]) == set()
    assert keep.contradicted(space, [peer(keep, 2, THIRD)]) == {fdb(keep, 2)}
    assert keep.contradicted(space, [peer(keep, 2, OWN)]) == {fdb(keep, 2)}
    assert keep.contradicted(space, [keep.Peer("10.100.90.2", mac(9), OTHER)]) == {neigh(keep, 2)}
    assert keep.contradicted(space, [peer(keep, 2, THIRD), peer(keep, 2, OWN)]) == set(), "claimed twice"
    assert keep.contradicted(space, []) == set(), "nobody's in the store: left to dockerd"


def test_our_own_goes_when_the_store_has_it_no_more(keep: ModuleType) -> None:
    space = keep.parse(printed())
    away, missing, _ours = keep.plan(space, set(), {neigh(keep, 2), fdb(keep, 2), fdb(keep, 8)}, set(), set())
    assert (away, missing) == ({neigh(keep, 2), fdb(keep, 2)}, set())
    assert keep.batch(space, away, missing) == [
        f"fdb del {mac(2)} dev vxlan0 dst {OTHER} self\nfdb del {mac(2)} dev vxlan0 master\n",
        "neigh del 10.100.90.2 dev vxlan0\n",
    ]


def test_what_dockerd_has_changed_since_is_not_ours(keep: ModuleType) -> None:
    assert keep.plan(keep.parse(printed()), set(), {fdb(keep, 2, THIRD)}, set(), set()) == (set(), set(), set())


def test_our_own_follows_an_address_that_moved(keep: ModuleType) -> None:
    want = {neigh(keep, 2), fdb(keep, 2, THIRD)}
    away, missing, ours = keep.plan(keep.parse(printed()), want, {neigh(keep, 2), fdb(keep, 2)}, set(), set())
    assert (away, missing) == ({fdb(keep, 2)}, {fdb(keep, 2, THIRD)})
    assert ours == {neigh(keep, 2), fdb(keep, 2), fdb(keep, 2, THIRD)}, "until the next look the old one is ours too"


# -- the store


class Answer(io.BytesIO):
    """What urllib gives."""

    def __init__(self, content: list[Any], headers: Message) -> None:
        super().__init__(json.dumps(content).encode())
        self.headers = headers


class Answers:
    """A Consul that has records of one network, and counts what it is asked."""

    def __init__(self, *records: dict[str, Any]) -> None:
        self.records = list(records)
        self.networks = [NID]
        self.index = 1
        self.count: dict[str, Any] = {"Key": f"docker/{COUNT}", "Value": "e30=", "Flags": 5, "ModifyIndex": 40}
        self.written: list[tuple[str, bytes]] = []
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    def open(self, request: Any, timeout: float) -> Any:
        self.asked.append(request.full_url)
        self.tokens.add(request.get_header("X-consul-token"))
        headers = Message()
        if request.get_method() == "PUT":
            self.written.append((request.full_url, request.data))
            self.count["ModifyIndex"] += 1
        if "/endpoint_count/" in request.full_url:
            return Answer([self.count] if self.count else [], headers)
        headers["X-Consul-Index"] = str(self.index)
        if not self.records:
            raise urllib.error.HTTPError(request.full_url, 404, "", headers, io.BytesIO())
        if request.full_url.endswith("?keys&separator=/"):
            return Answer([f"docker/network/v1.0/endpoint/{nid}/" for nid in self.networks], headers)
        values = [base64.b64encode(json.dumps(entry).encode()).decode() for entry in self.records]
        pairs = [{"Value": value, "ModifyIndex": number} for number, value in enumerate(values)]
        return Answer([{"Key": "folder/", "Value": None}, *pairs], headers)


def store_of(keep: ModuleType, answers: Any, url: str = "consul://127.0.0.1:8500", token: str = "") -> Any:
    store = keep.Networks(url, token)
    store.opener = answers
    return store


def test_records_are_read_only_when_the_index_moves(keep: ModuleType) -> None:
    answers = Answers(record(4))
    store = store_of(keep, answers)
    for _round in range(3):
        assert store.endpoints(NID[:10]).peers == [peer(keep, 4)]
    folder = f"http://127.0.0.1:8500/v1/kv/docker/network/v1.0/endpoint/{NID[:10]}"
    assert answers.asked == [
        f"{folder}?{query}" for query in ("keys&separator=/", "recurse", *["keys&separator=/"] * 2)
    ]
    answers.records.append(record(5))
    answers.index = 2
    assert len(store.endpoints(NID[:10]).peers) == 2


def test_an_index_that_came_back_does_not_keep_old_records_for_ever(
    keep: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store that was made anew and restored counts again from where it was."""
    clock = [1000.0]
    monkeypatch.setattr(keep.time, "monotonic", lambda: clock[0])
    answers = Answers(record(4))
    store = store_of(keep, answers)
    store.endpoints(NID[:10])
    answers.records[0] = record(4, THIRD)
    clock[0] += keep.VALID - 1
    assert store.endpoints(NID[:10]).peers == [peer(keep, 4)]
    clock[0] += 1
    assert store.endpoints(NID[:10]).peers == [peer(keep, 4, THIRD)]


def test_a_prefix_and_a_token_are_passed_on(keep: ModuleType) -> None:
    answers = Answers(record(4))
    store_of(keep, answers, "consul://consul.example:8501/team/a", "secret").endpoints(NID[:10])
    assert answers.asked[0].startswith("http://consul.example:8501/v1/kv/team/a/docker/network/v1.0/endpoint/")
    assert answers.tokens == {"secret"}


def test_tls_is_spoken_with_the_files_of_the_moment(keep: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Any] = []
    answers = Answers(record(4))

    def opener_for(tls: Any) -> Answers:
        opened.append(tls)
        return answers

    monkeypatch.setattr(overlay_store, "opener_for", opener_for)
    store = keep.Networks("consul://127.0.0.1:8501", "", ["/ca", "/crt", "/key"])
    store.endpoints(NID[:10])
    assert answers.asked[0].startswith("https://127.0.0.1:8501/")
    assert opened[1:] == [["/ca", "/crt", "/key"]] * len(answers.asked)


def test_no_key_is_no_peer(keep: ModuleType) -> None:
    assert store_of(keep, Answers()).endpoints(NID[:10]).peers == []


class Nodes:
    """A Consul that has the key of the hosts, and takes what is written if nobody was quicker."""

    def __init__(self, entry: dict[str, Any] | None) -> None:
        self.entry = entry
        self.written: list[tuple[str, bytes]] = []

    def open(self, request: Any, timeout: float) -> Any:
        if request.get_method() == "PUT":
            self.written.append((request.full_url, request.data))
        elif self.entry is None:
            raise urllib.error.HTTPError(request.full_url, 404, "", Message(), io.BytesIO())
        return Answer([self.entry], Message())


def test_a_change_is_made_where_nothing_has_changed_for_a_while(keep: ModuleType) -> None:
    nodes = Nodes({"ModifyIndex": 7, "Flags": 2**64 - 1, "Value": base64.b64encode(b"x").decode()})
    store = store_of(keep, nodes)
    for now in (100.0, 110.0, 119.0):
        store.nudge(now)
    assert nodes.written == []
    store.nudge(120.0)
    assert nodes.written == [("http://127.0.0.1:8500/v1/kv/docker/nodes?cas=7&flags=0", b"x")]


def test_who_sees_that_another_was_quicker_waits_again(keep: ModuleType) -> None:
    nodes = Nodes({"ModifyIndex": 7, "Flags": 0, "Value": None})
    store = store_of(keep, nodes)
    store.nudge(100.0)
    nodes.entry = {"ModifyIndex": 8, "Flags": 1, "Value": None}
    store.nudge(120.0)
    store.nudge(139.0)
    assert nodes.written == []


def test_a_key_that_is_not_there_is_made(keep: ModuleType) -> None:
    nodes = Nodes(None)
    store = store_of(keep, nodes)
    store.nudge(100.0)
    store.nudge(120.0)
    assert nodes.written == [("http://127.0.0.1:8500/v1/kv/docker/nodes?cas=0&flags=1", b"")]


# -- rounds


class Kernel:
    """The namespaces of a host, as the programs in them show and change them."""

    def __init__(self) -> None:
        self.changes: list[str] = []
        self.status = 0
        self.names: dict[str, str] = {}
        self.questions: list[tuple[str, str]] = []

    def inside(self, name: str, argv: list[str], text: str = "") -> tuple[int, str, str]:
        if argv[0] == "sh":
            return self.status, printed(), "gone"
        if argv[0] == sys.executable:
            self.questions.append((name, argv[-1]))
            return 0, self.names.get(argv[-1], "unknown") + "\n", ""
        self.changes += text.splitlines()
        return 0, "", ""


@pytest.fixture
def kernel(keep: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Kernel:
    kernel = Kernel()
    monkeypatch.setattr(keep, "inside", kernel.inside)
    monkeypatch.setattr(keep, "spaces", lambda: [SPACE, HERE])
    monkeypatch.setattr(keep, "RECORD", str(tmp_path / "run" / "peers.json"))
    return kernel


def test_a_round_adds_and_remembers(keep: ModuleType, kernel: Kernel) -> None:
    keeper = keep.Keeper(store_of(keep, Answers(record(1, OWN), record(4))), OWN)
    assert keeper.round() == set()
    assert len(kernel.changes) == 2
    again = keep.Keeper(keeper.store, OWN)
    assert again.made == {SPACE: {neigh(keep, 4), fdb(keep, 4)}}


def test_what_leads_elsewhere_is_looked_at_twice(
    keep: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers(record(1, OWN), record(2, THIRD))

    def comes_back(_seconds: float) -> None:
        answers.records[1] = record(2)
        answers.index += 1

    monkeypatch.setattr(keep.time, "sleep", comes_back)
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    assert keeper.round() == set()
    assert kernel.changes == [], "the second look found them agreed"
    answers.records[1] = record(2, THIRD)
    answers.index += 1
    monkeypatch.setattr(keep.time, "sleep", lambda _seconds: None)
    keeper.round()
    assert kernel.changes == [
        f"fdb del {mac(2)} dev vxlan0 dst {OTHER} self",
        f"fdb del {mac(2)} dev vxlan0 master",
        f"fdb add {mac(2)} dev vxlan0 dst {THIRD} self permanent",
    ]


def test_without_an_overlay_nobody_makes_a_change(
    keep: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes = Nodes({"ModifyIndex": 7, "Flags": 0, "Value": None})
    keeper = keep.Keeper(store_of(keep, nodes), OWN)
    times = iter((0.0, 100.0, 200.0, 300.0))
    monkeypatch.setattr(keep.time, "monotonic", lambda: next(times))
    monkeypatch.setattr(keep, "spaces", list)
    assert [keeper.round(), keeper.round()] == [set(), set()]
    assert nodes.written == []
    assert [keeper.keep_watches(True), keeper.keep_watches(True)] == [set(), set()]
    assert len(nodes.written) == 1


def test_a_store_that_does_not_answer_changes_nothing(keep: ModuleType, kernel: Kernel) -> None:
    class Silent:
        def open(self, request: Any, timeout: float) -> Any:
            raise urllib.error.URLError("refused")

    keeper = keep.Keeper(store_of(keep, Silent()), OWN)
    keeper.made = {SPACE: {neigh(keep, 2), fdb(keep, 2)}}
    (complaint,) = keeper.round()
    assert "nothing more is changed" in complaint and "refused" in complaint
    assert kernel.changes == []


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="empty"),
        pytest.param([record(4)], id="without our own container"),
        pytest.param([record(1, OWN), record(4, ep_iface={"addr": "x", "mac": "y"})], id="nonsense"),
        pytest.param([record(1, OWN), record(4, ep_iface="z")], id="not the type that it was"),
    ],
)
def test_an_odd_answer_changes_nothing(keep: ModuleType, kernel: Kernel, records: list[dict[str, Any]]) -> None:
    keeper = keep.Keeper(store_of(keep, Answers(*records)), OWN)
    keeper.made = {SPACE: {neigh(keep, 2), fdb(keep, 2)}}
    assert len(keeper.round()) == 1
    assert kernel.changes == []
    assert keeper.made == {SPACE: {neigh(keep, 2), fdb(keep, 2)}}


def test_what_is_claimed_twice_is_left_as_it_is(keep: ModuleType, kernel: Kernel) -> None:
    answers = Answers(record(1, OWN), record(2), record(2, THIRD))
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    keeper.made = {SPACE: {neigh(keep, 2), fdb(keep, 2)}}
    assert len(keeper.round()) == 2
    assert kernel.changes == []
    assert keeper.made == {SPACE: {neigh(keep, 2), fdb(keep, 2)}}


def test_a_beginning_of_two_networks_ids_is_left_alone(keep: ModuleType, kernel: Kernel) -> None:
    answers = Answers(record(1, OWN), record(4))
    answers.networks.append(NID[:10] + "f" * 54)
    (complaint,) = keep.Keeper(store_of(keep, answers), OWN).round()
    assert "more than one network" in complaint
    assert kernel.changes == []


def test_a_namespace_that_goes_meanwhile_is_left_alone(keep: ModuleType, kernel: Kernel) -> None:
    kernel.status = 1
    keeper = keep.Keeper(store_of(keep, Answers(record(1, OWN), record(4))), OWN)
    assert keeper.round() == {f"{SPACE} is left alone, because {SPACE} cannot be read: gone"}
    assert keeper.made == {}


def test_a_namespace_that_is_gone_is_forgotten(
    keep: ModuleType, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = Answers()
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    keeper.made = {SPACE: {neigh(keep, 2)}}
    monkeypatch.setattr(keep, "spaces", list)
    assert keeper.round() == set()
    assert keeper.made == {}
    assert answers.asked == [], "without an overlay the store is not asked"


def test_only_namespaces_of_overlays_count(keep: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keep, "NAMESPACES", str(tmp_path))
    (tmp_path / "2-c4e52eb144").symlink_to("/proc/self/ns/net")
    (tmp_path / "10-c4e52eb14").symlink_to("/proc/self/ns/net")
    (tmp_path / "100-c4e52eb1").symlink_to("/proc/self/ns/net")
    (tmp_path / "c4e52eb1441e").symlink_to("/proc/self/ns/net")
    (tmp_path / "1-c4e52eb1").symlink_to("/proc/self/ns/net")
    (tmp_path / "1-aaaaaaaaaa").write_text("")  # what is left of one
    assert keep.namespaces() == {"2-c4e52eb144": "c4e52eb144", "10-c4e52eb14": "c4e52eb14", "100-c4e52eb1": "c4e52eb1"}
    monkeypatch.setattr(keep, "NAMESPACES", str(tmp_path / "none"))
    assert keep.namespaces() == {}


# -- names


def named(number: int, host: str, short_id: str, **changes: Any) -> dict[str, Any]:
    """An endpoint of a container that has a name."""
    sandbox = f"{short_id}{'0' * 52}" if host == OWN else ""
    return record(number, host, myAliases=["web", short_id], sandbox=sandbox, **changes)


@pytest.fixture
def answers() -> Answers:
    """One container here and two elsewhere."""
    return Answers(named(1, OWN, HERE), named(4, OTHER, THERE), named(5, THIRD, NEWEST))


def rounds(keep: ModuleType, keeper: Any, number: int) -> list[set[str]]:
    return [keeper.round() for _round in range(number)]


def test_who_asks_and_for_whom(keep: ModuleType, answers: Answers) -> None:
    known = store_of(keep, answers).endpoints(NID[:10]).named
    assert keep.question(known, OWN, [HERE]) == (HERE, keep.Named(2, THIRD, "", NEWEST, "10.100.90.5"))
    assert keep.question(known[:1], OWN, [HERE]) is None, "nobody else is there"
    assert keep.question(known[1:], OWN, [HERE]) is None, "nobody is here"
    assert keep.question(known, OWN, [SPACE]) is None, "what the store has of here is of one that is gone"
    assert keep.named_of(1, record(4)) == [], "without a container's id"
    assert keep.named_of(1, record(4, myAliases=None)) == []
    assert keep.named_of(1, named(4, OTHER, f"{THERE}\n")) == [], "only what is an id as a whole is asked for"
    assert keep.named_of(1, named(4, OTHER, THERE, ep_iface={})) == [], "of one that is being made"


def test_a_name_that_is_known_is_asked_for_once(keep: ModuleType, kernel: Kernel, answers: Answers) -> None:
    kernel.names[NEWEST] = "10.100.90.5"
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    assert rounds(keep, keeper, 5) == [set()] * 5
    assert kernel.questions == [(HERE, NEWEST)]
    assert [url for url, _content in answers.written if "endpoint_count" in url] == []


@pytest.mark.parametrize("answer", ["unknown", "10.100.90.77"])
def test_a_name_that_is_unknown_is_read_again(keep: ModuleType, kernel: Kernel, answers: Answers, answer: str) -> None:
    kernel.names[NEWEST] = answer
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    rounds(keep, keeper, 2)
    assert answers.written == [(f"http://127.0.0.1:8500/v1/kv/docker/{COUNT}?cas=40&flags=6", b"{}")]
    kernel.names[NEWEST] = "10.100.90.5"
    assert rounds(keep, keeper, 5) == [set()] * 5
    assert len(kernel.questions) == 2
    assert len(answers.written) == 1


def test_a_folder_of_the_store_is_no_part_of_what_is_written(keep: ModuleType, answers: Answers) -> None:
    answers.count["Key"] = f"team/docker/{COUNT}"
    store = store_of(keep, answers, "consul://127.0.0.1:8500/team")
    store.recount(store.count(NID[:10]))
    assert answers.written[0][0] == f"http://127.0.0.1:8500/v1/kv/team/docker/{COUNT}?cas=40&flags=6"


def test_it_is_not_tried_for_ever(keep: ModuleType, kernel: Kernel, answers: Answers) -> None:
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    said = rounds(keep, keeper, 2 * keep.TRIES + 2)
    assert len(answers.written) == keep.TRIES
    assert said[-1] == {f"this engine does not know the name of 10.100.90.5 on {THIRD}: a restart of docker helps"}
    assert set.union(*said[: 2 * keep.TRIES]) == set()
    kernel.names[NEWEST] = "10.100.90.5"
    assert keeper.round() == set(), "it is asked until it is known"


def test_each_one_who_comes_is_asked_for(keep: ModuleType, kernel: Kernel, answers: Answers) -> None:
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    rounds(keep, keeper, 2 * keep.TRIES)
    answers.records.append(named(6, OTHER, "d" * 12))
    answers.index += 1
    rounds(keep, keeper, 2)
    assert kernel.questions[-1] == (HERE, "d" * 12)
    assert len(answers.written) == keep.TRIES + 1


def test_when_names_were_read_again_they_are_asked_for_again(
    keep: ModuleType, kernel: Kernel, answers: Answers
) -> None:
    """Whoever made the engines read: any of them may have failed."""
    kernel.names[NEWEST] = "10.100.90.5"
    keeper = keep.Keeper(store_of(keep, answers), OWN)
    rounds(keep, keeper, 3)
    answers.count["ModifyIndex"] += 1
    rounds(keep, keeper, 3)
    assert kernel.questions == [(HERE, NEWEST)] * 2


def test_without_a_number_of_containers_nothing_is_made(keep: ModuleType, kernel: Kernel, answers: Answers) -> None:
    answers.count = {}
    assert rounds(keep, keep.Keeper(store_of(keep, answers), OWN), 4) == [set()] * 4
    assert answers.written == []


@pytest.mark.parametrize(
    ("end", "said"),
    [
        # Header: number, flags, one question, answers; then the question, and of the answer what is read.
        (b"\0\0" + b"\0" * 4 + b"Q" * 18 + b"\0\4" + bytes((10, 100, 90, 5)), "unknown"),
        (b"\0\1" + b"\0" * 4 + b"Q" * 18 + b"\0\4" + bytes((10, 100, 90, 5)), "10.100.90.5"),
    ],
)
def test_the_question(keep: ModuleType, end: bytes, said: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(20)
        program = keep.QUESTION.replace('("127.0.0.11", 53)', repr(server.getsockname()))
        asking = subprocess.Popen([sys.executable, "-c", program, NEWEST], stdout=subprocess.PIPE, text=True)
        query, place = server.recvfrom(512)
        server.sendto(query[:6] + end, place)
        assert asking.communicate(timeout=20)[0].strip() == said
    assert query == b"\0\1\1\0\0\1" + b"\0" * 6 + b"\x0c" + NEWEST.encode() + b"\0" + b"\0\1" * 2
