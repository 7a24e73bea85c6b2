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
from ansible_collections.multihost.overlay.plugins.module_utils._secrets import PATH as SECRETS
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import summary, units

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


def described(mode: int, owner: str, group: str, content: bytes | None) -> str:
    """The same in one line, for a fact, which Ansible copies for each task.

    Of secrets too nothing else is told: keys, and tokens that are UUIDs, are too long to be guessed from it.
    """
    digest = "-" if content is None else hashlib.sha256(content).hexdigest()
    return f"{mode:04o} {owner} {group} {digest}"


def _seen(path: str) -> str | None:
    found = read_path(path)
    return None if found is None else described(**found)


def read_owned() -> dict[str, dict[str, Any]] | None:
    """The manifest's files and the cluster's secrets, their directories, and units of ours; None where the manifest cannot be read."""
    try:
        manifest = Manifest.load()
    except ManifestError:
        return None
    paths, made = sorted({*manifest.data["files"], SECRETS}), manifest.data["directories"]
    asked = [name for path, name in UNIT_FILES.items() if path in paths]
    return {
        "files": {path: _seen(path) for path in paths},
        "directories": {path: _seen(path) for path in sorted({*map(os.path.dirname, paths), *made})},
        "units": {name: summary(state) for name, state in units(asked).items()} if asked else {},
    }


def _wanted(entry: Mapping[str, Any], content: str | None) -> str:
    mode, owner, group = int(entry["mode"], 8), entry["owner"], entry["group"]
    return described(mode, owner, group, None if content is None else content.encode())


def _file_in_order(wanted: Mapping[str, Any], secrets: Mapping[str, str], known: Mapping[str, Any]) -> bool:
    path = wanted["path"]
    if wanted["state"] == "absent":
        return known.get(path) is None
    return bool(known.get(path) == _wanted(wanted, secrets.get(path, wanted["content"])))


def in_order(wanted: Mapping[str, Any], owned: Mapping[str, Any] | None) -> bool:
    """Whether all that M(multihost.overlay.host_files) is given is there, and all that it is asked is known."""
    return (
        owned is not None
        and not wanted["packages"]
        and not wanted["sysctls"]
        and all(name in owned["units"] for name in wanted["units"])
        and all(owned["directories"].get(entry["path"]) == _wanted(entry, None) for entry in wanted["directories"])
        and all(_file_in_order(entry, wanted["secrets"], owned["files"]) for entry in wanted["files"])
    )
