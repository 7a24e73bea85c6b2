# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The agent of one host: starts by itself, measures, removes what it made, leaves its result, ends by itself."""

from __future__ import annotations

import resource
import time
import traceback
from contextlib import suppress
from typing import Any, Callable, Dict, List, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._agent_process import (
    EndedError,
    ignore_signals,
    start_process,
)
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import LOCAL
from ansible_collections.multihost.overlay.plugins.module_utils._ping_endpoint import (
    BRIDGE,
    NO_CHOICE,
    address_of,
    endpoints_of,
    forget,
    join,
    make_image,
    part,
    probe_pid,
    remove_runs,
    start_endpoint,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_loop import Network, run_loop
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import Channel, open_channel
from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import waits
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners
from ansible_collections.multihost.overlay.plugins.module_utils._ping_threads import Threads, Watched, bring_home
from ansible_collections.multihost.overlay.plugins.module_utils._ping_wire import Wire

Json = Dict[str, Any]
STARTS = 3


def failure(kind: str, error: str) -> Json:
    """A network that this host could not measure on."""
    return {"kind": kind, "error": error, "mtu": None, "peers": {}}


def _kind_of(exc: DockerError) -> str:
    if exc.status is None:
        return "engine_down"
    missing = exc.status == 404 and "network" in exc.message
    return "network_missing" if missing else "endpoint_failed"


class Agent:
    """One run on one host."""

    def __init__(self, client: DockerClient, plan: Json, host: str, late: float = 0.0) -> None:
        self.client = client
        self.plan = plan
        self.hosts: List[str] = plan["hosts"]
        self.place = self.hosts.index(host)
        self.results: Dict[str, Json] = {}
        self.channels: Dict[str, Channel] = {}
        self.networks: Dict[str, Network] = {}
        self.errors: List[str] = []
        # Temporary endpoints by their name; mostly one, on all networks that have no other.
        self.containers: Dict[str, str] = {}
        # Of networks on which nobody has the address that was planned: how to ask for those that there are.
        self.lookups: Dict[str, Callable[[], Dict[str, str]]] = {}
        self.wire: Wire | None = None
        self.threads = Threads()
        self.strays_before = len(self.threads.stray())
        self.strays_after: int | None = None  # not counted
        silent, self.last = waits(plan["timing"], late)
        self.give_up = time.monotonic() + silent

    def _probe(self, number: int) -> Json:
        probe: Json = self.plan["probes"][number][self.place]
        return probe

    def prepare(self) -> None:
        """Start the temporary endpoints, then open the sockets in all probes' namespaces."""
        names = self.plan["networks"]
        if self._temporary():
            self._make_ready()
        for number, name in enumerate(names):
            if name not in self.results:
                self._guard(name, number, self._start)
        for number, name in enumerate(names):
            if name not in self.results:
                self._guard(name, number, self._open)

    def _make_ready(self) -> None:
        """What all temporary endpoints of this host need."""
        try:
            make_image(self.client, self.plan["run"])
        except DockerError as exc:
            self.results.update({name: failure(_kind_of(exc), exc.message) for name, _probe in self._temporary()})
            return
        if self.strays_before:
            try:
                self._mend_first()
            except DockerError as exc:
                self.errors.append(exc.message)

    def _guard(self, name: str, number: int, call: Any) -> None:
        try:
            call(name, number)
        except DockerError as exc:
            self.results[name] = failure(_kind_of(exc), exc.message)
        except OSError as exc:
            self.results[name] = failure("endpoint_failed", str(exc))

    def _start(self, name: str, number: int) -> None:
        probe = self._probe(number)
        if probe["how"] == "none":
            self.results[name] = failure(probe["kind"], probe["error"])
        elif probe["how"] == "temporary":
            self._start_temporary(name, probe)

    def _start_temporary(self, name: str, probe: Json) -> None:
        for attempt in range(1, STARTS + 1):
            try:
                self._enter(name, probe)
                return
            except DockerError as exc:
                if NO_CHOICE in exc.message and probe["address"]:
                    self._let_docker_choose(name, probe)
                    continue
                # A thread astray makes the engine say that its store refuses; the next thread may do.
                in_use = "in use" in exc.message
                if attempt == STARTS or exc.status in (None, 404) or (in_use and not probe["spare"]):
                    raise
                self._undo(name, probe)
                if in_use:
                    # An engine may never have given back an address that nobody has. Peers see where the knocks come from,
                    # and knock there themselves when they miss this host.
                    probe["address"], probe["spare"] = probe["spare"], ""

    def _enter(self, name: str, probe: Json) -> None:
        if probe["name"] in self.containers:
            join(self.client, name, probe)
        else:
            self.containers[probe["name"]] = start_endpoint(self.client, self.plan["run"], name, probe, int(self.last))
        probe["id"] = self.containers[probe["name"]]
        probe["address"] = probe["address"] or address_of(self.client, probe["id"], name)

    def _let_docker_choose(self, name: str, probe: Json) -> None:
        """Where Docker chose the subnet nobody may ask for an address: none is as it was planned, and peers have to be looked up."""
        self._undo(name, probe)
        for other in self.plan["probes"][self.plan["networks"].index(name)]:
            if other["how"] == "temporary":
                other["address"] = other["spare"] = ""
        self.lookups[name] = lambda: endpoints_of(self.client, name)

    def _undo(self, name: str, probe: Json) -> None:
        """After a start that failed: nothing of it may be in the way of the next."""
        if probe["name"] not in self.containers:
            with suppress(DockerError):  # it may not be there at all
                self.client.delete(f"/containers/{probe['name']}", {"force": True})
        forget(self.client, name, probe)

    def _open(self, name: str, number: int) -> None:
        probe = self._probe(number)
        pid = probe_pid(self.client, probe["id"], name, probe["address"])
        transport = self.plan["timing"]["transport"]
        self.channels[name] = open_channel(f"/proc/{pid}/ns/net", probe["address"], transport)
        self._look_at_neighbour(name, probe)
        # An endpoint that took its time has patience all the same.
        self.give_up = max(self.give_up, time.monotonic() + self.plan["timing"]["patience"])

    def _look_at_neighbour(self, name: str, probe: Json) -> None:
        """It may have ended since the plan was made, and is no fault then."""
        neighbour = probe.get("neighbour")
        if neighbour and not self._is_there(name, neighbour):
            probe["neighbour"] = None

    def _is_there(self, name: str, container: Json) -> bool:
        try:
            return probe_pid(self.client, container["id"], name, container["address"]) > 0
        except DockerError:
            return False

    def measure(self) -> None:
        """Run the loop over the networks that could be opened."""
        try:
            self.wire = Wire(bytes.fromhex(self.plan["run"]), self.place)
        except OSError as exc:  # a kernel without packet sockets: it is then not told on which side packets vanish
            self.errors.append(f"no packet socket: {exc.strerror}")
        names, now = self.plan["networks"], time.monotonic()
        timing = self.plan["timing"]
        peers = partners(self.hosts, timing["peers"], timing.get("around", []))[self.place]
        self.networks = {
            name: Network(self.plan, names.index(name), self.place, channel, now, self.give_up, peers)
            for name, channel in self.channels.items()
        }
        for name, lookup in self.lookups.items():
            if name in self.networks:
                self.networks[name].lookup = lookup
        run_loop(list(self.networks.values()), self._told, self.wire)

    def look_again(self) -> None:
        """A neighbour that did not answer, and has ended meanwhile, was not tried."""
        for name, network in self.networks.items():
            neighbour = self._probe(network.number).get("neighbour")
            silent = [aside for aside in network.asides.all if aside.phase == LOCAL and not aside.replied]
            if silent and neighbour and not self._is_there(name, neighbour):
                network.asides.all.remove(silent[0])

    def _told(self) -> bool:
        return state.read_json(state.directory(self.plan["run"]), state.TOGETHER) is not None

    def _temporary(self) -> List[Tuple[str, Json]]:
        probes = [(name, self._probe(number)) for number, name in enumerate(self.plan["networks"])]
        return [(name, probe) for name, probe in probes if probe["how"] == "temporary"]

    def _bring_home(self, container: str) -> None:
        with suppress(OSError):  # the container ended, or its DNS is broken: what is left astray is counted
            pid = self.client.get(f"/containers/{container}/json")["State"]["Pid"]
            bring_home(f"/proc/{pid}/ns/net", self.threads)
        self.strays_after = len(self.threads.stray())

    def _mend_first(self) -> None:
        """Bring threads home that others have lost, before a call that such a thread would spoil."""
        probe = {"name": f"overlay-verify-{self.plan['run'][:8]}-mend", "address": ""}
        mender = start_endpoint(self.client, self.plan["run"], BRIDGE, probe, int(self.last))
        self._bring_home(mender)
        self.client.delete(f"/containers/{mender}", {"force": True})

    def _leave(self) -> None:
        """Take the temporary endpoint off its networks, and mend what that does to old engines."""
        temporary = self._temporary()
        with Watched() as watched:
            try:
                self._part(temporary)
            finally:
                watched.wake()
        for container in self.containers.values():
            self._bring_home(container)
            self.client.delete(f"/containers/{container}", {"force": True})
        for name, probe in temporary:
            forget(self.client, name, probe)

    def _part(self, temporary: List[Tuple[str, Json]]) -> None:
        for name, probe in temporary:
            try:
                part(self.client, name, probe)
            except DockerError as exc:  # looked after later; but an engine that is silent stays so
                if exc.status is None:
                    raise

    def clean(self) -> None:
        """Let go of the containers' namespaces, and remove what this run made on this host."""
        for channel in self.channels.values():
            channel.close()
        if self.wire:
            self.wire.sock.close()
        try:
            self._leave()
        except DockerError as exc:
            self.errors.append(exc.message)
        try:
            remove_runs(self.client, lambda run: run == self.plan["run"])
        except DockerError as exc:
            self.errors.append(exc.message)

    def result(self) -> Json:
        """All that the controller needs from this host."""
        names, hosts = self.plan["networks"], self.hosts
        egress = self.wire.egress if self.wire else set()
        measured = {name: network.result(self.wire) for name, network in self.networks.items()}
        return {
            "networks": {**self.results, **measured},
            "errors": self.errors,
            "strays": {"before": self.strays_before, "after": self.strays_after},
            # Whose packets out of a container were seen at this host.
            "egress": sorted([names[network], hosts[sender]] for network, sender in egress),
        }


def allow_open_files() -> None:
    """As many as may be: each peer has a connection on each network."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _work(agent: Agent, path: str) -> None:
    """Measure; whatever happens, remove what was made and leave a result."""
    try:
        allow_open_files()
        agent.prepare()
        state.write_json(path, state.READY, {})
        agent.measure()
        agent.look_again()
    except EndedError as exc:
        agent.errors.append(str(exc))
    except Exception:
        # An agent has no one to raise to: the traceback goes into the result, the clean-up must happen.
        agent.errors.append(traceback.format_exc())
    finally:
        ignore_signals()
        agent.clean()
        state.write_json(path, state.RESULT, agent.result())


def spawn(agent: Agent) -> None:
    """Start the agent as a process of its own and return at once."""
    start_process(state.VERIFY, agent.plan, agent.last, lambda path: _work(agent, path))
