#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates, compares, recreates or removes one overlay network of the cluster."""

from __future__ import annotations

DOCUMENTATION = r"""
module: overlay_network
short_description: Create, compare, recreate or remove one overlay network of the cluster
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Manages one overlay network of Docker's classic mode, where engines share their networks through a key-value
    store.
  - Run it on one host; the network then exists on all. M(multihost.overlay.overlay_network_info) waits until each
    host sees it.
  - Docker cannot change a network. What differs from the wanted definition is reported exactly, and the network is
    recreated only with O(recreate=true), and never while containers of any host are attached, unless O(force=true).
  - Stopped containers hold no endpoint in the store. Those of the host that runs the module are looked for and
    count as attached; those of other hosts cannot be seen from here, and could not start again after the network
    was removed.
  - Docker lets two engines create two networks of one name at the same time, and then neither can be used. This
    module holds a lock in the store while it looks and creates, and names such duplicates where they exist already.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
attributes:
  check_mode:
    details: On a host whose engine is not installed, or has no store yet, it reports that it would create the
      network.
options:
  name:
    description: Name of the network.
    type: str
    required: true
  state:
    description:
      - V(present) makes sure that the network exists as described.
      - V(absent) removes it; its other options are not compared then. A network that is not there is fine.
    type: str
    choices: [present, absent]
    default: present
  subnet:
    description:
      - IPv4 network in CIDR notation. Without it Docker takes the next free one of 10.0.0.0/8, and what it took is
        not compared.
      - Containers can only have addresses of their own choice on a network whose subnet was given.
      - One that overlaps the subnet of another network in the store is an error.
    type: str
  gateway:
    description: Address of the gateway in O(subnet). Without it Docker chooses, and what it chose is not compared.
    type: str
  ip_range:
    description: Part of O(subnet), in CIDR notation, that containers get their addresses from.
    type: str
  mtu:
    description:
      - MTU of the underlay that the network is made for. Docker's driver takes the 50 bytes of VXLAN off it, so that
        containers get an interface with 50 less. Without it, O(underlay_mtu) or else Docker's default, 1500.
      - Compared with an existing network only if it is given.
    type: int
  underlay_mtu:
    description:
      - The same for a network that is created or recreated and has no O(mtu). It is never compared, so that an underlay
        that changes recreates nothing.
    type: int
  internal:
    description: Whether containers on it have no way out of the network.
    type: bool
    default: false
  attachable:
    description: Marks the network as attachable. In classic mode every container can attach to every network anyway.
    type: bool
    default: false
  encrypted:
    description:
      - Refused when true. Docker's classic mode accepts it at creation, and then every container fails to join.
    type: bool
    default: false
  labels:
    description: The network's labels, all of them; others on the network are a difference.
    type: dict
    default: {}
  options:
    description: The driver's options, all of them, except those that have an option of their own here.
    type: dict
    default: {}
  recreate:
    description: Allows to remove and create the network if it differs.
    type: bool
    default: false
  force:
    description:
      - Allows to disconnect attached containers before the network is removed or recreated, those of other hosts too.
      - It does not connect them again. One of another host keeps an interface that leads nowhere, and cannot
        restart until C(docker network disconnect -f NETWORK CONTAINER) was run there.
    type: bool
    default: false
  timeout:
    description: Seconds to wait for the engine's answers, for the lock, and for the host to see the new network,
      each.
    type: int
    default: 60
  token:
    description: Token for the store; without it E(CONSUL_HTTP_TOKEN) of the module's environment, if any.
    type: str
  store_options:
    description: >-
      Docker's C(cluster-store-opts). With all of C(kv.cacertfile), C(kv.certfile) and C(kv.keyfile), paths on the host, the store is asked
      over TLS, as Docker does.
    type: dict
    default: {}
seealso:
  - module: multihost.overlay.overlay_network_info
  - module: multihost.overlay.cluster_store_info
"""

EXAMPLES = r"""
- name: Create a network on all hosts
  multihost.overlay.overlay_network:
    name: vnet1
    subnet: 10.201.1.0/24
    gateway: 10.201.1.1
  # One engine creates it, and the store tells the others.
  run_once: true
  register: created

- name: Wait until each host sees it
  multihost.overlay.overlay_network_info:
    wait_for:
      vnet1: "{{ created.id }}"

- name: Remove a network, unless containers are attached
  multihost.overlay.overlay_network:
    name: vnet1
    state: absent
  run_once: true
"""

