# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Preflight finds exactly what was broken, on the host where it was, and says nothing of sound hosts.

Everything really happens on a host of the lab. Faults that have nothing to do with one another are there at once, one on each
host: a finding too many, too few, or on the wrong host fails the test all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.chk import (
    DAEMON_JSON,
    DEBIAN12,
    HOSTS,
    Change,
    Trouble,
    check,
    findings,
    host_variables,
    lab,
    trouble,
    variation,
)
from tests.e2e.state import differences, state_of

pytestmark = pytest.mark.lab

PROBED = {"overlay_preflight_probe": True}
DROP_IN = "/etc/systemd/system/docker.service.d/theirs.conf"
INSTALL = """export DEBIAN_FRONTEND=noninteractive
apt-get -q update && apt-get install -q -y --no-install-recommends docker.io
"""
# What a run could leave beside the state that all suites compare: files anywhere, rules, addresses, modules, programs. Ansible unpacks
# a module in /tmp while it runs: the time of that folder changes, and nothing may be left in it.
LOOK = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /run -o -path /dev -o -path /var/log -o -path /var/cache \) -prune -o \
    -newer /marker -not -path / -not -path /tmp -print | sort
ip -o addr show | sed 's/valid_lft.*//'; ip route show table all; ip -o link | wc -l
iptables -S 2>/dev/null; iptables -t nat -S 2>/dev/null; nft -s list ruleset 2>/dev/null
ls /sys/module; ls -I motd.dynamic /run /run/docker /run/multihost-overlay 2>/dev/null
systemctl list-units --all --plain --no-legend --type=service,socket | awk '{print $1, $2, $3}' | grep -v -e user@ -e '^ssh@' -e session
ps -eo comm | grep -v -e sshd -e ps -e sh -e awk -e sort -e grep -e sed -e kworker -e systemd -e python | sort
"""


class Fault(NamedTuple):
    """What is done to a host, how it is undone, and what preflight must say of that host: nothing else."""

    finds: str
    do: str
    undo: str
    more: tuple[str, ...] = ()


def file(path: str, content: str, finds: str, *more: str) -> Fault:
    """A file that was not there, or another content of one that was."""
    quoted = content.replace("'", "'\\''")
    return Fault(
        finds,
        f"mkdir -p $(dirname {path}); [ ! -e {path} ] || cp -a {path} /root/kept; printf '%s\n' '{quoted}' >{path}",
        f"rm -f {path}; [ ! -e /root/kept ] || mv /root/kept {path}",
        more,
    )


def daemon_json(content: str, finds: str) -> Fault:
    return file(DAEMON_JSON, content, finds)


def drop_in(lines: str, finds: str, *more: str) -> Fault:
    return file(DROP_IN, f"[Service]\n{lines}", finds, *more)


def program(name: str, port: int) -> Fault:
    """A program of somebody else's that listens."""
    return Fault(
        "port_held",
        f"systemd-run -q --unit {name} python3 -m http.server {port} && "
        f"for i in $(seq 100); do ss -Hlnt | grep -q ':{port} ' && exit 0; sleep 0.1; done; exit 1",
        f"systemctl stop {name}",
    )


