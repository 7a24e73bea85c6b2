# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consul as the store. Works with python3-consul 0.7.1 as Debian packages it, and with its living fork py-consul."""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import traceback
from typing import Any, Callable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._store import (
    DISCOVERY,
    LIBNETWORK,
    LOCK,
    TLS_FILES,
    MissingPackageError,
    StoreError,
    StoreUrl,
)

try:
    import consul
    import requests
except ImportError:
    IMPORT_ERROR: str | None = traceback.format_exc()
else:
    IMPORT_ERROR = None

# The shortest that Consul takes with a margin: what a killed run leaves behind is gone within twice this time.
LOCK_TTL = 15
POLL = 0.25


def _failures() -> tuple[type[Exception], ...]:
    # KeyError: 0.7.1 looks for a header that a proxy or another service at that address does not send.
    return (consul.ConsulException, requests.RequestException, KeyError, ValueError)


def make_client(url: StoreUrl, token: str | None, options: Mapping[str, str], timeout: float) -> Any:
    """A client that cannot hang, goes through no proxy, speaks TLS where Docker does, and sends the token with every kind of request."""
    if IMPORT_ERROR:
        raise MissingPackageError(
            "the Python package consul is missing on this host: install python3-consul (Debian) "
            "or py-consul for the interpreter that Ansible uses there"
        )
    for name in ("CONSUL_HTTP_ADDR", "CONSUL_HTTP_SSL"):
        # They would win over the engine's own URL.
        os.environ.pop(name, None)
    authority, *pair = [options.get(name) for name in TLS_FILES]
    secure = bool(authority and all(pair))
    client = consul.Consul(
        host=url.host, port=url.port, scheme="https" if secure else "http", verify=authority if secure else True
    )
    session = client.http.session
    session.trust_env = False
    session.cert = tuple(pair) if secure else None
    # 0.7.1 knows no timeout, and sends its token only with some requests, in the URL, where it ends up in logs.
    session.request = functools.partial(session.request, timeout=timeout)
    token = token or os.environ.get("CONSUL_HTTP_TOKEN")
    client.token = None
    if token:
        session.headers["X-Consul-Token"] = token
    return client


class ConsulLock:
    """A cluster-wide lock: a session with a TTL that a thread renews, and a key that goes when the session does."""

    def __init__(self, client: Any, key: str, owner: str, wait: float) -> None:
        self.client = client
        self.key = key
        self.owner = owner
        self.wait = wait
        self.session = ""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> ConsulLock:
        deadline = time.monotonic() + self.wait
        self.session = self._new_session(deadline)
        try:
            while not self.client.kv.put(self.key, self.owner, acquire=self.session):
                if time.monotonic() >= deadline:
                    raise StoreError(self._held_message())
                time.sleep(POLL)
        except _failures() as exc:
            self._destroy()
            raise StoreError(f"the lock {self.key} cannot be taken in the store: {exc}") from exc
        except BaseException:
            self._destroy()
            raise
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        # Where that fails, the session's TTL does it; what was done under the lock must be reported, not this.
        with contextlib.suppress(*_failures()):
            entry = self.client.kv.get(self.key)[1]
            if entry and entry.get("Session") == self.session:
                # Deleted while held: a release by the session's end would make others wait for Consul's lock delay.
                self.client.kv.delete(self.key, cas=entry["ModifyIndex"])
        self._destroy()

    def check(self) -> None:
        """Raise StoreError if the lock is no longer ours: the store forgot it, or this process slept for long."""
        try:
            entry = self.client.kv.get(self.key, consistency="consistent")[1]
        except _failures() as exc:
            raise StoreError(f"the store no longer answers about the lock {self.key}: {exc}") from exc
        if not entry or entry.get("Session") != self.session:
            raise StoreError(f"the lock {self.key} was lost before anything was changed; run again")

    def _new_session(self, deadline: float) -> str:
        """A young agent is not registered yet and refuses sessions for a moment: ask again until ``deadline``."""
        while True:
            try:
                return str(
                    self.client.session.create(name="multihost-overlay", lock_delay=1, behavior="delete", ttl=LOCK_TTL)
                )
            except _failures() as exc:
                if time.monotonic() >= deadline or isinstance(exc, consul.ACLPermissionDenied):
                    raise StoreError(
                        f"Consul refuses a session, which the lock against simultaneous creates needs: {exc}. "
                        "Is there a leader, and may the token do session:write?"
                    ) from exc
            time.sleep(POLL)

    def _held_message(self) -> str:
        entry = self.client.kv.get(self.key)[1] or {}
        holder = (entry.get("Value") or b"nobody").decode("utf-8", "replace")
        return (
            f"another run holds the lock {self.key} in the store since before {self.wait:g} s: {holder}. Wait until it "
            f"ends; if it was killed, its lock goes by itself within {2 * LOCK_TTL} s"
        )

    def _renew(self) -> None:
        while not self._stop.wait(LOCK_TTL / 3):
            # The next one may work where this one fails; check() decides whether the lock is still held.
            self._try(self.client.session.renew)

    def _destroy(self) -> None:
        # Where that fails, the session ends by its TTL.
        self._try(self.client.session.destroy)

    def _try(self, function: Callable[[str], Any]) -> None:
        with contextlib.suppress(*_failures()):
            function(self.session)


class ConsulStore:
    """Docker's keys in one Consul."""

    def __init__(self, url: StoreUrl, client: Any) -> None:
        self.url = url
        self.client = client

    def _call(self, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        where = f"Consul at {self.url.host}:{self.url.port}"
        try:
            return function(*args, **kwargs)
        except _failures() as exc:
            if isinstance(exc, consul.ACLPermissionDenied):
                raise StoreError(f"{where} denies {what}: {exc}. Pass a token that may read docker/") from exc
            raise StoreError(f"{where} does not answer with {what}: {exc}. Look at `consul members` there") from exc

    def _pairs(self, path: str) -> list[tuple[str, bytes | None]]:
        key = self.url.key(path)
        items = self._call(f"the keys below {key}", self.client.kv.get, key, recurse=True)[1] or []
        return [(item["Key"], item["Value"]) for item in items]

    def leader(self) -> str:
        """Address of the leader; empty when there is none."""
        return self._call("its leader", self.client.status.leader) or ""

    def nodes(self) -> list[str]:
        """The advertised addresses of the engines that are registered."""
        return sorted(key.rsplit("/", 1)[-1] for key, value in self._pairs(DISCOVERY) if value)

    def networks(self) -> list[dict[str, Any]]:
        """The networks, as `_store_content.networks` describes them."""
        return content.networks(self._pairs(LIBNETWORK + "network/"), self._pairs(LIBNETWORK + "overlay/network/"))

    def endpoints(self) -> list[dict[str, Any]]:
        """The endpoints, as `_store_content.endpoints` describes them."""
        return content.endpoints(self._pairs(LIBNETWORK + "endpoint/"))

    def lock(self, owner: str, wait: float) -> ConsulLock:
        """Hold the cluster-wide lock."""
        return ConsulLock(self.client, self.url.key(LOCK), owner, wait)
