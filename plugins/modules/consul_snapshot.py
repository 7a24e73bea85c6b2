#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes what is backed up of a Consul, and puts it back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_snapshot
short_description: Take a snapshot of the store, put one back, or try one in a throwaway store
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Of a Consul that is the cluster's own, a snapshot of everything in it; of somebody else's only the keys below C(docker/).
  - What it takes and puts is secret. M(multihost.overlay.consul_backup) and M(multihost.overlay.consul_restore) call it, and keep the
    content on the controller, encrypted; in a playbook of your own register it with C(no_log).
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
    details: V(drilled) does nothing then, because it starts a program on the host.
  diff_mode:
    support: none
    details: What there is to be seen of it is in the result.
  idempotent:
    support: partial
    details: Putting back a snapshot of everything is always a change.
options:
  state:
    description:
      - V(read) looks what the store has.
      - V(taken) also returns O(content).
      - V(restored) puts O(content) back. Of O(scope=everything) it replaces all that is in that Consul.
      - V(drilled) starts a second Consul on the loopback address, puts O(content) there, compares it with the living one and takes it away.
    type: str
    choices: [read, taken, restored, drilled]
    default: read
  scope:
    description: V(everything) is a snapshot of Consul's, V(docker) the keys below C(docker/).
    type: str
    choices: [everything, docker]
    default: everything
  url:
    description: The store, as an engine names it.
    type: str
    default: consul://127.0.0.1:8500
  token:
    description: A token that manages Consul, or with O(scope=docker) one that may write below C(docker/).
    type: str
    default: ""
  store_options:
    description: Docker's C(cluster-store-opts), for a store that is asked over TLS.
    type: dict
    default: {}
  content:
    description: What was taken, base64 of an archive, or JSON of keys.
    type: str
    default: ""
  version:
    description: Version of the Consul that it was taken from. An older one is refused.
    type: str
    default: ""
  wait:
    description: Seconds until the store must answer again after it was restored.
    type: int
    default: 60
  program:
    description: Consul's program on this host, for V(drilled).
    type: path
    default: /usr/bin/consul
  management_key:
    description: What this version of Consul calls the token that manages it in its configuration, for V(drilled).
    type: str
    choices: [master, initial_management]
    default: master
seealso:
  - module: multihost.overlay.consul_backup
  - module: multihost.overlay.consul_restore
"""

EXAMPLES = r"""
- name: See what the store has
  multihost.overlay.consul_snapshot:
    token: "{{ management_token }}"
  # One server answers for all.
  run_once: true
"""

RETURN = r"""
answers:
  description: Whether the store could be read. With V(read) one that cannot be is no failure.
  type: bool
  returned: success
  sample: true
why:
  description: Why not.
  type: str
  returned: success
  sample: ""
version:
  description: Consul's version; empty where the token may not ask.
  type: str
  returned: success
  sample: 1.8.7
networks:
  description: The networks with their subnets, options and endpoints.
  type: list
  elements: dict
  returned: success
  sample:
    - name: shop
      id: 6a4b8e6f0e7b
      driver: overlay
      scope: global
      ipam: [{subnet: 10.201.1.0/24, gateway: 10.201.1.1, ip_range: ""}]
      vnis: [256]
      internal: false
      attachable: true
      options: {}
      labels: {}
      endpoints: [{name: web, ipv4: 10.201.1.2/24, host: 10.88.0.11, id: 0f1e2d3c}]
others:
  description: How many keys are not Docker's; null with O(scope=docker), which does not look at them.
  type: int
  returned: success
  sample: 0
content:
  description: What was taken. Secret.
  type: str
  returned: with V(taken)
  sample: "..."
index:
  description: Of the store, when it was taken.
  type: int
  returned: with V(taken)
  sample: 1719
bytes:
  description: Size of what was taken.
  type: int
  returned: with V(taken)
  sample: 20480
keys:
  description: How many keys were (or would be) written or deleted with O(scope=docker), and compared with V(drilled).
  type: int
  returned: with V(restored) and V(drilled)
  sample: 40
differences:
  description: What the living store has more, has not, or has with another value than the throwaway one.
  type: dict
  returned: with V(drilled)
  sample: {added: [container web], removed: [], changed: []}
