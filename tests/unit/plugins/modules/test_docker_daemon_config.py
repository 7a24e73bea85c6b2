# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""docker_daemon_config as a whole, with an engine that is played: what is written, ordered and returned."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as host
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_steps as steps
from ansible_collections.multihost.overlay.plugins.module_utils import (
    _reset_host,
    _reset_plan,
    _reset_steps,
    _systemd,
)
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import Flag
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_json import DaemonConfigError
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_pending import Running
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest
from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError
from ansible_collections.multihost.overlay.plugins.modules import docker_daemon_config as module

WANTED = {"cluster-store": "consul://127.0.0.1:8500", "cluster-advertise": "10.0.0.1:2376", "live-restore": True}


class PlayedEngine:
    """An engine that takes over daemon.json on a start, and live-restore on a reload too."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.installed, self.running, self.starts = True, True, 1
        self.containers_running = 0
        self.bad_store, self.slow, self.late = "", False, 0
        self.found_flags: dict[str, Flag] = {}
        self.properties: dict[str, str] = {}
        self.unit_states: dict[str, dict[str, str]] = {}
        self.orders: list[str] = []
        self.elections, self.asked = 0, 0
        self.opened: list[Any] = []
        self.effective: dict[str, Any] = {}
        self.arguments: list[str] = []
        self.changed_files: list[str] = []

    def _document(self) -> dict[str, Any]:
        return json.loads(self.path.read_text()) if self.path.exists() else {}

    def info(self) -> dict[str, Any] | None:
        if not self.running:
            return None
        return {
            "ContainersRunning": self.containers_running,
            "LiveRestoreEnabled": self.effective.get("live-restore", False),
            "ClusterStore": self.effective.get("cluster-store", ""),
            "ClusterAdvertise": self.effective.get("cluster-advertise", ""),
        }

    def look(self, others: list[str] | None = None) -> Running:
        self.unit_states = {name: {"UnitFileState": "enabled"} for name in others or []}
        state = "active" if self.running else "activating" if self.slow else "failed"
        late, self.late = self.late > 0, self.late - 1
        self.properties = {"InvocationID": f"i{self.starts - late}", "ActiveState": state, "Result": "exit-code"}
        info = self.info()
        return Running(self.installed, info is not None, f"i{self.starts}" if info else "", "process", info)

    def invocation(self) -> str:
        return f"i{self.starts}"

    def open(self, *told: Any) -> PlayedEngine:
        """Stands for the store too."""
        self.opened.append(told)
        return self

    def leader(self) -> str:
        """Of the store, once it is elected."""
        self.asked += 1
        if self.asked <= self.elections:
            raise StoreError("the store at 127.0.0.1:8500 does not answer")
        return "127.0.0.1:8300"

    def order(self, verb: str) -> tuple[int, str]:
        self.orders.append(verb)
        if verb == "reload":
            self.effective = {**self.effective, "live-restore": self._document().get("live-restore", False)}
        else:
            self.starts += 1
            self.effective = self._document()
            self.changed_files = []
            self.arguments = host.unit_files()[-1][1].partition("fd:// ")[2].split()
            bad = self.bad_store and self.effective.get("cluster-store") == self.bad_store
            self.running = not bad and not self.slow
        return 0, ""

    def flags(self) -> dict[str, Flag]:
        return self.found_flags

    def environment(self) -> dict[str, str]:
        return {}

    def argv(self) -> list[str]:
        return ["/usr/sbin/dockerd", "-H", "fd://", *self.arguments]

    def younger(self, paths: list[str]) -> list[str]:
        return [path for path in paths if path in self.changed_files]

    def other_binary(self) -> str:
        return ""

    def has_overlay_networks(self) -> bool | None:
        return True

    def containers(self, running: Running) -> list[dict[str, Any]]:
        item = {"name": "web", "id": "1", "image": "i", "restart_policy": "no", "would_die": not running.live_restore}
        return [item] * self.containers_running

    @contextmanager
    def keep_ports(self, _seconds: float) -> Iterator[None]:
        """Stands for the published ports that are kept meanwhile."""
        self.orders.append("keep ports")
        yield
        self.orders.append("let go")

    def words(self, since: float) -> str:
        return "failed to start daemon: of this very reason"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "etc" / "daemon.json"


@pytest.fixture
def engine(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PlayedEngine:
    played = PlayedEngine(path)
    path.parent.mkdir()
    original = Manifest.load
    monkeypatch.setattr(steps.Manifest, "load", lambda: original(str(tmp_path / "state" / "manifest.json")))
    monkeypatch.setattr(steps, "PREVIOUS", str(tmp_path / "state" / "backup" / "previous"))
    monkeypatch.setattr(steps.time, "sleep", lambda _seconds: None)
    monkeypatch.setattr(module, "Engine", lambda _socket: played)
    monkeypatch.setattr(steps, "open_store", played.open)
    monkeypatch.setattr(steps.published_ports, "kept", played.keep_ports)
    monkeypatch.setattr(host, "gossips", lambda _address: played.running)
    monkeypatch.setattr(host, "address_of", str)
    unit = tmp_path / "docker.service"
    unit.write_text("[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n")
    drop_in = tmp_path / "arguments.conf"
    monkeypatch.setattr(steps.arguments, "PATH", str(drop_in))
    files = [unit, drop_in]
    monkeypatch.setattr(host, "unit_files", lambda: [(str(file), file.read_text()) for file in files if file.exists()])
    return played


@pytest.fixture
def call(engine: PlayedEngine, path: Path, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(state: str, check: bool = False, **params: Any) -> dict[str, Any]:
        values = {"config": WANTED, "path": str(path), "state": state, "wait": 1, **params}
        return run_module(module.main, values, check=check, diff=True)

    return run


def test_stage_writes_the_file_and_touches_no_engine(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    path.write_text('{\n    "mtu": 1400\n}\n')
    path.chmod(0o600)
    result = call("staged")
    assert result["changed"]
    assert result["changed_keys"] == list(WANTED)
    assert path.read_text().startswith('{\n    "mtu": 1400,\n    "cluster-store"')
    assert path.stat().st_mode & 0o777 == 0o600
    assert (result["apply"], result["restart_pending"], engine.orders) == ("idle", True, [])
    manifest = steps.Manifest.load()
    assert manifest.owned_keys(str(path))["cluster-store"] == {"role": "overlay_docker", "had": False, "prior": None}
    assert Path(steps.PREVIOUS).read_text() == '{\n    "mtu": 1400\n}\n'
    assert not call("staged")["changed"]
    assert call("staged")["restart_pending"]


def test_check_mode_says_the_same_and_writes_nothing(call: Callable[..., dict[str, Any]], path: Path) -> None:
    result = call("staged", check=True)
    assert result["changed"]
    assert "cluster-store" in result["diff"][0]["after"]
    assert not path.exists()
    assert not steps.Manifest.load().owned_keys(str(path))


def test_what_is_not_json_stays_as_it_is(call: Callable[..., dict[str, Any]], path: Path) -> None:
    path.write_text("{ oops")
    result = call("staged")
    assert result["failed"]
    assert "left untouched" in result["msg"]
    assert path.read_text() == "{ oops"


def test_an_engine_without_containers_is_restarted(call: Callable[..., dict[str, Any]], engine: PlayedEngine) -> None:
    call("staged")
    planned = call("applied", check=True)
    assert (planned["changed"], planned["restarted"], engine.orders) == (True, True, [])
    result = call("applied")
    assert (result["changed"], result["restarted"], engine.orders) == (True, True, ["restart"])
    assert not result["restart_pending"]
    again = call("staged")
    assert (again["changed"], again["apply"], again["reasons"]) == (False, "none", [])
    assert not call("applied")["changed"]


def test_an_engine_is_started_only_when_its_store_has_a_leader(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, tmp_path: Path
) -> None:
    """A dockerd that starts without its store hangs for minutes."""
    (tmp_path / "dockerd.env").write_text("CONSUL_HTTP_TOKEN=t\n")
    asked = {"environment_file": str(tmp_path / "dockerd.env")}
    call("staged", **asked)
    engine.elections = 1_000_000
    refused = call("applied", wait=0, **asked)
    assert refused["msg"].endswith("does not answer. The engine was not touched; it needs its store to start.")
    assert engine.orders == []
    engine.elections = engine.asked + 3
    assert call("applied", **asked)["restarted"]
    assert engine.asked == engine.elections + 1, "it waits"
    assert engine.opened[-1] == (WANTED["cluster-store"], "t", None)


def test_the_engine_of_before_is_not_taken_for_the_one_that_starts(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """systemd needs a moment to leave the state in which it was: here a failed one."""
    call("staged")
    engine.running = False
    order, look = engine.order, engine.look
    ordered: list[str] = []

    def take_note(verb: str) -> tuple[int, str]:
        ordered.append(verb)
        return 0, ""

    def look_and_only_then_move(others: list[str] | None = None) -> Running:
        seen = look(others)
        if ordered:
            order(ordered.pop())
        return seen

    monkeypatch.setattr(engine, "order", take_note)
    monkeypatch.setattr(engine, "look", look_and_only_then_move)
    assert call("applied")["started"]


def test_containers_survive_because_live_restore_comes_first(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine
) -> None:
    engine.containers_running = 2
    assert call("staged")["apply"] == "busy"
    call("applied")
    assert engine.orders == ["reload", "keep ports", "restart", "let go"]


def test_without_consent_a_restart_that_kills_stays_pending(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine
) -> None:
    engine.containers_running = 1
    config = {**WANTED, "live-restore": False}
    assert call("staged", config=config)["containers"][0]["would_die"]
    result = call("applied", config=config)
    assert (result["changed"], result["restart_pending"], engine.orders) == (False, True, [])
    assert call("applied", config=config, restart="rolling")["restarted"]
    assert engine.orders == ["restart"]


def test_live_restore_alone_is_reloaded(call: Callable[..., dict[str, Any]], engine: PlayedEngine) -> None:
    engine.effective = {key: WANTED[key] for key in ("cluster-store", "cluster-advertise")}
    call("staged")
    engine.effective = {**engine.effective}
    steps_of_first = steps.Manifest.load()
    steps_of_first.state.clear()
    steps_of_first.save()
    result = call("applied", restart="never")
    assert (result["reloaded"], engine.orders) == (True, ["reload"])


def test_a_restart_by_the_user_is_noticed(call: Callable[..., dict[str, Any]], engine: PlayedEngine) -> None:
    call("staged", config={**WANTED, "mtu": 1400})
    assert call("staged", config={**WANTED, "mtu": 1400})["restart_pending"]
    engine.order("restart")
    assert call("staged", config={**WANTED, "mtu": 1400})["apply"] == "none"


def test_a_failed_restart_brings_the_old_file_back(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    path.write_text('{"mtu": 1400}')
    engine.bad_store = str(WANTED["cluster-store"])
    call("staged")
    result = call("applied")
    assert result["failed"]
    assert "of this very reason" in result["msg"]
    assert "is back, and the engine runs with it" in result["msg"]
    assert path.read_text() == '{"mtu": 1400}'
    assert engine.orders == ["restart", "restart"]


def test_a_file_that_was_not_there_goes_again(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    engine.bad_store = str(WANTED["cluster-store"])
    call("staged")
    assert call("applied")["failed"]
    assert not path.exists()


def test_apply_wants_a_staged_file(call: Callable[..., dict[str, Any]], engine: PlayedEngine) -> None:
    assert "state=staged first" in call("applied")["msg"]
    assert engine.orders == []


def test_before_the_engine_is_installed_the_file_is_staged(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    engine.installed = engine.running = False
    result = call("staged")
    assert (result["changed"], result["apply"], result["restart_pending"]) == (True, "idle", False)
    assert "not installed" in call("applied")["msg"]
    engine.installed = True
    assert call("applied")["started"]
    assert call("staged")["apply"] == "none"


def test_a_flag_of_the_users_is_not_written(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    engine.found_flags = {"live-restore": Flag("live-restore", True, "/etc/default/docker")}
    result = call("staged")
    assert result["satisfied_by_flags"] == {"live-restore": "/etc/default/docker"}
    assert "live-restore" not in json.loads(path.read_text())


def test_a_foreign_store_needs_consent(call: Callable[..., dict[str, Any]], path: Path) -> None:
    path.write_text('{"cluster-store": "etcd://theirs:2379"}')
    assert "names another store" in call("staged")["msg"]
    result = call("staged", overwrite=True)
    assert result["replaced"] == ["cluster-store"]
    assert steps.Manifest.load().owned_keys(str(path))["cluster-store"]["prior"] == "etcd://theirs:2379"


def test_systemd_is_told_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[list[str]] = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        told.append(argv)
        return 0, "", ""

    monkeypatch.setattr(host, "run_program", run)
    engine = host.Engine("/nowhere")
    engine.order("restart")
    assert told == [
        ["systemctl", "daemon-reload"],
        ["systemctl", "reset-failed", "docker.service"],
        ["systemctl", "--no-block", "restart", "docker.service"],
    ]


def test_a_sleeping_engine_is_not_woken_by_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Id=docker.service\nLoadState=loaded\nActiveState=inactive\n\nId=docker.socket\nActiveState=active\n"
    monkeypatch.setattr(_systemd, "run_program", lambda argv: (0, text, ""))
    engine = host.Engine("/nowhere")
    monkeypatch.setattr(engine, "info", lambda: pytest.fail("asked"))
    running = engine.look()
    assert (running.installed, running.active) == (True, False)


API = ["-H", "tcp://10.0.0.1:2376", "--tlsverify", "--tlscacert=/ca"]


def text_of(path: Path) -> str:
    return (path.parent.parent / "arguments.conf").read_text()


def test_arguments_go_behind_the_units_own_and_a_restart_is_due(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    call("staged"), call("applied")
    planned = call("staged", check=True, arguments=API)
    assert (planned["changed"], planned["apply"]) == (True, "idle")
    assert "tcp://10.0.0.1:2376" in planned["diff"][1]["after"]
    assert not (path.parent.parent / "arguments.conf").exists()
    assert call("staged", arguments=API)["reasons"]
    assert text_of(path).endswith(f"ExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// {' '.join(API)}\n")
    assert call("applied", arguments=API)["restarted"]
    again = call("staged", arguments=API)
    assert (again["changed"], again["apply"]) == (False, "none")


def test_arguments_that_are_not_wanted_any_more_go(call: Callable[..., dict[str, Any]], path: Path) -> None:
    call("staged", arguments=API), call("applied", arguments=API)
    assert call("staged")["changed"]
    assert not (path.parent.parent / "arguments.conf").exists()
    assert call("applied")["restarted"]
    assert call("staged")["apply"] == "none"


def test_an_engine_that_does_not_run_with_them_gets_what_it_had(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    engine.bad_store = "consul://127.0.0.1:8500"
    call("staged", arguments=API)
    assert "DOES NOT RUN" not in call("applied", arguments=API)["msg"]
    assert not (path.parent.parent / "arguments.conf").exists()


def test_an_engine_that_is_slow_is_not_said_to_be_broken(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path
) -> None:
    """systemd has started it anew, and it answers neither in time, nor when it is started once more."""
    call("staged")
    engine.slow, engine.late = True, 2
    said = call("applied")["msg"]
    assert "the engine did not answer within" in said and "not started anew" not in said
    assert "is still starting with it" in said and "raise overlay_docker_wait" in said and "DOES NOT RUN" not in said


def test_a_setting_that_daemon_json_has_too_is_refused(call: Callable[..., dict[str, Any]], path: Path) -> None:
    path.write_text('{"tlscacert": "/mine"}')
    result = call("staged", arguments=API)
    assert "tlscacert" in result["msg"] and "take it out" in result["msg"]
    assert path.read_text() == '{"tlscacert": "/mine"}'


def test_a_file_that_was_changed_since_the_start_means_a_restart(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine
) -> None:
    call("staged"), call("applied")
    engine.changed_files = ["/server.crt"]
    assert "/server.crt" in call("staged", read_at_start=["/server.crt", "/ca.crt"])["reasons"][0]
    assert call("applied", read_at_start=["/server.crt"])["restarted"]
    assert not call("applied", read_at_start=["/server.crt"])["changed"]


# --- undone by a reset ---

UNDO: dict[str, Any] = {"restart": "safe", "wait": 1, "check_mode": False, "store_managed": True}


def undo(engine: Any, *kinds: tuple[str, Any]) -> None:
    manifest = steps.Manifest.load()
    done = _reset_steps.Undo(manifest, engine, UNDO, lambda argv, stdin="", timeout=0: (0, "", ""))
    done.all(_reset_plan.Step("engine", kind, _reset_plan.DAEMON_JSON, "", other) for kind, other in kinds)


@pytest.fixture
def joined(
    call: Callable[..., dict[str, Any]], engine: PlayedEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine with containers that we have put into a store, and a file that was its user's."""
    monkeypatch.setattr(_reset_plan, "DAEMON_JSON", str(path))
    monkeypatch.setattr(_reset_host, "other_unit", lambda: False)
    path.write_text(USERS)
    engine.effective, engine.containers_running = json.loads(USERS), 2
    call("staged")
    call("applied")
    assert engine.effective["cluster-store"] and engine.effective["live-restore"]
    engine.orders.clear()


