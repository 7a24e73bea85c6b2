# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Validates what an inventory says of a cluster, without looking at any host.

Everything here is pure but ``resolve``: the inventory comes in as dictionaries, a list of errors and the hosts'
addresses come out. Each error names the host or the network, the thing, and the cure.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._network import KEYS
from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory_firewall import check_firewall

IMPLEMENTED = {
    "overlay_mode": ["classic"],
    "overlay_store_type": ["consul"],
    "overlay_datapath": ["vxlan"],
    "overlay_encryption": ["none"],
    "overlay_docker_api": ["none", "tls", "insecure"],
    "overlay_docker_restart": ["safe", "rolling", "never"],
}
PLANNED = {
    "overlay_mode": ["swarm", "flannel", "routed", "macvlan"],
    "overlay_store_type": ["etcd", "zookeeper"],
    "overlay_datapath": ["host_gw", "udp"],
    "overlay_encryption": ["wireguard", "ipsec"],
}
# The driver is the mode's to choose.
NETWORK_KEYS = {"name", "state", *KEYS} - {"driver"}
# Docker's own rule for names (daemon/names in moby).
NETWORK_NAME = re.compile(r"^[a-zA-Z0-9][a-zA-Z0-9_.-]*$")
SERVER_COUNTS = (1, 3, 5)
# The store while a host is taken out of it, and afterwards: their number was judged before they were made (_removal.py).
JOINT_STORE, LEFT_STORE = "overlay_removal_store", "overlay_remaining_store"
# 576 is the datagram that every IPv4 host must accept (RFC 791); 65535 the largest that there is.
MTU_RANGE = (576, 65535)

CURE = "Set overlay_address for this host: its own address, which all peers reach."
NO_FACTS = "No fact of any host is known here: write the address into the inventory."

Resolver = Callable[[str], "list[str]"]


def resolve(name: str) -> list[str]:
    """The IPv4 addresses that this machine's resolver knows for ``name``."""
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, socket.AF_INET)})
    except (OSError, UnicodeError):  # the latter of a name that no resolver would be asked for
        return []


def check_choices(cluster: Mapping[str, Any]) -> list[str]:
    """Each variable with a closed set of values has one that this version implements."""
    errors = []
    for name, choices in IMPLEMENTED.items():
        value = cluster.get(name)
        if value in choices:
            continue
        if value in PLANNED.get(name, []):
            errors.append(f"{name}: {value} is planned, and not in this version. Use {' or '.join(choices)}.")
        else:
            errors.append(f"{name}: {value!r} is unknown. Use {' or '.join(choices)}.")
    return errors


def check_groups(groups: Mapping[str, Sequence[str]], cluster: Mapping[str, Any]) -> list[str]:
    """Both groups have hosts, and the store has a number of servers that survives the loss of one."""
    errors = []
    store, hosts = cluster["overlay_store_group"], cluster["overlay_hosts_group"]
    if not groups.get(hosts):
        errors.append(f"the group {hosts} is empty or missing: put the Docker hosts that join the overlay into it.")
    if not cluster["managed"]:
        return errors
    count = len(groups.get(store, []))
    if count == 0:
        errors.append(
            f"the group {store} is empty or missing: put 1, 3 or 5 hosts for the store into it, or set "
            "overlay_consul_manage: false and overlay_store_url to use a store that you run yourself."
        )
    elif (
        count not in SERVER_COUNTS
        and not cluster["overlay_store_allow_any_count"]
        and store not in (JOINT_STORE, LEFT_STORE)
    ):
        errors.append(
            f"the group {store} has {count} hosts ({', '.join(groups[store])}): a quorum wants 1, 3 or 5. An even number "
            "survives no more failures than one host less. Change the group, or set overlay_store_allow_any_count: true."
        )
    return errors


