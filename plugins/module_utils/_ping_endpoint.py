# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Temporary endpoints: a container that only sleeps, from an image made on the spot, and the removal of all of it."""

from __future__ import annotations

import io
import os
import tarfile
import time
from typing import Any, Callable, Dict, List

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._ping_claims import LABEL

Json = Dict[str, Any]

REPOSITORY = "multihost-overlay-verify"
# The host's own programs are lent to the container, read-only: so nothing needs to be pulled or built.
LENT = ("/bin", "/lib", "/lib64", "/usr")
NOBODY = "65534:65534"
ATTEMPTS = 20
PAUSE = 0.1
# What an engine says to who asks for an address on a network whose subnet Docker chose.
NO_CHOICE = "user configured subnets"
# Every host with an overlay endpoint has this bridge.
BRIDGE = "docker_gwbridge"
# The only server of names of a temporary endpoint: nobody, but for the moment in which threads are brought home.
DEAF_SERVER = "127.0.0.1"


def image_name(run: str) -> str:
    """Each run has an image of its own, so that it never removes another's."""
    return f"{REPOSITORY}:{run[:8]}"


def empty_tar() -> bytes:
    """A file system with nothing but the places where the host's programs will be."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path in LENT:
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
    return buffer.getvalue()


def make_image(client: DockerClient, run: str) -> None:
    """Import the image of this run."""
    name, tag = image_name(run).split(":")
    query = {"fromSrc": "-", "repo": name, "tag": tag, "changes": f"LABEL {LABEL}={run}"}
    client.stream_post("/images/create", empty_tar(), "application/x-tar", query)


def endpoint_body(run: str, network: str, probe: Json, seconds: int, lent: List[str]) -> Json:
    """What is asked of the engine: a container that ends and goes by itself, with no right to anything."""
    return {
        "Image": image_name(run),
        "Entrypoint": [],
        "Cmd": ["sleep", str(seconds)],
        "Env": ["PATH=/usr/bin:/bin"],
        "User": NOBODY,
        "Labels": {LABEL: run},
        "HostConfig": {
            "AutoRemove": True,
            "Binds": [f"{path}:{path}:ro" for path in lent],
            "CapDrop": ["ALL"],
            # What Docker's DNS cannot answer goes nowhere else (and see _ping_threads).
            "Dns": [DEAF_SERVER],
            "LogConfig": {"Type": "none", "Config": {}},
            "NetworkMode": network,
            "ReadonlyRootfs": True,
            "SecurityOpt": ["no-new-privileges", "label=disable"],
        },
        "NetworkingConfig": {"EndpointsConfig": {network: endpoint_config(probe)}},
    }


def endpoint_config(probe: Json) -> Json:
    """The address and the alias on one network, if they are planned; on a bridge neither is."""
    config: Json = {"IPAMConfig": {"IPv4Address": probe["address"]}} if probe["address"] else {}
    return dict(config, Aliases=[probe["alias"]]) if probe.get("alias") else config


def start_endpoint(client: DockerClient, run: str, network: str, probe: Json, seconds: int) -> str:
    """Create and start a temporary endpoint; return its id."""
    lent = [path for path in LENT if os.path.isdir(path)]
    body = endpoint_body(run, network, probe, seconds, lent)
    created: str = client.post("/containers/create", body, {"name": probe["name"]})["Id"]
    client.post(f"/containers/{created}/start")
    return created


def join(client: DockerClient, network: str, probe: Json) -> None:
    """Let a temporary endpoint that runs join another network."""
    body = {"Container": probe["name"], "EndpointConfig": endpoint_config(probe)}
    client.post(f"/networks/{network}/connect", body)


def part(client: DockerClient, network: str, probe: Json) -> None:
    """Take a temporary endpoint off a network."""
    client.post(f"/networks/{network}/disconnect", {"Container": probe["name"], "Force": True})


def forget(client: DockerClient, network: str, probe: Json) -> None:
    """Remove what a store that refused a call may have kept of an endpoint whose container is gone."""
    try:
        entries = (client.get(f"/networks/{network}").get("Containers") or {}).values()
    except DockerError as exc:
        if exc.status == 404:  # nothing is left on a network that is not there
            return
        raise
    if any(entry.get("Name") == probe["name"] for entry in entries):
        part(client, network, probe)


def endpoints_of(client: DockerClient, network: str) -> Dict[str, str]:
    """Name -> address of all endpoints that the engine knows, those of other hosts too."""
    entries = (client.get(f"/networks/{network}").get("Containers") or {}).values()
    return {str(entry.get("Name")): str(entry.get("IPv4Address") or "").partition("/")[0] for entry in entries}


def address_of(client: DockerClient, container: str, network: str) -> str:
    """The address that Docker chose."""
    networks = client.get(f"/containers/{container}/json")["NetworkSettings"]["Networks"] or {}
    return str((networks.get(network) or {}).get("IPAddress") or "")


def probe_pid(client: DockerClient, container: str, network: str, address: str) -> int:
    """Return the process whose namespace is the probe's; the container may have changed since the plan was made."""
    found = client.get(f"/containers/{container}/json")
    settings = (found["NetworkSettings"]["Networks"] or {}).get(network) or {}
    if not found["State"].get("Running") or settings.get("IPAddress") != address:
        raise DockerError(
            f"container {found['Name'].lstrip('/')} stopped or left address {address} of {network} meanwhile"
        )
    return int(found["State"]["Pid"])


def _labelled(client: DockerClient, kind: str, unwanted: Callable[[str], bool]) -> List[str]:
    query: Json = {"filters": {"label": [LABEL]}, "all": True}
    found = client.get(f"/{kind}/json", query) or []
    return [entry["Id"] for entry in found if unwanted((entry.get("Labels") or {}).get(LABEL, ""))]


def _delete(client: DockerClient, kind: str, ident: str) -> None:
    try:
        client.delete(f"/{kind}/{ident}", {"force": True})
    except DockerError as exc:
        # Gone, or going by itself: the next look tells.
        if exc.status not in (404, 409):
            raise


def _remove_kind(client: DockerClient, kind: str, unwanted: Callable[[str], bool]) -> List[str]:
    removed: List[str] = []
    for attempt in range(ATTEMPTS):
        found = _labelled(client, kind, unwanted)
        if not found:
            return removed
        if attempt > 1:
            time.sleep(PAUSE)
        for ident in found:
            _delete(client, kind, ident)
        removed.extend(f"{kind[:-1]} {ident}" for ident in found if f"{kind[:-1]} {ident}" not in removed)
    raise DockerError(f"{kind} with the label {LABEL} cannot be removed: {', '.join(found)}")


def remove_runs(client: DockerClient, unwanted: Callable[[str], bool]) -> List[str]:
    """Remove the containers, then the images, of the runs that are not wanted; return what was removed."""
    return _remove_kind(client, "containers", unwanted) + _remove_kind(client, "images", unwanted)
