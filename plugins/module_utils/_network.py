# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an overlay network should be, what it is, and what to do about it. Pure: no engine and no store in here."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from typing import Any, Iterable, NamedTuple, Sequence

MTU_OPTION = "com.docker.network.driver.mtu"
ENCRYPTED_OPTION = "encrypted"
# On what we make, so that it is known later whose it is, also in a store that others use. Not compared: a network of before may lack it.
OURS = {"multihost.overlay.role": "overlay_networks"}
KEYS = (
    "driver",
    "subnet",
    "gateway",
    "ip_range",
    "mtu",
    "internal",
    "attachable",
    "encrypted",
    "labels",
    "options",
)
# Docker, or the underlay as it was then, chose these where the user did not, and that is not a difference.
LEFT_TO_DOCKER = ("subnet", "gateway")
NOT_COMPARED = (*LEFT_TO_DOCKER, "mtu")

NO_ENCRYPTION = (
    "encrypted is refused in classic mode: Docker accepts it when the network is created, and then every container "
    "fails to join. Run the underlay over a WireGuard of your own instead"
)


class Plan(NamedTuple):
    """``action`` is none, create, recreate or remove; ``refusal`` says why it may not be carried out."""

    action: str
    differences: list[dict[str, Any]]
    refusal: str = ""


def wanted_definition(params: dict[str, Any]) -> dict[str, Any]:
    """The network as the module's options describe it."""
    definition = {key: params.get(key) for key in KEYS}
    definition["driver"] = "overlay"
    definition["labels"] = {key: str(value) for key, value in (params.get("labels") or {}).items()}
    definition["options"] = {key: str(value) for key, value in (params.get("options") or {}).items()}
    return definition


def made_definition(params: dict[str, Any]) -> dict[str, Any]:
    """The network as it is created: where its MTU is left open, what the underlay was found to carry decides."""
    definition = wanted_definition(params)
    return dict(definition, mtu=definition["mtu"] or params.get("underlay_mtu"))


def found_definition(inspected: dict[str, Any]) -> dict[str, Any]:
    """The network as the engine describes it, in the same words."""
    configs = (inspected.get("IPAM") or {}).get("Config") or []
    options = dict(inspected.get("Options") or {})
    mtu = options.pop(MTU_OPTION, None)

    def joined(key: str) -> str | None:
        # More than one subnet is nothing that we make; joined, it differs from all that can be wanted.
        values = [config[key] for config in configs if config.get(key)]
        return ", ".join(values) or None

    gateway = joined("Gateway")
    return {
        "driver": inspected.get("Driver", ""),
        "subnet": joined("Subnet"),
        # Docker shows the gateway that it chose itself with a prefix length.
        "gateway": gateway.split("/")[0] if gateway and "," not in gateway else gateway,
        "ip_range": joined("IPRange"),
        "mtu": int(mtu) if mtu and mtu.isdigit() else mtu,
        "internal": bool(inspected.get("Internal")),
        "attachable": bool(inspected.get("Attachable")),
        # The option counts by being there, whatever it holds.
        "encrypted": options.pop(ENCRYPTED_OPTION, None) is not None,
        "labels": {key: value for key, value in (inspected.get("Labels") or {}).items() if key not in OURS},
        "options": options,
    }


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[dict[str, Any]]:
    """Every key in which the two differ."""
    return [
        {"key": key, "wanted": wanted[key], "found": found[key]}
        for key in KEYS
        if wanted[key] != found[key] and not (wanted[key] is None and key in NOT_COMPARED)
    ]


