# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The archive of a snapshot, whole and in pieces."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _snapshot
from ansible_collections.multihost.overlay.plugins.module_utils._snapshot import SnapshotError, check


def archive(state: bytes = b"state", sums: str | None = None, *, without: str = "") -> bytes:
    """As Consul 1.8.7 makes one."""
    files = {"meta.json": json.dumps({"Version": 1, "Index": 77, "Term": 2}).encode(), "state.bin": b"state"}
    listed = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items())
    files["state.bin"] = state
    files["SHA256SUMS"] = (listed if sums is None else sums).encode()
    files.pop(without, None)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def test_a_whole_one_is_taken() -> None:
    data = archive()
    assert check(data) == {"index": 77, "bytes": len(data)}


@pytest.mark.parametrize(
    "data",
    [
        archive(b"other"),
        archive(sums=""),
        archive(without="state.bin"),
        archive(without="meta.json"),
        archive(without="SHA256SUMS"),
        archive()[:-40],
        archive()[:30],
        b"",
        b"rpc error: no leader",
    ],
)
def test_any_other_is_refused(data: bytes) -> None:
    with pytest.raises(SnapshotError, match="the snapshot is"):
        check(data)


def test_what_would_not_fit_into_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_snapshot, "MOST_BYTES", 10)
    with pytest.raises(SnapshotError, match="10 is the most"):
        check(archive())
