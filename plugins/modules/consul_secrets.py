#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the cluster's secrets that a host of the store keeps, and whether Consul's ACL is as follows from them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_secrets
short_description: Read the cluster's secrets that a host of the store keeps
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads the file in which every host of the store keeps the cluster's secrets. Its result is secret, so register it with C(no_log).
  - Refuses a file that others than root may read or write.
  - Looks in the same call whether the policies and tokens of all hosts are in Consul, so that a run that finds them there costs nothing
    more.
  - A host of which M(multihost.overlay.host_preflight) has found in this run that there is no such file is not asked.
  - M(multihost.overlay.cluster_secrets) takes what the hosts keep together.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.info
options:
  path:
    description: The file.
    type: path
    default: /etc/multihost-overlay/secrets.json
  url:
    description: The API of the Consul on this host.
    type: str
    default: http://127.0.0.1:8500
  hosts:
    description: All hosts that are to have tokens.
    type: list
    elements: str
    default: []
  present:
    description: Those of O(hosts) that are to get what they lack; all by default. Of the others what is there stays.
    type: list
    elements: str
  servers:
    description: Nodes of the servers that engines of other hosts ask, and on which their sessions are then.
    type: list
    elements: str
    default: []
requirements:
  - root on the host
seealso:
  - module: multihost.overlay.cluster_secrets
"""

EXAMPLES = r"""
- name: Read the secrets that this host keeps
  multihost.overlay.consul_secrets:
  register: read
  no_log: true
"""

RETURN = r"""
secrets:
  description: What the file has; null where there is none.
  type: dict
  returned: always
  sample: null
in_order:
  description: Whether Consul has the policies and tokens that follow from them; false also where it cannot be asked.
  type: bool
  returned: always
  sample: true
"""

import json
import os
import platform
import stat
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._consul_acl import Acl, plan, wants
from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import ConsulError
from ansible_collections.multihost.overlay.plugins.module_utils._secrets import PATH, SecretsError, problems, tokens


def read(path: str) -> Any:
    """The file's content; None where there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with open(descriptor, encoding="utf-8") as stream:
        found = os.fstat(stream.fileno())
        if found.st_uid != 0 or stat.S_IMODE(found.st_mode) & 0o077:
            mode = stat.S_IMODE(found.st_mode)
            raise SecretsError(
                f"{path} has mode {mode:04o} and owner {found.st_uid}: others than root may have read the cluster's secrets. "
                f"chown root: {path}; chmod 0600 {path}; then run playbooks/rotate_keys.yml"
            )
        try:
            return json.load(stream)
        except ValueError as exc:
            raise SecretsError(f"{path} is not JSON ({exc}): put back the file of another host of the store") from exc


def in_order(found: Any, params: dict[str, Any]) -> bool:
    """Whether Consul's ACL is as follows from the secrets."""
    if found is None or problems(found):
        return False
    made = tokens(found, params["hosts"])
    try:
        lists = Acl(params["url"], made["management"]).lists(0)
    except ConsulError:
        return False
    want, due = wants(made["hosts"].values(), params["servers"], params["present"])
    return not plan(want, *lists, settled=params["hosts"], due=due).any


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": PATH},
            "url": {"type": "str", "default": "http://127.0.0.1:8500"},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "present": {"type": "list", "elements": "str"},
            "servers": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        found = read(module.params["path"])
    except (SecretsError, OSError) as exc:
        module.fail_json(msg=f"{platform.node()}: {exc}")
    module.exit_json(changed=False, secrets=found, in_order=in_order(found, module.params))


if __name__ == "__main__":
    main()
