# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is repaired and what is not; that keys are kept before they are changed, and left alone if they have changed meanwhile."""

from __future__ import annotations

import base64
import json
import os
import stat
import struct
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Sequence

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action import doctor_repair as action_plugin
from ansible_collections.multihost.overlay.plugins.module_utils import _doctor_repair, _doctor_steps
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_steps import Keys, Repairer, RepairError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_store import set_bits
from ansible_collections.multihost.overlay.plugins.modules import doctor_repair

NID, EID = "aa" * 32, "ee" * 32
FOLDER = "docker/network/v1.0"
ENDPOINT = f"{FOLDER}/endpoint/{NID}/{EID}/"
COUNT = f"{FOLDER}/endpoint_count/{NID}/"
IPAM = f"{FOLDER}/ipam/default/data/GlobalDefault/10.1.0.0/24/"
OTHER = f"{FOLDER}/endpoint/{NID}/{'dd' * 32}/"
STEP = {"kind": "endpoint", "thing": EID, "network_id": NID, "network": "shop", "name": "web", "address": "10.1.0.2/24"}
ORPHAN = {"id": "orphan_endpoint", "thing": EID}


def observed(**changes: Any) -> dict[str, Any]:
    """A host with an endpoint in the store that no container has."""
    return {
        "engine": {"answers": True, "pid": 0},
        "store": {
            "state": "ok",
            "url": "consul://127.0.0.1:8500",
            "networks": [{"id": NID, "name": "shop", "driver": "overlay", "vnis": [256], "subnets": ["10.1.0.0/24"]}],
            "endpoints": [
                {"id": EID, "name": "web", "network_id": NID, "ipv4": "10.1.0.2/24", "host": "10.0.0.1"},
                {"id": "dd" * 32, "name": "db", "network_id": NID, "ipv4": "10.1.0.3/24", "host": "10.0.0.2"},
            ],
        },
        "containers": [],
        "complete": True,
        "known": {NID: "overlay"},
        **changes,
    }


def running(name: str = "other", network: str = NID) -> dict[str, Any]:
    return {"id": "cc" * 32, "name": name, "running": True, "networks": {"shop": {"id": network, "endpoint": "x"}}}


# -- the plan


def test_of_containers_that_were_not_all_seen_nothing_is_left_behind() -> None:
    rows = [ORPHAN, {"id": "leftover_namespace", "thing": "1-bbbbbbbbbb"}]
    assert _doctor_repair.plan(observed(complete=False), rows) == []
    said = _doctor_repair.refusal({"a": result(), "b": result(complete=False)})
    assert said.startswith("not all containers of b could be read")


def test_an_endpoint_that_its_own_engine_has_forgotten_is_left_alone() -> None:
    """The container runs, and may well use it; a restart of it is the cure."""
    container = dict(running("web"), networks={"shop": {"id": NID, "endpoint": ""}})
    assert _doctor_repair.plan(observed(containers=[container]), [ORPHAN]) == []


@pytest.mark.parametrize(("name", "safe"), [("db", False), ("web", True)])
def test_a_name_that_begins_a_containers_id_is_not_disconnected(name: str, safe: bool) -> None:
    there = observed(containers=[dict(running(), id="db" * 32)])
    there["store"]["endpoints"] = [dict(there["store"]["endpoints"][0], name=name)]
    assert _doctor_repair.can_disconnect(dict(STEP, name=name), there) is safe


def test_what_is_safe_is_planned() -> None:
    rows = [
        ORPHAN,
        {"id": "leftover_namespace", "thing": "1-bbbbbbbbbb"},
        {"id": "leftover_vxlan", "thing": "vx-000100-abcde"},
        {"id": "endpoint_of_nobody", "thing": "not ours"},
        {"id": "ghost_host"},
    ]
    steps = _doctor_repair.plan(observed(), rows)
    assert steps[0] == STEP
    assert [(one["kind"], one["thing"]) for one in steps[1:]] == [
        ("namespace", "1-bbbbbbbbbb"),
        ("tunnel", "vx-000100-abcde"),
    ]
    assert [_doctor_repair.say(one) for one in steps] == [
        "remove the endpoint web (10.1.0.2/24) of network shop from the store",
        "remove the namespace /run/docker/netns/1-bbbbbbbbbb",
        "delete the tunnel vx-000100-abcde of the host's own namespace",
    ]


