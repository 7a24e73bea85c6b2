# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Engine and Consul are upgraded under traffic; what cannot be is refused, what breaks is put back, what was killed goes on.

The packages are two real ones: Debian 11's and its security update's. Archives are Debian 11's programs that say another version.
The tests build on one another.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import IMAGE, PROGRAMS, Cluster, wait_for
from tests.e2e import repack_engine
from tests.e2e.conftest import KEEP
from tests.e2e.shared import HOSTS
from tests.e2e.state import differences, state_of
from tests.e2e.support import Run, run_playbook, start_playbook
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/upgrade.yml"
ADDRESSES = {host: f"10.88.190.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.190.1"
SECURITY = "/etc/apt/sources.list.d/security.list"
# One connection for all of a test: what it sends comes back, and the longest wait for it is written down.
ECHO = """
import socket
listener = socket.socket(); listener.bind(("", 7000)); listener.listen()
link, _peer = listener.accept()
while True: link.sendall(link.recv(64) or exit())
"""
STREAM = """
import socket, sys, time
link = socket.create_connection((sys.argv[1], 7000), timeout=60)
longest = 0.0
while True:
    begun = time.monotonic(); link.sendall(b"x" * 64)
    got = 0
    while got < 64: got += len(link.recv(64 - got) or sys.exit("closed"))
    longest = max(longest, time.monotonic() - begun)
    with open("/out/longest", "w") as file: file.write(f"{longest:.3f}")
    time.sleep(0.05)
"""
OUT = "/run/multihost-overlay-stream"
ENGINE_ONLY = {"overlay_upgrade_programs": ["engine"]}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts with what Debian 11 itself has."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    folder = tmp_path_factory.mktemp("converge")
    run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(folder)})
    yield Cluster("upgrade", HOSTS)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@pytest.fixture(scope="module")
def busy(cluster: Cluster) -> Iterator[Traffic]:
    # Three hosts that unpack packages leave little of two processors to the others.
    with traffic(cluster, ADDRESSES, "ours", CONTROLLER, patience=8) as running:
        yield running


@pytest.fixture(scope="module")
def stream(cluster: Cluster, busy: Traffic) -> Iterator[None]:
    """From node1 to node2, over the overlay."""
    run_python(cluster, "node2", "echo", ECHO)
    form = '{{(index .NetworkSettings.Networks "ours").IPAddress}}'
    address = cluster.out("node2", "docker", "inspect", "-f", form, "echo")
    run_python(cluster, "node1", "stream", STREAM, address)
    yield
    cluster.remove_containers("echo", "stream")


def run_python(cluster: Cluster, host: str, name: str, program: str, *words: str) -> None:
    mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
    cluster.run(host, "mkdir", "-p", OUT)
    options = ["--name", name, "--network", "ours", *mounts, "-v", f"{OUT}:/out"]
    cluster.run(host, "docker", "run", "-d", *options, IMAGE, "/usr/bin/python3", "-c", program, *words)


