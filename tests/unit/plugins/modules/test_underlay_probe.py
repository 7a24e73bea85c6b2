# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The three calls of a run on one host, with a real agent, and what the host says of itself."""

from __future__ import annotations

import http.server
import json
import os
import signal
import socket
import threading
import time
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _probe_agent as agent
from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.modules import underlay_probe

RUN = "0123456789abcdef"
PEER = "127.0.0.9"
FUNCTIONS = (
    state.directory,
    state.create,
    state.alive,
    state.dismiss,
    state.wait_json,
    state.remove,
    state.dead_runs,
    state.runs,
)


@pytest.fixture(autouse=True)
def base(tmp_path, monkeypatch):
    """Not the machine's own place of runs, and not there yet."""
    tmp_path /= "runs"
    for function in FUNCTIONS:
        monkeypatch.setattr(function, "__defaults__", (str(tmp_path),))
    return tmp_path


def plan(hosts: int = 1, **timing: float) -> dict[str, Any]:
    names = ["a", "b"][:hosts]
    return {
        "run": RUN,
        "hosts": names,
        "addresses": ["127.0.0.8", PEER][:hosts],
        "mtus": [1500] * hosts,
        "held": [[]] * hosts,
        "members": [[]] * hosts,
        "ports": [{"proto": "udp", "port": 47946, "from": [0, 1], "to": [0, 1], "why": ""}],
        "timing": {
            "count": 1,
            "interval": 0.1,
            "patience": 0.2,
            "spread": 0.0,
            "gossip": 0.0,
            "together": False,
            **timing,
        },
    }


def call(run_module, step: str, **params: Any) -> dict[str, Any]:
    result: dict[str, Any] = run_module(underlay_probe.main, {"state": step, "run_id": RUN, **params})
    return result


def test_a_run_from_its_start_to_its_end(run_module, base):
    socket_path = str(base / "no-engine")
    first = call(run_module, "started", address="127.0.0.8", ports=["udp/47946"], docker_socket=socket_path)
    # A host has other addresses of 127.0.0.0/8 than the one that its interface shows.
    assert (first["changed"], first["held"], first["removed"]) == (False, [], [])
    assert call(run_module, "probed", host="a", plan=plan()) == {"changed": False, "run_id": RUN}
    done = call(run_module, "collected")
    assert (done["agent_died"], done["errors"], done["peers"], done["changed"]) == (False, [], {}, False)
    assert not os.path.exists(base)


def test_where_all_start_together_the_result_is_there_at_once(run_module, base):
    done = call(run_module, "probed", host="a", plan=plan(2, together=True))
    assert (done["agent_died"], done["errors"], done["peers"]["b"]["heard"]) == (False, [], {})
    assert not os.path.exists(base)


def test_check_mode_probes_too(run_module):
    params = {"state": "probed", "run_id": RUN, "host": "a", "plan": plan()}
    assert not run_module(underlay_probe.main, params, check=True).get("skipped")
    done = run_module(underlay_probe.main, {"state": "collected", "run_id": RUN}, check=True)
    assert done["agent_died"] is False


def test_an_agent_that_nobody_answers_ends_by_itself(run_module):
    call(run_module, "probed", host="a", plan=plan(2))
    begun = time.monotonic()
    done = call(run_module, "collected")
    assert time.monotonic() - begun < 6
    assert done["errors"] == []
    assert done["peers"]["b"]["heard"] == {}


def holders(base) -> list[int]:
    """Other processes that have a file in the place of the run open."""
    return [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and int(pid) != os.getpid() and _holds(pid, base)]


def _holds(pid: str, base) -> bool:
    try:
        return any(str(base) in os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return False


def test_an_agent_that_is_ended_says_so(run_module, base):
    call(run_module, "probed", host="a", plan=plan(2, patience=30.0))
    time.sleep(0.5)  # until it takes signals
    (pid,) = holders(base)
    os.kill(pid, signal.SIGTERM)
    done = call(run_module, "collected")
    assert done["errors"] == [f"ended by signal {signal.SIGTERM.value}"]


def test_what_a_dead_agent_left_is_removed_by_the_next_run(run_module, base):
    os.close(state.create("feedfeedfeedfeed", plan(), kind=state.PROBE))
    os.close(state.create("beefbeefbeefbeef", plan()))  # the proof's, and not ours to remove
    first = call(run_module, "started", address="127.0.0.1", docker_socket=str(base / "no-engine"))
    assert first["removed"] == ["feedfeedfeedfeed"]
    assert os.listdir(base) == ["verify-beefbeefbeefbeef"]


def test_an_agent_of_a_run_that_was_killed_is_sent_away(run_module, base):
    call(run_module, "probed", host="a", plan=plan(2, patience=30.0))
    time.sleep(0.5)
    (pid,) = holders(base)
    with open(f"/proc/{pid}/comm", encoding="ascii") as stream:
        assert stream.read().strip() == "overlay-probe"
    params = {"address": "127.0.0.8", "ports": ["udp/47946"], "docker_socket": str(base / "no-engine")}
    first = run_module(underlay_probe.main, {"state": "started", "run_id": "feedfeedfeedfeed", **params})
    assert first["removed"] == [RUN]
    assert holders(base) == []
    assert not os.path.exists(base)


def test_collecting_what_was_never_started(run_module):
    done = call(run_module, "collected")
    assert done["agent_died"]
    assert "no agent of this run" in done["errors"][0]


def test_who_is_not_root_takes_no_part(run_module, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert call(run_module, "started", address="127.0.0.1")["problem"] == "it was not read as root"
    assert call(run_module, "probed", host="a", plan=plan())["failed"]


def test_a_bad_number_is_refused(run_module):
    assert run_module(underlay_probe.main, {"state": "collected", "run_id": "x"})["failed"]


class Engine:
    """Knows two networks."""

    def available(self):
        return True

    def get(self, path):
        found = {"/networks/plain": {"Options": {}}, "/networks/small": {"Options": {agent.MTU_OPTION: "1400"}}}
        if path not in found:
            raise DockerError("no such network", 404)
        return found[path]


def as_client(engine: Any) -> Any:
    """The same, for a reader of types: it stands in for a DockerClient."""
    return engine


def test_what_a_host_says_of_itself():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        seen = agent.observe(
            "127.0.0.1", [f"tcp/{port}", "udp/47946"], ["plain", "small", "gone"], 0, as_client(Engine())
        )
    assert (seen["problem"], seen["interface"], seen["mtu"]) == ("", "lo", 65536)
    assert seen["held"] == [f"tcp/{port}"]
    assert seen["networks"] == {"plain": 0, "small": 1400}


def test_a_host_without_the_address(base):
    seen = agent.observe("192.0.2.77", ["udp/4789"], [], 0, as_client(Engine()))
    assert "192.0.2.77" in seen["problem"]
    assert seen["held"] == []


@pytest.fixture
def consul():
    """Consul's answer, as an agent gives it."""
    rows = [{"Addr": "10.0.0.1", "Status": 1}, {"Addr": "10.0.0.2", "Status": 4}, {"Addr": "10.0.0.3", "Status": 3}]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(rows).encode())

        def log_message(self, *_unused):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def test_consuls_members(consul):
    assert agent.consul_members(consul) == {"10.0.0.1": True, "10.0.0.2": False}


def test_no_consul_has_no_members():
    assert agent.consul_members(0) == {}
    assert agent.consul_members(1) == {}
