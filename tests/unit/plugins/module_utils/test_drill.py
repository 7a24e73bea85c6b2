# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The throwaway Consul: how it is started, and that nothing of it stays."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _drill
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError


class Host:
    """systemd, played: it starts what it is told, and removes the unit's folder when it stops it."""

    def __init__(self, status: int = 0) -> None:
        self.status = status
        self.said: list[list[str]] = []

    def run(self, argv: list[str]) -> tuple[int, str, str]:
        self.said.append(argv)
        return (self.status, "", "no such user") if argv[0] == "systemd-run" else (0, "", "")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "drill"
    monkeypatch.setattr(_drill, "FOLDER", str(path))
    monkeypatch.setattr(_drill, "START", 0)
    owner: Any = type("Owner", (), {"pw_uid": os.getuid(), "pw_gid": os.getgid()})
    monkeypatch.setattr(_drill.pwd, "getpwnam", lambda _name: owner)
    return path


def test_it_hears_nobody_and_asks_for_a_token() -> None:
    made = _drill.configuration([1, 2, 3], "dc1", {"master": "t"})
    assert made["bind_addr"] == made["client_addr"] == "127.0.0.1"
    assert made["acl"]["default_policy"] == "deny"
    assert made["bootstrap"] is True
    assert "retry_join" not in made
    assert len(set(_drill.free_ports(3))) == 3


def test_its_unit_ends_by_itself_and_takes_its_folder_along() -> None:
    argv = _drill.unit("/usr/bin/consul")
    assert f"--property=RuntimeMaxSec={_drill.MOST_SECONDS}" in argv
    assert f"--property=RuntimeDirectory={_drill.NAME}" in argv
    assert not [word for word in argv if "token" in word]


def test_the_token_is_in_a_file_of_consuls_user_alone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    monkeypatch.setattr(_drill.Consul, "ask", lambda *_words: {})
    with _drill.Drill("/usr/bin/consul", "dc1", "master", "s-e-c-r-e-t", host.run):
        config = folder / "config.json"
        assert "s-e-c-r-e-t" in config.read_text()
        assert (config.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)
        assert not [word for argv in host.said for word in argv if "s-e-c-r-e-t" in word]
    assert not folder.exists()
    assert [argv[:2] for argv in host.said if argv[0] == "systemctl"] == [["systemctl", "stop"]] * 2


def test_what_one_before_left_goes_first(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    (folder / "config.json").write_text("old")
    monkeypatch.setattr(_drill.Consul, "ask", lambda *_words: {})
    with _drill.Drill("/usr/bin/consul", "dc1", "master", "new", Host().run):
        assert "new" in (folder / "config.json").read_text()


def silent(*_words: Any) -> Any:
    raise ConsulError("no answer", 0)


def unknown(_name: str) -> Any:
    raise KeyError


@pytest.mark.parametrize("fault", ["systemd", "silent", "user"])
def test_one_that_does_not_start_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    monkeypatch.setattr(_drill.Consul, "ask", silent)
    if fault == "user":
        monkeypatch.setattr(_drill.pwd, "getpwnam", unknown)
    host = Host(status=1 if fault == "systemd" else 0)
    words = {"systemd": "not started: no such user", "silent": "no answer", "user": "no user overlay-consul"}[fault]
    with pytest.raises(ConsulError, match=words), _drill.Drill("/usr/bin/consul", "dc1", "master", "t", host.run):
        pass
    assert not folder.exists()