RETURN = r"""
name:
  description: Name of the network.
  type: str
  returned: always
  sample: vnet1
id:
  description: Its id; empty when it does not exist, or would only be created.
  type: str
  returned: always
  sample: 6a4b8e6f0e7bb2a3f9a3f8a97d4b3c1f54c33a4f2d54cb5f3c0f61d1d3b9a1c2
action:
  description: What was done, or would be in check mode.
  type: str
  returned: always
  sample: create
differences:
  description: In what an existing network differs from the definition; also with the failure that says so.
  type: list
  elements: dict
  returned: always
  contains:
    key:
      description: The option.
      type: str
      sample: mtu
    wanted:
      description: What the definition says.
      type: raw
      sample: 1400
    found:
      description: What the engine says.
      type: raw
      sample: null
network:
  description: The network's definition as it is, or would be; null when it does not exist.
  type: dict
  returned: always
  sample:
    driver: overlay
    subnet: 10.201.1.0/24
    gateway: 10.201.1.1
    ip_range: null
    mtu: null
    internal: false
    attachable: false
    encrypted: false
    labels: {}
    options: {}
attached:
  description: Names of the containers, of any host, that hold on to the network; looked up only if it would be
    removed.
  type: list
  elements: str
  returned: always
  sample: [web1]
ids:
  description: The ids of all networks of the name.
  type: list
  elements: str
  returned: on failure because there are several
  sample: [6a4b8e6f0e7b, 0c1d2e3f4a5b]
message:
  description: Why check mode cannot say more, where that is so.
  type: str
  returned: when the engine, its store or the store's package is not there yet in check mode
  sample: the engine is not installed or does not run yet
"""

import os
import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._network import (
    after_definition,
    found_definition,
    made_definition,
    problems_of,
    wanted_definition,
)
from ansible_collections.multihost.overlay.plugins.module_utils._network_apply import View, converge
from ansible_collections.multihost.overlay.plugins.module_utils._network_engine import NetworkError, store_url
from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError, open_store

ARGUMENTS = {
    "name": {"type": "str", "required": True},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "subnet": {"type": "str"},
    "gateway": {"type": "str"},
    "ip_range": {"type": "str"},
    "mtu": {"type": "int"},
    "underlay_mtu": {"type": "int"},
    "internal": {"type": "bool", "default": False},
    "attachable": {"type": "bool", "default": False},
    "encrypted": {"type": "bool", "default": False},
    "labels": {"type": "dict", "default": {}},
    "options": {"type": "dict", "default": {}},
    "recreate": {"type": "bool", "default": False},
    "force": {"type": "bool", "default": False},
    "timeout": {"type": "int", "default": 60},
    "token": {"type": "str", "no_log": True},
    "store_options": {"type": "dict", "default": {}},
}


class NotYetError(Exception):
    """In check mode: what the network needs is not there yet."""


def engine_store(client: DockerClient, check_mode: bool) -> str:
    """The URL of the engine's store. An earlier role of the same run brings both, so check mode does without."""
    if check_mode and not client.available():
        raise NotYetError("the engine is not installed or does not run yet")
    try:
        return store_url(client)
    except NetworkError as exc:
        if check_mode:
            raise NotYetError(str(exc)) from exc
        raise


def bare_result(params: dict[str, Any], message: str) -> dict[str, Any]:
    """What check mode says of a host that has no engine or no store yet."""
    changed = params["state"] == "present"
    network = made_definition(params) if changed else None
    return {
        "changed": changed,
        "name": params["name"],
        "id": "",
        "action": "create" if changed else "none",
        "differences": [],
        "attached": [],
        "network": network,
        "message": message,
        "diff": {"before": {}, "after": network or {}},
    }


def result_of(params: dict[str, Any], view: View, after: dict[str, Any] | None, check_mode: bool) -> dict[str, Any]:
    """What the module returns, from the look before and the network after."""
    action = view.plan.action
    if check_mode and action != "none":
        definition = None if action == "remove" else after_definition(made_definition(params), view.found)
        identifier = ""
    else:
        definition = found_definition(after) if after else None
        identifier = after["Id"] if after else ""
    return {
        "changed": action != "none",
        "name": params["name"],
        "id": identifier,
        "action": action,
        "differences": view.plan.differences,
        "attached": [item["name"] for item in view.held],
        "network": definition,
        "diff": {"before": view.found or {}, "after": definition or {}},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Validate, find the store, converge."""
    params = module.params
    problems = problems_of(wanted_definition(params)) if params["state"] == "present" else []
    if problems:
        raise NetworkError(f"network {params['name']}: " + "; ".join(problems))
    client = DockerClient(timeout=params["timeout"])
    try:
        url = engine_store(client, module.check_mode)
    except NotYetError as exc:
        return bare_result(params, str(exc))
    store = open_store(url, params["token"], params["store_options"])
    owner = f"{platform.node()} pid {os.getpid()}, network {params['name']}"
    view, after, warning = converge(client, store, params, owner, module.check_mode)
    if warning:
        module.warn(warning)
    return result_of(params, view, after, module.check_mode)


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except NetworkError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}", **exc.details)
    except StoreError as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    except DockerError as exc:
        module.fail_json(msg=f"{platform.node()}: network {module.params['name']}: {exc.message}", status=exc.status)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
