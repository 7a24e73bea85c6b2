# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts the readers together, and the facts that roles use out of what they read."""

from __future__ import annotations

import os
import time
from typing import Any, Callable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import read_all
from ansible_collections.multihost.overlay.plugins.module_utils._consul_host import consul_version, read_consul
from ansible_collections.multihost.overlay.plugins.module_utils._owned_files import read_owned
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_classic import docker_bridges, read_classic
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_engine import (
    ClientFactory,
    read_engine,
    short_timeout_client,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_kernel import read_kernel
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_engine import swarm_active
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import (
    Reader,
    lacks_apparmor_parser,
    read_identity,
    read_network,
    read_packages,
    read_sysctl_settings,
    read_sysctls,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_system import (
    read_listeners,
    read_manifest,
    read_modules,
)
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_unit import SECRET

# Gossip of libnetwork: every engine in an overlay binds it.
GOSSIP_PORT = 7946
VXLAN_PORT = 4789
STORE_GOSSIP_PORT = 8301
NO_ENGINE: dict[str, Any] = {
    "installed": False,
    "running": False,
    "binary": "",
    "version": "",
    "backends": [],
    "podman": False,
    "flags": [],
    "unit_files": [],
    "api": {"answers": False, "info": {}, "containers": []},
    "environment": [],
    "stored_id": "",
    "stored_swarm": False,
    "daemon_json": {"exists": False, "error": "", "config": {}},
}


def guarded(reader: Reader, what: str, read: Callable[[], Any], default: Any) -> Any:
    """A reader that stumbles over a strange host leaves its default and an unreadable thing."""
    try:
        return read()
    except Exception as exc:
        reader.trouble(what, f"{type(exc).__name__}: {exc}")
        return default


def read_host(
    reader: Reader, wanted: Mapping[str, Any], make_client: ClientFactory = short_timeout_client
) -> dict[str, Any]:
    """Everything that the planner wants to know of this host."""
    nobody = {
        "distribution": {"id": "", "version": "", "codename": ""},
        "kernel": "",
        "hostname": "",
        "machine_id": "",
        "systemd": False,
        "init": "",
    }
    nowhere: dict[str, Any] = {"addresses": None, "routes": None, "interfaces": [], "resolvers": []}
    observed: dict[str, Any] = {"root": os.geteuid() == 0, "architecture": os.uname().machine, "now": time.time()}
    observed.update(guarded(reader, "the host's identity", lambda: read_identity(reader), nobody))
    observed.update(guarded(reader, "the host's network", lambda: read_network(reader), nowhere))
    ports = [*wanted["store_ports"], *wanted.get("engine_ports", []), *([GOSSIP_PORT] if wanted["docker_host"] else [])]
    udp = [port for port in wanted["store_ports"] if port == STORE_GOSSIP_PORT]
    udp += [VXLAN_PORT, GOSSIP_PORT] if wanted["docker_host"] else []
    networks = [str(entry.get("name")) for entry in wanted.get("networks", []) if entry.get("state") != "absent"]
    sections: list[tuple[str, Callable[[], Any], Any]] = [
        ("sysctl", lambda: read_sysctls(reader), {}),
        ("sysctl_settings", lambda: read_sysctl_settings(reader), []),
        ("kernel_modules", lambda: read_modules(reader, observed["kernel"]), {}),
        ("packages", lambda: read_packages(reader), {}),
        ("apparmor_parser_missing", lambda: lacks_apparmor_parser(reader), False),
        ("kernel_net", lambda: read_kernel(reader, observed, wanted), {}),
        ("listeners", lambda: read_listeners(reader, ports, udp), []),
        ("manifest", lambda: read_manifest(reader), {"roles": []}),
        ("certificates", read_all, {}),
        ("consul", read_consul, {"configured": True, "certified": True}),
        ("consul_version", lambda: consul_version(reader, observed["packages"]), ""),
        ("owned", read_owned, None),
        ("engine", lambda: read_engine(reader, make_client, networks), NO_ENGINE),
    ]
    for name, read, default in sections:
        observed[name] = guarded(reader, name, read, default)
    # Last: which store is to be asked, and at which interface to look, is known only now.
    observed["classic"] = guarded(
        reader, "the store and the interface", lambda: read_classic(reader, observed, wanted), {}
    )
    observed["unreadable"] = reader.unreadable
    return observed


def flag_facts(flags: list[dict[str, str]]) -> dict[str, str]:
    """Flag -> value, several values of one flag joined; values that may hold credentials are not shown."""
    facts: dict[str, str] = {}
    for entry in flags:
        value = "********" if entry["flag"] in SECRET else entry["value"]
        facts[entry["flag"]] = f"{facts[entry['flag']]},{value}" if entry["flag"] in facts else value
    return facts


def engine_facts(engine: Mapping[str, Any]) -> dict[str, Any]:
    info = engine["api"]["info"]
    return {
        "installed": engine["installed"],
        "running": engine["running"],
        "binary": engine["binary"],
        "version": engine["version"],
        "backends": engine["backends"],
        "id": str(info.get("ID") or engine["stored_id"]),
        "cluster_store": str(info.get("ClusterStore") or ""),
        "cluster_advertise": str(info.get("ClusterAdvertise") or ""),
        "live_restore": bool(info.get("LiveRestoreEnabled", False)),
        "log_driver": str(info.get("LoggingDriver", "")),
        "containers_running": int(info.get("ContainersRunning") or 0),
        "swarm": swarm_active(engine),
        "networks": list(engine["api"].get("networks", [])),
        "flags": flag_facts(engine["flags"]),
    }


def host_facts(observed: Mapping[str, Any]) -> dict[str, Any]:
    """The fact overlay_host_facts: what later roles need, so that they need not look again."""
    facts = {
        name: observed[name]
        for name in (
            "distribution",
            "architecture",
            "kernel",
            "hostname",
            "machine_id",
            "sysctl",
            "kernel_modules",
            "packages",
            "apparmor_parser_missing",
        )
    }
    addresses = [entry["address"] for entry in observed["addresses"] or [] if not entry["address"].startswith("127.")]
    return dict(
        facts,
        addresses=addresses,
        bridges=docker_bridges(observed["addresses"] or []),
        # A host that joins is let in by the others only after preflight: who probes the paths before has to know.
        firewall=observed["kernel_net"].get("firewall", {"loaded": False, "peers": []}),
        certificates=observed["certificates"],
        consul=observed["consul"],
        consul_version=observed["consul_version"],
        owned=observed["owned"],
        engine=engine_facts(observed["engine"]),
    )
