# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_upgrade does in each of its states, and what it does not in check mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.modules import host_upgrade as module

Run = Callable[..., dict[str, Any]]
WANTED = {"engine": {"source": "packages", "series": "", "unhold": False}}


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    seen: list[Any] = []
    monkeypatch.setattr(module.packages, "refresh", lambda: seen.append("refresh"))
    monkeypatch.setattr(
        module.packages, "installed", lambda names: {name: {"version": "1", "state": "installed"} for name in names}
    )
    monkeypatch.setitem(module.READERS, "engine", lambda wanted: {"program": "/usr/sbin/dockerd"})
    for name in ("replace", "keep", "go_back"):
        monkeypatch.setattr(module.host, name, partial(note, seen, name))
    return seen


def note(seen: list[Any], name: str, *words: Any) -> dict[str, Any]:
    seen.append((name, *words))
    return {}


def test_lists_are_read_anew_where_packages_are_asked_for(run_module: Run, called: list[Any]) -> None:
    found = run_module(module.main, {"wanted": WANTED, "refresh": True})
    assert found["engine"]["program"] == "/usr/sbin/dockerd" and found["wanted"] == WANTED and called == ["refresh"]
    run_module(module.main, {"wanted": {"engine": {"source": "archive"}}, "refresh": True})
    run_module(module.main, {"wanted": WANTED, "refresh": True}, check=True)
    assert called == ["refresh"]


def test_packages_are_installed_with_their_versions(run_module: Run, called: list[Any]) -> None:
    params = {"state": "replaced", "program": "engine", "packages": {"docker.io": "2"}}
    assert run_module(module.main, params, check=True)["changed"] and called == []
    found = run_module(module.main, params)
    assert found["changed"] and called == [("replace", ["docker.io=2"], False)]
    assert '"docker.io": "1"' in found["diff"][0]["before"]


def test_what_a_killed_run_began_is_finished_also_where_versions_are_right(run_module: Run, called: list[Any]) -> None:
    assert not run_module(module.main, {"state": "replaced", "program": "engine"})["changed"]
    assert called == [("replace", [], False)]


@pytest.mark.parametrize("state", ["kept", "back"])
def test_check_mode_notes_and_undoes_nothing(run_module: Run, called: list[Any], state: str) -> None:
    params = {"state": state, "program": "consul", "target": "t"}
    run_module(module.main, params, check=True)
    assert called == []
    run_module(module.main, params)
    assert len(called) == 1


def test_apts_words_are_the_error(run_module: Run, called: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_words: Any) -> None:
        raise module.packages.PackagesError("apt-get install docker.io=2 failed: E: no space left")

    monkeypatch.setattr(module.host, "replace", fail)
    params = {"state": "replaced", "program": "engine", "packages": {"docker.io": "2"}}
    assert "no space left" in run_module(module.main, params)["msg"]
