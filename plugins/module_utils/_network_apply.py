# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks at one network through the engine and the store, and carries out the plan under the store's lock."""

from __future__ import annotations

from typing import Any, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils import _network as net
from ansible_collections.multihost.overlay.plugins.module_utils import _network_engine as engine
from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._store import Store


class View(NamedTuple):
    """One look at a network, and what follows from it."""

    inspected: dict[str, Any] | None
    found: dict[str, Any] | None
    held: list[dict[str, Any]]
    plan: net.Plan


def look(client: DockerClient, store: Store, params: dict[str, Any]) -> View:
    """Read the network and plan; duplicates and overlaps are errors at once."""
    name = params["name"]
    stored = store.networks()
    ids = content.same_name(stored, name)
    if len(ids) > 1:
        raise engine.AmbiguousNetworkError(name, ids)
    inspected = engine.inspect(client, name)
    found = net.found_definition(inspected) if inspected else None
    held = []
    if inspected and net.plan(params, found, []).action != "none":
        held = net.attached(inspected, store.endpoints(), engine.stopped_containers(client, inspected["Id"]))
    decided = net.plan(params, found, held)
    others = net.overlaps(name, params["subnet"], stored) if decided.action in ("create", "recreate") else []
    if others:
        raise engine.NetworkError(
            f"the subnet {params['subnet']} of network {name} overlaps that of {', '.join(others)}: choose another, "
            "or remove the other network"
        )
    return View(inspected, found, held, decided)


def _look_allowed(client: DockerClient, store: Store, params: dict[str, Any]) -> View:
    view = look(client, store, params)
    if view.plan.refusal:
        held = [item["name"] for item in view.held]
        raise engine.NetworkError(view.plan.refusal, differences=view.plan.differences, attached=held)
    return view


def _restore(client: DockerClient, name: str, found: dict[str, Any], reason: str) -> None:
    """A recreate must not end with no network at all: the old definition comes back under a new id."""
    try:
        engine.create(client, net.create_body(name, found))
    except DockerError as exc:
        raise engine.NetworkError(
            f"network {name} was removed, and Docker refuses the new one ({reason}) and also the "
            f"old one ({exc.message}): create it by hand"
        ) from exc
    raise engine.NetworkError(f"Docker refuses the new definition of network {name}: {reason}. The old one is back")


def apply(client: DockerClient, store: Store, params: dict[str, Any], view: View) -> tuple[dict[str, Any] | None, str]:
    """Carry out ``view.plan``; return the network as it is then, and Docker's warning."""
    name = params["name"]
    if view.inspected:
        engine.remove(client, view.inspected["Id"], view.held)
        if view.plan.action == "remove":
            return None, ""
    body = net.create_body(name, net.made_definition(params))
    body["Labels"] = {**body["Labels"], **net.OURS}
    try:
        network_id, warning = engine.create(client, body)
    except DockerError as exc:
        if view.found:
            _restore(client, name, view.found, exc.message)
        raise
    ids = content.same_name(store.networks(), name)
    if len(ids) > 1:
        # Someone created it past the lock, for instance by hand.
        raise engine.AmbiguousNetworkError(name, ids)
    return engine.wait_for(client, name, network_id, params["timeout"]), warning


def converge(
    client: DockerClient, store: Store, params: dict[str, Any], owner: str, check_mode: bool
) -> tuple[View, dict[str, Any] | None, str]:
    """Look; if something is to be done, take the lock, look again, do it."""
    view = _look_allowed(client, store, params)
    if view.plan.action == "none" or check_mode:
        return view, view.inspected, ""
    with store.lock(owner, params["timeout"]) as lock:
        # Another run may have done it, or a container may have come, while we waited.
        view = _look_allowed(client, store, params)
        if view.plan.action == "none":
            return view, view.inspected, ""
        lock.check()
        after, warning = apply(client, store, params, view)
    return view, after, warning
