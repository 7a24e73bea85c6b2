# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The drop-in with our arguments, and what of dockerd's own process is looked at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_arguments as arguments
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as host

UNIT = ("/lib/docker.service", "[Service]\nExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS\n")
USERS = ("/etc/x.conf", "[Service]\nExecStart=\nExecStart=/opt/dockerd -H fd://\n")
API = ["-H", "tcp://10.0.0.1:2376", "--tlsverify"]


def test_the_units_own_command_line_is_kept_whoever_wrote_it() -> None:
    assert (arguments.drop_in([UNIT], API) or "").splitlines()[-1] == (
        "ExecStart=/usr/sbin/dockerd -H fd:// $DOCKER_OPTS -H tcp://10.0.0.1:2376 --tlsverify"
    )
    assert "ExecStart=/opt/dockerd -H fd:// -H tcp" in (arguments.drop_in([UNIT, USERS], API) or "")


def test_the_drop_in_is_not_added_to_itself() -> None:
    text = arguments.drop_in([UNIT], API) or ""
    assert arguments.drop_in([UNIT, (arguments.PATH, text)], API) == text


@pytest.mark.parametrize(("files", "words"), [([UNIT], []), ([], API)])
def test_without_arguments_or_unit_there_is_none(files: list[tuple[str, str]], words: list[str]) -> None:
    assert arguments.drop_in(files, words) is None


def test_a_percent_sign_is_one() -> None:
    assert (arguments.drop_in([UNIT], ["--tlskey=/a%b"]) or "").endswith("--tlskey=/a%%b\n")


def test_what_a_running_engine_lacks() -> None:
    argv = ["/usr/sbin/dockerd", "-H", "fd://"]
    assert arguments.running_without(API, argv) == {"arguments": "dockerd runs without the present hosts, tlsverify"}
    assert arguments.running_without(API, [*argv, *API]) == {}
    assert arguments.running_without([], argv) == {}


def test_files_that_are_younger_than_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for path, age in ((old, 1_000_000), (new, -5)):
        path.write_text("x")
        os.utime(path, (path.stat().st_mtime - age, path.stat().st_mtime - age))
    engine = host.Engine("/nowhere")
    monkeypatch.setattr(engine, "pid", lambda: str(os.getpid()))
    assert engine.younger([str(old), str(new), str(tmp_path / "none")]) == [str(new)]
    monkeypatch.setattr(engine, "pid", lambda: "")
    assert engine.younger([str(new)]) == []
