# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the Docker engine of a host: the program, how it is started, what it says of itself."""

from __future__ import annotations

import json
import mmap
import os
import re
from contextlib import suppress
from typing import Any, Callable, Iterable, Protocol, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_unit import parse_flags, read_unit

DAEMON_JSON = "/etc/docker/daemon.json"
BINARIES = ("/usr/bin/dockerd", "/usr/sbin/dockerd", "/usr/local/bin/dockerd", "/usr/local/sbin/dockerd")
# What a dockerd that was built with a backend contains: the path of its source.
MARK = b"libkv/store/"
BACKENDS = {b"consul": "consul", b"etcd": "etcd", b"zookeeper": "zk"}
CHUNK = 1 << 22
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


class Asking(Protocol):
    """The part of the client that is used here: nothing but GET."""

    def get(self, path: str) -> Any: ...


ClientFactory = Callable[[], Asking]


def short_timeout_client() -> DockerClient:
    """A hanging engine is a finding, and must not hang preflight."""
    return DockerClient(timeout=10.0)


def backends_in(data: Any, size: int) -> list[str]:
    """The backends named in a program; one pass in slices, because only bytes.find is fast on every Python."""
    seen: set[str] = set()
    overlap = len(MARK) + max(len(name) for name in BACKENDS)
    for start in range(0, size, CHUNK):
        chunk = data[start : start + CHUNK + overlap]
        at = chunk.find(MARK)
        while at >= 0:
            tail = chunk[at + len(MARK) : at + overlap]
            seen.update(value for name, value in BACKENDS.items() if tail.startswith(name))
            at = chunk.find(MARK, at + 1)
        if len(seen) == len(BACKENDS):
            break
    return [name for name in BACKENDS.values() if name in seen]


def read_backends(reader: Reader, binary: str) -> list[str]:
    """Which stores this dockerd can speak to."""
    try:
        with open(reader.path(binary), "rb") as handle, mmap.mmap(
            handle.fileno(), 0, access=mmap.ACCESS_READ
        ) as mapped:
            return backends_in(mapped, len(mapped))
    except (OSError, ValueError) as exc:
        reader.trouble(binary, exc)
        return []


def running_pid(reader: Reader) -> int:
    """The dockerd of this host, not one in a container: it shares our PID namespace. 0 when none runs."""
    own = reader.link("/proc/self/ns/pid")
    for pid in [name for name in reader.names("/proc") if name.isdigit()]:
        if reader.line(f"/proc/{pid}/comm") == "dockerd" and reader.link(f"/proc/{pid}/ns/pid") == own:
            return int(pid)
    return 0


def read_process(reader: Reader, pid: int) -> dict[str, Any]:
    """Argument words and proxies of the running dockerd."""
    source = f"the running dockerd (pid {pid})"
    words = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0")
    pairs = [entry.partition("=") for entry in (reader.text(f"/proc/{pid}/environ") or "").split("\0")]
    return {
        "argv": [(word, source) for word in words[1:] if word],
        "environment": [
            {"name": name, "value": value, "source": source} for name, _eq, value in pairs if name in PROXIES
        ],
        # A program that was replaced under a running engine is marked; the next start uses the new one.
        "executable": reader.link(f"/proc/{pid}/exe").replace(" (deleted)", ""),
    }


def find_binary(reader: Reader, candidates: Iterable[str]) -> str:
    """The first of them that is there and is called dockerd."""
    return next((path for path in candidates if os.path.basename(path) == "dockerd" and reader.exists(path)), "")


def bare_version(text: str) -> str:
    """20.10.5 of `Docker version 20.10.5+dfsg1, build 363e9a8`."""
    match = re.search(r"\d+(\.\d+)+", text)
    return match.group(0) if match else ""


def merge_flags(unit: list[dict[str, str]], process: list[dict[str, str]]) -> list[dict[str, str]]:
    """Flags of the unit, which the next start will use, and those of the process of which the unit says nothing."""
    known = {entry["flag"] for entry in unit}
    return unit + [entry for entry in process if entry["flag"] not in known]


