# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""main() of host_firewall, and that its arguments are those of its documentation."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import pytest
import yaml

from ansible_collections.multihost.overlay.plugins.module_utils import _firewall_host as host
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest
from ansible_collections.multihost.overlay.plugins.modules import host_firewall

PARAMS = {"ports": ["7946/tcp", "4789/udp"], "peers": ["10.88.0.11"]}


@pytest.fixture(autouse=True)
def _a_bare_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No program is run and no file is found."""
    original = Manifest.load
    monkeypatch.setattr(host_firewall.Manifest, "load", lambda: original(str(tmp_path / "manifest.json")))
    monkeypatch.setattr(host_firewall, "run_program", lambda argv, stdin="": (127, "", "not there"))
    monkeypatch.setattr(host, "program", lambda name: "")
    monkeypatch.setattr(host, "read_file", lambda path: None)
    monkeypatch.delenv("SSH_CONNECTION", raising=False)


def test_a_dry_run_shows_the_rules(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module(host_firewall.main, PARAMS, check=True, diff=True)
    assert result["changed"] is True
    assert "load the table inet multihost_overlay" in result["steps"]
    assert "tcp dport { 7946 } counter drop" in result["diff"][0]["after"]
    assert result["managers"] == []


def test_without_nft_it_says_what_to_install(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module(host_firewall.main, PARAMS)
    assert result["failed"]
    assert "package nftables" in result["msg"]


@pytest.mark.parametrize("params", [{"state": "absent", **PARAMS}, {"ports": []}])
def test_nothing_of_ours_is_nothing_to_do(run_module: Callable[..., dict[str, Any]], params: dict[str, Any]) -> None:
    assert run_module(host_firewall.main, params)["changed"] is False


def test_ssh_is_not_closed(run_module: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    assert "7946/tcp is SSH's" in run_module(host_firewall.main, {**PARAMS, "ssh_port": 7946})["msg"]
    # Behind a forwarded port Ansible knows another number than sshd.
    monkeypatch.setenv("SSH_CONNECTION", "10.0.0.1 50000 10.0.0.2 7946")
    assert "7946/tcp is SSH's" in run_module(host_firewall.main, PARAMS)["msg"]


def test_a_bad_list_is_refused(run_module: Callable[..., dict[str, Any]]) -> None:
    result = run_module(host_firewall.main, {**PARAMS, "allow": ["10.0.0.1/8"]})
    assert "'10.0.0.1/8' is neither" in result["msg"]


def test_documentation_and_arguments_agree() -> None:
    options = yaml.safe_load(host_firewall.DOCUMENTATION)["options"]
    documented = {
        name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()
    }
    assert documented == host_firewall.ARGUMENTS


def test_documentation_is_yaml() -> None:
    for part in (host_firewall.DOCUMENTATION, host_firewall.EXAMPLES, host_firewall.RETURN):
        assert yaml.safe_load(part)