def check_external_store(cluster: Mapping[str, Any]) -> list[str]:
    """A store that is not ours needs an address that dockerd accepts: Consul takes exactly one endpoint."""
    url = str(cluster["overlay_store_url"])
    if cluster["managed"] and not url:
        return []
    if cluster["managed"]:
        message = (
            f"overlay_store_url: {url} is given, but overlay_consul_manage is true, so that our own Consul would be "
            "installed and used. Set overlay_consul_manage: false, or take the URL away."
        )
        return [message]
    match = re.match(r"^consul://([^/,\s]+):(\d{1,5})(/\S*)?$", url)
    if match and 0 < int(match.group(2)) < 65536:
        return []
    return [
        (
            f"overlay_store_url: {url!r} cannot be used. Write consul://HOST:PORT with exactly one endpoint "
            "(dockerd refuses several for Consul)."
        )
    ]


def check_store_secrets(
    members: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], elsewhere: Mapping[str, bool], managed: bool
) -> list[str]:
    """What TLS and ACL of a store of somebody else need is there as a whole, and not there for our own.

    ``elsewhere`` is what is given outside of the inventory, by a play or its files of variables.
    """
    errors = []
    for host in members:
        given = {
            name: str(hostvars[host].get(f"overlay_store_{name}") or "") != "" or there
            for name, there in elsewhere.items()
        }
        if given["certificate"] != given["key"] or (given["certificate"] and not given["ca"]):
            errors.append(
                f"{host}: overlay_store_certificate and overlay_store_key go together, and with overlay_store_ca: without it "
                "Docker speaks to its store in the clear."
            )
        if managed and (given["ca"] or given["token"]):
            errors.append(
                f"{host}: overlay_store_ca and overlay_store_token are for a store of somebody else, and overlay_consul_manage "
                "is true. Take them out, or set it to false."
            )
    return errors


def check_docker_api(cluster: Mapping[str, Any]) -> list[str]:
    """Somebody issues the certificates of Docker's API."""
    if cluster["overlay_docker_api"] != "tls" or cluster["managed"]:
        return []
    message = (
        "overlay_docker_api is tls and overlay_consul_manage is false: the CA of the cluster lies on the hosts of its own store, "
        "and there is none. Set overlay_docker_api to none, or let this collection run the store."
    )
    return [message]


def address_of(name: str, variables: Mapping[str, Any], resolver: Resolver = resolve) -> tuple[str | None, str | None]:
    """A host's underlay address, from the inventory alone: (address, None) or (None, error)."""
    try:
        given, reached = variables.get("overlay_address"), str(variables.get("ansible_host") or name)
    except Exception as exc:  # of Ansible's templating, whose classes differ between its versions
        words = str(exc).strip().splitlines()[-1:] or [type(exc).__name__]
        return None, f"{name}: overlay_address or ansible_host cannot be evaluated: {words[0]}. {NO_FACTS}"
    if given:
        try:
            return _usable(name, str(ipaddress.IPv4Address(str(given))), "")
        except ValueError:
            return None, f"{name}: overlay_address {given!r} is not an IPv4 address. Write one such as 192.0.2.11."
    try:
        return _usable(name, str(ipaddress.IPv4Address(reached)), " by ansible_host")
    except ValueError:
        return _resolved(name, reached, resolver(reached))


def _resolved(name: str, reached: str, found: Sequence[str]) -> tuple[str | None, str | None]:
    """One address is taken (preflight sees whether the host has it); of several none is guessed."""
    if not found:
        return (
            None,
            f"{name}: {reached} is no IPv4 address and does not resolve to one. {CURE}",
        )
    if len(found) > 1:
        return None, f"{name}: {reached} resolves to several addresses ({', '.join(found)}). {CURE}"
    return _usable(name, found[0], f", which {reached} resolves to")


def _usable(name: str, text: str, origin: str) -> tuple[str | None, str | None]:
    address = ipaddress.IPv4Address(text)
    if address.is_loopback or address.is_unspecified or address.is_multicast or address.is_link_local:
        return None, f"{name}: its underlay address would be {text}{origin}, which no other host can reach. {CURE}"
    return text, None


