# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What overlay_ping asks of the engine, and how it ends; the engine is a recording."""

from __future__ import annotations

import fcntl
import io
import os
import tarfile
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _ping_agent as agent
from ansible_collections.multihost.overlay.plugins.module_utils import _ping_endpoint as endpoint
from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.modules import overlay_ping

RUN = "0123456789abcdef"
TIMING = {
    "count": 1,
    "interval": 0.1,
    "patience": 1.0,
    "stop": 0.0,
    "start_wait": 60.0,
    "transport": True,
    "peers": 0,
    "rounds": 1,
    "streams": 0,
}


def as_client(engine: Any) -> Any:
    """The same, for a reader of types: it stands in for a DockerClient."""
    return engine


class Engine:
    """Answers from a table, refuses the rest, and remembers what was asked."""

    timeout = 1.0

    def __init__(self, answers=None):
        self.answers = answers or {}
        self.asked = []

    def _answer(self, method, path, body=None, query=None):
        self.asked.append((method, path, body, query))
        found = self.answers.get((method, path), DockerError(f"no such {path}", 404))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        if isinstance(found, Exception):
            raise found
        return found

    def get(self, path, query=None):
        return self._answer("GET", path, None, query)

    def post(self, path, body=None, query=None):
        return self._answer("POST", path, body, query)

    def delete(self, path, query=None):
        return self._answer("DELETE", path, None, query)

    def stream_post(self, path, data, content_type, query=None):
        return self._answer("POST", path, data, query)


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.setattr(state, "BASE", str(tmp_path))
    for function in (state.directory, state.create, state.alive, state.dismiss, state.wait_json, state.remove):
        monkeypatch.setattr(function, "__defaults__", (*(function.__defaults__ or ())[:-1], str(tmp_path)))
    monkeypatch.setattr(state.dead_runs, "__defaults__", (str(tmp_path),))
    return tmp_path


def run_with(monkeypatch, run_module, engine, params, **options):
    monkeypatch.setattr(overlay_ping, "DockerClient", lambda _path: engine)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return run_module(overlay_ping.main, {"run_id": RUN, **params}, **options)


def listed(*running):
    """An engine with two networks of the same name, one that is alone, and containers that run on the latter or have ended there."""
    on = {"NetworkSettings": {"Networks": {"net": {"NetworkID": "n1", "IPAddress": "10.0.0.5"}}}}
    containers = [{"Id": "c1", "Names": ["/c1"], "State": state, **on} for state in running]
    networks = [{"Id": "n1", "Name": "net"}, {"Id": "n2", "Name": "twin"}, {"Id": "n3", "Name": "twin"}]
    answers: dict[tuple[str, str], Any] = {
        # First those that a run has left.
        ("GET", "/containers/json"): [[], containers],
        ("GET", "/images/json"): [[]],
        ("GET", "/networks"): [networks],
        ("GET", "/networks/net"): {"Id": "n1", "Containers": {"ep-far": {"IPv4Address": "10.0.0.6/24"}}},
        ("GET", "/networks/twin"): DockerError("network twin is ambiguous", 400),
    }
    return Engine(answers)


def test_who_has_a_container_to_probe_with_does_not_have_all_endpoints_read(base, monkeypatch, run_module):
    engine = listed("running")
    result = run_with(monkeypatch, run_module, engine, {"state": "started", "networks": ["net", "twin", "gone"]})
    assert not result["changed"]
    assert (result["networks"]["net"]["id"], result["networks"]["net"]["claims"]) == ("n1", ["10.0.0.5"])
    assert "ambiguous" in result["networks"]["twin"]["error"]
    assert "no such" in result["networks"]["gone"]["error"]
    assert ("GET", "/containers/json", None, {"all": True}) in engine.asked
    assert "/networks/net" not in [path for _method, path, _body, _query in engine.asked]


def test_who_needs_an_address_knows_those_of_other_hosts(base, monkeypatch, run_module):
    """Also those that the inventory does not know, and that of a container which is off."""
    result = run_with(monkeypatch, run_module, listed("exited"), {"state": "started", "networks": ["net"]})
    assert result["networks"]["net"]["claims"] == ["10.0.0.5", "10.0.0.6"]


