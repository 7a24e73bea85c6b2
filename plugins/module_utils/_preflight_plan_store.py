# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What lies between an engine and its store: (observed, wanted) -> findings. Pure; reads nothing."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Iterable, Mapping
from urllib.parse import urlsplit

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan_engine import current_store

# How the readers name the process as the place where something is set.
PROCESS = "the running dockerd"
STORE_IMAGE = re.compile(r"(^|/)(consul|etcd|zookeeper)([:@]|$)")

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]


def endpoint(url: str) -> tuple[str, int]:
    """Host and port of the first endpoint of a store's URL; port 0 when there is none."""
    parts = urlsplit(url.split(",")[0])
    try:
        return parts.hostname or "", parts.port or 0
    except ValueError:
        return parts.hostname or "", 0


def exempt(host: str, port: int, no_proxy: str) -> bool:
    """Whether Go's HTTP client asks ``host`` itself: loopback always, else what NO_PROXY lists."""
    if host == "localhost" or is_loopback(host):
        return True
    return any(matches(host, port, entry.strip().lower()) for entry in no_proxy.split(",") if entry.strip())


def matches(host: str, port: int, entry: str) -> bool:
    name, colon, entry_port = entry.partition(":")
    if colon and entry_port != str(port):
        return False
    if name == "*":
        return True
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(name, strict=False)
    except ValueError:
        suffix = name[1:] if name.startswith("*.") else name
        return host == suffix or host.endswith("." + suffix.lstrip("."))


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_proxy(observed: Observed, wanted: Observed) -> Findings:
    """ZooKeeper's client knows no proxy. A proxy's own URL is not shown: it may hold a password."""
    store = str(wanted["daemon_config"].get("cluster-store") or wanted["store_url"])
    host, port = endpoint(store)
    if not host or wanted["store_type"] == "zookeeper" or wanted["mode"] != "classic":
        return
    secure = bool((wanted["daemon_config"].get("cluster-store-opts") or {}).get("kv.cacertfile"))
    name = "HTTPS_PROXY" if secure else "HTTP_PROXY"
    for source, environment in sorted(environments(observed["engine"]["environment"]).items()):
        no_proxy = environment.get("NO_PROXY", ("", ""))[0]
        proxy, where = environment.get(name, ("", ""))
        if proxy and not exempt(host, port, no_proxy):
            yield found(
                "proxy_swallows_store",
                f"{name} in the environment of {source} catches its store at {host}",
                f"{name} is set in {where}; NO_PROXY is {no_proxy or 'not set'}",
            )


def environments(entries: list[dict[str, str]]) -> dict[str, dict[str, tuple[str, str]]]:
    """What the unit's files give dockerd; the process's own only where it has proxies that the files do not have."""
    unit = {
        entry["name"].upper(): (entry["value"], entry["source"])
        for entry in entries
        if not entry["source"].startswith(PROCESS)
    }
    process = {
        entry["name"].upper(): (entry["value"], entry["source"])
        for entry in entries
        if entry["source"].startswith(PROCESS)
    }
    found_in = {"docker.service": unit}
    if any(name.startswith("HTTP") and unit.get(name, ("", ""))[0] != process[name][0] for name in process):
        found_in["the running dockerd"] = process
    return found_in


def check_container_store(observed: Observed, wanted: Observed) -> Findings:
    """A store that is a container of the engine that needs it."""
    addresses = {entry["address"] for entry in observed["addresses"] or []}
    urls = [current_store(observed["engine"]), str(wanted["daemon_config"].get("cluster-store", ""))]
    local = {
        port
        for host, port in map(endpoint, filter(None, urls))
        if host in addresses or is_loopback(host) or host == "localhost"
    }
    for row in observed["engine"]["api"]["containers"]:
        if local & set(row["ports"]) or (local and row["host_network"] and STORE_IMAGE.search(row["image"])):
            yield found(
                "store_in_container",
                f"the store of this engine is its own container {row['name']}",
                f"container {row['name']}, image {row['image']}",
            )
