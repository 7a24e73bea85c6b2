# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An endpoint that stayed in the store, since that had no leader while an engine took it out, keeps no container down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import Cluster, wait_for

pytestmark = pytest.mark.lab

UNIT = "multihost-overlay-boot-repair.service"
MARKER = "/run/multihost-overlay/boot-repair"
HOST, NAME, ADDRESS = "node1", "stays", "10.100.20.77"
# Where Docker keeps a network's containers, their number, and the addresses that are given out.
FOLDERS = ("endpoint", "endpoint_count", "ipam/default/data")


@pytest.fixture
def container(cluster: Cluster) -> Iterator[None]:
    """One with an address of its own, which it must get back."""
    cluster.remove_containers(NAME)
    cluster.start_service(HOST, NAME, "frontend", "--restart", "always", "--ip", ADDRESS)
    yield
    cluster.remove_containers(NAME)
    cluster.run(HOST, "rm", "-f", MARKER)
    cluster.run(HOST, "systemctl", "restart", UNIT)


def everything(cluster: Cluster) -> dict[str, str]:
    return {key: value for folder in FOLDERS for key, value in cluster.records(folder).items()}


def called(cluster: Cluster, name: str) -> list[dict[str, Any]]:
    """Docker's records of endpoints whose name begins so."""
    found = [json.loads(value) for value in cluster.records("endpoint").values()]
    return [record for record in found if record["name"].startswith(name)]


def leave_behind(cluster: Cluster) -> None:
    """Stop the container, and have in the store what was there before."""
    before = everything(cluster)
    cluster.run(HOST, "docker", "stop", "-t", "1", NAME)
    after = everything(cluster)
    for key, value in before.items():
        if after.get(key) != value:
            cluster.consul(HOST, "kv", "put", key, value)
    refused = cluster.run(HOST, "docker", "start", NAME, check=False)
    assert f"endpoint with name {NAME} already exists in network frontend" in refused.stderr


def repair(cluster: Cluster) -> tuple[str, str]:
    """(how the unit ended, what it said), as after a boot."""
    cluster.run(HOST, "rm", "-f", MARKER)
    since = cluster.out(HOST, "date", "+@%s.%N")
    cluster.run(HOST, "systemctl", "restart", UNIT)
    wait_for("the repair has ended", lambda: cluster.unit(HOST, UNIT, "SubState") in ("exited", "failed"), 120)
    return cluster.unit(HOST, UNIT, "Result"), cluster.out(
        HOST, "journalctl", "-u", UNIT, "-o", "cat", "--no-pager", "--since", since
    )


@pytest.mark.usefixtures("container")
def test_an_endpoint_that_was_left_in_the_store_is_removed(cluster: Cluster) -> None:
    (old,) = called(cluster, NAME)
    engine = cluster.unit(HOST, "docker.service", "MainPID")
    leave_behind(cluster)
    ended, said = repair(cluster)
    assert ended == "success", said
    assert f"removed the endpoint {old['id'][:12]}" in said
    (new,) = called(cluster, NAME)
    assert new["id"] != old["id"]
    assert new["ep_iface"]["addr"].startswith(f"{ADDRESS}/")
    assert cluster.ask(HOST, NAME, NAME) == NAME
    counts = {
        key.split("/")[-2]: json.loads(value)["Count"] for key, value in cluster.records("endpoint_count").items()
    }
    real = [key.split("/")[-3] for key in cluster.records("endpoint")]
    assert counts == {network: real.count(network) for network in counts}
    # No other container has noticed.
    assert cluster.unit(HOST, "docker.service", "MainPID") == engine
