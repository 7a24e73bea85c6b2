# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the running dockerd is the one that the unit would start."""

from __future__ import annotations

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as engines

UNIT = "[Service]\nExecStart={} -H fd://\n"


@pytest.mark.parametrize(
    ("runs", "starts", "found"),
    [
        ("/usr/sbin/dockerd", "/usr/sbin/dockerd", ""),
        ("/usr/sbin/dockerd (deleted)", "/usr/sbin/dockerd", "/usr/sbin/dockerd"),
        ("/usr/sbin/dockerd", "/usr/local/lib/new/dockerd", "/usr/local/lib/new/dockerd"),
        ("/usr/sbin/dockerd", "/usr/local/bin/wrapper", ""),
    ],
)
def test_a_program_that_was_replaced_under_it_is_another(
    monkeypatch: pytest.MonkeyPatch, runs: str, starts: str, found: str
) -> None:
    engine = engines.Engine("/nowhere")
    engine.properties = {"MainPID": "7"}
    monkeypatch.setattr(engines.os, "readlink", lambda _path: runs)
    monkeypatch.setattr(engines.os.path, "realpath", lambda path: path)
    monkeypatch.setattr(engines, "unit_files", lambda: [("docker.service", UNIT.format(starts))])
    assert engine.other_binary() == found