"""

import json
import platform
from typing import Any, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils import _backup as plan
from ansible_collections.multihost.overlay.plugins.module_utils import _consul_snapshot as steps
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError, consul_of
from ansible_collections.multihost.overlay.plugins.module_utils._drill import Drill
from ansible_collections.multihost.overlay.plugins.module_utils._snapshot import SnapshotError
from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError, parse_url

ARGUMENTS: Dict[str, Any] = {
    "state": {"type": "str", "choices": ["read", "taken", "restored", "drilled"], "default": "read"},
    "scope": {"type": "str", "choices": ["everything", "docker"], "default": "everything"},
    "url": {"type": "str", "default": "consul://127.0.0.1:8500"},
    "token": {"type": "str", "default": "", "no_log": True},
    "store_options": {"type": "dict", "default": {}},
    "content": {"type": "str", "default": "", "no_log": True},
    "version": {"type": "str", "default": ""},
    "wait": {"type": "int", "default": 60},
    "program": {"type": "path", "default": "/usr/bin/consul"},
    # What the key is called, and no key.
    "management_key": {
        "type": "str",
        "choices": ["master", "initial_management"],
        "default": "master",
        "no_log": False,
    },
}
Json = Dict[str, Any]


class Action:
    """One call of the module."""

    def __init__(self, params: Json, check_mode: bool) -> None:
        self.params, self.check_mode = params, check_mode
        self.prefix = parse_url(params["url"]).prefix
        self.consul: Consul = consul_of(params["url"], params["token"], params["store_options"])
        self.all = params["scope"] == "everything"

    def seen(self) -> Json:
        """What the store has."""
        return {
            "answers": True,
            "why": "",
            "version": steps.agent(self.consul)["version"],
            "networks": plan.inventory(steps.rows_of(self.consul, self.prefix)),
            "others": steps.foreign_keys(self.consul) if self.all else None,
        }

    def read(self) -> Json:
        """A store that does not answer is an answer too."""
        try:
            return {"changed": False, **self.seen()}
        except ConsulError as exc:
            nothing: Json = {"version": "", "networks": [], "others": None}
            return {"changed": False, "answers": False, "why": str(exc), **nothing}

    def taken(self) -> Json:
        """It changes nothing in the store."""
        take = steps.take_all if self.all else steps.take_docker
        return {"changed": False, **self.seen(), **take(self.consul, self.prefix)}

    def restored(self) -> Json:
        """Refuse, put back, look."""
        self._refuse_older()
        keys = 0 if self.all else steps.due_docker(self.consul, self.params["content"], self.prefix)
        if not self.check_mode:
            self._put()
        changed = self.all or bool(keys)
        return {"changed": changed, **steps.patiently(self.seen, self.params["wait"]), "keys": keys}

    def _refuse_older(self) -> None:
        version = steps.agent(self.consul)["version"]
        if self.all and plan.is_older(version, self.params["version"]):
            raise ConsulError(
                f"Consul is {version} here, and the backup is of {self.params['version']}: an older one may not understand it. "
                "Nothing was restored. Install that version or a newer one (overlay_consul_archive), then run it again",
                0,
            )

    def _put(self) -> None:
        if self.all:
            steps.put_all(self.consul, self.params["content"], self.params["wait"])
        else:
            steps.put_docker(self.consul, self.params["content"], self.prefix)

    def drilled(self) -> Json:
        """Compare what the throwaway one has after a restore with the living one. Keys alone need no second Consul."""
        if self.check_mode:
            return {"changed": False, **self.seen(), "keys": 0, "differences": {}}
        saved = self._tried() if self.all else json.loads(self.params["content"])
        found = steps.compare(saved, steps.rows_of(self.consul, self.prefix))
        keys = found.pop("keys")
        return {"changed": False, **self.seen(), "keys": keys, "differences": found}

    def _tried(self) -> Any:
        params, here = self.params, steps.agent(self.consul)
        with Drill(params["program"], here["datacenter"], params["management_key"], params["token"]) as throwaway:
            steps.put_all(throwaway, params["content"], params["wait"])
            return steps.rows_of(throwaway, "")


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        action = Action(module.params, module.check_mode)
        result = getattr(action, module.params["state"])()
    except (ConsulError, SnapshotError, StoreError, OSError) as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
