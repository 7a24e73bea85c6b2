# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the doctor's repairs: looks again, keeps what it is about to change, and leaves alone what has changed meanwhile."""

from __future__ import annotations

import base64
import json
import os
import time
from contextlib import suppress
from typing import Any, Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import (
    ENDPOINT,
    NAMESPACE,
    Step,
    can_disconnect,
    count_key,
    deletion,
    endpoint_key,
    exported,
    pool_keys,
    release,
    touched,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import NAMESPACES
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_store import prefix_of
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import make_directories, write_atomic
from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner
from ansible_collections.multihost.overlay.plugins.module_utils._store import LIBNETWORK
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import Sender

Observed = Mapping[str, Any]


class RepairError(Exception):
    """Why a step was not done."""


class Keys:
    """Raw keys of a Consul, below the folder that the store's URL names; nothing outside of docker/."""

    def __init__(self, url: str, token: str, send: Sender) -> None:
        self.prefix = prefix_of(url)
        self._token = token
        self._send = send

    def _call(self, path: str, body: bytes | None = None) -> Any:
        status, answer = self._send(path, self._token, body)
        if status == 404:
            return []
        if status != 200:
            raise RepairError(f"the store says HTTP {status}: {answer.decode('utf-8', 'replace')[:200]}")
        return json.loads(answer or b"null")

    def read(self, key: str) -> Mapping[str, Any] | None:
        """A key with its value, its flags and the index of its last change."""
        found = self._call(f"/v1/kv/{quote(self.prefix + key)}?consistent")
        return found[0] if found else None

    def below(self, name: str) -> list[Mapping[str, Any]]:
        """A key, or those of a folder."""
        found: list[Mapping[str, Any]] = self._call(f"/v1/kv/{quote(self.prefix + name)}?recurse&consistent")
        return found

    def transact(self, operations: Sequence[Mapping[str, Any]]) -> None:
        """All of it or nothing."""
        if not all(entry["KV"]["Key"].startswith(f"{self.prefix}docker/") for entry in operations):
            raise RepairError("a key outside of docker/ is not touched")
        self._call("/v1/txn", json.dumps(operations).encode())


def keep(folder: str, pairs: Sequence[Mapping[str, Any]], now: float, what: str = "doctor") -> str:
    """Write keys down, for root alone; the file's path."""
    make_directories(os.path.dirname(folder))
    with suppress(FileExistsError):
        os.mkdir(folder, 0o700)
    base = os.path.join(folder, time.strftime(f"{what}-%Y%m%dT%H%M%SZ", time.gmtime(now)))
    path, number = f"{base}.json", 1
    while os.path.exists(path):
        path, number = f"{base}-{number}.json", number + 1
    write_atomic(path, exported(pairs).encode(), 0o600)
    return path


def holders(path: str) -> list[str]:
    """Threads that are in a network namespace."""
    wanted, found = os.stat(path), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{pid}/task"):
                with suppress(OSError):
                    space = os.stat(f"/proc/{pid}/task/{thread}/ns/net")
                    if (space.st_dev, space.st_ino) == (wanted.st_dev, wanted.st_ino):
                        found.append(f"/proc/{pid}/task/{thread}")
    return found


class Repairer:
    """What the steps need."""

    def __init__(self, observed: Observed, client: Any, keys: Keys, run: Runner, namespaces: str = NAMESPACES) -> None:
        self.observed = observed
        self.client = client
        self.keys = keys
        self.run = run
        self.namespaces = namespaces
        self.kept: dict[str, Mapping[str, Any]] = {}

    def backup(self, steps: Iterable[Step], folder: str, now: float, what: str = "doctor") -> str:
        """Keep all keys that these steps change; '' if they change none."""
        pairs = [pair for name in touched(steps, self.observed) for pair in self.keys.below(name)]
        self.kept = {pair["Key"][len(self.keys.prefix) :]: pair for pair in pairs}
        mine = {endpoint_key(one) for one in steps if one["kind"] == ENDPOINT}
        endpoints = [pair for name, pair in self.kept.items() if name in mine]
        others = [pair for name, pair in self.kept.items() if name not in mine]
        if others:
            # Counts and addresses given out go on changing: they are kept to be looked at, apart from what can be put back.
            keep(folder, others, now, "counts")
        return keep(folder, endpoints, now, what) if endpoints else ""

    def _disconnect(self, one: Step) -> None:
        path = f"/networks/{quote(one['network_id'])}/disconnect"
        # What Docker refuses is done with the keys.
        with suppress(DockerError):
            self.client.post(path, {"Container": one["name"], "Force": True})

    def _is_only_one(self, one: Step) -> bool:
        """Whether no container has got this name on the network since it was looked at."""
        rows = self.keys.below(f"{LIBNETWORK}endpoint/{one['network_id']}/")
        names = [json.loads(base64.b64decode(row["Value"])).get("name") for row in rows if row.get("Value")]
        return names.count(one["name"]) == 1

    def _unchanged(self, one: Step) -> Mapping[str, Any] | None:
        """The endpoint's key as it was kept; None if it has gone."""
        now, before = self.keys.read(endpoint_key(one)), self.kept.get(endpoint_key(one))
        if now and (before is None or now["ModifyIndex"] != before["ModifyIndex"]):
            raise RepairError("it has changed meanwhile, and is left alone")
        return now

    def endpoint(self, one: Step) -> None:
        """Docker's own way first; then the keys, if they are as they were kept."""
        if self._unchanged(one) and can_disconnect(one, self.observed) and self._is_only_one(one):
            self._disconnect(one)
        pair = self._unchanged(one)
        if pair:
            self.keys.transact([*deletion(pair["Key"], pair, self.keys.read(count_key(one))), *self._release(one)])

    def _release(self, one: Step) -> list[dict[str, Any]]:
        """What gives the endpoint's address back, which Docker's own way has done already."""
        found = [(pair, bit) for name, bit in pool_keys(one, self.observed) for pair in self.keys.below(name)]
        return [operation for pair, bit in found for operation in release(pair, bit)]

    def namespace(self, one: Step) -> None:
        """Docker makes a new one when the network comes back, and removes what is left of the old one itself if it can."""
        path = os.path.join(self.namespaces, one["thing"])
        if not os.path.exists(path):  # Docker was faster
            return
        inside = holders(path)
        if inside:
            raise RepairError(f"{', '.join(inside[:3])} is in it: see lost_threads")
        status, _out, err = self.run(["umount", path])
        if status:
            raise RepairError(err.strip() or f"umount {path}: status {status}")
        os.unlink(path)

    def tunnel(self, one: Step) -> None:
        status, _out, err = self.run(["ip", "link", "delete", one["thing"]])
        if status:
            raise RepairError(err.strip() or f"ip link delete {one['thing']}: status {status}")

    def do(self, one: Step) -> dict[str, Any]:
        """One step; what stands in its way is said, and stops no other."""
        ways: dict[str, Callable[[Step], None]] = {ENDPOINT: self.endpoint, NAMESPACE: self.namespace}
        try:
            ways.get(one["kind"], self.tunnel)(one)
        except (RepairError, OSError, ValueError) as exc:
            return {**one, "done": False, "error": str(exc)}
        return {**one, "done": True, "error": ""}
