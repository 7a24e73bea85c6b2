# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one host knows of the networks to verify: addresses that containers hold or claim, and who can probe. No I/O."""

from __future__ import annotations

from typing import Any, Dict, List

LABEL = "multihost.overlay.verify"
# One container probes; the next is its neighbour on the host.
MAX_RUNNING = 2

Json = Dict[str, Any]


def _bare(address: Any) -> str:
    """Drop the prefix length that Docker writes behind some addresses."""
    return str(address or "").split("/", 1)[0]


def attachment(container: Json, name: str, network_id: str) -> Json | None:
    """Return the container's settings on a network; a container that never ran may know it by either name."""
    for key, settings in (container.get("NetworkSettings", {}).get("Networks") or {}).items():
        if settings and (key in (name, network_id) or (network_id and settings.get("NetworkID") == network_id)):
            return dict(settings)
    return None


def claimed(settings: Json) -> list[str]:
    """Both the address in use and the one that a stopped container will ask for when it starts."""
    wanted = [settings.get("IPAddress"), (settings.get("IPAMConfig") or {}).get("IPv4Address")]
    return [_bare(address) for address in wanted if _bare(address)]


def _running(container: Json, settings: Json) -> Json | None:
    address = _bare(settings.get("IPAddress"))
    if container.get("State") != "running" or not address or LABEL in (container.get("Labels") or {}):
        return None
    names = sorted(str(name).lstrip("/") for name in container.get("Names") or [] if str(name).count("/") == 1)
    if not names:
        return None
    return {
        "id": container["Id"],
        "name": names[0],
        "address": address,
        # Docker's DNS answers with the address on any network that both are on: such a container asks for NAME.NETWORK.
        "networks": len(container["NetworkSettings"]["Networks"]),
        "created": container.get("Created", 0),
    }


def _ipam(network: Json) -> list[Json]:
    found = []
    for config in (network.get("IPAM") or {}).get("Config") or []:
        if config.get("Subnet") and ":" not in config["Subnet"]:
            reserved = [config.get("Gateway"), *(config.get("AuxiliaryAddresses") or {}).values()]
            found.append(
                {
                    "subnet": config["Subnet"],
                    "ip_range": config.get("IPRange") or None,
                    "reserved": [_bare(address) for address in reserved if _bare(address)],
                }
            )
    return found


def read_network(name: str, network: Json, containers: List[Json]) -> Json:
    """Put together what is known of one network on this host."""
    # The network's own list also shows endpoints of other hosts, which the inventory may not know.
    claims = {_bare(entry.get("IPv4Address")) for entry in (network.get("Containers") or {}).values()}
    running = []
    for container in containers:
        settings = attachment(container, name, network.get("Id", ""))
        if settings is None:
            continue
        claims.update(claimed(settings))
        candidate = _running(container, settings)
        if candidate:
            running.append(candidate)
    running.sort(key=lambda entry: (entry["created"], entry["name"]))
    return {
        "id": network.get("Id", ""),
        "ipam": _ipam(network),
        "internal": bool(network.get("Internal")),
        "claims": sorted(claims - {""}),
        "running": running[:MAX_RUNNING],
        "error": None,
    }


def alias_of(inspected: Json, name: str, network_id: str) -> str:
    """A name of the container's own on a network: the user's, else the short id that Docker adds; empty if it has none."""
    settings = attachment(inspected, name, network_id) or {}
    aliases = [str(alias) for alias in settings.get("Aliases") or []]
    short = str(inspected.get("Id", ""))[:12]
    return next((alias for alias in aliases if alias != short), short if short in aliases else "")


def missing_network(containers: List[Json], name: str, error: str) -> Json:
    """The same shape for a network that this host does not show; its containers' claims still count."""
    view = read_network(name, {}, containers)
    if view["running"]:
        # An engine whose store is silent says of its networks that they are not there.
        error += f", though container {view['running'][0]['name']} is on it: see with the doctor whether the store answers and has it"
    return dict(view, error=error, running=[])
