# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts that are measured: labs of their own, the same ssh connections for Ansible and for what is done by hand."""

from __future__ import annotations

import json
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.e2e.support import Run, environment, run_playbook

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / "bench"
LABS = Path("/var/lib/multihost-overlay-lab")
NETWORK = {"name": "bench", "subnet": "10.100.40.0/24", "attachable": True}
# Fetched by apt without a trace on the host: lists and packages go to a folder that is removed again.
WARM = """set -e
scratch=$(mktemp -d)
mkdir -p "$scratch/lists/partial" "$scratch/archives/partial"
options="-q -o Dir::State::lists=$scratch/lists -o Dir::Cache::archives=$scratch/archives -o APT::Sandbox::User=root
 -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache="
apt-get $options update
DEBIAN_FRONTEND=noninteractive apt-get $options -y --no-install-recommends --download-only install PACKAGES
rm -r "$scratch"
"""


class Connections:
    """Where the masters of the ssh connections lie: a short path, for a socket's is limited. Ends them in the end."""

    def __enter__(self) -> Connections:
        self.folder = Path(tempfile.mkdtemp(prefix="ol-bench-"))
        # They outlive the longest pause between two uses, so that all that is measured finds them warm.
        self.options = ["-o", "ControlMaster=auto", "-o", "ControlPersist=1800s", "-o", f"ControlPath={self.folder}/%C"]
        return self

    def __exit__(self, *unused: object) -> None:
        self.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """End all masters: a host that is made anew under an old address needs a new one."""
        for path in self.folder.iterdir():
            command = ["ssh", "-o", f"ControlPath={path}", "-O", "exit", "none"]
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=30, check=False)

    @property
    def env(self) -> dict[str, str]:
        """The same for Ansible."""
        return {"ANSIBLE_SSH_ARGS": " ".join(self.options)}


class BenchLab(Cluster):
    """A lab of N hosts; with it, what a user would do to it with Ansible, timed."""

    def __init__(self, name: str, prefix: str, number: int, connections: Connections) -> None:
        super().__init__(name, [f"node{index}" for index in range(1, number + 1)])
        self.addresses = {host: f"{prefix}.{index + 11}" for index, host in enumerate(self.hosts)}
        self.network = f"{prefix}.0/24"
        self.connections = connections
        self.folder = BUILD / name
        self.inventory = self.folder / "hosts.json"
        self.report = self.folder / "report"
        self.key = LABS / name / "id_ed25519"
        self.stores = self.hosts[: 3 if number >= 3 else 1]
        # Who is in the cluster; a host that is to join it is in the lab before.
        self.members = list(self.hosts)

    @property
    def ssh_options(self) -> list[str]:
        """How the hosts are known; for Ansible and for ssh."""
        known = ["-o", f"UserKnownHostsFile={LABS / self.lab / 'known_hosts'}", "-o", "GlobalKnownHostsFile=/dev/null"]
        return [*known, "-o", "IdentitiesOnly=yes"]

    def write_inventory(self) -> None:
        """The inventory that a user would write for these hosts."""
        variables: dict[str, Any] = {
            "overlay_lab_name": self.lab,
            "overlay_lab_network": self.network,
            "overlay_lab_timeout": 180 + 10 * len(self.hosts),
            "ansible_user": "root",
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": " ".join(self.ssh_options),
            "overlay_networks": [NETWORK],
            "overlay_report_dir": str(self.report),
        }
        hosts = {host: {"ansible_host": address} for host, address in self.addresses.items()}
        inventory = {
            "overlay_lab": {"hosts": hosts, "vars": variables},
            "overlay_hosts": {"hosts": {host: {} for host in self.members}},
            "overlay_store": {"hosts": {host: {} for host in self.stores}},
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        self.inventory.write_text(json.dumps(inventory, indent=2) + "\n")

    def play(self, playbook: str, *arguments: str, timeout: float = 3600) -> Run:
        """Run a playbook as a user would."""
        return run_playbook(
            playbook, inventory=self.inventory, arguments=arguments, env=self.connections.env, timeout=timeout
        )

    def up(self) -> Run:
        """Bare hosts, whatever was there before."""
        self.down()
        self.write_inventory()
        return self.play("playbooks/lab_up.yml")

    def down(self) -> None:
        """Take them away; also what a killed run left. Past Ansible, which would want an inventory."""
        if (LABS / self.lab).exists():
            self.connections.close()
            self.labctl("down")

    def ping(self) -> float:
        """Seconds that one `ansible all -m ping` takes; also what makes all connections warm."""
        command = [str(Path(sys.executable).with_name("ansible")), "all", "-i", str(self.inventory), "-m", "ping"]
        environ = environment(self.folder / "ping.jsonl", self.connections.env)
        started = time.monotonic()
        done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=600, check=False)
        seconds = time.monotonic() - started
        assert done.returncode == 0, f"ping failed: {done.stdout}{done.stderr}"
        return seconds

    def processor_seconds(self) -> float:
        """Of the hosts so far, and of what this process has run: unlike a time it does not grow with other work."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime + sum(self.host_seconds(host) for host in self.hosts)

    def host_seconds(self, host: str) -> float:
        """What a host's control group has used; cgroup 1 or 2, made by the lab or by systemd."""
        name = f"overlay-lab-{self.lab}-{host}"
        for path in Path("/sys/fs/cgroup").glob(f"**/{name}*/cpuacct.usage"):
            return int(path.read_text()) / 1e9
        for path in Path("/sys/fs/cgroup").glob(f"**/{name}*/cpu.stat"):
            found = re.search(r"usage_usec (\d+)", path.read_text())
            return int(found.group(1)) / 1e6 if found else 0.0
        return 0.0

    def warm_packages(self, *packages: str) -> None:
        """Have the lab's package cache fetch all that an installation asks it for; the hosts stay bare."""
        self.run(self.hosts[0], "sh", "-c", WARM.replace("PACKAGES", " ".join(packages)), timeout=900)

    def pairs(self) -> tuple[int, int]:
        """How many ordered pairs the last verification proved, and how many not."""
        summary = json.loads((self.report / "verify.json").read_text())["summary"]
        return int(summary["pairs"]) - int(summary["failed"]), int(summary["failed"])

    def verify(self, *arguments: str) -> Run:
        """Prove all pairs, with a new report."""
        (self.report / "verify.json").unlink(missing_ok=True)
        return self.play("playbooks/verify.yml", *arguments)
