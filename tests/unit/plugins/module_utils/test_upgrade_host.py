# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is noted before an upgrade, and what comes back of it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_host as host


class Programs:
    """A host on which nothing is really called; ``starts`` says whether the program comes up."""

    def __init__(self) -> None:
        self.called: list[list[str]] = []
        self.replaced: list[tuple[list[str], bool]] = []
        self.installed: dict[str, str] = {}
        self.starts = True


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    seen = Programs()

    def run(argv: list[str], **_options: Any) -> tuple[int, str, str]:
        seen.called.append(argv)
        return 0, "", ""

    def states(_names: list[str]) -> dict[str, dict[str, str]]:
        return {name: {"version": version, "state": "installed"} for name, version in seen.installed.items()}

    monkeypatch.setattr(host, "FOLDER", str(tmp_path / "upgrade"))
    monkeypatch.setattr(host, "run_program", run)
    monkeypatch.setattr(host.published_ports, "kept", lambda _seconds: contextlib.nullcontext())
    monkeypatch.setattr(host.packages, "installed", states)
    monkeypatch.setattr(
        host.packages, "keep", lambda present, folder: {name: f"{folder}/{name}.deb" for name in present}
    )
    monkeypatch.setattr(host, "replace", lambda specs, free: seen.replaced.append((specs, free)))
    monkeypatch.setattr(host, "_is_up", lambda _program: seen.starts)
    monkeypatch.setattr(host.time, "sleep", lambda _seconds: None)
    return seen


def test_files_come_back_and_new_ones_go(played: Programs, tmp_path: Path) -> None:
    old, new = tmp_path / "docker.service", tmp_path / "docker"
    old.write_text("before")
    old.chmod(0o600)
    host.keep("engine", "/new/dockerd", [str(old), str(new)], {})
    old.write_text("after")
    new.write_text("after")
    found = host.go_back("engine", "/new/dockerd", 5)
    assert found["back"] and found["words"].endswith("and runs.")
    assert old.read_text() == "before" and old.stat().st_mode & 0o777 == 0o600 and not new.exists()
    assert ["systemctl", "--no-block", "restart", "docker.service"] in played.called


def test_a_run_that_was_killed_does_not_take_its_own_work_for_what_was_before(played: Programs, tmp_path: Path) -> None:
    file = tmp_path / "docker.service"
    file.write_text("before")
    host.keep("engine", "/new/dockerd", [str(file)], {})
    file.write_text("after")
    host.keep("engine", "/new/dockerd", [str(file)], {})
    assert host.record("engine")["files"][str(file)]["content"] == "before"
    host.keep("engine", "/newer/dockerd", [str(file)], {})
    assert host.record("engine")["files"][str(file)]["content"] == "after"


def test_a_note_of_another_upgrade_is_not_gone_back_to(played: Programs, tmp_path: Path) -> None:
    file = tmp_path / "docker.service"
    file.write_text("before")
    host.keep("engine", "/new/dockerd", [str(file)], {})
    file.write_text("after")
    assert host.go_back("engine", "/newer/dockerd", 5)["back"] is False
    assert file.read_text() == "after" and played.called == []


def test_only_packages_that_differ_are_put_back(played: Programs, tmp_path: Path) -> None:
    host.keep("engine", "t", [], {"docker.io": "1", "runc": "3"})
    for name in ("docker.io", "runc"):
        (tmp_path / "upgrade" / f"{name}.deb").touch()
    played.installed = {"docker.io": "2", "runc": "3"}
    assert "docker.io 1" in host.go_back("engine", "t", 5)["words"]
    assert played.replaced == [([f"{tmp_path}/upgrade/docker.io.deb"], True)]


def test_a_package_that_cannot_be_had_is_named(
    played: Programs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.packages, "keep", lambda present, folder: {})
    host.keep("engine", "t", [], {"docker.io": "1"})
    played.installed = {"docker.io": "2"}
    found = host.go_back("engine", "t", 5)
    assert not found["back"] and "NOT back: docker.io=1" in found["words"] and "apt-get install" in found["words"]


def test_what_does_not_start_either_is_said(played: Programs) -> None:
    host.keep("consul", "t", [], {})
    played.starts = False
    found = host.go_back("consul", "t", 0)
    assert not found["back"] and "DOES NOT RUN" in found["words"]


def test_a_program_whose_file_was_replaced_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "_main_pid", lambda _unit: "7")
    monkeypatch.setattr(host, "_running", lambda _pid: "/usr/bin/containerd (deleted)")
    assert host._replaced("/usr/sbin/dockerd (deleted)", "docker.io") == ["dockerd", "containerd"]
    assert host._replaced("/usr/sbin/dockerd", "") == []
    assert host._program("docker.service", "/usr/sbin/dockerd (deleted)") == "/usr/sbin/dockerd"