# Nothing of one of them shows on another host.
FAULTS: dict[str, Fault] = {
    "a subnet on a host route": Fault(
        "subnet_overlaps_route", "ip route add 10.100.80.0/25 dev host0", "ip route del 10.100.80.0/25"
    ),
    "a resolver inside a subnet": file("/etc/resolv.conf", "nameserver 10.100.81.5", "subnet_overlaps_resolver"),
    "an address inside a subnet": Fault(
        "subnet_overlaps_address", "ip addr add 10.100.80.3/25 dev host0", "ip addr del 10.100.80.3/25 dev host0"
    ),
    "forwarding reset": file("/etc/sysctl.d/99-zz.conf", "net.ipv4.ip_forward = 0", "ip_forward_reset"),
    "8500 is taken": program("theirs-8500", 8500),
    "7946 is taken": program("theirs-7946", 7946),
    "hosts in daemon.json": daemon_json('{"hosts": ["fd://"]}', "engine_key_twice"),
    "a number among the store's options": daemon_json(
        '{"cluster-store-opts": {"discovery.ttl": 60}}', "store_opts_not_strings"
    ),
    "a part of the TLS files": daemon_json(
        '{"cluster-store-opts": {"kv.cacertfile": "/etc/hostname", "kv.certfile": "/etc/hostname"}}', "store_tls_partial"
    ),
    "TLS files that are not there": daemon_json(
        '{"cluster-store-opts": {"kv.cacertfile": "/etc/hostname", "kv.certfile": "/etc/hostname", "kv.keyfile": "/no"}}',
        "store_tls_file_missing",
    ),
    "a time to live that Consul refuses": daemon_json(
        '{"cluster-store-opts": {"discovery.heartbeat": "5", "discovery.ttl": "15"}}', "store_ttl_invalid"
    ),
    "a time to live below the heartbeat": daemon_json(
        '{"cluster-store-opts": {"discovery.heartbeat": "30", "discovery.ttl": "30"}}', "store_ttl_invalid"
    ),
    "no JSON": daemon_json('{"debug": tru', "daemon_json_invalid"),
    "another store": daemon_json('{"cluster-store": "consul://10.88.80.1:8500"}', "cluster_store_other"),
    "a flag that contradicts": drop_in(
        "ExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --cluster-advertise=eth9:2376", "engine_flag_conflict"
    ),
    "another file than daemon.json": drop_in(
        "ExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// --config-file=/etc/docker/theirs.json", "engine_config_elsewhere"
    ),
    "an open API": drop_in(
        "ExecStart=\nExecStart=/usr/sbin/dockerd -H fd:// -H tcp://0.0.0.0:2375", "engine_api_open"
    ),
    "a route into docker0": Fault(
        "bridge_overlaps_route", "ip route add 172.17.5.0/24 dev host0", "ip route del 172.17.5.0/24"
    ),
    "an old distribution": Fault(
        "distribution_untested",
        "cp -a --remove-destination $(readlink -f /etc/os-release) /root/release && rm /etc/os-release && "
        "sed 's/^VERSION_ID=.*/VERSION_ID=10/' /root/release >/etc/os-release",
        "rm /etc/os-release && ln -s ../usr/lib/os-release /etc/os-release",
    ),
    "no Python": Fault("python_missing", "mv /usr/bin/python3 /usr/bin/python3.away", "mv /usr/bin/python3.away /usr/bin/python3"),
    "podman's socket": Fault(
        "engine_is_podman",
        "systemctl stop docker.socket docker.service; rm -f /run/docker.sock; ln -s /run/podman/podman.sock /run/docker.sock",
        "rm /run/docker.sock; systemctl start docker.socket docker.service",
    ),
    "a swarm": Fault(
        "swarm_active",
        "docker swarm init --advertise-addr $(hostname -I | cut -d' ' -f1) >/dev/null",
        "docker swarm leave --force && docker network rm docker_gwbridge",
    ),
    "an engine that hangs": Fault(
        "engine_silent", "kill -STOP $(pidof dockerd)", "kill -CONT $(pidof dockerd)", ("unreadable",)
    ),
}  # fmt: skip
# As many at once as there are hosts.
NAMES = list(FAULTS)
ROUNDS = [NAMES[start : start + len(HOSTS)] for start in range(0, len(NAMES), len(HOSTS))]


@pytest.fixture(scope="module")
def bare() -> Iterator[Cluster]:
    """The hosts, with nothing on them but Debian and Python."""
    with lab() as hosts:
        yield hosts


@pytest.fixture(scope="module")
def hosts(bare: Cluster) -> Cluster:
    """The hosts with their distributions' Docker, as people have it."""

    def install(host: str) -> None:
        bare.run(host, "sh", "-c", INSTALL, timeout=300)
        wait_for(f"{host}'s engine", lambda: not bare.run(host, "docker", "info", check=False).returncode)

    with ThreadPoolExecutor() as pool:
        list(pool.map(install, bare.hosts))
    return bare


