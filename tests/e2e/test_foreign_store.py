# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Consul of somebody else that wants TLS and a token: what the user gives is a CA and a token with the least rights."""

from __future__ import annotations

import datetime
import ipaddress
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.multihost.overlay.plugins.plugin_utils._backup_file import read
from tests.cluster import Cluster, wait_for
from tests.e2e.brownfield import CONSUL_UNIT, INSTALL
from tests.e2e.support import Run, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = "tests/e2e/inventories/foreign.yml"
HOSTS = ("node1", "node2")
ADDRESS = "10.88.110.13"
MANAGER = "6f1d2c33-8d54-4f0c-9a57-0a4c1b7f0e11"
ENGINES = "b1f0a7de-52c3-4a0b-8f8e-3d1f5f9a2c77"
RULES = 'key_prefix "docker/" { policy = "write" }\nsession "theirs" { policy = "write" }\n'
CONSUL = {
    "server": True, "bootstrap": True, "node_name": "theirs", "datacenter": "theirs", "data_dir": "/var/lib/theirs",
    "bind_addr": ADDRESS, "client_addr": "127.0.0.1", "addresses": {"https": ADDRESS}, "ports": {"https": 8501, "dns": -1},
    "ca_file": "/etc/theirs/ca.crt", "cert_file": "/etc/theirs/server.crt", "key_file": "/etc/theirs/server.key",
    "acl": {"enabled": True, "default_policy": "deny", "tokens": {"master": MANAGER}},
}  # fmt: skip


