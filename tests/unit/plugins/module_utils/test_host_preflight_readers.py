# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The readers, on hosts that are laid out in a folder."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_engine as engine
from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_host as host
from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_reader as base
from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_system as system
from ansible_collections.multihost.overlay.plugins.module_utils import _preflight_unit as unit
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError

KERNEL = "5.10.0-33-amd64"


class Host:
    """A folder that stands for a host, and the answers of its programs by their first word."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, tuple[int, str, str]] = {}
        self.calls: list[list[str]] = []
        self.reader = base.Reader(str(root), self._run)

    def _run(self, argv: list[str]) -> tuple[int, str, str]:
        self.calls.append(argv)
        key = next((key for key in self.answers if " ".join(argv).startswith(key)), None)
        return self.answers[key] if key else (127, "", f"{argv[0]}: not found")

    def file(self, path: str, content: str | bytes = "") -> None:
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())

    def link(self, path: str, target: str) -> None:
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)


class Client:
    """An engine that answers by path."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers

    def get(self, path: str) -> Any:
        answer = self.answers.get(path.strip("/").replace("/", "_"))
        if answer is None:
            raise DockerError(f"{path}: timed out")
        return answer


@pytest.fixture
def fake(tmp_path: Path) -> Host:
    return Host(tmp_path)


# -- the host


def test_identity(fake: Host) -> None:
    fake.file("/etc/os-release", 'ID=debian\nVERSION_ID="11"\n# x\nVERSION_CODENAME=bullseye\n')
    fake.file("/proc/sys/kernel/osrelease", KERNEL + "\n")
    fake.file("/proc/sys/kernel/hostname", "node1\n")
    fake.file("/etc/machine-id", "abc\n")
    (fake.root / "run/systemd/system").mkdir(parents=True)
    assert base.read_identity(fake.reader) == {
        "distribution": {"id": "debian", "version": "11", "codename": "bullseye"},
        "kernel": KERNEL,
        "hostname": "node1",
        "machine_id": "abc",
        "systemd": True,
        "init": "",
    }


def test_addresses_of_old_and_new_iproute2() -> None:
    text = (
        "1: lo    inet 127.0.0.1/8 scope host lo\\       valid_lft forever preferred_lft forever\n"
        "2: eth0@if5    inet 10.88.0.11/24 brd 10.88.0.255 scope global dynamic eth0\\       valid_lft 80sec\n"
        "3: tun0    inet 10.9.0.2 peer 10.9.0.1/32 scope global tun0\n\n"
    )
    assert [
        (row["interface"], row["address"], row["prefix"], row["dynamic"]) for row in base.parse_addresses(text)
    ] == [
        ("lo", "127.0.0.1", 8, False),
        ("eth0", "10.88.0.11", 24, True),
        ("tun0", "10.9.0.2", 32, False),
    ]


def test_routes() -> None:
    text = (
        "default via 10.88.0.1 dev eth0 \n10.88.0.0/24 dev eth0 proto kernel scope link src 10.88.0.11 \n"
        "unicast 192.0.2.0/24 via 10.88.0.1 dev eth0 table 51\nblackhole 10.3.0.0/16\n"
        "local 10.88.0.11 dev eth0 table local proto kernel\nbroadcast 10.88.0.255 dev eth0 table local\n10.9.0.1 dev "
        "tun0\n\n"
    )
    found = [(row["destination"], row["device"]) for row in base.parse_routes(text)]
    assert found == [("10.88.0.0/24", "eth0"), ("192.0.2.0/24", "eth0"), ("10.9.0.1", "tun0")]


def test_network_without_ip(fake: Host) -> None:
    found = base.read_network(fake.reader)
    assert found["addresses"] is None
    assert found["routes"] is None
    assert [row["what"] for row in fake.reader.unreadable] == ["ip -o -4 addr show", "ip -o -4 route show table all"]


def test_network_asks_ip_twice(fake: Host) -> None:
    fake.answers["ip"] = (0, "", "")
    base.read_network(fake.reader)
    assert fake.calls == [["ip", "-o", "-4", "addr", "show"], ["ip", "-o", "-4", "route", "show", "table", "all"]]