def sh(cluster: Cluster, host: str, script: str) -> None:
    cluster.run(host, "sh", "-c", script, timeout=120)


@contextmanager
def broken(cluster: Cluster, faults: dict[str, Fault]) -> Iterator[Trouble]:
    """Break hosts, say what must be found, and mend them whatever happened."""
    with ExitStack() as stack:
        for host, fault in faults.items():
            stack.callback(sh, cluster, host, fault.undo)
            sh(cluster, host, fault.do)
        yield {(host, name) for host, fault in faults.items() for name in (fault.finds, *fault.more)}


def traces(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """The lines that came or went on any host."""
    lines = {host: (before[host].splitlines(), after[host].splitlines()) for host in before}
    return [
        f"{host}: {'-' if line in was else '+'} {line}"
        for host, (was, now) in lines.items()
        for line in sorted(set(was) ^ set(now))
    ]


def look(cluster: Cluster) -> dict[str, str]:
    """What a run could leave."""
    return {host: cluster.run(host, "sh", "-c", LOOK).stdout for host in cluster.hosts}


def test_bare_hosts_are_left_as_they_are(bare: Cluster, tmp_path: Path) -> None:
    """Preflight, the probe of the paths included, needs nothing there but Python, and leaves no trace."""
    for host in bare.hosts:
        for name in ("dockerd", "consul"):
            assert bare.run(host, "sh", "-c", f"command -v {name}", check=False).returncode
        sh(bare, host, "touch /marker")
    before, state = look(bare), state_of(bare)
    run = check("preflight", tmp_path, extra_vars=PROBED)
    assert trouble(tmp_path, "preflight") == set()
    assert set(run.remote) == set(HOSTS)
    assert max(run.remote.values()) <= 5
    assert run.changed == {}
    assert traces(before, look(bare)) == []
    assert differences(state, state_of(bare)) == []


def test_sound_hosts(hosts: Cluster, tmp_path: Path) -> None:
    """No warning, no error; and engines, rules and files are left as they are."""
    for host in hosts.hosts:
        sh(hosts, host, "touch /marker")
    before, state = look(hosts), state_of(hosts)
    check("preflight", tmp_path, extra_vars={**PROBED, "overlay_preflight_fail_on": "warning"})
    assert trouble(tmp_path, "preflight") == set()
    assert traces(before, look(hosts)) == []
    assert differences(state, state_of(hosts)) == []


@pytest.mark.parametrize("names", ROUNDS, ids="; ".join)
def test_faults_of_single_hosts(hosts: Cluster, names: list[str], tmp_path: Path) -> None:
    """Each on its host, and no other anywhere."""
    with broken(hosts, {host: FAULTS[name] for host, name in zip(HOSTS, names, strict=False)}) as expected:
        check("preflight", tmp_path)
        assert trouble(tmp_path, "preflight") == expected, findings(tmp_path, "preflight")


def test_everything_was_mended(hosts: Cluster, tmp_path: Path) -> None:
    """What the faults before this found was theirs."""
    check("preflight", tmp_path)
    assert trouble(tmp_path, "preflight") == set(), findings(tmp_path, "preflight")


@pytest.mark.parametrize(
    ("name", "do", "undo"),
    [
        ("hostname_duplicate", "hostname node1", "hostname node2"),
        (
            "machine_id_duplicate",
            "cp /etc/machine-id /root/id; echo {machine_id} >/etc/machine-id",
            "mv /root/id /etc/machine-id",
        ),
        (
            "engine_id_duplicate",
            "systemctl stop docker.socket docker.service; cp -a /etc/docker/key.json /root/key; printf %s '{key}' >/etc/docker/key.json",
            "mv /root/key /etc/docker/key.json; systemctl start docker.socket docker.service",
        ),
    ],
)
def test_clones(hosts: Cluster, name: str, do: str, undo: str, tmp_path: Path) -> None:
    """node2 was made from an image of node1; both are named."""
    stolen = {
        "{machine_id}": hosts.out("node1", "cat", "/etc/machine-id"),
        "{key}": hosts.out("node1", "cat", "/etc/docker/key.json"),
    }
    for mark, text in stolen.items():
        do = do.replace(mark, text)
    with broken(hosts, {"node2": Fault(name, do, undo)}):
        check("preflight", tmp_path)
        rows = [row for row in findings(tmp_path, "preflight") if row["level"] != "info"]
        assert {(row["host"], row["id"]) for row in rows} == {("node1", name), ("node2", name)}
        assert {row["host"]: row["message"].split()[-1] for row in rows} == {"node1": "node2", "node2": "node1"}


def docker_config(name: str, **config: str) -> Change:
    return host_variables(name, overlay_docker_config={key.replace("_", "-"): value for key, value in config.items()})


def all_variables(**values: Any) -> Change:
    return lambda inventory: inventory["all"]["vars"].update(values)


def with_debian12(inventory: dict[str, Any]) -> None:
    inventory["overlay_hosts"]["hosts"][DEBIAN12] = None


# What is wrong lies in the inventory, in the light of what is on the hosts.
WRITTEN: dict[str, tuple[list[Change], Trouble]] = {
    "Debian 12's engine": ([with_debian12], {(DEBIAN12, "engine_backend_missing")}),
    "an address that is not there": (
        [host_variables("node2", overlay_address="10.88.80.99")],
        {("node2", "address_missing")},
    ),
    "docker0's address": (
        [host_variables("node1", overlay_address="172.17.0.1")],
        {
            ("node1", "address_on_docker_bridge"),
            ("node1", "address_shared"),
            ("node2", "bridge_overlaps_peer"),
            ("node3", "bridge_overlaps_peer"),
        },
    ),
    "an interface that is another": (
        [all_variables(overlay_interface="docker0")],
        {(host, "interface_mismatch") for host in HOSTS},
    ),
    "several endpoints": (
        [docker_config("node2", cluster_store="consul://127.0.0.1:8500,10.88.80.11:8500")],
        {("node2", "store_url_endpoints")},
    ),
    "an interface without an address": (
        [docker_config("node3", cluster_advertise="eth9:2376")],
        {("node3", "advertise_invalid")},
    ),
    "a subnet that Docker will take for its bridge": (
        [all_variables(overlay_networks=[{"name": "shop", "subnet": "172.18.7.0/24"}])],
        {(host, "gwbridge_takes_subnet") for host in HOSTS},
    ),
}


@pytest.mark.parametrize("case", WRITTEN)
def test_faults_of_the_inventory(hosts: Cluster, case: str, tmp_path: Path) -> None:
    changes, expected = WRITTEN[case]
    check("preflight", tmp_path, inventory=variation(tmp_path, *changes))
    assert trouble(tmp_path, "preflight") == expected, findings(tmp_path, "preflight")


def test_a_subnet_left_to_docker(hosts: Cluster, tmp_path: Path) -> None:
    """Docker would take 10.0.0.0/24, which one of the hosts has a route to."""
    inventory = variation(tmp_path, all_variables(overlay_networks=[{"name": "shop"}]))
    route = Fault("subnet_left_to_docker", "ip route add 10.0.0.0/24 dev host0", "ip route del 10.0.0.0/24")
    with broken(hosts, {"node3": route}) as expected:
        check("preflight", tmp_path, inventory=inventory)
        assert trouble(tmp_path, "preflight") == expected


@pytest.fixture
def store_elsewhere(hosts: Cluster) -> Iterator[Change]:
    """Something that answers on the port of a store which is not ours."""
    listener = program("their-store", 8500)
    with broken(hosts, {"node3": listener}):
        yield all_variables(overlay_consul_manage=False, overlay_store_url="consul://10.88.80.13:8500")


def test_a_store_that_is_not_ours(hosts: Cluster, store_elsewhere: Change, tmp_path: Path) -> None:
    """A proxy catches it on one host, a filter on another; the third is well."""
    reject = "OUTPUT -p tcp -d 10.88.80.13 --dport 8500 -j REJECT --reject-with tcp-reset"
    faults = {
        "node1": drop_in("Environment=HTTP_PROXY=http://proxy.example:3128", "proxy_swallows_store"),
        "node2": Fault("store_unreachable", f"iptables -I {reject}", f"iptables -D {reject}"),
    }
    inventory = variation(tmp_path, store_elsewhere)
    with broken(hosts, faults) as expected:
        check("preflight", tmp_path, inventory=inventory)
        assert trouble(tmp_path, "preflight") == expected, findings(tmp_path, "preflight")
    check("preflight", tmp_path, inventory=inventory)
    assert trouble(tmp_path, "preflight") == set()


def test_a_store_in_a_container(hosts: Cluster, tmp_path: Path) -> None:
    """The engine needs the store, and the store the engine; its port is held too."""
    hosts.start_service("node1", "their-store", "bridge", "-p", "8500:8080")
    try:
        check("preflight", tmp_path)
        assert trouble(tmp_path, "preflight") == {("node1", "store_in_container"), ("node1", "port_held")}
    finally:
        hosts.run("node1", "docker", "rm", "-f", "their-store")


def cases(report: Path) -> dict[str, str]:
    """Test case -> what failed in it."""
    suite = ElementTree.parse(report / "preflight.xml").getroot()
    failed = {case: case.find("failure") for case in suite.iter("testcase")}
    return {
        f"{case.get('classname')} {case.get('name')}": "" if failure is None else str(failure.get("message"))
        for case, failure in failed.items()
    }


def test_warnings_end_the_run_where_that_is_wanted(hosts: Cluster, tmp_path: Path) -> None:
    """By default they do not; the terminal shows host, evidence and cure, and the XML what failed."""
    with broken(hosts, {"node3": FAULTS["forwarding reset"]}):
        run = check("preflight", tmp_path, extra_vars={"overlay_preflight_fail_on": "error"})
        for word in (
            r"WARNING\s+node3\s+ip_forward_reset",
            r"seen: /etc/sysctl\.d/99-zz\.conf:1",
            r"cure: remove line 1",
        ):
            assert re.search(word, run.output), word
        healthy = {f"preflight.{host} preflight": "" for host in HOSTS}
        assert cases(tmp_path) == {**healthy, "preflight.node3 ip_forward_reset": ""} | infos(tmp_path)
        run = check("preflight", tmp_path, extra_vars={"overlay_preflight_fail_on": "warning"}, succeeds=False)
        assert "node3: /etc/sysctl.d/99-zz.conf switches IPv4 forwarding off" in run.messages
        failed = {name: message for name, message in cases(tmp_path).items() if message}
        assert set(failed) == {"preflight.node3 preflight", "preflight.node3 ip_forward_reset"}
        assert failed["preflight.node3 preflight"] == "ip_forward_reset"


def infos(report: Path) -> dict[str, str]:
    """The cases of findings that are good to know only."""
    rows = [row for row in findings(report, "preflight") if row["level"] == "info"]
    return {f"preflight.{row['host']} {row['id']}": "" for row in rows}


def test_errors_come_first(hosts: Cluster, tmp_path: Path) -> None:
    """On the terminal as in the report, whatever the order of the hosts."""
    faults = {"node1": FAULTS["forwarding reset"], "node3": FAULTS["no JSON"]}
    with broken(hosts, faults):
        run = check("preflight", tmp_path)
        shown = re.findall(r"^(ERROR|WARNING)\s+(node\d)\s+(\w+)", run.output, re.MULTILINE)
        assert shown == [("ERROR", "node3", "daemon_json_invalid"), ("WARNING", "node1", "ip_forward_reset")]
