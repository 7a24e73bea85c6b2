#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lists a host's containers on overlay networks, and takes them off."""

from __future__ import annotations

DOCUMENTATION = r"""
module: overlay_containers
short_description: List a host's containers on overlay networks, and take them off
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Lists all containers of this host, running or stopped, that are on overlay networks of the store, with the commands that would connect
    them again as they are.
  - With O(state=absent) takes them off these networks. No container is stopped or removed.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
options:
  state:
    description: V(listed) changes nothing.
    type: str
    choices: [listed, absent]
    default: listed
  socket:
    description: Docker's socket.
    type: path
    default: /var/run/docker.sock
"""

EXAMPLES = r"""
- name: Take all containers of this host off the overlay networks
  multihost.overlay.overlay_containers:
    state: absent
"""

RETURN = r"""
containers:
  description: The containers as they were found.
  type: list
  elements: dict
  returned: success
  sample:
    - name: web
      id: 4c01db0b339c
      running: true
      networks: [frontend]
      back: ["docker network connect --ip 10.100.20.10 frontend web"]
"""

import platform
import shlex
from typing import Any, Dict, List, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError

ARGUMENTS: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["listed", "absent"], "default": "listed"},
    "socket": {"type": "path", "default": "/var/run/docker.sock"},
}
Json = Dict[str, Any]


def back(container: Mapping[str, Any], name: str, network: str) -> str:
    """The command that connects the container again as its user had it. The aliases that are its id and its name Docker makes itself."""
    settings = container["Details"].get(network) or {}
    address = (settings.get("IPAMConfig") or {}).get("IPv4Address")
    words = ["docker", "network", "connect", *(["--ip", address] if address else [])]
    for alias in settings.get("Aliases") or []:
        words += ["--alias", alias] if alias not in (name, container["Id"][:12]) else []
    return " ".join(map(shlex.quote, [*words, network, name]))


def name_of(container: Mapping[str, Any]) -> str:
    """Its name; links give a container more than one."""
    names = sorted(str(name).lstrip("/") for name in container.get("Names") or [] if str(name).count("/") == 1)
    return names[0] if names else str(container["Id"])


def described(container: Mapping[str, Any], overlays: Mapping[str, str]) -> Json:
    """What is told of a container; ``overlays`` has the id of each overlay network by its name."""
    name = name_of(container)
    networks = sorted(set(container["NetworkSettings"]["Networks"]) & set(overlays))
    return {
        "name": name,
        "id": container["Id"],
        "running": container["State"] in ("running", "paused", "restarting"),
        "networks": networks,
        "back": [back(container, name, network) for network in networks],
    }


def details(client: DockerClient, container: Mapping[str, Any], overlays: Mapping[str, str]) -> Json:
    """Its networks as it was told of them; the list leaves aliases out. Who is gone meanwhile has none."""
    if not set(container["NetworkSettings"]["Networks"]) & set(overlays):
        return {}
    try:
        inspected = client.get(f"/containers/{container['Id']}/json")
    except DockerError as exc:
        if exc.status != 404:
            raise
        return {}
    return dict(inspected["NetworkSettings"]["Networks"])


def overlays_of(client: DockerClient, containers: List[Json]) -> Dict[str, str]:
    """Name -> id of the overlay networks that some container is on: asked one by one, since a list of all takes seconds."""
    found = {}
    for name in sorted({name for entry in containers for name in entry["NetworkSettings"]["Networks"]}):
        try:
            network = client.get(f"/networks/{name}")
        except DockerError as exc:
            if exc.status != 404:  # of a network that is gone there is nothing to leave
                raise
            continue
        if network["Driver"] == "overlay":
            found[name] = network["Id"]
    return found


def take_off(client: DockerClient, container: Json, overlays: Mapping[str, str]) -> None:
    """In order; where Docker fails with that, by force. Who is off meanwhile is no failure."""
    for name in container["networks"]:
        path, body = f"/networks/{overlays[name]}/disconnect", {"Container": container["id"]}
        try:
            client.post(path, dict(body, Force=False))
        except DockerError as exc:
            if "is not connected" not in exc.message:
                client.post(path, dict(body, Force=True))


def run(params: Mapping[str, Any], check_mode: bool) -> Json:
    """List, and take off."""
    client = DockerClient(params["socket"])
    listed = client.get("/containers/json", {"all": True}) or []
    overlays = overlays_of(client, listed)
    rows = [described({**entry, "Details": details(client, entry, overlays)}, overlays) for entry in listed]
    containers = sorted((row for row in rows if row["networks"]), key=lambda row: row["name"])
    due = containers if params["state"] == "absent" else []
    for container in due if not check_mode else []:
        take_off(client, container, overlays)
    before = "".join(f"{row['name']}: {', '.join(row['networks'])}\n" for row in due)
    diff = {
        "before": before,
        "after": "",
        "before_header": "on overlay networks",
        "after_header": "on overlay networks",
    }
    return {"changed": bool(due), "containers": containers, "diff": diff}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module.params, module.check_mode)
    except DockerError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc.message}. Start the engine, or power the host off")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
