# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A run is ended anywhere, and run again: what stands in the end is always the same.

At a boundary between two tasks hosts are as the last module on them left them. So the run is killed once behind each task that ran
one, and the boundaries between tasks of the controller alone, at which hosts are the same, are left out.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import Inventory, variation
from tests.e2e.snapshots import Snapshot
from tests.e2e.state import state_of
from tests.e2e.support import ROOT, Run, Running, of_kind, run_playbook, start_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "killed.yml"
HOSTS = ("node1", "node2")
DAEMON_JSON = "/etc/docker/daemon.json"
# What was the user's before.
THEIRS = {"log-driver": "local"}
# The Python processes that Ansible's connections have started: each runs one module, which it reads from its standard input.
MODULES = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        argv = open("/proc/%s/cmdline" % pid, "rb").read().split(b"\\0")
    except OSError:
        continue
    if argv[:1] == [b"/usr/bin/python3"] and len([word for word in argv if word]) == 1:
        os.kill(int(pid), 9)
        print(pid)
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """The lab, taken away in the end."""
    yield Cluster("killed", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def bare(cluster: Cluster) -> None:
    """New hosts, with a daemon.json of their user's."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    for host in HOSTS:
        cluster.write(host, DAEMON_JSON, json.dumps(THEIRS))


def play(playbook: str, report: Path, *, ends_at: int = 0, **options: Any) -> Run:
    """A playbook; with a number it is killed before that task."""
    settings = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    env = {"OVERLAY_END_AT": str(ends_at)}
    options = {"inventory": INVENTORY, "succeeds": None if ends_at else True, **options}
    return run_playbook(playbook, extra_vars=settings, env=env, **options)


def killed(playbook: str, report: Path, number: int, **options: Any) -> str:
    """Ended at a boundary; where that was."""
    run = play(playbook, report, ends_at=number, **options)
    assert run.returncode == -9, f"{playbook} was to be killed before task {number}"
    return f"{playbook} ended before task {number}, after {run.tasks[-1].name}"


def outline(cluster: Cluster) -> Counter[str]:
    """What is there, without what is never twice the same: times, numbers of processes, keys and what they sign."""
    return Counter(
        f"{thing if not re.search(' (program|network) ', thing) else thing.rsplit(' ', 2 if 'network' in thing else 1)[0]}"
        f" {value.split(' ')[0] if 'program' not in thing else ''}"
        for thing, value in state_of(cluster).items()
    )


def boundaries(run: Run) -> list[int]:
    """The numbers of the tasks before which hosts are another than before the task that came before it."""
    touched = {event["uuid"] for event in of_kind(events_of(run), "module", "command")}
    started = [event["uuid"] for event in of_kind(events_of(run), "task")]
    return [number + 2 for number, uuid in enumerate(started[:-1]) if uuid in touched]


def events_of(run: Run) -> list[dict[str, str]]:
    return [json.loads(line) for line in run.log.with_suffix(".jsonl").read_text().splitlines()]


def check_the_end(
    cluster: Cluster, report: Path, wanted: Counter[str], trial: str, again: str = "site.yml", **options: Any
) -> None:
    """Run again: all is there, nothing else, and nothing is left to do."""
    play(again, report, **options)
    settled = play("site.yml", report)
    assert settled.changes == {}, f"{trial}: {settled.changes}"
    found = outline(cluster)
    assert (found - wanted, wanted - found) == (Counter(), Counter()), trial
    for host in HOSTS:
        assert json.loads(cluster.out(host, "cat", DAEMON_JSON)).items() >= THEIRS.items(), trial


@pytest.fixture
def wanted(cluster: Cluster, tmp_path: Path) -> tuple[Counter[str], list[int]]:
    """What a run that nobody disturbs leaves, and where it can be ended."""
    bare(cluster)
    run = play("site.yml", tmp_path)
    return outline(cluster), boundaries(run)


def test_ended_at_every_boundary(cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path) -> None:
    whole, numbers = wanted
    assert len(numbers) > 20
    for number in numbers:
        bare(cluster)
        trial = killed("site.yml", tmp_path, number)
        check_the_end(cluster, tmp_path, whole, trial)


def test_new_certificates_ended_at_every_boundary(
    cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path
) -> None:
    """Certificates may be half of the old and half of the new kind, so each trial begins where the one before has ended."""
    rotate = "playbooks/rotate_certificates.yml"
    for number in boundaries(play(rotate, tmp_path)):
        trial = killed(rotate, tmp_path, number)
        check_the_end(cluster, tmp_path, wanted[0], trial, again=rotate)


def without_node2(inventory: Inventory) -> None:
    inventory["overlay_hosts"] = {"hosts": {"node1": None}}


def test_a_host_is_added_ended_at_every_boundary(cluster: Cluster, tmp_path: Path) -> None:
    """node2 is bare, and node1 the cluster, at the beginning of each trial."""
    bare(cluster)
    play("site.yml", tmp_path, inventory=variation(tmp_path, without_node2, base=INVENTORY))
    before = Snapshot(cluster)
    adding: dict[str, Any] = {"extra_vars": {"node": "node2"}}
    numbers = boundaries(play("playbooks/add_node.yml", tmp_path, **adding))
    assert len(numbers) > 20
    whole = outline(cluster)
    for number in numbers:
        before.put_back()
        trial = killed("playbooks/add_node.yml", tmp_path, number, **adding)
        check_the_end(cluster, tmp_path, whole, trial, again="playbooks/add_node.yml", **adding)


def wait_for_module(running: Running, name: str) -> None:
    """Until a module is sent to a host."""
    end = time.monotonic() + 300
    while not any(event["module"].endswith(name) for event in of_kind(running.events(), "module")):
        assert running.process.poll() is None, f"the run ended before {name}"
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(
    "name", ["host_files", "host_firewall", "docker_daemon_config", "overlay_network", "overlay_ping", "consul_acl"]
)
def test_a_module_is_killed_inside(
    cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path, name: str
) -> None:
    bare(cluster)
    moment = random.uniform(0, 1.5)
    settings = {"overlay_report_dir": str(tmp_path)}
    with start_playbook("site.yml", inventory=INVENTORY, extra_vars=settings) as running:
        wait_for_module(running, name)
        time.sleep(moment)
        killed = [cluster.out(host, "/usr/bin/python3", "-c", MODULES) for host in HOSTS]
        # A module that had ended by then was not killed, and the run goes well.
        running.wait(600, succeeds=None)
    check_the_end(cluster, tmp_path, wanted[0], f"{name} killed after {moment:.2f} s: {killed}")


def test_power_is_cut_while_daemon_json_is_written(
    cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path
) -> None:
    for _trial in range(3):
        bare(cluster)
        moment = random.uniform(0, 2)
        settings = {"overlay_report_dir": str(tmp_path)}
        with start_playbook("site.yml", inventory=INVENTORY, extra_vars=settings) as running:
            running.wait_for_task("Merge our keys into daemon.json")
            time.sleep(moment)
            cluster.labctl("cut", "node2")
            running.wait(600, succeeds=False)
        cluster.labctl("start", "node2")
        cluster.labctl("wait", "node2")
        check_the_end(cluster, tmp_path, wanted[0], f"cut after {moment:.2f} s")


@contextmanager
def ssh_closed(cluster: Cluster) -> Iterator[None]:
    """Whatever goes to node2's sshd is lost."""
    rule = ("INPUT", "-p", "tcp", "--dport", "22", "-j", "DROP")
    cluster.run("node2", "iptables", "-I", *rule)
    yield
    cluster.run("node2", "iptables", "-D", *rule)


def test_ssh_is_lost(cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path) -> None:
    bare(cluster)
    # A connection that is silent is given up, which with ssh's defaults takes minutes.
    patience = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=no -o ServerAliveInterval=2 -o ServerAliveCountMax=3"}
    settings = {"overlay_report_dir": str(tmp_path)}
    with start_playbook("site.yml", inventory=INVENTORY, extra_vars=settings, env=patience) as running:
        running.wait_for_task("Merge our keys into daemon.json")
        with ssh_closed(cluster):
            run = running.wait(600, succeeds=False)
    assert run.unreachable == ["node2"]
    assert "fell out of the run and are not done: node2" in run.messages
    check_the_end(cluster, tmp_path, wanted[0], "ssh lost")


@pytest.mark.parametrize("folder", ["/var/lib/multihost-overlay", "/etc/docker"])
def test_the_disk_is_full(
    cluster: Cluster, wanted: tuple[Counter[str], list[int]], tmp_path: Path, folder: str
) -> None:
    """A file system of a few pages, one of which a user's file has, stands in for a full disk: the host's own is this machine's."""
    bare(cluster)
    script = f"mkdir -p {folder}; mount -t tmpfs -o size=4k tmpfs {folder}; head -c 4096 /dev/zero >{folder}/full"
    cluster.run("node2", "sh", "-c", script)
    settings = {"overlay_report_dir": str(tmp_path)}
    run = run_playbook("site.yml", inventory=INVENTORY, extra_vars=settings, succeeds=False)
    assert "No space left on device" in run.failures["node2"]
    assert folder in run.failures["node2"]
    cluster.run("node2", "umount", folder)
    check_the_end(cluster, tmp_path, wanted[0], f"{folder} full")
