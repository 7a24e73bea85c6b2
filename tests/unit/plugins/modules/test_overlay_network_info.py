# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""overlay_network_info: what it shows and what it waits for."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.modules import overlay_network_info

NETWORK = {
    "Name": "vnet1",
    "Id": "id1",
    "Scope": "global",
    "Driver": "overlay",
    "Internal": False,
    "Attachable": False,
    "Labels": {"a": "b"},
    "Options": {"com.docker.network.driver.mtu": "1400"},
    "IPAM": {"Config": [{"Subnet": "10.201.1.0/24", "Gateway": "10.201.1.1"}]},
    "Containers": {
        "ep-e2": {"Name": "far", "EndpointID": "e2", "MacAddress": "02:42:0a:c9:01:03", "IPv4Address": "10.201.1.3/24"},
        "c1": {"Name": "here", "EndpointID": "e1", "MacAddress": "02:42:0a:c9:01:02", "IPv4Address": "10.201.1.2/24"},
    },
}


class FakeDocker:
    """Answers each question with the next of the prepared answers, the last one for ever."""

    def __init__(self) -> None:
        self.answers: list[Any] = []
        self.asked: list[str] = []
        self.alive = True

    def available(self) -> bool:
        return self.alive

    def get(self, path: str, query: Any = None) -> Any:
        self.asked.append(path)
        if path == "/networks":
            return [{"Id": "id1", "Name": "vnet1"}, {"Id": "id2", "Name": "vnet1"}]
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> FakeDocker:
    fake = FakeDocker()
    monkeypatch.setattr(overlay_network_info, "DockerClient", lambda timeout: fake)
    monkeypatch.setattr(overlay_network_info, "POLL", 0.01)
    return fake


def missing() -> DockerError:
    return DockerError("network vnet1 not found", 404)


def test_shows_a_network(run_module: Any, docker: FakeDocker) -> None:
    docker.answers = [NETWORK]
    network = run_module(overlay_network_info.main, {"names": ["vnet1"]})["networks"]["vnet1"]
    assert (network["id"], network["subnet"], network["gateway"]) == ("id1", "10.201.1.0/24", "10.201.1.1")
    assert (network["mtu"], network["scope"], network["labels"]) == (1400, "global", {"a": "b"})
    assert network["containers"] == [
        {"name": "far", "ipv4": "10.201.1.3", "mac": "02:42:0a:c9:01:03", "endpoint_id": "e2", "container_id": None},
        {"name": "here", "ipv4": "10.201.1.2", "mac": "02:42:0a:c9:01:02", "endpoint_id": "e1", "container_id": "c1"},
    ]
    assert docker.asked == ["/networks/vnet1"]


def test_a_name_not_found_is_reported(run_module: Any, docker: FakeDocker) -> None:
    docker.answers = [missing()]
    result = run_module(overlay_network_info.main, {"names": ["vnet1"]})
    assert (result["missing"], result["networks"], result["changed"]) == (["vnet1"], {}, False)


def test_waits_until_it_is_seen(run_module: Any, docker: FakeDocker) -> None:
    docker.answers = [missing(), DockerError("the engine restarts"), NETWORK]
    result = run_module(overlay_network_info.main, {"wait_for": {"vnet1": "id1"}, "timeout": 5})
    assert result["networks"]["vnet1"]["id"] == "id1"
    assert len(docker.asked) == 3


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (missing(), "after 0 s: network vnet1 is not known here"),
        (
            {**NETWORK, "Id": "id9", "Driver": "bridge"},
            "vnet1 is id9 (driver bridge) here and id1 where it was created",
        ),
        (
            DockerError("network vnet1 is ambiguous (2 matches found on name)", 400),
            "2 networks are named vnet1: id1, id2",
        ),
        (DockerError("the engine does not answer"), "the engine does not answer"),
    ],
)
def test_gives_up_and_says_what_it_saw(run_module: Any, docker: FakeDocker, answer: Any, words: str) -> None:
    docker.answers = [answer]
    result = run_module(overlay_network_info.main, {"wait_for": {"vnet1": "id1"}, "timeout": 0})
    assert result["failed"]
    assert words in result["msg"]


def test_an_empty_id_means_any(run_module: Any, docker: FakeDocker) -> None:
    docker.answers = [NETWORK]
    result = run_module(overlay_network_info.main, {"wait_for": {"vnet1": ""}})
    assert result["differs"] == []


def test_check_mode_does_not_wait(run_module: Any, docker: FakeDocker) -> None:
    docker.answers = [missing()]
    result = run_module(overlay_network_info.main, {"wait_for": {"vnet1": "id1"}, "timeout": 60}, check=True)
    assert result["missing"] == ["vnet1"]
    docker.alive = False
    result = run_module(overlay_network_info.main, {"wait_for": {"vnet1": "id1"}}, check=True)
    assert (result["missing"], "failed" in result) == (["vnet1"], False)
