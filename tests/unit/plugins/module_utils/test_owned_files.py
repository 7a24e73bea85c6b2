# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a host's files, and that nothing else is taken for in order."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _owned_files as owned
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest

UNIT = "multihost-overlay-consul.service"
FILE = {
    "path": "/etc/x/a.json",
    "content": "{}\n",
    "state": "present",
    "mode": "0644",
    "owner": "root",
    "group": "root",
}
SECRET = {**FILE, "path": "/etc/x/s.json", "content": None, "mode": "0600"}
FOLDER = {"path": "/etc/x", "mode": "0755", "owner": "root", "group": "root"}
GONE = {**FILE, "path": "/etc/x/gone", "content": None, "state": "absent"}
WANTED: dict[str, Any] = {
    "packages": [],
    "sysctls": {},
    "units": [UNIT],
    "directories": [FOLDER],
    "files": [FILE, SECRET, GONE],
    "secrets": {"/etc/x/s.json": "token\n"},
}


def known() -> dict[str, Any]:
    return {
        "files": {
            "/etc/x/a.json": owned.described(0o644, "root", "root", b"{}\n"),
            "/etc/x/s.json": owned.described(0o600, "root", "root", b"token\n"),
            "/etc/x/gone": None,
        },
        "directories": {"/etc/x": "0755 root root -"},
        "units": {UNIT: {"active": "active"}},
    }


def test_a_host_in_order_is() -> None:
    assert owned.in_order(WANTED, known())
    assert not owned.in_order(WANTED, None)
    assert not owned.in_order({**WANTED, "units": [], "directories": [], "files": [GONE]}, None)


@pytest.mark.parametrize(
    "change",
    [
        {"packages": ["consul"]},
        {"sysctls": {"net.ipv4.ip_forward": "1"}},
        {"units": [UNIT, "other.service"]},
        {"directories": [{**FOLDER, "mode": "0700"}]},
        {"directories": [{**FOLDER, "path": "/etc/y"}]},
        {"files": [{**FILE, "content": "{ }\n"}]},
        {"files": [{**FILE, "content": None}]},
        {"files": [{**FILE, "mode": "0600"}]},
        {"files": [{**FILE, "owner": "nobody"}]},
        {"files": [{**FILE, "path": "/etc/x/new"}]},
        {"files": [{**FILE, "state": "absent"}]},
        {"files": [{**GONE, "state": "present"}]},
        {"secrets": {"/etc/x/s.json": "another\n"}},
    ],
)
def test_a_host_that_differs_in_anything_is_not(change: dict[str, Any]) -> None:
    assert not owned.in_order({**WANTED, **change}, known())


@pytest.mark.parametrize("name", ["files", "directories", "units"])
def test_nor_is_one_of_which_something_is_not_known(name: str) -> None:
    assert not owned.in_order(WANTED, {**known(), name: {}})


def test_a_host_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "a.json"
    file.write_text("{}\n")
    file.chmod(0o640)
    state = tmp_path / "manifest.json"
    state.write_text(json.dumps({"files": {str(file): {}, str(tmp_path / "none"): {}}}))
    original = Manifest.load
    monkeypatch.setattr(owned.Manifest, "load", lambda: original(str(state)))
    monkeypatch.setattr(owned, "SECRETS", str(tmp_path / "secrets.json"))
    found = owned.read_owned()
    assert found is not None
    me = owned.read_path(str(file))
    assert me is not None
    whose = f"{me['owner']} {me['group']}"
    content = hashlib.sha256(b"{}\n").hexdigest()
    assert found["files"] == {str(file): f"0640 {whose} {content}", str(tmp_path / "none"): None, owned.SECRETS: None}
    assert found["directories"][str(tmp_path)] == f"{os.stat(tmp_path).st_mode & 0o7777:04o} {whose} -"
    state.write_text("{")
    assert owned.read_owned() is None
