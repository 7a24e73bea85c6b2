# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as people have them: what docs/hosts.md says of each works, and what cannot work is refused before it does harm.

Tests of what is refused have good news pending, which a run that goes too far would bring to every host.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cluster import Cluster
from tests.e2e.people import (
    ASKED,
    CONTROLLER,
    FREE,
    HOSTS,
    LAB,
    MANAGEMENT,
    NOEXEC,
    PASSWORD,
    SSH,
    UNDERLAY,
    Change,
    Inventory,
    closed_to_the_controller,
    each,
    forwarded,
    lab,
    login,
    ssh,
    sudo,
    written,
)
from tests.e2e.state import differences, state_of
from tests.e2e.support import Run, run_playbook

pytestmark = pytest.mark.lab
# How a host is reached shows in any playbook; the whole way takes its time.
SHORT_AND_WHOLE = pytest.mark.parametrize(
    "playbook", ["playbooks/verify.yml", pytest.param("site.yml", marks=pytest.mark.long)]
)

NO_ADDRESS = each("overlay_address", dict.fromkeys(HOSTS))
FAKE_SUDO = "#!/bin/sh\nexec touch {called}\n"


def pending(inventory: Inventory) -> None:
    """What a run that is not refused changes on every host."""
    inventory["all"]["vars"].update(
        overlay_docker_config={"max-concurrent-downloads": 2},
        overlay_host_sysctls={"net.ipv4.ip_forward": 1, "net.ipv4.conf.lo.log_martians": 1},
    )


@pytest.fixture(scope="module")
def hosts() -> Iterator[Cluster]:
    """Hosts with nothing of ours, unless a test that comes first has converged them."""
    with lab() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def first_run(hosts: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """site.yml by the user whose sudo asks for nothing."""
    folder = tmp_path_factory.mktemp("first")
    return play("site.yml", folder, sudo)


@pytest.fixture
def cluster(hosts: Cluster, first_run: Run) -> Cluster:
    """The same hosts, converged."""
    return hosts


def play(playbook: str, folder: Path, *changes: Change, **options: Any) -> Run:
    """A playbook on a variation of the inventory, its reports in the folder."""
    extra = {"overlay_report_dir": str(folder), **options.pop("extra_vars", {})}
    return run_playbook(playbook, inventory=written(folder, *changes), extra_vars=extra, **options)


def trouble(folder: Path, name: str = "preflight.json") -> list[tuple[str, str]]:
    """(host, id) of all that is worse than an info."""
    findings = json.loads((folder / name).read_text())["findings"]
    return sorted((row["host"], row["id"]) for row in findings if row["level"] != "info")


def proven(folder: Path) -> bool:
    """Every pair of hosts was proven by packets."""
    pairs = json.loads((folder / "verify.json").read_text())["pairs"]
    return len(pairs) == 6 and all(pair["ok"] for pair in pairs)


@pytest.fixture
def refused(hosts: Cluster, tmp_path: Path) -> Callable[..., Run]:
    """Runs site.yml (or another playbook) that must fail in these words, and leave every host as it was."""

    def run(changes: list[Change], words: list[str], playbook: str = "site.yml", **options: Any) -> Run:
        before = state_of(hosts)
        result = play(playbook, tmp_path, *changes, pending, succeeds=False, **options)
        for word in words:
            assert re.search(word, result.messages, re.DOTALL), f"{word!r} is not in: {result.messages}"
        assert differences(before, state_of(hosts)) == []
        return result

    return run


# -- before anything of ours is there


def test_the_wrong_address_of_several(refused: Callable[..., Run], tmp_path: Path) -> None:
    """Without overlay_address it is ansible_host, on which these hosts do not hear one another: packets tell."""
    refused([sudo, NO_ADDRESS], ["nothing was changed on any host"], "playbooks/preflight.yml")
    assert {check for _host, check in trouble(tmp_path)} == {"path_dead"}


def test_become_is_forgotten_on_bare_hosts(refused: Callable[..., Run], tmp_path: Path) -> None:
    """One error for each host, and it names the cure."""
    words = [rf"{host}: preflight does not run as root.*Cure: set ansible_become: true" for host in HOSTS]
    run = refused([login(FREE)], [*words, "nothing was changed on any host"])
    assert trouble(tmp_path) == [(host, "not_root") for host in HOSTS]
    assert run.messages.count("Cure:") == len(HOSTS)


# -- a user with sudo


@pytest.mark.parametrize(
    ("playbook", "report"), [("site.yml", "preflight.json"), ("playbooks/doctor.yml", "doctor.json")]
)
def test_become_is_forgotten_on_a_cluster(
    cluster: Cluster, refused: Callable[..., Run], tmp_path: Path, playbook: str, report: str
) -> None:
    """What another user cannot see is not taken for what is not there: no port that a stranger holds, no engine that is down."""
    refused([login(FREE)], ["Cure: set ansible_become: true"], playbook)
    assert trouble(tmp_path, report) == [(host, "not_root") for host in HOSTS]


def test_become_is_forgotten_for_the_proof(cluster: Cluster, refused: Callable[..., Run]) -> None:
    words = [rf"{host}: only root can.*set ansible_become: true" for host in HOSTS]
    refused([login(FREE)], words, "playbooks/verify.yml")


def test_a_user_with_sudo(first_run: Run, cluster: Cluster, tmp_path: Path) -> None:
    """Bare hosts to a proven overlay, and nothing to do for a second run."""
    assert first_run.returncode == 0
    run = play("site.yml", tmp_path, sudo)
    assert (run.changed, proven(tmp_path)) == ({}, True)


@pytest.mark.long
def test_become_on_the_command_line(cluster: Cluster, tmp_path: Path) -> None:
    """--become with a file that has the password, which then stands in no inventory."""
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o600)
    arguments = ["--become", "--become-password-file", str(secret)]
    run = play("playbooks/verify.yml", tmp_path, login(ASKED), arguments=arguments)
    assert (run.changed, proven(tmp_path)) == ({}, True)


