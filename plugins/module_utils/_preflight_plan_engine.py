# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the Docker engine of a host means for an overlay: (observed, wanted) -> findings. Pure; reads nothing."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_unit import SECRET

# Upstream removed cluster-store in this version.
CLASSIC_END = 23
ALL = ("consul", "etcd", "zk")
# distribution's version -> (engine, backends): what was read off the packages' binaries.
DISTRIBUTION_ENGINES = {"11": ("20.10.5", ALL), "12": ("20.10.24", ("etcd", "zk")), "13": ("26.1.5", ())}
# Docker's own packages of 20.10 exist for Debian 11; for later releases it begins after the end of classic mode.
DOCKER_CE_RELEASES = ("11",)
# Keys of daemon.json whose flag has another name.
FLAG_NAMES = {
    "hosts": "host",
    "labels": "label",
    "cluster-store-opts": "cluster-store-opt",
    "storage-opts": "storage-opt",
    "log-opts": "log-opt",
    "exec-opts": "exec-opt",
    "insecure-registries": "insecure-registry",
    "registry-mirrors": "registry-mirror",
    "authorization-plugins": "authorization-plugin",
    "default-address-pools": "default-address-pool",
    "default-ulimits": "default-ulimit",
    "node-generic-resources": "node-generic-resource",
    "dns-opts": "dns-opt",
    "graph": "data-root",
}
# dockerd merges this one.
MERGED_KEYS = ("runtimes",)
DAEMON_JSON = "/etc/docker/daemon.json"

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


def backend_of(store_type: str) -> str:
    return {"zookeeper": "zk"}.get(store_type, store_type)


def major(version: str) -> int:
    return int(version.split(".")[0]) if version else 0


def serves(engine: Observed, wanted: Observed) -> bool:
    """Whether the installed engine can do classic mode with the wanted store."""
    return major(engine["version"]) < CLASSIC_END and backend_of(wanted["store_type"]) in engine["backends"]


def swarm_state(engine: Observed) -> str:
    """The engine's state in a swarm; of an engine that does not answer, what its data directory tells."""
    if not engine["api"]["answers"]:
        return "active when it last ran" if engine["stored_swarm"] else "inactive"
    return str((engine["api"]["info"].get("Swarm") or {}).get("LocalNodeState") or "inactive")


def swarm_active(engine: Observed) -> bool:
    return swarm_state(engine).startswith(("active", "pending", "locked"))


def current_store(engine: Observed) -> str:
    """The store in force, or the one that the next start would use."""
    flag = next((entry["value"] for entry in engine["flags"] if entry["flag"] == "cluster-store"), "")
    return str(
        engine["api"]["info"].get("ClusterStore") or engine["daemon_json"]["config"].get("cluster-store") or flag or ""
    )


def check_state(observed: Observed, _wanted: Observed) -> Findings:
    """What can be seen of the engine at all."""
    engine = observed["engine"]
    if engine["podman"]:
        yield found(
            "engine_is_podman", "Docker's socket belongs to podman", "/run/docker.sock is a link to podman.sock"
        )
    if engine["installed"] and not engine["running"]:
        yield found(
            "engine_stopped", "Docker is installed and does not run", f"{engine['binary']} {engine['version']}".strip()
        )
    if engine["running"] and not engine["api"]["answers"]:
        yield found("engine_silent", "dockerd runs and does not answer on its socket", "/var/run/docker.sock")


def check_installed(observed: Observed, wanted: Observed) -> Findings:
    """An engine that is there serves the mode; it is never swapped unasked."""
    engine, install = observed["engine"], wanted["docker_install"]
    if not engine["installed"] or wanted["mode"] != "classic" or serves(engine, wanted):
        return
    backends = ", ".join(engine["backends"]) or "none"
    evidence = f"{engine['binary']} {engine['version'] or '(version unknown)'}, backends: {backends}"
    if install in ("docker_ce", "archive"):
        running = engine["api"]["info"].get("ContainersRunning", 0)
        yield found(
            "engine_replaced",
            f"Docker {engine['version']} does not serve classic mode over {wanted['store_type']} and is replaced "
            f"({install}); {running} containers run on it",
            evidence,
        )
    elif major(engine["version"]) >= CLASSIC_END:
        yield found("engine_too_new", f"Docker {engine['version']} has no classic mode any more", evidence)
    else:
        yield found(
            "engine_backend_missing",
            f"Docker {engine['version']} was built without the backend {wanted['store_type']}",
            evidence,
        )


def check_planned(observed: Observed, wanted: Observed) -> Findings:
    """On a bare host: the engine that would come serves the mode."""
    install, release = wanted["docker_install"], observed["distribution"]
    if observed["engine"]["installed"] or wanted["mode"] != "classic" or install == "archive":
        return
    evidence = f"{release['id']} {release['version']}, overlay_docker_install: {install}"
    known = release["id"] == "debian" and release["version"] in DISTRIBUTION_ENGINES
    if not known:
        yield found("engine_plan_unknown", "it is not known which engine this distribution would give", evidence)
    elif install == "docker_ce":
        if release["version"] not in DOCKER_CE_RELEASES:
            yield found("engine_unavailable", f"there is no docker-ce 20.10 for Debian {release['version']}", evidence)
    else:
        version, backends = DISTRIBUTION_ENGINES[release["version"]]
        if backend_of(wanted["store_type"]) not in backends:
            yield found(
                "engine_unavailable",
                f"Debian {release['version']} has Docker {version}, built without the backend {wanted['store_type']}",
                f"{evidence}; its backends: {', '.join(backends) or 'none'}",
            )


