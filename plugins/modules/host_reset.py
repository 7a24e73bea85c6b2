#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Undoes on a host what its manifest lists, in the right order."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_reset
short_description: Undo on a host what the manifest lists as ours
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Takes off one host everything that C(/var/lib/multihost-overlay/manifest.json) says is ours, and puts back what was there before.
    A host without a manifest is left alone.
  - In this order. Containers leave the overlay networks that go; these go from the store, if O(networks) asks for it; the engine goes on
    without the store, with the settings that its user had; then our programs stop, ports open, our files, packages, users and
    directories go, and the manifest last.
  - Containers, images and volumes are never removed. A container that has lost its networks runs on without.
  - An engine that we installed is removed only if it holds no container, image, volume or network of anybody.
  - A file that somebody has changed since we wrote it is copied to C(/var/lib/multihost-overlay/kept) before it goes.
  - An entry of the manifest is dropped as soon as it is undone, so that a run that was killed is finished by the next.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
attributes:
  check_mode:
    details: RV(refused) has what a real run fails with.
  diff_mode:
    details: The steps are shown, with no contents of files.
options:
  state:
    description: There is one.
    type: str
    choices: [absent]
    default: absent
  until:
    description:
      - How far to go, for a cluster whose hosts need one another until they all have come so far. Each stage includes those before it.
      - V(containers) disconnects them, V(networks) removes networks, V(engine) takes the engine out of the store, V(end) is everything.
    type: str
    choices: [containers, networks, engine, end]
    default: end
  networks:
    description:
      - Whether the networks go from the store too, which all other hosts of the cluster lose with it. One host does it for all.
      - Of a store of ours all overlay networks go, of somebody else's those that this collection has made (they have the label
        C(multihost.overlay.role)).
    type: bool
    default: false
  store_managed:
    description: Whether the store is one of ours, which goes with its hosts.
    type: bool
    default: true
  packages:
    description: Whether packages that we installed go. Those that others need stay in any case.
    type: bool
    default: true
  restart:
    description:
      - When the engine may be restarted, which leaving the store takes. V(safe) only if no running container dies of it, V(rolling) is the
        consent, V(never) refuses. It is refused before anything is changed.
    type: str
    choices: [safe, rolling, never]
    default: safe
  without_store:
    description: Goes on where the store does not answer, so that containers cannot leave their networks.
    type: bool
    default: false
  socket:
    description: Docker's socket.
    type: path
    default: /var/run/docker.sock
  wait:
    description: How long to wait for the engine after a restart, in seconds.
    type: int
    default: 120
seealso:
  - module: multihost.overlay.host_files
  - module: multihost.overlay.docker_daemon_config
"""

EXAMPLES = r"""
- name: See what would go
  multihost.overlay.host_reset:
    networks: true
  check_mode: true
  register: planned

- name: Take one host out, while the others go on
  multihost.overlay.host_reset:
    restart: rolling
"""

RETURN = r"""
steps:
  description: What was undone, or would be in check mode, in order.
  type: list
  elements: str
  returned: success
  sample: ["stop and disable multihost-overlay-consul.service", "remove /etc/multihost-overlay/consul/config.json"]
stays:
  description: What stays on the host, and why.
  type: list
  elements: str
  returned: success
  sample: ["the package iptables: the engine stays"]
networks:
  description: The overlay networks that go from the store, where O(networks) asks for it.
  type: list
  elements: str
  returned: success
  sample: [frontend]
refused:
  description: Why a real run would change nothing on this host and fail.
  type: list
  elements: str
  returned: success
  sample: []
kept:
  description: Copies of files that somebody had changed since we wrote them.
  type: list
  elements: str
  returned: success
  sample: ["/var/lib/multihost-overlay/kept/99-z-multihost-overlay.conf.0123456789ab"]
said:
  description: What turned out while it was done.
  type: list
  elements: str
  returned: success
  sample: ["/etc/multihost-overlay stays, because it is not empty: notes.txt"]
"""

import platform
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_engine import Engine
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_json import DaemonConfigError
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_host import FirewallError
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest, ManifestError
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._reset_host import observe
from ansible_collections.multihost.overlay.plugins.module_utils._reset_plan import PHASES, QUIET, Plan, make_plan
from ansible_collections.multihost.overlay.plugins.module_utils._reset_steps import ResetError, Undo

ARGUMENTS: dict[str, Any] = {
    "state": {"type": "str", "choices": ["absent"], "default": "absent"},
    "until": {"type": "str", "choices": list(PHASES), "default": PHASES[-1]},
    "networks": {"type": "bool", "default": False},
    "store_managed": {"type": "bool", "default": True},
    "packages": {"type": "bool", "default": True},
    "restart": {"type": "str", "choices": ["safe", "rolling", "never"], "default": "safe"},
    "without_store": {"type": "bool", "default": False},
    "socket": {"type": "path", "default": "/var/run/docker.sock"},
    "wait": {"type": "int", "default": 120},
}


def result_of(planned: Plan, until: str) -> dict[str, Any]:
    """What is shown of a plan, up to some stage."""
    due = [step for step in planned.steps if PHASES.index(step.phase) <= PHASES.index(until)]
    words = [step.say for step in due if step.kind not in QUIET]
    shown = "".join(f"{line}\n" for line in words)
    return {
        "changed": bool(due),
        "steps": words,
        "stays": planned.stays,
        "networks": [step.other for step in planned.steps if step.kind == "network"],
        "refused": planned.refused,
        "kept": [],
        "said": [],
        "diff": {"before_header": "to be undone", "after_header": "undone", "before": shown, "after": ""},
    }


def run(module: AnsibleModule) -> dict[str, Any]:
    """Look, plan, refuse, undo."""
    options = {**module.params, "check_mode": module.check_mode}
    manifest, engine = Manifest.load(), Engine(module.params["socket"])
    planned = make_plan(observe(manifest, engine, options, run_program), options)
    result = result_of(planned, options["until"])
    if module.check_mode:
        return result
    if planned.refused:
        raise ResetError(f"{'; '.join(planned.refused)}. Nothing was changed on this host")
    undo = Undo(manifest, engine, options, run_program)
    undo.all(step for step in planned.steps if PHASES.index(step.phase) <= PHASES.index(options["until"]))
    return {**result, "kept": undo.kept, "said": undo.said}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (DaemonConfigError, DockerError, FirewallError, ManifestError, ResetError, OSError) as error:
        module.fail_json(msg=f"{platform.node()}: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
