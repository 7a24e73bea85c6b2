# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Backups of a running cluster, what is refused of them, and their restore: onto the same hosts, and after all hosts were lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._drill import FOLDER, NAME
from ansible_collections.multihost.overlay.plugins.plugin_utils import _backup_file as files
from tests.cluster import Cluster, wait_for
from tests.e2e.conftest import KEEP
from tests.e2e.shared import HOSTS
from tests.e2e.state import differences, state_of
from tests.e2e.support import ROOT, Run, run_playbook
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "backup.yml"
ADDRESSES = {host: f"10.88.170.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.170.1"
PASSPHRASE = "correct horse battery"
# What the inventory asks for.
NETWORKS = ("back", "shop")
VAULT = str(Path(sys.executable).with_name("ansible-vault"))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    site(tmp_path_factory.mktemp("site"))
    yield Cluster("backup", HOSTS)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@pytest.fixture(scope="module")
def busy(cluster: Cluster) -> Iterator[Traffic]:
    with traffic(cluster, ADDRESSES, "shop", CONTROLLER) as running:
        yield running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("backups") / "kept"


@pytest.fixture(scope="module")
def passphrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("passphrase") / "file"
    path.write_text(f"{PASSPHRASE}\n")
    return path


@pytest.fixture(scope="module")
def taken(cluster: Cluster, busy: Traffic, folder: Path, passphrase: Path) -> Path:
    """A backup of the cluster with its containers."""
    backup(folder, overlay_backup_passphrase_file=str(passphrase))
    (path,) = folder.glob("*.vault")
    return path


def site(report: Path) -> Run:
    return run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(report)})


def backup(folder: Path, **more: Any) -> Run:
    """One more; the passphrase is in a file of variables here, so that it is in no command line."""
    options = {name: more.pop(name) for name in ("arguments", "succeeds") if name in more}
    extra = {"overlay_backup_dir": str(folder), "overlay_report_dir": str(folder.parent / "report"), **more}
    return run_playbook("playbooks/backup.yml", inventory=INVENTORY, extra_vars=extra, **options)


def restore(path: Path, passphrase: Path, **more: Any) -> Run:
    options = {name: more.pop(name) for name in ("arguments", "succeeds") if name in more}
    extra = {
        "overlay_restore_file": str(path), "overlay_backup_dir": str(path.parent), "overlay_report_dir": str(passphrase.parent),
        "overlay_backup_passphrase_file": str(passphrase), **more,
    }  # fmt: skip
    return run_playbook("playbooks/restore.yml", inventory=INVENTORY, extra_vars=extra, **options)


def networks(cluster: Cluster, host: str) -> dict[str, list[str]]:
    """name -> [id, subnet], as the engine of a host says."""
    form = "{{.Name}} {{.Id}} {{range .IPAM.Config}}{{.Subnet}}{{end}}"
    names = cluster.out(host, "docker", "network", "ls", "-q", "--no-trunc", "--filter", "driver=overlay").split()
    lines = cluster.out(host, "docker", "network", "inspect", "-f", form, *names).splitlines() if names else []
    return {line.split()[0]: line.split()[1:] for line in lines}


def keys(cluster: Cluster) -> str:
    """What is in the store and does not change by itself."""
    exported = json.loads(cluster.consul("node2", "kv", "export", "docker/network/"))
    # Folders, which have no value, come when an engine looks into them.
    return json.dumps([[row["key"], row["value"]] for row in exported if row["value"]])


def content(path: Path) -> dict[str, Any]:
    return files.read(path, PASSPHRASE.encode())


def hardly_any(busy: Traffic) -> None:
    """Probes that failed since they were asked for last. A machine with more to do than it can is late now and then."""
    failed = busy.failed()
    asked = sum(sum(busy.counts(host).values()) for host in HOSTS)
    print(f"{len(failed)} probes failed; {asked} since the beginning")
    assert len(failed) < 30, failed


def drill_is_gone(cluster: Cluster) -> None:
    """Unit, folder and program."""
    for host in HOSTS:
        assert cluster.run(host, "test", "-e", FOLDER, check=False).returncode == 1
        assert cluster.out(host, "systemctl", "list-units", "--all", "--plain", "--no-legend", f"{NAME}*") == ""
        assert len(cluster.out(host, "pidof", "consul").split()) == 1


def test_without_a_passphrase_nothing_is_begun(cluster: Cluster, busy: Traffic, folder: Path) -> None:
    run = backup(folder, succeeds=False)
    assert "overlay_backup_passphrase_file" in run.messages
    assert "multihost.overlay.consul_snapshot" not in str(run.modules)
    assert not folder.exists()


