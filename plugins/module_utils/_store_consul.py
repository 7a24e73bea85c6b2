# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Consul as the store."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from typing import Any, Mapping
from urllib.parse import quote

from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._store import (
    DISCOVERY,
    LIBNETWORK,
    LOCK,
    POLL,
    StoreError,
    StoreUrl,
)
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import Sender

# The shortest that Consul takes with a margin: what a killed run leaves behind is gone within twice this time.
LOCK_TTL = 15
DENIED = (401, 403)


class DeniedError(StoreError):
    """The token may not do it: asking again is no use."""


class Consul:
    """One Consul, and the token that it is asked with."""

    def __init__(self, url: StoreUrl, send: Sender, token: str) -> None:
        self.where = f"Consul at {url.host}:{url.port}"
        self._send = send
        self._token = token

    def call(self, what: str, path: str, content_sent: bytes | None = None) -> Any:
        """One request, a PUT where something is sent. None where there is no such key."""
        status, body = self._send(f"/v1/{path}", self._token, content_sent)
        words = body.decode("utf-8", "replace").strip()
        if status == 404:
            return None
        if status in DENIED:
            raise DeniedError(f"{self.where} denies {what}: {words[:200]}. Pass a token that may read docker/")
        try:
            if status == 200:
                return json.loads(words)
        except ValueError:
            words = "something that Consul does not say"
        raise StoreError(f"{self.where} does not answer with {what}: {words[:200]}. Look at `consul members` there")

    def put(self, what: str, path: str, sent: Mapping[str, Any] | None = None) -> Any:
        """A request that changes something."""
        return self.call(what, path, b"" if sent is None else json.dumps(sent).encode())


class ConsulLock:
    """A cluster-wide lock: a session with a TTL that a thread renews, and a key that goes when the session does."""

    def __init__(self, consul: Consul, key: str, owner: str, wait: float) -> None:
        self.consul = consul
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
            while not self._acquire():
                if time.monotonic() >= deadline:
                    raise StoreError(self._held_message())
                time.sleep(POLL)
        except BaseException:
            self._session("destroy")
            raise
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop.set()
        self._thread.join()
        # Where that fails, the session's TTL does it; what was done under the lock must be reported, not this.
        with contextlib.suppress(StoreError):
            self._delete()
        self._session("destroy")

    def check(self) -> None:
        """Raise StoreError if the lock is no longer ours: the store forgot it, or this process slept for long."""
        if self._entry("?consistent").get("Session") != self.session:
            raise StoreError(f"the lock {self.key} was lost before anything was changed; run again")

    def _acquire(self) -> bool:
        path = f"kv/{quote(self.key)}?acquire={self.session}"
        return bool(self.consul.call(f"the lock {self.key}", path, self.owner.encode()))

    def _entry(self, how: str = "") -> dict[str, Any]:
        found = self.consul.call(f"the lock {self.key}", f"kv/{quote(self.key)}{how}")
        return found[0] if found else {}

    def _delete(self) -> None:
        """Deleted while held: a release by the session's end would make others wait for Consul's lock delay."""
        entry = self._entry()
        if entry.get("Session") == self.session:
            operation = {"Verb": "delete-cas", "Key": self.key, "Index": entry["ModifyIndex"]}
            self.consul.call("the lock's end", "txn", json.dumps([{"KV": operation}]).encode())

    def _new_session(self, deadline: float) -> str:
        """A young agent is not registered yet and refuses sessions for a moment: ask again until ``deadline``."""
        wanted = {"Name": "multihost-overlay", "LockDelay": "1s", "Behavior": "delete", "TTL": f"{LOCK_TTL}s"}
        while True:
            try:
                return str(self.consul.put("a session", "session/create", wanted)["ID"])
            except StoreError as exc:
                if time.monotonic() >= deadline or isinstance(exc, DeniedError):
                    raise StoreError(
                        f"Consul refuses a session, which the lock against simultaneous creates needs: {exc}. "
                        "Is there a leader, and may the token do session:write?"
                    ) from exc
            time.sleep(POLL)

    def _held_message(self) -> str:
        holder = base64.b64decode(self._entry().get("Value") or b"").decode("utf-8", "replace") or "nobody"
        return (
            f"another run holds the lock {self.key} in the store since before {self.wait:g} s: {holder}. Wait until it "
            f"ends; if it was killed, its lock goes by itself within {2 * LOCK_TTL} s"
        )

    def _renew(self) -> None:
        while not self._stop.wait(LOCK_TTL / 3):
            # The next one may work where this one fails; check() decides whether the lock is still held.
            self._session("renew")

    def _session(self, verb: str) -> None:
        # Where its end fails, it ends by its TTL.
        with contextlib.suppress(StoreError):
            self.consul.put("the session", f"session/{verb}/{self.session}")


class ConsulStore:
    """Docker's keys in one Consul."""

    def __init__(self, url: StoreUrl, consul: Consul) -> None:
        self.url = url
        self.consul = consul

    def _pairs(self, path: str) -> list[tuple[str, bytes | None]]:
        key = self.url.key(path)
        items = self.consul.call(f"the keys below {key}", f"kv/{quote(key)}?recurse") or []
        return [(item["Key"], base64.b64decode(item["Value"]) if item["Value"] else None) for item in items]

    def leader(self) -> str:
        """Address of the leader; empty when there is none."""
        return str(self.consul.call("its leader", "status/leader") or "")

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
        return ConsulLock(self.consul, self.url.key(LOCK), owner, wait)
