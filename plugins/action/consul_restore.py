# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of a restore: opens a backup, judges whether it fits, has a host put it back. What is in it goes into no log."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.action.consul_backup import (
    PASSPHRASE,
    STORE,
    ask,
    id_of,
    store_arguments,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils import _backup_file as files
from ansible_collections.multihost.overlay.plugins.plugin_utils import _restore_plan as plan
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain

Json = dict[str, Any]
ARGUMENTS: Json = {
    **STORE,
    **PASSPHRASE,
    "step": {"type": "str", "choices": ["judge", "drill", "restore", "compare"], "required": True},
    "file": {"type": "str", "default": ""},
    "directory": {"type": "str", "required": True},
    "secrets": {"type": "dict", "default": {}, "no_log": True},
    "authority": {"type": "dict", "default": {}, "no_log": True},
    "confirm": {"type": "bool", "default": False},
    "absent": {"type": "list", "elements": "str", "default": []},
    "program": {"type": "str", "default": "/usr/bin/consul"},
    "management_key": {"type": "str", "default": "master", "no_log": False},
}
CONSENT = "Nothing was changed. If that is what you want, run it again with -e overlay_restore_confirm=yes"


def backup_of(args: Json) -> Json:
    """The backup that is named, opened."""
    folder = Path(args["directory"]).expanduser().absolute()
    if not args["file"]:
        raise files.BackupError(f"name a backup: -e overlay_restore_file=PATH. {files.listed(folder)}")
    secret = files.passphrase(args["passphrase"], args["passphrase_file"])
    return files.read(Path(args["file"]).expanduser().absolute(), secret)


def with_authority(content: Json, authority: Json) -> Json:
    """The backup's secrets, with the CA of a user who keeps it."""
    given = {key: value for key, value in authority.items() if value}
    if content["own_ca"] and len(given) < len(authority):
        raise files.BackupError(
            "the cluster's CA was the user's own and is not in the backup: set overlay_tls_ca_certificate and overlay_tls_ca_key, as they "
            "were, then run it again. Nothing was changed"
        )
    return {**content["secrets"], **(given if content["own_ca"] else {})}


def say(lines: list[str]) -> None:
    """On the terminal, above the task's own line."""
    for line in lines:
        Display().display(f"restore: {line}")


def drill_lines(answer: Json) -> list[str]:
    """What a drill has found, in words."""
    said = [
        ("came after the backup", answer["differences"].get("added")),
        ("went after the backup", answer["differences"].get("removed")),
        ("have changed since", answer["differences"].get("changed")),
    ]
    lines = [f"{len(words)} {what}: {plan.few(words)}" for what, words in said if words]
    return [f"the backup is in order: {answer['keys']} keys", *(lines or ["the store has not changed since"])]


class ActionModule(ActionBase):
    """Does one step of a restore."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Open the backup, do the step."""
        result: Json = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        args = plain(args)
        steps: dict[str, Callable[[Json, Json, Json | None], Json]] = {
            "judge": self._judge,
            "drill": self._drill,
            "restore": self._restore,
            "compare": self._compare,
        }
        try:
            return dict(result, **steps[args["step"]](args, backup_of(args), task_vars))
        except (files.BackupError, OSError) as exc:
            raise AnsibleActionFail(str(exc)) from exc

    def _judge(self, args: Json, content: Json, task_vars: Json | None) -> Json:
        live = ask(self, store_arguments(args, "read"), task_vars)
        target = plan.Target(args["managed"], id_of(args), live)
        reason = plan.refusal(content, target)
        if reason:
            raise files.BackupError(f"{reason}. Nothing was changed")
        secrets = with_authority(content, args["authority"]) if args["managed"] and target.fresh else {}
        lines = plan.effects(content, target)
        say([f"the backup is of {content['time']}", *lines])
        if plan.needs_consent(target) and not args["confirm"] and not self._task.check_mode:
            raise files.BackupError(f"This puts the store back to {content['time']}: {'; '.join(lines)}. {CONSENT}")
        # The secrets of a cluster whose hosts are all lost; the role puts them onto the hosts of the store.
        return {"changed": False, "fresh": target.fresh, "secrets": secrets, "_ansible_no_log": True}

    def _drill(self, args: Json, content: Json, task_vars: Json | None) -> Json:
        live = ask(self, store_arguments(args, "read"), task_vars)
        reason = plan.refusal(content, plan.Target(args["managed"], id_of(args), live))
        if reason or not live["answers"]:
            raise files.BackupError(
                f"{reason or live['why']}. A drill compares a backup with the living store of its cluster"
            )
        program = {name: args[name] for name in ("program", "management_key")}
        answer = ask(self, {**store_arguments(args, "drilled"), "content": content["content"], **program}, task_vars)
        say(
            drill_lines(answer) if not self._task.check_mode else ["would be tried in a throwaway Consul, and compared"]
        )
        equal = not any(answer["differences"].values())
        return {"changed": False, "keys": answer["keys"], "differences": answer["differences"], "equal": equal}

    def _restore(self, args: Json, content: Json, task_vars: Json | None) -> Json:
        given = {"content": content["content"], "version": content["consul_version"]}
        answer = ask(self, {**store_arguments(args, "restored"), **given}, task_vars)
        wrong = [] if self._task.check_mode else plan.missing(content, answer["networks"], [])
        if wrong:
            raise files.BackupError(f"the store was restored, but {', '.join(wrong)}: look at Consul's log")
        return {"changed": answer["changed"], "networks": [plan.say_network(row) for row in content["networks"]]}

    def _compare(self, args: Json, content: Json, task_vars: Json | None) -> Json:
        if self._task.check_mode:
            return {"changed": False, "networks": []}
        live = ask(self, store_arguments(args, "read"), task_vars)
        wrong = [live["why"]] if live["why"] else plan.missing(content, live["networks"], args["absent"])
        if wrong:
            raise files.BackupError(f"after the restore {', '.join(wrong)}")
        networks = [plan.say_network(row) for row in content["networks"] if row["name"] not in args["absent"]]
        say([f"back as they were: {', '.join(networks) or 'no network'}"])
        return {"changed": False, "networks": networks}
