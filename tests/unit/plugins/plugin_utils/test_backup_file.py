# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups as files on the controller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _backup_file as files
from ansible_collections.multihost.overlay.plugins.plugin_utils._backup_file import BackupError

SECRET = b"correct horse battery"


def content(day: int = 1, cluster: str = "0123456789abcdef", **more: Any) -> dict[str, Any]:
    return {
        "schema_version": 1, "cluster": cluster, "time": f"2027-01-{day:02}T12:00:00Z", "store": "consul", "scope": "everything",
        "consul_version": "1.8.7", "networks": [{"name": "hidden"}], "secrets": {"seed": "5ec4e7"}, "content": "c25hcA==", **more,
    }  # fmt: skip


def written(folder: Path, **more: Any) -> Path:
    return files.write(folder, content(**more), SECRET)[0]


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = written(tmp_path / "new" / "folder")
    assert files.read(path, SECRET) == content()
    assert path.name == "overlay-backup-0123456789abcdef-20270101T120000Z.vault"
    assert [oct(entry.stat().st_mode & 0o777) for entry in sorted(path.parent.iterdir())] == ["0o600", "0o600"]
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_it_opens_without_this_collection(tmp_path: Path) -> None:
    """By ansible-vault, which knows it by its first line."""
    assert written(tmp_path).read_bytes().startswith(b"$ANSIBLE_VAULT;1.1;AES256\n")


def test_nothing_secret_and_no_name_stands_in_clear_text(tmp_path: Path) -> None:
    path = written(tmp_path)
    for file in (path, files.manifest_path(path)):
        text = file.read_text()
        assert not [word for word in ("5ec4e7", "hidden", "c25hcA") if word in text]
    assert json.loads(files.manifest_path(path).read_text())["networks"] == 1


@pytest.mark.parametrize("place", [0, 200, -2])
def test_one_byte_is_enough_to_refuse_it(tmp_path: Path, place: int) -> None:
    path = written(tmp_path)
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(BackupError, match=r"is damaged.*Nothing was changed"):
        files.read(path, SECRET)
    files.manifest_path(path).unlink()
    with pytest.raises(BackupError, match="damaged, or the passphrase is wrong"):
        files.read(path, SECRET)


def test_a_file_that_is_cut_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BackupError, match="is damaged"):
        files.read(path, SECRET)
    with pytest.raises(BackupError, match="cannot be read"):
        files.read(tmp_path / "nowhere", SECRET)


def test_of_a_whole_file_it_is_the_passphrase_that_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="the passphrase is not the one"):
        files.read(written(tmp_path), b"another passphrase")


def test_it_opens_without_its_manifest(tmp_path: Path) -> None:
    path = written(tmp_path)
    files.manifest_path(path).unlink()
    assert files.read(path, SECRET) == content()


def test_what_a_later_version_wrote_is_refused_before_a_passphrase_is_tried(tmp_path: Path) -> None:
    path = written(tmp_path, schema_version=2)
    with pytest.raises(BackupError, match="schema_version 2"):
        files.read(path, b"any passphrase")
    files.manifest_path(path).unlink()
    with pytest.raises(BackupError, match="schema_version 2"):
        files.read(path, SECRET)


def test_a_disk_that_does_not_keep_what_is_written_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "opened", lambda *_args, **_more: {})
    with pytest.raises(BackupError, match="was not read back"):
        written(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_so_many_stay_and_none_of_another_cluster_goes(tmp_path: Path) -> None:
    paths = [written(tmp_path, day=day) for day in (1, 2, 3, 4)]
    other = written(tmp_path, day=1, cluster="fedcba9876543210")
    (tmp_path / "overlay-backup-0123456789abcdef-20260101T120000Z.vault").write_text("not finished: no manifest")
    (tmp_path / "mine.vault").write_text("somebody's")
    assert files.prune(tmp_path, "0123456789abcdef", 2, paths[3]) == [paths[1].name, paths[0].name]
    left = {path.name for path in tmp_path.glob("*.vault")}
    assert left == {
        paths[2].name, paths[3].name, other.name, "mine.vault", "overlay-backup-0123456789abcdef-20260101T120000Z.vault",
    }  # fmt: skip
    assert len(list(tmp_path.glob("*.json"))) == 3


def test_the_one_that_was_just_written_stays_also_with_a_clock_that_went_back(tmp_path: Path) -> None:
    old, newest = written(tmp_path, day=9), written(tmp_path, day=1)
    assert files.prune(tmp_path, "0123456789abcdef", 1, newest) == [old.name]
    assert newest.exists()


def test_a_manifest_that_lies_about_its_cluster_takes_nothing_away(tmp_path: Path) -> None:
    other = written(tmp_path, day=1, cluster="fedcba9876543210")
    manifest = json.loads(files.manifest_path(other).read_text())
    files.manifest_path(other).write_text(json.dumps({**manifest, "cluster": "0123456789abcdef"}))
    newest = written(tmp_path, day=2)
    assert files.prune(tmp_path, "0123456789abcdef", 1, newest) == []


def test_what_there_is_is_listed(tmp_path: Path) -> None:
    assert "There is none" in files.listed(tmp_path)
    path = written(tmp_path)
    assert str(path) in files.listed(tmp_path)
    assert "1 networks" in files.listed(tmp_path)


@pytest.mark.parametrize(
    ("given", "file", "words"),
    [
        ("", "", "there is no passphrase"),
        ("short", "", "fewer than 12"),
        ("correct horse battery", "/some/file", "both set"),
        ("", "/nowhere/at/all", "cannot be read"),
    ],
)
def test_without_a_good_passphrase_nothing_begins(given: str, file: str, words: str) -> None:
    with pytest.raises(BackupError, match=words):
        files.passphrase(given, file)


def test_a_passphrase_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pass").write_text("correct horse battery\n")
    assert files.passphrase("", str(tmp_path / "pass")) == SECRET
    assert files.passphrase(SECRET.decode(), "") == SECRET
