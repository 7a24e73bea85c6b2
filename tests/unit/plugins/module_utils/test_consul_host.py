# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Consul runs with the files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _consul_host as host


def test_what_was_written_after_the_start_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    names = {"AT_START": ("unit", "config.json"), "AT_RELOAD": ("consul.key", "ca.crt")}
    for constant, files in names.items():
        monkeypatch.setattr(host, constant, tuple(str(tmp_path / name) for name in files))
    monkeypatch.setattr(host, "HANDED_OVER", str(copies))
    # A host without a Consul has neither.
    assert host.read_consul() == {"configured": True, "certified": True}
    for name in (*names["AT_START"], *names["AT_RELOAD"]):
        (tmp_path / name).write_text(name)
    assert host.read_consul() == {"configured": False, "certified": False}
    for name in (*names["AT_START"], *names["AT_RELOAD"]):
        (copies / name).write_text(name)
    assert host.read_consul() == {"configured": True, "certified": True}
    (tmp_path / "ca.crt").write_text("another")
    assert host.read_consul() == {"configured": True, "certified": False}
    (tmp_path / "config.json").write_text("another")
    assert host.read_consul() == {"configured": False, "certified": False}