def test_resolvers_behind_systemd_resolved(fake: Host) -> None:
    fake.file("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\nnameserver\n")
    fake.file("/run/systemd/resolve/resolv.conf", "nameserver 10.1.1.1\nnameserver 127.0.0.53\n")
    assert [row["address"] for row in base.read_resolvers(fake.reader)] == ["127.0.0.53", "10.1.1.1"]


def test_sysctl_files_in_their_order(fake: Host) -> None:
    fake.file("/usr/lib/sysctl.d/50-a.conf", "net.ipv4.ip_forward = 0\n")
    fake.file("/etc/sysctl.d/50-a.conf", "# net.ipv4.ip_forward = 0\n-net/ipv4/ip_forward=1\n")
    fake.file("/usr/lib/sysctl.d/60-b.conf", "net.ipv4.conf.all.forwarding=0\nkernel.panic = 1\n")
    fake.file("/etc/sysctl.d/70.txt", "net.ipv4.ip_forward = 0\n")
    fake.file("/etc/sysctl.conf", "net.ipv4.ip_forward = 1\n")
    fake.file("/etc/ufw/sysctl.conf", "net/ipv4/ip_forward=0\n")
    found = [(row["file"], row["line"], row["value"]) for row in base.read_sysctl_settings(fake.reader)]
    assert found == [
        ("/etc/sysctl.d/50-a.conf", "2", "1"),
        ("/usr/lib/sysctl.d/60-b.conf", "1", "0"),
        ("/etc/sysctl.conf", "1", "1"),
    ]
    fake.file("/etc/ufw/ufw.conf", "ENABLED=yes\n")
    assert base.read_sysctl_settings(fake.reader)[-1]["file"] == "/etc/ufw/sysctl.conf"


def test_sysctls(fake: Host) -> None:
    fake.file("/proc/sys/net/ipv4/ip_forward", "0\n")
    assert base.read_sysctls(fake.reader) == {"net.ipv4.ip_forward": "0"}


def test_packages(fake: Host) -> None:
    assert base.read_packages(fake.reader) == {}
    assert fake.calls == []
    fake.file("/var/lib/dpkg/status")
    fake.answers["dpkg-query"] = (
        1,
        "installed docker.io 20.10.5+dfsg1-1\nconfig-files consul 1.8.7\nnot-installed etcd \n",
        "no",
    )
    assert base.read_packages(fake.reader) == {"docker.io": "20.10.5+dfsg1-1"}
    assert fake.calls[0][:2] == ["dpkg-query", "-W"]
    assert len(fake.calls) == 1


def test_apparmor_wants_its_parser(fake: Host) -> None:
    assert not base.lacks_apparmor_parser(fake.reader)
    fake.file("/sys/module/apparmor/parameters/enabled", "Y\n")
    assert base.lacks_apparmor_parser(fake.reader)
    fake.file("/usr/sbin/apparmor_parser")
    assert not base.lacks_apparmor_parser(fake.reader)


def test_an_unreadable_file_is_remembered(fake: Host) -> None:
    (fake.root / "etc/machine-id").mkdir(parents=True)
    assert fake.reader.line("/etc/machine-id") == ""
    assert fake.reader.unreadable[0]["what"] == "/etc/machine-id"


def test_programs_that_fail() -> None:
    assert base.run_program(["/nonexistent/program"])[0] == 127
    assert base.run_program(["sleep", "5"], timeout=0.05)[0] == 124
    assert base.run_program(["echo", "ok"]) == (0, "ok\n", "")


# -- kernel modules