@pytest.mark.parametrize("blind", [{"engine": {"answers": False}}, {"store": {"state": "denied"}}])
def test_nothing_is_planned_blindly(blind: dict[str, Any]) -> None:
    assert _doctor_repair.plan(observed(**blind), [{"id": "leftover_vxlan", "thing": "vx-000100-abcde"}]) == []


def test_a_tunnel_of_a_network_in_use_stays() -> None:
    """Told by its number, and by the beginning of the network's id."""
    for name in ("vx-000100-zzzzz", f"vx-000fff-{NID[:5]}"):
        row = {"id": "leftover_vxlan", "thing": name}
        assert _doctor_repair.plan(observed(containers=[running()]), [row]) == []
        assert len(_doctor_repair.plan(observed(), [row])) == 1


def test_only_what_was_shown_and_is_still_so_is_due() -> None:
    other = dict(STEP, thing="dd" * 32)
    assert _doctor_repair.still_due([STEP, other], [STEP]) == [STEP]
    assert _doctor_repair.still_due([], [STEP]) == []
    assert _doctor_repair.still_due([STEP], [dict(STEP, name="another")]) == []


def result(**changes: Any) -> dict[str, Any]:
    facts = {"engine": {"answers": True}, "store": {"state": "ok", "nodes": ["a", "b"]}, "had": [], "complete": True}
    return {"facts": {**facts, **changes}, "repairs": [STEP]}


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({}, "b could not be examined, or was left out by --limit"),
        ({"unreachable": True, "msg": "no route"}, "b could not be examined"),
        ({"findings": [], "facts": {}}, "b could not be examined"),
        (result(engine={"answers": False}), "the engine or the store of b does not answer"),
        (result(store={"state": "silent"}), "the engine or the store of b does not answer"),
        (result(store={"state": "ok", "nodes": ["c"]}), "different stores"),
        (result(store={"state": "ok", "nodes": ["b", "a"]}), ""),
    ],
)
def test_it_is_refused_without_all_hosts(other: dict[str, Any], reason: str) -> None:
    said = _doctor_repair.refusal({"a": result(), "b": other})
    assert reason in said
    assert bool(said) is bool(reason)


def test_an_endpoint_that_any_host_has_stays() -> None:
    assert _doctor_repair.permitted("a", {"a": result(), "b": result()}) == [STEP]
    assert _doctor_repair.permitted("a", {"a": result(), "b": result(had=[EID])}) == []


# -- a store


