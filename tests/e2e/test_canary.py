# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""No playbook shows a secret: not in its output with -vvv and --diff, in a command line, a journal, a readable file or a report."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.canary import SECRETS, Arguments, process_with, secrets_of, shown_on
from tests.e2e.shared import HOSTS, converge, variables, variation
from tests.e2e.support import run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

# In this order: what one makes the next uses.
PLAYBOOKS = (
    "site", "preflight", "verify", "doctor", "client_bundle", "rotate_keys", "rotate_certificates", "rotate_ca", "revoke_clients",
)  # fmt: skip


@pytest.fixture(scope="module")
def inventory(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("canary")
    path = variation(folder, variables(overlay_docker_api="tls", overlay_docker_restart="rolling"))
    converge(folder, inventory=path)
    yield path
    converge(folder)


def test_a_secret_would_be_seen(cluster: Cluster) -> None:
    """Where there is one, each of the watches says so."""
    secret = uuid.uuid4().hex
    with Arguments() as arguments, process_with(cluster, "node1", secret):
        wait_for("the process is seen", lambda: arguments.with_any({secret}), 30)
    try:
        cluster.run(
            "node1", "sh", "-c", 'read secret; logger "$secret"; echo "$secret" >/etc/canary', stdin=f"{secret}\n"
        )
        cluster.run("node1", "chmod", "0604", "/etc/canary")
        assert shown_on(cluster, "node1", {secret}) == ["node1: the journal has a secret", "node1: /etc/canary"]
        cluster.run("node1", "chmod", "0600", "/etc/canary")
        assert shown_on(cluster, "node1", {secret}) == ["node1: the journal has a secret"]
    finally:
        cluster.run("node1", "rm", "-f", "/etc/canary")


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_no_secret_is_shown(cluster: Cluster, inventory: Path, tmp_path: Path, playbook: str) -> None:
    if playbook == "site":
        # So that there is something to write.
        cluster.run(
            "node2", "rm", SECRETS, "/etc/multihost-overlay/dockerd.env", "/etc/multihost-overlay/tls/docker.key"
        )
    secrets = secrets_of(cluster)
    path = f"playbooks/{playbook}.yml"
    extra = {"overlay_report_dir": str(tmp_path / "report"), "overlay_tls_client_dir": str(tmp_path / "bundle")}
    with Arguments() as arguments:
        run = run_playbook(path, inventory=inventory, arguments=("-vvv", "--diff"), extra_vars=extra)
    secrets |= secrets_of(cluster)
    # 3 hosts: the seed, the gossip key, a token to manage, two for each host, two CAs, two keys on each host.
    assert len(secrets) >= 17
    printed = run.log.read_text() + run.output
    assert "module_args" in printed
    assert not [secret for secret in secrets if secret in printed]
    assert arguments.with_any(secrets) == []
    assert [line for host in HOSTS for line in shown_on(cluster, host, secrets)] == []
    reports = (
        [file for file in (tmp_path / "report").rglob("*") if file.is_file()] if (tmp_path / "report").exists() else []
    )
    assert not [file for file in reports if any(secret in file.read_text() for secret in secrets)]
