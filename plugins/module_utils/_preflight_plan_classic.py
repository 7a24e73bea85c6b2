# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mode classic's own settings, and Docker's bridges: (observed, wanted) -> findings. Pure; reads nothing."""

from __future__ import annotations

import ipaddress
from typing import Any, Iterable, Iterator, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_classic import found
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_classic import (
    docker_bridges,
    endpoints,
    flag_values,
    setting,
    store_options,
)
from ansible_collections.multihost.overlay.plugins.module_utils._store import TLS_FILES

# What Docker 20.10 takes networks of this host from when nobody says otherwise, in its order: (pool, size of a network).
POOLS = (
    ("172.17.0.0/16", 16),
    ("172.18.0.0/16", 16),
    ("172.19.0.0/16", 16),
    ("172.20.0.0/14", 16),
    ("172.24.0.0/14", 16),
    ("172.28.0.0/14", 16),
    ("192.168.0.0/16", 20),
)
HEARTBEAT = 20
CONSUL_TTL = (20, 172800)
DAEMON_JSON = "/etc/docker/daemon.json"

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


def check_store_url(observed: Observed, wanted: Observed) -> Findings:
    url = setting(observed["engine"], wanted, "cluster-store")
    if url.startswith("consul://") and len(endpoints(url)) > 1:
        yield found(
            "store_url_endpoints", f"the store's URL names {len(endpoints(url))} endpoints", f"cluster-store: {url}"
        )


def check_store_answers(observed: Observed, _wanted: Observed) -> Findings:
    store = observed.get("classic", {}).get("store") or {}
    where = f"{store.get('host')}:{store.get('port')}"
    if store.get("error"):
        yield found("store_unreachable", f"this host does not reach the store at {where}", f"{where}: {store['error']}")
    if store.get("names") == []:
        yield found(
            "store_certificate_without_san",
            f"the certificate of the store at {where} has no alternative names",
            f"{where}: a common name only",
        )


def check_store_tls(observed: Observed, wanted: Observed) -> Findings:
    options = store_options(observed["engine"], wanted)
    given = [name for name in TLS_FILES if options.get(name)]
    lacking = [name for name in TLS_FILES if name not in given]
    if given and lacking:
        yield found(
            "store_tls_partial",
            f"the store's traffic would be plain text: cluster-store-opts has {', '.join(given)} and lacks "
            f"{', '.join(lacking)}",
            "; ".join(f"{name}: {options[name]}" for name in given),
        )
    elif given:
        for name, path in sorted(observed.get("classic", {}).get("missing_files", {}).items()):
            yield found("store_tls_file_missing", f"{path}, which {name} names, is not there", f"{name}: {path}")


def whole(options: Mapping[str, Any], name: str, default: int) -> int | None:
    """A number of seconds that dockerd accepts, or None. What is no text is another check's."""
    value = options.get(name, default)
    if not isinstance(value, str):
        return default if name in options else value
    return int(value) if value.isascii() and value.isdigit() and int(value) > 0 else None


def check_ttl(observed: Observed, wanted: Observed) -> Findings:
    options = store_options(observed["engine"], wanted)
    shown = ", ".join(
        f"{name}: {options[name]}" for name in ("discovery.heartbeat", "discovery.ttl") if name in options
    )
    if not shown:
        return
    heartbeat = whole(options, "discovery.heartbeat", HEARTBEAT)
    ttl = whole(options, "discovery.ttl", 3 * (heartbeat or HEARTBEAT))
    problem = ""
    if heartbeat is None or ttl is None:
        problem = "is not a positive whole number of seconds"
    elif ttl <= heartbeat:
        problem = f"does not exceed the heartbeat of {heartbeat} s"
    elif wanted["store_type"] == "consul" and not CONSUL_TTL[0] <= ttl <= CONSUL_TTL[1]:
        problem = f"is outside {CONSUL_TTL[0]} to {CONSUL_TTL[1]} s, which Consul's sessions allow"
    if problem:
        which = "discovery.heartbeat" if heartbeat is None else "discovery.ttl"
        yield found("store_ttl_invalid", f"{which} {problem}", shown)


def check_advertise(observed: Observed, wanted: Observed) -> Findings:
    """IP:PORT, or INTERFACE:PORT with an IPv4 address on the interface."""
    value = setting(observed["engine"], wanted, "cluster-advertise")
    if wanted["mode"] != "classic" or not value:
        return
    name, _colon, port = value.rpartition(":")
    if not name or not port.isdigit():
        yield found("advertise_invalid", "cluster-advertise has no port", f"cluster-advertise: {value}")
        return
    try:
        ipaddress.ip_address(name)
    except ValueError:
        entries = observed["addresses"]
        if entries is not None and not any(entry["interface"] == name for entry in entries):
            has = ", ".join(sorted({entry["interface"] for entry in entries})) or "none"
            yield found(
                "advertise_invalid",
                f"cluster-advertise names the interface {name}, which has no IPv4 address",
                f"cluster-advertise: {value}; interfaces with one: {has}",
            )


