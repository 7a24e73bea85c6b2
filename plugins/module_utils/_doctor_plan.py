# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host of a running cluster shows: (observed, wanted) -> findings. Pure; reads nothing."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import FOLDER, ending
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import Line, complaints, options_of
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_ports import check_ports
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import OVERLAY_NAMESPACE
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found as beforehand
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_classic import BRIDGE
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_engine import resolved_advertise
from ansible_collections.multihost.overlay.plugins.module_utils._store import TLS_FILES

DAEMON_JSON = "/etc/docker/daemon.json"
# Keys of daemon.json that /info shows, and under which name.
SHOWN = {
    "cluster-store": "ClusterStore",
    "cluster-advertise": "ClusterAdvertise",
    "live-restore": "LiveRestoreEnabled",
    "debug": "Debug",
    "data-root": "DockerRootDir",
    "storage-driver": "Driver",
    "log-driver": "LoggingDriver",
}
# What must be there for Docker's rules to have an effect: (table, rule).
RULES = (
    ("filter", "-A FORWARD -j DOCKER-USER"),
    ("filter", "-A FORWARD -j DOCKER-ISOLATION-STAGE-1"),
    ("nat", "-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER"),
)
# Namespaces of Docker's that belong to no container.
OWN_NAMESPACES = re.compile(r"^(default|ingress_sbox|lb_.*)$")
TUNNEL = re.compile(r"^vx-[0-9a-f]{6}-")
NETWORK_ERROR = re.compile(r"sandbox|endpoint|network|overlay|address", re.IGNORECASE)
POLICIES = ("always", "unless-stopped", "on-failure")
# Check id -> (pattern, how many lines it takes, within how many seconds), each peer by itself. Sound engines say some of this too, when
# a peer is restarted or a container has just begun; what lasts is said again and again.
WORDS: dict[str, tuple[str, int, float]] = {
    "journal_name_taken": (r"Name conflict for|Conflicting address for|[Nn]ames must be unique", 1, 60),
    "journal_tcp_only": (r"able to connect to (\S+) but other probes failed|(\S+) .*but UDP probes failed", 3, 180),
    "journal_store_kept": (r"modifies an existing datastore client", 1, 86400),
    "journal_session_refused": (r"cannot set or renew session", 3, 600),
    "journal_file_exists": (r"vxlan interface: file exists", 1, 600),
}
UNRESOLVED = re.compile(r'could not resolve peer \\?"([0-9.]+)')
UNRESOLVED_TIMES, UNRESOLVED_AGE = 3, 600.0
FAILED = re.compile(r"serf: (?:EventMemberFailed: |attempting reconnect to )(\S+)")
JOINED = re.compile(r"serf: EventMember(?:Join|Leave|Reap): (\S+)")

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]
Check = Callable[[Observed, Observed], Findings]


def check_engine(observed: Observed, _wanted: Observed) -> Findings:
    engine, unit = observed["engine"], observed["units"].get("docker.service", {})
    if not engine["pid"]:
        state = f"docker.service is {unit.get('ActiveState', 'not there')} ({unit.get('SubState', '-')})"
        yield found("engine_down", "dockerd does not run", [state, *complaints(observed["journal"])])
    elif not engine["answers"]:
        yield found("engine_hangs", "dockerd runs and does not answer on its socket", engine["silence"] or "GET /info")


def check_certificates(observed: Observed, _wanted: Observed) -> Findings:
    for entry in ending(observed["certificates"], observed["now"]):
        evidence = f"{FOLDER}/{entry.name}.crt"
        if entry.ended:
            yield found("certificate_ended", entry.message, evidence, entry.fix)
        else:
            yield beforehand(entry.check, entry.message, evidence, entry.fix)


def check_repair(observed: Observed, _wanted: Observed) -> Findings:
    unit = observed["units"].get("multihost-overlay-boot-repair.service", {})
    if unit.get("ActiveState") == "failed":
        yield found("boot_repair_failed", "the boot repair has failed", f"Result={unit.get('Result')}")


def check_tables(observed: Observed, _wanted: Observed) -> Findings:
    """The unit is for good: one that ended by itself, or does not come back with the next boot, is not at work."""
    unit = observed["units"].get("multihost-overlay-peers.service")
    if unit and (unit.get("ActiveState") != "active" or unit.get("UnitFileState") != "enabled"):
        evidence = ", ".join(f"{name}={unit.get(name, '')}" for name in ("UnitFileState", "ActiveState", "Result"))
        yield found("peers_unit_down", "nothing keeps the tables of this host's overlays complete", evidence)


