# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam to the key-value store behind a classic overlay: one class per kind of store, chosen by the engine's URL.

A class offers ``leader()``, ``nodes()``, ``networks()``, ``endpoints()`` and ``lock()``; nothing else of this
collection knows which store it is.
"""

from __future__ import annotations

import os
import time
from typing import Any, ContextManager, Mapping, NamedTuple, Protocol
from urllib.parse import urlsplit

DISCOVERY = "docker/nodes/"
LIBNETWORK = "docker/network/v1.0/"
LOCK = "docker/multihost-overlay/lock"
POLL = 0.25  # seconds
# Of cluster-store-opts: Docker speaks TLS to its store only with all three.
TLS_FILES = ("kv.cacertfile", "kv.certfile", "kv.keyfile")


class StoreError(Exception):
    """The store cannot be used; the message names it and the cure."""


class StoreUrl(NamedTuple):
    """The parts of a ``cluster-store`` URL."""

    scheme: str
    host: str
    port: int
    prefix: str

    def key(self, path: str) -> str:
        """Where ``path`` lies in a store whose URL carries a prefix."""
        return f"{self.prefix}/{path}" if self.prefix else path


class Store(Protocol):
    """What every store class offers."""

    url: StoreUrl

    def leader(self) -> str:
        """Address of the leader; empty when there is none."""

    def nodes(self) -> list[str]:
        """The advertised addresses of the engines that are registered."""

    def networks(self) -> list[dict[str, Any]]:
        """The networks, as `_store_content.networks` describes them."""

    def endpoints(self) -> list[dict[str, Any]]:
        """The endpoints, as `_store_content.endpoints` describes them."""

    def lock(self, owner: str, wait: float) -> ContextManager[Any]:
        """Hold the cluster-wide lock; the value's ``check()`` raises StoreError once it was lost."""


def parse_url(url: str) -> StoreUrl:
    """Take a ``scheme://host:port[/prefix]`` apart."""
    parts = urlsplit(url)
    if parts.scheme == "consul" and "," in parts.netloc:
        raise StoreError(f"{url}: Docker's consul client takes exactly one endpoint; name the agent on the host itself")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not parts.scheme or not host or port is None:
        raise StoreError(f"{url!r} is not the URL of a store; write for instance consul://127.0.0.1:8500")
    return StoreUrl(parts.scheme, host, port, parts.path.strip("/"))


def open_store(
    url: str, token: str | None = None, options: Mapping[str, str] | None = None, timeout: float = 15.0
) -> Store:
    """The store that ``url`` names; ``options`` are Docker's for it, ``timeout`` bounds each request to it, in seconds."""
    parsed = parse_url(url)
    if parsed.scheme != "consul":
        raise StoreError(
            f"the engine's cluster-store is {url}, and this collection can only read stores of the kind consul://; "
            "use overlay_store_type consul, or look at this store with its own tools"
        )
    # Here and not above: they need this module.
    from ansible_collections.multihost.overlay.plugins.module_utils._store_consul import Consul, ConsulStore
    from ansible_collections.multihost.overlay.plugins.module_utils._store_http import http_asker

    try:
        send = http_asker(url, options or {}, timeout)
    except OSError as exc:
        raise StoreError(f"the files of TLS for the store {url} cannot be read: {exc}") from exc
    return ConsulStore(parsed, Consul(parsed, send, token or os.environ.get("CONSUL_HTTP_TOKEN", "")))


def require_leader(store: Store) -> str:
    """The leader's address; StoreError where there is none."""
    leader = store.leader()
    if not leader:
        where = f"{store.url.host}:{store.url.port}"
        raise StoreError(f"the store at {where} has no leader: more than half of its servers must be up")
    return leader


def await_leader(store: Store, wait: float) -> str:
    """The same, as soon as there is one; StoreError with the last reason after ``wait`` seconds."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return require_leader(store)
        except StoreError:
            if time.monotonic() >= deadline:
                raise
        time.sleep(POLL)