@SHORT_AND_WHOLE
def test_a_password_for_sudo(cluster: Cluster, tmp_path: Path, playbook: str) -> None:
    """It stands in a file of group_vars that only root can read, and gets nowhere else."""
    folder = tmp_path / "group_vars" / "all"
    folder.mkdir(parents=True)
    secret = folder / "secret.yml"
    secret.touch(0o600)
    secret.write_text(yaml.safe_dump({"ansible_become_password": PASSWORD}))
    run = play(playbook, tmp_path, login(ASKED, ansible_become=True))
    assert (run.changed, proven(tmp_path)) == ({}, True)
    told = [run.output, run.log.with_suffix(".jsonl").read_text(), *(path.read_text() for path in tmp_path.glob("*.*"))]
    told += [cluster.out(host, "journalctl", "-q", "--no-pager", "--since", "-5min") for host in HOSTS]
    assert not any(PASSWORD in text for text in told)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "Missing sudo password"),
        pytest.param({"ansible_become_password": "wrong"}, "Incorrect sudo password", marks=pytest.mark.long),
    ],
)
def test_no_password_for_sudo(refused: Callable[..., Run], tmp_path: Path, given: dict[str, str], words: str) -> None:
    """Of one host of three: the others wait."""
    asked = [each(name, {"node2": value}) for name, value in {"ansible_user": ASKED, **given}.items()]
    cure = rf"node2: on node2 the user of the connection cannot become root.*Seen: {words}.*Cure: .*ansible_become_password"
    refused([sudo, *asked], [cure, "nothing was changed on any host"])
    assert trouble(tmp_path) == [("node2", "become_failed")]


def test_no_password_for_any_sudo(cluster: Cluster, refused: Callable[..., Run], tmp_path: Path) -> None:
    """Also where no host is left there is a report with the cure."""
    words = [rf"{host} the user of the connection cannot become root.*Cure: .*--ask-become-pass" for host in HOSTS]
    refused([login(ASKED, ansible_become=True)], words, "playbooks/doctor.yml")
    assert trouble(tmp_path, "doctor.json") == [(host, "become_failed") for host in HOSTS]


