# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of ours on a host, as preflight finds them: by these it is known, without asking again, that nothing is to be written."""

from __future__ import annotations

import grp
import hashlib
import os
import pwd
import stat
from typing import Any, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest, ManifestError
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import summary, units

NONE: dict[str, dict[str, Any]] = {"files": {}, "directories": {}, "units": {}}
# Those of which M(multihost.overlay.host_files) is asked to tell.
UNIT_FILES = {"/etc/systemd/system/multihost-overlay-consul.service": "multihost-overlay-consul.service"}


def _name_of(lookup: Any, number: int) -> str:
    try:
        return str(lookup(number)[0])
    except KeyError:
        return str(number)


def read_path(path: str) -> dict[str, Any] | None:
    """What stands at ``path``: mode, owner, group, and the content of a regular file; None when nothing does."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    content = None
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as handle:
            content = handle.read()
    return {
        "content": content,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": _name_of(pwd.getpwuid, status.st_uid),
        "group": _name_of(grp.getgrgid, status.st_gid),
    }


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _described(path: str) -> dict[str, Any] | None:
    """The same in few words, for a fact: of secrets too nothing else is told."""
    found = read_path(path)
    if found is None:
        return None
    content = found.pop("content")
    return {**found, "mode": f"{found['mode']:04o}", "digest": None if content is None else digest(content)}


def read_owned() -> dict[str, dict[str, Any]]:
    """The manifest's files, their directories, and units of ours. Without a manifest that can be read nothing is known."""
    try:
        paths = sorted(Manifest.load().data["files"])
    except ManifestError:
        return NONE
    asked = [name for path, name in UNIT_FILES.items() if path in paths]
    return {
        "files": {path: _described(path) for path in paths},
        "directories": {path: _described(path) for path in sorted({os.path.dirname(path) for path in paths})},
        "units": {name: summary(state) for name, state in units(asked).items()} if asked else {},
    }


def _in_place(wanted: Mapping[str, Any], found: Mapping[str, Any] | None) -> bool:
    """Whether there is something with these attributes."""
    return found is not None and all(found[name] == wanted[name] for name in ("mode", "owner", "group"))


def _file_in_order(wanted: Mapping[str, Any], secrets: Mapping[str, str], known: Mapping[str, Any]) -> bool:
    path = wanted["path"]
    if wanted["state"] == "absent":
        return known.get(path) is None
    content = secrets.get(path, wanted["content"])
    return (
        _in_place(wanted, known.get(path)) and content is not None and known[path]["digest"] == digest(content.encode())
    )


def in_order(wanted: Mapping[str, Any], owned: Mapping[str, Any]) -> bool:
    """Whether all that M(multihost.overlay.host_files) is given is there, and all that it is asked is known."""
    return (
        not wanted["packages"]
        and all(name in owned["units"] for name in wanted["units"])
        and all(_in_place(entry, owned["directories"].get(entry["path"])) for entry in wanted["directories"])
        and all(_file_in_order(entry, wanted["secrets"], owned["files"]) for entry in wanted["files"])
    )