def longest(cluster: Cluster) -> float:
    """Seconds that something took to come back over the connection, which must not have ended."""
    assert cluster.out("node1", "docker", "inspect", "-f", "{{.State.Running}}", "stream") == "true"
    return float(cluster.out("node1", "cat", f"{OUT}/longest"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("archives")


def engine_archive(folder: Path, version: str) -> dict[str, str]:
    """The variables of an archive whose engine says that version."""
    path = folder / f"docker-{version}.tgz"
    versions = ("20.10.5+dfsg1", f"{version}+dfsg1")
    checksum = repack_engine.repack(path, repack_engine.mirror_of_this_machine(), versions=versions)
    return chosen_engine(path, checksum)


def chosen_engine(path: Path, checksum: str) -> dict[str, str]:
    return {
        "overlay_docker_install": "archive",
        "overlay_docker_archive": str(path),
        "overlay_docker_archive_checksum": checksum,
    }


@pytest.fixture(scope="module")
def engines(folder: Path) -> dict[str, dict[str, str]]:
    return {version: engine_archive(folder, version) for version in ("20.10.7", "20.10.8")}


@pytest.fixture(scope="module")
def consul(folder: Path) -> dict[str, str]:
    path = folder / "consul_1.8.9_linux_amd64.zip"
    checksum = repack_engine.zip_consul(path, repack_engine.mirror_of_this_machine(), versions=("1.8.7", "1.8.9"))
    return {
        "overlay_consul_install": "archive",
        "overlay_consul_archive": str(path),
        "overlay_consul_archive_checksum": checksum,
    }


def upgrade(report: Path, extra: dict[str, Any] | None = None, **options: Any) -> Run:
    variables = {"overlay_report_dir": str(report), **(extra or {})}
    return run_playbook("playbooks/upgrade.yml", inventory=INVENTORY, extra_vars=variables, **options)


def versions(cluster: Cluster) -> list[str]:
    """What the engines say."""
    return [cluster.out(host, "docker", "version", "-f", "{{.Server.Version}}").split("+")[0] for host in HOSTS]


def packaged(cluster: Cluster, name: str) -> set[str]:
    return {cluster.out(host, "dpkg-query", "-W", "-f", "${Version}", name) for host in HOSTS}


def turns(run: Run) -> list[str]:
    """Who was upgraded, in order, by the tasks that only do so."""
    return [
        host for task in run.tasks if task.name.endswith("Note what there is to go back to") for host in task.outcomes
    ]


def test_with_nothing_newer_nothing_is_done(cluster: Cluster, busy: Traffic, tmp_path: Path) -> None:
    before = state_of(cluster)
    run = upgrade(tmp_path)
    assert run.changed == {} and "newest that its package sources offer" in run.output
    assert "overlay_ping" not in str(run.modules)
    assert differences(before, state_of(cluster)) == [] and busy.failed() == []


def test_a_dry_run_shows_what_would_be_and_changes_nothing(
    cluster: Cluster, engines: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    before = state_of(cluster)
    run = upgrade(tmp_path, engines["20.10.7"], arguments=("--check", "--diff"))
    assert re.search(r"node2 +Docker +20\.10\.5\S+ +20\.10\.7 +upgrade", run.output), run.output[-3000:]
    assert differences(before, state_of(cluster)) == []


@pytest.mark.parametrize(
    ("name", "words"), [("docker-23.0.6.tgz", "removed in 23.0"), ("docker-20.10.99.tgz", "no store")]
)
def test_an_engine_without_the_classic_mode_is_refused(
    cluster: Cluster, folder: Path, tmp_path: Path, name: str, words: str
) -> None:
    path = folder / name
    with tarfile.open(path, "w:gz") as archive:
        entry = tarfile.TarInfo("docker/dockerd")
        entry.size = 100
        archive.addfile(entry, io.BytesIO(b"x" * 100))
    before = state_of(cluster)
    run = upgrade(tmp_path, chosen_engine(path, sha256(path.read_bytes()).hexdigest()), succeeds=False)
    assert "Nothing was changed on any host" in run.messages and words in run.messages
    assert differences(before, state_of(cluster)) == []


def test_a_part_of_the_cluster_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    run = upgrade(tmp_path, succeeds=False, arguments=("--limit", "node1"))
    assert "leaves out node2, node3" in run.messages


def test_packages_are_upgraded_without_a_probe_lost(
    cluster: Cluster, busy: Traffic, stream: None, tmp_path: Path
) -> None:
    mirror = repack_engine.mirror_of_this_machine()
    for host in HOSTS:
        cluster.write(host, SECURITY, f"deb {mirror}-security bullseye-security main\n")
    before = packaged(cluster, "docker.io")
    run = upgrade(tmp_path)
    assert turns(run) == list(HOSTS)
    assert len(packaged(cluster, "docker.io")) == 1 and packaged(cluster, "docker.io") != before
    for host in HOSTS:
        for program in ("dockerd", "containerd"):
            runs = cluster.out(host, "sh", "-c", f'readlink "/proc/$(pidof {program})/exe"')
            assert "deleted" not in runs, (host, runs)
        assert cluster.run(host, "test", "-e", "/usr/sbin/policy-rc.d", check=False).returncode != 0
    assert busy.failed() == [] and longest(cluster) < 2
    assert upgrade(tmp_path).changed == {}


def test_consul_is_upgraded_its_leader_last_without_a_probe_lost(
    cluster: Cluster, busy: Traffic, stream: None, consul: dict[str, str], tmp_path: Path
) -> None:
    leader = json.loads(cluster.call("node1", "http://127.0.0.1:8500/v1/status/leader")[1]).split(":")[0]
    run = upgrade(tmp_path, consul)
    assert ADDRESSES[turns(run)[-1]] == leader and sorted(turns(run)) == list(HOSTS)
    for host in HOSTS:
        runs = cluster.out(host, "sh", "-c", '"/proc/$(pidof consul)/exe" version')
        assert "v1.8.9" in runs
    assert busy.failed() == [] and longest(cluster) < 2
    assert upgrade(tmp_path, consul).changed == {}


def break_engine(cluster: Cluster, host: str, archive: dict[str, str]) -> str:
    """Where the archive's engine would be on a host, there is one that does not start."""
    place = f"/usr/local/lib/multihost-overlay/docker-{archive['overlay_docker_archive_checksum'][:12]}"
    cluster.write(host, f"{place}/dockerd", "#!/bin/sh\necho broken on purpose >&2\nexit 1\n", "0755")
    return place


def test_a_broken_engine_is_put_back_and_stops_the_run(
    cluster: Cluster,
    busy: Traffic,
    stream: None,
    engines: dict[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    place = break_engine(cluster, "node2", engines["20.10.7"])
    third = {thing: value for thing, value in state_of(cluster).items() if thing.startswith("node3")}
    run = upgrade(tmp_path, {**engines["20.10.7"], **ENGINE_ONLY}, succeeds=False)
    assert versions(cluster) == ["20.10.7", "20.10.5", "20.10.5"]
    assert "stopped at node2 (Docker)" in run.messages and "what was there before is back" in run.messages
    assert "Done in this run: node1 (Docker)." in run.messages and "Not touched: node3 (Docker)." in run.messages
    assert "To go on:" in run.messages and "To go back" in run.messages
    after = {thing: value for thing, value in state_of(cluster).items() if thing.startswith("node3")}
    assert differences(third, after) == []
    assert longest(cluster) < 5
    assert [
        line for line in busy.failed("node1", "node3") if ADDRESSES["node2"] not in line and "node2" not in line
    ] == []
    cluster.run("node2", "rm", "-r", place)


def test_a_run_that_was_killed_goes_on(
    cluster: Cluster,
    busy: Traffic,
    stream: None,
    engines: dict[str, dict[str, str]],
    tmp_path: Path,
) -> None:
    busy.failed()
    wanted = {**engines["20.10.7"], **ENGINE_ONLY}
    variables = {"overlay_report_dir": str(tmp_path), **wanted}
    with start_playbook("playbooks/upgrade.yml", inventory=INVENTORY, extra_vars=variables) as running:
        running.wait_for_task("Merge our keys into daemon.json")
        running.kill()
    run = upgrade(tmp_path, wanted)
    assert turns(run)[-2:] == ["node2", "node3"] and versions(cluster) == ["20.10.7"] * 3
    assert busy.failed() == [] and longest(cluster) < 5
    assert upgrade(tmp_path, wanted).changed == {}


def test_without_live_restore_it_is_asked_first(
    cluster: Cluster, busy: Traffic, engines: dict[str, dict[str, str]], consul: dict[str, str], tmp_path: Path
) -> None:
    fragile = {"overlay_docker_config": {"live-restore": False}, "overlay_docker_restart": "rolling"}
    wanted = {**engines["20.10.7"], **consul}
    run_playbook("site.yml", inventory=INVENTORY, extra_vars={**wanted, **fragile, "overlay_report_dir": str(tmp_path)})
    wait_for("all containers are back", lambda: busy.failed() == [], 60, every=3)
    later = {**engines["20.10.8"], **consul, "overlay_docker_config": {"live-restore": False}}
    run = upgrade(tmp_path, later, succeeds=False)
    assert "nobody has consented" in run.messages and "server-node2" in run.messages
    assert versions(cluster) == ["20.10.7"] * 3 and busy.failed() == []
    run = upgrade(tmp_path, {**later, "overlay_docker_restart": "rolling"})
    assert versions(cluster) == ["20.10.8"] * 3
