# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts as people have them: no login as root, hardened folders and umask, and two networks.

On the operator's network (ansible_host) the hosts do not hear one another; the controller has no way into theirs
(overlay_address). So whatever takes the one address for the other fails.
"""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import Cluster, wait_for
from tests.e2e import shared
from tests.e2e.support import ROOT, run_playbook

HOSTS = ("node1", "node2", "node3")
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "people.yml"
LAB = Path("/var/lib/multihost-overlay-lab/people")
MANAGEMENT = {host: f"10.88.90.1{number}" for number, host in enumerate(HOSTS, 1)}
UNDERLAY = {host: f"192.168.90.1{number}" for number, host in enumerate(HOSTS, 1)}
CONTROLLER = "10.88.90.1"
# One whose sudo asks for nothing, and one whose sudo wants a password.
FREE, ASKED = "deploy", "keeper"
PASSWORD = "correct-horse-battery"
NOEXEC = ("/tmp", "/var/tmp", "/home")
SSH = f"-o UserKnownHostsFile={LAB}/known_hosts -o GlobalKnownHostsFile=/dev/null -o IdentitiesOnly=yes"
# With it the hosts stay, and the next run takes them as they are: for who works on the suite.
KEEP = "OVERLAY_KEEP_PEOPLE"

Inventory = dict[str, Any]
Change = Callable[[Inventory], None]

PREPARE = """
set -eu
underlay=$1 free=$2 asked=$3 password=$4 controller=$5; shift 5
command -v sudo >/dev/null || { apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install sudo; }
for user in $free $asked; do
    id -u $user >/dev/null 2>&1 || useradd --create-home --shell /bin/bash $user
    install -d -m 0700 -o $user -g $user /home/$user/.ssh
    install -m 0600 -o $user -g $user /root/.ssh/authorized_keys /home/$user/.ssh/authorized_keys
done
echo "$asked:$password" | chpasswd
cat >/etc/sudoers.d/people <<SUDOERS
Defaults umask=0077, umask_override
$free ALL=(ALL) NOPASSWD: ALL
$asked ALL=(ALL) ALL
SUDOERS
chmod 0440 /etc/sudoers.d/people
for place in "$@"; do
    mountpoint -q $place || mount --bind $place $place
    mount -o remount,bind,noexec,nosuid,nodev $place
done
[ -e /sys/class/net/under0 ] || ip link add link host0 name under0 type macvlan mode bridge
ip address replace $underlay/24 dev under0
ip link set under0 up
nft -f - <<RULES
table inet people
delete table inet people
table inet people {
    chain input {
        type filter hook input priority -10;
        ip saddr 10.88.90.0/24 ip saddr != $controller drop
    }
}
RULES
"""


def prepare(cluster: Cluster) -> None:
    """Make the hosts so; a second time changes nothing."""

    def one(host: str) -> None:
        words = (UNDERLAY[host], FREE, ASKED, PASSWORD, CONTROLLER, *NOEXEC)
        cluster.run(host, "sh", "-c", PREPARE, "sh", *words, timeout=180)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, cluster.hosts))


@contextmanager
def lab() -> Iterator[Cluster]:
    """The hosts, without any of ours. What an earlier run left is removed first."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    cluster = Cluster("people", HOSTS)
    prepare(cluster)
    yield cluster
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def written(folder: Path, *changes: Change) -> Path:
    """The inventory as somebody else would write it."""
    return shared.variation(folder, *changes, base=INVENTORY)


def login(user: str, **values: Any) -> Change:
    """How all hosts are entered."""
    return lambda inventory: inventory["all"]["vars"].update(ansible_user=user, **values)


# What docs/hosts.md tells of a user with sudo.
sudo = login(FREE, ansible_become=True)


def each(name: str, values: Mapping[str, Any]) -> Change:
    """One variable of each host; None takes it away."""

    def change(inventory: Inventory) -> None:
        for host, value in values.items():
            if value is None:
                inventory["overlay_lab"]["hosts"][host].pop(name)
            else:
                inventory["overlay_lab"]["hosts"][host][name] = value

    return change


def ssh(more: Mapping[str, str] | None = None) -> Change:
    """Further options of ssh for each host, whose key is known by its address on the operator's network."""
    given = more or {}
    return each(
        "ansible_ssh_common_args",
        {host: f"{SSH} -o HostKeyAlias={MANAGEMENT[host]} {given.get(host, '')}".strip() for host in HOSTS},
    )


def free_port(address: str) -> int:
    """A port of the controller that nobody holds."""
    with socket.socket() as sock:
        sock.bind((address, 0))
        return int(sock.getsockname()[1])


def answers(address: str, port: int) -> bool:
    """Whether somebody there takes a connection."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


@contextmanager
def forwarded(address: str) -> Iterator[dict[str, int]]:
    """A gateway that forwards a port of its address to the sshd of each host, as a NAT does."""
    ports = {host: free_port(address) for host in HOSTS}
    forwards = [word for host in HOSTS for word in ("-L", f"{address}:{ports[host]}:{UNDERLAY[host]}:22")]
    options = ["-N", "-F", "/dev/null", "-o", "ExitOnForwardFailure=yes", "-i", str(LAB / "id_ed25519"), *SSH.split()]
    gateway = subprocess.Popen(["ssh", *options, *forwards, f"{FREE}@{MANAGEMENT['node1']}"], stdin=subprocess.DEVNULL)
    try:
        wait_for("the forwarded ports", lambda: all(answers(address, port) for port in ports.values()), 20)
        yield ports
    finally:
        gateway.terminate()
        gateway.wait(10)


@contextmanager
def closed_to_the_controller(cluster: Cluster, *hosts: str) -> Iterator[None]:
    """Hosts whose sshd the controller cannot reach, not even by a connection that is open already."""
    chain = "{ type filter hook input priority -10; }"
    rule = f"ip saddr {CONTROLLER} tcp dport 22 drop"
    for host in hosts:
        cluster.run(
            host, "nft", f"add table inet gate; add chain inet gate input {chain}; add rule inet gate input {rule}"
        )
    try:
        assert not any(answers(MANAGEMENT[host], 22) for host in hosts)
        yield
    finally:
        for host in hosts:
            cluster.run(host, "nft", "delete", "table", "inet", "gate")
        assert all(answers(MANAGEMENT[host], 22) for host in hosts)