def check_restart(observed: Observed, _wanted: Observed) -> Findings:
    """Keys of daemon.json that the running engine does not have. Of one that does not answer nothing is known."""
    engine = observed["engine"]
    config, info = engine["daemon_json"]["config"], engine["info"]
    if not engine["answers"]:
        return
    different = []
    for key, shown in SHOWN.items():
        value = config.get(key)
        if key == "cluster-advertise" and value:
            value = resolved_advertise(value, observed["addresses"] or [])
        if value is not None and shown in info and value != info[shown]:
            different.append(f"{key}: {value!r} in {DAEMON_JSON}, {info[shown]!r} in /info")
    if engine["daemon_json"]["error"]:
        different.append(f"{DAEMON_JSON} is not valid, the next start fails: {engine['daemon_json']['error']}")
    if different or engine["pending"]:
        evidence = different or ["the manifest notes a change that waits for a restart"]
        yield found("restart_pending", "the engine does not run with what daemon.json says", evidence)


def check_threads(observed: Observed, _wanted: Observed) -> Findings:
    if observed["stray"]:
        yield found(
            "lost_threads",
            f"{observed['stray']} of dockerd's threads are in the namespace of a network that is gone",
            f"/proc/{observed['engine']['pid']}/task/*/ns/net",
        )


def check_store(observed: Observed, _wanted: Observed) -> Findings:
    store = observed["store"]
    if not store:
        return
    state, where = store["state"], store["url"]
    if state in ("silent", "leaderless", "denied"):
        words = {"silent": "does not answer", "leaderless": "has no leader", "denied": "may not be read"}[state]
        unit = observed["units"].get("multihost-overlay-consul.service", {})
        told = [f"multihost-overlay-consul.service is {unit['ActiveState']}"] if unit else []
        yield found(f"store_{state}", f"the engine's store {where} {words}", [store["error"], *told])
    elif state == "odd":
        yield found("unexamined", f"the store {where} gave an answer that was not understood", store["error"])
    elif state == "unsupported":
        yield found("store_unsupported", f"what the store {where} holds is not read", where)
    elif store["open"] and not re.match(r"^consul://(127\.|localhost|\[::1\])", where):
        yield found("store_unprotected", f"the store {where} lets everybody read and write", "no token was needed")


def check_advertised(observed: Observed, wanted: Observed) -> Findings:
    """The address that the peers send to."""
    info = observed["engine"]["info"]
    if not info.get("ClusterStore"):
        return
    advertised = str(info.get("ClusterAdvertise") or "")
    address = advertised.rpartition(":")[0]
    if not advertised:
        yield found(
            "not_advertised", "the engine has a store and advertises no address", "no Cluster Advertise in /info"
        )
        return
    mine = [entry for entry in observed["addresses"] or [] if entry["address"] == address]
    evidence = f"Cluster Advertise {advertised}"
    if observed["addresses"] is not None and not mine:
        yield found("advertises_elsewhere", f"the engine advertises {address}, which is not on this host", evidence)
    elif address.startswith("127.") or any(BRIDGE.match(entry["interface"]) for entry in mine):
        yield found("advertises_elsewhere", f"the engine advertises {address}, which no other host reaches", evidence)
    elif wanted["address"] and address != wanted["address"]:
        yield found(
            "advertises_other", f"the engine advertises {address}, and the inventory says {wanted['address']}", evidence
        )


def check_gossip(observed: Observed, _wanted: Observed) -> Findings:
    info, gossip = observed["engine"]["info"], observed["gossip"]
    if not info.get("ClusterStore") or not info.get("ClusterAdvertise") or gossip is None:
        return
    if gossip["tcp"] != "dockerd" or not gossip["udp"]:
        who = f"tcp: {gossip['tcp'] or 'nobody'}; udp: {'somebody' if gossip['udp'] else 'nobody'}"
        yield found("gossip_silent", "the engine does not listen on port 7946", who)


def check_containers(observed: Observed, _wanted: Observed) -> Findings:
    for container in observed["containers"]:
        name = container["name"]
        if container["running"]:
            lost = [
                network
                for network, entry in container["networks"].items()
                if observed["known"].get(entry["id"]) == "overlay" and not entry["endpoint"]
            ]
            if lost:
                text = f"container {name} runs without its endpoint on {', '.join(lost)}"
                yield found("container_without_endpoint", text, "EndpointID is empty", f"docker restart {name}")
        elif container["policy"] in POLICIES and NETWORK_ERROR.search(container["error"]):
            yield found(
                "container_down",
                f"container {name} is down in spite of its restart policy {container['policy']}",
                container["error"][:300],
            )


def networks_here(observed: Observed) -> set[str]:
    """The ids of networks that a running container of this host is on."""
    return {
        entry["id"]
        for container in observed["containers"]
        if container["running"]
        for entry in container["networks"].values()
    }


