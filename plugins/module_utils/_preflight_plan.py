# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host's state means for an overlay: (observed, wanted) -> findings. Pure; reads nothing.

``observed`` is what the readers return, ``wanted`` are the module's parameters.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import FOLDER, ending
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_classic import CLASSIC_CHECKS
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_engine import (
    check_daemon_json,
    check_flags,
    check_installed,
    check_planned,
    check_state,
    check_store_change,
    check_swarm,
    check_twice,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_kernel import (
    KERNEL_DOCKER_CHECKS,
    KERNEL_HOST_CHECKS,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_store import (
    check_container_store,
    check_proxy,
)

TESTED = {"debian": ("11", "12", "13")}
# Docker's own bridges: the default one, the gateway of overlays, and one for each user's bridge network.
DOCKER_BRIDGE = re.compile(r"^(docker0|docker_gwbridge|br-[0-9a-f]{12})$")
# Before kernel 3.16 Docker keeps bridge and tunnel of an overlay in the host's own namespace: the overlay itself.
OVERLAY_DEVICE = re.compile(r"^(ov|vx)-")
# Docker gives away /24s of 10.0.0.0/8 in their order: these are the ones that a cluster meets.
DOCKER_POOL = ipaddress.IPv4Network("10.0.0.0/16")

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]
Check = Callable[[Observed, Observed], Findings]


def network(text: str) -> ipaddress.IPv4Network | None:
    """An IPv4 network of any text, or None."""
    try:
        return ipaddress.IPv4Network(text, strict=False)
    except ValueError:
        return None


def version(text: str) -> tuple[int, ...]:
    """(3, 10, 0) of 3.10.0-1160.el7; empty when there is no number."""
    match = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group(0).split(".")) if match else ()


def not_root(program: str) -> dict[str, str]:
    """The one finding of a host on which nothing else can be trusted."""
    return found(
        "not_root",
        f"{program} does not run as root, what matters of this host is hidden from it",
        "effective user id is not 0",
    )


def check_base(observed: Observed, _wanted: Observed) -> Findings:
    """What any host of this collection needs."""
    if not observed["systemd"]:
        yield found(
            "systemd_missing",
            "this host does not run systemd",
            f"/run/systemd/system is missing, process 1 is {observed['init']}",
        )
    release = observed["distribution"]
    if release["version"] not in TESTED.get(release["id"], ()):
        name = f"{release['id'] or 'an unknown distribution'} {release['version']}".strip()
        yield found(
            "distribution_untested", f"{name} is not among the tested Debian 11, 12 and 13", f"/etc/os-release: {name}"
        )


def check_kernel(observed: Observed, wanted: Observed) -> Findings:
    """The kernel's version; an unreadable one is no finding of its own."""
    kernel = version(observed["kernel"])
    if not kernel:
        return
    evidence = f"kernel {observed['kernel']}"
    if kernel < version(wanted["kernel_minimum"]):
        yield found("kernel_too_old", f"kernel {observed['kernel']} is older than {wanted['kernel_minimum']}", evidence)
    elif kernel < version(wanted["kernel_recommended"]):
        carried = (
            " (an enterprise kernel, which may carry the changes back)"
            if re.search(r"\.el\d", observed["kernel"])
            else ""
        )
        yield found(
            "kernel_old",
            f"kernel {observed['kernel']}{carried} is older than {wanted['kernel_recommended']}: before 3.16 Docker "
            "runs overlays in the host's namespace, before 3.12 vxlan listens on port 8472",
            evidence,
        )


def check_modules(observed: Observed, _wanted: Observed) -> Findings:
    for module in ("vxlan", "bridge"):
        if observed["kernel_modules"].get(module, "missing") == "missing":
            yield found(
                module + "_missing",
                f"the kernel has no {module}",
                f"{module} is neither loaded, built in nor loadable in kernel {observed['kernel']}, and making such a "
                f"link failed",
            )


def check_forwarding(observed: Observed, _wanted: Observed) -> Findings:
    """Forwarding now, and after the sysctl files had their say."""
    if observed["sysctl"].get("net.ipv4.ip_forward") == "0":
        yield found("ip_forward_off", "IPv4 forwarding is off now", "net.ipv4.ip_forward = 0")
    last = observed["sysctl_settings"][-1] if observed["sysctl_settings"] else None
    if last and last["value"] == "0":
        where = f"{last['file']}:{last['line']}"
        yield found(
            "ip_forward_reset",
            f"{last['file']} switches IPv4 forwarding off at the next boot",
            f"{where}: {last['key']} = 0 is the last word of all sysctl files",
            f"remove line {last['line']} of {last['file']} or "
            "set it to 1; a file that role overlay_host has yet to write only helps if it sorts after this one",
        )


