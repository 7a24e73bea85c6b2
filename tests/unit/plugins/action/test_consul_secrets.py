# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""When a host is asked for the cluster's secrets: always, but where it is certain that it keeps none. New ones are made by what it says."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action import consul_secrets, host_files
from ansible_collections.multihost.overlay.plugins.module_utils._secrets import PATH

KEPT = {"secrets": {"seed": "s"}, "in_order": True}
READ: dict[str, Any] = {host_files.READ: {"findings": []}}


def facts(owned: Any) -> dict[str, Any]:
    return {"ansible_facts": {"overlay_host_facts": {"owned": owned}}}


def run(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any], **args: Any) -> Any:
    action = object.__new__(consul_secrets.ActionModule)
    action._task = SimpleNamespace(args=args)
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(action, "_execute_module", lambda **_unused: KEPT)
    return action.run(None, variables)


def test_a_host_without_the_file_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    result = run(monkeypatch, {**facts({"files": {PATH: None}}), **READ})
    assert result == {"changed": False, "secrets": None, "in_order": False}


@pytest.mark.parametrize(
    "variables",
    [
        pytest.param({"ansible_facts": {}}, id="nothing known"),
        pytest.param({"ansible_facts": {}, **READ}, id="facts were cleared"),
        pytest.param(facts({"files": {PATH: None}}), id="known from a cache"),
        pytest.param({**facts({"files": {PATH: "0600 root root 1"}}), **READ}, id="there is one"),
        pytest.param({**facts({"files": {}}), **READ}, id="not looked for"),
        pytest.param({**facts(None), **READ}, id="written to since"),
    ],
)
def test_every_other_is(monkeypatch: pytest.MonkeyPatch, variables: dict[str, Any]) -> None:
    assert run(monkeypatch, variables) == KEPT


def test_another_file_is_another_question(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch, {**facts({"files": {PATH: None}}), **READ}, path="/else") == KEPT
