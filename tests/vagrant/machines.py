# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The virtual machines of the scenario as tests see and handle them."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.cluster import ROOT, Cluster, wait_for
from tests.e2e.support import Run, run_playbook
from tests.vagrant.libvirt import PREFIX, virsh

FOLDER = ROOT / "inventories" / "vagrant"
INVENTORY = FOLDER / "hosts.yml"
# Which of them has a firewalld: molecule/vagrant/prepare.yml.
FIREWALLD = "node2"
# Emulated, three at a time, from the end of the power to sshd.
BOOT = 900


def vagrant(*words: str, timeout: float = 1500) -> str:
    """Vagrant as a user calls it; what it prints."""
    done = subprocess.run(["vagrant", *words], cwd=FOLDER, capture_output=True, text=True, timeout=timeout, check=False)
    assert done.returncode == 0, f"vagrant {' '.join(words)}: {done.stdout[-2000:]}{done.stderr}"
    return done.stdout


def play(playbook: str, report: Path, **options: Any) -> Run:
    """A playbook on them; to log in to a machine that is emulated takes a while."""
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    env = {"ANSIBLE_TIMEOUT": "60"}
    return run_playbook(playbook, inventory=INVENTORY, extra_vars=extra, env=env, **options)


class VirtualMachines(Cluster):
    """Hosts with a kernel of their own, entered by Vagrant's own network and user."""

    def __init__(self, hosts: Iterable[str], ssh_config: Path) -> None:
        super().__init__("vagrant", hosts)
        self.ssh_config = ssh_config
        # One connection for each host: to log in costs an emulated processor seconds.
        reuse = ["ControlMaster=auto", "ControlPersist=300", f"ControlPath=/tmp/overlay-vagrant-{os.getpid()}-%n"]
        quick = ["ConnectTimeout=10", "ServerAliveInterval=10", "ServerAliveCountMax=3"]
        self.ssh = ["ssh", "-F", str(ssh_config), *(f"-o{option}" for option in (*reuse, *quick))]

    def run(
        self, host: str, *argv: str, check: bool = True, timeout: float = 300, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a program on a host, as root."""
        command = [*self.ssh, host, "sudo -n -- " + shlex.join(argv)]
        done = subprocess.run(command, input=stdin or "", capture_output=True, text=True, timeout=timeout, check=False)
        assert done.returncode == 0 or not check, f"{host}: {' '.join(argv)}: {done.stdout}{done.stderr}"
        return done

    def boot_of(self, host: str) -> str:
        """Which boot this is; '' when the host does not answer."""
        done = self.run(host, "cat", "/proc/sys/kernel/random/boot_id", check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def end(self, ways: Mapping[str, str]) -> None:
        """Reboot hosts ("reboot") or pull their plugs ("cut"), all at once, and let them boot."""
        before = {host: self.boot_of(host) for host in ways}
        for host, how in ways.items():
            if how == "reboot":
                self.run(host, "systemctl", "--no-block", "reboot")
            else:
                virsh("destroy", PREFIX.removesuffix("node") + host)
        for host, how in ways.items():
            subprocess.run([*self.ssh, "-O", "exit", host], capture_output=True, check=False)
            if how == "cut":
                virsh("start", PREFIX.removesuffix("node") + host)
        for host, boot in before.items():
            wait_for(f"{host} has booted", partial(self.booted_since, host, boot), BOOT, every=3)

    def booted_since(self, host: str, boot: str) -> bool:
        """Whether it is up again, and all its units are started."""
        now = self.boot_of(host)
        return now not in ("", boot) and self.state_of(host) in ("running", "degraded")

    def state_of(self, host: str) -> str:
        """systemd's own word."""
        return self.run(host, "systemctl", "is-system-running", check=False).stdout.strip()
