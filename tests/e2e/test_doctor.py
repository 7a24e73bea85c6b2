# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor finds exactly what was broken on a running cluster, says nothing of a sound one, and changes nothing."""

from __future__ import annotations

import base64
import json
import tarfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cluster import LOST_THREADS, Cluster, wait_for
from tests.e2e.chk import DAEMON_JSON, HOSTS, INVENTORY, Trouble, check, findings, lab, trouble
from tests.e2e.state import differences, state_of
from tests.e2e.support import run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

NETWORK = "shop"
SUBNET = "10.100.80.0/24"
KEYS = "docker/network/v1.0"
STORE = "(store)"
GHOST = "10.88.80.99:2376"
NAME = "patient"

Fault = Callable[[Cluster], AbstractContextManager[Trouble]]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts, converged by site.yml."""
    with lab() as hosts:
        report = tmp_path_factory.mktemp("converge")
        run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(report)})
        yield Cluster(hosts.lab, HOSTS)


def consul(cluster: Cluster, *words: str, host: str = "node1") -> str:
    return cluster.consul(host, "kv", *words)


def export(cluster: Cluster, prefix: str) -> str:
    """The keys below a folder of the store, as Consul itself exports them."""
    return consul(cluster, "export", prefix)


def put_back(cluster: Cluster, exported: str) -> None:
    """Put exported keys where they were."""
    cluster.write("node1", "/root/keys.json", exported)
    consul(cluster, "import", "@/root/keys.json")
    cluster.run("node1", "rm", "/root/keys.json")


def network_id(cluster: Cluster, name: str = NETWORK) -> str:
    return cluster.out("node1", "docker", "network", "inspect", "-f", "{{.Id}}", name)


def forgive(cluster: Cluster) -> None:
    """Let systemd forget how often an engine was started lately: it would refuse a fourth time within a minute."""
    for host in cluster.hosts:
        cluster.run(host, "systemctl", "reset-failed", "docker.service", "docker.socket")


def restart(cluster: Cluster, host: str) -> None:
    """Restart an engine and wait until it gossips."""
    forgive(cluster)
    cluster.run(host, "systemctl", "restart", "docker.service")
    wait_for(f"{host}'s engine gossips", lambda: ":7946" in cluster.out(host, "ss", "-Hlnt"))


def told(cluster: Cluster) -> list[str]:
    """The hosts in the store."""
    return [line.split("/")[-1] for line in consul(cluster, "get", "-keys", "docker/nodes/").splitlines()]


@contextmanager
def daemon_json(cluster: Cluster, host: str, keys: dict[str, object], *, apply: bool = True) -> Iterator[None]:
    """Other keys in a host's daemon.json; None takes one out. The engine is restarted, unless not."""
    before = cluster.run(host, "cat", DAEMON_JSON).stdout
    config = {**json.loads(before), **keys}
    cluster.write(host, DAEMON_JSON, json.dumps({key: value for key, value in config.items() if value is not None}))
    if apply:
        forgive(cluster)
        cluster.run(host, "systemctl", "restart", "docker.service")
    try:
        yield
    finally:
        cluster.write(host, DAEMON_JSON, before)
        restart(cluster, host)
        wait_for(f"{host} is in the store", lambda: any(f"{host[-1]}:2376" in name for name in told(cluster)))


@contextmanager
def ghost(cluster: Cluster) -> Iterator[Trouble]:
    """A host that went without taking leave."""
    consul(cluster, "put", f"docker/nodes/{GHOST}", GHOST)
    yield {(STORE, "ghost_host")}
    consul(cluster, "delete", f"docker/nodes/{GHOST}")


@contextmanager
def orphan(cluster: Cluster) -> Iterator[Trouble]:
    """The store forgot that a container was removed. The cure is the one that the doctor tells."""
    cluster.start_service("node2", NAME, NETWORK)
    keys = export(cluster, KEYS)
    cluster.remove_containers(NAME)
    put_back(cluster, keys)
    cluster.fresh_engines()
    yield {("node2", "orphan_endpoint")}
    cluster.run("node2", "docker", "network", "disconnect", "-f", NETWORK, NAME)
    cluster.fresh_engines()