USERS = '{"mtu":1400,"debug":false}'
WHOLE = (("stage", True), ("apply", None), ("live_restore", None), ("shared", None))


def test_containers_outlive_the_way_out_of_the_store(joined: None, engine: PlayedEngine, path: Path) -> None:
    """live-restore is on when the engine stops and when it starts again, and goes only then."""
    undo(engine, *WHOLE[:2])
    assert (engine.orders, engine.effective.get("cluster-store")) == (["keep ports", "restart", "let go"], None)
    assert engine.effective["live-restore"] is True
    undo(engine, *WHOLE[2:])
    assert engine.orders[3:] == ["reload"] and engine.effective["live-restore"] is False
    assert path.read_text() == USERS, "byte for byte"
    manifest = steps.Manifest.load()
    assert (manifest.data["keys"], manifest.data["files"], manifest.state) == ({}, {}, {})


@pytest.mark.parametrize("done", [1, 2, 3])
def test_it_goes_on_where_it_was_ended(joined: None, engine: PlayedEngine, path: Path, done: int) -> None:
    undo(engine, *WHOLE[:done])
    undo(engine, *WHOLE)
    assert path.read_text() == USERS and engine.orders.count("restart") == 1
    assert not engine.effective["live-restore"]


def test_an_engine_that_does_not_start_without_us_has_our_keys_again(
    joined: None, engine: PlayedEngine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = path.read_text()
    monkeypatch.setattr(steps, "wait_ready", lambda *_unused: "dockerd does not start")
    with pytest.raises(DaemonConfigError, match="dockerd does not start"):
        undo(engine, *WHOLE)
    assert path.read_text() == ours
    assert set(steps.Manifest.load().owned_keys(str(path))) == set(WANTED), "the next reset knows whose they are"
