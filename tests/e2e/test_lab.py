# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab itself: two hosts come up, behave like hosts, survive what is done to them, and leave nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import LABCTL, ROOT, Cluster, wait_for
from tests.e2e.support import run_playbook

pytestmark = pytest.mark.lab

BASE = Path("/var/lib/multihost-overlay-lab")
NAME, NETWORK = "labtest", "10.87.77.0/24"
ADDRESSES = {"one": "10.87.77.11", "two": "10.87.77.12"}
GROUP_VARS = (ROOT / "inventories" / "lab" / "group_vars" / "overlay_lab.yml").read_text()
SPEC = {"network": NETWORK, "hosts": [{"name": n, "address": a, "release": "bullseye"} for n, a in ADDRESSES.items()]}


@pytest.fixture(scope="module")
def inventory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The lab's inventory with another name and network."""
    place = tmp_path_factory.mktemp("inventory")
    (place / "hosts.ini").write_text("[overlay_lab]\none\ntwo\n")
    (place / "group_vars").mkdir()
    text = GROUP_VARS.replace("overlay_lab_name: lab\n", f"overlay_lab_name: {NAME}\n")
    text = text.replace("overlay_lab_network: 10.88.0.0/24\n", f"overlay_lab_network: {NETWORK}\n")
    (place / "group_vars" / "overlay_lab.yml").write_text(text)
    return place


@pytest.fixture(scope="module")
def lab(inventory: Path) -> Iterator[Cluster]:
    """The lab, up; taken down before (what a killed run left) and after."""
    run_playbook("playbooks/lab_down.yml", inventory=inventory)
    run_playbook("playbooks/lab_up.yml", inventory=inventory)
    yield Cluster(NAME, ADDRESSES)
    run_playbook("playbooks/lab_down.yml", inventory=inventory)
    assert leftovers() == []