class Consul:
    """Keys with indexes, and transactions as Consul makes them."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        texts = {
            ENDPOINT: '{"name": "web"}',
            COUNT: '{"Count": 2, "dbIndex": 9}',
            IPAM: "bits",
            OTHER: '{"name": "db"}',
            "mine": "x",
        }
        self.pairs: dict[str, list[Any]] = {
            f"{prefix}{key}": [text.encode(), number] for number, (key, text) in enumerate(texts.items(), 10)
        }
        self.written: list[list[dict[str, Any]]] = []
        self.status = 200

    def send(self, path: str, _token: str, body: bytes | None = None) -> tuple[int, bytes]:
        if body is not None:
            self.written.append(json.loads(body))
            return self._transact(self.written[-1])
        key, _mark, query = path[len("/v1/kv/") :].partition("?")
        rows = [self._row(name) for name in self.pairs if name == key or ("recurse" in query and name.startswith(key))]
        return (200, json.dumps(rows).encode()) if rows else (404, b"")

    def _row(self, name: str) -> dict[str, Any]:
        text, index = self.pairs[name]
        return {"Key": name, "Flags": 3, "Value": base64.b64encode(text).decode(), "ModifyIndex": index}

    def _transact(self, operations: list[dict[str, Any]]) -> tuple[int, bytes]:
        entries = [entry["KV"] for entry in operations]
        if any(self.pairs.get(entry["Key"], ["", 0])[1] != entry["Index"] for entry in entries):
            return 409, b"index is stale"
        for entry in entries:
            if entry["Verb"] == "delete-cas":
                del self.pairs[entry["Key"]]
            else:
                self.pairs[entry["Key"]] = [base64.b64decode(entry["Value"]), 99]
        return 200, b"{}"


class Engine:
    """Removes the endpoint from the store, or refuses."""

    def __init__(self, consul: Consul, works: bool) -> None:
        self.consul, self.works = consul, works
        self.asked: list[tuple[str, Any]] = []

    def post(self, path: str, body: Any) -> None:
        self.asked.append((path, body))
        if not self.works:
            raise DockerError("no such thing", 404)
        del self.consul.pairs[self.consul.prefix + ENDPOINT]


def repairer(consul: Consul, works: bool = True, **changes: Any) -> tuple[Repairer, Engine]:
    engine = Engine(consul, works)
    folder = f"/{consul.prefix.rstrip('/')}" if consul.prefix else ""
    keys = Keys(f"consul://127.0.0.1:8500{folder}", "token", consul.send)
    return Repairer(observed(**changes), engine, keys, lambda argv: (1, "", f"no {argv[0]}")), engine


@pytest.mark.parametrize("prefix", ["", "their/"])
def test_the_keys_are_kept_for_root_alone(tmp_path: Path, prefix: str) -> None:
    consul = Consul(prefix)
    one, _engine = repairer(consul)
    path = Path(one.backup([STEP], str(tmp_path / "lib" / "backups"), 1_800_000_000.0))
    assert path.name == "doctor-20270115T080000Z.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    rows = json.loads(path.read_text())
    value = base64.b64encode(b'{"name": "web"}').decode()
    assert rows == [{"key": prefix + ENDPOINT, "flags": 3, "value": value}]
    # What goes on changing is not to be put back with it.
    others = json.loads((path.parent / "counts-20270115T080000Z.json").read_text())
    assert [row["key"] for row in others] == [prefix + COUNT, prefix + IPAM]
    again = one.backup([STEP], str(path.parent), 1_800_000_000.0)
    assert again.endswith("Z-1.json")


def test_nothing_is_kept_where_no_key_is_touched(tmp_path: Path) -> None:
    one, _engine = repairer(Consul())
    assert one.backup([{"kind": "tunnel", "thing": "vx"}], str(tmp_path / "b"), 1.0) == ""
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize("prefix", ["", "their/"])
def test_docker_is_asked_first(tmp_path: Path, prefix: str) -> None:
    consul = Consul(prefix)
    one, engine = repairer(consul)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    assert one.do(STEP) == {**STEP, "done": True, "error": ""}
    assert engine.asked == [(f"/networks/{NID}/disconnect", {"Container": "web", "Force": True})]
    assert consul.written == []


def test_a_name_that_a_container_has_got_meanwhile_is_not_disconnected(tmp_path: Path) -> None:
    consul = Consul()
    one, engine = repairer(consul)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    consul.pairs[OTHER][0] = b'{"name": "web"}'
    assert one.do(STEP)["done"]
    assert engine.asked == []
    assert ENDPOINT not in consul.pairs


def test_a_folder_of_the_users_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    one, _engine = repairer(Consul())
    one.backup([STEP], str(tmp_path), 1.0)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


def test_what_docker_refuses_is_done_with_the_keys(tmp_path: Path) -> None:
    """The count goes with the endpoint, and nothing else changes."""
    consul = Consul()
    before = {name: list(pair) for name, pair in consul.pairs.items()}
    one, engine = repairer(consul, works=False)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    assert one.do(STEP)["done"]
    assert len(engine.asked) == 1
    assert json.loads(consul.pairs[COUNT][0]) == {"Count": 1, "dbIndex": 9}
    assert {name for name in before if consul.pairs.get(name) != before[name]} == {ENDPOINT, COUNT}


def bitmap(*blocks: tuple[int, int]) -> bytes:
    """A subnet of 256 addresses, as libnetwork writes it: numbers, then blocks with their repeats."""
    taken = sum(bin(block).count("1") * count for block, count in blocks)
    return struct.pack(">QQ", 256, 256 - taken) + b"".join(struct.pack(">IQ", *block) for block in blocks)


@pytest.mark.parametrize(
    ("before", "bit", "after"),
    [
        # The network's address and the gateway's are in the first block, the broadcast's in the last.
        ([(0xE0000000, 1), (0, 6), (1, 1)], 2, [(0xC0000000, 1), (0, 6), (1, 1)]),
        ([(0xC0000000, 1), (0, 2), (0x80000000, 1), (0, 3), (1, 1)], 96, [(0xC0000000, 1), (0, 6), (1, 1)]),
        ([(0xFFFFFFFF, 8)], 40, [(0xFFFFFFFF, 1), (0xFF7FFFFF, 1), (0xFFFFFFFF, 6)]),
        # What is free is not freed twice.
        ([(0xC0000000, 1), (0, 6), (1, 1)], 50, [(0xC0000000, 1), (0, 6), (1, 1)]),
    ],
)
def test_one_address_is_given_back_and_no_other(before: Any, bit: int, after: Any) -> None:
    freed = _doctor_repair.cleared(bitmap(*before), bit)
    assert freed == bitmap(*after)
    assert set(set_bits(freed, 256)) == set(set_bits(bitmap(*before), 256)) - {bit}


def test_with_the_keys_the_address_is_given_back_too(tmp_path: Path) -> None:
    consul = Consul()
    record = {"id": "x", "sequence": base64.b64encode(bitmap((0xF0000000, 1), (0, 6), (1, 1))).decode()}
    consul.pairs[IPAM][0] = json.dumps(record).encode()
    one, _engine = repairer(consul, works=False)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    assert one.do(STEP)["done"]
    after = json.loads(consul.pairs[IPAM][0])
    assert after["id"] == "x"
    assert set_bits(base64.b64decode(after["sequence"]), 256) == [0, 1, 3, 255]


def test_an_address_that_somebody_else_has_too_is_not_given_back() -> None:
    both = [dict(row, ipv4="10.1.0.2/24") for row in observed()["store"]["endpoints"]]
    assert _doctor_repair.pool_keys(STEP, observed()) == [(IPAM, 2)]
    assert _doctor_repair.pool_keys(STEP, observed(store={**observed()["store"], "endpoints": both})) == []
    assert _doctor_repair.pool_keys(dict(STEP, address=""), observed()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"known": {NID: ""}},
        {"containers": [running("web", "another")]},
        {
            "store": {
                **observed()["store"],
                "endpoints": [dict(row, name="web") for row in observed()["store"]["endpoints"]],
            }
        },
    ],
)
def test_docker_is_not_asked_where_the_name_may_be_anothers(tmp_path: Path, changes: dict[str, Any]) -> None:
    consul = Consul()
    one, engine = repairer(consul, **changes)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    assert one.do(STEP)["done"]
    assert engine.asked == []
    assert ENDPOINT not in consul.pairs
    assert OTHER in consul.pairs


def test_a_key_that_has_changed_is_left_alone(tmp_path: Path) -> None:
    consul = Consul()
    one, engine = repairer(consul)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    consul.pairs[ENDPOINT][1] = 77
    done = one.do(STEP)
    assert (done["done"], done["error"]) == (False, "it has changed meanwhile, and is left alone")
    assert (engine.asked, consul.written) == ([], [])


def test_a_count_that_changes_in_that_moment_stops_the_deletion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    consul = Consul()
    one, _engine = repairer(consul, works=False)
    one.backup([STEP], str(tmp_path / "b"), 1.0)
    read = one.keys.read

    def late(key: str) -> Any:
        found = read(key)
        if key == COUNT:
            consul.pairs[COUNT][1] = 78
        return found

    monkeypatch.setattr(one.keys, "read", late)
    done = one.do(STEP)
    assert (done["done"], "HTTP 409" in done["error"]) == (False, True)
    assert ENDPOINT in consul.pairs


def test_keys_outside_of_docker_are_not_touched() -> None:
    consul = Consul("their/")
    keys = Keys("consul://x:1/their", "", consul.send)
    for name in ("mine", "docker/nodes", "their/mine"):
        with pytest.raises(RepairError, match="outside"):
            keys.transact([{"KV": {"Verb": "delete-cas", "Key": name, "Index": 1}}])
    assert consul.written == []


def test_a_count_that_is_not_understood_stays() -> None:
    endpoint = {"ModifyIndex": 5}
    assert len(_doctor_repair.deletion("k", endpoint, None)) == 1
    assert len(_doctor_repair.deletion("k", endpoint, {"Key": "c", "Value": "e30=", "ModifyIndex": 1})) == 1
    (_first, count) = _doctor_repair.deletion(
        "k", endpoint, {"Key": "c", "Value": "eyJDb3VudCI6MH0=", "ModifyIndex": 1}
    )
    assert json.loads(base64.b64decode(count["KV"]["Value"])) == {"Count": 0}


# -- namespaces and tunnels


def test_a_namespace_goes_only_if_nobody_is_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, _engine = repairer(Consul())
    one.namespaces, one.run = str(tmp_path), lambda argv: (0, "", "")
    path, step = tmp_path / "1-bbbbbbbbbb", {"kind": "namespace", "thing": "1-bbbbbbbbbb"}
    path.touch()
    monkeypatch.setattr(_doctor_steps, "holders", lambda _path: ["/proc/7/task/8"])
    assert "lost_threads" in one.do(step)["error"]
    assert path.exists()
    monkeypatch.setattr(_doctor_steps, "holders", lambda _path: [])
    one.run = lambda argv: (32, "", "busy")
    assert one.do(step)["error"] == "busy"
    one.run = lambda argv: (0, "", "")
    assert one.do(step)["done"]
    assert not path.exists()
    # Docker may be faster, which is as well.
    assert one.do(step)["done"]


def test_who_is_in_a_namespace_is_found() -> None:
    assert any(path.startswith(f"/proc/{os.getpid()}/task/") for path in _doctor_steps.holders("/proc/self/ns/net"))


def test_a_tunnel_is_deleted() -> None:
    one, _engine = repairer(Consul())
    assert one.do({"kind": "tunnel", "thing": "vx"})["error"] == "no ip"
    asked: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        asked.append(argv)
        return 0, "", ""

    one.run = run
    assert one.do({"kind": "tunnel", "thing": "vx"})["done"]
    assert asked == [["ip", "link", "delete", "vx"]]


# -- the module and its plugin


@pytest.fixture
def module(
    monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    """The module on a host with an orphan, and the store that it has."""

    def run(consul: Consul, fresh: Sequence[dict[str, str]] = (ORPHAN,), **options: bool) -> dict[str, Any]:
        one, _engine = repairer(consul)
        monkeypatch.setattr(doctor_repair, "examine", lambda *_unused: observed())
        monkeypatch.setattr(doctor_repair, "judge_host", lambda *_unused: fresh)
        monkeypatch.setattr(doctor_repair, "make_repairer", lambda *_unused: one)
        params = {"hosts": ["a"], "result_variable": "r", "backup_dir": str(tmp_path / "b"), "steps": [STEP]}
        return run_module(doctor_repair.main, params, **options)

    return run


def test_check_mode_shows_and_does_nothing(module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    consul = Consul()
    said = module(consul, check=True, diff=True)
    assert (said["changed"], said["backup"], [one["done"] for one in said["steps"]]) == (True, "", [False])
    assert "remove the endpoint web" in said["diff"]["before"]
    assert ENDPOINT in consul.pairs
    assert not (tmp_path / "b").exists()


def test_it_is_done_once(module: Callable[..., dict[str, Any]]) -> None:
    consul = Consul()
    said = module(consul)
    assert (said["changed"], [one["done"] for one in said["steps"]]) == (True, [True])
    assert Path(said["backup"]).exists()
    assert ENDPOINT not in consul.pairs
    assert module(consul, fresh=[])["changed"] is False


def test_without_a_backup_nothing_is_done(module: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "b").write_text("a file where the folder should be")
    consul = Consul()
    said = module(consul)
    assert (said["changed"], said["steps"][0]["done"]) == (False, False)
    assert said["steps"][0]["error"].startswith("nothing was done: ")
    assert ENDPOINT in consul.pairs


def act(monkeypatch: pytest.MonkeyPatch, other: dict[str, Any], sent: list[Any]) -> dict[str, Any]:
    action = object.__new__(action_plugin.ActionModule)
    action._task = SimpleNamespace(check_mode=False)
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(
        action, "validate_argument_spec", lambda *_unused: (None, {"hosts": ["a", "b"], "result_variable": "r"})
    )

    def execute(**given: Any) -> dict[str, Any]:
        sent.append(given["module_args"]["steps"])
        return {"changed": True}

    monkeypatch.setattr(action, "_execute_module", execute)
    variables = {"inventory_hostname": "a", "hostvars": {"a": {"r": result()}, "b": {"r": other}}}
    found: dict[str, Any] = action.run(None, variables)
    return found


def test_the_plugin_asks_only_where_there_is_something_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []
    assert act(monkeypatch, result(), sent)["changed"]
    assert sent == [[STEP]]
    assert act(monkeypatch, result(had=[EID]), sent) == {"changed": False, "steps": [], "backup": "", "refused": ""}
    assert "b could not be examined" in act(monkeypatch, {}, sent)["refused"]
    assert len(sent) == 1
