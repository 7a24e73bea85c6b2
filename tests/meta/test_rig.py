# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the other tests rely on tells the truth: counts of executions, refusals of warnings and of foreign copies."""

from __future__ import annotations

import os
import shutil
import stat
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests import provenance, pythons, run_molecule, run_suites, run_vagrant
from tests.e2e import support
from tests.vagrant import libvirt

PLAYBOOK = """---
- name: Some of everything
  hosts: all
  gather_facts: false
  tasks:
    - name: One module
      ansible.builtin.ping:
    - name: None, it runs on the controller
      ansible.builtin.debug:
        msg: hello
    - name: None, it is skipped
      ansible.builtin.ping:
      when: inventory_hostname == 'nobody'
    - name: None on the host
      ansible.builtin.ping:
      delegate_to: localhost
    - name: Two modules
      ansible.builtin.copy:
        content: a
        dest: "{{ folder }}/{{ inventory_hostname }}"
        mode: "0644"
    - name: Two modules in a loop
      ansible.builtin.ping:
      loop: [1, 2]
    - name: Fail on one
      ansible.builtin.fail:
        msg: This is why.
      when: inventory_hostname in failing
"""


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Two hosts that are this machine, and the playbook beside them."""
    variables = f"ansible_connection=local ansible_python_interpreter={sys.executable} folder={tmp_path}"
    path = tmp_path / "hosts.ini"
    path.write_text(f"alpha {variables}\nbeta {variables}\n")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    return path


def test_executions_are_counted(inventory: Path) -> None:
    """Modules on hosts count, each run of them; skips and the controller's work do not."""
    playbook = inventory.with_name("play.yml")
    run = support.run_playbook(playbook, inventory=inventory, extra_vars={"failing": ["beta"]}, succeeds=False)
    assert run.remote == {"alpha": 5, "beta": 5}
    assert run.modules["alpha"][1:3] == ["ansible.legacy.stat", "ansible.legacy.copy"]
    assert run.changed == {"alpha": 1, "beta": 1}
    assert run.failures == {"beta": "This is why."}
    assert run.collection == str(support.ROOT)
    assert [task.outcomes["alpha"] for task in run.tasks] == ["ok", "ok", "skipped", "ok", "changed", "ok", "skipped"]


def test_wrong_end_is_a_failure(inventory: Path) -> None:
    """A run that fails where it should not, and one that succeeds where it should not."""
    playbook = inventory.with_name("play.yml")
    with pytest.raises(AssertionError, match="ended with status 2"):
        support.run_playbook(playbook, inventory=inventory, extra_vars={"failing": ["alpha"]})
    with pytest.raises(AssertionError, match="ended with status 0"):
        support.run_playbook(playbook, inventory=inventory, extra_vars={"failing": []}, succeeds=False)


def test_warnings_are_refused(inventory: Path) -> None:
    """Deprecations always, other warnings unless they are expected."""
    warning = inventory.with_name("warning.yml")
    warning.write_text("---\n- name: W\n  hosts: nobody_at_all\n  gather_facts: false\n")
    with pytest.raises(AssertionError, match="unexpected warnings"):
        support.run_playbook(warning, inventory=inventory)
    support.run_playbook(warning, inventory=inventory, warnings=["nobody_at_all"])
    output = "[DEPRECATION WARNING]: it goes\n[WARNING]: hm\nok: [a]\n"
    assert support.warnings_in(output, [".*"]) == ["[DEPRECATION WARNING]: it goes"]
    assert len(support.warnings_in(output)) == 2


def test_killed_run_leaves_a_record(inventory: Path) -> None:
    """What had happened until then is known."""
    playbook = inventory.with_name("play.yml")
    with support.start_playbook(playbook, inventory=inventory, extra_vars={"failing": []}) as running:
        running.wait_for_task("Two modules")
        running.process.kill()
        run = running.wait(60, succeeds=False)
    assert run.tasks
    assert run.stats == {}


@pytest.fixture
def stale(tmp_path: Path, root: Path) -> Path:
    """An installed copy of the collection that is not what the checkout holds."""
    copy = tmp_path / "collections" / "ansible_collections" / "multihost" / "overlay"
    provenance.copy_project(root, copy)
    with (copy / "plugins" / "module_utils" / "_findings.py").open("a") as module:
        module.write("# older\n")
    return copy


def test_foreign_copy_is_noticed(stale: Path, root: Path, inventory: Path) -> None:
    """Before the tests, by what Ansible would load; after a run, by what it did load."""
    found = provenance.compare(root, stale)
    assert [line.split(": ")[1] for line in found] == ["differs"]
    environ = {"ANSIBLE_COLLECTIONS_PATH": str(stale.parents[2])}
    assert provenance.differences(root, {**os.environ, **environ}) == found
    with pytest.raises(AssertionError, match="another copy of the collection ran"):
        support.run_playbook(
            inventory.with_name("play.yml"), inventory=inventory, extra_vars={"failing": []}, env=environ
        )


