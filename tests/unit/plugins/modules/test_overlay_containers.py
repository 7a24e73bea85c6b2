# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which containers are on overlay networks, how they leave them, and how they come back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.modules import overlay_containers as module

WEB = {
    "Id": "4c01db0b339cffff",
    "Names": ["/web", "/other/alias"],
    "State": "running",
    "NetworkSettings": {
        "Networks": {
            # As the list has it, without aliases.
            "shop": {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Aliases": None},
            "bridge": {"IPAMConfig": None},
        }
    },
}
INSPECTED = {"shop": {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Aliases": ["www", "web", "4c01db0b339c"]}}
OLD = {"Id": "dd", "Names": ["/old"], "State": "exited", "NetworkSettings": {"Networks": {"shop": None, "gone": None}}}
LONE = {"Id": "ee", "Names": ["/lone"], "State": "running", "NetworkSettings": {"Networks": {"bridge": {}}}}


class Engine:
    """An engine that knows two networks."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses = refuses
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def get(self, path: str, query: Any = None) -> Any:
        if path == "/containers/json":
            assert query == {"all": True}
            return [WEB, OLD, LONE]
        if path.startswith("/containers/"):
            if path.split("/")[2] == "dd":  # gone meanwhile
                raise DockerError("no such container", 404)
            return {"NetworkSettings": {"Networks": INSPECTED}}
        name = path.rpartition("/")[2]
        if name == "gone":
            raise DockerError("no such network", 404)
        return {"Id": f"id-{name}", "Driver": "overlay" if name == "shop" else "bridge"}

    def post(self, path: str, body: dict[str, Any]) -> None:
        self.asked.append((path, body))
        if self.refuses and not body["Force"]:
            raise DockerError(self.refuses, 500)


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch, run_module: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    def run(engine: Any, check: bool = False, **params: Any) -> dict[str, Any]:
        monkeypatch.setattr(module, "DockerClient", lambda _socket: engine)
        return run_module(module.main, params, check=check)

    return run


def test_they_are_listed_with_their_way_back(ask: Callable[..., dict[str, Any]]) -> None:
    engine = Engine()
    listed = ask(engine)
    assert (listed["changed"], engine.asked) == (False, [])
    assert [(row["name"], row["running"], row["networks"]) for row in listed["containers"]] == [
        ("old", False, ["shop"]),
        ("web", True, ["shop"]),
    ]
    assert listed["containers"][1]["back"] == ["docker network connect --ip 10.1.0.9 --alias www shop web"]
    assert listed["containers"][0]["back"] == ["docker network connect shop old"]


def test_they_are_taken_off_and_nothing_else(ask: Callable[..., dict[str, Any]]) -> None:
    engine = Engine()
    assert ask(engine, check=True, state="absent")["changed"]
    assert engine.asked == []
    done = ask(engine, state="absent")
    path = "/networks/id-shop/disconnect"
    assert engine.asked == [(path, {"Container": name, "Force": False}) for name in ("dd", "4c01db0b339cffff")]
    assert done["diff"]["before"] == "old: shop\nweb: shop\n"


@pytest.mark.parametrize(("refuses", "forced"), [("context deadline exceeded", 2), ("x is not connected to shop", 0)])
def test_what_docker_fails_with_is_forced(ask: Callable[..., dict[str, Any]], refuses: str, forced: int) -> None:
    engine = Engine(refuses)
    ask(engine, state="absent")
    assert [body["Force"] for _path, body in engine.asked].count(True) == forced


def test_an_engine_that_does_not_answer_is_an_error(ask: Callable[..., dict[str, Any]]) -> None:
    class Deaf:
        def get(self, _path: str, _query: Any = None) -> Any:
            raise DockerError("the engine does not answer")

    failed = ask(Deaf())
    assert failed["failed"] and "Start the engine" in failed["msg"]