def check_swarm(observed: Observed, wanted: Observed) -> Findings:
    engine = observed["engine"]
    if wanted["mode"] == "classic" and swarm_active(engine):
        yield found("swarm_active", "this engine is part of a swarm", f"swarm: {swarm_state(engine)}")
    if wanted["mode"] == "swarm" and current_store(engine):
        yield found(
            "cluster_store_blocks_swarm", "this engine has a cluster store", f"cluster-store: {current_store(engine)}"
        )


def check_store_change(observed: Observed, wanted: Observed) -> Findings:
    present, ours = current_store(observed["engine"]), str(wanted["daemon_config"].get("cluster-store", ""))
    if wanted["mode"] == "classic" and present and ours and present != ours:
        yield found(
            "cluster_store_other",
            f"this engine uses the store {present}, and {ours} is wanted",
            f"cluster-store: {present}",
        )


def check_daemon_json(observed: Observed, _wanted: Observed) -> Findings:
    """The file can be merged into, and dockerd will accept it."""
    engine = observed["engine"]
    file = engine["daemon_json"]
    if file["error"]:
        yield found(
            "daemon_json_invalid", f"{DAEMON_JSON} is not valid: {file['error']}", f"{DAEMON_JSON}: {file['error']}"
        )
    options = file["config"].get("cluster-store-opts")
    bad = (
        sorted(key for key, value in options.items() if not isinstance(value, str)) if isinstance(options, dict) else []
    )
    if bad:
        yield found(
            "store_opts_not_strings",
            f"cluster-store-opts in {DAEMON_JSON} has values that are no strings: {', '.join(bad)}",
            ", ".join(f"{key}: {options[key]!r}" for key in bad),
        )
    for entry in engine["flags"]:
        if entry["flag"] == "config-file" and entry["value"] != DAEMON_JSON:
            yield found(
                "engine_config_elsewhere",
                f"dockerd reads {entry['value']}, not {DAEMON_JSON}",
                f"--config-file={entry['value']} in {entry['source']}",
            )


def flag_name(key: str) -> str:
    return FLAG_NAMES.get(key, key)


def value_of_flags(wanted_value: Any, values: list[str]) -> Any:
    """What repeated flags say, in the form that the value in daemon.json has."""
    if isinstance(wanted_value, bool):
        return values[-1].lower() in ("true", "1", "t")
    if isinstance(wanted_value, dict):
        return {value.partition("=")[0]: value.partition("=")[2] for value in values}
    if isinstance(wanted_value, list):
        return values
    return values[-1]


def resolved_advertise(value: Any, addresses: list[Mapping[str, Any]]) -> Any:
    """INTERFACE:PORT is the first address of the interface, as dockerd reads it."""
    name, colon, port = str(value).rpartition(":")
    first = next((entry["address"] for entry in addresses if entry["interface"] == name), None)
    return f"{first}:{port}" if colon and first else value


def shown(entry: Mapping[str, str]) -> str:
    """A flag's value for a report."""
    return "********" if entry["flag"] in SECRET else entry["value"]


def check_flags(observed: Observed, wanted: Observed) -> Findings:
    """Our settings, where they are flags already."""
    engine = observed["engine"]
    for key, value in wanted["daemon_config"].items():
        flags = [entry for entry in engine["flags"] if entry["flag"] == flag_name(key)]
        if not flags or value in ({}, []):
            continue
        actual = value_of_flags(value, [entry["value"] for entry in flags])
        if key == "cluster-advertise":
            actual = resolved_advertise(actual, observed["addresses"] or [])
        where = "; ".join(f"--{entry['flag']}={shown(entry)} in {entry['source']}" for entry in flags)
        same = actual == value or str(actual) == str(value)
        state = "as we want it" if same else "and differs from what we want"
        if not same and flag_name(key) not in SECRET:
            state += f": {value}"
        yield found(
            "engine_flag_same" if same else "engine_flag_conflict", f"{key} is set as a flag of dockerd, {state}", where
        )


def check_twice(observed: Observed, _wanted: Observed) -> Findings:
    """The user's own settings in both places: the running engine does not show it, its next start does."""
    engine = observed["engine"]
    for key in engine["daemon_json"]["config"]:
        sources = sorted({entry["source"] for entry in engine["flags"] if entry["flag"] == flag_name(key)})
        if sources and key not in MERGED_KEYS:
            yield found(
                "engine_key_twice",
                f"{key} is set in {DAEMON_JSON} and as a flag too: dockerd will not start with both",
                f"{DAEMON_JSON}: {key}; flag --{flag_name(key)} in {', '.join(sources)}",
            )
