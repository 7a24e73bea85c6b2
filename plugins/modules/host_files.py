#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the files that a role owns on a host, in one call and after recording them in the manifest."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_files
short_description: Write the files that a role owns on a host, after recording them in the manifest
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Writes all files and directories that one role owns on a host in a single remote execution, where a task for each file would
    cost two to three.
  - Before the first change, each file (with a copy of what stood there) and each package that is not installed yet is recorded in
    the host's manifest C(/var/lib/multihost-overlay/manifest.json), so that it is known later what was the user's.
  - Users and groups that a file below C(/etc/sysusers.d) names are made at once, by C(systemd-sysusers).
  - Files are replaced as a whole, never in part, also in a power cut.
  - Nothing is run on a host where M(multihost.overlay.host_preflight) has found all of it as it should be in this run; RV(units) is
    then what it found too.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details: The contents among O(secrets) are not shown.
  idempotent:
    support: full
options:
  role:
    description: The role that owns the files; recorded in the manifest.
    type: str
    required: true
  packages:
    description:
      - Packages that the role is about to install with the distribution's own tool. Those that are not there yet are recorded as ours.
      - This module does not install them.
    type: list
    elements: str
    default: []
  sysctls:
    description:
      - Settings of the kernel that the role is about to change, with the values that they get. What they are now is recorded.
      - This module does not set them.
    type: dict
    default: {}
  units:
    description: Systemd units of which RV(units) is to tell, so that nobody has to ask again.
    type: list
    elements: str
    default: []
  directories:
    description: Directories that must exist; they are made before the files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      mode:
        description: Mode as an octal string.
        type: str
        default: "0755"
      owner:
        description: Owner's name.
        type: str
        default: root
      group:
        description: Group's name.
        type: str
        default: root
      with_content:
        description:
          - All that comes to lie in it is the role's too, whoever writes it. M(multihost.overlay.host_reset) takes the directory away
            with all that is in it.
          - A directory in which something lies already stays its owner's.
        type: bool
        default: false
  files:
    description: The files.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Absolute path.
        type: path
        required: true
      content:
        description: The whole content; required when O(files[].state=present), without O(files[].template), and not among O(secrets).
        type: str
      template:
        description: A template on the controller, in the role's folder C(templates), to make the content of.
        type: str
      state:
        description:
          - V(present) writes the file.
          - V(absent) removes it if the manifest says that it is ours, and leaves it alone otherwise.
        type: str
        choices: [present, absent]
        default: present
      mode:
        description: Mode as an octal string.
        type: str
        default: "0644"
      owner:
        description: Owner's name. A user that does not exist yet is an error, save in check mode.
        type: str
        default: root
      group:
        description: Group's name.
        type: str
        default: root
  secrets:
    description:
      - Contents of those of O(files) that are secret, by path. They show in no diff, log or journal, as the content of O(files) would.
    type: dict
    default: {}
"""

EXAMPLES = r"""
- name: Write the sysctl file
  multihost.overlay.host_files:
    role: overlay_host
    files:
      - path: /etc/sysctl.d/99-multihost-overlay.conf
        content: |
          net.ipv4.ip_forward = 1
  register: written
"""

RETURN = r"""
written:
  description: The files and directories that were written, removed or got another mode or owner.
  type: list
  elements: str
  returned: always
  sample: [/etc/sysctl.d/99-multihost-overlay.conf]
packages:
  description: O(packages) as given; those that were not there are recorded now. In check mode nothing is recorded.
  type: list
  elements: str
  returned: when the host was asked
  sample: [consul]
units:
  description: >-
    For each of O(units), whether it is active and enabled, and whether systemd must be told of new files, after the files
    were written.
  type: dict
  returned: always
  sample: {"example.service": {"active": "active", "enabled": "enabled", "needs_reload": false}}
