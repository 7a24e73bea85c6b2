# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The seam to the key-value store behind a classic overlay: one class per kind of store, chosen by the engine's URL.

A class offers ``leader()``, ``nodes()``, ``networks()``, ``endpoints()`` and ``lock()``; nothing else of this
collection knows which store it is.
"""

from __future__ import annotations

from typing import Any, ContextManager, Mapping, NamedTuple, Protocol
from urllib.parse import urlsplit

DISCOVERY = "docker/nodes/"
LIBNETWORK = "docker/network/v1.0/"
LOCK = "docker/multihost-overlay/lock"
# Of cluster-store-opts: Docker speaks TLS to its store only with all three.
TLS_FILES = ("kv.cacertfile", "kv.certfile", "kv.keyfile")


class StoreError(Exception):
    """The store cannot be used; the message names it and the cure."""


class MissingPackageError(StoreError):
    """What this host needs to speak to the store is not installed."""


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


class UnreadStore:
    """Stands in for a store that cannot be read yet, in check mode only: it knows nothing, and locks nothing."""

    def __init__(self, url: StoreUrl) -> None:
        self.url = url

    def leader(self) -> str:
        """None is known."""
        return ""

    def nodes(self) -> list[str]:
        """None are known."""
        return []

    def networks(self) -> list[dict[str, Any]]:
        """None are known."""
        return []

    def endpoints(self) -> list[dict[str, Any]]:
        """None are known."""
        return []

    def lock(self, owner: str, wait: float) -> ContextManager[Any]:
        """Refused: what cannot be read must not be changed."""
        raise StoreError(f"the store at {self.url.host}:{self.url.port} cannot be locked for {owner} within {wait:g} s")


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
    if parsed.scheme == "consul":
        # Here and not above: the class needs this module.
        from ansible_collections.multihost.overlay.plugins.module_utils._store_consul import ConsulStore, make_client

        return ConsulStore(parsed, make_client(parsed, token, options or {}, timeout))
    raise StoreError(
        f"the engine's cluster-store is {url}, and this collection can only read stores of the kind consul://; "
        "use overlay_store_type consul, or look at this store with its own tools"
    )
