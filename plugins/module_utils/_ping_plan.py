# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""From all hosts' claims and the inventory's expectation to one plan for all hosts. Runs on the controller. No I/O."""

from __future__ import annotations

import ipaddress
import itertools
import re
from typing import Any, Dict, Iterator, List

from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import streams

Json = Dict[str, Any]

STREAM_SECONDS = 2.0
# An agent answers its peers this long after it should have heard from all of them.
GRACE = 3.0
# With few forks hosts start in rounds: each takes so long, or so many times what the first task took (seen on idle and on busy hosts).
ROUND = 5.0
START_OVER_READ = 5.0
MOST = 1024  # addresses that are looked at in a large network


def problem(kind: str, error: str) -> Json:
    """A place in the plan, or in a result, where nothing can be measured."""
    return {"how": "none", "kind": kind, "error": error}


def _candidates(ipam: List[Json]) -> Iterator[str]:
    """Addresses from the top of each range: engines and people hand out from the bottom."""
    for config in ipam:
        subnet = ipaddress.IPv4Network(config["subnet"], strict=False)
        pool = ipaddress.IPv4Network(config["ip_range"] or config["subnet"], strict=False)
        # The lowest host address is the engine's gateway where the network names none.
        unusable = {subnet.network_address, subnet.network_address + 1, subnet.broadcast_address}
        unusable.update(ipaddress.IPv4Address(address) for address in config["reserved"])
        for number in range(int(pool.broadcast_address), int(pool.network_address) - 1, -1):
            address = ipaddress.IPv4Address(number)
            if address not in unusable and address in subnet:
                yield str(address)


def _own_places(underlay: Dict[str, str], size: int) -> Dict[str, int]:
    """A place for each host that is its own whatever other hosts there are, unless two want the same."""
    numbers = {host: int(ipaddress.IPv4Address(address)) for host, address in underlay.items()}
    own: Dict[str, int] = {}
    for host in sorted(numbers, key=numbers.__getitem__):
        wanted = numbers[host] % size
        places = itertools.chain(range(wanted, size), range(wanted))
        own[host] = next((place for place in places if place not in own.values()), wanted)
    return own