def read_daemon_json(reader: Reader) -> dict[str, Any]:
    """The configuration file: whether it is there, whether it is a JSON object, and what it says."""
    text = reader.text(DAEMON_JSON)
    result: dict[str, Any] = {"exists": text is not None, "error": "", "config": {}}
    if text is None:
        return result
    try:
        config = json.loads(text)
    except ValueError as exc:
        return dict(result, error=str(exc))
    return dict(result, config=config) if isinstance(config, dict) else dict(result, error="it is no JSON object")


def ask(reader: Reader, client: Asking, path: str) -> Any:
    try:
        return client.get(path)
    except DockerError as exc:
        reader.trouble(f"GET {path}", exc.message)
        return None


def known_networks(client: Asking, names: Sequence[str]) -> list[str]:
    """Those of the names that the engine knows as a network. One by one: a list is slow over a store (ln#1427)."""
    found = []
    for name in names:
        with suppress(DockerError):  # unknown, or its store does not answer, which is said elsewhere
            client.get(f"/networks/{name}")
            found.append(name)
    return found


def read_api(reader: Reader, make_client: ClientFactory, networks: Sequence[str] = ()) -> dict[str, Any]:
    """What the engine says, and which of the networks it knows if it has a store."""
    client = make_client()
    info = ask(reader, client, "/info")
    if not isinstance(info, dict):
        return {"answers": False, "info": {}, "containers": [], "networks": []}
    containers = ask(reader, client, "/containers/json") or []
    rows = [
        {
            "name": (entry.get("Names") or ["?"])[0].lstrip("/"),
            "image": str(entry.get("Image", "")),
            "host_network": (entry.get("HostConfig") or {}).get("NetworkMode") == "host",
            "ports": sorted({port["PublicPort"] for port in entry.get("Ports") or [] if port.get("PublicPort")}),
        }
        for entry in containers
    ]
    known = known_networks(client, networks) if info.get("ClusterStore") else []
    return {"answers": True, "info": info, "containers": rows, "networks": known}


def stored_id(reader: Reader) -> str:
    """The engine's identity while it does not run; of key.json only the public part is looked at."""
    engine_id = reader.line("/var/lib/docker/engine-id")
    if engine_id:
        return engine_id
    try:
        return str(json.loads(reader.text("/etc/docker/key.json") or "{}").get("kid", ""))
    except (ValueError, AttributeError):
        return ""


def read_engine(
    reader: Reader, make_client: ClientFactory = short_timeout_client, networks: Sequence[str] = ()
) -> dict[str, Any]:
    """Everything about the engine. Its socket is asked only if dockerd runs: systemd would start it otherwise."""
    unit = read_unit(reader)
    pid = running_pid(reader)
    process: dict[str, Any] = read_process(reader, pid) if pid else {"argv": [], "environment": [], "executable": ""}
    binary = find_binary(reader, [process["executable"], unit["program"], *BINARIES])
    silent: dict[str, Any] = {"answers": False, "info": {}, "containers": [], "networks": []}
    api = read_api(reader, make_client, networks) if pid else silent
    version = str(api["info"].get("ServerVersion", ""))
    if binary and not version:
        version = reader.output([reader.path(binary), "--version"]) or ""
    return {
        "installed": bool(binary),
        "running": bool(pid),
        "binary": binary,
        "version": bare_version(version),
        "backends": read_backends(reader, binary) if binary else [],
        "api": api,
        # How the package podman-docker takes Docker's place.
        "podman": os.path.basename(reader.link("/run/docker.sock")) == "podman.sock",
        "flags": merge_flags(unit["flags"], parse_flags(process["argv"])),
        "unit_files": unit["files"],
        "environment": [*process["environment"], *[entry for entry in unit["environment"] if entry["name"] in PROXIES]],
        "daemon_json": read_daemon_json(reader),
        "stored_id": stored_id(reader),
        "stored_swarm": reader.exists("/var/lib/docker/swarm/docker-state.json"),
    }
