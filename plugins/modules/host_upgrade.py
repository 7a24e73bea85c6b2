#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Says what of a host's engine and Consul can be upgraded, installs packages without starting anything, and goes back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_upgrade
short_description: Say what of a host's engine and Consul can be upgraded, install packages for it, and go back
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - With O(state=read) it tells which engine and which Consul run, and what apt would make of their packages; pins and holds count. Nothing
    is changed but the lists of packages, with O(refresh=true).
  - With O(state=kept) it notes what there is to go back to, and fetches the packages of before as far as they can be had.
  - With O(state=replaced) it installs packages. None of them starts or restarts a program meanwhile, except that a containerd that was
    replaced is restarted, which containers and engine live through.
  - With O(state=back) the files and packages that were noted come back, and the program is started with them.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details: O(state=back) always starts the program anew.
options:
  state:
    description: What to do.
    type: str
    choices: [read, kept, replaced, back]
    default: read
  wanted:
    description:
      - What is wanted of C(engine) and C(consul), with O(state=read); one that is not named is not looked at.
      - C(source) is V(archive) or V(packages). Of an archive C(program) is the place of its program and C(version) its version. C(series)
        are the versions of docker-ce that may be, as apt takes them; with C(unhold) packages on hold are changed.
    type: dict
    default: {}
  refresh:
    description: Whether the lists of packages are read anew first; not done in check mode.
    type: bool
    default: false
  program:
    description: Which of the two it is about; needed but with O(state=read).
    type: str
    choices: [engine, consul]
  target:
    description:
      - What it is upgraded to, with O(state=kept) and O(state=back). A second note for the same target leaves the first as it is, and only
        what was noted for this target comes back.
    type: str
    default: ""
  files:
    description: Files that come back if it fails, with O(state=kept).
    type: list
    elements: path
    default: []
  packages:
    description: >-
      The packages that are there and come back if it fails, by name, with O(state=kept); the packages to install and their versions, with
      O(state=replaced).
    type: dict
    default: {}
  unhold:
    description: Whether packages on hold may be changed, with O(state=replaced).
    type: bool
    default: false
  wait:
    description: How long to wait for the program, in seconds, with O(state=back).
    type: int
    default: 120
"""

EXAMPLES = r"""
- name: See what the package sources offer
  multihost.overlay.host_upgrade:
    refresh: true
    wanted:
      engine: {source: packages, series: "5:20.10.*", unhold: false}
  register: offered
"""

RETURN = r"""
engine:
  description: The engine that is there.
  type: dict
  returned: O(state=read)
  sample:
    installed: true
    running: true
    program: /usr/sbin/dockerd
    version: 20.10.5+dfsg1
    replaced: []
    containers: [web]
    live_restore: true
    shims_survive: true
    package: docker.io
    packages: {docker.io: 20.10.5+dfsg1-1+deb11u2}
    changes: [{name: docker.io, old: 20.10.5+dfsg1-1+deb11u2, new: 20.10.5+dfsg1-1+deb11u4}]
    removed: []
    held: []
    broken: []
    older: false
consul:
  description: The Consul that is there, in the same form, without containers.
  type: dict
  returned: O(state=read)
  sample: {installed: true, running: true, program: /usr/bin/consul, version: 1.8.7+dfsg1, package: consul}
wanted:
  description: O(wanted).
  type: dict
  returned: O(state=read)
  sample: {engine: {source: packages}}
back:
  description: Whether all of before is back and runs.
  type: bool
  returned: O(state=back)
  sample: true
words:
  description: What is to be said of it.
  type: str
  returned: O(state=back)
  sample: what was there before is back (docker.io 20.10.5+dfsg1-1+deb11u2) and runs.
"""

import json
from typing import Any, Callable, Dict

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_host as host
from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_packages as packages
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError

Json = Dict[str, Any]
READERS: Dict[str, Callable[[Json], Json]] = {"engine": host.read_engine, "consul": host.read_consul}
ARGUMENTS: Json = {
    "state": {"type": "str", "choices": ["read", "kept", "replaced", "back"], "default": "read"},
    "wanted": {"type": "dict", "default": {}},
    "refresh": {"type": "bool", "default": False},
    "program": {"type": "str", "choices": ["engine", "consul"]},
    "target": {"type": "str", "default": ""},
    "files": {"type": "list", "elements": "path", "default": []},
    "packages": {"type": "dict", "default": {}},
    "unhold": {"type": "bool", "default": False},
    "wait": {"type": "int", "default": 120},
}


def read(params: Json, check_mode: bool) -> Json:
    """Both programs, as far as they are asked for."""
    if params["refresh"] and not check_mode and any(row["source"] == "packages" for row in params["wanted"].values()):
        packages.refresh()
    found = {name: READERS[name](wanted) for name, wanted in params["wanted"].items()}
    return {"changed": False, "wanted": params["wanted"], **found}


def kept(params: Json, check_mode: bool) -> Json:
    """A note is no change of the host."""
    if not check_mode:
        host.keep(params["program"], params["target"], params["files"], params["packages"])
    return {"changed": False}


def replaced(params: Json, check_mode: bool) -> Json:
    """Install what differs, and finish what was begun."""
    wanted = params["packages"]
    states = packages.installed(list(wanted)) if wanted else {}
    if not check_mode:
        host.replace([f"{name}={version}" for name, version in wanted.items()], params["unhold"])
    had = {name: row["version"] for name, row in states.items()}
    diff = [{"before": json.dumps(had, indent=2) + "\n", "after": json.dumps(wanted, indent=2) + "\n"}]
    return {"changed": had != wanted, "diff": diff}


def back(params: Json, check_mode: bool) -> Json:
    """Go back."""
    if check_mode:
        return {"changed": True, "back": True, "words": ""}
    return {"changed": True, **host.go_back(params["program"], params["target"], params["wait"])}


STATES: Dict[str, Callable[[Json, bool], Json]] = {"read": read, "kept": kept, "replaced": replaced, "back": back}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(
        argument_spec=ARGUMENTS,
        supports_check_mode=True,
        required_if=[("state", name, ("program",)) for name in ("kept", "replaced", "back")],
    )
    try:
        result = STATES[module.params["state"]](module.params, module.check_mode)
    except (packages.PackagesError, DockerError, OSError, ValueError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
