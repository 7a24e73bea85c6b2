# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups on the controller: a file that ansible-vault opens, and beside it a small one in clear text that says what it is.

Nobody should need this collection to read a backup in an emergency.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any, Mapping

from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret

from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_whole

Json = dict[str, Any]

SCHEMA_VERSION = 1
# Of the content what the clear text has too; it says nothing of networks but how many there are.
CLEAR = ("schema_version", "cluster", "time", "store", "scope", "consul_version")
NAME = re.compile(r"overlay-backup-(?P<cluster>[0-9a-f]{16})-\d{8}T\d{6}Z\.vault")
# What can be tried offline by whoever gets hold of a file must not be short.
LEAST_CHARACTERS = 12
GIVE_ONE = (
    "Give one with overlay_backup_passphrase_file (a file on the controller that holds it), or overlay_backup_passphrase in a file that "
    "ansible-vault has encrypted; not by -e overlay_backup_passphrase=..., which every user of the controller sees"
)


class BackupError(Exception):
    """A backup cannot be written or read; the message says why, and what to do."""


def cluster_id(text: str) -> str:
    """Tells clusters apart and gives nothing away: of the seed of the cluster's tokens, or of another store's URL."""
    return hashlib.sha256(f"multihost.overlay cluster {text}".encode()).hexdigest()[:16]


def passphrase(given: str, path: str) -> bytes:
    """What the operator gave, in one of the two ways."""
    if given and path:
        raise BackupError(
            "overlay_backup_passphrase and overlay_backup_passphrase_file are both set: take one of them out"
        )
    if path:
        try:
            given = Path(path).expanduser().read_text(encoding="utf-8").strip("\r\n")
        except (OSError, UnicodeDecodeError) as exc:
            raise BackupError(f"overlay_backup_passphrase_file cannot be read: {exc}") from exc
    if not given:
        raise BackupError(
            f"a backup holds the cluster's secrets and is encrypted, but there is no passphrase. {GIVE_ONE}"
        )
    if len(given) < LEAST_CHARACTERS:
        raise BackupError(f"the passphrase for backups has fewer than {LEAST_CHARACTERS} characters: take a longer one")
    return given.encode()


def sealed(content: Json, secret: bytes) -> bytes:
    """As ansible-vault writes it."""
    text = json.dumps(content, indent=1).encode()
    sealed_text: bytes = VaultLib().encrypt(text, secret=VaultSecret(secret))
    return sealed_text


def opened(data: bytes, secret: bytes, whole: bool) -> Json:
    """The content. Where the file is known to be ``whole`` it is the passphrase that is wrong."""
    try:
        content: Json = json.loads(VaultLib([("default", VaultSecret(secret))]).decrypt(data))
    except (AnsibleError, ValueError) as exc:
        reason = (
            "the passphrase is not the one that it was made with"
            if whole
            else "it is damaged, or the passphrase is wrong"
        )
        raise BackupError(f"the backup cannot be opened: {reason}. Nothing was changed") from exc
    return content


def manifest_of(content: Mapping[str, Any], name: str, data: bytes) -> Json:
    """What stands in clear text beside it."""
    clear = {key: content[key] for key in CLEAR}
    return {
        **clear,
        "networks": len(content["networks"]),
        "file": name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def manifest_path(path: Path) -> Path:
    """Where that is."""
    return path.with_suffix(".json")


def write(folder: Path, content: Json, secret: bytes) -> tuple[Path, Json]:
    """Write, read back, open. The manifest comes last: a file without one is one that was not finished."""
    stamp = re.sub(r"[-:]", "", content["time"])
    name = f"overlay-backup-{content['cluster']}-{stamp}.vault"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    data = sealed(content, secret)
    path = Path(write_whole(str(folder), name, data, 0o600))
    if opened(path.read_bytes(), secret, whole=False) != content:
        path.unlink()
        raise BackupError(
            f"{path} was not read back as it was written: is the disk in order? Backups of before are kept"
        )
    manifest = manifest_of(content, name, data)
    write_whole(str(folder), manifest_path(path).name, json.dumps(manifest, indent=2) + "\n", 0o600)
    return path, manifest


def read_manifest(path: Path) -> Json:
    """What stands beside a backup; nothing where there is no such file."""
    try:
        manifest = json.loads(manifest_path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as exc:
        raise BackupError(
            f"{manifest_path(path)} is damaged ({exc}): take it away, the backup opens without it"
        ) from exc
    return manifest if isinstance(manifest, dict) else {}


def read(path: Path, secret: bytes) -> Json:
    """The content of a backup that is whole, and that this version understands."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise BackupError(f"the backup cannot be read: {exc}. Nothing was changed") from exc
    manifest = read_manifest(path)
    understood(path, manifest.get("schema_version", SCHEMA_VERSION))
    if manifest and hashlib.sha256(data).hexdigest() != manifest.get("sha256"):
        raise BackupError(
            f"{path} is damaged: its checksum is not that of {manifest_path(path).name}. Nothing was changed"
        )
    content = opened(data, secret, whole=bool(manifest))
    understood(path, content.get("schema_version"))
    return content


def understood(path: Path, schema: Any) -> None:
    """Refuse what a later version has written."""
    if schema != SCHEMA_VERSION:
        raise BackupError(
            f"{path} has schema_version {schema}, and this version of the collection understands {SCHEMA_VERSION}: "
            "restore it with the version that made it. Nothing was changed"
        )


def found(folder: Path) -> list[Json]:
    """Manifests of the finished backups in a folder, the newest first."""
    paths = [path for path in folder.glob("overlay-backup-*.vault") if NAME.fullmatch(path.name)]
    manifests = []
    for path in paths:
        try:
            manifests.append({**read_manifest(path), "file": path.name})
        except BackupError:
            continue
    return sorted((row for row in manifests if row.get("time")), key=lambda row: row["time"], reverse=True)


def listed(folder: Path) -> str:
    """What there is, for who has named none."""
    rows = [
        f"{folder / row['file']} (cluster {row.get('cluster')}, {row['time']}, {row.get('networks')} networks)"
        for row in found(folder)
    ]
    return "There are: " + "; ".join(rows) if rows else f"There is none in {folder}"


def prune(folder: Path, cluster: str, keep: int, newest: Path) -> list[str]:
    """Take away all but so many of this cluster's; never the one that was just written."""
    mine = [row["file"] for row in found(folder) if row.get("cluster") == cluster and cluster in row["file"]]
    others = [name for name in mine if name != newest.name]
    gone = others[max(0, keep - 1) :]
    for name in gone:
        # Without its manifest it counts as unfinished, and would stay for ever if this were killed between.
        (folder / name).unlink()
        os.unlink(manifest_path(folder / name))
    return gone
