# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the steps of a reset do to files and programs, and that each is dropped from the manifest only when it is done."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _reset_host as host
from ansible_collections.multihost.overlay.plugins.module_utils import _reset_steps as steps
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest
from ansible_collections.multihost.overlay.plugins.module_utils._reset_plan import Step
from ansible_collections.multihost.overlay.plugins.modules import host_reset

OPTIONS = {"store_managed": True, "restart": "safe", "wait": 1, "check_mode": False}


class Programs:
    """Notes what is called; says what it is told to."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.called: list[list[str]] = []
        self.answers = answers

    def __call__(self, argv: list[str], stdin: str = "", timeout: float = 60.0) -> tuple[int, str, str]:
        self.called.append(argv)
        return self.answers.get(argv[0], (0, "", ""))


class Calls:
    """Docker's API; a path that is among the refused fails with that status."""

    def __init__(self, refused: dict[str, int] | None = None, networks: dict[str, Any] | None = None) -> None:
        self.sent: list[tuple[str, Any]] = []
        self.refused = refused or {}
        self.networks = networks or {}

    def _send(self, path: str, body: Any = None) -> None:
        self.sent.append((path, body))
        if path in self.refused:
            raise DockerError("for this reason", self.refused[path])

    post = delete = _send

    def get(self, path: str) -> Any:
        return self.networks[path]


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return Manifest.load(str(tmp_path / "state" / "manifest.json"))


def undo(manifest: Manifest, run: Any = None, client: Any = None, **options: Any) -> steps.Undo:
    engine: Any = SimpleNamespace(client=client or Calls())
    return steps.Undo(manifest, engine, {**OPTIONS, **options}, run or Programs())


def saved(manifest: Manifest) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(Path(manifest.path).read_text())
    return content


# --- files ---


def test_what_stood_there_comes_back_with_its_mode(tmp_path: Path, manifest: Manifest) -> None:
    target = tmp_path / "conf"
    target.write_text("the user's\n")
    target.chmod(0o640)
    manifest.record_file(str(target), "r", b"ours\n")
    manifest.save()
    target.write_text("ours\n")
    target.chmod(0o644)
    undo(manifest).all([Step("end", "restore", str(target), "", False)])
    assert (target.read_text(), target.stat().st_mode & 0o777) == ("the user's\n", 0o640)
    assert saved(manifest)["files"] == {} and os.listdir(tmp_path / "state" / "backup") == []


def test_what_was_changed_since_is_kept(tmp_path: Path, manifest: Manifest) -> None:
    target = tmp_path / "conf"
    manifest.record_file(str(target), "r", b"ours\n")
    target.write_text("changed\n")
    done = undo(manifest)
    done.all([Step("end", "remove", str(target), "", True)])
    assert not target.exists() and Path(done.kept[0]).read_text() == "changed\n"
    assert str(target) in done.said[0] and done.kept[0] in done.said[0]


def test_a_step_that_fails_stays_in_the_manifest(manifest: Manifest) -> None:
    manifest.record_account("users", "a", "r")
    manifest.save()
    with pytest.raises(steps.ResetError, match="userdel a` failed: busy"):
        undo(manifest, Programs(userdel=(8, "", "busy"))).all([Step("end", "user", "a", "", True)])
    assert saved(manifest)["users"] == {"a": {"role": "r"}}


@pytest.mark.parametrize(
    ("prior", "now", "after"),
    [
        (None, "{}\n", None),
        (None, '{\n  "debug": true\n}\n', '{\n  "debug": true\n}\n'),
        ('{"debug":true}', '{\n  "debug": true\n}\n', '{"debug":true}'),
        ('{"debug":true}', '{\n  "debug": false\n}\n', '{\n  "debug": false\n}\n'),
        ("{}", None, None),
    ],
    ids=["was not there", "was not there, and is used since", "says the same", "was changed since", "has gone"],
)
def test_a_file_that_is_shared(
    tmp_path: Path, manifest: Manifest, prior: str | None, now: str | None, after: str | None
) -> None:
    target = tmp_path / "daemon.json"
    if prior is not None:
        target.write_text(prior)
    manifest.record_file(str(target), "r")
    manifest.record_key(str(target), "mtu", "r", False, None)
    manifest.save()
    target.unlink(missing_ok=True)
    if now is not None:
        target.write_text(now)
    undo(manifest).all([Step("engine", "shared", str(target), "")])
    assert (target.read_text() if target.exists() else None) == after
    assert saved(manifest)["files"] == {} and saved(manifest)["keys"] == {}


