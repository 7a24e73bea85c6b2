# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether Consul runs with the files that are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _consul_host as host
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader


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


NS = "pid:[1]"


@pytest.mark.parametrize(
    ("program", "namespace", "packages", "version"),
    [
        # Of the package, without asking.
        ("/usr/bin/consul", NS, {"consul": "1.8.7+dfsg1-2"}, "1.8.7"),
        ("", NS, {"consul": "1.8.7+dfsg1-2"}, "1.8.7"),
        # Of another program than the package's, and of one in a container, which is not the host's.
        ("/usr/local/lib/consul-1/consul", NS, {"consul": "1.8.7"}, "1.20.1"),
        ("/usr/local/lib/consul-1/consul", NS, {}, "1.20.1"),
        ("/usr/local/lib/consul-1/consul", "pid:[2]", {}, ""),
        # Root runs nothing from where others can put it.
        ("/tmp/consul", NS, {}, ""),
        ("", NS, {}, ""),
    ],
)
def test_which_consul_runs(
    tmp_path: Path, program: str, namespace: str, packages: dict[str, str], version: str
) -> None:
    calls = []

    def run(argv: list[str]) -> tuple[int, str, str]:
        calls.append(argv)
        return 0, "Consul v1.20.1\nRevision 1.2\n", ""

    for pid, space in (("self", NS), ("7", namespace)):
        (tmp_path / "proc" / pid / "ns").mkdir(parents=True)
        (tmp_path / "proc" / pid / "ns" / "pid").symlink_to(space)
    if program:
        (tmp_path / "proc" / "7" / "comm").write_text("consul\n")
        (tmp_path / "proc" / "7" / "exe").symlink_to(program)
    assert host.consul_version(Reader(str(tmp_path), run), packages) == version
    assert calls == ([[program, "version"]] if version == "1.20.1" else [])