@pytest.mark.parametrize(("wait", "seen"), [(30, "n1"), (0, "")])
def test_a_network_that_was_just_made_is_waited_for(base, monkeypatch, run_module, wait, seen):
    monkeypatch.setattr(overlay_ping.time, "sleep", lambda _seconds: None)
    late = [DockerError("no such network", 404), DockerError("no such network", 404), {"Id": "n1"}]
    engine = listed()
    engine.answers["GET", "/networks/net"] = late
    result = run_with(monkeypatch, run_module, engine, {"state": "started", "networks": ["net"], "wait": wait})
    assert result["networks"]["net"]["id"] == seen


def test_silent_engine_is_a_result_and_not_a_failure(base, monkeypatch, run_module):
    engine = Engine({("GET", "/containers/json"): DockerError("it does not answer")})
    result = run_with(monkeypatch, run_module, engine, {"state": "started", "networks": ["net"]})
    assert result["engine_error"] == "it does not answer"
    assert "failed" not in result


def test_leftovers_of_dead_runs_go_and_those_of_living_ones_stay(base, monkeypatch):
    monkeypatch.setattr(endpoint, "PAUSE", 0)
    living = state.create("feedfeedfeedfeed", {})
    os.mkdir(base / "verify-deaddeaddeaddead")
    both = [{"Id": f"c{run}", "Labels": {"multihost.overlay.verify": run * 4}} for run in ("feed", "dead")]
    engine = Engine(
        {
            ("GET", "/containers/json"): [both, both[:1]],
            ("GET", "/images/json"): [[]],
            ("DELETE", "/containers/cdead"): None,
        }
    )
    removed = overlay_ping.remove_leftovers(as_client(engine))
    os.close(living)
    assert removed == ["container cdead", str(base / "verify-deaddeaddeaddead")]
    assert (base / "verify-feedfeedfeedfeed").exists()


@pytest.mark.parametrize("what", ["probed", "collected"])
def test_check_mode_sends_nothing(base, monkeypatch, run_module, what):
    engine = Engine()
    result = run_with(monkeypatch, run_module, engine, {"state": what, "host": "a", "plan": {}}, check=True)
    assert result["skipped"]
    assert engine.asked == []


def test_check_mode_removes_nothing(base, monkeypatch, run_module):
    engine = Engine({("GET", "/containers/json"): [[]]})
    run_with(monkeypatch, run_module, engine, {"state": "started", "networks": []}, check=True)
    assert {method for method, *_rest in engine.asked} == {"GET"}