def check_not_advertised(observed: Observed, _wanted: Observed) -> Findings:
    info = observed["engine"]["api"]["info"]
    if info.get("ClusterStore") and not info.get("ClusterAdvertise"):
        yield found(
            "advertise_missing",
            "the engine has a store and advertises no address",
            f"Cluster Store {info['ClusterStore']}, no Cluster Advertise",
        )


def open_sockets(engine: Observed) -> Iterator[tuple[str, str]]:
    """(address, where it is set) of each TCP socket that strangers could reach."""
    config = engine["daemon_json"]["config"]
    hosts = config.get("hosts")
    places = [(str(value), DAEMON_JSON) for value in (hosts if isinstance(hosts, list) else [])]
    places += [(entry["value"], entry["source"]) for entry in engine["flags"] if entry["flag"] == "host"]
    for value, source in places:
        address = value[len("tcp://") :].rpartition(":")[0] if value.startswith("tcp://") else None
        if address is not None and address not in ("localhost", "[::1]", "") and not address.startswith("127."):
            yield value, source


def check_api(observed: Observed, _wanted: Observed) -> Findings:
    engine = observed["engine"]
    verified = engine["daemon_json"]["config"].get("tlsverify") is True or "true" in flag_values(engine, "tlsverify")
    if verified:
        return
    for value, source in sorted(set(open_sockets(engine))):
        yield found(
            "engine_api_open",
            f"Docker's API listens on {value} and asks nobody for a certificate",
            f"{value} in {source}",
        )


def network(text: Any) -> ipaddress.IPv4Network | None:
    try:
        return ipaddress.IPv4Network(str(text), strict=False)
    except ValueError:
        return None


def in_use(observed: Observed) -> list[ipaddress.IPv4Network]:
    """What Docker keeps clear of: the networks of addresses, and what routes lead to."""
    found_in = [network(f"{entry['address']}/{entry['prefix']}") for entry in observed["addresses"] or []]
    found_in += [network(route["destination"]) for route in observed["routes"] or []]
    return [entry for entry in found_in if entry is not None and entry.prefixlen > 1]


def pools(config: Mapping[str, Any]) -> Iterator[ipaddress.IPv4Network]:
    """The networks that Docker gives to bridges, in its order."""
    own = config.get("default-address-pools")
    given = [(entry.get("base"), entry.get("size", 32)) for entry in own] if isinstance(own, list) else POOLS
    for base, size in given:
        pool = network(base)
        if pool is not None and pool.prefixlen <= int(size) <= 30:
            yield from pool.subnets(new_prefix=int(size))


def next_bridge(observed: Observed) -> ipaddress.IPv4Network | None:
    """What docker_gwbridge will get, unless it is there already."""
    bridges = docker_bridges(observed["addresses"] or [])
    config = observed["engine"]["daemon_json"]["config"]
    if observed["addresses"] is None or "docker_gwbridge" in bridges:
        return None
    used = in_use(observed)
    own = network(config["bip"]) if config.get("bip") else None
    used += [own] if own is not None else []
    # docker0 is made first and takes one too.
    ahead = 0 if "docker0" in bridges or config.get("bip") or config.get("bridge") else 1
    free = (pool for pool in pools(config) if not any(pool.overlaps(entry) for entry in used))
    for _place in range(ahead):
        next(free, None)
    return next(free, None)


def check_gwbridge(observed: Observed, wanted: Observed) -> Findings:
    coming = next_bridge(observed)
    for entry in wanted["networks"]:
        subnet = network(entry.get("subnet")) if entry.get("state", "present") != "absent" else None
        if coming is not None and subnet is not None and coming.overlaps(subnet):
            yield found(
                "gwbridge_takes_subnet",
                f"subnet {subnet} of network {entry.get('name', '?')} is in {coming}, which Docker will give to docker_gwbridge",
                f"docker_gwbridge is not there; {coming} is the first of Docker's ranges that this host does not use",
            )


def check_bridges(observed: Observed, _wanted: Observed) -> Findings:
    """A bridge of Docker's does not share its range with a route or with another interface."""
    bridges = docker_bridges(observed["addresses"] or [])
    for name, text in bridges.items():
        own = network(text)
        for route in observed["routes"] or []:
            target = network(route["destination"])
            if own is None or target is None or target.prefixlen <= 1 or route["device"] in bridges:
                continue
            if own.overlaps(target):
                yield found(
                    "bridge_overlaps_route",
                    f"Docker's bridge {name} has {own}, and the host has a route to {target}",
                    route["line"],
                )


def check_offload(observed: Observed, _wanted: Observed) -> Findings:
    seen = observed.get("classic", {}).get("offload") or {}
    if seen.get("driver") == "vmxnet3" and seen.get("checksums"):
        name = seen["interface"]
        yield found(
            "checksum_offload_vmxnet3",
            f"{name} is a vmxnet3 interface and computes checksums itself",
            f"{name}: driver vmxnet3, tx checksums on",
            f"ethtool -K {name} tx-checksum-ip-generic off, at each boot (a .link file of systemd: TransmitChecksumOffload=no)",
        )


CLASSIC_CHECKS = (
    check_store_url,
    check_store_answers,
    check_store_tls,
    check_ttl,
    check_advertise,
    check_not_advertised,
    check_api,
    check_gwbridge,
    check_bridges,
    check_offload,
)
