# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Networks as one Docker engine knows them.

A network is always asked for by name: over a store, Docker needs seconds for a list of all.
"""

from __future__ import annotations

import time
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._network import duplicate_message

POLL = 0.5


class NetworkError(Exception):
    """A network or its engine is not as it must be: the message names both and the cure, ``details`` serve programs."""

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class AmbiguousNetworkError(NetworkError):
    """Several networks have the name."""

    def __init__(self, name: str, ids: list[str]) -> None:
        super().__init__(duplicate_message(name, ids), ids=ids)
        self.ids = ids


def store_url(client: DockerClient) -> str:
    """The URL of the store that the engine uses, or NetworkError."""
    info = client.info()
    url = info.get("ClusterStore") or ""
    if url:
        return str(url)
    host = info.get("Name", "this host")
    if (info.get("Swarm") or {}).get("LocalNodeState") not in (None, "", "inactive"):
        raise NetworkError(f"the engine of {host} is in Swarm mode; this version knows only overlays over a store")
    raise NetworkError(
        f"the engine of {host} has no key-value store, so it cannot have overlay networks: set cluster-store and "
        "cluster-advertise in /etc/docker/daemon.json (role overlay_docker) and restart it; upstream ended this mode "
        "in Docker 23.0"
    )


def inspect(client: DockerClient, name: str) -> dict[str, Any] | None:
    """The network of exactly this name, None when there is none; AmbiguousNetworkError when there are several."""
    try:
        found: dict[str, Any] = client.get(f"/networks/{name}")
    except DockerError as exc:
        if exc.status == 404:
            return None
        if "ambiguous" in exc.message:
            raise AmbiguousNetworkError(name, _ids_of(client, name)) from exc
        raise
    # Docker also answers to the beginning of an id.
    return found if found.get("Name") == name else None


def _ids_of(client: DockerClient, name: str) -> list[str]:
    # The one list: only here, where the name alone no longer leads to the ids. The filter matches parts of names.
    listed = client.get("/networks", {"filters": {"name": [name]}}) or []
    return sorted(network["Id"] for network in listed if network["Name"] == name)


def stopped_containers(client: DockerClient, network_id: str) -> list[dict[str, Any]]:
    """This host's containers that are not running and are configured for the network."""
    filters = {"network": [network_id], "status": ["created", "exited", "dead", "restarting"]}
    listed = client.get("/containers/json", {"all": True, "filters": filters}) or []
    return [{"id": item["Id"], "name": item["Names"][0].lstrip("/")} for item in listed]


def wait_for(client: DockerClient, name: str, network_id: str, timeout: float) -> dict[str, Any]:
    """Wait until this engine shows the network under its id."""
    deadline = time.monotonic() + timeout
    while True:
        found = inspect(client, name)
        if found and found["Id"] == network_id:
            return found
        if time.monotonic() >= deadline:
            raise NetworkError(
                f"network {name} ({network_id}) was created, and this host does not show it after "
                f"{timeout:g} s: look at `journalctl -u docker` for errors of the store"
            )
        time.sleep(POLL)


def create(client: DockerClient, body: dict[str, Any]) -> tuple[str, str]:
    """Create a network; return its id and Docker's warning."""
    answer = client.post("/networks/create", body)
    return answer["Id"], answer.get("Warning") or ""


def remove(client: DockerClient, network_id: str, held: list[dict[str, Any]]) -> None:
    """Disconnect what holds on to the network, then remove it by its id, which is never ambiguous."""
    for item in held:
        client.post(f"/networks/{network_id}/disconnect", {"Container": item["ref"], "Force": True})
    client.delete(f"/networks/{network_id}")


def container_view(inspected: dict[str, Any]) -> list[dict[str, Any]]:
    """The endpoints of a network, sorted by name."""
    return sorted(
        (
            {
                "name": item.get("Name", ""),
                "ipv4": (item.get("IPv4Address") or "").split("/")[0],
                "mac": item.get("MacAddress", ""),
                "endpoint_id": item.get("EndpointID", ""),
                # Those of other hosts come without their container.
                "container_id": None if key.startswith("ep-") else key,
            }
            for key, item in (inspected.get("Containers") or {}).items()
        ),
        key=lambda item: (item["name"], item["endpoint_id"]),
    )