def test_bad_input_is_refused(base, monkeypatch, run_module):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert "16 hexadecimal" in run_module(overlay_ping.main, {"state": "collected", "run_id": "../../etc"})["msg"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "become" in run_module(overlay_ping.main, {"state": "collected", "run_id": RUN})["msg"]


@pytest.mark.parametrize("soon", [0.2, 0.0])
def test_who_is_done_soon_is_not_asked_again(base, monkeypatch, run_module, soon):
    """Its agent has gone then; else it goes on, and its result is there for whoever collects it."""
    done = {"networks": {"net": {}}, "errors": ["a trifle"], "strays": {}, "egress": []}

    def spawn(_agent):
        os.close(state.create(RUN, {"timing": TIMING, "hosts": ["a"]}))
        living.append(os.open(os.path.join(state.directory(RUN), "lock"), os.O_RDWR))
        fcntl.flock(living[0], fcntl.LOCK_EX)
        state.write_json(state.directory(RUN), state.RESULT, done)

    def dismiss(run, _seconds):
        state.remove(run)
        return True

    living: list[int] = []
    monkeypatch.setattr(agent, "Agent", lambda *_args: None)
    monkeypatch.setattr(agent, "spawn", spawn)
    monkeypatch.setattr(state, "dismiss", dismiss)
    plan = {"timing": {**TIMING, "soon": soon}}
    result = run_with(monkeypatch, run_module, Engine(), {"state": "probed", "host": "a", "plan": plan})
    os.close(living[0])
    assert not result["changed"]
    assert ("networks" in result) == bool(soon) == (not os.path.exists(state.directory(RUN)))
    assert result.get("errors") == (["a trifle"] if soon else None)


def test_collected_of_a_dead_agent_cleans_up_in_its_place(base, monkeypatch, run_module):
    os.close(state.create(RUN, {"timing": TIMING, "hosts": ["a"]}))
    engine = Engine({("GET", "/containers/json"): [[]], ("GET", "/images/json"): [[]]})
    result = run_with(monkeypatch, run_module, engine, {"state": "collected"})
    assert result["agent_died"]
    assert engine.asked
    assert not os.path.exists(base)  # nobody else has anything there


def test_endpoint_ends_and_goes_by_itself_and_may_do_nothing():
    body = endpoint.endpoint_body(RUN, "net", temporary(), 90, ["/bin", "/usr"])
    host = body["HostConfig"]
    assert body["Cmd"] == ["sleep", "90"]
    settings = body["NetworkingConfig"]["EndpointsConfig"]["net"]
    assert settings == {"IPAMConfig": {"IPv4Address": "10.1.0.9"}, "Aliases": ["overlay-verify-x-alias"]}
    assert host["AutoRemove"]
    assert host["ReadonlyRootfs"]
    assert host["CapDrop"] == ["ALL"]
    assert "no-new-privileges" in host["SecurityOpt"]
    assert host["Binds"] == ["/bin:/bin:ro", "/usr:/usr:ro"]
    assert body["User"] == "65534:65534"


def test_image_is_almost_empty_and_says_whose_it_is():
    engine = Engine({("POST", "/images/create"): ""})
    endpoint.make_image(as_client(engine), RUN)
    _method, _path, data, query = engine.asked[0]
    assert query["fromSrc"] == "-"
    assert query["changes"] == f"LABEL multihost.overlay.verify={RUN}"
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        assert all(member.isdir() for member in archive)


def make_agent(engine, probe):
    planned = {"run": RUN, "hosts": ["a"], "networks": ["net"], "probes": [[probe]], "timing": TIMING}
    return agent.Agent(engine, planned, "a")


def temporary():
    return {
        "how": "temporary",
        "name": "overlay-verify-x",
        "alias": "overlay-verify-x-alias",
        "address": "10.1.0.9",
        "spare": "",
        "networks": 1,
    }


def test_start_is_tried_again_and_what_the_failure_left_in_the_store_is_removed():
    left = {"Containers": {"ep-1": {"Name": "overlay-verify-x"}}}
    engine = Engine(
        {
            ("POST", "/containers/create"): {"Id": "c1"},
            ("POST", "/containers/c1/start"): [DockerError("127.0.0.1:8500: connection refused", 500), None],
            ("DELETE", "/containers/overlay-verify-x"): None,
            ("GET", "/networks/net"): left,
            ("POST", "/networks/net/disconnect"): None,
        }
    )
    run = make_agent(engine, temporary())
    run._start("net", 0)
    assert run._probe(0)["id"] == "c1"
    disconnect = ("POST", "/networks/net/disconnect", {"Container": "overlay-verify-x", "Force": True}, None)
    assert disconnect in engine.asked


def test_an_address_that_the_engine_never_gave_back_is_left_for_the_spare_one():
    engine = Engine(
        {
            ("POST", "/containers/create"): {"Id": "c1"},
            ("POST", "/containers/c1/start"): [DockerError("Address already in use", 403), None],
            ("DELETE", "/containers/overlay-verify-x"): None,
            ("GET", "/networks/net"): {"Containers": {}},
        }
    )
    run = make_agent(engine, dict(temporary(), spare="10.1.0.77"))
    run._start("net", 0)
    assert run._probe(0)["address"] == "10.1.0.77"
    bodies = [body for _method, path, body, _query in engine.asked if path == "/containers/create"]
    endpoints = [body["NetworkingConfig"]["EndpointsConfig"]["net"]["IPAMConfig"] for body in bodies]
    assert endpoints == [{"IPv4Address": "10.1.0.9"}, {"IPv4Address": "10.1.0.77"}]


def test_where_docker_chose_the_subnet_it_chooses_the_address_too():
    refused = DockerError(
        "user specified IP address is supported only when connecting to networks with user configured subnets", 400
    )
    settings = {"Networks": {"net": {"IPAddress": "10.0.0.7"}}}
    found = {
        "ep-1": {"Name": "overlay-verify-y", "IPv4Address": "10.0.0.8/24"},
        "c1": {"Name": "overlay-verify-x", "IPv4Address": "10.0.0.7/24"},
    }
    engine = Engine(
        {
            ("POST", "/containers/create"): [{"Id": "c0"}, {"Id": "c1"}],
            ("POST", "/containers/c0/start"): refused,
            ("POST", "/containers/c1/start"): None,
            ("DELETE", "/containers/overlay-verify-x"): None,
            ("GET", "/networks/net"): [{"Containers": {}}, {"Containers": found}],
            ("GET", "/containers/c1/json"): {"NetworkSettings": settings},
        }
    )
    run = make_agent(engine, temporary())
    run._start("net", 0)
    assert run._probe(0)["address"] == "10.0.0.7"
    bodies = [body for _method, path, body, _query in engine.asked if path == "/containers/create"]
    assert bodies[-1]["NetworkingConfig"]["EndpointsConfig"] == {"net": {"Aliases": ["overlay-verify-x-alias"]}}
    assert run.lookups["net"]() == {"overlay-verify-x": "10.0.0.7", "overlay-verify-y": "10.0.0.8"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (DockerError("Address already in use", 403), "endpoint_failed"),
        (DockerError("network net not found", 404), "network_missing"),
        (DockerError("it does not answer"), "engine_down"),
    ],
)
def test_failed_start_is_a_result_with_a_kind(error, kind):
    engine = Engine({("POST", "/images/create"): "", ("POST", "/containers/create"): error})
    run = make_agent(engine, temporary())
    run.strays_before = 0
    run.prepare()
    assert run.results["net"]["kind"] == kind
    assert [path for _method, path, *_rest in engine.asked].count("/containers/create") == 1