@pytest.mark.parametrize(
    ("path", "content", "expected"),
    [
        ("/proc/modules", "vxlan 1 0 - Live 0x0\n", "loaded"),
        (f"/lib/modules/{KERNEL}/modules.builtin", "kernel/drivers/net/vxlan/vxlan.ko\n", "builtin"),
        (f"/usr/lib/modules/{KERNEL}/modules.dep", "kernel/drivers/net/vxlan.ko.xz: kernel/net/x.ko\n", "loadable"),
        ("/proc/config.gz", gzip.compress(b"# CONFIG_BRIDGE is not set\nCONFIG_VXLAN=y\n"), "builtin"),
        (f"/boot/config-{KERNEL}", "CONFIG_VXLAN=y\n", "builtin"),
        ("/sys/module/vxlan/parameters/udp_port", "0", "builtin"),
        # Built as a module, but the package with it is not installed.
        (f"/boot/config-{KERNEL}", "CONFIG_VXLAN=m\n", "missing"),
        ("/proc/config.gz", b"no gzip", "missing"),
    ],
)
def test_modules(fake: Host, path: str, content: str | bytes, expected: str) -> None:
    fake.file(path, content)
    assert system.read_modules(fake.reader, KERNEL)["vxlan"] == expected


def test_the_last_resort_is_a_trial_in_a_namespace_of_its_own(fake: Host) -> None:
    fake.answers["unshare --net ip link add name mo-trial0 type vxlan"] = (0, "", "")
    fake.file("/proc/filesystems", "nodev\tproc\nnodev\toverlay\n")
    fake.file("/proc/sys/net/bridge/bridge-nf-call-iptables", "1")
    found = system.read_modules(fake.reader, KERNEL)
    assert found == {
        "vxlan": "builtin",
        "bridge": "missing",
        "veth": "missing",
        "overlay": "builtin",
        "br_netfilter": "builtin",
    }
    assert all(call[:2] == ["unshare", "--net"] for call in fake.calls)


def test_no_trial_where_the_files_tell(fake: Host) -> None:
    fake.file("/proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in base.MODULES))
    system.read_modules(fake.reader, KERNEL)
    assert fake.calls == []


# -- listeners and manifest

TCP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    "   0: 0100007F:2134 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 777 1 0\n"
    "   1: 0100007F:1F0A 0100007F:2134 01 00000000:00000000 00:00000000 00000000     0        0 778 1 0\n"
)


def test_listeners(fake: Host) -> None:
    fake.file("/proc/net/tcp", TCP)
    fake.file("/proc/42/comm", "consul\n")
    fake.link("/proc/42/exe", "/usr/bin/consul")
    fake.link("/proc/42/fd/3", "socket:[777]")
    row = {"proto": "tcp", "port": 8500, "pid": 42, "program": "consul", "executable": "/usr/bin/consul"}
    assert system.read_listeners(fake.reader, [8500, 7946]) == [row]
    assert system.read_listeners(fake.reader, [7946]) == []
    (fake.root / "proc/42/fd/3").unlink()
    assert system.read_listeners(fake.reader, [8500])[0]["program"] == ""


UDP = (
    "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
    " 100: 00000000:12B5 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 900 2 0 0\n"
    " 101: 0B0A0A0A:1F0A 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 901 2 0 0\n"
)


def test_holders_of_udp_ports(fake: Host) -> None:
    fake.file("/proc/net/udp", UDP)
    fake.file("/proc/42/comm", "python3\n")
    fake.link("/proc/42/fd/3", "socket:[901]")
    assert system.read_listeners(fake.reader, [7946], []) == []
    vxlan, gossip = system.read_listeners(fake.reader, [7946], [4789, 7946])
    assert (vxlan["proto"], vxlan["port"], vxlan["pid"]) == ("udp", 4789, 0)  # the kernel's
    assert (gossip["proto"], gossip["port"], gossip["program"]) == ("udp", 7946, "python3")


def test_manifest(fake: Host) -> None:
    assert system.read_manifest(fake.reader) == {"roles": []}
    entries = {"files": {"/a": {"role": "overlay_consul"}}, "packages": {"docker.io": {"role": "overlay_docker"}}}
    fake.file(system.MANIFEST, json.dumps(entries))
    assert system.read_manifest(fake.reader) == {"roles": ["overlay_consul", "overlay_docker"]}
    fake.file(system.MANIFEST, "[]")
    assert system.read_manifest(fake.reader) == {"roles": []}
    assert fake.reader.unreadable[-1]["what"] == system.MANIFEST