@contextmanager
def miscounted(cluster: Cluster) -> Iterator[Trouble]:
    """The store lost count of a network's endpoints."""
    key = f"{KEYS}/endpoint_count/{network_id(cluster)}/"
    before = export(cluster, key)
    consul(cluster, "put", key, '{"Count":3}')
    yield {(STORE, "stale_endpoint_count")}
    put_back(cluster, before)


@contextmanager
def leaked(cluster: Cluster) -> Iterator[Trouble]:
    """An address that was not given back when its container went."""
    key = f"{KEYS}/ipam/default/data/GlobalDefault/{SUBNET}/"
    before = export(cluster, key)
    cluster.start_service("node1", NAME, NETWORK, "--ip", "10.100.80.77")
    during = export(cluster, key)
    cluster.remove_containers(NAME)
    put_back(cluster, during)
    cluster.fresh_engines()
    yield {(STORE, "leaked_address")}
    put_back(cluster, before)


@contextmanager
def twins(cluster: Cluster) -> Iterator[Trouble]:
    """Two networks of one name, made at the same instant on two hosts."""

    # Hosts of the lab share a clock.
    instant = time.time_ns() + 1_500_000_000
    script = "while [ $(date +%s%N) -lt $1 ]; do :; done; exec docker network create -d overlay --subnet $2 twin"

    def create(host: str, subnet: str) -> str:
        return cluster.run(host, "sh", "-c", script, "sh", str(instant), subnet, check=False).stdout.strip()

    with ThreadPoolExecutor() as pool:
        ids = list(filter(None, pool.map(create, ("node1", "node2"), ("10.100.90.0/24", "10.100.91.0/24"))))
    try:
        assert len(ids) == 2, "only one of the two creates made a network"
        yield {(STORE, "network_twice")}
    finally:
        for one in ids:
            cluster.run("node1", "docker", "network", "rm", one)


@contextmanager
def lost_network(cluster: Cluster) -> Iterator[Trouble]:
    """The store lost a network that a container is on."""
    cluster.start_service("node3", NAME, NETWORK)
    prefix = f"{KEYS}/network/{network_id(cluster)}/"
    before = export(cluster, prefix)
    consul(cluster, "delete", prefix)
    yield {("node3", "network_lost")}
    put_back(cluster, before)
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