def address_text(entry: Mapping[str, Any]) -> str:
    return f"{entry['address']}/{entry['prefix']} on {entry['interface']}"


def check_address(observed: Observed, wanted: Observed) -> Findings:
    """The address that the host advertises is its own and of use to others."""
    address, entries = wanted["address"], observed["addresses"]
    origin = f" ({wanted['address_origin']})" if wanted["address_origin"] else ""
    if not address:
        return
    if address.startswith("127."):
        yield found(
            "address_loopback", f"the overlay address {address} is a loopback address", f"overlay_address: {address}"
        )
        return
    if address == "10.0.2.15":
        yield found(
            "address_nat",
            f"the overlay address {address} is the one every VirtualBox or QEMU guest has behind NAT",
            f"overlay_address: {address}",
        )
    if entries is None:
        return
    mine = next((entry for entry in entries if entry["address"] == address), None)
    if mine is None:
        has = ", ".join(address_text(entry) for entry in entries if not entry["address"].startswith("127."))
        yield found(
            "address_missing",
            f"the overlay address {address}{origin} is not on this host",
            f"the host has {has or 'no IPv4 address'}",
            "set overlay_address for this host to one of its own addresses, which all peers reach" if origin else "",
        )
        return
    if DOCKER_BRIDGE.match(mine["interface"]):
        yield found(
            "address_on_docker_bridge",
            f"the overlay address {address} lies on Docker's bridge {mine['interface']}",
            address_text(mine),
        )
    if mine["dynamic"]:
        yield found(
            "address_dynamic", f"the overlay address {address} comes from DHCP", address_text(mine) + ", dynamic"
        )


def check_interface(observed: Observed, wanted: Observed) -> Findings:
    """overlay_interface is a name or a network; either way the address must lie on it."""
    expected, address = wanted["interface"], wanted["address"]
    entries = [entry for entry in observed["addresses"] or [] if entry["address"] == address]
    if not expected or not entries:
        return
    expected_network = network(expected) if "/" in expected else None
    if expected_network is not None and ipaddress.IPv4Address(address) in expected_network:
        return
    if expected_network is None and any(entry["interface"] == expected for entry in entries):
        return
    absent = "" if expected_network or expected in observed["interfaces"] else f"; there is no interface {expected}"
    yield found(
        "interface_mismatch",
        f"the overlay address {address} does not lie on {expected}",
        f"it is {address_text(entries[0])}{absent}; interfaces: {', '.join(observed['interfaces'])}",
    )


def present_networks(wanted: Observed) -> list[Mapping[str, Any]]:
    return [entry for entry in wanted["networks"] if entry.get("state", "present") != "absent"]


def overlap_of_addresses(name: str, subnet: ipaddress.IPv4Network, observed: Observed) -> Findings:
    for entry in observed["addresses"] or []:
        attached = network(f"{entry['address']}/{entry['prefix']}")
        if attached is None or OVERLAY_DEVICE.match(entry["interface"]) or not subnet.overlaps(attached):
            continue
        fix = "choose another subnet for the overlay network"
        if DOCKER_BRIDGE.match(entry["interface"]):
            fix += f", or recreate Docker's network behind {entry['interface']} with another one"
        yield found(
            "subnet_overlaps_address",
            f"subnet {subnet} of network {name} overlaps {attached}, which this host is attached to",
            address_text(entry),
            fix,
        )


def overlap_of_routes(name: str, subnet: ipaddress.IPv4Network, observed: Observed) -> Findings:
    """Routes that are no default route, not even a halved one, and not the direct route of an address."""
    attached = {
        (entry["interface"], network(f"{entry['address']}/{entry['prefix']}")) for entry in observed["addresses"] or []
    }
    for route in observed["routes"] or []:
        target = network(route["destination"])
        if (
            target is None
            or target.prefixlen <= 1
            or OVERLAY_DEVICE.match(route["device"])
            or (route["device"], target) in attached
        ):
            continue
        if subnet.overlaps(target):
            yield found(
                "subnet_overlaps_route",
                f"subnet {subnet} of network {name} overlaps the host's route to {target}",
                route["line"],
            )