# -- the unit

SERVICE = """[Unit]
After=network.target
[Service]
EnvironmentFile=-/etc/default/docker
Environment="A=b c" HTTP_PROXY=http://one
ExecStart=/usr/sbin/dockerd -H fd:// \\
  --live-restore $DOCKER_OPTS --cluster-advertise=${ADVERTISE}:2376
"""


def test_unit_with_dropin_and_environment_file(fake: Host) -> None:
    fake.file("/lib/systemd/system/docker.service", SERVICE)
    fake.file(
        "/etc/default/docker", "# x\nDOCKER_OPTS='--cluster-store consul://1.2.3.4:8500 -D'\nexport ADVERTISE=eth0\n"
    )
    fake.file("/etc/systemd/system/docker.service.d/10-proxy.conf", "[Service]\nEnvironment=HTTP_PROXY=http://two\n")
    found = unit.read_unit(fake.reader)
    vendor, default = "/lib/systemd/system/docker.service", "/etc/default/docker"
    assert [tuple(row.values()) for row in found["flags"]] == [
        ("host", "fd://", vendor),
        ("live-restore", "true", vendor),
        ("cluster-store", "consul://1.2.3.4:8500", default),
        ("debug", "true", default),
        ("cluster-advertise", "eth0:2376", default),
    ]
    assert found["program"] == "/usr/sbin/dockerd"
    proxies = [row for row in found["environment"] if row["name"] == "HTTP_PROXY"]
    assert proxies[0]["value"] == "http://two"
    assert proxies[0]["source"].endswith("10-proxy.conf")


def test_a_dropin_replaces_the_command_and_masks_a_vendor_dropin(fake: Host) -> None:
    fake.file("/usr/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd -H fd://\n")
    fake.file(
        "/usr/lib/systemd/system/docker.service.d/a.conf", "[Service]\nExecStart=\nExecStart=/usr/bin/dockerd --debug\n"
    )
    fake.file("/etc/systemd/system/docker.service.d/a.conf", "[Service]\nExecStart=\nExecStart=-/usr/bin/dockerd\n")
    found = unit.read_unit(fake.reader)
    assert found["flags"] == []
    assert found["program"] == "/usr/bin/dockerd"


def test_variables_that_the_unit_does_not_use_set_nothing(fake: Host) -> None:
    fake.file("/etc/systemd/system/docker.service", "[Service]\nExecStart=/usr/bin/dockerd\n")
    fake.file("/etc/default/docker", "DOCKER_OPTS=--debug\n")
    assert unit.read_unit(fake.reader)["flags"] == []


def test_environment_of_the_manager_and_its_reset(fake: Host) -> None:
    fake.file("/etc/systemd/system.conf", "[Manager]\nDefaultEnvironment=HTTP_PROXY=http://p NO_PROXY=x\n")
    fake.file(
        "/lib/systemd/system/docker.service",
        "[Service]\nEnvironment=NO_PROXY=y\nEnvironment=\nEnvironment=Z=1\nExecStart=/d\n",
    )
    found = {row["name"]: row["value"] for row in unit.read_unit(fake.reader)["environment"]}
    assert found == {"HTTP_PROXY": "http://p", "NO_PROXY": "x", "Z": "1"}


def test_no_unit(fake: Host) -> None:
    assert unit.read_unit(fake.reader) == {"files": [], "program": "", "flags": [], "environment": []}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--live-restore", "--debug"], {"live-restore": "true", "debug": "true"}),
        (["--live-restore=false"], {"live-restore": "false"}),
        (["-Hfd://", "-l", "warn"], {"host": "fd://", "log-level": "warn"}),
        (["-H=fd://", "stray", "--mtu", "1400"], {"host": "fd://", "mtu": "1400"}),
        (["--unknown", "--debug"], {"unknown": "true", "debug": "true"}),
        (["-", "--last"], {"last": "true"}),
    ],
)
def test_flags(words: list[str], expected: dict[str, str]) -> None:
    assert {row["flag"]: row["value"] for row in unit.parse_flags([(word, "x") for word in words])} == expected