def choose_addresses(ipam: List[Json], taken: set[str], wanting: List[str], underlay: Dict[str, str]) -> Dict[str, str]:
    """Give each host that wants one an address that nobody claims, the same one in every run as long as that is so.

    Engines in classic mode can remember for good where an address was, so it must not wander from host to host, not
    even when hosts are added: it follows from the host's own underlay address.
    """
    usable = list(itertools.islice(_candidates(ipam), MOST + len(taken)))
    if not usable:
        return dict.fromkeys(wanting, "")
    # The upper half, as containers are given addresses from the bottom.
    size = max(len(usable[:MOST]) // 2, min(len(usable), 2 * len(underlay)))
    own = {host: usable[place] for host, place in _own_places(underlay, size).items()}
    chosen: Dict[str, str] = {}
    for host in wanting:
        if own[host] not in taken and own[host] not in chosen.values():
            chosen[host] = own[host]
    for host in [host for host in wanting if host not in chosen]:
        place, used = usable.index(own[host]), taken | set(chosen.values())
        free = [address for address in usable[place:] + usable[:place] if address not in used]
        # Another host's own place only when there is no other: it may want it in the next run.
        chosen[host] = next((address for address in free if address not in own.values()), next(iter(free), ""))
    return chosen


def host_problem(started: Json | None) -> Json | None:
    """Why a host cannot take part at all, from the result of its first task."""
    if started is None:
        return problem("host_unreachable", "it takes no part in this run: it was lost before")
    if started.get("unreachable"):
        return problem("host_unreachable", str(started.get("msg", "it cannot be reached")).strip())
    if "networks" not in started:
        return problem("not_measured", str(started.get("msg", "its probe could not be prepared")).strip())
    if started.get("engine_error"):
        return problem("engine_down", started["engine_error"])
    return None


def _endpoint_name(run: str, host: str, place: int) -> str:
    # A part of a DNS name has at most 63 bytes; the number keeps shortened names apart.
    clean = re.sub(r"[^a-z0-9]+", "-", host.lower()).strip("-")[:24]
    return f"overlay-verify-{run[:8]}-{clean}-{place}"


def _container(view: Json) -> Json:
    """The oldest running container probes; the next is its neighbour."""
    first, *others = view["running"]
    return dict(first, how="container", neighbour=others[0] if others else None)


def _network_probes(network: str, run: str, underlay: Dict[str, str], started: Json) -> list[Json]:
    hosts = list(underlay)
    seen = {host: started[host]["networks"][network] for host in hosts if host_problem(started.get(host)) is None}
    taken = {address for view in seen.values() for address in view["claims"]}
    ipam: List[Json] = next((view["ipam"] for view in seen.values() if view["ipam"]), [])
    wanting = [host for host in seen if not seen[host]["running"]]
    addresses = choose_addresses(ipam, taken, wanting, underlay)
    spares = choose_addresses(ipam, taken | set(addresses.values()), wanting, underlay)
    probes = []
    for place, host in enumerate(hosts):
        if host not in seen:
            probes.append(host_problem(started.get(host)) or {})
        elif seen[host]["running"]:
            probes.append(_container(seen[host]))
        elif not ipam:
            error = seen[host]["error"] or f"network {network} has no IPv4 subnet"
            probes.append(problem("network_missing", error))
        else:
            # A Swarm worker shows a network only once something uses it there: so a missing one is tried all the same.
            probes.append(_temporary(addresses[host], spares[host], _endpoint_name(run, host, place)))
    return probes


def _temporary(address: str, spare: str, name: str) -> Json:
    if not address:
        return problem("endpoint_failed", "no free address is left in the network for a temporary endpoint")
    return {"how": "temporary", "name": name, "address": address, "spare": spare}


def _alone(probes: List[List[Json]]) -> List[int | None]:
    return [
        next((place for place, probe in enumerate(row) if probe["how"] != "none" and probe["networks"] == 1), None)
        for row in probes
    ]


def part_networks(probes: List[List[Json]]) -> List[int | None]:
    """For each network the place of a probe that is on no other: whoever reaches it from another network shows that they are not apart.

    Where no container of a user's is such a one, the first host with temporary endpoints has one for each network.
    """
    if len(probes) < 2:
        return [None] * len(probes)
    if None in _alone(probes):
        for column in zip(*probes):
            if all(probe["how"] == "temporary" for probe in column):
                for number, probe in enumerate(column):
                    probe["name"] = f"{probe['name']}-{number}"
                count_networks(probes)
                break
    return _alone(probes)


def count_networks(probes: List[List[Json]]) -> None:
    """Temporary endpoints of one name are one container: note on how many networks it is, and its alias."""
    for column in zip(*probes):
        temporary = [probe for probe in column if probe["how"] == "temporary"]
        for probe in temporary:
            probe["networks"] = sum(other["name"] == probe["name"] for other in temporary)
            probe["alias"] = f"{probe['name']}-alias"


def _internal(network: str, started: Json) -> bool:
    """Whether the network has no way out. Who cannot be read says nothing."""
    views = [result["networks"].get(network) for result in started.values() if host_problem(result) is None]
    return any(view and view["internal"] for view in views)


def make_plan(run: Json, underlay: Dict[str, str], networks: List[str], started: Json, timing: Json) -> Json:
    """Return the plan that every host gets; it grows with hosts x networks, not with pairs.

    ``underlay`` has the underlay address of each host, in the order in which hosts are shown.
    """
    probes = [_network_probes(network, run["id"], underlay, started) for network in networks]
    count_networks(probes)
    hosts = list(underlay)
    return {
        "run": run["id"],
        "hosts": hosts,
        "underlay": list(underlay.values()),
        "networks": networks,
        "internal": [_internal(network, started) for network in networks],
        "probes": probes,
        "apart": part_networks(probes),
        "streams": [
            [number % len(networks), *ends]
            for number, ends in enumerate(streams(hosts, timing["streams"], timing["peers"], timing.get("only", ())))
        ],
        "timing": timing,
    }


def stop(elapsed: float, hosts: int, forks: int, timing: Json) -> float:
    """Seconds after the plan was made when all agents give up peers that they have not heard.

    0 where all hosts go through a task at the same time: then collecting tells all of them at once that all endpoints are up.
    ``elapsed`` is what the first task took over all hosts.
    """
    rounds = -(-hosts // max(forks, 1))
    longest = min(timing["start_wait"], max(ROUND, START_OVER_READ * elapsed / rounds))
    return float(rounds * longest + timing["patience"]) if rounds > 1 else 0.0


def soon(elapsed: float, timing: Json) -> float:
    """Seconds after its own endpoint is up in which an agent is done where nothing is wrong, so that its result is waited for at once.

    The endpoints of others are up as much later as hosts were apart in the first task at the most. 0 where agents wait for hosts whose turn
    is yet to come, or measure for long.
    """
    if timing["stop"] or timing["rounds"] > 1 or timing["streams"]:
        return 0.0
    return elapsed + float(timing["count"] * timing["interval"]) + GRACE


def round_seconds(timing: Json) -> float:
    """The longest that a round may take once no silent peer is waited for any more."""
    streaming = STREAM_SECONDS + timing["patience"] if timing["streams"] else 0.0
    return max(timing["patience"], timing["count"] * timing["interval"]) + streaming + GRACE


def waits(timing: Json, late: float) -> tuple[float, float]:
    """Seconds: until an agent that started ``late`` seconds after the plan gives up silent peers; all that it may live.

    Where it is to be told that all endpoints are up, the first is for the case that nobody does.
    """
    start, patience = timing["start_wait"], timing["patience"]
    silent = max(timing["stop"] - late, patience) if timing["stop"] else 2 * start + patience
    measuring = timing["rounds"] * (round_seconds(timing) + patience)
    return silent, start + silent + measuring + 60.0
