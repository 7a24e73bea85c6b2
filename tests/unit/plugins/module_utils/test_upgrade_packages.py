# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What apt is asked and told; its words are those of apt 2.2.4."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_packages as packages

SIMULATED = """Reading package lists...
Inst containerd [1.4.13~ds1-1~deb11u4] (1.4.13~ds1-1~deb11u6 Debian-Security:11/oldoldstable-security [amd64]) []
Inst docker.io [20.10.5+dfsg1-1+deb11u2] (20.10.5+dfsg1-1+deb11u4 Debian-Security:11/oldoldstable-security [amd64])
Inst fresh (1.0 Debian:11/oldoldstable [all])
Remv web [2.0]
Conf containerd (1.4.13~ds1-1~deb11u6 Debian-Security:11/oldoldstable-security [amd64])
"""
INSTALLED = """docker.io 20.10.5+dfsg1-1+deb11u2 installed
containerd 1.4.13~ds1-1~deb11u4 installed
docker-cli  not-installed
"""


class Host:
    """Programs as they answer, and how they were called."""

    def __init__(self, **answers: tuple[int, str, str]) -> None:
        self.answers, self.called = answers, list[list[str]]()

    def __call__(self, argv: list[str], stdin: str = "", timeout: float = 60.0) -> tuple[int, str, str]:
        self.called.append(argv)
        words = " ".join(argv)
        for name, answer in self.answers.items():
            if name.replace("_", "-") in words:
                return answer
        return 0, "", ""


def test_a_simulation_tells_what_changes_and_what_would_go() -> None:
    found = packages.simulated(SIMULATED)
    assert [(step["name"], step["old"]) for step in found["changes"]] == [
        ("containerd", "1.4.13~ds1-1~deb11u4"),
        ("docker.io", "20.10.5+dfsg1-1+deb11u2"),
        ("fresh", ""),
    ]
    assert found["changes"][1]["new"] == "20.10.5+dfsg1-1+deb11u4" and found["removed"] == ["web"]


def test_a_package_on_hold_is_not_asked_for() -> None:
    host = Host(dpkg_query=(0, INSTALLED, ""), showhold=(0, "containerd\n", ""))
    found = packages.look("docker.io", "", False, host)
    assert found["held"] == ["containerd"] and list(found["packages"]) == ["docker.io", "containerd"]
    simulate = next(argv for argv in host.called if argv[0] == "apt-get")
    assert simulate[-1] == "docker.io" and "containerd" not in simulate


def test_docker_ce_stays_within_its_series() -> None:
    host = Host(dpkg_query=(0, "docker-ce 5:20.10.5~3 installed\ncontainerd.io 1.4 installed\n", ""))
    packages.look("docker-ce", "5:20.10.*", True, host)
    simulate = next(argv for argv in host.called if argv[0] == "apt-get")
    assert simulate[-2:] == ["docker-ce=5:20.10.*", "containerd.io"] and "--allow-change-held-packages" in simulate


def test_apts_own_words_are_in_the_error() -> None:
    host = Host(dpkg_query=(0, INSTALLED, ""), apt_get=(100, "", "E: Unable to correct problems"))
    with pytest.raises(packages.PackagesError, match="Unable to correct"):
        packages.look("docker.io", "", False, host)


def test_after_a_killed_dpkg_it_goes_on() -> None:
    host = Host(
        dpkg_query=(0, "docker.io 20.10.5 half-configured\n", ""),
        apt_get=(100, "", "E: dpkg was interrupted, you must manually run 'dpkg --configure -a'"),
    )
    assert packages.look("docker.io", "", False, host)["broken"] == ["docker.io"]


def test_what_came_for_others_stays_so(policy: Path) -> None:
    host = Host(showauto=(0, "containerd\n", ""))
    packages.install(["docker.io=2", "/kept/containerd_1.4_amd64.deb"], True, host)
    assert host.called[0] == ["apt-mark", "showauto", "docker.io", "containerd"]
    assert host.called[-1] == ["apt-mark", "auto", "containerd"]


@pytest.fixture
def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "policy-rc.d"
    monkeypatch.setattr(packages, "POLICY", str(path))
    monkeypatch.setattr(packages, "ASIDE", str(path) + ".aside")
    return path


def test_no_program_is_started_by_a_package(policy: Path) -> None:
    seen: list[Any] = []

    def host(argv: list[str], timeout: float = 0) -> tuple[int, str, str]:
        if argv[0] != "apt-mark":
            seen.append((argv, policy.read_text(), os.access(policy, os.X_OK)))
        return 0, "", ""

    packages.install(["docker.io=2"], False, host)
    assert all("exit 101" in text and executable for _argv, text, executable in seen)
    assert "--configure" in seen[0][0] and seen[1][0][-1] == "docker.io=2"
    assert "--allow-downgrades" not in seen[1][0] and not policy.exists()


def test_a_policy_of_the_users_is_back_also_after_a_run_that_was_killed(policy: Path) -> None:
    policy.write_text("#!/bin/sh\nexit 0\n")
    killed = packages.nothing_starts()
    killed.__enter__()
    with pytest.raises(packages.PackagesError):
        packages.install(["docker.io=2"], True, Host(apt_get=(100, "", "E: no")))
    assert policy.read_text() == "#!/bin/sh\nexit 0\n"


def test_files_of_packages_are_found_with_and_without_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "ARCHIVES", str(tmp_path / "none"))
    for name in ("docker-ce_5%3a20.10.5~3_amd64.deb", "docker.io_20.10.5+dfsg1-1+deb11u2_amd64.deb"):
        (tmp_path / name).touch()
    wanted = {"docker-ce": "5:20.10.5~3", "docker.io": "20.10.5+dfsg1-1+deb11u2", "runc": "1.0"}
    assert sorted(packages.keep(wanted, str(tmp_path), Host())) == ["docker-ce", "docker.io"]
