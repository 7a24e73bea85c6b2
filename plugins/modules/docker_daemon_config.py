#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts our settings into Docker's daemon.json without taking the user's, and makes the engine take them over."""

from __future__ import annotations

DOCUMENTATION = r"""
module: docker_daemon_config
short_description: Merge settings into Docker's daemon.json, and make the engine take them over when that is safe
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - With O(state=staged) the keys of O(config) are merged into daemon.json. The user's keys, their order and the
    indentation stay; first prior values are recorded in the manifest C(/var/lib/multihost-overlay/manifest.json), the
    previous file beside it. The engine is not touched.
  - With O(state=applied) the engine is started, reloaded or restarted if that is due and O(restart) allows it. The
    module then waits until the engine answers with the wanted settings and has joined the store. If it does not, the
    previous file comes back, the engine is restarted with it, and dockerd's own words are in the error.
  - dockerd does not start with a setting that is both a flag and a key. A key that is set as a flag with the same
    value counts as satisfied and is not written; with another value it is an error that names the file in which the
    flag is set.
  - Settings are refused that dockerd would die of, or silently misread.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: Values that look like secrets are hidden.
  idempotent:
    support: full
options:
  state:
    description: V(staged) writes the file, V(applied) makes the engine take it over.
    type: str
    choices: [staged, applied]
    default: staged
  config:
    description:
      - The keys of daemon.json that are ours, with their values. Numbers in C(cluster-store-opts) become strings.
      - A key that was ours and is not given any more gets its prior value back.
      - Give the same value in both states, here and in O(defaults).
    type: dict
    required: true
  defaults:
    description:
      - Keys that are ours as well, but only where the user has not decided otherwise. Where daemon.json or a flag has
        another value that is not ours, that one stays.
      - A key of O(config) wins over one of these.
    type: dict
    default: {}
  keep:
    description:
      - Keys that stay as they are once they are ours, whether or not they are given again. For what is decided when an
        engine is installed and later differs only at the price of a restart.
    type: list
    elements: str
    default: []
  path:
    description: Place of daemon.json.
    type: path
    default: /etc/docker/daemon.json
  role:
    description: The role that owns the keys; recorded in the manifest.
    type: str
    default: overlay_docker
  overwrite:
    description:
      - Consent to replace a C(cluster-store) of the user's while the engine has overlay networks in it. They are lost
        for this engine.
    type: bool
    default: false
  restart:
    description:
      - When O(state=applied) may restart the engine.
      - V(safe) only if no running container would die of it. None runs, or live-restore is on, or can be put on by a
        reload before.
      - V(rolling) is the consent to restart it in any case.
      - V(never) leaves every restart pending.
    type: str
    choices: [safe, rolling, never]
    default: safe
  reasons:
    description: Further reasons for a restart that the caller knows of.
    type: list
    elements: str
    default: []
  environment_file:
    description:
      - File with environment variables that a drop-in hands to dockerd. If the running engine has others, a restart
        is due. Their values are never returned.
    type: path
  arguments:
    description:
      - Arguments to start dockerd with besides those of its unit, such as C(-H tcp://10.88.0.11:2376). A drop-in has them. Needed for what
        cannot stand in daemon.json, because the unit has the same setting.
    type: list
    elements: str
    default: []
  read_at_start:
    description: Files that dockerd reads when it starts, and only then. A restart is due when one was changed since.
    type: list
    elements: path
    default: []
  units:
    description: Further systemd units of which RV(units) is to tell, so that nobody has to ask again.
    type: list
    elements: str
    default: []
  socket:
    description: Docker's socket.
    type: path
    default: /var/run/docker.sock
  wait:
    description:
      - How long to wait for the engine after a start or a restart, in seconds.
      - Also how long its store may take to have a leader before that. A dockerd that starts while its store does not answer hangs for
        minutes, so the engine is left as it is then and the module fails. Only stores of the kind C(consul://) are asked.
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: Merge the settings
  multihost.overlay.docker_daemon_config:
    config:
      cluster-store: consul://127.0.0.1:8500
      cluster-advertise: 10.88.0.11:2376
    defaults:
      live-restore: true
  register: staged

- name: Let the engine take them over, if no container dies of it
  multihost.overlay.docker_daemon_config:
    state: applied
    restart: safe
    config:
      cluster-store: consul://127.0.0.1:8500
      cluster-advertise: 10.88.0.11:2376
    defaults:
      live-restore: true
  when: staged.apply != 'none'
"""

