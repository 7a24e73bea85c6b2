# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host of a running cluster for the doctor. Changes nothing, installs nothing, and is bounded in time."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any, Callable, Mapping, Protocol, Tuple
from urllib.parse import quote

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import read_all
from ansible_collections.multihost.overlay.plugins.module_utils._consul_host import consul_version
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import (
    NAMESPACES,
    read_dns,
    read_overlays,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_store import read_store
from ansible_collections.multihost.overlay.plugins.module_utils._ping_threads import Threads
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_engine import (
    merge_flags,
    read_daemon_json,
    read_process,
    running_pid,
    stored_id,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import (
    Reader,
    parse_addresses,
    read_identity,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_system import (
    MANIFEST,
    listening,
    read_listeners,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_unit import parse_flags, read_unit
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import Asker, http_asker
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import parse_units

GOSSIP_PORT = 7946
UNITS = (
    "docker.service",
    "multihost-overlay-consul.service",
    "multihost-overlay-boot-repair.service",
    "multihost-overlay-peers.service",
)
TOKEN = "CONSUL_HTTP_TOKEN" + "="
MOST_CONTAINERS = 500
# A line of a journal: how many seconds ago it was written, and its words.
Line = Tuple[float, str]


class Client(Protocol):
    """The part of the engine's client that is used here: nothing but GET."""

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any: ...


StoreFactory = Callable[[str, Mapping[str, Any]], Asker]


def patient_client() -> DockerClient:
    """An engine that hangs is a finding, and must not hang the doctor."""
    return DockerClient(timeout=15.0)


def ask(reader: Reader, client: Client, path: str, query: Mapping[str, Any] | None = None) -> Any:
    """An answer; None for what the engine does not know; anything else that goes wrong is remembered."""
    try:
        return client.get(path, query)
    except DockerError as exc:
        if exc.status != 404:
            reader.trouble(f"GET {path}", exc.message)
        return None


def read_units(reader: Reader) -> dict[str, dict[str, str]]:
    """State of the units that matter; those that are not there are left out."""
    argv = ["systemctl", "show", "-p", "Id,LoadState,ActiveState,SubState,Result,UnitFileState", *UNITS]
    units = parse_units(reader.output(argv) or "")
    return {name: unit for name, unit in units.items() if unit.get("LoadState") in ("loaded", "masked")}


def aged(line: str, now: float) -> Line:
    """How many seconds ago a line was written, and its words."""
    stamp, _blank, text = line.partition(" ")
    try:
        return max(now - float(stamp), 0.0), text
    except ValueError:
        return 0.0, line


def read_journal(reader: Reader, pid: int, minutes: int) -> list[Line]:
    """The running dockerd's words of the last minutes; its last words where none runs. At most some thousand lines."""
    now = time.time()
    base = ["journalctl", "-q", "--no-pager", "-o", "short-unix"]
    argv = [*base, "-n", "4000", f"--since=@{int(now) - 60 * minutes}", f"_PID={pid}"]
    if not pid:
        argv = [*base, "-n", "60", "-u", "docker.service"]
    return [aged(line, now) for line in (reader.output(argv) or "").splitlines()]


def container_view(inspected: Mapping[str, Any]) -> dict[str, Any]:
    """What of an inspected container is judged."""
    state, settings = inspected.get("State") or {}, inspected.get("NetworkSettings") or {}
    return {
        "id": inspected.get("Id", ""),
        "name": str(inspected.get("Name", "?")).lstrip("/"),
        "running": bool(state.get("Running")),
        "status": state.get("Status", ""),
        "error": str(state.get("Error") or ""),
        "policy": ((inspected.get("HostConfig") or {}).get("RestartPolicy") or {}).get("Name", ""),
        "sandbox": os.path.basename(settings.get("SandboxKey") or ""),
        "networks": {
            name: {
                "id": entry.get("NetworkID", ""),
                "endpoint": entry.get("EndpointID", ""),
                "wanted": (entry.get("IPAMConfig") or {}).get("IPv4Address", ""),
            }
            for name, entry in (settings.get("Networks") or {}).items()
        },
    }


def read_containers(reader: Reader, client: Client) -> tuple[list[dict[str, Any]], bool]:
    """All containers, inspected one by one: the list does not say why one is down. And whether really all of them were seen: of who was
    not, nothing must be taken for left behind.
    """
    before = len(reader.unreadable)
    listed = ask(reader, client, "/containers/json", {"all": True})
    if listed is None:
        reader.trouble("GET /containers/json", "the engine gave no list")
        return [], False
    if len(listed) > MOST_CONTAINERS:
        reader.trouble("containers", f"only {MOST_CONTAINERS} of {len(listed)} were looked at")
    seen = [ask(reader, client, f"/containers/{entry['Id']}/json") for entry in listed[:MOST_CONTAINERS]]
    return [container_view(entry) for entry in seen if entry], len(reader.unreadable) == before


def known_networks(
    reader: Reader, client: Client, store: Mapping[str, Any], containers: list[dict[str, Any]]
) -> dict[str, str]:
    """Network's id -> its driver by this engine, '' if it does not know it. Asked one by one: a list of all takes seconds."""
    ids = {entry["id"] for entry in store.get("networks", []) if entry["driver"] == "overlay"}
    ids |= {entry["id"] for container in containers for entry in container["networks"].values() if entry["id"]}
    return {key: (ask(reader, client, f"/networks/{quote(key)}") or {}).get("Driver", "") for key in sorted(ids)}


def read_namespaces(reader: Reader) -> list[str]:
    """Docker's network namespaces that are really there: an empty file is swept away by Docker in time."""
    try:
        folder = os.stat(reader.path(NAMESPACES)).st_dev
    except OSError:
        return []
    found = []
    for name in reader.names(NAMESPACES):
        try:
            if os.stat(reader.path(f"{NAMESPACES}/{name}")).st_dev != folder:
                found.append(name)
        except OSError:
            continue
    return found


def read_tunnels(reader: Reader) -> list[str]:
    """VXLAN devices in the host's own namespace."""
    text = reader.output(["ip", "-o", "link", "show", "type", "vxlan"]) or ""
    return [line.split(":")[1].strip().split("@")[0] for line in text.splitlines() if line.count(":") > 1]


def read_rules(reader: Reader) -> dict[str, list[str]] | None:
    """Docker's tables as iptables tells them; None where there is no iptables."""
    found = {}
    for table in ("filter", "nat"):
        status, out, err = reader.run(["iptables", "-w", "5", "-t", table, "-S"])
        if status == 127:
            return None
        if status:
            reader.trouble(f"iptables -t {table} -S", err.strip() or f"status {status}")
            return None
        found[table] = out.splitlines()
    return found


def gossip_listeners(reader: Reader) -> dict[str, Any]:
    """Who listens on the port of gossip: tcp with its program, udp with or without."""
    tcp = read_listeners(reader, [GOSSIP_PORT])
    rows = [
        line.split() for path in ("/proc/net/udp", "/proc/net/udp6") for line in (reader.text(path) or "").splitlines()
    ]
    udp = any(len(row) > 3 and row[1].endswith(f":{GOSSIP_PORT:04X}") for row in rows)
    return {"tcp": tcp[0]["program"] if tcp else "", "udp": udp}


def has_listeners(reader: Reader) -> bool:
    """Whether the table of sockets could be read at all."""
    return bool(listening(reader.text("/proc/net/tcp") or "")) or reader.exists("/proc/net/tcp")


def pending(reader: Reader) -> bool:
    """Whether our own manifest notes a change of daemon.json that waits for a restart."""
    try:
        return bool((json.loads(reader.text(MANIFEST) or "{}").get("state") or {}).get("docker_pending"))
    except (ValueError, AttributeError):
        return False


def token_of(reader: Reader, pid: int) -> str:
    """The token that dockerd itself has, if any. It is used here, and never shown."""
    entries = (reader.text(f"/proc/{pid}/environ") or "").split("\0")
    return next((entry[len(TOKEN) :] for entry in entries if entry.startswith(TOKEN)), "")


def ask_info(client: Client) -> tuple[Any, str]:
    """What the engine says of itself, or why it says nothing: a finding of its own, not something unread."""
    try:
        return client.get("/info"), ""
    except DockerError as exc:
        return None, exc.message


def read_engine(reader: Reader, client: Client) -> dict[str, Any]:
    """The engine, without its program's file: what it could do is preflight's."""
    unit, pid = read_unit(reader), running_pid(reader)
    process = read_process(reader, pid) if pid else {"argv": []}
    info, silence = ask_info(client) if pid else (None, "")
    return {
        "pid": pid,
        "installed": bool(unit["files"]) or bool(pid),
        "answers": isinstance(info, dict),
        "silence": silence,
        "info": info if isinstance(info, dict) else {},
        "flags": merge_flags(unit["flags"], parse_flags(process["argv"])),
        "daemon_json": read_daemon_json(reader),
        "stored_id": stored_id(reader),
        "pending": pending(reader),
    }


def options_of(engine: Mapping[str, Any]) -> dict[str, Any]:
    """cluster-store-opts in force, as far as files and flags tell."""
    options = dict(
        entry["value"].partition("=")[::2] for entry in engine["flags"] if entry["flag"] == "cluster-store-opt"
    )
    given = engine["daemon_json"]["config"].get("cluster-store-opts")
    options.update(given if isinstance(given, dict) else {})
    return options


def examine_store(reader: Reader, engine: Mapping[str, Any], token: str, factory: StoreFactory) -> dict[str, Any]:
    """The engine's store and what it holds; empty for an engine without one."""
    url = str(engine["info"].get("ClusterStore") or "")
    if not url:
        return {}
    return read_store(url, token or token_of(reader, engine["pid"]), factory(url, options_of(engine)))


def examine(
    reader: Reader,
    wanted: Mapping[str, Any],
    make_client: Callable[[], Client] = patient_client,
    store_factory: StoreFactory = http_asker,
) -> dict[str, Any]:
    """All that the doctor wants to know of this host. The store is read before the containers."""
    client = make_client()
    engine = read_engine(reader, client)
    store = examine_store(reader, engine, wanted["store_token"], store_factory)
    containers, complete = read_containers(reader, client) if engine["answers"] else ([], False)
    known = known_networks(reader, client, store, containers) if engine["answers"] else {}
    namespaces = read_namespaces(reader)
    addresses = reader.output(["ip", "-o", "-4", "addr", "show"])
    return {
        **read_identity(reader),
        "consul_version": consul_version(reader, {}),
        "now": time.time(),
        "certificates": read_all(),
        "addresses": None if addresses is None else parse_addresses(addresses),
        "forwarding": reader.line("/proc/sys/net/ipv4/ip_forward"),
        "engine": engine,
        "store": store,
        "containers": containers,
        "complete": complete,
        "known": known,
        "units": read_units(reader),
        "journal": read_journal(reader, engine["pid"], wanted["journal_minutes"]),
        "namespaces": namespaces,
        "overlays": read_overlays(reader, namespaces),
        "dns": read_dns(reader, containers, known),
        "tunnels": read_tunnels(reader),
        "rules": read_rules(reader),
        "gossip": gossip_listeners(reader) if has_listeners(reader) else None,
        "stray": len(Threads().stray()) if engine["pid"] else 0,
        "unreadable": list(reader.unreadable),
    }


def complaints(journal: list[Line]) -> list[str]:
    """The lines in which dockerd says what it died of."""
    words = re.compile(r"level=(fatal|error)|: failed to|unable to configure|panic:|is not valid|cannot unmarshal")
    return [text.strip()[:300] for _age, text in journal if words.search(text)][-3:]