def labctl(*words: str, spec: dict[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
    """One call of the control program."""
    command = [sys.executable, str(LABCTL), *words]
    return subprocess.run(
        command, input=json.dumps(spec or {}), capture_output=True, text=True, timeout=600, check=False
    )


def refusal(spec: dict[str, Any], name: str = "labbad") -> str:
    """The message of an `up` that must be refused, and must not have made anything."""
    done = labctl("--name", name, "up", spec=spec)
    answer = json.loads(done.stdout)
    assert done.returncode == 1, answer
    assert answer["changed"] is False, answer
    assert not (BASE / name).exists()
    return str(answer["msg"])


def leftovers() -> list[str]:
    """What of the test's lab is still on this machine."""
    found = [str(path) for path in (BASE / NAME, Path("/sys/class/net", "ol-" + NAME)) if path.exists()]
    found += [str(path) for path in Path("/sys/fs/cgroup").rglob(f"overlay-lab-{NAME}-*")]
    found += [line for line in processes() if f"--name {NAME} " in line or f"--machine={NAME}-" in line]
    rules = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found += [line for line in rules.splitlines() if line.endswith(f"overlay-lab-{NAME}")]
    record = BASE / "machine.json"
    if record.exists() and NAME in json.loads(record.read_text())["labs"]:
        found.append(NAME)
    return found


def processes() -> list[str]:
    """The command lines of this machine's processes."""
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout.splitlines()


def ssh(host: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Log in as Ansible does: with the lab's key, and only to a host whose key is known."""
    place = BASE / NAME
    options = [
        f"UserKnownHostsFile={place}/known_hosts",
        "StrictHostKeyChecking=yes",
        "BatchMode=yes",
        "ConnectTimeout=5",
    ]
    command = [
        "ssh",
        "-F",
        "none",
        "-i",
        str(place / "id_ed25519"),
        *(word for item in options for word in ("-o", item)),
    ]
    return subprocess.run(
        [*command, f"root@{ADDRESSES[host]}", *argv], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_second_up_changes_nothing(lab: Cluster, inventory: Path) -> None:
    before = lab.labctl("status")
    run = run_playbook("playbooks/lab_up.yml", inventory=inventory)
    assert run.changed == {}
    assert lab.labctl("status")["hosts"] == before["hosts"]


def test_hosts_are_hosts(lab: Cluster) -> None:
    status = lab.labctl("status")["hosts"]
    assert {name: host["state"] for name, host in status.items()} == {"one": "running", "two": "running"}
    assert {name: ssh(name, "hostname").stdout.strip() for name in ADDRESSES} == {"one": "one", "two": "two"}
    for path in ("/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key.pub"):
        assert lab.out("one", "cat", path) != lab.out("two", "cat", path)
    assert lab.out("one", "ps", "-p", "1", "-o", "comm=") == "systemd"
    sources = lab.out("one", "sh", "-c", "cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null || true")
    assert [line.split()[0:1] + line.split()[2:] for line in sources.splitlines()] == [["deb", "bullseye", "main"]]
    assert "PasswordAuthentication no" in lab.out("one", "sh", "-c", "cat /etc/ssh/sshd_config.d/*")


def test_a_package_is_fetched_once_for_all_hosts(lab: Cluster) -> None:
    for host in ADDRESSES:
        lab.run(host, "apt-get", "install", "-qy", "docker.io", "busybox-static", timeout=300)
    log = (BASE / NAME / "cache.log").read_text().splitlines()
    asked = {
        line.split()[0] for line in log if "/pool/" in line and "docker.io_" in line and line.startswith("10.87.77.")
    }
    assert asked == set(ADDRESSES.values())
    fetched = [line for line in log if line.startswith("fetch ") and "/pool/" in line]
    assert len(fetched) == len(set(fetched)), "fetched twice"


def test_containers_run_and_have_a_store_of_their_own(lab: Cluster) -> None:
    make = "mkdir -p /tmp/b/bin && cp /bin/busybox /tmp/b/bin/ && tar -C /tmp/b -c . | docker import - box"
    for host in ADDRESSES:
        lab.run(host, "sh", "-c", make)
        said = lab.out(host, "docker", "run", "--rm", "--memory=64m", "box", "/bin/busybox", "echo", "hello")
        assert said == "hello"
        assert lab.out(host, "docker", "info", "--format", "{{.Driver}}") == "overlay2"
    lab.run("one", "docker", "run", "-d", "--restart=always", "--name=keep", "box", "/bin/busybox", "sleep", "1000000")


def vxlan(lab: Cluster) -> None:
    """A tunnel between the hosts, on the port of overlay networks."""
    for host, peer, address in (("one", "two", "192.168.77.1/24"), ("two", "one", "192.168.77.2/24")):
        lab.run(host, "sh", "-c", "ip link del vx77 2>/dev/null || true")
        remote = ADDRESSES[peer]
        lab.run(host, *f"ip link add vx77 type vxlan id 77 dstport 4789 remote {remote} dev host0".split())
        lab.run(host, "ip", "addr", "add", address, "dev", "vx77")
        lab.run(host, "ip", "link", "set", "vx77", "up")


def pings(lab: Cluster, host: str, target: str) -> bool:
    """Does one ping of three come back?"""
    return lab.run(host, "ping", "-c3", "-i0.2", "-W1", target, check=False).returncode == 0


def test_cuts_between_hosts(lab: Cluster) -> None:
    vxlan(lab)
    wait_for("vxlan works", lambda: pings(lab, "one", "192.168.77.2"))
    lab.labctl("partition", "one", "two", "--one-way", "--proto", "udp", "--port", "4789")
    assert not pings(lab, "one", "192.168.77.2")
    assert pings(lab, "one", ADDRESSES["two"])
    assert lab.labctl("partition", "one", "two", "--one-way", "--proto", "udp", "--port", "4789")["changed"] is False
    rules = subprocess.run(
        ["nft", "list", "table", "bridge", f"overlay-lab-{NAME}"], capture_output=True, text=True, check=True
    )
    assert rules.stdout.count("drop") == 1
    assert f"ip saddr {ADDRESSES['one']} ip daddr {ADDRESSES['two']}" in rules.stdout
    lab.labctl("heal", "one", "two")
    assert pings(lab, "one", "192.168.77.2")
    lab.labctl("partition", "one", "two")
    assert not pings(lab, "two", ADDRESSES["one"])
    assert ssh("two", "true").returncode == 0, "this machine still reaches both"
    assert lab.labctl("heal")["cuts"] == []
    wait_for("the hosts reach one another again", lambda: pings(lab, "two", ADDRESSES["one"]))


def test_a_reboot_from_inside(lab: Cluster) -> None:
    before = lab.labctl("status", "one")["hosts"]["one"]["pid"]
    ssh("one", "reboot")

    def reborn() -> bool:
        return lab.labctl("status", "one")["hosts"]["one"]["pid"] not in (None, before)

    # systemd gives a program that does not stop 90 s before it kills it.
    wait_for("another PID 1", reborn, 120, every=0.1)
    lab.labctl("wait", "one")
    wait_for("the container is back", lambda: lab.out("one", "docker", "ps", "-q", "--filter=name=keep"))


def test_power_cut_and_start(lab: Cluster) -> None:
    lab.run("one", "sh", "-c", "echo kept > /root/kept; sync")
    lab.labctl("cut", "one")
    assert lab.labctl("status", "one")["hosts"]["one"]["state"] == "off"
    assert not list(Path("/sys/fs/cgroup").rglob(f"overlay-lab-{NAME}-one"))
    assert not [line for line in processes() if f"--machine={NAME}-one" in line]
    time.sleep(1)
    assert lab.labctl("status", "one")["hosts"]["one"]["state"] == "off", "a cut host stays off"
    lab.labctl("start", "one")
    lab.labctl("wait", "one")
    assert lab.out("one", "cat", "/root/kept") == "kept"
    wait_for("the container is back", lambda: lab.out("one", "docker", "ps", "-q", "--filter=name=keep"))


def test_stop_is_graceful_and_up_starts_again(lab: Cluster, inventory: Path) -> None:
    unit = "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStart=/bin/true\\nExecStop=/bin/touch /root/stopped\\n"
    lab.run(
        "two",
        "sh",
        "-c",
        f"printf '{unit}' > /etc/systemd/system/mark.service; systemctl start mark; rm -f /root/stopped",
    )
    lab.labctl("stop", "two")
    assert lab.labctl("status", "two")["hosts"]["two"]["state"] == "off"
    assert run_playbook("playbooks/lab_up.yml", inventory=inventory).changed
    assert lab.run("two", "test", "-e", "/root/stopped", check=False).returncode == 0


def test_a_killed_supervisor_does_not_leave_two_of_a_host(lab: Cluster, inventory: Path) -> None:
    place = BASE / NAME / "hosts" / "two"
    first = json.loads((place / "leader.pid").read_text())[0]
    os.kill(json.loads((place / "supervisor.pid").read_text())[0], signal.SIGKILL)
    run_playbook("playbooks/lab_up.yml", inventory=inventory)
    assert lab.labctl("status", "two")["hosts"]["two"]["state"] == "running"
    status = Path("/proc", str(first), "status")
    assert not status.exists() or "State:\tZ" in status.read_text()


@pytest.mark.parametrize("seconds", [0.15, 0.5, 1.0, 2.0])
def test_up_after_a_kill(lab: Cluster, seconds: float) -> None:
    """Whatever an `up` that was killed has left, the next one mends it."""
    labctl("--name", NAME, "down")
    command = [sys.executable, str(LABCTL), "--name", NAME, "up"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        assert process.stdin
        process.stdin.write(json.dumps(SPEC))
        process.stdin.close()
        time.sleep(seconds)
        process.kill()
    done = labctl("--name", NAME, "up", spec=SPEC)
    assert done.returncode == 0, done.stdout + done.stderr
    again = labctl("--name", NAME, "up", spec=SPEC)
    assert json.loads(again.stdout)["actions"] == []
    assert [ssh(host, "hostname").stdout.strip() for host in ADDRESSES] == list(ADDRESSES)


def test_check_mode_makes_nothing() -> None:
    spec = {
        **SPEC,
        "network": "10.87.79.0/24",
        "hosts": [{"name": "one", "address": "10.87.79.11", "release": "bullseye"}],
    }
    done = labctl("--name", "labdry", "--check", "up", spec=spec)
    answer = json.loads(done.stdout)
    assert answer["changed"] is True
    assert "make host one" in answer["actions"]
    assert not (BASE / "labdry").exists()
    assert not Path("/sys/class/net/ol-labdry").exists()


def host(**values: str) -> dict[str, str]:
    """A host of a wanted lab."""
    return {"name": "one", "address": "10.87.78.11", "release": "bullseye", **values}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": "moon"}, "is not an IPv4 network"),
        ({"hosts": []}, "overlay_lab has no hosts"),
        ({"hosts": [host(), host()]}, "same name one"),
        ({"hosts": [host(), host(name="two")]}, "same address 10.87.78.11"),
        ({"hosts": [host(address="10.87.78.1")]}, "not a free address"),
        ({"hosts": [host(address="")]}, "host one: ansible_host must be its IPv4 address"),
        ({"hosts": [host(name="UPPER_case")]}, "UPPER_case"),
        ({"hosts": [host(release="sarge")]}, "overlay_lab_release 'sarge' is none of bullseye"),
        ({"mirror": "gopher://moon"}, "overlay_lab_mirror"),
    ],
)
def test_bad_input(change: dict[str, Any], words: str) -> None:
    assert words in refusal({"network": "10.87.78.0/24", "hosts": [host()], **change})


@pytest.mark.parametrize("name", ["a-name-too-long", "Upper", "cache"])
def test_names_that_cannot_be(name: str) -> None:
    done = labctl("--name", name, "up", spec=SPEC)
    assert f"overlay_lab_name {name!r}" in json.loads(done.stdout)["msg"]


def test_a_network_in_use_is_refused(lab: Cluster) -> None:
    assert f"network {NETWORK} is in use on this machine (route {NETWORK} dev ol-{NAME})" in refusal(SPEC)


def test_another_release_of_a_host_is_refused(lab: Cluster, inventory: Path) -> None:
    run = run_playbook(
        "playbooks/lab_up.yml", inventory=inventory, extra_vars={"overlay_lab_release": "bookworm"}, succeeds=False
    )
    assert "was made of bullseye, not of bookworm" in run.messages


def test_not_root() -> None:
    # As another user the checkout itself may be out of reach: only what the program asks is changed.
    program = "import os, runpy, sys; os.geteuid = lambda: 1000; sys.argv = ['labctl.py', 'status']; "
    program += f"sys.path.insert(0, {str(LABCTL.parent)!r}); runpy.run_path({str(LABCTL)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "needs root" in json.loads(done.stdout)["msg"]


OWN_MACHINE = """
import json, subprocess, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from lab import machine, network
from lab.base import LabError, Log
from lab.spec import Lab

def state():
    def show(*argv):
        return subprocess.run(argv, capture_output=True, text=True).stdout.splitlines()
    forward = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    return [show("nft", "list", "tables"), show("iptables-nft", "-S"), forward]

# A new network namespace inherits the machine's setting.
Path("/proc/sys/net/ipv4/ip_forward").write_text("0")
subprocess.run(["iptables-nft", "-P", "FORWARD", "DROP"], check=True)
before, labs = state(), []
for number in (1, 2):
    net = "10.99.%d." % number
    wanted = {"network": net + "0/24", "hosts": [{"name": "a", "address": net + "11", "release": "bullseye"}]}
    labs.append(Lab(sys.argv[2], "own%d" % number, wanted))
log, again = Log(), Log()
for log_ in (log, again):
    for lab in labs:
        network.ensure_bridge(lab, log_), network.ensure_sysctls(lab, log_), network.ensure_nat(lab, log_)
up = state()
network.remove_network(labs[0], log), network.restore_sysctls(labs[0], log)
one = state()
network.remove_network(labs[1], log), network.restore_sysctls(labs[1], log)
machine.TOOLS["no-such-tool"] = "no-such-package"
try:
    machine.ensure_tools(Log(), False)
    missing = ""
except LabError as exc:
    missing = str(exc)
seen = {"before": before, "again": again.actions, "up": up, "one": one, "after": state(), "missing": missing}
print(json.dumps(seen))
"""


def test_the_machine_gets_its_settings_back(tmp_path: Path) -> None:
    """In a network of its own, with a FORWARD chain that drops: two labs, and only the last one restores."""
    command = ["unshare", "--net", sys.executable, "-c", OWN_MACHINE, str(LABCTL.parent), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert seen["before"][2] == "0\n"
    assert seen["again"] == [], "the second time changes nothing"
    assert seen["up"][2] == seen["one"][2] == "1\n"
    assert len([line for line in seen["up"][1] if "overlay-lab:own1" in line]) == 2
    assert not [line for line in seen["one"][1] if "own1" in line]
    assert [line for line in seen["one"][1] if "own2" in line]
    assert seen["after"] == seen["before"]
    assert not (tmp_path / "machine.json").exists()
    assert "lacks no-such-package: install it" in seen["missing"]


@pytest.mark.long
def test_an_image_after_a_kill(tmp_path: Path) -> None:
    """A build that is killed leaves no process, and nothing that a later run takes for an image."""
    name, spec = "labimg", {"network": "10.87.80.0/24", "hosts": [host(address="10.87.80.11")]}
    command = [sys.executable, str(LABCTL), "--dir", str(tmp_path), "--name", name, "up"]
    try:
        for seconds in (6, 15):
            with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
                assert process.stdin
                process.stdin.write(json.dumps(spec))
                process.stdin.close()
                time.sleep(seconds)
                process.kill()
            wait_for(
                "debootstrap is gone", lambda: not [line for line in processes() if f"{tmp_path}/images" in line], 10
            )
            assert not list((tmp_path / "images").glob("bullseye-*"))
        done = labctl("--dir", str(tmp_path), "--name", name, "up", spec=spec)
        assert done.returncode == 0, done.stdout
        assert len(list((tmp_path / "images").glob("bullseye-*"))) == 1
    finally:
        done = labctl("--dir", str(tmp_path), "--name", name, "down", "--remove-images")
    assert done.returncode == 0, done.stdout
    assert not (tmp_path / "images").exists()
    shutil.rmtree(tmp_path)
