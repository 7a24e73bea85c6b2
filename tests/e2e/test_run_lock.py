# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run at a time, before there is anything else on the hosts; and nothing is left of a run that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import variation
from tests.e2e.state import differences, state_of
from tests.e2e.support import ROOT, Run, Running, environment, playbook_command, run_playbook, start_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "addnode.yml"
HOSTS = ("node1", "node2", "node3")
# Nobody in the lab has this address.
NOBODY = "10.88.150.99"
LOCK = "/run/multihost-overlay-lock"
# One that is asked for the lock, and ends: on bare hosts there is nothing to rotate.
SHORT, ITS_END = "playbooks/rotate_keys.yml", "Run site.yml first"
SECONDS = 60
ELSEWHERE = {
    "user": "bob",
    "controller": "elsewhere",
    "place": "x",
    "pid": 4711,
    "started": "1",
    "playbook": "site.yml",
}


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """Bare hosts."""
    keep = bool(os.environ.get("OVERLAY_KEEP_E2E"))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("addnode", HOSTS)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@pytest.fixture
def long_run(tmp_path: Path) -> Path:
    """A playbook that has the lock, and then does nothing for long."""
    lock = {"name": "multihost.overlay.overlay", "tasks_from": "lock"}
    tasks: list[dict[str, Any]] = [
        {"name": "Lock", "ansible.builtin.include_role": lock},
        {"name": "Work", "ansible.builtin.wait_for": {"timeout": 300}, "delegate_to": "localhost", "run_once": True},
    ]
    path = tmp_path / "long.yml"
    path.write_text(yaml.safe_dump([{"hosts": "overlay_store:overlay_hosts", "gather_facts": False, "tasks": tasks}]))
    return path


@contextmanager
def holding(playbook: Path, inventory: Path = INVENTORY) -> Iterator[Running]:
    """A run that has the lock."""
    with start_playbook(playbook, inventory=inventory) as running:
        running.wait_for_task("Work")
        yield running


def ask(**options: Any) -> Run:
    """A run that wants the lock."""
    return run_playbook(SHORT, inventory=options.pop("inventory", INVENTORY), succeeds=False, **options)


def locks(cluster: Cluster, host: str = "node1") -> list[str]:
    return cluster.out(host, "sh", "-c", f"ls {LOCK} 2>/dev/null || true").split()


def free(cluster: Cluster, host: str) -> bool:
    """The directory is gone too."""
    return cluster.run(host, "test", "-e", LOCK, check=False).returncode != 0


def wait_until_free(cluster: Cluster) -> None:
    """Nothing is left on any host."""
    for host in HOSTS:
        wait_for(f"no lock on {host}", partial(free, cluster, host), 20)