def name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def signed(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey) -> str:
    """A certificate of their CA; for itself where both names are the same."""
    start = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=200))
        .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(ADDRESS))]), critical=False)
    )
    return builder.sign(by, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


def their_files() -> dict[str, str]:
    """CA, and the server's certificate and key."""
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    return {
        "ca.crt": signed("their CA", authority, "their CA", authority),
        "server.crt": signed("theirs", server, "their CA", authority),
        "server.key": server.private_bytes(serialization.Encoding.PEM, pkcs8, plain).decode(),
    }


def manage(cluster: Cluster, path: str, body: dict[str, Any]) -> bool:
    """A call with the right to everything."""
    return (
        cluster.call("node3", f"http://127.0.0.1:8500/v1/{path}", "PUT", token=MANAGER, body=json.dumps(body))[0] == 200
    )


def give_files(cluster: Cluster) -> str:
    """New certificates for their Consul; the CA."""
    files = their_files()
    for file, content in files.items():
        cluster.write("node3", f"/etc/theirs/{file}", content)
    return files["ca.crt"]


def make_store(cluster: Cluster) -> str:
    """Their Consul, with a policy and a token for engines; its CA."""
    cluster.run("node3", "sh", "-c", INSTALL, "sh", "consul", timeout=300)
    authority = give_files(cluster)
    cluster.write("node3", "/etc/theirs.json", json.dumps(CONSUL))
    cluster.write("node3", "/etc/systemd/system/theirs.service", CONSUL_UNIT)
    cluster.run("node3", "systemctl", "enable", "--now", "theirs.service")
    policy = {"Name": "engines", "Rules": RULES}
    wait_for("their Consul takes a policy", lambda: manage(cluster, "acl/policy", policy), 60)
    assert manage(cluster, "acl/token", {"SecretID": ENGINES, "Policies": [{"Name": "engines"}]})
    return authority


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("foreign", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


@pytest.fixture(scope="module")
def ca(cluster: Cluster) -> str:
    return make_store(cluster)


def site(folder: Path, succeeds: bool = True, **given: Any) -> Run:
    extra = {"overlay_report_dir": str(folder), "overlay_store_token": ENGINES, **given}
    return run_playbook("site.yml", inventory=INVENTORY, extra_vars=extra, succeeds=succeeds)


def test_half_of_it_is_refused(cluster: Cluster, ca: str, tmp_path: Path) -> None:
    run = site(tmp_path, succeeds=False, overlay_store_ca=ca, overlay_store_certificate=ca)
    assert "go together" in run.messages
    assert run.changed == {}


def test_a_ca_and_a_token_are_enough(cluster: Cluster, ca: str, tmp_path: Path) -> None:
    site(tmp_path, overlay_store_ca=ca)
    report = json.loads((tmp_path / "verify.json").read_text())
    assert report["summary"]["failed"] == 0 and report["pairs"]
    for host in HOSTS:
        assert "without TLS" not in cluster.out(host, "journalctl", "-b", "-u", "docker", "--no-pager")
        assert cluster.out(host, "stat", "-c", "%a", "/etc/multihost-overlay/tls/store.key") == "600"
    assert site(tmp_path, overlay_store_ca=ca).changed == {}


def test_all_that_asks_the_store_speaks_tls(cluster: Cluster, ca: str, tmp_path: Path) -> None:
    run_playbook("playbooks/doctor.yml", inventory=INVENTORY, extra_vars={"overlay_report_dir": str(tmp_path)})
    findings = json.loads((tmp_path / "doctor.json").read_text())["findings"]
    assert [row for row in findings if row["level"] != "info"] == []
    for host in HOSTS:
        assert cluster.out(host, "systemctl", "is-active", "multihost-overlay-peers") == "active"
        said = cluster.out(host, "journalctl", "-b", "-u", "multihost-overlay-peers", "--no-pager")
        assert "the store" not in said


def others(cluster: Cluster) -> tuple[int, str]:
    """What else is in their store, with its index."""
    return cluster.call("node3", "http://127.0.0.1:8500/v1/kv/app/?recurse", token=MANAGER)


def overlays(cluster: Cluster) -> str:
    return cluster.out(
        "node1", "docker", "network", "ls", "--no-trunc", "--filter", "driver=overlay", "--format", "{{.ID}} {{.Name}}"
    )


def test_a_backup_and_its_restore_touch_only_what_is_dockers(cluster: Cluster, ca: str, tmp_path: Path) -> None:
    assert manage(cluster, "kv/app/config", {"old": True})
    extra = {
        "overlay_report_dir": str(tmp_path), "overlay_store_token": ENGINES, "overlay_store_ca": ca,
        "overlay_backup_dir": str(tmp_path / "kept"), "overlay_backup_passphrase": "correct horse battery",
    }  # fmt: skip
    run_playbook("playbooks/backup.yml", inventory=INVENTORY, extra_vars=extra)
    (path,) = (tmp_path / "kept").glob("*.vault")
    content = read(path, b"correct horse battery")
    assert (content["scope"], content["secrets"]) == ("docker", {})
    assert {row["Key"].split("/")[0] for row in json.loads(content["content"])} == {"docker"}
    before = overlays(cluster)
    assert manage(cluster, "kv/app/config", {"new": True})
    theirs = others(cluster)
    cluster.run("node2", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.112.0/24", "extra")
    extra["overlay_restore_file"] = str(path)
    drill = run_playbook(
        "playbooks/restore.yml", inventory=INVENTORY, extra_vars={**extra, "overlay_restore_drill": True}
    )
    assert "network extra" in drill.output
    asked = run_playbook("playbooks/restore.yml", inventory=INVENTORY, extra_vars=extra, succeeds=False)
    assert "network extra (10.100.112.0/24)" in asked.messages
    run_playbook("playbooks/restore.yml", inventory=INVENTORY, extra_vars={**extra, "overlay_restore_confirm": True})
    assert overlays(cluster) == before
    assert others(cluster) == theirs
    assert site(tmp_path, overlay_store_ca=ca).changed == {}


def test_another_ca_is_followed(cluster: Cluster, ca: str, tmp_path: Path) -> None:
    """Of a renewed store; engines read it when they start, so they are restarted."""
    renewed = give_files(cluster)
    cluster.run("node3", "systemctl", "restart", "theirs.service")
    run = site(tmp_path, overlay_store_ca=renewed)
    assert set(run.changed) == set(HOSTS)
    assert json.loads((tmp_path / "verify.json").read_text())["summary"]["failed"] == 0
