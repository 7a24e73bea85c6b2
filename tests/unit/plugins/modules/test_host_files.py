# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What host_files decides on a file, and that it records before it writes."""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest, ManifestError
from ansible_collections.multihost.overlay.plugins.modules import host_files

ME = pwd.getpwuid(os.getuid()).pw_name
MY_GROUP = grp.getgrgid(os.getgid()).gr_name


def entry(path: Path, content: str | None = "new\n", **changes: Any) -> dict[str, Any]:
    base = {
        "path": str(path),
        "content": content,
        "state": "present",
        "mode": "0644",
        "owner": ME,
        "group": MY_GROUP,
    }
    return {**base, **changes}


class FakeModule:
    check_mode = False

    def __init__(self, **params: Any) -> None:
        self.params = {
            "role": "r",
            "packages": [],
            "sysctls": {},
            "units": [],
            "directories": [],
            "files": [],
            "secrets": {},
            **params,
        }

    def fail_json(self, msg: str) -> None:
        raise AssertionError(msg)


@pytest.fixture
def manifest_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "state" / "manifest.json"
    original = Manifest.load
    monkeypatch.setattr(host_files.Manifest, "load", lambda: original(str(path)))
    return path


def test_a_missing_file_is_written_and_a_present_one_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "a"
    assert host_files.plan_file(entry(target), None, False) == "write"
    target.write_text("new\n")
    target.chmod(0o644)
    assert host_files.plan_file(entry(target), host_files.read_path(str(target)), False) is None
    assert host_files.plan_file(entry(target, mode="0600"), host_files.read_path(str(target)), False) == "attributes"
    assert host_files.plan_file(entry(target, "other\n"), host_files.read_path(str(target)), False) == "write"