def test_copy_is_brought_up_to_date(stale: Path, root: Path) -> None:
    """A second copy_project undoes all differences and keeps what it is told to keep."""
    (stale / "plugins" / "modules" / "gone.py").touch()
    (stale / "tests" / "output").mkdir(parents=True)
    (stale / "tests" / "output" / "kept").touch()
    provenance.copy_project(root, stale, keep=("tests/output",))
    assert provenance.compare(root, stale) == []
    assert (stale / "tests" / "output" / "kept").exists()
    shutil.rmtree(stale / "plugins" / "modules")
    assert provenance.compare(root, stale)


def test_shims_are_no_pythons(tmp_path: Path) -> None:
    """A program that is there and does not run is not found."""
    shim = tmp_path / "python3.9"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    assert not pythons.answers(shim, "3.9")
    version = "{}.{}".format(*sys.version_info)
    assert pythons.answers(Path(sys.executable), version)
    assert not pythons.answers(Path(sys.executable), "3.1")


@pytest.mark.parametrize(
    ("output", "details"),
    [
        ("===== 3 passed, 1 skipped in 2.00s =====", "3 passed, 1 skipped"),
        ("=== 1 failed, 2 passed in 61.00s (0:01:01) ===\nmake: *** Error", "1 failed, 2 passed"),
        ("===== 1 passed (molecule scenarios) =====", "1 passed (molecule scenarios)"),
        ("NOT RUN: no Python", "NOT RUN: no Python"),
        ("all well", ""),
    ],
)
def test_details_of_a_suite(output: str, details: str) -> None:
    """The table of results repeats what a suite says of itself."""
    assert run_suites.details_of(output) == details


def test_suites_with_hosts_have_the_machine_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of the others run at a time; hosts are made when they are done, one suite after another; the table has all in their order."""
    assert set(run_suites.HOSTLESS) < set(run_suites.SUITES)
    both = threading.Barrier(run_suites.AT_A_TIME, timeout=60)
    running: list[str] = []

    def run(suite: str) -> run_suites.Result:
        running.append(suite)
        if suite in run_suites.HOSTLESS[:2]:
            both.wait()
        else:
            assert suite in run_suites.HOSTLESS or running == [suite]
        running.remove(suite)
        return run_suites.Result(suite, True, 1.0, "")

    monkeypatch.setattr(run_suites, "run", run)
    suites = [*run_suites.SUITES]
    assert [result.suite for result in run_suites.run_all(suites)] == suites


def test_a_failed_suite_speaks_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sees only the end of a run's output sees why it failed, and of what passed only the line in the table."""
    monkeypatch.setattr(run_suites, "log_of", lambda suite: tmp_path / suite)
    for suite in ("unit", "cores"):
        (tmp_path / suite).write_text("".join(f"{suite} {number}\n" for number in range(100)))
    results = [run_suites.Result("unit", True, 1.0, "3 passed"), run_suites.Result("cores", False, 2.0, "")]
    words = run_suites.last_words(results)
    assert words[0].endswith("cores ended with")
    assert words[-1] == "cores 99"
    assert not any(line.startswith("unit") for line in words)
    assert run_suites.table(results, 2.5)[-1] == "===== 1 failed, 1 passed in 2.5 s"


def test_scenarios_of_virtual_machines_run_when_asked_for(root: Path) -> None:
    """They take their time, and want more than a lab."""
    assert "default" in run_molecule.in_the_lab(root)
    assert "vagrant" not in run_molecule.in_the_lab(root)


def test_the_quick_start_is_what_is_tested(root: Path) -> None:
    """The README's commands for virtual machines are those of the scenario."""
    said = (root / "README.md").read_text()
    scenario = root / "molecule" / "vagrant"
    ansible = yaml.safe_load((scenario / "molecule.yml").read_text())["ansible"]
    create = yaml.safe_load((scenario / "create.yml").read_text())[0]["tasks"][0]["ansible.builtin.command"]
    inventory = ansible["executor"]["args"]["ansible_playbook"][0].removeprefix(
        "--inventory=${MOLECULE_PROJECT_DIRECTORY}/"
    )
    folder = create["chdir"].removeprefix("{{ playbook_dir }}/../../")
    converge = yaml.safe_load((scenario / ansible["playbooks"]["converge"]).read_text())[0]
    playbook = converge["ansible.builtin.import_playbook"].removeprefix("../../")
    assert f"(cd {folder} && {' '.join(create['argv'])})" in said
    assert f"ansible-playbook -i {inventory} {playbook}" in said


