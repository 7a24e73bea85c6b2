#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes out of the store what the engine of another host has left there."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_store_forget
short_description: Take out of the store what the engine of a host that is gone has left there
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Removes that host's entry among the engines (C(docker/nodes)) and the endpoints of its containers, whose addresses are free afterwards.
    By way of this host's engine, which has to be in the same store; where that would take another container for it, with the keys.
  - Keys are written down first, below O(backup_dir) and for root alone, in the form of C(consul kv import). No key outside of C(docker/) is
    touched, and one that changes meanwhile is looked at again.
  - Only for a host that is off or has left. Of one that lives the addresses would be given out twice.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
options:
  address:
    description: The address under which the other engine advertises itself.
    type: str
    required: true
  store_token:
    description: Token that may write C(docker/) in the store. Without it the one of dockerd's environment, if any.
    type: str
    default: ""
  backup_dir:
    description: Where the keys are kept before they are changed.
    type: path
    default: /var/lib/multihost-overlay/backups
"""

EXAMPLES = r"""
- name: Forget the containers of a host that is gone
  multihost.overlay.cluster_store_forget:
    address: 10.88.0.14
  # One engine does it for all.
  run_once: true
"""

RETURN = r"""
nodes:
  description: The host's entries among the engines, as they were found.
  type: list
  elements: str
  returned: success
  sample: ["10.88.0.14:2376"]
endpoints:
  description: Its containers' endpoints, as they were found.
  type: list
  elements: dict
  returned: success
  sample: [{name: web, network: frontend, address: 10.100.20.2/24}]
backup:
  description: The file with the endpoints as they were; empty if there were none, or in check mode.
  type: str
  returned: success
  sample: /var/lib/multihost-overlay/backups/removed-20270101T120000Z.json
"""

import platform
import time
from typing import Any, Dict, List, Mapping

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import (
    known_networks,
    options_of,
    patient_client,
    read_containers,
    read_engine,
    token_of,
)
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_plan_store import names_of
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_repair import ENDPOINT, step
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_steps import Keys, Repairer, RepairError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_store import read_store
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._store import DISCOVERY
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import http_asker

ARGUMENTS: Dict[str, Any] = {
    "address": {"type": "str", "required": True},
    "store_token": {"type": "str", "default": "", "no_log": True},
    "backup_dir": {"type": "path", "default": "/var/lib/multihost-overlay/backups"},
}
# A key that another engine changes in that moment is looked at again.
ROUNDS = 5
Json = Dict[str, Any]


def plan(observed: Mapping[str, Any], address: str) -> List[Dict[str, str]]:
    """A step for each endpoint of that host."""
    names = names_of(observed["store"])
    return [
        step(
            ENDPOINT,
            row["id"],
            network_id=row["network_id"],
            network=names.get(row["network_id"], row["network_id"]),
            name=row["name"],
            address=row["ipv4"],
        )
        for row in observed["store"]["endpoints"]
        if row["host"] == address
    ]


def registered(observed: Mapping[str, Any], address: str) -> List[str]:
    """The host's entries among the engines; the port is only a label."""
    return [node for node in observed["store"]["nodes"] if node.rpartition(":")[0] == address]


def look(reader: Reader, token: str) -> Json:
    """The store as this host's engine has it, and what of this host must not be taken for the other's."""
    client = patient_client()
    engine = read_engine(reader, client)
    url = str(engine["info"].get("ClusterStore") or "")
    if not url:
        raise RepairError("the engine of this host is in no store, or does not answer: systemctl status docker")
    token = token or token_of(reader, engine["pid"])
    send = http_asker(url, options_of(engine))
    store = read_store(url, token, send)
    if store["state"] != "ok":
        raise RepairError(f"the store at {url} cannot be read ({store['state']}): {store['error']}")
    containers, complete = read_containers(reader, client)
    known = known_networks(reader, client, store, containers)
    observed = {"engine": engine, "store": store, "containers": containers, "complete": complete, "known": known}
    return {**observed, "repairer": Repairer(observed, client, Keys(url, token, send), run_program)}


def deregister(keys: Keys, nodes: List[str]) -> None:
    """Take the host's entries among the engines away, if they are as they were read."""
    for pair in keys.below(DISCOVERY):
        if str(pair["Key"]).rpartition("/")[2] in nodes:
            entry = {"Verb": "delete-cas", "Key": pair["Key"], "Index": pair["ModifyIndex"]}
            keys.transact([{"KV": entry}])


def forget(reader: Reader, params: Mapping[str, Any], observed: Json) -> str:
    """Round after round until nothing is left; where the keys of the first are kept."""
    address, backup = params["address"], ""
    for _round in range(ROUNDS):
        steps, nodes = plan(observed, address), registered(observed, address)
        if not steps and not nodes:
            return backup
        repairer: Repairer = observed["repairer"]
        kept = repairer.backup(steps, params["backup_dir"], time.time(), "removed")
        backup = backup or kept
        failed = [one["error"] for one in map(repairer.do, steps) if one["error"]]
        deregister(repairer.keys, nodes)
        observed = look(reader, params["store_token"])
    raise RepairError(
        f"the store still has {len(steps)} endpoints of {address}: {'; '.join(failed) or 'they came back'}"
    )


def run(module: AnsibleModule) -> Json:
    """Look, and forget."""
    reader, address = Reader(), module.params["address"]
    observed = look(reader, module.params["store_token"])
    steps, nodes = plan(observed, address), registered(observed, address)
    rows = [{name: one[name] for name in ("name", "network", "address")} for one in steps]
    backup = "" if module.check_mode else forget(reader, module.params, observed)
    lines = [f"engine {node}\n" for node in nodes]
    lines += [f"endpoint {row['name']} ({row['address']}) on {row['network']}\n" for row in rows]
    diff = {"before": "".join(lines), "after": "", "before_header": "the store", "after_header": "the store"}
    return {"changed": bool(lines), "nodes": nodes, "endpoints": rows, "backup": backup, "diff": diff}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (RepairError, OSError, ValueError) as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