def after_definition(wanted: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """What will be there afterwards, as far as it is known beforehand."""
    kept = {key: (found or {}).get(key) for key in LEFT_TO_DOCKER if wanted[key] is None}
    return {**wanted, **kept}


def create_body(name: str, definition: dict[str, Any]) -> dict[str, Any]:
    """What ``POST /networks/create`` wants."""
    options = dict(definition["options"])
    if definition["mtu"] is not None:
        options[MTU_OPTION] = str(definition["mtu"])
    if definition["encrypted"]:
        # Never wanted, but a network that was found so is put back so.
        options[ENCRYPTED_OPTION] = ""
    config = {"Subnet": definition["subnet"], "Gateway": definition["gateway"], "IPRange": definition["ip_range"]}
    config = {key: value for key, value in config.items() if value}
    return {
        "Name": name,
        "Driver": definition["driver"],
        "CheckDuplicate": True,
        "Internal": definition["internal"],
        "Attachable": definition["attachable"],
        "Labels": definition["labels"],
        "Options": options,
        "IPAM": {"Driver": "default", "Config": [config] if config else []},
    }


def _parse_subnet(key: str, value: str) -> tuple[IPv4Network | None, list[str]]:
    try:
        return IPv4Network(value), []
    except ValueError as exc:
        return None, [f"{key} {value} is not an IPv4 network: {exc}"]


def _inside_problems(subnet: IPv4Network, gateway: str | None, ip_range: IPv4Network | None) -> list[str]:
    problems = []
    if gateway:
        try:
            if IPv4Address(gateway) not in subnet:
                problems.append(f"gateway {gateway} lies outside the subnet {subnet}")
        except ValueError as exc:
            problems.append(f"gateway {gateway} is not an IPv4 address: {exc}")
    if ip_range and not ip_range.subnet_of(subnet):
        problems.append(f"ip_range {ip_range} lies outside the subnet {subnet}")
    return problems


def _option_problems(definition: dict[str, Any]) -> list[str]:
    problems = []
    if definition["encrypted"] or ENCRYPTED_OPTION in definition["options"]:
        problems.append(NO_ENCRYPTION)
    if MTU_OPTION in definition["options"]:
        problems.append(f"set the MTU by the option mtu, not by {MTU_OPTION} in options")
    return problems


def problems_of(definition: dict[str, Any]) -> list[str]:
    """Everything that is wrong with a wanted definition by itself."""
    problems = _option_problems(definition)
    if not definition["subnet"]:
        lost = [key for key in ("gateway", "ip_range") if definition[key]]
        return problems + [f"{key} needs a subnet" for key in lost]
    subnet, found = _parse_subnet("subnet", definition["subnet"])
    problems += found
    ip_range, found = _parse_subnet("ip_range", definition["ip_range"]) if definition["ip_range"] else (None, [])
    problems += found
    return problems + (_inside_problems(subnet, definition["gateway"], ip_range) if subnet else [])


def overlaps(name: str, subnet: str | None, stored: Iterable[dict[str, Any]]) -> list[str]:
    """The other networks of the store whose subnets overlap ``subnet``, described."""
    if not subnet:
        return []
    mine = IPv4Network(subnet)
    return [
        f"{other['name']} ({other['id'][:12]}, {pool})"
        for other in stored
        if other["name"] != name
        for pool in other["subnets"]
        if ":" not in pool and IPv4Network(pool, strict=False).overlaps(mine)
    ]


def attached(
    inspected: dict[str, Any], stored: Iterable[dict[str, Any]], stopped: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Everything that holds on to the network: name, where, and the reference by which Docker disconnects it.

    The engine shows the running containers of all hosts, the store also the endpoints whose host is gone, and
    ``stopped`` are this host's stopped containers, which could never start again without the network.
    """
    by_endpoint = {
        item.get("EndpointID") or key: {"name": item.get("Name") or key, "where": "running", "ref": key}
        for key, item in (inspected.get("Containers") or {}).items()
    }
    for item in by_endpoint.values():
        if item["ref"].startswith("ep-"):
            # Another host's: Docker knows it by the endpoint's name only.
            item.update(where="on another host", ref=item["name"])
    for endpoint in stored:
        if endpoint["network_id"] == inspected["Id"]:
            entry = by_endpoint.setdefault(
                endpoint["id"], {"name": endpoint["name"], "where": "in the store only", "ref": endpoint["name"]}
            )
            entry["where"] += f", host {endpoint['host']}" if endpoint["host"] else ""
    held = list(by_endpoint.values())
    seen = {item["ref"] for item in held}
    return held + [
        {"name": item["name"], "where": "stopped on this host", "ref": item["id"]}
        for item in stopped
        if item["id"] not in seen
    ]


def _holders(held: Sequence[dict[str, Any]]) -> str:
    shown = ", ".join(f"{item['name']} ({item['where']})" for item in held[:10])
    return shown + (f" and {len(held) - 10} more" if len(held) > 10 else "")


def _described(found: Sequence[dict[str, Any]]) -> str:
    return "; ".join(f"{item['key']} is {item['found']!r}, wanted {item['wanted']!r}" for item in found)


def _refusal(
    name: str, differing: Sequence[dict[str, Any]], held: Sequence[dict[str, Any]], params: dict[str, Any]
) -> str:
    removing = params["state"] == "absent"
    if any(item["key"] == "driver" for item in differing):
        found = next(item["found"] for item in differing if item["key"] == "driver")
        return (
            f"a network named {name} with the driver {found} exists on this host, which is not an overlay network "
            f"of the cluster: rename one of the two, or remove it by `docker network rm {name}`"
        )
    if not removing and not params["recreate"]:
        return (
            f"network {name} exists and differs: {_described(differing)}. Docker cannot change a network: write "
            "the definition as it is, or allow its removal and creation by recreate (overlay_networks_recreate)"
        )
    if held and not params["force"]:
        verb = "removed" if removing else f"recreated ({_described(differing)})"
        return (
            f"network {name} is not {verb} because containers are attached: {_holders(held)}. Disconnect them by "
            f"`docker network disconnect -f {name} CONTAINER`, or pass force, which does that and does not "
            "reconnect them"
        )
    return ""


def plan(params: dict[str, Any], found: dict[str, Any] | None, held: Sequence[dict[str, Any]]) -> Plan:
    """Decide on one network. ``found`` is its definition or None, ``held`` what ``attached`` returned."""
    name = params["name"]
    wanted = wanted_definition(params)
    if params["state"] == "absent":
        if found is None:
            return Plan("none", [])
        # Only the driver matters: another driver's network of this name is not ours to remove.
        driver = [item for item in differences(wanted, found) if item["key"] == "driver"]
        return Plan("remove", [], _refusal(name, driver, held, params))
    if found is None:
        return Plan("create", [])
    differing = differences(wanted, found)
    if not differing:
        return Plan("none", [])
    return Plan("recreate", differing, _refusal(name, differing, held, params))


def duplicate_message(name: str, ids: Sequence[str]) -> str:
    """What to say when one name means several networks."""
    commands = " or ".join(f"`docker network rm {identifier}`" for identifier in ids)
    return (
        f"{len(ids)} networks are named {name}: {', '.join(ids)}. Docker cannot use an ambiguous name. Simultaneous "
        "creates leave this, or a network of one host that has the name of one of the cluster. Look which of them "
        f"containers use (`docker network inspect ID`), and remove the other by its id: {commands}"
    )
