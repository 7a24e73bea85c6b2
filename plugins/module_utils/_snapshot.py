# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive in which Consul hands out a snapshot: whether it is whole. No I/O."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from typing import Any, Dict

# Of the archive, which is compressed; a store with some hundred networks has less than one. All of it is held in memory several times.
MOST_BYTES = 16 * 1024 * 1024
FILES = ("meta.json", "state.bin")
SUMS = "SHA256SUMS"


class SnapshotError(Exception):
    """The archive cannot be used."""


def _contents(data: bytes) -> Dict[str, bytes]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
            streams = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
            return {name: stream.read() for name, stream in streams.items() if stream}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as exc:
        raise SnapshotError(f"the snapshot is no archive of Consul's, or not all of it: {exc}") from exc


def check(data: bytes) -> Dict[str, Any]:
    """What Consul says of the snapshot (meta.json), once all parts are there and are what their checksums say."""
    if len(data) > MOST_BYTES:
        raise SnapshotError(f"the snapshot has {len(data)} bytes, and {MOST_BYTES} is the most that is taken")
    found = _contents(data)
    rows = [line.split() for line in found.pop(SUMS, b"").decode("ascii", "replace").splitlines()]
    sums = {row[1]: row[0] for row in rows if len(row) == 2}
    for name in FILES:
        if name not in found or hashlib.sha256(found[name]).hexdigest() != sums.get(name):
            raise SnapshotError(f"the snapshot is damaged: {name} in it is not what its checksum says")
    try:
        meta = json.loads(found["meta.json"])
    except ValueError as exc:
        raise SnapshotError(f"the snapshot is damaged: {exc}") from exc
    return {"index": int(meta.get("Index", 0)), "bytes": len(data)}
