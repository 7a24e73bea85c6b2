# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The manifest: what this collection owns on a host, with the values that were there before.

It is written before the first change, so that a run that is killed anywhere leaves a host whose history is known.
The first record of a thing wins: what a later run finds is our own doing, not the user's.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from typing import Any, Iterable, Mapping

STATE_DIR = "/var/lib/multihost-overlay"
DEFAULT_PATH = STATE_DIR + "/manifest.json"
SCHEMA_VERSION = 1
# In the state: what stood in the distribution's list of packages before the first of ours. What came with ours is not there.
PACKAGES_BEFORE = "packages_before"
SECTIONS = ("directories", "files", "groups", "keys", "packages", "state", "sysctls", "users")


class ManifestError(Exception):
    """The manifest on this host cannot be used; the message names the file and the cure."""


def make_directories(path: str) -> None:
    """Make a directory and what is missing above it, to be entered by all: not as the umask of a user, which sudo hands on, has it."""
    before = os.umask(0o022)
    try:
        os.makedirs(path, exist_ok=True)
    finally:
        os.umask(before)


def write_atomic(path: str, content: bytes, mode: int, uid: int | None = None, gid: int | None = None) -> None:
    """Replace ``path`` as a whole: a reader, or a power cut, sees the old content or the new one."""
    directory = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(prefix="." + os.path.basename(path), dir=directory)
    try:
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, mode)
        if uid is not None or gid is not None:
            os.chown(temporary, -1 if uid is None else uid, -1 if gid is None else gid)
        os.replace(temporary, path)
        _sync_directory(directory)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise


