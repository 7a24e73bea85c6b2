# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The store against reality: what the engines wrote there, and what is. Pure; reads nothing."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any, Collection, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._store_content import duplicates

# Of a network's addresses, how many may be in use before it is said.
FULL = 0.9
ENDPOINT_KEY = "docker/network/v1.0/endpoint/{network}/{endpoint}/"
COUNT_KEY = "docker/network/v1.0/endpoint_count/{network}/"

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


def readable(observed: Observed) -> bool:
    return observed["store"].get("state") == "ok" and bool(observed["engine"]["answers"])


def names_of(store: Observed) -> dict[str, str]:
    """Network's id -> its name."""
    return {entry["id"]: entry["name"] for entry in store["networks"]}


def remove_endpoint(network: str, endpoint: Mapping[str, str], containers: Collection[str] = ()) -> str:
    """The ways to take an endpoint away that nobody has. Docker's own goes by the name, and would take a container off its network."""
    key = ENDPOINT_KEY.format(network=endpoint["network_id"], endpoint=endpoint["id"])
    if endpoint["name"] in containers:
        return f"consul kv delete -recurse {key}, then: docker start {endpoint['name']}"
    return f"docker network disconnect -f {network} {endpoint['name']}; if that fails: consul kv delete -recurse {key}"


def locator(observed: Observed) -> str:
    """How this host's endpoints name it."""
    return str(observed["engine"]["info"].get("ClusterAdvertise") or "").rpartition(":")[0]


def had(observed: Observed) -> list[str]:
    """The endpoints of this host's containers, running or not."""
    rows = [entry for container in observed["containers"] for entry in container["networks"].values()]
    return sorted({entry["endpoint"] for entry in rows if entry["endpoint"]})


def check_registered(observed: Observed, _wanted: Observed) -> Findings:
    advertised = str(observed["engine"]["info"].get("ClusterAdvertise") or "")
    if readable(observed) and advertised and advertised not in observed["store"]["nodes"]:
        yield found(
            "engine_unregistered",
            f"this engine ({advertised}) is not among the hosts in the store",
            f"docker/nodes: {', '.join(observed['store']['nodes']) or 'nobody'}",
        )


def check_networks_seen(observed: Observed, _wanted: Observed) -> Findings:
    """What the store has, the engine knows."""
    if not readable(observed):
        return
    for entry in observed["store"]["networks"]:
        if entry["driver"] == "overlay" and observed["known"].get(entry["id"]) == "":
            yield found(
                "network_unseen", f"this host does not know the network {entry['name']}", f"its id is {entry['id']}"
            )


def check_networks_lost(observed: Observed, _wanted: Observed) -> Findings:
    """What a container is on, the store has."""
    if not readable(observed):
        return
    stored = names_of(observed["store"])
    for container in observed["containers"]:
        for name, entry in container["networks"].items():
            driver = observed["known"].get(entry["id"])
            if entry["id"] and entry["id"] not in stored and driver in ("", "overlay"):
                yield found(
                    "network_lost",
                    f"container {container['name']} is on the network {name}, which is not in the store",
                    f"{name}: {entry['id']}",
                )


def check_orphans(observed: Observed, _wanted: Observed) -> Findings:
    """Endpoints that are said to be on this host, and that no container has."""
    if not readable(observed) or not observed["complete"]:
        return
    names = names_of(observed["store"])
    mine, containers = set(had(observed)), {row["name"] for row in observed["containers"]}
    for endpoint in observed["store"]["endpoints"]:
        if endpoint["host"] == locator(observed) and endpoint["id"] not in mine:
            network = names.get(endpoint["network_id"], endpoint["network_id"])
            row = found(
                "orphan_endpoint",
                f"the store has an endpoint {endpoint['name']} of this host on network {network}, and no container has it",
                f"endpoint {endpoint['id']}, address {endpoint['ipv4'] or '-'}",
                remove_endpoint(network, endpoint, containers),
            )
            # For the repair, and for those to whom its address means something.
            yield dict(row, thing=endpoint["id"])


