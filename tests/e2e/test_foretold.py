# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What --check --diff foretells of one declared change is what the run then changes, task by task and host by host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import converge, variables, variation
from tests.e2e.state import differences, state_of

pytestmark = [pytest.mark.lab, pytest.mark.long]

EXTRA = {"name": "foretold", "subnet": "10.100.23.0/24"}
# What a run says of engines that it may not restart.
PENDING = (r"A restart of the engine is pending",)


@pytest.fixture(scope="module")
def whole(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The cluster as it was, in the end."""
    yield cluster
    folder = tmp_path_factory.mktemp("whole")
    removed = variation(folder, lambda inventory: more(inventory, dict(EXTRA, state="absent")))
    converge(folder, inventory=removed)


def more(inventory: dict[str, Any], network: dict[str, Any]) -> None:
    inventory["all"]["vars"]["overlay_networks"].append(network)


CHANGES = {
    "a network": lambda inventory: more(inventory, EXTRA),
    "no network": lambda inventory: more(inventory, dict(EXTRA, state="absent")),
    "a key that is reloaded": variables(overlay_docker_config={"max-concurrent-downloads": 4}),
    "a key that wants a restart": variables(overlay_docker_config={"log-driver": "local"}),
    "who may come in": variables(overlay_host_firewall_allow=["10.88.20.1"]),
    "an API": variables(overlay_docker_api="tls"),
    "no API": lambda inventory: None,
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_is_foretold_comes_true(whole: Cluster, tmp_path: Path, name: str) -> None:
    inventory = variation(tmp_path, CHANGES[name])
    before = state_of(whole)
    foretold = converge(tmp_path, inventory=inventory, arguments=["--check", "--diff"], warnings=PENDING)
    assert differences(before, state_of(whole)) == []
    done = converge(tmp_path, inventory=inventory, warnings=PENDING)
    assert done.changes
    assert foretold.changes == done.changes
