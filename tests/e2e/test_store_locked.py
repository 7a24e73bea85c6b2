# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Without a token or the gossip key nothing of the store can be read, written or joined; the secrets are made once."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import HOSTS, converge, variables, variation

pytestmark = pytest.mark.lab

SECRETS = "/etc/multihost-overlay/secrets.json"
API = "http://127.0.0.1:8500/v1"


def held(cluster: Cluster, host: str) -> dict[str, Any]:
    """What a host of the store keeps."""
    content: dict[str, Any] = json.loads(cluster.out(host, "cat", SECRETS))
    return content


def engine_token(cluster: Cluster, host: str) -> str:
    """What dockerd of a host shows its store."""
    return cluster.out(host, "sed", "-n", "s/^CONSUL_HTTP_TOKEN=//p", "/etc/multihost-overlay/dockerd.env").strip('"')


def ask(cluster: Cluster, host: str, path: str, token: str = "", method: str = "GET", body: str | None = None) -> int:
    """HTTP status of a call of the store's API."""
    return cluster.call(host, f"{API}/{path}", method, token=token, body=body)[0]


def test_all_hosts_of_the_store_keep_the_same_and_root_alone_reads_it(cluster: Cluster) -> None:
    assert len({json.dumps(held(cluster, host), sort_keys=True) for host in HOSTS}) == 1
    for host in HOSTS:
        for path in (SECRETS, "/etc/multihost-overlay/consul-secrets.json", "/etc/multihost-overlay/dockerd.env"):
            assert cluster.out(host, "stat", "-c", "%a %U:%G", path) == "600 root:root"


@pytest.mark.parametrize("host", HOSTS)
def test_who_has_no_token_neither_reads_nor_writes(cluster: Cluster, host: str) -> None:
    assert ask(cluster, host, "kv/docker/?recurse") == 404
    assert ask(cluster, host, "kv/docker/x", method="PUT", body="x") == 403
    assert ask(cluster, host, "session/create", method="PUT") == 403
    assert ask(cluster, host, "agent/self") == 403


def test_the_engine_s_token_reaches_its_own_keys_and_node_only(cluster: Cluster) -> None:
    token = engine_token(cluster, "node1")
    assert ask(cluster, "node1", "kv/docker/?recurse", token) == 200
    assert ask(cluster, "node1", "kv/other", token) == 403
    assert ask(cluster, "node1", "kv/other", token, "PUT", "x") == 403
    assert ask(cluster, "node1", "session/create", token, "PUT", '{"Node": "node2"}') == 403
    assert ask(cluster, "node1", "acl/tokens", token) == 403
    assert len({engine_token(cluster, host) for host in HOSTS}) == len(HOSTS)


def test_without_the_gossip_key_nobody_joins(cluster: Cluster) -> None:
    """From a peer's address: the firewall lets it pass, the key does not."""
    argv = ["timeout", "20", "consul", "agent", "-data-dir=/tmp/stranger", "-node=stranger", "-bind=10.88.20.12"]
    argv += ["-serf-lan-port=18301", "-http-port=18500", "-dns-port=-1", "-retry-join=10.88.20.11:8301"]
    said = cluster.run("node2", *argv, check=False).stdout
    assert "encrypt" in said, said
    assert "stranger" not in cluster.out("node1", "journalctl", "-u", "multihost-overlay-consul", "-n", "50")


def test_a_second_controller_needs_the_inventory_alone(cluster: Cluster, tmp_path: Path) -> None:
    before = held(cluster, "node1")
    # As for another user: nothing of an earlier run is at hand. Not below tmp_path, which is too long for the name of a socket.
    with tempfile.TemporaryDirectory(prefix="ol") as home:
        assert converge(tmp_path, env={"HOME": home}).changed == {}
    assert held(cluster, "node1") == before


def test_a_host_that_lost_the_secrets_gets_them_from_the_others(cluster: Cluster, tmp_path: Path) -> None:
    before = held(cluster, "node1")
    cluster.run("node2", "rm", SECRETS)
    assert set(converge(tmp_path).changed) == {"node2"}
    assert held(cluster, "node2") == before


def test_tokens_that_the_store_lost_are_made_again(cluster: Cluster, tmp_path: Path) -> None:
    token = engine_token(cluster, "node3")
    accessor = json.loads(cluster.call("node3", f"{API}/acl/token/self", token=token)[1])["AccessorID"]
    management = json.loads(cluster.out("node1", "cat", "/etc/multihost-overlay/consul-secrets.json"))["acl"]["tokens"][
        "master"
    ]
    assert ask(cluster, "node1", f"acl/token/{accessor}", management, "DELETE") == 200
    assert converge(tmp_path).changed != {}
    wait_for("the token works again", lambda: ask(cluster, "node3", "kv/docker/?recurse", token) == 200, 60)


def test_other_secrets_than_the_cluster_s_are_refused(cluster: Cluster, tmp_path: Path) -> None:
    other = variation(tmp_path, variables(overlay_consul_token_seed="ab" * 32))
    run = converge(tmp_path, inventory=other, succeeds=False)
    assert "take it out" in run.messages
    assert run.changed == {}


def test_a_file_that_others_can_read_is_refused(cluster: Cluster, tmp_path: Path) -> None:
    cluster.run("node2", "chmod", "0644", SECRETS)
    try:
        run = converge(tmp_path, succeeds=False)
    finally:
        cluster.run("node2", "chmod", "0600", SECRETS)
    assert "node2" in run.messages and "chmod 0600" in run.messages
    assert run.changed == {}