RETURN = r"""
path:
  description: The file.
  type: str
  returned: O(state=staged)
  sample: /etc/docker/daemon.json
changed_keys:
  description: Keys that were (or would be) written or removed.
  type: list
  elements: str
  returned: O(state=staged)
  sample: [cluster-store, cluster-advertise]
satisfied_by_flags:
  description: Wanted keys that a flag sets already, with the file that sets it.
  type: dict
  returned: O(state=staged)
  sample: {"cluster-store": "/etc/default/docker"}
replaced:
  description: Keys of which a value of the user's gave way. It is in the manifest.
  type: list
  elements: str
  returned: O(state=staged)
  sample: [live-restore]
apply:
  description:
    - How O(state=applied) can be run. V(none), not at all; V(idle), on all such hosts at once; V(busy), one host
      after another, because containers run and a restart is due.
  type: str
  returned: success
  sample: idle
restart_pending:
  description: Whether a restart is due. With O(state=applied), whether it is still due.
  type: bool
  returned: success
  sample: false
reload_pending:
  description: Whether a reload is due.
  type: bool
  returned: success
  sample: false
reasons:
  description: What is due, in words.
  type: list
  elements: str
  returned: success
  sample: ["cluster-store: unset -> \"consul://127.0.0.1:8500\""]
containers:
  description: The running containers, if a restart is due.
  type: list
  elements: dict
  returned: success
  sample: [{"name": "web", "id": "4c01db0b339c", "image": "web:1", "restart_policy": "always", "would_die": true}]
live_restore:
  description: Whether live-restore is on in the running engine.
  type: bool
  returned: success
  sample: true
joined:
  description: Whether the engine has joined the wanted store; null if none is wanted or the engine does not run.
  type: bool
  returned: success
  sample: true
engine:
  description: The engine as it was found.
  type: dict
  returned: success
  sample: {"installed": true, "running": true, "containers_running": 2}
units:
  description: >-
    For docker.service, docker.socket and each of O(units), whether it is active and enabled, and whether systemd must be told of new files.
  type: dict
  returned: success
  sample: {"docker.service": {"active": "active", "enabled": "enabled", "needs_reload": false}}
explanation:
  description: Why a restart is not done, what it would do to whom, and the cures; empty if nothing stays pending.
  type: str
  returned: O(state=applied)
  sample: ""
started:
  description: Whether the engine was (or would be) started.
  type: bool
  returned: O(state=applied)
  sample: false
reloaded:
  description: Whether the engine was (or would be) told to read its configuration again.
  type: bool
  returned: O(state=applied)
  sample: false
restarted:
  description: Whether the engine was (or would be) restarted.
  type: bool
  returned: O(state=applied)
  sample: true
"""

import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_engine import Engine
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_json import DaemonConfigError
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_steps import Request, apply, stage
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import ManifestError

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["staged", "applied"], "default": "staged"},
    "config": {"type": "dict", "required": True},
    "defaults": {"type": "dict", "default": {}},
    "keep": {"type": "list", "elements": "str", "default": []},
    "path": {"type": "path", "default": "/etc/docker/daemon.json"},
    "role": {"type": "str", "default": "overlay_docker"},
    "overwrite": {"type": "bool", "default": False},
    "restart": {"type": "str", "choices": ["safe", "rolling", "never"], "default": "safe"},
    "reasons": {"type": "list", "elements": "str", "default": []},
    "environment_file": {"type": "path"},
    "arguments": {"type": "list", "elements": "str", "default": []},
    "read_at_start": {"type": "list", "elements": "path", "default": []},
    "units": {"type": "list", "elements": "str", "default": []},
    "socket": {"type": "path", "default": "/var/run/docker.sock"},
    "wait": {"type": "int", "default": 120},
}


def run(module: AnsibleModule) -> dict[str, Any]:
    """One of the two steps."""
    given = {name: value for name, value in module.params.items() if name not in ("state", "socket")}
    request = Request(check_mode=module.check_mode, **given)
    engine = Engine(module.params["socket"])
    if module.params["state"] == "staged":
        return stage(request, engine)
    return apply(request, engine, module.warn)


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (DaemonConfigError, DockerError, ManifestError, OSError) as error:
        module.fail_json(msg=f"{platform.node()}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
