# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part in the cluster's secrets."""

from __future__ import annotations

from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action import cluster_secrets
from ansible_collections.multihost.overlay.plugins.module_utils import _secrets as cluster


def known(monkeypatch: pytest.MonkeyPatch, read: dict[str, Any], keepers: list[str]) -> dict[str, Any]:
    """The action with what hosts have registered; None is a host that fell out."""
    action = object.__new__(cluster_secrets.ActionModule)
    args = {"keepers": keepers, "hosts": ["a", "b", "c"], "given": {}, "step": "none"}
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(action, "validate_argument_spec", lambda **_unused: (None, args))
    hostvars = {host: {} if answer is None else {cluster_secrets.READ: answer} for host, answer in read.items()}
    return action.run(None, {"hostvars": hostvars})


def test_hosts_that_lack_them_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    held = cluster.new()
    result = known(monkeypatch, {"a": {"secrets": held}, "b": {"secrets": None}}, ["a", "b"])
    assert (result["secrets"], result["lacking"]) == (held, ["b"])
    assert set(result["tokens"]["hosts"]) == {"a", "b", "c"}


def test_a_host_that_could_not_be_read_is_no_host_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AnsibleActionFail, match="b could not be asked"):
        known(monkeypatch, {"a": {"secrets": None}, "b": {"unreachable": True, "msg": "no"}}, ["a", "b"])
    with pytest.raises(AnsibleActionFail, match="b could not be asked"):
        known(monkeypatch, {"a": {"secrets": None}, "b": None}, ["a", "b"])


def test_a_file_that_others_may_read_ends_it_though_another_host_has_a_good_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(AnsibleActionFail, match="b: mode 0644"):
        known(monkeypatch, {"a": {"secrets": cluster.new()}, "b": {"failed": False, "msg": "b: mode 0644"}}, ["a", "b"])