@contextmanager
def full(cluster: Cluster) -> Iterator[Trouble]:
    """A network whose last address is given out."""
    cluster.run("node1", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.92.0/30", "tiny")
    cluster.start_service("node1", NAME, "tiny")
    yield {(STORE, "subnet_full")}
    cluster.remove_containers(NAME)
    cluster.fresh_engines()
    cluster.run("node1", "docker", "network", "rm", "tiny")


@contextmanager
def taken(cluster: Cluster) -> Iterator[Trouble]:
    """A stopped container's address was given to another; the first cannot start, whatever its restart policy."""
    cluster.start_service("node1", NAME, NETWORK, "--ip", "10.100.80.78", "--restart", "always")
    cluster.run("node1", "docker", "stop", "-t", "0", NAME)
    cluster.start_service("node2", "thief", NETWORK, "--ip", "10.100.80.78")
    assert cluster.run("node1", "docker", "start", NAME, check=False).returncode
    cluster.fresh_engines()
    yield {("node1", "static_address_taken"), ("node1", "container_down")}
    cluster.remove_containers(NAME, "thief")
    cluster.fresh_engines()


@contextmanager
def other_store(cluster: Cluster) -> Iterator[Trouble]:
    """One engine keeps its networks elsewhere, in a folder that its token opens."""
    with daemon_json(cluster, "node3", {"cluster-store": "consul://127.0.0.1:8500/docker/elsewhere"}):
        wait_for("node3's engine gossips", lambda: ":7946" in cluster.out("node3", "ss", "-Hlnt"))
        yield {("node3", "store_differs")}
    consul(cluster, "delete", "-recurse", "docker/elsewhere/")


@contextmanager
def no_store(cluster: Cluster) -> Iterator[Trouble]:
    """One engine has no store at all."""
    with daemon_json(cluster, "node2", {"cluster-store": None, "cluster-advertise": None}):
        consul(cluster, "delete", "docker/nodes/10.88.80.12:2376")
        yield {("node2", "store_missing")}


@contextmanager
def not_advertised(cluster: Cluster) -> Iterator[Trouble]:
    """A store, and no cluster-advertise."""
    with daemon_json(cluster, "node3", {"cluster-advertise": None}):
        consul(cluster, "delete", "docker/nodes/10.88.80.13:2376")
        yield {("node3", "not_advertised")}


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


CONSUL = "multihost-overlay-consul.service"
LEADER = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8500/v1/status/leader').read().decode())"


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


FAR = f"{NAME}-far"
PEERS = "multihost-overlay-peers.service"
# A program of a host in the namespace of an overlay, which is named by the beginning of the network's id.
IN_OVERLAY = 'id=$1; shift; exec nsenter --net="$(ls -d /run/docker/netns/*-"$id"* | tail -n 1)" "$@"'


def in_overlay(cluster: Cluster, host: str, *argv: str) -> str:
    return cluster.out(host, "sh", "-c", IN_OVERLAY, "sh", network_id(cluster)[:9], *argv)


def endpoint_of(cluster: Cluster, host: str, name: str) -> dict[str, str]:
    """A container's endpoint on the network, as its engine tells: EndpointID, IPAddress, MacAddress."""
    told = json.loads(cluster.out(host, "docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", name))
    found: dict[str, str] = told[NETWORK]
    return found


@contextmanager
def across(cluster: Cluster) -> Iterator[dict[str, str]]:
    """A container on each of two hosts, and nobody who mends the tables of the first host. The endpoint of the second one."""
    placed = {NAME: "node1", FAR: "node2"}
    try:
        for name, host in placed.items():
            cluster.start_service(host, name, NETWORK)
        wait_for("they reach each other", lambda: not cluster.unreached(placed), 60)
        cluster.run("node1", "systemctl", "stop", PEERS)
        yield endpoint_of(cluster, "node2", FAR)
    finally:
        cluster.remove_containers(*placed)
        cluster.run("node1", "systemctl", "start", PEERS)
        cluster.fresh_engines()


@contextmanager
def fdb_elsewhere(cluster: Cluster) -> Iterator[Trouble]:
    """A MAC that leads to a host where its container is not."""
    with across(cluster) as far:
        mac = far["MacAddress"]
        in_overlay(cluster, "node1", "bridge", "fdb", "del", mac, "dev", "vxlan0", "dst", "10.88.80.12", "self")
        in_overlay(cluster, "node1", *f"bridge fdb add {mac} dev vxlan0 dst 10.88.80.13 self permanent".split())
        yield {("node1", "fdb_wrong"), ("node1", "peers_unit_down")}


@contextmanager
def fdb_gone(cluster: Cluster) -> Iterator[Trouble]:
    """A MAC that leads nowhere."""
    with across(cluster) as far:
        in_overlay(cluster, "node1", *f"bridge fdb del {far['MacAddress']} dev vxlan0 dst 10.88.80.12 self".split())
        yield {("node1", "fdb_missing"), ("node1", "peers_unit_down")}


@contextmanager
def neighbour_elsewhere(cluster: Cluster) -> Iterator[Trouble]:
    """An address with the MAC of nobody."""
    with across(cluster) as far:
        command = f"ip neigh replace {far['IPAddress']} lladdr 02:42:0a:64:50:fe dev vxlan0 nud permanent"
        in_overlay(cluster, "node1", *command.split())
        yield {("node1", "neighbour_wrong"), ("node1", "peers_unit_down")}


@contextmanager
def neighbour_gone(cluster: Cluster) -> Iterator[Trouble]:
    """An engine that was restarted under its containers does not ask for others any more; and nothing else tells it."""
    with across(cluster) as far:
        restart(cluster, "node1")
        in_overlay(cluster, "node1", *f"ip neigh del {far['IPAddress']} dev vxlan0".split())
        yield {("node1", "neighbour_missing"), ("node1", "peers_unit_down")}


@contextmanager
def no_tunnel(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody deleted an overlay's vxlan device."""
    with across(cluster):
        in_overlay(cluster, "node1", "ip", "link", "delete", "vxlan0")
        yield {("node1", "tunnel_missing"), ("node1", "peers_unit_down")}


@contextmanager
def other_mtu(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody changed the MTU of an overlay's vxlan device."""
    with across(cluster):
        in_overlay(cluster, "node1", "ip", "link", "set", "vxlan0", "mtu", "1400")
        yield {("node1", "tunnel_differs"), ("node1", "peers_unit_down")}


@contextmanager
def no_names(cluster: Cluster) -> Iterator[Trouble]:
    """Somebody flushed the rules within a container. The cure is the one that the doctor tells."""
    cluster.start_service("node3", NAME, NETWORK)
    path = cluster.out("node3", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", NAME)
    cluster.run("node3", "nsenter", f"--net={path}", "iptables", "-t", "nat", "-F")
    yield {("node3", "dns_rules_gone")}
    cluster.run("node3", "docker", "restart", "-t", "0", NAME)
    report = cluster.out("node3", "docker", "inspect", "-f", "{{.NetworkSettings.SandboxKey}}", NAME)
    assert "DOCKER_OUTPUT" in cluster.out("node3", "nsenter", f"--net={report}", "iptables", "-t", "nat", "-S")
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


@contextmanager
def same_address(cluster: Cluster) -> Iterator[Trouble]:
    """The store gave an address out again: a second endpoint has it, which no container has."""
    cluster.start_service("node1", NAME, NETWORK)
    own, folder = endpoint_of(cluster, "node1", NAME)["EndpointID"], f"{KEYS}/endpoint/{network_id(cluster)}"
    record, other = json.loads(consul(cluster, "get", f"{folder}/{own}/")), "ab" * 32
    consul(cluster, "put", f"{folder}/{other}/", json.dumps({**record, "id": other, "name": "second"}))
    yield {(STORE, "address_twice"), (STORE, "stale_endpoint_count"), ("node1", "orphan_endpoint")}
    consul(cluster, "delete", f"{folder}/{other}/")
    cluster.remove_containers(NAME)
    cluster.fresh_engines()


FAULTS: tuple[Fault, ...] = (
    ghost, orphan, miscounted, leaked, twins, lost_network, full, taken, other_store, no_store, not_advertised, pending, flushed,
    no_forwarding, namespace, tunnel, threads, down, hanging, no_agent, no_quorum, repair, peers, same_name, no_gossip_by_udp, no_gossip,
    fdb_elsewhere, fdb_gone, neighbour_elsewhere, neighbour_gone, no_tunnel, other_mtu, no_names, same_address,
)  # fmt: skip


def test_a_sound_cluster(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing at all is said of it, it is left as it is, and one execution per host is enough."""
    cluster.fresh_engines()
    before = state_of(cluster)
    run = check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "info"})
    assert findings(tmp_path, "doctor") == []
    assert run.remote == dict.fromkeys(HOSTS, 1)
    assert run.changed == {}
    assert differences(before, state_of(cluster)) == []
    suite = ElementTree.parse(tmp_path / "doctor.xml").getroot()
    assert [case.get("classname") for case in suite.iter("testcase")] == [f"doctor.{host}" for host in HOSTS]
    assert list(suite.iter("failure")) == []


def test_a_sound_cluster_at_work(cluster: Cluster, tmp_path: Path) -> None:
    """Containers that run, and one that was stopped by hand, are nothing to complain about."""
    names = [f"{NAME}-{host}" for host in HOSTS]
    try:
        for host, name in zip(HOSTS, names, strict=True):
            cluster.start_service(host, name, NETWORK, "--restart", "always")
        cluster.run(
            "node1",
            "docker",
            "create",
            "--name",
            f"{NAME}-idle",
            "--network",
            NETWORK,
            "--ip",
            "10.100.80.79",
            "multihost-overlay-test:empty",
            "x",
        )
        wait_for("all reach one another", lambda: not cluster.unreached(dict(zip(names, HOSTS, strict=True))), 60)
        check("doctor", tmp_path)
        assert findings(tmp_path, "doctor") == []
    finally:
        cluster.remove_containers(*names, f"{NAME}-idle")
        cluster.fresh_engines()


def wait_until_content(report: Path) -> None:
    """Until the doctor has nothing to say any more."""

    def content() -> bool:
        check("doctor", report)
        return not trouble(report, "doctor")

    try:
        wait_for("the doctor is content again", content, 90, every=3)
    except AssertionError as error:
        raise AssertionError(f"{error}; it says {findings(report, 'doctor')}") from None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_found(cluster: Cluster, fault: Fault, tmp_path: Path) -> None:
    """It, on its host, and nothing else; and nothing when it is gone."""
    forgive(cluster)
    with fault(cluster) as expected:
        forgive(cluster)
        check("doctor", tmp_path, timeout=300)
        rows, seen = findings(tmp_path, "doctor"), trouble(tmp_path, "doctor")
    # Here, because whatever was found is mended first.
    assert seen == expected, rows
    wait_until_content(tmp_path)


def test_errors_make_it_fail(cluster: Cluster, tmp_path: Path) -> None:
    """By default errors do, and warnings do not."""
    with ghost(cluster):
        check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "error"})
        run = check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "warning"}, succeeds=False)
        assert GHOST in run.messages
        assert "nothing was changed on any host" in run.messages
    with no_forwarding(cluster):
        run = check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "error"}, succeeds=False)
        assert "node2: IPv4 forwarding is off [forwarding_off]" in run.messages
        assert "Cure: sysctl -w net.ipv4.ip_forward=1" in run.messages


LEFTOVER, TUNNEL = "/run/docker/netns/1-deadbeef00", "vx-000fff-abcde"
BACKUPS = "/var/lib/multihost-overlay/backups"


def keys(cluster: Cluster) -> dict[str, str]:
    """All keys of Docker's with their values. An engine makes a folder, which has none, for what it is asked for."""
    return {entry["key"]: entry["value"] for entry in json.loads(export(cluster, "docker/")) if entry["value"]}


@pytest.fixture
def neglected(cluster: Cluster) -> Iterator[str]:
    """An endpoint that no container has, a namespace and a tunnel that nobody uses. The key of the endpoint."""
    forgive(cluster)
    cluster.start_service("node2", NAME, NETWORK)
    endpoint = endpoint_of(cluster, "node2", NAME)["EndpointID"]
    before = export(cluster, KEYS)
    cluster.remove_containers(NAME)
    put_back(cluster, before)
    cluster.fresh_engines()
    cluster.run("node3", "sh", "-c", f"touch {LEFTOVER} && unshare --net={LEFTOVER} true")
    cluster.run("node2", *["ip", "link", "add", TUNNEL, "type", "vxlan", "id", "4095", "dstport", "4790"])
    yield f"{KEYS}/endpoint/{network_id(cluster)}/{endpoint}/"
    cluster.run("node2", "docker", "network", "disconnect", "-f", NETWORK, NAME, check=False)
    cluster.run("node2", "ip", "link", "delete", TUNNEL, check=False)
    cluster.run("node3", "sh", "-c", f"umount {LEFTOVER}; rm -f {LEFTOVER}", check=False)
    cluster.fresh_engines()


def repaired(report: Path) -> list[tuple[str, str, bool]]:
    """(host, kind, whether it was done), as the report has it."""
    rows = json.loads((report / "doctor.json").read_text())["repaired"]
    return sorted((row["host"], row["kind"], row["done"]) for row in rows)


def test_a_repair(cluster: Cluster, neglected: str, tmp_path: Path) -> None:
    """Refused without all hosts; shown first; done once; and nothing else is touched."""
    steps = [("node2", "endpoint"), ("node2", "tunnel"), ("node3", "namespace")]
    before, asked = keys(cluster), {"overlay_doctor_repair": True}
    assert neglected in before

    check("doctor", tmp_path, extra_vars=asked, arguments=["--limit", "node2"])
    assert (STORE, "repair_refused") in trouble(tmp_path, "doctor")
    assert repaired(tmp_path) == []

    run = check("doctor", tmp_path, extra_vars=asked, arguments=["--check", "--diff"])
    assert repaired(tmp_path) == [(*step, False) for step in steps]
    assert f"repair: node2 would remove the endpoint {NAME}" in run.output
    assert keys(cluster).keys() == before.keys()
    assert cluster.run("node2", "ls", BACKUPS, check=False).stdout == ""
    cluster.run("node2", "ip", "link", "show", TUNNEL)

    run = check("doctor", tmp_path, extra_vars=asked)
    assert repaired(tmp_path) == [(*step, True) for step in steps]
    assert trouble(tmp_path, "doctor") == set()
    assert run.changed == {"node2": 1, "node3": 1}
    after = keys(cluster)
    changed = {key for key in before if before[key] != after.get(key)} | (after.keys() - before.keys())
    own = (
        neglected,
        f"{KEYS}/endpoint_count/{network_id(cluster)}/",
        f"{KEYS}/ipam/default/data/GlobalDefault/{SUBNET}/",
    )
    # The engines write themselves anew there.
    assert {key for key in changed if not key.startswith("docker/nodes")} <= set(own)
    assert neglected in changed

    # What can be put back, and what is only to be looked at.
    names = counts, endpoints = sorted(cluster.out("node2", "ls", BACKUPS).split())
    paths = [BACKUPS, *(f"{BACKUPS}/{name}" for name in names)]
    assert cluster.out("node2", "stat", "-c", "%a %U", *paths).splitlines() == ["700 root", "600 root", "600 root"]
    for name, kept in ((endpoints, own[:1]), (counts, own[1:])):
        rows = json.loads(cluster.run("node2", "cat", f"{BACKUPS}/{name}").stdout)
        assert {row["key"]: row["value"] for row in rows} == {key: before[key] for key in kept}

    run = check("doctor", tmp_path, extra_vars=asked)
    assert (run.changed, repaired(tmp_path), trouble(tmp_path, "doctor")) == ({}, [], set())
    assert cluster.out("node2", "ls", BACKUPS).split() == names
    cluster.run("node2", "rm", "-r", BACKUPS)


SECRETS = """
import glob, json, os
found = [word for name in glob.glob("/etc/multihost-overlay/*.env") for word in open(name).read().replace("=", " ").split()]
for name in ("secrets.json", "consul-secrets.json", "consul-gossip.json"):
    todo = [json.load(open("/etc/multihost-overlay/" + name))] if os.path.exists("/etc/multihost-overlay/" + name) else []
    while todo:
        one = todo.pop()
        todo += list(one.values()) if isinstance(one, dict) else one if isinstance(one, list) else []
        found += [line for line in one.splitlines() if "CERTIFICATE" not in one] if isinstance(one, str) else []
for name in glob.glob("/etc/multihost-overlay/tls/*.key"):
    found += open(name).read().splitlines()
print(json.dumps([word for word in found if len(word) >= 20 and not word.startswith(("/", "--")) and word != "CONSUL_HTTP_TOKEN"]))
"""


def test_a_bundle_without_secrets(cluster: Cluster, tmp_path: Path) -> None:
    """Of each host; none of the cluster's secrets is in it, and nothing is changed."""
    before = state_of(cluster)
    run = check("doctor", tmp_path, extra_vars={"overlay_doctor_bundle": True})
    path = tmp_path / "doctor.tar.gz"
    assert path.stat().st_mode & 0o777 == 0o600
    assert run.remote == dict.fromkeys(HOSTS, 2)
    assert (run.changed, differences(before, state_of(cluster))) == ({}, [])
    with tarfile.open(path) as archive:
        streams = {member.name: archive.extractfile(member) for member in archive}
        texts = {name: stream.read().decode() for name, stream in streams.items() if stream}
    for host in HOSTS:
        for name in (
            "daemon.json",
            "units.txt",
            "journal-docker.txt",
            "docker-info.json",
            "iptables.txt",
            "host_doctor.json",
        ):
            assert len(texts[f"overlay-doctor/hosts/{host}/{name}"]) > 50, name
        secrets = json.loads(cluster.out(host, "python3", "-c", SECRETS))
        assert len(secrets) >= 3
        for secret in secrets:
            hidden = base64.b64encode(secret.encode()).decode()[:-4]
            assert [name for name, text in texts.items() if secret in text or hidden in text] == []
    assert "overlay-doctor/controller/doctor.json" in texts