def test_an_open_quote_does_not_stop_it() -> None:
    assert unit.words("a 'b c") == ["a", "'b", "c"]


# -- the engine


def test_backends_across_the_edge_of_a_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHUNK", 64)
    data = (
        b"x" * 50
        + b"github.com/docker/libkv/store/consul.New"
        + b"y" * 300
        + b"libkv/store/zookeeper libkv/store/boltdb"
    )
    assert engine.backends_in(data, len(data)) == ["consul", "zk"]
    for shift in range(70):
        shifted = b"x" * shift + b"libkv/store/zookeeper" + b"y" * 70
        assert engine.backends_in(shifted, len(shifted)) == ["zk"]


def test_backends_of_a_file(fake: Host) -> None:
    fake.file("/usr/sbin/dockerd", b"\0libkv/store/etcd\0")
    assert engine.read_backends(fake.reader, "/usr/sbin/dockerd") == ["etcd"]
    fake.file("/usr/bin/dockerd", b"")
    assert engine.read_backends(fake.reader, "/usr/bin/dockerd") == []
    assert fake.reader.unreadable[0]["what"] == "/usr/bin/dockerd"


def dockerd(fake: Host, pid: int = 7, namespace: str = "pid:[1]") -> None:
    fake.file(f"/proc/{pid}/comm", "dockerd\n")
    fake.link(f"/proc/{pid}/ns/pid", namespace)
    fake.link(f"/proc/{pid}/exe", "/usr/sbin/dockerd (deleted)")
    fake.file(f"/proc/{pid}/cmdline", "/usr/sbin/dockerd\0-H\0fd://\0--debug\0")
    fake.file(f"/proc/{pid}/environ", "PATH=/bin\0HTTP_PROXY=http://p\0")


def test_a_running_engine(fake: Host) -> None:
    fake.link("/proc/self/ns/pid", "pid:[1]")
    dockerd(fake, 5, "pid:[2]")
    dockerd(fake)
    fake.file("/usr/sbin/dockerd", b"libkv/store/consul")
    fake.file("/lib/systemd/system/docker.service", "[Service]\nExecStart=/usr/sbin/dockerd -H fd://\n")
    ports = [{"PublicPort": 8500}, {"PrivatePort": 1}, {"PublicPort": 8500}]
    row = {"Names": ["/kv"], "Image": "consul", "Ports": ports, "HostConfig": {"NetworkMode": "default"}}
    client = Client(info={"ServerVersion": "20.10.5+dfsg1", "ID": "AB:CD"}, containers_json=[row, {}])
    found = engine.read_engine(fake.reader, lambda: client)
    assert found["running"]
    assert found["version"] == "20.10.5"
    assert found["backends"] == ["consul"]
    assert found["flags"][0]["source"] == "/lib/systemd/system/docker.service"
    assert found["flags"][1] == {"flag": "debug", "value": "true", "source": "the running dockerd (pid 7)"}
    assert found["api"]["containers"][0] == {"name": "kv", "image": "consul", "host_network": False, "ports": [8500]}
    assert [entry["name"] for entry in found["environment"]] == ["HTTP_PROXY"]
    assert fake.calls == []


def test_an_engine_that_does_not_run_is_not_asked(fake: Host) -> None:
    fake.file("/usr/bin/dockerd", b"x")
    fake.file("/etc/docker/key.json", '{"kid": "AB:CD", "d": "secret"}')
    fake.answers[str(fake.root) + "/usr/bin/dockerd --version"] = (0, "Docker version 26.1.5+dfsg1, build a72d7cd", "")

    def refuse() -> Any:
        raise AssertionError("systemd would start the engine")

    found = engine.read_engine(fake.reader, refuse)
    assert (found["installed"], found["running"], found["version"], found["stored_id"]) == (
        True,
        False,
        "26.1.5",
        "AB:CD",
    )
    fake.file("/var/lib/docker/engine-id", "1234\n")
    assert engine.stored_id(fake.reader) == "1234"


