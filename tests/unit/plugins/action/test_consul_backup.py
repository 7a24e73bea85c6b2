# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The controller's part of backup and restore, with a host that is played."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.action import consul_backup, consul_restore
from ansible_collections.multihost.overlay.plugins.module_utils import _secrets as cluster
from ansible_collections.multihost.overlay.plugins.plugin_utils import _backup_file as files

Json = dict[str, Any]
PASSPHRASE = "correct horse battery"
NETWORK = {"name": "shop", "id": "n1", "ipam": [{"subnet": "10.9.1.0/24"}], "vnis": [], "endpoints": []}
SECRETS = {**cluster.new(), "ca_key": "THE KEY", "ca_certificate": "THE CERTIFICATE"}


class Host:
    """What the module says there, and what it was asked."""

    def __init__(self, **answer: Any) -> None:
        seen = {"answers": True, "why": "", "version": "1.8.7", "networks": [NETWORK], "others": 0, "changed": True}
        self.answer = {**seen, "content": "c25hcA==", "index": 7, "bytes": 4, "keys": 3, "differences": {}, **answer}
        self.asked: list[Json] = []

    def states(self) -> list[str]:
        return [one["state"] for one in self.asked]


class Task:
    check_mode = False


def act(monkeypatch: pytest.MonkeyPatch, plugin: Any, host: Host, args: Json, check: bool = False) -> Json:
    """Run an action plugin."""

    def execute(_self: Any, module_name: str, module_args: Json, task_vars: Any) -> Json:
        host.asked.append(module_args)
        return dict(host.answer)

    action = object.__new__(plugin.ActionModule)
    action._task = Task()
    action._task.check_mode = check
    defaults = {name: spec.get("default") for name, spec in plugin.ARGUMENTS.items()}
    monkeypatch.setattr(ActionBase, "run", lambda *_unused: {})
    monkeypatch.setattr(plugin.ActionModule, "_execute_module", execute)
    given = {**defaults, "url": "consul://127.0.0.1:8500", "passphrase": PASSPHRASE, **args}
    monkeypatch.setattr(action, "validate_argument_spec", lambda _spec: (None, given))
    return action.run(None, {})


def backup(monkeypatch: pytest.MonkeyPatch, folder: Path, host: Host | None = None, **more: Any) -> Json:
    check = more.pop("check", False)
    args = {"directory": str(folder), "secrets": SECRETS, **more}
    return act(monkeypatch, consul_backup, host or Host(), args, check)


def restore(monkeypatch: pytest.MonkeyPatch, step: str, path: str, host: Host | None = None, **more: Any) -> Json:
    check = more.pop("check", False)
    args = {"directory": "/nowhere", "step": step, "file": path, "secrets": SECRETS, "absent": [], **more}
    return act(monkeypatch, consul_restore, host or Host(), args, check)


def test_a_backup_is_written_and_says_nothing_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = backup(monkeypatch, tmp_path)
    content = files.read(Path(result["path"]), PASSPHRASE.encode())
    assert (content["secrets"], content["networks"], content["content"]) == (SECRETS, [NETWORK], "c25hcA==")
    assert "c25hcA==" not in str(result)
    assert SECRETS["seed"] not in str(result)
    assert result["changed"]


def test_the_ca_of_a_user_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = backup(monkeypatch, tmp_path, own_ca=True)["path"]
    assert not {"ca_key", "ca_certificate"} & files.read(Path(path), PASSPHRASE.encode())["secrets"].keys()
    with pytest.raises(AnsibleActionFail, match="overlay_tls_ca_certificate"):
        restore(monkeypatch, "judge", path, secrets={}, authority={"ca_key": "", "ca_certificate": ""})
    given = {"ca_key": "K", "ca_certificate": "C"}
    assert restore(monkeypatch, "judge", path, secrets={}, authority=given)["secrets"]["ca_key"] == "K"


def test_of_somebody_elses_store_there_are_no_secrets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host()
    path = backup(monkeypatch, tmp_path, host, managed=False)["path"]
    assert files.read(Path(path), PASSPHRASE.encode())["secrets"] == {}
    assert host.asked[0]["scope"] == "docker"


def test_without_a_passphrase_no_host_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    host = Host()
    with pytest.raises(AnsibleActionFail, match="there is no passphrase"):
        backup(monkeypatch, tmp_path, host, passphrase="")
    with pytest.raises(AnsibleActionFail, match="1 or more"):
        backup(monkeypatch, tmp_path, host, keep=0)
    assert host.asked == []