def check_static(observed: Observed, _wanted: Observed) -> Findings:
    """Stopped containers whose configured address an endpoint of somebody else has."""
    if not readable(observed):
        return
    held = {
        (row["network_id"], row["ipv4"].split("/")[0]): row for row in observed["store"]["endpoints"] if row["ipv4"]
    }
    for container in observed["containers"]:
        for name, entry in container["networks"].items():
            holder = held.get((entry["id"], entry["wanted"]))
            if not container["running"] and entry["wanted"] and holder and holder["name"] != container["name"]:
                yield found(
                    "static_address_taken",
                    f"container {container['name']} cannot start: its address {entry['wanted']} on {name} is taken",
                    f"{holder['name']} on host {holder['host']} has it",
                )


def check_doubles(store: Observed) -> Findings:
    for name, ids in duplicates(store["networks"]).items():
        yield found("network_twice", f"{len(ids)} networks are called {name}", ", ".join(ids))


def check_counts(store: Observed) -> Findings:
    """Docker counts the endpoints of a network beside keeping them."""
    names = names_of(store)
    for network, count in sorted(store["counts"].items()):
        real = sum(row["network_id"] == network for row in store["endpoints"])
        if network in names and count != real:
            key = COUNT_KEY.format(network=network)
            yield found(
                "stale_endpoint_count",
                f"network {names[network]} counts {count} endpoints and has {real}",
                f"{key}: {count}",
                f"with no container on {names[network]}: stop docker on all hosts, consul kv delete {key}, start docker, then "
                f"docker network rm {names[network]}",
            )


def check_twice(store: Observed) -> Findings:
    """No two endpoints of a network have the same address."""
    names = names_of(store)
    held = Counter((row["network_id"], row["ipv4"].split("/")[0]) for row in store["endpoints"] if row["ipv4"])
    for (network, address), number in sorted(held.items()):
        if number > 1:
            rows = [
                row
                for row in store["endpoints"]
                if (row["network_id"], row["ipv4"].split("/")[0]) == (network, address)
            ]
            yield found(
                "address_twice",
                f"{number} endpoints on network {names.get(network, network)} have the address {address}",
                [f"{row['name']} on {row['host'] or 'no host'} (endpoint {row['id']})" for row in rows],
            )


def usable(subnet: ipaddress.IPv4Network) -> int:
    return max(subnet.num_addresses - 2, 1)


def check_addresses(store: Observed) -> Findings:
    """Addresses that Docker holds for given out and nobody has; and how many are left."""
    for entry in store["networks"]:
        claimed = {row["ipv4"].split("/")[0] for row in store["endpoints"] if row["network_id"] == entry["id"]}
        claimed |= set(store["reserved"].get(entry["id"], []))
        for text in entry["subnets"]:
            subnet, taken = ipaddress.IPv4Network(text), store["taken"].get(text, [])
            ends = {str(subnet.network_address), str(subnet.broadcast_address)}
            leaked = [address for address in taken if address not in claimed | ends]
            if leaked:
                yield found(
                    "leaked_address",
                    f"nobody has {', '.join(leaked[:5])}{' and more' if len(leaked) > 5 else ''} on network {entry['name']}, and "
                    "Docker does not give it out",
                    f"ipam/default/data of {text}: {len(leaked)} more than endpoints and gateways",
                )
            given_out = len(set(taken) - ends)
            if given_out >= FULL * usable(subnet):
                yield found(
                    "subnet_full",
                    f"network {entry['name']} has hardly an address left in {text}",
                    f"{given_out} of {usable(subnet)} are given out",
                )


STORE_CHECKS_OF_A_HOST = (
    check_registered,
    check_networks_seen,
    check_networks_lost,
    check_orphans,
    check_static,
)
CHECKS_OF_A_STORE = (check_doubles, check_counts, check_addresses, check_twice)
