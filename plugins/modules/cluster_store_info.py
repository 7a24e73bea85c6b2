#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Shows what the key-value store of a classic overlay holds, and waits until the expected hosts are in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_store_info
short_description: Show what the store of a classic overlay holds, and wait until the expected hosts are in it
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads, from the store that the host's engine uses or from O(url), which engines are registered and which
    networks and endpoints exist, and compares the engines with O(expected_hosts).
  - Reads only what Docker wrote, changes nothing, and needs nothing installed on the host but Python.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.info
options:
  url:
    description:
      - The store, such as V(consul://127.0.0.1:8500).
      - Without it, the engine of this host is asked which store it uses.
    type: str
  expected_hosts:
    description:
      - The addresses that the engines should advertise, V(address:port) or V(address), which matches any port.
      - Without it nothing is compared.
    type: list
    elements: str
  wait:
    description:
      - Seconds to wait until the store has a leader and all of O(expected_hosts) are registered; then the module
        fails and names those that are missing.
      - With V(0) it looks once, and missing hosts are reported and no failure.
      - Ghosts are never waited for; an engine that ended leaves the store by itself after C(discovery.ttl), 60
        seconds by default.
    type: int
    default: 0
  token:
    description: Token for the store; without it E(CONSUL_HTTP_TOKEN) of the module's environment, if any.
    type: str
  store_options:
    description: >-
      Docker's C(cluster-store-opts). With all of C(kv.cacertfile), C(kv.certfile) and C(kv.keyfile), paths on the host, the store is asked
      over TLS, as Docker does.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Wait until all engines are in the store
  multihost.overlay.cluster_store_info:
    expected_hosts: "{{ groups['overlay_hosts'] | map('extract', overlay_addresses) }}"
    wait: 60
  # One agent answers for the whole store.
  run_once: true
"""

RETURN = r"""
url:
  description: The store.
  type: str
  returned: always
  sample: consul://127.0.0.1:8500
leader:
  description: Address of its leader.
  type: str
  returned: always
  sample: 10.88.0.11:8300
hosts:
  description: The addresses that engines advertise.
  type: list
  elements: str
  returned: always
  sample: ["10.88.0.11:2376", "10.88.0.12:2376"]
missing:
  description: Those of O(expected_hosts) that are not registered; null when nothing was expected.
  type: list
  elements: str
  returned: always
  sample: []
ghosts:
  description: Registered addresses that are not in O(expected_hosts); null when nothing was expected.
  type: list
  elements: str
  returned: always
  sample: []
networks:
  description: The networks in the store, sorted by name.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: The network's id.
      type: str
      sample: 6a4b8e6f0e7bb2a3f9a3f8a97d4b3c1f54c33a4f2d54cb5f3c0f61d1d3b9a1c2
    name:
      description: Its name.
      type: str
      sample: vnet1
    driver:
      description: Its driver.
      type: str
      sample: overlay
    subnets:
      description: Its subnets.
      type: list
      elements: str
      sample: [10.201.1.0/24]
    vnis:
      description: The VXLAN identifiers; empty until a container first joins.
      type: list
      elements: int
      sample: [256]
    mtu:
      description: The MTU that was asked for, 0 for the default; null without a record of the overlay driver.
      type: int
      sample: 0
    endpoints:
      description: How many endpoints it has.
      type: int
      sample: 3
duplicates:
  description: Names that several networks have, with their ids.
  type: dict
  returned: always
  sample: {}
endpoints:
  description: How many endpoints the store holds.
  type: int
  returned: always
  sample: 3
"""

import platform
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils import _store_content as content
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerClient, DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._network_engine import NetworkError, store_url
from ansible_collections.multihost.overlay.plugins.module_utils._store import (
    POLL,
    Store,
    StoreError,
    open_store,
    require_leader,
)

ARGUMENTS = {
    "url": {"type": "str"},
    "expected_hosts": {"type": "list", "elements": "str"},
    "wait": {"type": "int", "default": 0},
    "token": {"type": "str", "no_log": True},
    "store_options": {"type": "dict", "default": {}},
}


def hosts_view(store: Store, expected: list[str] | None) -> dict[str, Any]:
    """The leader and the registered engines, compared."""
    leader = require_leader(store)
    nodes = store.nodes()
    missing, ghosts = content.compare_hosts(nodes, expected) if expected is not None else (None, None)
    return {"leader": leader, "hosts": nodes, "missing": missing, "ghosts": ghosts}


def wait_for_hosts(store: Store, expected: list[str] | None, wait: float) -> dict[str, Any]:
    """Look until there is a leader and no expected host is missing, at most ``wait`` seconds."""
    deadline = time.monotonic() + wait
    while True:
        late = time.monotonic() >= deadline
        try:
            view = hosts_view(store, expected)
            if late or not view["missing"]:
                return view
        except StoreError:
            if late:
                raise
        time.sleep(POLL)


def content_view(store: Store) -> dict[str, Any]:
    """The networks with the number of their endpoints."""
    networks, endpoints = store.networks(), store.endpoints()
    for network in networks:
        network["endpoints"] = sum(endpoint["network_id"] == network["id"] for endpoint in endpoints)
    return {"networks": networks, "duplicates": content.duplicates(networks), "endpoints": len(endpoints)}


def run(module: AnsibleModule) -> dict[str, Any]:
    """Find the store, wait, read."""
    params = module.params
    url = params["url"] or store_url(DockerClient())
    store = open_store(url, params["token"], params["store_options"])
    hosts = wait_for_hosts(store, params["expected_hosts"], params["wait"])
    if params["wait"] and hosts["missing"]:
        module.fail_json(
            msg=f"{platform.node()}: after {params['wait']} s these engines are not registered in {url}: "
            f"{', '.join(hosts['missing'])}; registered are: {', '.join(hosts['hosts']) or 'none'}. Look at "
            "`journalctl -u docker` on them, and at cluster-advertise in their daemon.json",
            url=url,
            **hosts,
        )
    return {"changed": False, "url": url, **hosts, **content_view(store)}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (StoreError, NetworkError, DockerError) as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
