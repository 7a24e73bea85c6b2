# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Docker's API on the network: for who has the client's certificate and nobody else, and gone again when it is not wanted."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, converge, variables, variation
from tests.e2e.support import run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

ADDRESSES = {host: f"10.88.20.{11 + number}" for number, host in enumerate(HOSTS)}
CONTROLLER = "10.88.20.1"
CONSUL = "/etc/multihost-overlay/tls/consul"


@pytest.fixture(scope="module")
def served(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The API with TLS on all hosts, and the folder of a client's bundle."""
    folder = tmp_path_factory.mktemp("api")
    inventory = variation(folder, variables(overlay_docker_api="tls", overlay_host_firewall_allow=[CONTROLLER]))
    converge(folder, inventory=inventory)
    bundle = folder / "bundle"
    run_playbook("playbooks/client_bundle.yml", inventory=inventory, extra_vars={"overlay_tls_client_dir": str(bundle)})
    yield folder
    converge(folder)


def curl(*options: str) -> int:
    """Status of a call of the API from the controller; 0 where none comes about."""
    argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "-m", "5", *options]
    return int(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)


def docker(bundle: Path, host: str) -> subprocess.CompletedProcess[str]:
    """The real client."""
    files = [f"--tls{name}={bundle / name}.pem" for name in ("cert", "key")]
    argv = ["docker", "--tlsverify", f"--tlscacert={bundle / 'ca.pem'}", *files, "-H", f"tcp://{ADDRESSES[host]}:2376"]
    return subprocess.run(
        [*argv, "info", "--format", "{{.Name}}"], capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize("host", HOSTS)
def test_the_real_client_gets_in_with_the_bundle(served: Path, host: str) -> None:
    done = docker(served / "bundle", host)
    assert (done.stdout.strip(), done.returncode) == (host, 0), done.stderr


@pytest.mark.parametrize("host", HOSTS)
def test_nobody_else_gets_in(cluster: Cluster, served: Path, host: str) -> None:
    address = ADDRESSES[host]
    assert curl(f"http://{address}:2376/_ping") in (0, 400)
    assert curl("-k", f"https://{address}:2376/info") == 0
    assert curl(f"http://{address}:2375/_ping") == 0
    # A peer may reach the port, and the certificate of its Consul, of which the cluster's CA says that it is a client, opens nothing.
    peer = HOSTS[(HOSTS.index(host) + 1) % len(HOSTS)]
    status, said = cluster.call(peer, f"https://{address}:2376/info", pair=CONSUL)
    # It is TLS that fails, and not the way there.
    assert (status == 0 and "SSL" in said) or "Connection reset" in said, said


def test_a_second_run_changes_nothing_and_the_bundle_stays(served: Path) -> None:
    inventory = served / "hosts.yml"
    assert converge(served, inventory=inventory).changed == {}
    before = (served / "bundle" / "cert.pem").read_bytes()
    run = run_playbook(
        "playbooks/client_bundle.yml",
        inventory=inventory,
        extra_vars={"overlay_tls_client_dir": str(served / "bundle")},
    )
    assert run.changed == {}
    assert (served / "bundle" / "cert.pem").read_bytes() == before
    modes = {path.name: path.stat().st_mode & 0o777 for path in (served / "bundle").iterdir()}
    assert modes == dict.fromkeys(("ca.pem", "cert.pem", "key.pem"), 0o600)


def test_it_goes_when_it_is_not_wanted_any_more(cluster: Cluster, served: Path) -> None:
    converge(served)
    for host in HOSTS:
        # It ends with status 0 when nobody answers.
        assert docker(served / "bundle", host).stdout.strip() == ""
        assert "2376" not in cluster.out(host, "ss", "-Hltn")
        assert "tlsverify" not in cluster.out(host, "sh", "-c", "tr '\\0' ' ' </proc/$(pidof dockerd)/cmdline")
    assert converge(served).changed == {}