def test_the_controllers_user_needs_no_sudo(refused: Callable[..., Run], tmp_path: Path) -> None:
    """What is done on the controller, such as looking at an archive, is done as the user who runs Ansible."""
    called, programs, archive = tmp_path / "called", tmp_path / "bin", tmp_path / "archive.zip"
    programs.mkdir()
    (programs / "sudo").write_text(FAKE_SUDO.format(called=called))
    (programs / "sudo").chmod(0o755)
    archive.write_bytes(b"something else")
    given = {"install": "archive", "archive": str(archive), "archive_checksum": "0" * 64}
    refused(
        [sudo],
        [r"overlay_consul_archive: .* has the SHA-256"],
        extra_vars={f"overlay_consul_{name}": value for name, value in given.items()},
        # Without it root, who runs the tests, would not be asked to become root.
        env={"ANSIBLE_BECOME_ALLOW_SAME_USER": "1", "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
    )
    assert not called.exists()


# -- hardened folders


def test_folders_without_exec(cluster: Cluster) -> None:
    """They were so all the time: what the other tests prove, they prove with it."""
    script = 'printf "#!/bin/sh\\n" >$1/try; chmod 0755 $1/try; $1/try; status=$?; rm $1/try; exit $status'
    for host in HOSTS:
        for place in NOEXEC:
            assert cluster.run(host, "sh", "-c", script, "sh", place, check=False).returncode == 126


def test_a_umask_of_077(cluster: Cluster) -> None:
    """It is in force, and what services of other users go through can be entered all the same."""
    for host in HOSTS:
        assert cluster.out(host, "runuser", "-u", FREE, "--", "sudo", "sh", "-c", "umask") == "0077"
        modes = cluster.out(host, "stat", "-c", "%a", "/etc/multihost-overlay", "/etc/sysusers.d", "/etc/docker")
        assert modes.split() == ["755"] * 3


# -- several interfaces


def test_the_overlay_uses_the_network_of_the_hosts(cluster: Cluster) -> None:
    """The engine advertises, Consul binds, and the tunnels end at overlay_address; ansible_host leads nowhere between the hosts."""
    services = {f"web-{host}": host for host in HOSTS}
    cluster.remove_containers(*services)
    try:
        for name, host in services.items():
            cluster.start_service(host, name, "ours")
        assert cluster.unreached(services) == []
        for host in HOSTS:
            peers = {UNDERLAY[other] for other in HOSTS if other != host}
            config = json.loads(cluster.out(host, "cat", "/etc/docker/daemon.json"))
            assert config["cluster-advertise"] == f"{UNDERLAY[host]}:2376"
            assert bound(cluster, host) == {f"{UNDERLAY[host]}:{port}" for port in (7946, 8300, 8301)}
            assert tunnels(cluster, host) == peers
            other = next(name for name in HOSTS if name != host)
            direct = ["timeout", "1", "bash", "-c", f"echo >/dev/tcp/{MANAGEMENT[other]}/22"]
            assert cluster.run(host, *direct, check=False).returncode == 124
    finally:
        cluster.remove_containers(*services)


def bound(cluster: Cluster, host: str) -> set[str]:
    """Where the store and the engine listen for peers."""
    lines = cluster.out(host, "ss", "-Hlntup").splitlines()
    ours = [line.split()[4] for line in lines if '"consul"' in line or '"dockerd"' in line]
    return {place for place in ours if not place.startswith("127.0.0.1:")}


def tunnels(cluster: Cluster, host: str) -> set[str]:
    """Where the overlays' tunnels of this host end."""
    script = "for space in /run/docker/netns/*-*; do nsenter --net=$space bridge fdb show; done"
    return set(re.findall(r"\bdst (\S+)", cluster.out(host, "sh", "-c", script)))


def test_overlay_interface_says_where_the_address_must_lie(refused: Callable[..., Run], tmp_path: Path) -> None:
    interface = login(FREE, ansible_become=True, overlay_interface="host0")
    refused([interface], [r"node2: the overlay address 192\.168\.90\.12 does not lie on host0.*under0"])
    assert trouble(tmp_path) == [(host, "interface_mismatch") for host in HOSTS]


# -- a jump host


@pytest.mark.parametrize("playbook", ["playbooks/preflight.yml", pytest.param("site.yml", marks=pytest.mark.long)])
def test_a_jump_host(cluster: Cluster, tmp_path: Path, playbook: str) -> None:
    """Two hosts that only the first one reaches; their address beyond it is that of the underlay, and needs no second word."""
    jump = f"ssh -F /dev/null -i {LAB}/id_ed25519 {SSH} -W %h:%p {FREE}@{MANAGEMENT['node1']}"
    behind = ("node2", "node3")
    changes = [
        sudo,
        each("ansible_host", {host: UNDERLAY[host] for host in behind}),
        each("overlay_address", dict.fromkeys(behind)),
        ssh(dict.fromkeys(behind, f'-o ProxyCommand="{jump}"')),
    ]
    with closed_to_the_controller(cluster, *behind):
        run = play(playbook, tmp_path, *changes)
    assert (run.changed, trouble(tmp_path)) == ({}, [])
    assert playbook != "site.yml" or proven(tmp_path)


# -- a name


@SHORT_AND_WHOLE
def test_a_name_that_only_ssh_knows(cluster: Cluster, tmp_path: Path, playbook: str) -> None:
    """ansible_host is a name of the operator's ssh configuration, with a jump in it."""
    config = tmp_path / "ssh_config"
    entries = [
        f"Host {host}.people.invalid\n  HostName {UNDERLAY[host]}\n  ProxyJump gate.people.invalid"
        for host in HOSTS[1:]
    ]
    entries += [f"Host node1.people.invalid gate.people.invalid\n  HostName {MANAGEMENT['node1']}"]
    common = f"Host *\n  User {FREE}\n  IdentityFile {LAB}/id_ed25519\n  UserKnownHostsFile {LAB}/known_hosts\n  IdentitiesOnly yes"
    aliases = [f"Host {host}.people.invalid\n  HostKeyAlias {MANAGEMENT[host]}" for host in HOSTS]
    config.write_text(
        "\n".join([*entries, *aliases, "Host gate.people.invalid", f"  HostKeyAlias {MANAGEMENT['node1']}", common, ""])
    )
    changes = [
        sudo,
        each("ansible_host", {host: f"{host}.people.invalid" for host in HOSTS}),
        each("ansible_ssh_common_args", dict.fromkeys(HOSTS, f"-F {config}")),
    ]
    run = play(playbook, tmp_path, *changes)
    assert (run.changed, proven(tmp_path)) == ({}, True)


def test_a_name_without_an_address(refused: Callable[..., Run]) -> None:
    """Seen on the controller: no host is asked."""
    names = each("ansible_host", {host: f"{host}.people.invalid" for host in HOSTS})
    words = [
        rf"{host}: {host}\.people\.invalid is no IPv4 address.*Set overlay_address for this host" for host in HOSTS
    ]
    run = refused([sudo, names, NO_ADDRESS], [*words, "nothing was changed on any host"])
    assert run.remote == {}


def test_an_address_from_facts(refused: Callable[..., Run]) -> None:
    """A template that wants facts, of which there are none."""
    template = "{{ ansible_facts['under0']['ipv4']['address'] }}"
    words = [
        rf"{host}: overlay_address or ansible_host cannot be evaluated.*write the address into the inventory"
        for host in HOSTS
    ]
    assert refused([sudo, each("overlay_address", dict.fromkeys(HOSTS, template))], words).remote == {}


# -- an address that is translated


def translated(address: str, ports: dict[str, int], *hosts: str) -> list[Change]:
    """Hosts that are reached by ports of a gateway."""
    return [
        sudo,
        each("ansible_host", dict.fromkeys(hosts, address)),
        each("ansible_port", {host: ports[host] for host in hosts}),
        ssh(),
    ]


@SHORT_AND_WHOLE
def test_a_translated_address(cluster: Cluster, tmp_path: Path, playbook: str) -> None:
    with forwarded("127.0.0.1") as ports:
        run = play(playbook, tmp_path, *translated("127.0.0.1", ports, *HOSTS))
    assert (run.changed, proven(tmp_path)) == ({}, True)


def test_a_loopback_address_is_no_underlay(refused: Callable[..., Run]) -> None:
    changes = translated("127.0.0.1", dict.fromkeys(HOSTS, 1), *HOSTS)
    words = [
        rf"{host}: its underlay address would be 127\.0\.0\.1 by ansible_host, which no other host can reach\. Set overlay_address"
        for host in HOSTS
    ]
    assert refused([*changes, NO_ADDRESS], words).remote == {}


def test_hosts_behind_one_address(refused: Callable[..., Run]) -> None:
    changes = translated(CONTROLLER, dict.fromkeys(HOSTS, 1), *HOSTS)
    words = [
        rf"node3: its underlay address {re.escape(CONTROLLER)} is that of node1 too\. Give each host an overlay_address"
    ]
    assert refused([*changes, NO_ADDRESS], words).remote == {}


def test_a_translated_address_is_not_on_its_host(refused: Callable[..., Run], tmp_path: Path) -> None:
    """Only the host can tell: it is reached, and has another."""
    with forwarded(CONTROLLER) as ports:
        refused(
            [*translated(CONTROLLER, ports, "node2"), each("overlay_address", {"node2": None})],
            [
                rf"node2: the overlay address {re.escape(CONTROLLER)} \(from ansible_host\) is not on this host",
                r"Seen: the host has .*192\.168\.90\.12/24 on under0",
                r"Cure: set overlay_address for this host to one of its own addresses",
                "nothing was changed on any host",
            ],
        )
    assert trouble(tmp_path) == [("node2", "address_missing")]
