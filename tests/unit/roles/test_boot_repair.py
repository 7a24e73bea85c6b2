# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the boot repair takes for trouble, and which bytes of dockerd's database it changes."""

from __future__ import annotations

import base64
import importlib.util
import json
import signal
import subprocess
import threading
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
OWN = "10.88.0.11"


@pytest.fixture(scope="module")
def repair() -> ModuleType:
    spec = importlib.util.spec_from_file_location("boot_repair", ROOT / "roles/overlay_docker/files/boot_repair.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def container(status: str, policy: str = "always", network: str = "ov", **state: Any) -> dict[str, Any]:
    return {
        "Id": "1",
        "Name": "/c",
        "State": {"Status": status, "Running": status == "running", **state},
        "HostConfig": {"RestartPolicy": {"Name": policy}},
        "NetworkSettings": {"Networks": {network: {"EndpointID": "e" if status == "running" else ""}}},
    }


@pytest.mark.parametrize(
    ("item", "by_hand", "wrong"),
    [
        (container("exited", ExitCode=255, Error="could not get network sandbox"), False, True),
        (container("exited", "unless-stopped", ExitCode=255), False, True),
        (container("exited", "unless-stopped", ExitCode=255, Error="x"), True, False),
        (container("exited", ExitCode=137), True, False),
        (container("exited", "on-failure", ExitCode=255), False, True),
        (container("exited", "on-failure", ExitCode=0), False, False),
        (container("exited", "no", ExitCode=255), False, False),
        (container("exited", network="bridge", ExitCode=255), False, False),
        (container("restarting"), False, False),
        (container("created"), False, False),
        (container("running"), False, False),
    ],
)
def test_only_dead_overlay_containers_are_trouble(
    repair: ModuleType, item: dict[str, Any], by_hand: bool, wrong: bool
) -> None:
    assert bool(repair.trouble(item, {"ov"}, by_hand)) is wrong


def test_a_running_container_that_lost_its_endpoint_is_trouble(repair: ModuleType) -> None:
    item = container("running")
    item["NetworkSettings"]["Networks"]["ov"]["EndpointID"] = ""
    assert "ov" in repair.trouble(item, {"ov"}, False)


def test_only_endpoints_that_nobody_has_are_forgotten(
    repair: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "BACKUP", str(tmp_path / "backup" / "db"))
    database = tmp_path / "network" / "files" / "local-kv.db"
    database.parent.mkdir(parents=True)

    def endpoint(letter: str) -> bytes:
        name = letter * 64
        value = f'{{"addr":"10.0.0.4/24","id":"{name}","ifName":"veth1","mac":"02","nid":"{"c" * 64}"}}'
        return f"docker/network/v1.0/overlay/endpoint/{name}/".encode() + b"\x02" + b"\0" * 7 + value.encode()

    before = (
        b"\0page\n" + endpoint("a") + endpoint("b") + b'docker/network/v1.0/bridge/x/\0{"nid":"' + b"c" * 64 + b'"}'
    )
    database.write_bytes(before)
    repair.forget_stale(str(tmp_path), {"b" * 64})
    after = database.read_bytes()
    assert len(after) == len(before)
    assert after == before.replace(b"c" * 64, b"0" * 64, 1)
    assert (tmp_path / "backup" / "db").read_bytes() == before


def test_a_container_that_cannot_be_asked_about_forbids_it(repair: ModuleType) -> None:
    answers: dict[str, Any] = {"/containers/json": [{"Id": "1"}]}
    assert repair.running(answers.get) is None
    answers["/containers/1/json"] = container("running")
    assert repair.endpoints(repair.running(answers.get)) == {"e"}
    assert repair.running({}.get) is None


def test_survivors_are_ended_only_if_dockerd_starts_them_again(
    repair: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[int] = []
    kept: list[set[str]] = []
    monkeypatch.setattr(repair, "end", ended.extend)
    monkeypatch.setattr(repair, "forget_stale", lambda _root, keep: kept.append(keep))
    containers = []
    for number, (policy, network) in enumerate([("always", "front"), ("no", "front"), ("always", "bridge")]):
        item = container("running")
        item["State"]["Pid"] = number
        item["HostConfig"] = {"RestartPolicy": {"Name": policy}}
        item["NetworkSettings"] = {"Networks": {network: {"EndpointID": f"e{number}"}}}
        containers.append(item)
    repair.mend(str(tmp_path), containers, {"front"})
    assert ended == [0]
    assert kept == [{"e1", "e2"}]


def test_ending_asks_first_and_then_makes(repair: ModuleType) -> None:
    deaf = subprocess.Popen(
        ["/bin/sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"], stdout=subprocess.PIPE
    )
    try:
        assert deaf.stdout is not None and deaf.stdout.readline() == b"ready\n"
        threading.Thread(target=deaf.wait).start()  # reaps it, as the shim of a container does
        repair.end([deaf.pid], seconds=0.5)
        assert deaf.wait(5) == -signal.SIGKILL
    finally:
        deaf.kill()


def test_never_twice_in_a_boot(repair: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "marker"
    marker.touch()
    monkeypatch.setattr(repair, "MARKER", str(marker))
    monkeypatch.setattr(repair, "docker", lambda _path: pytest.fail("asked"))
    assert repair.main(["--store=consul://127.0.0.1:8500", f"--address={OWN}"]) == 0


# -- endpoints that were left in the store


class Store:
    """A store with the endpoints of one network, which somebody may change before it is written."""

    folder = "docker/"

    def __init__(self, *records: dict[str, Any], taken: bool = True) -> None:
        self.records = records
        self.taken = taken
        self.written: list[tuple[str, dict[str, Any], int, int]] = []

    def below(self, folder: str) -> list[dict[str, Any]]:
        assert folder == "network/v1.0/endpoint/nid/"
        return [{"Key": f"docker/{folder}", "Value": None}, *map(entry_of, self.records)]

    def put(self, key: str, content: bytes, flags: int, index: int) -> bool:
        self.written.append((key, json.loads(content), flags, index))
        return self.taken


def record(letter: str, name: str = "c", host: str = OWN) -> dict[str, Any]:
    return {"id": letter * 64, "name": name, "locator": host, "ep_iface": {"addr": "10.0.0.4/24"}}


def entry_of(one: dict[str, Any]) -> dict[str, Any]:
    value = base64.b64encode(json.dumps(one).encode()).decode()
    return {"Key": f"docker/network/v1.0/endpoint/nid/{one['id']}/", "Value": value, "Flags": 3, "ModifyIndex": 7}


class Engine:
    """One container that is down, on an overlay and on a bridge, and one that runs."""

    def __init__(self) -> None:
        self.did: list[tuple[str, Any]] = []
        down = container("exited", network="ov")
        down["NetworkSettings"]["Networks"]["bridge"] = {"EndpointID": ""}
        alive = container("running", network="ov")
        alive["NetworkSettings"]["Networks"]["ov"]["EndpointID"] = "a" * 64
        self.answers = {
            "/containers/c/json": down,
            "/containers/json": [{"Id": "2"}],
            "/containers/2/json": alive,
            "/networks/ov": {"Id": "nid", "Driver": "overlay"},
        }

    def __call__(self, path: str, content: Any = None) -> Any:
        if content is None:
            return self.answers.get(path)
        self.did.append((path, content))
        return {}


CLAIMED = {"c": "is down (endpoint with name c already exists in network ov)"}
STARTED: tuple[str, dict[str, Any]] = ("/containers/c/start", {})


@pytest.mark.parametrize(
    ("left", "removed"),
    [
        (record("b"), True),
        (record("a"), False),  # a running container has it
        (record("b", host="10.88.0.12"), False),
        (record("b", name="other"), False),
    ],
)
def test_only_what_was_left_behind_here_is_removed(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch, left: dict[str, Any], removed: bool
) -> None:
    engine, store = Engine(), Store(left)
    monkeypatch.setattr(repair, "docker", engine)
    assert repair.start_claimed(CLAIMED, store, OWN) is True
    name = f"c.of-the-boot-before.{'b' * 12}"
    gone = [("/networks/nid/disconnect", {"Container": name, "Force": True})] if removed else []
    assert engine.did == [*gone, STARTED]
    key = f"network/v1.0/endpoint/nid/{'b' * 64}/"
    assert store.written == ([(key, {**left, "name": name}, 3, 7)] if removed else [])


def test_an_endpoint_that_changes_meanwhile_is_left_alone(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = Engine()
    monkeypatch.setattr(repair, "docker", engine)
    assert repair.start_claimed(CLAIMED, Store(record("b"), taken=False), OWN) is True
    assert engine.did == []
    assert "container c is left alone: the endpoint" in capsys.readouterr().out


def test_an_endpoint_that_docker_does_not_remove_is_named(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its name is free already, so that the container is started all the same."""
    engine = Engine()
    refusing = {"/networks/nid/disconnect": None}
    monkeypatch.setattr(repair, "docker", lambda path, *content: refusing.get(path, engine(path, *content)))
    repair.start_claimed(CLAIMED, Store(record("b")), OWN)
    assert engine.did[-1] == STARTED
    said = capsys.readouterr().out
    assert f"docker network disconnect -f nid c.of-the-boot-before.{'b' * 12}" in said
    assert "removed the endpoint" not in said


def test_a_container_that_is_down_for_another_reason_is_not_started(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "docker", lambda *_words: pytest.fail("asked"))
    assert repair.start_claimed({"c": "is down (could not get network sandbox)"}, Store(), OWN) is False


def test_endpoints_are_left_alone_where_the_running_containers_are_not_known(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, store = Engine(), Store(record("b"))
    engine.answers.pop("/containers/2/json")
    monkeypatch.setattr(repair, "docker", engine)
    repair.start_claimed(CLAIMED, store, OWN)
    assert (engine.did, store.written) == ([], [])


@pytest.mark.parametrize("restarted", [False, True])
def test_a_container_is_started_before_dockerd_is_restarted_and_after(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    """The restart itself takes endpoints out of a store that may waver."""
    sandbox: tuple[dict[str, str], list[str]] = ({"c": "is down (could not get network sandbox)"}, [])
    looks = [sandbox] if restarted else []
    looks += [(CLAIMED, []), ({}, [])]
    engine = Engine()
    monkeypatch.setattr(repair, "docker", engine)
    monkeypatch.setattr(repair, "settled", lambda _settle: looks.pop(0))
    monkeypatch.setattr(repair, "complaints", list)
    monkeypatch.setattr(repair, "repair", lambda _timeout: restarted or pytest.fail("restarted"))
    assert repair.act(0, Store(), OWN) == 0
    assert engine.did == [STARTED]
    assert looks == []


# -- the restart of dockerd


def test_containers_that_would_not_come_back_forbid_a_restart(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "settled", lambda _settle: ({"c": "is down"}, ["by-hand"]))
    monkeypatch.setattr(repair, "complaints", list)
    monkeypatch.setattr(repair, "repair", lambda _timeout: pytest.fail("restarted"))
    assert repair.act(0, Store(), OWN) == 1


@pytest.mark.parametrize(
    ("said", "restarts"), [("Failure during overlay endpoints restore: x", 1), ("failed to start container", 0)]
)
def test_an_overlay_that_dockerd_left_broken_is_mended_though_nobody_is_down(
    repair: ModuleType, monkeypatch: pytest.MonkeyPatch, said: str, restarts: int
) -> None:
    done: list[float] = []
    monkeypatch.setattr(repair, "settled", lambda _settle: ({}, []))
    monkeypatch.setattr(repair, "complaints", lambda: [] if done else [said])

    def restart(timeout: float) -> bool:
        done.append(timeout)
        return True

    monkeypatch.setattr(repair, "repair", restart)
    assert repair.act(0, Store(), OWN) == 0
    assert len(done) == restarts


def test_a_repair_that_did_not_take_is_a_failure(repair: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repair, "settled", lambda _settle: ({}, []))
    monkeypatch.setattr(repair, "complaints", lambda: [repair.BROKEN])
    monkeypatch.setattr(repair, "repair", lambda _timeout: True)
    assert repair.act(0, Store(), OWN) == 1


def test_only_what_the_dockerd_of_now_said_counts(repair: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def output(*argv: str) -> str:
        asked.append(argv)
        return (
            "abc\n" if argv[0] == "systemctl" else f"level=warning {repair.BROKEN}\nlevel=info {repair.BROKEN}\nelse\n"
        )

    monkeypatch.setattr(repair, "output", output)
    assert repair.complaints() == [f"level=warning {repair.BROKEN}"]
    assert "_SYSTEMD_INVOCATION_ID=abc" in asked[1]
