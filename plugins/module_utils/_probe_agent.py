# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host says before the underlay's probe, and the agent that does the probing and ends by itself."""

from __future__ import annotations

import http.client
import json
import os
import time
import traceback
from contextlib import suppress
from typing import Any, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state
from ansible_collections.multihost.overlay.plugins.module_utils._agent_process import (
    EndedError,
    ignore_signals,
    start_process,
)
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._network import MTU_OPTION
from ansible_collections.multihost.overlay.plugins.module_utils._probe_loop import Probe, run_probe
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import limits
from ansible_collections.multihost.overlay.plugins.module_utils._probe_sockets import is_held
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program

Json = Dict[str, Any]
CONSUL_SECRETS = "/etc/multihost-overlay/consul-secrets.json"
# Docker's network -> its bridge. What counts is the MTU of the network, which containers get: the bridge itself follows them.
BRIDGES = {"bridge": "docker0", "docker_gwbridge": "docker_gwbridge"}
DEFAULT_MTU = 1500


def interface_of(address: str) -> str:
    """The name of the interface that has the address; empty when none has it."""
    _status, output, _complaints = run_program(["ip", "-4", "-o", "addr", "show", "to", address])
    words = output.split()
    return words[1] if len(words) > 1 else ""


def link_mtu(name: str) -> int:
    """An interface's MTU; 0 when there is no such interface."""
    try:
        with open(f"/sys/class/net/{name}/mtu", encoding="ascii") as stream:
            return int(stream.read())
    except (OSError, ValueError):
        return 0


def firewall_manager() -> str:
    """The program that rules this host's packet filter, if one does."""
    with suppress(OSError), open("/etc/ufw/ufw.conf", encoding="utf-8") as stream:
        if "ENABLED=yes" in stream.read().split():
            return "ufw"
    return "firewalld" if _runs("firewalld") else ""


def _runs(program: str) -> bool:
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            if stream.read().strip() == program:
                return True
    return False


def network_mtus(client: DockerClient, names: List[str]) -> Json:
    """The MTU that each network was made with; 0 for Docker's default. Networks that are not there are left out."""
    found = {}
    for name in names if client.available() else []:
        try:
            value = (client.get(f"/networks/{name}").get("Options") or {}).get(MTU_OPTION, "0")
        except DockerError:
            continue
        found[name] = int(value) if value.isdigit() else 0
    return found


def own_token() -> Dict[str, str]:
    """What the Consul of this host may see, its owner may; somebody else's is asked without."""
    try:
        with open(CONSUL_SECRETS, encoding="utf-8") as stream:
            return {"X-Consul-Token": json.load(stream)["acl"]["tokens"]["agent"]}
    except (OSError, ValueError, KeyError):
        return {}


def consul_members(port: int) -> Json:
    """Address -> whether the local Consul takes that member for alive; empty without a Consul."""
    if not port:
        return {}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/v1/agent/members", headers=own_token())
        members = json.loads(connection.getresponse().read())
        # Those that left are no members any more.
        return {str(row["Addr"]): row["Status"] == 1 for row in members if row["Status"] in (1, 4)}
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return {}
    finally:
        connection.close()


def observe(address: str, ports: List[str], networks: List[str], consul_port: int, client: DockerClient) -> Json:
    """What the plan and the report need to know of this host."""
    interface = interface_of(address)
    problem = "" if interface else f"no interface of the host has the address {address}"
    held = [] if problem else [name for name in ports if is_held(*_split(name, address))]
    return {
        "problem": problem,
        "interface": interface,
        "mtu": link_mtu(interface) if interface else 0,
        "held": held,
        "bridges": {BRIDGES[name]: mtu or DEFAULT_MTU for name, mtu in network_mtus(client, list(BRIDGES)).items()},
        "networks": network_mtus(client, networks),
        "manager": firewall_manager(),
        "members": consul_members(consul_port if f"udp/{8301}" in held else 0),
    }


def _split(name: str, address: str) -> tuple[str, str, int]:
    proto, _slash, port = name.partition("/")
    return proto, address, int(port)


def _work(plan: Json, place: int, path: str) -> None:
    """Probe; whatever happens, let go of the ports and leave a result."""
    errors: List[str] = []
    result: Json = {"peers": {}}
    probe = None
    try:
        probe = Probe(plan, place, time.monotonic())
        # Who takes the place away wants the agent gone: a run that was killed has a successor.
        run_probe(probe, lambda: not os.path.isdir(path))
    except EndedError as exc:
        errors.append(str(exc))
    except Exception:
        # An agent has no one to raise to: the traceback goes into the result.
        errors.append(traceback.format_exc())
    finally:
        ignore_signals()
        if probe is not None:
            result = probe.result()
            probe.close()
        with suppress(FileNotFoundError):
            state.write_json(path, state.RESULT, dict(result, errors=errors))


def spawn(plan: Json, host: str) -> None:
    """Start the agent as a process of its own and return at once."""
    place = plan["hosts"].index(host)
    _knock, _finish, last, keep = limits(plan, place)
    start_process(state.PROBE, plan, last, lambda path: _work(plan, place, path), keep)