def test_directories_go_if_nothing_is_in_them(tmp_path: Path, manifest: Manifest) -> None:
    for name in ("empty", "used", "data"):
        manifest.record_directory(str(tmp_path / name), "r", name == "data")
        (tmp_path / name).mkdir()
    (tmp_path / "used" / "notes").touch()
    (tmp_path / "data" / "raft").mkdir()
    (tmp_path / "data" / "raft" / "log").touch()
    done = undo(manifest)
    done.all(
        [
            Step("end", "content", str(tmp_path / "data"), ""),
            *(Step("end", "directory", str(tmp_path / name), "", True) for name in ("empty", "used", "data")),
        ]
    )
    assert sorted(os.listdir(tmp_path)) == ["state", "used"]
    assert done.said == [f"{tmp_path / 'used'} stays, because it is not empty: notes"]


def test_the_manifest_goes_last_and_what_is_the_users_stays(tmp_path: Path, manifest: Manifest) -> None:
    manifest.record_account("users", "a", "r")
    manifest.save()
    folder = tmp_path / "state"
    for name in ("backup", "backups"):
        (folder / name).mkdir()
        (folder / name / "x").touch()
    done = undo(manifest)
    done.all([Step("end", "state", str(folder), "")])
    assert os.listdir(folder) == ["backups"] and "yours to look at" in done.said[0]


# --- programs ---


def test_packages_of_which_the_configuration_was_there_keep_it(manifest: Manifest) -> None:
    manifest.record_packages(["consul", "nftables"], "r", {"nftables": "config-files"})
    manifest.save()
    run = Programs()
    undo(manifest, run).all([Step("end", "packages", "consul nftables", "", ["runc"])])
    assert [argv[argv.index("DPkg::Lock::Timeout=120") + 1 :] for argv in run.called] == [
        ["remove", "nftables"],
        ["purge", "consul", "runc"],
    ]
    assert saved(manifest)["packages"] == {}


@pytest.mark.parametrize(("image", "program"), [("", False), ("blobs/sha256/0123", False), ("", True)])
def test_what_an_engine_leaves_goes_with_it_but_no_image_and_nothing_of_a_containerd_that_is_there(
    tmp_path: Path, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, image: str, program: bool
) -> None:
    containerd, empty, full = tmp_path / "containerd", tmp_path / "cni", tmp_path / "docker"
    for path in (containerd / "metadata.bolt" / "meta.db", full / "daemon.json", containerd / (image or "meta.db")):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    empty.mkdir()
    monkeypatch.setattr(steps, "CONTAINERD", str(containerd))
    monkeypatch.setattr(steps, "ENGINE_FOLDERS", (str(empty), str(full), str(tmp_path / "nothing")))
    monkeypatch.setattr(steps, "ENGINE_KEY", str(tmp_path / "key.json"))
    monkeypatch.setattr(steps.shutil, "which", lambda name: f"/usr/local/bin/{name}" if program else None)
    manifest.record_packages(["docker.io"], "r", {})
    manifest.save()
    undo(manifest).packages(Step("end", "packages", "docker.io", "", []))
    assert (containerd.exists(), empty.exists(), full.exists()) == (bool(image) or program, False, True)


def test_of_what_apt_would_take_only_what_came_with_ours_goes_along() -> None:
    def run(argv: list[str]) -> tuple[int, str, str]:
        if "autoremove" in argv:
            return 0, "Remv idle [1]\n", ""
        return 0, "Purg docker.io [1]\nPurg runc:amd64 [1]\nRemv idle [1]\n", ""

    assert host.came_along(["docker.io"], run) == ["runc"]


def test_a_package_that_one_of_the_users_needs_is_in_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "units", lambda names: {"nftables.service": {"UnitFileState": "enabled"}})
    monkeypatch.setattr(host, "another_consul", lambda: True)

    def run(argv: list[str]) -> tuple[int, str, str]:
        return 0, "Purg unzip [1]\nPurg theirs [1]\n" if argv[-1] == "unzip" else f"Purg {argv[-1]} [1]\n", ""

    ours = ["consul", "iptables", "nftables", "unzip"]
    assert host.in_use(ours, ours, run) == {
        "consul": "a Consul that is not ours runs",
        "nftables": "nftables.service is enabled",
        "unzip": "theirs of the user's needs it",
    }