"""

import grp
import os
import pwd
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._manifest import (
    Manifest,
    ManifestError,
    make_directories,
    write_atomic,
)
from ansible_collections.multihost.overlay.plugins.module_utils._owned_files import read_path
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import summary, units

SYSUSERS = "/etc/sysusers.d"
FILE_SPEC = {
    "path": {"type": "path", "required": True},
    "content": {"type": "str"},
    "template": {"type": "str"},
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "mode": {"type": "str", "default": "0644"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
}
DIRECTORY_SPEC = {
    "path": {"type": "path", "required": True},
    "mode": {"type": "str", "default": "0755"},
    "owner": {"type": "str", "default": "root"},
    "group": {"type": "str", "default": "root"},
    "with_content": {"type": "bool", "default": False},
}
ARGUMENTS = {
    "role": {"type": "str", "required": True},
    "packages": {"type": "list", "elements": "str", "default": []},
    "sysctls": {"type": "dict", "default": {}},
    "units": {"type": "list", "elements": "str", "default": []},
    "directories": {"type": "list", "elements": "dict", "default": [], "options": DIRECTORY_SPEC},
    "files": {"type": "list", "elements": "dict", "default": [], "options": FILE_SPEC},
    # Not within files: only an option of its own is kept out of the journal, to which every module writes how it was called.
    "secrets": {"type": "dict", "default": {}, "no_log": True},
}


def with_secrets(files: list[dict[str, Any]], secrets: dict[str, str]) -> list[dict[str, Any]]:
    """The files with all contents, and which of them are secret."""
    entries = [{**entry, "secret": entry["path"] in secrets} for entry in files]
    for entry in entries:
        entry["content"] = secrets.get(entry["path"], entry["content"])
        if entry["content"] is None and entry["state"] == "present":
            raise ValueError(f"{entry['path']}: neither content nor one among secrets")
    return entries


def plan_file(wanted: dict[str, Any], found: dict[str, Any] | None, ours: bool) -> str | None:
    """Decide on one file: ``write``, ``attributes``, ``remove`` or None. ``found`` is what ``read_file`` returned."""
    if wanted["state"] == "absent":
        return "remove" if found is not None and ours else None
    if found is None or found["content"] != wanted["content"].encode():
        return "write"
    return "attributes" if _attributes_differ(wanted, found) else None


def plan_directory(wanted: dict[str, Any], found: dict[str, Any] | None) -> str | None:
    """Decide on one directory: ``make``, ``attributes`` or None."""
    if found is None:
        return "make"
    return "attributes" if _attributes_differ(wanted, found) else None


def _attributes_differ(wanted: dict[str, Any], found: dict[str, Any]) -> bool:
    return (int(wanted["mode"], 8), wanted["owner"], wanted["group"]) != (found["mode"], found["owner"], found["group"])


def known_packages() -> dict[str, str]:
    """dpkg's packages with their state, those of which only the configuration is left included; none where there is no dpkg."""
    _status, output, _complaints = run_program(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n"])
    rows = [line.split() for line in output.splitlines()]
    return {row[0]: row[1] for row in rows if len(row) == 2}


def _ids(module: AnsibleModule, entry: dict[str, Any]) -> tuple[int, int]:
    try:
        return pwd.getpwnam(entry["owner"]).pw_uid, grp.getgrnam(entry["group"]).gr_gid
    except KeyError as exc:
        module.fail_json(
            msg=f"{entry['path']}: no such user or group on this host: {exc}. Install what brings it first."
        )
        raise


def apply_file(module: AnsibleModule, entry: dict[str, Any], action: str) -> None:
    """Carry out what ``plan_file`` decided."""
    if action == "remove":
        os.unlink(entry["path"])
        return
    uid, gid = _ids(module, entry)
    if action == "write":
        make_directories(os.path.dirname(entry["path"]))
        write_atomic(entry["path"], entry["content"].encode(), int(entry["mode"], 8), uid, gid)
        return
    _set_attributes(entry, uid, gid)


def apply_directory(module: AnsibleModule, entry: dict[str, Any], action: str) -> None:
    """Carry out what ``plan_directory`` decided."""
    uid, gid = _ids(module, entry)
    if action == "make":
        make_directories(entry["path"])
    _set_attributes(entry, uid, gid)


def _set_attributes(entry: dict[str, Any], uid: int, gid: int) -> None:
    os.chown(entry["path"], uid, gid)
    os.chmod(entry["path"], int(entry["mode"], 8))


def file_diff(entry: dict[str, Any], found: dict[str, Any] | None, action: str) -> dict[str, str]:
    """Before and after of one file, as ``--diff`` shows it; attributes alone are shown as such."""
    header = {"before_header": entry["path"], "after_header": entry["path"]}
    if entry["secret"]:
        return {
            **header,
            "before": "(secret)\n" if found else "",
            "after": "" if action == "remove" else "(secret, changed)\n",
        }
    if action == "attributes" and found:
        before = f"mode {found['mode']:04o} owner {found['owner']}:{found['group']}\n"
        return {**header, "before": before, "after": f"mode {entry['mode']} owner {entry['owner']}:{entry['group']}\n"}
    before = found["content"].decode("utf-8", "replace") if found and found["content"] is not None else ""
    return {**header, "before": before, "after": "" if action == "remove" else entry["content"]}


def names_users(entry: dict[str, Any]) -> bool:
    """Whether systemd is to make users of it, which it does by itself at boots only."""
    return os.path.dirname(entry["path"]) == SYSUSERS and entry["state"] == "present"


def make_users(files: list[dict[str, Any]]) -> None:
    """Make the users of all files that name some. Those who have them lose nothing."""
    for entry in filter(names_users, files):
        status, _output, complaints = run_program(["systemd-sysusers", entry["path"]])
        if status != 0:
            raise OSError(f"systemd-sysusers {entry['path']}: {complaints.strip()}")


def apply_all(
    module: AnsibleModule, directories: list[tuple[dict[str, Any], str]], files: list[tuple[dict[str, Any], Any, str]]
) -> None:
    """Users before what may be theirs: a run that is killed in between finds other files still to be written, and makes them then."""
    for entry, _found, action in files:
        if names_users(entry):
            apply_file(module, entry, action)
    if files:
        make_users(module.params["files"])
    for entry, action in directories:
        apply_directory(module, entry, action)
    for entry, _found, action in files:
        if not names_users(entry):
            apply_file(module, entry, action)


def new_accounts(entry: dict[str, Any]) -> list[tuple[str, str]]:
    """(users or groups, name) of what a file of sysusers.d names and the host has not got."""
    lookups = {"u": ("users", pwd.getpwnam), "g": ("groups", grp.getgrnam)}
    found = []
    for kind, name in [line.split()[:2] for line in entry["content"].splitlines() if line[:2] in ("u ", "g ")]:
        section, lookup = lookups[kind]
        try:
            lookup(name)
        except KeyError:
            found.append((section, name))
    return found


def live_sysctl(key: str) -> str:
    """A setting of the running kernel, '' where it has none of that name."""
    return run_program(["sysctl", "-n", key])[1].strip()


def record(
    manifest: Manifest,
    params: dict[str, Any],
    directories: list[tuple[dict[str, Any], str]],
    changes: list[tuple[dict[str, Any], Any, str]],
) -> None:
    """Write into the manifest what is about to become ours, before it does."""
    role = params["role"]
    if params["packages"]:
        before = known_packages()
        manifest.record_packages([name for name in params["packages"] if before.get(name) != "installed"], role, before)
    for key, value in params["sysctls"].items():
        prior = live_sysctl(key)
        if prior not in ("", str(value)):
            manifest.record_sysctl(key, role, prior, str(value))
    for entry, action in directories:
        if action == "make" or entry["with_content"]:
            manifest.record_directory(entry["path"], role, entry["with_content"])
    for entry, _found, action in changes:
        if action == "write":
            manifest.record_file(entry["path"], role, entry["content"].encode())
        for section, name in new_accounts(entry) if names_users(entry) else []:
            manifest.record_account(section, name, role)
    manifest.save()


def run(module: AnsibleModule) -> dict[str, Any]:
    """Plan, record, apply."""
    params = module.params
    manifest = Manifest.load()
    planned = [(entry, plan_directory(entry, read_path(entry["path"]))) for entry in params["directories"]]
    directories = [(entry, action) for entry, action in planned if action]
    files = []
    for entry in with_secrets(params["files"], params["secrets"]):
        found = read_path(entry["path"])
        action = plan_file(entry, found, manifest.owns_file(entry["path"]))
        if action:
            files.append((entry, found, action))
    if not module.check_mode:
        record(manifest, params, directories, files)
        apply_all(module, directories, files)
    changed = [entry["path"] for entry, _action in directories] + [entry["path"] for entry, _f, _a in files]
    states = {name: summary(state) for name, state in units(params["units"]).items()} if params["units"] else {}
    diff = [file_diff(*change) for change in files]
    return {"changed": bool(changed), "written": changed, "packages": params["packages"], "units": states, "diff": diff}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (ManifestError, OSError, ValueError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