def check_subnets(observed: Observed, wanted: Observed) -> Findings:
    """No overlay subnet hides what the host talks to."""
    for entry in present_networks(wanted):
        name, subnet = str(entry.get("name", "?")), network(str(entry.get("subnet") or ""))
        if subnet is None:
            yield from unset_subnet(name, observed)
            continue
        yield from overlap_of_addresses(name, subnet, observed)
        yield from overlap_of_routes(name, subnet, observed)
        for resolver in observed["resolvers"]:
            server = network(resolver["address"])
            if server is not None and server.subnet_of(subnet):
                yield found(
                    "subnet_overlaps_resolver",
                    f"subnet {subnet} of network {name} contains this host's name server {resolver['address']}",
                    f"{resolver['file']}: nameserver {resolver['address']}",
                )


def unset_subnet(name: str, observed: Observed) -> Findings:
    """Docker's own choice is 10.0.0.0/24 and up, whatever the host uses."""
    used = [
        address_text(entry)
        for entry in observed["addresses"] or []
        if ipaddress.IPv4Address(entry["address"]) in DOCKER_POOL
    ]
    routes = [(route["line"], network(route["destination"])) for route in observed["routes"] or []]
    used += [
        line for line, target in routes if target is not None and target.prefixlen > 1 and target.overlaps(DOCKER_POOL)
    ]
    if used:
        yield found(
            "subnet_left_to_docker",
            f"network {name} has no subnet, and this host uses parts of 10.0.0.0/16 where Docker would choose one",
            "; ".join(used),
        )


def check_ports(observed: Observed, wanted: Observed) -> Findings:
    """Ports that our services bind are free, or held by the very service that this collection runs."""
    # The last is the probe's agent, which may outlive a run that was killed by some seconds.
    ours = {"dockerd", "overlay-probe"}
    if f"overlay_{wanted['store_type']}" in observed["manifest"]["roles"]:
        ours.add("java" if wanted["store_type"] == "zookeeper" else wanted["store_type"])
    for entry in observed["listeners"]:
        proto, port = entry["proto"], f"{entry['port']}/{entry['proto']}"
        # The kernel's own vxlan belongs to no process; it can share the port with Docker's.
        if entry["program"] in ours or (port == "4789/udp" and not entry["pid"]):
            continue
        who = (
            f"{entry['program']} (pid {entry['pid']}, {entry['executable']})"
            if entry["pid"]
            else "a program that could not be seen"
        )
        containers = observed["engine"]["api"]["containers"] if proto == "tcp" else []
        publisher = [row["name"] for row in containers if entry["port"] in row["ports"]]
        who += f", for container {publisher[0]}" if publisher else ""
        yield found("port_held", f"port {port} is held by {who}", f"listening on {port}: {who}")


def check_certificates(observed: Observed, _wanted: Observed) -> Findings:
    """Also one that has ended is a warning here: this very run may renew it."""
    for entry in ending(observed["certificates"], observed["now"]):
        yield found(entry.check, entry.message, f"{FOLDER}/{entry.name}.crt", entry.fix)


# Those of any host, and those that only a host in the overlay must pass: one of the store alone may have any engine.
HOST_CHECKS: tuple[Check, ...] = (
    check_base,
    check_address,
    check_interface,
    check_ports,
    check_certificates,
    *KERNEL_HOST_CHECKS,
)
DOCKER_HOST_CHECKS: tuple[Check, ...] = (
    check_kernel,
    check_modules,
    check_forwarding,
    *KERNEL_DOCKER_CHECKS,
    check_subnets,
    check_state,
    check_installed,
    check_planned,
    check_swarm,
    check_store_change,
    check_daemon_json,
    check_flags,
    check_twice,
    check_proxy,
    check_container_store,
    *CLASSIC_CHECKS,
)


def decide(check: Check, observed: Observed, wanted: Observed) -> list[dict[str, str]]:
    """A check that stumbles over a strange host is a finding too, never a crash."""
    try:
        return list(check(observed, wanted))
    except Exception as exc:
        return [found("unreadable", f"{check.__name__} could not be decided", f"{type(exc).__name__}: {exc}")]


def plan(observed: Observed, wanted: Observed) -> list[dict[str, str]]:
    """All findings of this host."""
    if not observed["root"]:
        # A port held by a program that cannot be seen, a file that cannot be read: consequences, with a cure that misleads.
        return [not_root("preflight")]
    checks = HOST_CHECKS + (DOCKER_HOST_CHECKS if wanted["docker_host"] else ())
    findings = [row for check in checks for row in decide(check, observed, wanted)]
    return findings + [
        found("unreadable", f"{entry['what']} could not be read", entry["error"]) for entry in observed["unreadable"]
    ]
