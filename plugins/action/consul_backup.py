# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of a backup: has a host take it, encrypts it, keeps it. What was taken goes into no variable and no log."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.plugin_utils import _backup_file as files
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain

Json = dict[str, Any]
# How the store is asked; the same for a restore.
STORE: Json = {
    "url": {"type": "str", "required": True},
    "token": {"type": "str", "default": "", "no_log": True},
    "store_options": {"type": "dict", "default": {}},
    "managed": {"type": "bool", "default": True},
}
PASSPHRASE: Json = {
    "passphrase": {"type": "str", "default": "", "no_log": True},
    "passphrase_file": {"type": "str", "default": ""},
}
ARGUMENTS: Json = {
    **STORE,
    **PASSPHRASE,
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "own_ca": {"type": "bool", "default": False},
    "directory": {"type": "str", "required": True},
    "keep": {"type": "int", "default": 7},
}
CA = ("ca_key", "ca_certificate")


def store_arguments(args: Json, state: str) -> Json:
    """What the host's module is called with."""
    scope = "everything" if args["managed"] else "docker"
    return {"state": state, "scope": scope, **{name: args[name] for name in ("url", "token", "store_options")}}


def id_of(args: Json) -> str:
    """The cluster's; empty for one of ours that has no secrets."""
    known = args["secrets"].get("seed", "") if args["managed"] else args["url"]
    return files.cluster_id(known) if known else ""


def content_of(args: Json, taken: Json, now: datetime.datetime) -> Json:
    """What is encrypted. The CA of a user who has one is the user's to keep."""
    left_out = CA if args["own_ca"] else ()
    secrets = {key: value for key, value in args["secrets"].items() if key not in left_out}
    return {
        "schema_version": files.SCHEMA_VERSION,
        "cluster": id_of(args),
        "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "store": "consul",
        "scope": "everything" if args["managed"] else "docker",
        "consul_version": taken["version"],
        "index": taken["index"],
        "networks": taken["networks"],
        "own_ca": args["own_ca"],
        "secrets": secrets if args["managed"] else {},
        "content": taken["content"],
    }


def ask(action: ActionBase, arguments: Json, task_vars: Json | None) -> Json:
    """Run the module on the host. Its result stays here."""
    name = "multihost.overlay.consul_snapshot"
    answer: Json = plain(action._execute_module(module_name=name, module_args=arguments, task_vars=task_vars))
    if answer.get("failed") or "networks" not in answer:
        raise files.BackupError(str(answer.get("msg", "the host's module has said nothing")))
    return answer


class ActionModule(ActionBase):
    """Takes a backup."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Refuse early, take, write, take away what is too old."""
        result: Json = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        args = plain(args)
        if args["keep"] < 1:
            raise AnsibleActionFail("overlay_backup_keep must be 1 or more")
        try:
            secret = files.passphrase(args["passphrase"], args["passphrase_file"])
            taken = ask(self, store_arguments(args, "taken"), task_vars)
            return dict(result, **self._kept(args, taken, secret))
        except (files.BackupError, OSError) as exc:
            raise AnsibleActionFail(str(exc)) from exc

    def _kept(self, args: Json, taken: Json, secret: bytes) -> Json:
        folder = Path(args["directory"]).expanduser().absolute()
        content = content_of(args, taken, datetime.datetime.now(datetime.timezone.utc))
        what = f"{len(content['networks'])} networks, {taken['bytes']} bytes of the store"
        if self._task.check_mode:
            Display().display(f"backup: would write {what} to {folder}, and keep {args['keep']}")
            return {"changed": True, "path": "", "manifest": {}, "removed": []}
        path, manifest = files.write(folder, content, secret)
        removed = files.prune(folder, content["cluster"], args["keep"], path)
        Display().display(f"backup: {path} has {what}{'; took away ' + ', '.join(removed) if removed else ''}")
        return {"changed": True, "path": str(path), "manifest": manifest, "removed": removed}
