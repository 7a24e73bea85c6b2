# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asks Consul for what a backup needs, and gives it back: the calls, not what they mean."""

from __future__ import annotations

import base64
import json
import time
from typing import Any, Callable, Dict, List, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils import _backup as plan
from ansible_collections.multihost.overlay.plugins.module_utils import _snapshot
from ansible_collections.multihost.overlay.plugins.module_utils._consul_acl import YOUNG
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError

Json = Dict[str, Any]
POLL = 0.5
# A snapshot of the bound's size is written by all servers before Consul answers.
PATIENCE = 60
ATTEMPTS = 5


def patiently(ask: Callable[[], Any], wait: float) -> Any:
    """A server that has just taken a snapshot over has no leader, and then no tokens, for a moment."""
    deadline = time.monotonic() + wait
    while True:
        try:
            return ask()
        except ConsulError as exc:
            if exc.status not in (0, *YOUNG) or time.monotonic() >= deadline:
                raise
        time.sleep(POLL)


def rows_of(consul: Consul, prefix: str) -> List[Json]:
    """Docker's keys at one moment, as a quorum knows them."""
    folder = f"{prefix}/{plan.DOCKER}" if prefix else plan.DOCKER
    try:
        return plan.stripped(consul.ask("GET", f"kv/{folder}?recurse&consistent") or [], prefix)
    except ConsulError as exc:
        if exc.status == 404:
            return []
        raise


def agent(consul: Consul) -> Json:
    """Version and datacenter; empty where the token may not ask."""
    try:
        config = consul.ask("GET", "agent/self")["Config"]
        return {"version": str(config["Version"]), "datacenter": str(config["Datacenter"])}
    except ConsulError as exc:
        if exc.status in (401, 403):
            return {"version": "", "datacenter": ""}
        raise


def foreign_keys(consul: Consul) -> int:
    """How many keys are not Docker's, and go with a restore of everything."""
    try:
        keys: List[str] = consul.ask("GET", "kv/?keys")
    except ConsulError as exc:
        if exc.status == 404:
            return 0
        raise
    return sum(not key.startswith(plan.DOCKER) for key in keys)


def take_all(consul: Consul, prefix: str) -> Json:
    """A snapshot, and the networks that are in it: it is taken again if one came or went meanwhile."""
    before = plan.inventory(rows_of(consul, prefix))
    for _attempt in range(ATTEMPTS):
        data = consul.send("GET", "snapshot", timeout=PATIENCE)
        after = plan.inventory(rows_of(consul, prefix))
        if plan.networks_alone(before) == plan.networks_alone(after):
            meta = _snapshot.check(data)
            return {"networks": before, "content": base64.b64encode(data).decode(), **meta}
        before = after
    raise ConsulError("networks come and go so fast that no snapshot could be taken between: try again in a while", 0)


def take_docker(consul: Consul, prefix: str) -> Json:
    """Docker's keys."""
    rows = rows_of(consul, prefix)
    text = json.dumps(plan.lasting(rows))
    if len(text) > _snapshot.MOST_BYTES:
        raise ConsulError(f"docker/ has {len(text)} bytes, and {_snapshot.MOST_BYTES} is the most that is taken", 0)
    index = max((row["ModifyIndex"] for row in rows), default=0)
    return {"networks": plan.inventory(rows), "content": text, "index": index, "bytes": len(text)}


def put_all(consul: Consul, content: str, wait: float) -> None:
    """Replace everything in this Consul, and let its catalog know the members that live."""
    data = base64.b64decode(content)
    _snapshot.check(data)
    consul.send("PUT", "snapshot", data, timeout=PATIENCE)
    patiently(lambda: rows_of(consul, ""), wait)
    patiently(lambda: put_members(consul), wait)


def put_members(consul: Consul) -> None:
    """Hosts of before leave the catalog; with them go their sessions, which would keep engines in the store that are no more."""
    members = consul.ask("GET", "agent/members")
    gone = plan.strangers(consul.ask("GET", "catalog/nodes?consistent"), members)
    for name in gone:
        consul.ask("PUT", "catalog/deregister", {"Node": name})
    for body in plan.registrations(members, gone):
        consul.ask("PUT", "catalog/register", body)


def put_docker(consul: Consul, content: str, prefix: str) -> int:
    """Bring Docker's keys to what they were; the number of keys that changed."""
    steps = list(plan.operations(json.loads(content), rows_of(consul, prefix), prefix))
    done = 0
    for batch in plan.batches(steps):
        try:
            consul.ask("PUT", "txn", batch)
        except ConsulError as exc:
            if exc.status != 409:
                raise
            raise ConsulError(
                f"{done} of {len(steps)} keys are restored; then somebody had changed one meanwhile ({exc}). Run it again",
                409,
            ) from exc
        done += len(batch)
    return done


def due_docker(consul: Consul, content: str, prefix: str) -> int:
    """The number of keys that would change."""
    return len(list(plan.operations(json.loads(content), rows_of(consul, prefix), prefix)))


def compare(saved: Sequence[Json], live: Sequence[Json]) -> Json:
    """As the module returns it."""
    found = plan.compare_rows(saved, live)
    return {"added": found.gone, "removed": found.back, "changed": found.changed, "keys": len(plan.lasting(saved))}