def test_machines_of_others_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of the quick start have the same names; what a killed run has left is taken away."""
    monkeypatch.setattr(run_vagrant, "STATE", tmp_path)
    monkeypatch.setattr(run_vagrant, "OURS", tmp_path / "ours")
    assert run_vagrant.somebody_elses() == []
    machine = tmp_path / "machines" / "node1" / "libvirt"
    machine.mkdir(parents=True)
    (machine / "id").touch()
    assert "node1" in run_vagrant.somebody_elses()[0]
    (tmp_path / "ours").touch()
    assert run_vagrant.somebody_elses() == []


def test_a_failed_step_ends_the_scenario_but_not_its_cleaning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left of machines that did not converge."""
    ran = []
    monkeypatch.setattr(run_vagrant, "OURS", tmp_path / "ours")

    def step(_scenario: str, name: str) -> list[str]:
        ran.append(name)
        return ["no"] if name == "converge" else []

    monkeypatch.setattr(run_molecule, "run", step)
    results = list(run_vagrant.steps())
    assert ran == ["destroy", "create", "prepare", "converge", "destroy"]
    assert [result.passed for result in results] == [True, True, True, False, True]


class FakeVirsh:
    """Answers as libvirt does, and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.lists = {
            "list": ["vagrant_node1", "somebody"],
            "net-list --name": ["vagrant0", "default"],
            "net-list --all": ["vagrant0", "default"],
            "pool-list": ["default"],
            "vol-list": ["overlay-bullseye-1_box.img /a", "vagrant_node1.img /b", "mine.img /c"],
        }

    def __call__(self, *words: str, check: bool = True) -> str:
        self.told.append(" ".join(words))
        found = [lines for start, lines in self.lists.items() if self.told[-1].startswith(start)]
        return "\n".join(found[0]) if found else ""


@pytest.mark.parametrize(("mode", "meanwhile"), [(0o600, 0o660), (0o666, 0o666)])
def test_kvm_is_as_it_was_afterwards(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int, meanwhile: int
) -> None:
    """One that libvirt's processes can open already is not touched. A file stands for the device."""
    device = tmp_path / "kvm"
    device.touch(mode)
    device.chmod(mode)
    monkeypatch.setattr(libvirt, "KVM", device)
    monkeypatch.setattr(libvirt.grp, "getgrnam", lambda _name: SimpleNamespace(gr_gid=os.getegid()))
    with libvirt.kvm_as_udev_makes_it():
        assert stat.S_IMODE(device.stat().st_mode) == meanwhile
    assert stat.S_IMODE(device.stat().st_mode) == mode


def test_of_libvirt_s_only_what_is_ours_is_taken_away(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Machines, images and networks of others stay, and so does what was there before."""
    virsh = FakeVirsh()
    monkeypatch.setattr(libvirt, "virsh", virsh)
    monkeypatch.setattr(libvirt, "LAB", tmp_path / "none")
    monkeypatch.setattr(libvirt, "FORWARD", tmp_path / "ip_forward")
    (tmp_path / "ip_forward").write_text("1\n")
    libvirt.remove_leftovers({"up": ["default"], "networks": ["default"], "pools": ["default"], "forward": ["0"]})
    changed = [line for line in virsh.told if "list" not in line]
    assert changed == [
        "destroy vagrant_node1",
        "undefine vagrant_node1 --remove-all-storage",
        "vol-delete overlay-bullseye-1_box.img --pool default",
        "vol-delete vagrant_node1.img --pool default",
        "net-destroy vagrant0",
        "net-undefine vagrant0",
    ]
    assert (tmp_path / "ip_forward").read_text() == "0"


def test_a_lab_keeps_what_it_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its hosts reach nothing without forwarding, and it puts back what was there itself."""
    monkeypatch.setattr(libvirt, "virsh", FakeVirsh())
    monkeypatch.setattr(libvirt, "LAB", tmp_path / "machine.json")
    monkeypatch.setattr(libvirt, "FORWARD", tmp_path / "ip_forward")
    (tmp_path / "machine.json").write_text('{"labs": ["lab"]}')
    (tmp_path / "ip_forward").write_text("1\n")
    libvirt.remove_leftovers({"up": [], "networks": [], "pools": [], "forward": ["0"]})
    assert (tmp_path / "ip_forward").read_text() == "1\n"


@pytest.mark.parametrize(("status", "runs"), [(33, True), (1, False), (0, False)])
def test_only_a_guest_that_ran_counts(status: int, runs: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """QEMU ends with this status when the guest has asked for it, and with 1 when it could not start."""
    program = tmp_path / "qemu-system-x86_64"
    program.write_text(f"#!/bin/sh\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert libvirt.guests_run("kvm", 10) is runs
    program.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    assert not libvirt.guests_run("kvm", 0.2)
    program.unlink()
    assert not libvirt.guests_run("kvm", 10)
