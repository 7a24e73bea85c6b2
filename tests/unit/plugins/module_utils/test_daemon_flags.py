# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which settings are flags, and where each is set."""

from __future__ import annotations

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import (
    environment_file,
    from_argv,
    from_unit,
)

UNIT = "/lib/systemd/system/docker.service"
DEBIAN = """
[Service]
EnvironmentFile=-/etc/default/docker
ExecStart=/usr/sbin/dockerd -H fd:// --containerd=/run/containerd/containerd.sock $DOCKER_OPTS
"""


def nothing(_path: str) -> str | None:
    """No environment file is there."""
    return None


@pytest.mark.parametrize(
    ("words", "key", "value"),
    [
        (["--cluster-store", "consul://a:8500"], "cluster-store", "consul://a:8500"),
        (["--cluster-store=consul://a:8500"], "cluster-store", "consul://a:8500"),
        (["--live-restore", "--debug=false"], "live-restore", True),
        (["--live-restore=false"], "live-restore", False),
        (["-D"], "debug", True),
        (["-Hfd://", "-H", "tcp://0.0.0.0:2375"], "hosts", ["fd://", "tcp://0.0.0.0:2375"]),
        (
            ["--cluster-store-opt", "discovery.ttl=60", "--cluster-store-opt=kv.path=x"],
            "cluster-store-opts",
            {"discovery.ttl": "60", "kv.path": "x"},
        ),
        (["--log-level", "warn"], "log-level", "warn"),
        (["-l=warn"], "log-level", "warn"),
    ],
)
def test_flags_become_keys(words: list[str], key: str, value: object) -> None:
    flag = from_argv(["/usr/sbin/dockerd", *words, "--mtu=1400"], "process 7")
    assert flag[key].value == value
    assert flag[key].source == "process 7"
    assert flag["mtu"].value == "1400"


def test_a_flag_from_an_environment_file_is_named_with_that_file() -> None:
    files = {"/etc/default/docker": '# mine\nDOCKER_OPTS="--cluster-store consul://a:8500 --label x=y"\n'}
    flags = from_unit([(UNIT, DEBIAN)], files.get)
    assert flags is not None
    assert (flags["cluster-store"].value, flags["cluster-store"].source) == ("consul://a:8500", "/etc/default/docker")
    assert flags["hosts"].source == UNIT
    assert flags["labels"].value == ["x=y"]


def test_a_drop_in_takes_the_place_of_the_command_line() -> None:
    drop_in = "/etc/systemd/system/docker.service.d/a.conf"
    text = (
        "[Service]\nEnvironment=S=consul://b:8500\nExecStart=\nExecStart=/usr/sbin/dockerd \\\n --cluster-store ${S}\n"
    )
    flags = from_unit([(UNIT, DEBIAN), (drop_in, text)], nothing)
    assert flags is not None
    assert flags["cluster-store"].value == "consul://b:8500"
    assert flags["cluster-store"].source == drop_in
    assert "hosts" not in flags


@pytest.mark.parametrize("start", ["", "ExecStart=/usr/local/bin/start-docker --cluster-store x"])
def test_a_unit_that_does_not_start_dockerd_itself_tells_nothing(start: str) -> None:
    assert from_unit([(UNIT, "[Service]\n" + start)], nothing) is None


def test_environment_files_as_systemd_reads_them() -> None:
    text = "; no\nA=--x --y\nB='q r'\nC=\nexport\n"
    assert environment_file(text) == {"A": "--x --y", "B": "q r", "C": ""}