def test_a_dry_run_writes_nothing(cluster: Cluster, busy: Traffic, folder: Path, passphrase: Path) -> None:
    run = backup(folder, overlay_backup_passphrase_file=str(passphrase), arguments=("--check",))
    assert "would write 2 networks" in run.output
    assert "multihost.overlay.consul_snapshot" in str(run.modules)
    assert not folder.exists()


def test_a_backup_has_what_is_needed_and_tells_nobody(
    cluster: Cluster, busy: Traffic, taken: Path, passphrase: Path
) -> None:
    viewed = subprocess.run(
        [VAULT, "view", "--vault-password-file", str(passphrase), str(taken)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    found = json.loads(viewed.stdout)
    there = networks(cluster, "node1")
    assert {row["name"]: [row["id"], row["ipam"][0]["subnet"]] for row in found["networks"]} == there
    assert sorted(there) == list(NETWORKS)
    held = json.loads(cluster.out("node1", "cat", "/etc/multihost-overlay/secrets.json"))
    assert found["secrets"] == held
    (shop,) = [row for row in found["networks"] if row["name"] == "shop"]
    assert {row["name"] for row in shop["endpoints"]} == {
        f"{kind}-{host}" for kind in ("server", "asker") for host in HOSTS
    }
    assert (taken.stat().st_mode & 0o777, taken.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_no_secret_is_in_what_is_printed(cluster: Cluster, busy: Traffic, taken: Path, passphrase: Path) -> None:
    secrets = content(taken)["secrets"]
    run = restore(taken, passphrase, overlay_restore_drill=True, arguments=("-vvv",))
    more = backup(taken.parent, overlay_backup_passphrase_file=str(passphrase), arguments=("-vvv",))
    for text in (run.output, more.output, run.log.with_suffix(".jsonl").read_text()):
        assert not [name for name in ("seed", "gossip_key", "ca_key") if secrets[name].strip() in text]
        assert PASSPHRASE not in text
    for host in HOSTS:
        journal = cluster.out(host, "journalctl", "-b", "--no-pager", "-o", "cat")
        assert secrets["seed"] not in journal


def test_so_many_are_kept(cluster: Cluster, busy: Traffic, taken: Path, passphrase: Path) -> None:
    other = files.write(taken.parent, {**content(taken), "cluster": "fedcba9876543210"}, PASSPHRASE.encode())[0]
    for _number in range(2):
        backup(taken.parent, overlay_backup_passphrase_file=str(passphrase), overlay_backup_keep=3)
    left = sorted(taken.parent.glob("*.vault"))
    assert len(left) == 4
    assert other in left
    other.unlink()
    files.manifest_path(other).unlink()


def test_a_drill_leaves_no_trace(cluster: Cluster, busy: Traffic, folder: Path, passphrase: Path) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    before, stored = state_of(cluster), keys(cluster)
    run = restore(newest, passphrase, overlay_restore_drill=True)
    assert "the backup is in order" in run.output
    assert "the store has not changed since" in run.output
    assert run.changed == {}
    drill_is_gone(cluster)
    assert (differences(before, state_of(cluster)), keys(cluster) == stored) == ([], True)


def test_a_drill_says_what_has_changed_since_and_clears_up_after_one_that_was_killed(
    cluster: Cluster, busy: Traffic, folder: Path, passphrase: Path
) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    for host in HOSTS:
        cluster.run(host, "sh", "-c", f"mkdir -p {FOLDER}; systemd-run -q --unit={NAME} sleep 600")
    cluster.run("node3", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.179.0/24", "extra")
    try:
        run = restore(newest, passphrase, overlay_restore_drill=True)
        assert "network extra" in run.output
        assert "came after the backup" in run.output
    finally:
        cluster.run("node3", "docker", "network", "rm", "extra")
        speaker = [host for host in HOSTS if cluster.run(host, "test", "-e", FOLDER, check=False).returncode]
        for host in set(HOSTS) - set(speaker):
            cluster.run(host, "sh", "-c", f"systemctl stop {NAME}; rm -rf {FOLDER}")
    assert len(speaker) == 1
    drill_is_gone(cluster)


@pytest.mark.parametrize("fault", ["damaged", "passphrase", "foreign", "newer", "unnamed"])
def test_what_does_not_fit_changes_nothing(
    cluster: Cluster, busy: Traffic, folder: Path, passphrase: Path, tmp_path: Path, fault: str
) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    changes: dict[str, dict[str, Any]] = {
        "foreign": {"cluster": "fedcba9876543210"},
        "newer": {"consul_version": "1.14.1"},
    }
    path = files.write(tmp_path, {**content(newest), **changes.get(fault, {})}, PASSPHRASE.encode())[0]
    other = tmp_path / "passphrase"
    other.write_text("another passphrase" if fault == "passphrase" else PASSPHRASE)
    if fault == "damaged":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    before, stored = state_of(cluster), keys(cluster)
    given = {"overlay_restore_file": ""} if fault == "unnamed" else {}
    run = restore(path, other, succeeds=False, overlay_restore_confirm=True, **given)
    words = {
        "damaged": "is damaged", "passphrase": "passphrase is not the one", "foreign": "keep the secrets of",
        "newer": "Consul is 1.8.7 here", "unnamed": str(path),
    }[fault]  # fmt: skip
    assert words in run.messages
    assert run.changed == {}
    assert (differences(before, state_of(cluster)), keys(cluster) == stored) == ([], True)


def test_somebody_is_asked_before_something_is_lost(
    cluster: Cluster, busy: Traffic, taken: Path, folder: Path, passphrase: Path
) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    cluster.run("node3", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.179.0/24", "extra")
    stored = keys(cluster)
    run = restore(newest, passphrase, succeeds=False)
    assert "network extra (10.100.179.0/24)" in run.messages
    assert "overlay_restore_confirm=yes" in run.messages
    assert keys(cluster) == stored
    dry = restore(newest, passphrase, arguments=("--check",))
    assert "network extra (10.100.179.0/24)" in dry.output
    assert keys(cluster) == stored
    cluster.run("node3", "docker", "network", "rm", "extra")


def test_onto_the_same_hosts_with_consent(
    cluster: Cluster, busy: Traffic, taken: Path, folder: Path, passphrase: Path
) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    before = networks(cluster, "node1")
    cluster.run("node3", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.179.0/24", "extra")
    cluster.start_service("node1", "late", "shop")
    address = cluster.out("node1", "docker", "inspect", "-f", "{{.NetworkSettings.Networks.shop.IPAddress}}", "late")
    wait_for("late is reached", lambda: cluster.ask("node3", "server-node3", address) == "late", 60)
    busy.failed()
    run = restore(newest, passphrase, overlay_restore_confirm=True)
    print(f"restore onto the same hosts: {run.seconds:.0f} s")
    assert "container late of shop" in run.output
    for host in HOSTS:
        assert networks(cluster, host) == before
    hardly_any(busy)
    # The store does not know it any more, and it is reached all the same; with a restart it is known again.
    for host in HOSTS[1:]:
        assert cluster.ask(host, f"server-{host}", address) == "late"
    cluster.run("node1", "docker", "restart", "late")
    wait_for("late is known again", lambda: cluster.ask("node3", "server-node3", "late") == "late", 60)
    cluster.remove_containers("late")
    assert site(passphrase.parent).changed == {}


def test_networks_that_were_destroyed_come_back_under_their_containers(
    cluster: Cluster, busy: Traffic, taken: Path, folder: Path, passphrase: Path
) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    before = networks(cluster, "node1")
    busy.failed()
    cluster.consul("node1", "kv", "delete", "-recurse", "docker/network/")
    assert networks(cluster, "node2") == {}
    restore(newest, passphrase)
    for host in HOSTS:
        assert networks(cluster, host) == before
    hardly_any(busy)
    services = {f"server-{host}": host for host in HOSTS}
    wait_for("all names are known", lambda: not cluster.unreached(services), 120, every=2)
    cluster.start_service("node2", "late", "back")
    cluster.remove_containers("late")
    assert site(passphrase.parent).changed == {}


def test_all_hosts_are_lost(cluster: Cluster, busy: Traffic, taken: Path, folder: Path, passphrase: Path) -> None:
    newest = sorted(folder.glob("*.vault"))[-1]
    before = networks(cluster, "node1")
    secrets = cluster.out("node1", "cat", "/etc/multihost-overlay/secrets.json")
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    run = restore(newest, passphrase)
    print(f"all hosts lost, bare hosts to a proven cluster: {run.seconds:.0f} s")
    for host in HOSTS:
        assert networks(cluster, host) == before
        assert json.loads(cluster.out(host, "cat", "/etc/multihost-overlay/secrets.json")) == json.loads(secrets)
    # The names of the containers that were lost are free again.
    try:
        for host in HOSTS:
            cluster.start_service(host, f"server-{host}", "shop")
        services = {f"server-{host}": host for host in HOSTS}
        wait_for("they reach one another", lambda: not cluster.unreached(services), 60, every=2)
    finally:
        cluster.remove_containers(*[f"server-{host}" for host in HOSTS])
    assert site(passphrase.parent).changed == {}
    backup(folder, overlay_backup_passphrase_file=str(passphrase))
    assert (
        "the store has not changed since"
        in restore(sorted(folder.glob("*.vault"))[-1], passphrase, overlay_restore_drill=True).output
    )
