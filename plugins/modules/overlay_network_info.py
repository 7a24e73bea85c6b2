#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows overlay networks as this host sees them, and waits until it sees those that it must."""

from __future__ import annotations

DOCUMENTATION = r"""
module: overlay_network_info
short_description: Show overlay networks as this host sees them, and wait until it sees those that it must
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Asks the host's engine for networks by name. It never lists all networks, which takes seconds over a store.
  - With O(wait_for) it polls until the engine shows each of these networks under the id that was created, so that
    one task proves that all hosts share one network.
  - Needs nothing on the host but a running engine.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.info
attributes:
  check_mode:
    details: Changes nothing anyway. In check mode it does not wait, and an engine that is not there shows no network.
options:
  names:
    description: The networks to show, besides those of O(wait_for).
    type: list
    elements: str
    default: []
  wait_for:
    description:
      - Networks that the host must see, as a dictionary from name to id.
      - An empty id means any.
    type: dict
    default: {}
  timeout:
    description: Seconds to wait until all networks of O(wait_for) are seen; then the module fails and says what was
      seen instead.
    type: int
    default: 60
seealso:
  - module: multihost.overlay.overlay_network
"""

EXAMPLES = r"""
- name: Wait until each host sees the network that one host created
  multihost.overlay.overlay_network_info:
    wait_for:
      vnet1: "{{ created.id }}"
  register: networks

- name: Show who is on it
  ansible.builtin.debug:
    var: networks.networks.vnet1.containers
"""

RETURN = r"""
networks:
  description: The networks that were found, by name.
  type: dict
  returned: always
  contains:
    id:
      description: The network's id.
      type: str
      sample: 6a4b8e6f0e7bb2a3f9a3f8a97d4b3c1f54c33a4f2d54cb5f3c0f61d1d3b9a1c2
    driver:
      description: Its driver.
      type: str
      sample: overlay
    scope:
      description: V(global) when all hosts share it, V(local) when it is this host's alone.
      type: str
      sample: global
    subnet:
      description: Its subnet.
      type: str
      sample: 10.201.1.0/24
    gateway:
      description: Its gateway.
      type: str
      sample: 10.201.1.1
    ip_range:
      description: The part of the subnet that containers get addresses from.
      type: str
      sample: null
    mtu:
      description: The MTU that was asked for; null for Docker's default.
      type: int
      sample: null
    internal:
      description: Whether containers on it have no way out.
      type: bool
      sample: false
    attachable:
      description: Whether it is marked as attachable.
      type: bool
      sample: false
    encrypted:
      description: Whether encryption was asked for.
      type: bool
      sample: false
    labels:
      description: Its labels.
      type: dict
      sample: {}
    options:
      description: Its other driver options.
      type: dict
      sample: {}
    containers:
      description: Its endpoints on all hosts; those of other hosts come without
        RV(networks.containers[].container_id).
      type: list
      elements: dict
      contains:
        name:
          description: The endpoint's name, which is the container's.
          type: str
          sample: web1
        ipv4:
          description: Its address.
          type: str
          sample: 10.201.1.2
        mac:
          description: Its hardware address.
          type: str
          sample: 02:42:0a:c9:01:02
        endpoint_id:
          description: The endpoint's id.
          type: str
          sample: 34d5cf2a3c
        container_id:
          description: The container's id, null on other hosts.
          type: str
          sample: 9b1f5c
missing:
  description: Names that the host knows no network by.
  type: list
  elements: str
  returned: always
  sample: []
differs:
  description: Names whose network has another id than O(wait_for) says.
  type: list
  elements: str
  returned: always
  sample: []
ambiguous:
  description: Names that several networks have, with their ids.
  type: dict
  returned: always
  sample: {}
"""

import platform
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._network import duplicate_message, found_definition
from ansible_collections.multihost.overlay.plugins.module_utils._network_engine import (
    POLL,
    AmbiguousNetworkError,
    container_view,
    inspect,
)

ARGUMENTS = {
    "names": {"type": "list", "elements": "str", "default": []},
    "wait_for": {"type": "dict", "default": {}},
    "timeout": {"type": "int", "default": 60},
}


def describe(inspected: dict[str, Any]) -> dict[str, Any]:
    """One network as it is returned."""
    return {
        "id": inspected["Id"],
        "scope": inspected.get("Scope", ""),
        **found_definition(inspected),
        "containers": container_view(inspected),
    }


def classify(wait_for: dict[str, Any], seen: dict[str, Any]) -> dict[str, Any]:
    """Sort what was seen. ``seen`` has for each name the inspected network, None, or a list of ids."""
    networks = {name: describe(value) for name, value in seen.items() if isinstance(value, dict)}
    wrong = [name for name, wanted in wait_for.items() if wanted and networks.get(name, {}).get("id", wanted) != wanted]
    return {
        "networks": networks,
        "missing": sorted(name for name, value in seen.items() if value is None),
        "differs": sorted(wrong),
        "ambiguous": {name: value for name, value in seen.items() if isinstance(value, list)},
    }


def unmet(wait_for: dict[str, Any], result: dict[str, Any]) -> list[str]:
    """What is not as ``wait_for`` wants it, in words."""
    words = [duplicate_message(name, ids) for name, ids in sorted(result["ambiguous"].items())]
    words += [f"network {name} is not known here" for name in result["missing"] if name in wait_for]
    words += [
        f"network {name} is {result['networks'][name]['id']} (driver {result['networks'][name]['driver']}) here "
        f"and {wait_for[name]} where it was created"
        for name in result["differs"]
    ]
    return words


def observe(client: DockerClient, name: str) -> Any:
    """Ask the engine for one name: the network, None, or the ids of several."""
    try:
        return inspect(client, name)
    except AmbiguousNetworkError as exc:
        return exc.ids


def poll(client: DockerClient, params: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Observe until nothing is unmet or the time is over. An engine that restarts meanwhile is waited for too."""
    names = sorted({*params["names"], *params["wait_for"]})
    deadline = time.monotonic() + params["timeout"]
    while True:
        late = time.monotonic() >= deadline
        try:
            result = classify(params["wait_for"], {name: observe(client, name) for name in names})
            words = unmet(params["wait_for"], result) if params["wait_for"] else []
            if late or not words:
                return result, words
        except DockerError:
            if late or not params["wait_for"]:
                raise
        time.sleep(POLL)


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look once in check mode, else until all is seen."""
    params = dict(module.params)
    client = DockerClient(timeout=max(params["timeout"], 10))
    if module.check_mode:
        names = sorted({*params["names"], *params["wait_for"]})
        there = client.available()
        seen = {name: observe(client, name) if there else None for name in names}
        return {"changed": False, **classify(params["wait_for"], seen)}
    result, words = poll(client, params)
    if words:
        module.fail_json(
            msg=f"{platform.node()}: after {params['timeout']} s: {'; '.join(words)}. If other hosts see it, compare "
            "Cluster Store in `docker info` here and there: both must name the same store",
            **result,
        )
    return {"changed": False, **result}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except DockerError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc.message}", status=exc.status)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