def test_of_a_network_that_is_not_there_nothing_is_left_to_clean():
    missing = DockerError("network net not found", 404)
    engine = Engine(
        {("POST", "/images/create"): "", ("POST", "/containers/create"): missing, ("GET", "/networks/net"): missing}
    )
    run = make_agent(engine, temporary())
    run.strays_before = 0
    run.prepare()
    run.clean()
    assert run.result()["networks"]["net"]["kind"] == "network_missing"
    assert not [error for error in run.errors if "not found" in error]


def test_all_networks_of_a_host_have_one_temporary_container_which_leaves_before_it_goes(monkeypatch):
    engine = Engine(
        {
            ("POST", "/containers/create"): {"Id": "c1"},
            ("POST", "/containers/c1/start"): None,
            ("POST", "/networks/two/connect"): None,
            ("POST", "/networks/one/disconnect"): None,
            ("POST", "/networks/two/disconnect"): None,
            ("GET", "/containers/c1/json"): {"State": {"Pid": 7}},
            ("DELETE", "/containers/c1"): None,
            ("GET", "/networks/one"): {"Containers": {}},
            ("GET", "/networks/two"): {"Containers": {}},
        }
    )
    probes = [[temporary()], [{**temporary(), "address": "10.2.0.9"}]]
    planned = {"run": RUN, "hosts": ["a"], "networks": ["one", "two"], "probes": probes, "timing": TIMING}
    run = agent.Agent(as_client(engine), planned, "a")

    def bring_home(namespace, _threads):
        engine.asked.append(namespace)

    monkeypatch.setattr(agent, "bring_home", bring_home)
    run._start("one", 0)
    run._start("two", 1)
    wanted = {"IPAMConfig": {"IPv4Address": "10.2.0.9"}, "Aliases": ["overlay-verify-x-alias"]}
    assert engine.asked[-1] == (
        "POST",
        "/networks/two/connect",
        {"Container": "overlay-verify-x", "EndpointConfig": wanted},
        None,
    )
    assert [run._probe(number)["id"] for number in (0, 1)] == ["c1", "c1"]
    del engine.asked[:]
    run._leave()
    assert [entry if isinstance(entry, str) else entry[1] for entry in engine.asked] == [
        "/networks/one/disconnect",
        "/networks/two/disconnect",
        "/containers/c1/json",
        "/proc/7/ns/net",
        "/containers/c1",
        "/networks/one",
        "/networks/two",
    ]


def test_a_cure_that_fails_keeps_nobody_from_cleaning_up(monkeypatch):
    def broken(_namespace, _threads):
        raise TimeoutError("127.0.0.11 does not answer")

    monkeypatch.setattr(agent, "bring_home", broken)
    engine = Engine({("GET", "/containers/c1/json"): {"State": {"Pid": 7}}, ("DELETE", "/containers/c1"): None})
    run = make_agent(engine, {"how": "none"})
    run.containers = {"overlay-verify-x": "c1"}
    run._leave()
    assert ("DELETE", "/containers/c1") in [entry[:2] for entry in engine.asked]


def test_container_that_moved_meanwhile_is_not_measured():
    answer = {
        "Name": "/u",
        "State": {"Running": True, "Pid": 1},
        "NetworkSettings": {"Networks": {"net": {"IPAddress": "10.1.0.3"}}},
    }
    engine = Engine({("GET", "/containers/c1/json"): answer})
    with pytest.raises(DockerError, match=r"u stopped or left address 10\.1\.0\.2"):
        endpoint.probe_pid(as_client(engine), "c1", "net", "10.1.0.2")
