# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Faults of a host: its engine, its kernel, its agent of the store, our units, the way to the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import LOST_THREADS, Cluster, wait_for
from tests.e2e.chk import DAEMON_JSON, HOSTS, Trouble
from tests.e2e.patient import NAME, NETWORK, PEERS, Fault, daemon_json, restart, told

CONSUL = "multihost-overlay-consul.service"
LEADER = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8500/v1/status/leader').read().decode())"


@contextmanager
def pending(cluster: Cluster) -> Iterator[Trouble]:
    """daemon.json was edited, and the engine not restarted."""
    with daemon_json(cluster, "node1", {"debug": True}, apply=False):
        yield {("node1", "restart_pending")}


@contextmanager
def flushed(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody flushed iptables."""
    cluster.run("node1", "sh", "-c", "iptables -F && iptables -t nat -F")
    yield {("node1", "docker_rules_gone")}
    restart(cluster, "node1")


@contextmanager
def no_forwarding(cluster: Cluster) -> Iterator[Trouble]:
    cluster.run("node2", "sysctl", "-qw", "net.ipv4.ip_forward=0")
    yield {("node2", "forwarding_off")}
    cluster.run("node2", "sysctl", "-qw", "net.ipv4.ip_forward=1")


@contextmanager
def namespace(cluster: Cluster) -> Iterator[Trouble]:
    """The namespace of an overlay that is gone."""
    path = "/run/docker/netns/1-deadbeef00"
    cluster.run("node3", "sh", "-c", f"touch {path} && unshare --net={path} true")
    yield {("node3", "leftover_namespace")}
    cluster.run("node3", "sh", "-c", f"umount {path} && rm {path}")


@contextmanager
def tunnel(cluster: Cluster) -> Iterator[Trouble]:
    """A tunnel that was left outside its namespace. The cure is the one that the doctor tells."""
    cluster.run("node2", *["ip", "link", "add", "vx-000fff-abcde", "type", "vxlan", "id", "4095", "dstport", "4790"])
    yield {("node2", "leftover_vxlan")}
    cluster.run("node2", *["ip", "link", "delete", "vx-000fff-abcde"])


@contextmanager
def threads(cluster: Cluster) -> Iterator[Trouble]:
    """The last container of an overlay left, and took a thread of dockerd with it."""

    def lose() -> str:
        cluster.start_service("node2", NAME, NETWORK)
        cluster.remove_containers(NAME)
        return cluster.out("node2", "sh", "-c", LOST_THREADS)

    wait_for("a lost thread", lose, 90)
    yield {("node2", "lost_threads")}
    cluster.fresh_engines()


@contextmanager
def down(cluster: Cluster) -> Iterator[Trouble]:
    """An engine that does not start: its daemon.json is no JSON."""
    before = cluster.run("node1", "cat", DAEMON_JSON).stdout
    cluster.write("node1", DAEMON_JSON, "{,}")
    cluster.run("node1", "systemctl", "restart", "docker.service", check=False)
    wait_for(
        "systemd gives up",
        lambda: cluster.run("node1", "systemctl", "is-failed", "docker.service", check=False).returncode == 0,
    )
    yield {("node1", "engine_down")}
    cluster.write("node1", DAEMON_JSON, before)
    cluster.run("node1", "systemctl", "reset-failed", "docker.service", "docker.socket")
    cluster.run("node1", "systemctl", "start", "docker.socket")
    restart(cluster, "node1")


@contextmanager
def hanging(cluster: Cluster) -> Iterator[Trouble]:
    """An engine that runs and answers nobody."""
    cluster.run("node3", "sh", "-c", "kill -STOP $(pidof dockerd)")
    yield {("node3", "engine_hangs")}
    cluster.run("node3", "sh", "-c", "kill -CONT $(pidof dockerd)")


def leader(cluster: Cluster, host: str) -> str:
    """What a host's agent says who leads."""
    return cluster.run(host, "python3", "-c", LEADER, check=False).stdout


@contextmanager
def no_agent(cluster: Cluster) -> Iterator[Trouble]:
    """The store's agent on one host is down; the others choose a leader, if it was."""
    cluster.run("node2", "systemctl", "stop", CONSUL)
    wait_for("a leader", lambda: ":" in leader(cluster, "node1") and ":" in leader(cluster, "node3"))
    yield {("node2", "store_silent")}
    cluster.run("node2", "systemctl", "start", CONSUL)
    restart(cluster, "node2")


@contextmanager
def no_quorum(cluster: Cluster) -> Iterator[Trouble]:
    """Two of three servers are down: the third has no leader."""
    for host in ("node2", "node3"):
        cluster.run(host, "systemctl", "stop", CONSUL)
    wait_for("no leader", lambda: ":" not in leader(cluster, "node1"))
    yield {("node1", "store_leaderless"), ("node2", "store_silent"), ("node3", "store_silent")}
    for host in ("node2", "node3"):
        cluster.run(host, "systemctl", "start", CONSUL, timeout=120)
    wait_for("a leader", lambda: ":" in leader(cluster, "node1"))
    for host in HOSTS:
        restart(cluster, host)
    wait_for("all engines in the store", lambda: len(told(cluster)) == len(HOSTS), 90)


@contextmanager
def repair(cluster: Cluster) -> Iterator[Trouble]:
    """The boot repair cannot run."""
    path, unit = "/usr/local/lib/multihost-overlay/boot-repair.py", "multihost-overlay-boot-repair.service"
    cluster.run("node1", "mv", path, f"{path}.away")
    cluster.run("node1", "systemctl", "restart", unit, check=False)
    wait_for(
        "the unit fails", lambda: cluster.run("node1", "systemctl", "is-failed", unit, check=False).returncode == 0
    )
    yield {("node1", "boot_repair_failed")}
    cluster.run("node1", "mv", f"{path}.away", path)
    cluster.run("node1", "systemctl", "reset-failed", unit)


@contextmanager
def peers(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody does without the unit that keeps the overlays' tables complete."""
    cluster.run("node2", "systemctl", "mask", "--now", PEERS)
    yield {("node2", "peers_unit_down")}
    cluster.run("node2", "systemctl", "unmask", PEERS)
    cluster.run("node2", "systemctl", "start", PEERS)


@contextmanager
def same_name(cluster: Cluster) -> Iterator[Trouble]:
    """Two hosts of one name. Engines notice it when they meet; the cause is said, not its echo in the journals."""
    cluster.run("node3", "hostname", "node2")
    restart(cluster, "node3")
    yield {("node2", "hostname_duplicate"), ("node3", "hostname_duplicate")}
    cluster.run("node3", "hostname", "node3")
    # It first: who is restarted while the name is still there twice complains anew.
    for host in reversed(HOSTS):
        restart(cluster, host)


def says(cluster: Cluster, host: str, words: str) -> int:
    """How often an engine said so since it was started."""
    script = 'journalctl -q -o cat _PID=$(pidof dockerd) | grep -c "$1" || true'
    return int(cluster.out(host, "sh", "-c", script, "sh", words))


@contextmanager
def no_gossip_by_udp(cluster: Cluster) -> Iterator[Trouble]:
    """7946/udp is dropped between one host and both others, and tcp is not. With one pair cut the third host helps out."""
    for host in HOSTS:
        restart(cluster, host)
    for host in ("node2", "node3"):
        cluster.labctl("partition", "node1", host, "--proto", "udp", "--port", "7946")
    wait_for(
        "all complain",
        lambda: all(says(cluster, host, "node[0-9] but other probes failed") >= 6 for host in HOSTS),
        120,
    )
    yield {(host, "journal_tcp_only") for host in HOSTS}
    cluster.labctl("heal")
    for host in HOSTS:
        restart(cluster, host)


@contextmanager
def no_gossip(cluster: Cluster) -> Iterator[Trouble]:
    """7946 is dropped between one host and both others: all take each other for dead."""
    for host in HOSTS:
        restart(cluster, host)
    wait_for("all have met", lambda: all(says(cluster, host, "EventMemberJoin") >= 3 for host in HOSTS))
    for host in ("node2", "node3"):
        cluster.labctl("partition", "node1", host, "--port", "7946", "--proto", "udp")
        cluster.labctl("partition", "node1", host, "--port", "7946", "--proto", "tcp")
    wait_for("all complain", lambda: all(says(cluster, host, "EventMemberFailed") >= 1 for host in HOSTS), 90)
    wait_for("node1 misses both", lambda: says(cluster, "node1", "EventMemberFailed") >= 2, 60)
    yield {(host, "journal_peer_suspect") for host in HOSTS}
    cluster.labctl("heal")
    for host in HOSTS:
        restart(cluster, host)


FAULTS: tuple[Fault, ...] = (
    pending, flushed, no_forwarding, namespace, tunnel, threads, down, hanging, no_agent, no_quorum, repair, peers,
    same_name, no_gossip_by_udp, no_gossip,
)  # fmt: skip