def test_a_host_that_fails_is_quoted_and_old_backups_stay(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    backup(monkeypatch, tmp_path)
    with pytest.raises(AnsibleActionFail, match="node1: Consul says no"):
        backup(monkeypatch, tmp_path, Host(failed=True, msg="node1: Consul says no"), keep=1)
    assert len(list(tmp_path.glob("*.vault"))) == 1


def test_in_check_mode_nothing_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert backup(monkeypatch, tmp_path / "new", check=True)["changed"]
    assert not (tmp_path / "new").exists()


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    return str(backup(monkeypatch, tmp_path)["path"])


def test_hosts_of_no_cluster_get_the_secrets(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    silent = Host(answers=False, why="nobody", networks=[])
    result = restore(monkeypatch, "judge", path, silent, secrets={})
    assert (result["fresh"], result["secrets"]) == (True, SECRETS)
    assert result["_ansible_no_log"]


def test_who_has_secrets_gets_none(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    result = restore(monkeypatch, "judge", path, confirm=True)
    assert (result["fresh"], result["secrets"]) == (False, {})


def test_without_consent_the_store_is_only_read(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    host = Host(networks=[{**NETWORK, "id": "n2", "name": "new"}])
    with pytest.raises(AnsibleActionFail, match=r"network new \(10.9.1.0/24\).*overlay_restore_confirm=yes"):
        restore(monkeypatch, "judge", path, host)
    assert restore(monkeypatch, "judge", path, host, check=True)["fresh"] is False
    assert set(host.states()) == {"read"}


@pytest.mark.parametrize("step", ["judge", "drill", "restore", "compare"])
@pytest.mark.parametrize("fault", ["damaged", "passphrase", "unnamed"])
def test_a_backup_that_cannot_be_opened_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, path: str, step: str, fault: str
) -> None:
    host = Host()
    if fault == "damaged":
        Path(path).write_bytes(Path(path).read_bytes()[:-1] + b"0")
    given = {"passphrase": "another passphrase"} if fault == "passphrase" else {}
    words = {"damaged": "is damaged", "passphrase": "passphrase is not the one", "unnamed": "name a backup"}[fault]
    with pytest.raises(AnsibleActionFail, match=words):
        restore(monkeypatch, step, "" if fault == "unnamed" else path, host, confirm=True, **given)
    assert host.asked == []


@pytest.mark.parametrize("step", ["judge", "drill"])
def test_one_of_another_cluster_is_refused(monkeypatch: pytest.MonkeyPatch, path: str, step: str) -> None:
    host = Host()
    with pytest.raises(AnsibleActionFail, match="keep the secrets of"):
        restore(monkeypatch, step, path, host, confirm=True, secrets=cluster.new())
    assert host.states() == ["read"]


def test_it_is_put_back_and_looked_at(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    host = Host()
    assert restore(monkeypatch, "restore", path, host)["networks"] == ["network shop (10.9.1.0/24)"]
    assert host.asked[-1]["content"] == "c25hcA=="
    with pytest.raises(AnsibleActionFail, match=r"network shop .* is not there"):
        restore(monkeypatch, "restore", path, Host(networks=[]))


def test_networks_are_compared_in_the_end(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    assert restore(monkeypatch, "compare", path)["networks"] == ["network shop (10.9.1.0/24)"]
    assert restore(monkeypatch, "compare", path, Host(networks=[]), absent=["shop"])["networks"] == []
    with pytest.raises(AnsibleActionFail, match="is not there"):
        restore(monkeypatch, "compare", path, Host(networks=[]))
    with pytest.raises(AnsibleActionFail, match="nobody"):
        restore(monkeypatch, "compare", path, Host(answers=False, why="nobody", networks=[]))


def test_a_drill_says_what_has_changed_since(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    host = Host(differences={"added": ["network new"], "removed": [], "changed": []})
    assert restore(monkeypatch, "drill", path, host)["equal"] is False
    assert host.states() == ["read", "drilled"]
    assert "came after the backup: network new" in consul_restore.drill_lines(host.answer)[1]
    assert restore(monkeypatch, "drill", path, Host(differences={"added": []}))["equal"] is True
    with pytest.raises(AnsibleActionFail, match="nobody"):
        restore(monkeypatch, "drill", path, Host(answers=False, why="nobody", networks=[]))