def check_leftovers(observed: Observed, _wanted: Observed) -> Findings:
    if not observed["complete"]:
        return
    sandboxes = {container["sandbox"] for container in observed["containers"] if container["running"]}
    living = networks_here(observed)
    for name in observed["namespaces"]:
        overlay = OVERLAY_NAMESPACE.match(name)
        used = any(network.startswith(overlay.group(2)) for network in living) if overlay else name in sandboxes
        if not used and not OWN_NAMESPACES.match(name):
            text = f"/run/docker/netns/{name} belongs to no running container and no network in use"
            yield dict(found("leftover_namespace", text, f"/run/docker/netns/{name}"), thing=name)
    for name in observed["tunnels"]:
        if TUNNEL.match(name):
            text = f"the tunnel {name} of Docker's lies in the host's own namespace"
            row = found("leftover_vxlan", text, f"ip link show {name}", f"ip link delete {name}")
            yield dict(row, thing=name)


def manages_rules(engine: Observed) -> bool:
    flags = [entry["value"] for entry in engine["flags"] if entry["flag"] == "iptables"]
    return engine["daemon_json"]["config"].get("iptables") is not False and "false" not in flags


def check_kernel(observed: Observed, _wanted: Observed) -> Findings:
    if observed["forwarding"] == "0":
        yield found("forwarding_off", "IPv4 forwarding is off", "net.ipv4.ip_forward = 0")
    rules = observed["rules"]
    if rules is None or not observed["engine"]["pid"] or not manages_rules(observed["engine"]):
        return
    missing = [f"{table}: {rule}" for table, rule in RULES if rule not in rules[table]]
    if missing:
        yield found(
            "docker_rules_gone", "Docker's rules of iptables are gone", [f"missing: {rule}" for rule in missing]
        )


def repeated(journal: list[Line], pattern: str, age: float) -> tuple[int, str]:
    """How often the most frequent of the lines is there, told apart by what the pattern's groups hold, and the last such line."""
    found: dict[tuple[str, ...], list[str]] = {}
    for seconds, text in journal:
        match = re.search(pattern, text) if seconds <= age else None
        if match:
            found.setdefault(match.groups(""), []).append(text)
    most = max(found.values(), key=len, default=[])
    return len(most), most[-1].strip()[:300] if most else ""


def check_journal(observed: Observed, _wanted: Observed) -> Findings:
    """What dockerd says again and again."""
    for check_id, (pattern, times, age) in WORDS.items():
        number, line = repeated(observed["journal"], pattern, age)
        if number >= times:
            yield found(check_id, f"dockerd said so {number} times lately", line)
    if any(options_of(observed["engine"]).get(name) for name in TLS_FILES):
        number, line = repeated(observed["journal"], "without TLS", 86400)
        if number:
            yield found("journal_store_plain", "dockerd speaks to its store without TLS", line)


def failed_peers(journal: list[Line]) -> dict[str, str]:
    """Hostname -> the line, of the peers that this engine took for dead and has not met again."""
    failed: dict[str, str] = {}
    for _age, text in journal:
        gone, back = FAILED.search(text), JOINED.search(text)
        if gone:
            failed[gone.group(1)] = text.strip()[:300]
        elif back:
            failed.pop(back.group(1), None)
    return failed


def check_peers(observed: Observed, _wanted: Observed) -> Findings:
    """Peers that this engine does not meet, and containers that it does not find."""
    for name, line in sorted(failed_peers(observed["journal"]).items()):
        # The name serves the comparison of hosts: a peer whose engine is down is no riddle.
        yield dict(found("journal_peer_suspect", f"this engine takes the peer {name} for dead", line), peer=name)
    there = {entry["ipv4"].split("/")[0] for entry in observed["store"].get("endpoints", [])}
    matches = [UNRESOLVED.search(text) for age, text in observed["journal"] if age <= UNRESOLVED_AGE]
    asked = [match.group(1) for match in matches if match]
    for address in sorted(set(asked) & there, key=ipaddress.IPv4Address):
        if asked.count(address) >= UNRESOLVED_TIMES:
            text = f"the engine did not learn on which host {address} is ({asked.count(address)} times lately)"
            yield found("journal_peer_unresolved", text, f'could not resolve peer "{address}"')


CHECKS_OF_A_HOST: tuple[Check, ...] = (
    check_engine,
    check_certificates,
    check_repair,
    check_tables,
    check_restart,
    check_threads,
    check_store,
    check_advertised,
    check_gossip,
    check_containers,
    check_leftovers,
    check_kernel,
    check_ports,
    check_journal,
    check_peers,
)