def keepers() -> list[int]:
    """Processes that keep a lock on these hosts for a run."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (folder / "comm").read_text() == "overlay-lock\n" and str(INVENTORY) in (folder / "cmdline").read_text():
                found.append(int(folder.name))
    return found


def write_lock(cluster: Cluster, age: int) -> None:
    """That of a run on another controller, last heard of so many seconds ago."""
    content = json.dumps({**ELSEWHERE, "id": "other", "taken": time.time() - 600})
    script = f"mkdir -p -m 700 {LOCK} && cat >{LOCK}/other && touch -d '{age} seconds ago' {LOCK}/other"
    cluster.run("node1", "sh", "-c", script, stdin=content)


@pytest.mark.parametrize(
    ("playbook", "options"),
    [
        ("site.yml", {}),
        ("site.yml", {"arguments": ["--limit", "node3"]}),
        ("playbooks/rotate_ca.yml", {}),
        ("playbooks/revoke_clients.yml", {}),
        ("playbooks/doctor.yml", {"extra_vars": {"overlay_doctor_repair": True}}),
        ("playbooks/add_node.yml", {"extra_vars": {"node": "node3"}}),
    ],
)
def test_a_second_run_names_the_first(hosts: Cluster, long_run: Path, playbook: str, options: dict[str, Any]) -> None:
    before = state_of(hosts)
    with holding(long_run) as first:
        second = run_playbook(playbook, inventory=INVENTORY, succeeds=False, **options)
        assert first.process.poll() is None
        assert f"process {first.process.pid}, " in second.messages
        for words in (
            "Another run works on this cluster; nothing was changed on any host",
            "on node1: ",
            "last heard of",
        ):
            assert words in second.messages
        assert second.seconds < SECONDS
        assert (second.remote, second.changed) == ({"node1": 1}, {})
    assert differences(before, state_of(hosts)) == []


def test_who_only_looks_waits_for_nobody(hosts: Cluster, long_run: Path, tmp_path: Path) -> None:
    """A dry run goes on too, and says who else is there."""
    extra = {"overlay_report_dir": str(tmp_path)}
    with holding(long_run):
        run_playbook("playbooks/preflight.yml", inventory=INVENTORY, extra_vars=extra)
        dry = ask(arguments=["--check"], warnings=(r"Another run works on this cluster meanwhile: .*\(on node1\)",))
        assert ITS_END in dry.messages
        assert "works on this cluster meanwhile" in dry.output
    wait_until_free(hosts)


def test_a_run_that_ended_leaves_nothing(hosts: Cluster, long_run: Path) -> None:
    assert ITS_END in ask().messages
    wait_until_free(hosts)
    with holding(long_run) as running:
        assert len(locks(hosts)) == 1
        os.kill(running.process.pid, signal.SIGINT)
        running.wait(succeeds=False)
    wait_until_free(hosts)
    wait_for("no keeper", lambda: keepers() == [], 10)


def test_a_killed_run_is_in_nobodys_way(hosts: Cluster, long_run: Path) -> None:
    with holding(long_run) as running:
        running.kill()
        assert ITS_END in ask().messages
    wait_until_free(hosts)


def test_nor_is_one_whose_keeper_was_killed_too(hosts: Cluster, long_run: Path) -> None:
    """As when a container ends, or the power of the controller."""
    with holding(long_run) as running:
        (keeper,) = keepers()
        os.kill(keeper, signal.SIGKILL)
        running.kill()
        assert len(locks(hosts)) == 1
        run = ask()
    assert ITS_END in run.messages
    assert "lock: taken over on node1; " in run.output
    wait_until_free(hosts)


def test_it_is_renewed(hosts: Cluster, long_run: Path) -> None:
    with holding(long_run):
        (name,) = locks(hosts)
        first = hosts.out("node1", "stat", "-c", "%Y", f"{LOCK}/{name}")
        wait_for("another time", lambda: hosts.out("node1", "stat", "-c", "%Y", f"{LOCK}/{name}") != first, 40)


def test_of_another_controller_its_age_tells(hosts: Cluster) -> None:
    try:
        # On a busy machine a run takes so long to ask for it.
        write_lock(hosts, 10)
        assert "bob on elsewhere (process 4711, site.yml)" in ask().messages
        write_lock(hosts, 61)
        run = ask()
        assert ITS_END in run.messages
        assert "lock: taken over on node1; bob on elsewhere" in run.output
        wait_until_free(hosts)
        write_lock(hosts, 1)
        assert ITS_END in ask(extra_vars={"overlay_lock_break": True}).messages
    finally:
        hosts.run("node1", "rm", "-rf", LOCK)


def test_a_run_that_lost_its_lock_ends(hosts: Cluster, long_run: Path) -> None:
    with holding(long_run) as running:
        hosts.run("node1", "sh", "-c", f"rm {LOCK}/*")
        write_lock(hosts, 0)
        assert running.process.wait(60) != 0
        said = running.log.read_text()
        assert "The lock of this run on node1 is another run's now" in said
        assert "bob on elsewhere" in said
        assert locks(hosts) == ["other"]
    hosts.run("node1", "rm", "-rf", LOCK)


def test_after_a_reboot_it_is_taken_again(hosts: Cluster, long_run: Path) -> None:
    """It is not on the disk; nobody else took it meanwhile."""
    with holding(long_run) as running:
        had = locks(hosts)
        hosts.run("node1", "rm", "-rf", LOCK)
        wait_for("the lock is back", lambda: locks(hosts) == had, 40)
        assert running.process.poll() is None
    wait_until_free(hosts)


def test_without_the_first_host_it_is_on_the_next(hosts: Cluster, long_run: Path, tmp_path: Path) -> None:
    away = variation(
        tmp_path,
        lambda inventory: inventory["overlay_lab"]["hosts"]["node1"].update(ansible_host=NOBODY),
        base=INVENTORY,
    )
    with holding(long_run, away):
        assert (locks(hosts), len(locks(hosts, "node2"))) == ([], 1)
        assert "Its lock is on node2: " in ask(inventory=away).messages
    wait_until_free(hosts)


def test_who_reads_the_output_is_done_when_the_run_is(hosts: Cluster, tmp_path: Path) -> None:
    command = playbook_command(SHORT, INVENTORY, None, [])
    with subprocess.Popen(
        command, cwd=ROOT, env=environment(tmp_path / "record"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as run:
        assert run.stdout is not None
        said = run.stdout.read()
        began = time.monotonic()
        run.wait(10)
        assert time.monotonic() - began < 5
    assert ITS_END.encode() in said
    wait_until_free(hosts)