def test_an_engine_that_hangs(fake: Host) -> None:
    fake.link("/proc/self/ns/pid", "pid:[1]")
    dockerd(fake)
    found = engine.read_engine(fake.reader, Client)
    assert found["api"] == {"answers": False, "info": {}, "containers": [], "networks": []}
    assert fake.reader.unreadable[0]["what"] == "GET /info"


@pytest.mark.parametrize(
    ("text", "error"), [("{}", False), ('{"a": 1,}', True), ("[]", True), ("", True), ('{"debug": true}', False)]
)
def test_daemon_json(fake: Host, text: str, error: bool) -> None:
    assert engine.read_daemon_json(fake.reader)["exists"] is False
    fake.file("/etc/docker/daemon.json", text)
    found = engine.read_daemon_json(fake.reader)
    assert found["exists"]
    assert bool(found["error"]) is error


def test_podman_in_dockers_place(fake: Host) -> None:
    fake.link("/run/docker.sock", "/run/podman/podman.sock")
    assert engine.read_engine(fake.reader, Client)["podman"]


# -- all of it

WANTED = {
    "store_ports": [8500],
    "store_managed": True,
    "docker_host": True,
    "mode": "classic",
    "daemon_config": {},
    "store_url": "",
    "address": "",
}


def test_an_empty_host_is_read_to_the_end(fake: Host) -> None:
    facts = host.host_facts(host.read_host(fake.reader, WANTED, Client))
    assert facts["addresses"] == []
    assert facts["engine"]["installed"] is False
    assert facts["kernel_modules"]["vxlan"] == "missing"
    json.dumps(facts)


def test_a_reader_that_stumbles_leaves_its_default(fake: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def stumble(*_args: Any) -> Any:
        raise KeyError("odd")

    for name in (
        "read_identity",
        "read_network",
        "read_engine",
        "read_modules",
        "read_packages",
        "lacks_apparmor_parser",
        "read_listeners",
    ):
        monkeypatch.setattr(host, name, stumble)
    observed = host.read_host(fake.reader, WANTED, Client)
    assert len(observed["unreadable"]) == 7
    json.dumps(host.host_facts(observed))


def test_facts_of_an_engine() -> None:
    info = {
        "ID": "AB",
        "ClusterStore": "consul://x",
        "ClusterAdvertise": "a:1",
        "LiveRestoreEnabled": True,
        "ContainersRunning": 3,
    }
    flags = [
        {"flag": "host", "value": "fd://", "source": "x"},
        {"flag": "host", "value": "tcp://:1", "source": "x"},
        {"flag": "log-opt", "value": "token=secret", "source": "x"},
    ]
    facts = host.engine_facts(dict(host.NO_ENGINE, api={"answers": True, "info": info, "containers": []}, flags=flags))
    assert facts["flags"] == {"host": "fd://,tcp://:1", "log-opt": "********"}
    assert (facts["id"], facts["cluster_store"], facts["containers_running"]) == ("AB", "consul://x", 3)


def snapshot(root: Path) -> list[tuple[str, int]]:
    return sorted((str(path), os.lstat(path).st_mtime_ns) for path in root.rglob("*"))


def test_reading_leaves_no_trace(fake: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    fake.file("/etc/docker/daemon.json", "not json")
    fake.file("/proc/net/tcp", TCP)
    before = snapshot(fake.root)
    host.read_host(fake.reader, WANTED, Client)
    assert snapshot(fake.root) == before


def test_client_factory_is_bounded() -> None:
    make: Callable[[], Any] = engine.short_timeout_client
    assert make().timeout <= 10


def test_an_edited_unit_counts_and_not_the_process_it_started_before() -> None:
    edited = {"flag": "cluster-advertise", "value": "10.0.0.1:2375", "source": "/etc/x.conf"}
    started = {"flag": "cluster-advertise", "value": "10.0.0.1:2376", "source": "the running dockerd"}
    unknown = {"flag": "debug", "value": "true", "source": "the running dockerd"}
    assert engine.merge_flags([edited], [started, unknown]) == [edited, unknown]