def addresses_of(
    names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], resolver: Resolver = resolve
) -> tuple[dict[str, str], list[str]]:
    """Every host's underlay address, and what is wrong with them: each must be there and be unique."""
    addresses: dict[str, str] = {}
    errors = []
    for name in names:
        address, error = address_of(name, hostvars[name], resolver)
        if address is None:
            errors.append(str(error))
            continue
        twin = next((other for other, taken in addresses.items() if taken == address), None)
        if twin:
            errors.append(
                f"{name}: its underlay address {address} is that of {twin} too. Give each host an overlay_address: its own, "
                "which all peers reach."
            )
        addresses[name] = address
    return addresses, errors


def check_networks(networks: Any, addresses: Mapping[str, str]) -> list[str]:
    """Each overlay network is well-formed, and none overlaps another or the hosts' own addresses."""
    if not isinstance(networks, (list, tuple)) or not all(isinstance(network, Mapping) for network in networks):
        return ["overlay_networks: must be a list of dictionaries, each with a name."]
    errors = []
    for network in networks:
        errors += check_network(network)
    names = [str(network.get("name")) for network in networks]
    errors += [
        f"overlay_networks: the name {name} stands there {names.count(name)} times. Network names are unique."
        for name in sorted(set(names))
        if names.count(name) > 1
    ]
    return errors + _check_overlaps([n for n in networks if n.get("state", "present") == "present"], addresses)


def check_network(network: Mapping[str, Any]) -> list[str]:
    """What is wrong with one entry of overlay_networks by itself."""
    name = network.get("name")
    if not isinstance(name, str) or not NETWORK_NAME.match(name):
        return [
            f"overlay_networks: {name!r} is no name for a network: letters, digits, '_', '.' and '-', a letter or digit first."
        ]
    label = f"network {name}: "
    errors = [
        f"{label}the key {key} is unknown. Known are: {', '.join(sorted(NETWORK_KEYS))}."
        for key in sorted(set(network) - NETWORK_KEYS)
    ]
    if network.get("state", "present") not in ("present", "absent"):
        errors.append(f"{label}state {network['state']!r} is neither present nor absent.")
    if network.get("encrypted"):
        errors.append(
            f"{label}encrypted: classic mode accepts it at creation, and then every container fails to join. "
            "Leave it out; run the underlay over WireGuard where you need encryption."
        )
    mtu = network.get("mtu")
    if mtu is not None and not (isinstance(mtu, int) and MTU_RANGE[0] <= mtu <= MTU_RANGE[1]):
        errors.append(f"{label}mtu {mtu!r} is not a number of bytes from {MTU_RANGE[0]} to {MTU_RANGE[1]}.")
    return errors + _check_addresses(network, label)


def _check_addresses(network: Mapping[str, Any], label: str) -> list[str]:
    subnet = _subnet(network)
    if subnet is None:
        if network.get("subnet") is None:
            orphans = [key for key in ("gateway", "ip_range") if network.get(key) is not None]
            return [f"{label}{key} is given without a subnet. Give the subnet too." for key in orphans]
        return [
            f"{label}subnet {network['subnet']!r} is no IPv4 network with its host bits zero, such as 10.100.1.0/24."
        ]
    return _check_gateway(network, subnet, label) + _check_ip_range(network, subnet, label)


def _check_gateway(network: Mapping[str, Any], subnet: ipaddress.IPv4Network, label: str) -> list[str]:
    gateway = network.get("gateway")
    if gateway is None:
        return []
    try:
        address = ipaddress.IPv4Address(str(gateway))
    except ValueError:
        return [f"{label}gateway {gateway!r} is not an IPv4 address."]
    if address not in subnet:
        return [
            f"{label}gateway {address} lies outside its subnet {subnet}. Take an address from the subnet, such as {subnet[1]}."
        ]
    if address in (subnet.network_address, subnet.broadcast_address):
        return [
            f"{label}gateway {address} is the network or broadcast address of {subnet}. Take another, such as {subnet[1]}."
        ]
    return []


