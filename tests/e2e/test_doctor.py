# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The doctor finds exactly what was broken on a running cluster, says nothing of a sound one, and changes nothing."""

from __future__ import annotations

import base64
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e import faults_hosts, faults_overlay, faults_store
from tests.e2e.chk import HOSTS, INVENTORY, check, findings, lab, trouble
from tests.e2e.patient import (
    KEYS,
    NAME,
    NETWORK,
    STORE,
    SUBNET,
    Fault,
    endpoint_of,
    export,
    forgive,
    network_id,
    put_back,
)
from tests.e2e.state import differences, state_of
from tests.e2e.support import run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

FAULTS = (*faults_store.FAULTS, *faults_hosts.FAULTS, *faults_overlay.FAULTS)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts, converged by site.yml."""
    with lab() as hosts:
        report = tmp_path_factory.mktemp("converge")
        run_playbook("site.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(report)})
        yield Cluster(hosts.lab, HOSTS)


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
    with faults_store.ghost(cluster):
        check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "error"})
        run = check("doctor", tmp_path, extra_vars={"overlay_doctor_fail_on": "warning"}, succeeds=False)
        assert faults_store.GHOST in run.messages
        assert "nothing was changed on any host" in run.messages
    with faults_hosts.no_forwarding(cluster):
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
