# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keys, tokens and certificates change under traffic, and none of it is lost as long as containers outlive their engine."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, converge, variables, variation
from tests.e2e.state import differences, state_of
from tests.e2e.support import Run, run_playbook
from tests.e2e.traffic import Traffic, traffic

pytestmark = [pytest.mark.lab, pytest.mark.long]

ADDRESSES = {host: f"10.88.20.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.20.1"
TLS = "/etc/multihost-overlay/tls"
# What a run says of engines that it may not restart.
PENDING = (r"A restart of the engine is pending",)


@pytest.fixture(scope="module")
def inventory(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The cluster, with Docker's API for clients with a certificate."""
    folder = tmp_path_factory.mktemp("rotation")
    path = variation(folder, variables(overlay_docker_api="tls", overlay_host_firewall_allow=[CONTROLLER]))
    converge(folder, inventory=path)
    yield path
    converge(folder)


@pytest.fixture(scope="module")
def busy(cluster: Cluster, inventory: Path) -> Iterator[Traffic]:
    with traffic(cluster, ADDRESSES, "frontend", CONTROLLER) as running:
        yield running


def secrets(cluster: Cluster, host: str) -> dict[str, str]:
    """What the cluster keeps, and the token of the host's engine."""
    held = json.loads(cluster.out(host, "cat", "/etc/multihost-overlay/secrets.json"))
    token = cluster.out(host, "sed", "-n", "s/^CONSUL_HTTP_TOKEN=//p", "/etc/multihost-overlay/dockerd.env")
    return {"gossip": held["gossip_key"], "token": token.strip('"'), "keys": " ".join(sorted(held))}


def engine_environment(cluster: Cluster, host: str) -> str:
    """The token that the running dockerd has."""
    words = "tr '\\0' '\\n' </proc/$(pidof dockerd)/environ | sed -n s/^CONSUL_HTTP_TOKEN=//p"
    return cluster.out(host, "sh", "-c", words)


def serials(cluster: Cluster, host: str) -> set[str]:
    return {
        cluster.out(host, "openssl", "x509", "-noout", "-serial", "-in", f"{TLS}/{name}.crt")
        for name in ("consul", "docker")
    }


def rotate(playbook: str, inventory: Path, report: Path, restart: str = "safe") -> Run:
    """One of the playbooks."""
    extra = {"overlay_report_dir": str(report), "overlay_docker_restart": restart}
    return run_playbook(f"playbooks/{playbook}.yml", inventory=inventory, extra_vars=extra, warnings=PENDING)


def test_keys_and_tokens_change_without_a_probe_lost(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path
) -> None:
    before = {host: secrets(cluster, host) for host in HOSTS}
    rotate("rotate_keys", inventory, tmp_path)
    after = {host: secrets(cluster, host) for host in HOSTS}
    assert len({row["gossip"] for row in after.values()}) == 1
    for host in HOSTS:
        assert after[host]["keys"] == before[host]["keys"]
        assert after[host]["gossip"] != before[host]["gossip"]
        assert engine_environment(cluster, host) == after[host]["token"] != before[host]["token"]
    keys = "http://127.0.0.1:8500/v1/kv/docker/?recurse"
    assert cluster.call("node1", keys, token=before["node1"]["token"])[0] == 403
    assert busy.failed() == []


def test_certificates_change_without_a_probe_lost(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path
) -> None:
    before = {host: serials(cluster, host) for host in HOSTS}
    ca = cluster.out("node1", "cat", f"{TLS}/ca.crt")
    rotate("rotate_certificates", inventory, tmp_path)
    for host in HOSTS:
        assert not serials(cluster, host) & before[host]
        assert cluster.out(host, "cat", f"{TLS}/ca.crt") == ca
    assert busy.failed() == []
    assert converge(tmp_path, inventory=inventory).changed == {}


def test_another_ca_follows_without_a_probe_lost(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path
) -> None:
    before = {host: cluster.out(host, "cat", f"{TLS}/ca.crt") for host in HOSTS}
    rotate("rotate_ca", inventory, tmp_path)
    after = {host: cluster.out(host, "cat", f"{TLS}/ca.crt") for host in HOSTS}
    assert len(set(after.values())) == 1
    for host in HOSTS:
        assert after[host].count("BEGIN") == 1 and after[host] != before[host]
        assert cluster.out(host, "cat", "/run/overlay-consul/ca.crt") == after[host]
        for name in ("consul", "docker"):
            assert cluster.out(host, "openssl", "verify", "-CAfile", f"{TLS}/ca.crt", f"{TLS}/{name}.crt").endswith(
                "OK"
            )
    assert busy.failed() == []
    assert "ca_old_certificate" not in secrets(cluster, "node1")["keys"]
    assert converge(tmp_path, inventory=inventory).changed == {}


def own_ca(folder: Path) -> dict[str, str]:
    """A CA as a user has one, with the variables that hand it over."""
    paths = {"key": folder / "own.key", "certificate": folder / "own.crt"}
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "300"]
    files = ["-keyout", str(paths["key"]), "-out", str(paths["certificate"]), "-subj", "/CN=Own CA of a user"]
    subprocess.run([*argv, *files], capture_output=True, check=True)
    return {f"overlay_tls_ca_{name}": path.read_text() for name, path in paths.items()}


def test_a_ca_of_the_users_own_follows_without_a_probe_lost(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path
) -> None:
    own = own_ca(tmp_path)
    theirs = variation(tmp_path, variables(**own), base=inventory)
    rotate("rotate_ca", theirs, tmp_path)
    for host in HOSTS:
        assert cluster.out(host, "cat", f"{TLS}/ca.crt") == own["overlay_tls_ca_certificate"].strip()
        issuer = cluster.out(host, "openssl", "x509", "-noout", "-issuer", "-in", f"{TLS}/consul.crt")
        assert "Own CA of a user" in issuer
    assert busy.failed() == []
    assert converge(tmp_path, inventory=theirs).changed == {}


@pytest.mark.parametrize(
    "playbook", ["rotate_keys", "rotate_certificates", "rotate_ca", "revoke_clients", "client_bundle"]
)
def test_a_dry_run_changes_nothing(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path, playbook: str
) -> None:
    before = state_of(cluster)
    extra = {"overlay_report_dir": str(tmp_path), "overlay_tls_client_dir": str(tmp_path / "bundle")}
    run_playbook(
        f"playbooks/{playbook}.yml",
        inventory=inventory,
        extra_vars=extra,
        warnings=PENDING,
        arguments=("--check", "--diff"),
    )
    assert differences(before, state_of(cluster)) == []
    assert not (tmp_path / "bundle").exists()
    assert busy.failed() == []


def test_without_live_restore_nothing_dies_unasked(
    cluster: Cluster, inventory: Path, busy: Traffic, tmp_path: Path
) -> None:
    """It is said beforehand whose containers would die; the token of before goes on."""
    fragile = variation(tmp_path, variables(overlay_docker_config={"live-restore": False}), base=inventory)
    converge(tmp_path, inventory=fragile, extra_vars={"overlay_docker_restart": "rolling"})
    busy.failed()  # who lost the engine's restart before was asked to
    had = {host: engine_environment(cluster, host) for host in HOSTS}
    run = rotate("rotate_keys", fragile, tmp_path)
    dying = " ".join(re.findall(r"would die of it: ([^.]*)\.", run.output))
    assert [host for host in HOSTS if f"server-{host}" not in dying] == []
    assert {host: engine_environment(cluster, host) for host in HOSTS} == had
    assert busy.failed() == []
    rotate("rotate_keys", fragile, tmp_path, restart="rolling")
    assert {host: engine_environment(cluster, host) for host in HOSTS} == {
        host: secrets(cluster, host)["token"] for host in HOSTS
    }