# --- the engine ---


def test_a_container_that_is_gone_is_no_trouble(manifest: Manifest) -> None:
    step = Step("containers", "disconnect", "c1", "disconnect it; rest", "n1")
    path = "/networks/n1/disconnect"
    gone, refused = Calls({path: 404}), Calls({path: 500})
    undo(manifest, client=gone).all([step])
    assert gone.sent == [(path, {"Container": "c1", "Force": True})]
    with pytest.raises(steps.ResetError, match=r"could not disconnect it: for this reason\. Disconnect it by hand"):
        undo(manifest, client=refused).all([step])


@pytest.mark.parametrize("managed", [True, False])
def test_a_network_that_others_use_goes_only_with_a_store_of_ours(manifest: Manifest, managed: bool) -> None:
    found = {"/networks/n1": {"Containers": {"ep-7": {"Name": "far"}}}}
    client = Calls(networks=found)
    step = Step("networks", "network", "n1", "", "front")
    if managed:
        undo(manifest, client=client).all([step])
        assert client.sent[0][1]["Container"] == "far" and client.sent[1][0] == "/networks/n1"
    else:
        with pytest.raises(steps.ResetError, match="front is used by far, on hosts that are not reset"):
            undo(manifest, client=client, store_managed=False).all([step])
        assert client.sent == []


@pytest.mark.parametrize(
    ("listed", "store", "answers"),
    [((200, b'"10.0.0.1:8300"'), "consul://127.0.0.1:8500", True), ((200, b'""'), "consul://127.0.0.1:8500", False),
     ((0, b"refused"), "consul://127.0.0.1:8500", False), ((0, b""), "etcd://127.0.0.1:2379", True)],
)  # fmt: skip
def test_a_store_answers_if_it_has_a_leader(
    monkeypatch: pytest.MonkeyPatch, listed: tuple[int, bytes], store: str, answers: bool
) -> None:
    monkeypatch.setattr(host, "http_asker", lambda url, options: lambda path, token: listed)
    assert host.store_answers(store, {}) is answers


def test_what_an_engine_that_does_not_run_holds(tmp_path: Path) -> None:
    (tmp_path / "containers" / "c1").mkdir(parents=True)
    (tmp_path / "volumes" / "v1" / "_data").mkdir(parents=True)
    (tmp_path / "volumes" / "metadata.db").touch()
    assert host.uses_on_disk(str(tmp_path)) == ["1 containers", "1 volumes"]
    assert host.uses_on_disk(str(tmp_path / "none")) == []


# --- the module ---


@pytest.fixture
def reset(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]
) -> Callable[..., dict[str, Any]]:
    """The module on a host of which only the manifest matters."""
    monkeypatch.setattr(host_reset.Manifest, "load", lambda: manifest)
    return lambda **options: run_module(host_reset.main, options.pop("params", {}), **options)


def test_without_a_manifest_nothing_is_asked_and_nothing_done(reset: Callable[..., dict[str, Any]]) -> None:
    result = reset()
    assert result["changed"] is False and result["steps"] == []
    assert "nothing here is known as ours" in result["stays"][0]


def test_what_is_refused_is_told_in_a_dry_run_and_ends_a_real_one(
    reset: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps_ = [
        Step("containers", "disconnect", "c", "leave", "n"),
        Step("end", "forget", "f", "drop"),
        Step("end", "state", "s", "last"),
    ]
    planned = host_reset.Plan(steps_, ["this"], ["would die"])
    monkeypatch.setattr(host_reset, "observe", lambda *_unused: {})
    monkeypatch.setattr(host_reset, "make_plan", lambda *_unused: planned)
    dry = reset(check=True)
    assert (dry["changed"], dry["steps"], dry["refused"]) == (True, ["leave", "last"], ["would die"])
    assert dry["diff"]["before"] == "leave\nlast\n"
    assert reset(check=True, params={"until": "engine"})["steps"] == ["leave"]
    real = reset()
    assert real["failed"] and "would die. Nothing was changed" in real["msg"]