def _sync_directory(directory: str) -> None:
    # Without it the rename itself may be lost in a power cut.
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Manifest:
    """The parsed manifest of one host; nothing is written before ``save``."""

    def __init__(self, path: str, data: dict[str, Any]) -> None:
        self.path = path
        self.data = data
        self._saved = json.dumps(data, sort_keys=True)

    @classmethod
    def load(cls, path: str = DEFAULT_PATH) -> Manifest:
        """Read the manifest, or start an empty one. Raise ManifestError when the file is damaged or too new."""
        data: dict[str, Any] = {"schema_version": SCHEMA_VERSION, **{section: {} for section in SECTIONS}}
        try:
            with open(path, encoding="utf-8") as handle:
                found = json.load(handle)
        except FileNotFoundError:
            found = {}
        except (OSError, ValueError) as exc:
            raise ManifestError(
                f"{path} cannot be read: {exc}. Restore it from a backup, or move it away to start anew "
                "(reset will then not know what was there before)."
            ) from exc
        if found.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
            raise ManifestError(f"{path} was written by a newer version of multihost.overlay: use that version.")
        data.update(found)
        return cls(path, data)

    @property
    def dirty(self) -> bool:
        """Whether there is something to save."""
        return json.dumps(self.data, sort_keys=True) != self._saved

    @property
    def state(self) -> dict[str, Any]:
        """A place for modules to remember what cannot be read off the host, such as a restart that is due."""
        result: dict[str, Any] = self.data["state"]
        return result

    def owns_file(self, path: str) -> bool:
        return path in self.data["files"]

    def owned_keys(self, path: str) -> dict[str, Any]:
        """Our keys in a file that we share with the user, each with ``role``, ``had`` and ``prior``."""
        result: dict[str, Any] = self.data["keys"].get(path, {})
        return result

    def record_file(self, path: str, role: str, content: bytes | None = None) -> None:
        """Remember that ``path`` becomes ours; what stood there is copied beside the manifest by ``save``.

        By the digests of what we write it is known later whether somebody has changed it since. A run may be killed before it writes, so
        that the one before counts too. A file without ``content`` is shared with the user: of that our keys are known.
        """
        entry = self.data["files"].setdefault(path, self._found(path, role))
        if content is not None:
            digest = hashlib.sha256(content).hexdigest()
            entry["digests"] = [digest, *(known for known in entry.get("digests", []) if known != digest)][:2]

    def _found(self, path: str, role: str) -> dict[str, Any]:
        """What stands at ``path`` before we do; directories that it lacks are recorded."""
        if path in self.data["files"]:
            return {}
        self._record_missing(os.path.dirname(path), role)
        if not os.path.lexists(path):
            return {"role": role, "existed": False, "backup": None}
        status = os.stat(path)
        attributes = {"mode": status.st_mode & 0o7777, "uid": status.st_uid, "gid": status.st_gid}
        return {"role": role, "existed": True, "backup": self.copy_path(path, "backup"), "attributes": attributes}

    def record_directory(self, path: str, role: str, content: bool = False) -> None:
        """Remember a directory that is not there yet. With ``content`` all that comes to lie in it is ours too, if nothing does yet."""
        known = path in self.data["directories"]
        empty = not os.path.isdir(path) or not os.listdir(path)
        self._record_missing(path, role)
        if content and empty and not known:
            self.data["directories"].setdefault(path, {"role": role, "made": False})["content"] = True

    def _record_missing(self, path: str, role: str) -> None:
        while path not in ("", "/") and not os.path.lexists(path):
            self.data["directories"].setdefault(path, {"role": role, "made": True})
            path = os.path.dirname(path)

    def record_key(self, path: str, key: str, role: str, had: bool, prior: Any) -> None:
        """Remember that one key of a shared JSON file becomes ours, and what its value was."""
        self.data["keys"].setdefault(path, {}).setdefault(key, {"role": role, "had": had, "prior": prior})

    def forget_key(self, path: str, key: str) -> None:
        self.data["keys"].get(path, {}).pop(key, None)

    def record_sysctl(self, key: str, role: str, prior: str, ours: str) -> None:
        """Remember what a setting of the running kernel was, and what we make it."""
        self.data["sysctls"].setdefault(key, {"role": role, "prior": prior})["ours"] = ours

    def record_account(self, section: str, name: str, role: str) -> None:
        """Remember a user or a group (``section`` says which) that is not there yet."""
        self.data[section].setdefault(name, {"role": role})

    def forget(self, section: str, name: str) -> None:
        """Drop an entry, once what it stands for is undone; a file's backup goes with it."""
        entry = self.data[section].pop(name, None)
        self.save()
        backup = (entry or {}).get("backup")
        if backup and os.path.exists(backup):
            os.unlink(backup)

    def record_packages(self, names: Iterable[str], role: str, before: Mapping[str, str]) -> None:
        """Remember packages that were not there before we installed them, and with the first of them the state of all that were."""
        for name in names:
            self.data["packages"].setdefault(name, {"role": role})
        if self.data["packages"]:
            self.state.setdefault(PACKAGES_BEFORE, dict(before))

    def save(self) -> None:
        """Write the manifest (mode 0600), after the backups of the files that it newly names."""
        if not self.dirty:
            return
        os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
        known = json.loads(self._saved)["files"]
        for path, entry in self.data["files"].items():
            if path not in known and entry["backup"]:
                self._keep_backup(path, entry["backup"])
        text = json.dumps(self.data, indent=2, sort_keys=True) + "\n"
        write_atomic(self.path, text.encode(), 0o600)
        self._saved = json.dumps(self.data, sort_keys=True)

    def copy_path(self, path: str, folder: str) -> str:
        """Where a copy of a file lies, in a folder beside the manifest."""
        digest = hashlib.sha256(path.encode()).hexdigest()[:12]
        return os.path.join(os.path.dirname(self.path), folder, f"{os.path.basename(path)}.{digest}")

    @staticmethod
    def _keep_backup(path: str, backup: str) -> None:
        # A backup that is there already was made by a run that was killed before the manifest was written.
        if os.path.exists(backup) or not os.path.isfile(path):
            return
        os.makedirs(os.path.dirname(backup), mode=0o700, exist_ok=True)
        with open(path, "rb") as handle:
            write_atomic(backup, handle.read(), 0o600)