def test_what_lies_on_the_way_is_open_to_others_whatever_the_umask(
    tmp_path: Path, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sudo hands on a user's umask, and a service's own user has to get at its configuration."""
    there = tmp_path / "there"
    there.mkdir(mode=0o750)
    params = {
        "files": [entry(there / "conf" / "a.json")],
        "directories": [entry(there / "deep" / "data", mode="0700", with_content=False)],
    }
    before = os.umask(0o077)
    try:
        host_files.run(FakeModule(**params))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (there, *there.rglob("*"))}
    assert modes == {"there": 0o750, "conf": 0o755, "a.json": 0o644, "deep": 0o755, "data": 0o700}


def test_only_a_file_of_ours_is_removed() -> None:
    wanted = {**entry(Path("/x")), "state": "absent"}
    found = {"content": b"", "mode": 0o644, "owner": ME, "group": MY_GROUP}
    assert host_files.plan_file(wanted, found, ours=False) is None
    assert host_files.plan_file(wanted, found, ours=True) == "remove"
    assert host_files.plan_file(wanted, None, ours=True) is None


def test_the_users_file_is_backed_up_and_recorded_before_it_is_replaced(
    tmp_path: Path, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "conf"
    target.write_text("the user's\n")
    seen = {}

    def record_then_write(path: str, *args: Any) -> None:
        seen["manifest"] = json.loads(manifest_path.read_text())
        raise OSError("power cut")

    monkeypatch.setattr(host_files, "write_atomic", record_then_write)
    with pytest.raises(OSError, match="power cut"):
        host_files.run(FakeModule(files=[entry(target)]))
    recorded = seen["manifest"]["files"][str(target)]
    assert recorded["existed"] is True
    assert Path(recorded["backup"]).read_text() == "the user's\n"
    assert target.read_text() == "the user's\n"


def test_a_second_run_changes_nothing_and_the_first_record_wins(tmp_path: Path, manifest_path: Path) -> None:
    target = tmp_path / "conf"
    target.write_text("the user's\n")
    assert host_files.run(FakeModule(files=[entry(target)]))["changed"] is True
    assert host_files.run(FakeModule(files=[entry(target)]))["changed"] is False
    assert host_files.run(FakeModule(files=[entry(target, "third\n")]))["changed"] is True
    backup = json.loads(manifest_path.read_text())["files"][str(target)]["backup"]
    assert Path(backup).read_text() == "the user's\n"
    assert manifest_path.stat().st_mode & 0o777 == 0o600


def test_check_mode_says_the_same_and_writes_nothing(tmp_path: Path, manifest_path: Path) -> None:
    module = FakeModule(files=[entry(tmp_path / "conf")], directories=[])
    module.check_mode = True
    result = host_files.run(module)
    assert result["changed"] is True and result["diff"][0]["after"] == "new\n"
    assert not (tmp_path / "conf").exists() and not manifest_path.exists()


def test_a_secret_is_not_in_the_diff(tmp_path: Path, manifest_path: Path) -> None:
    target = tmp_path / "s"
    module = FakeModule(files=[entry(target, content=None)], secrets={str(target): "token\n"})
    assert "token" not in json.dumps(host_files.run(module))
    assert target.read_text() == "token\n"


def test_a_secret_is_not_in_the_journal() -> None:
    """Modules write there how they were called, before any of our code runs; what is within a list is not left out."""
    arguments: dict[str, Any] = host_files.ARGUMENTS
    assert arguments["secrets"]["no_log"] is True
    assert not [name for name in host_files.FILE_SPEC if "secret" in name]


def test_a_file_without_content_is_an_error(tmp_path: Path, manifest_path: Path) -> None:
    with pytest.raises(ValueError, match="neither content"):
        host_files.run(FakeModule(files=[entry(tmp_path / "s", content=None)]))


def test_a_damaged_manifest_names_itself_and_changes_nothing(tmp_path: Path, manifest_path: Path) -> None:
    manifest_path.parent.mkdir()
    manifest_path.write_text("{")
    with pytest.raises(ManifestError, match="cannot be read"):
        host_files.run(FakeModule(files=[entry(tmp_path / "conf")]))
    assert not (tmp_path / "conf").exists()


def test_a_manifest_of_a_newer_version_is_refused(manifest_path: Path) -> None:
    manifest_path.parent.mkdir()
    manifest_path.write_text('{"schema_version": 99}')
    with pytest.raises(ManifestError, match="newer version"):
        host_files.run(FakeModule())


def test_packages_that_are_there_already_are_not_ours(manifest_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_files, "run_program", lambda argv: (0, "curl installed\nconsul config-files\n", ""))
    host_files.run(FakeModule(packages=["consul", "curl"]))
    monkeypatch.setattr(host_files, "run_program", lambda argv: (0, "curl installed\nconsul installed\n", ""))
    host_files.run(FakeModule(packages=["consul", "unzip"]))
    kept = json.loads(manifest_path.read_text())
    assert list(kept["packages"]) == ["consul", "unzip"]
    # Of the first time: what is there later may have come with ours.
    assert kept["state"]["packages_before"] == {"curl": "installed", "consul": "config-files"}


def test_settings_of_the_kernel_are_remembered_as_they_were_first(
    manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = {"a.b": "0", "a.c": "1"}
    monkeypatch.setattr(host_files, "run_program", lambda argv: (0, live.get(argv[-1], "") + "\n", ""))
    wanted = {"a.b": 1, "a.c": 1, "a.none": 1}
    host_files.run(FakeModule(sysctls=wanted))
    live["a.b"] = "5"
    host_files.run(FakeModule(sysctls=wanted))
    assert json.loads(manifest_path.read_text())["sysctls"] == {"a.b": {"role": "r", "prior": "0", "ours": "1"}}


def test_directories_that_were_not_there_are_remembered(tmp_path: Path, manifest_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "thing").touch()
    (tmp_path / "empty").mkdir()
    places = [tmp_path / "new" / "data", tmp_path / "users", tmp_path / "empty"]
    module = FakeModule(
        directories=[entry(place, mode="0750", with_content=True) for place in places],
        files=[entry(tmp_path / "deep" / "er" / "conf")],
    )
    host_files.run(module)
    (tmp_path / "new" / "data" / "raft").touch()
    host_files.run(module)
    made, role = {"role": "r", "made": True}, {"role": "r", "made": False}
    assert json.loads(manifest_path.read_text())["directories"] == {
        str(tmp_path / "new"): made,
        str(tmp_path / "new" / "data"): {**made, "content": True},
        # What lies in the user's is the user's.
        str(tmp_path / "empty"): {**role, "content": True},
        str(tmp_path / "deep"): made,
        str(tmp_path / "deep" / "er"): made,
    }


def test_users_and_groups_that_are_there_already_are_not_ours(
    tmp_path: Path, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_files, "SYSUSERS", str(tmp_path))
    monkeypatch.setattr(host_files, "run_program", lambda argv: (0, "", ""))
    text = f'# Ours.\nu overlay-nobody-has-this - "A name"\nu {ME} -\ng overlay-nor-this -\ng {MY_GROUP} -\n'
    host_files.run(FakeModule(files=[entry(tmp_path / "a.conf", text)]))
    kept = json.loads(manifest_path.read_text())
    assert (list(kept["users"]), list(kept["groups"])) == (["overlay-nobody-has-this"], ["overlay-nor-this"])


def test_what_we_wrote_is_known_by_its_digest_and_by_that_of_the_time_before(
    tmp_path: Path, manifest_path: Path
) -> None:
    """A run may be killed after the manifest was written and before the file."""
    target = tmp_path / "conf"
    for content in ("one\n", "two\n", "three\n"):
        host_files.run(FakeModule(files=[entry(target, content)]))
    digests = [hashlib.sha256(content).hexdigest() for content in (b"three\n", b"two\n")]
    assert json.loads(manifest_path.read_text())["files"][str(target)]["digests"] == digests


def test_units_are_told_of_in_the_same_call(manifest_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"a.service": {"ActiveState": "active", "UnitFileState": "enabled", "NeedDaemonReload": "no"}}
    monkeypatch.setattr(
        host_files, "units", lambda names: states if names == ["a.service"] else pytest.fail(str(names))
    )
    told = host_files.run(FakeModule(units=["a.service"]))["units"]
    assert told == {"a.service": {"active": "active", "enabled": "enabled", "needs_reload": False}}


@pytest.mark.parametrize(
    "killed", [False, True], ids=["in one go", "after a run that was killed before the users were made"]
)
def test_users_are_made_before_the_files_that_may_be_theirs(
    tmp_path: Path, manifest_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool
) -> None:
    monkeypatch.setattr(host_files, "SYSUSERS", str(tmp_path / "sysusers.d"))
    theirs, users = tmp_path / "theirs", tmp_path / "sysusers.d" / "a.conf"
    files = [entry(theirs), entry(users)]
    if killed:
        users.parent.mkdir()
        users.write_text(files[1]["content"])
    made: list[list[str]] = []

    def program(argv: list[str]) -> tuple[int, str, str]:
        made.append([*argv, str(theirs.exists())])
        return 0, "", ""

    monkeypatch.setattr(host_files, "run_program", program)
    host_files.run(FakeModule(files=files))
    host_files.run(FakeModule(files=files))
    assert made == [["systemd-sysusers", str(users), "False"]]
    assert theirs.exists()


def test_users_that_cannot_be_made_are_an_error(
    tmp_path: Path, manifest_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_files, "SYSUSERS", str(tmp_path))
    monkeypatch.setattr(host_files, "run_program", lambda argv: (1, "", "no room\n"))
    with pytest.raises(OSError, match=r"a\.conf: no room"):
        host_files.run(FakeModule(files=[entry(tmp_path / "a.conf")]))