def _check_ip_range(network: Mapping[str, Any], subnet: ipaddress.IPv4Network, label: str) -> list[str]:
    ip_range = network.get("ip_range")
    if ip_range is None:
        return []
    try:
        inner = ipaddress.IPv4Network(str(ip_range))
    except ValueError:
        return [f"{label}ip_range {ip_range!r} is no IPv4 network with its host bits zero."]
    return [] if inner.subnet_of(subnet) else [f"{label}ip_range {inner} lies outside its subnet {subnet}."]


def _subnet(network: Mapping[str, Any]) -> ipaddress.IPv4Network | None:
    try:
        subnet = ipaddress.IPv4Network(str(network.get("subnet")))
    except ValueError:
        return None
    # The network, the broadcast and the gateway's address, and at least one for a container.
    return subnet if subnet.num_addresses >= 4 else None


def _check_overlaps(networks: Sequence[Mapping[str, Any]], addresses: Mapping[str, str]) -> list[str]:
    subnets = [(network.get("name"), subnet) for network in networks if (subnet := _subnet(network)) is not None]
    errors = []
    for index, (name, subnet) in enumerate(subnets):
        errors += [
            f"network {name}: its subnet {subnet} overlaps {other_subnet} of network {other}. Give them subnets apart."
            for other, other_subnet in subnets[:index]
            if subnet.overlaps(other_subnet)
        ]
        errors += [
            f"network {name}: its subnet {subnet} contains {host}'s own address {address}, which its containers could then "
            "not reach. Take a subnet apart from the underlay."
            for host, address in addresses.items()
            if ipaddress.IPv4Address(address) in subnet
        ]
    return errors


def agreed(
    name: str, hosts: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]], default: Any
) -> tuple[Any, list[str]]:
    """The value of a cluster variable, which must be the same wherever the inventory sets it."""
    seen = [(host, _as_bool(hostvars[host][name], default)) for host in hosts if name in hostvars[host]]
    if not seen:
        return default, []
    first_host, value = seen[0]
    other = next((host for host, found in seen if found != value), None)
    if other is None:
        return value, []
    return value, [
        (
            f"{name} differs between {first_host} and {other}: it belongs to the cluster as a whole. "
            "Set it once, in group_vars/all."
        )
    ]


def _as_bool(value: Any, default: Any) -> Any:
    """A switch that was given as text, as every extra variable of the form name=value is."""
    text = str(value).lower()
    return text in ("true", "yes", "on", "1") if isinstance(default, bool) else value


def validate(
    groups: Mapping[str, Sequence[str]],
    hostvars: Mapping[str, Mapping[str, Any]],
    defaults: Mapping[str, Any],
    resolver: Resolver = resolve,
) -> tuple[dict[str, str], list[str]]:
    """Check the whole inventory; return (addresses by host, errors). ``defaults`` holds the cluster's variables."""
    store = groups.get(defaults["overlay_store_group"], [])
    members = list(dict.fromkeys([*groups.get(defaults["overlay_hosts_group"], []), *store]))
    cluster = dict(defaults)
    errors = []
    for name, default in defaults.items():
        cluster[name], disagreement = agreed(name, members, hostvars, default)
        errors += disagreement
    # What a play calls its groups wins over the inventory.
    cluster.update((name, defaults[name]) for name in ("overlay_store_group", "overlay_hosts_group"))
    cluster["managed"] = cluster["overlay_consul_manage"]
    addresses, address_errors = addresses_of(members, hostvars, resolver)
    errors += check_choices(cluster) + check_groups(groups, cluster) + check_external_store(cluster) + address_errors
    errors += check_store_secrets(
        members, hostvars, cluster["overlay_store_given"], cluster["managed"]
    ) + check_docker_api(cluster)
    errors += check_firewall(members, hostvars)
    return addresses, errors + check_networks(cluster["overlay_networks"], addresses)
