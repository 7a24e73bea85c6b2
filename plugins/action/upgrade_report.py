# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.upgrade_report): plans, judges and ends an upgrade. Nothing is run on any host."""

from __future__ import annotations

import os
import tarfile
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_plan as plans
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_engine import backends_in
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain

Json = dict[str, Any]
ARGUMENTS: dict[str, Json] = {
    "state": {"type": "str", "choices": ["planned", "judged", "ended"], "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "result_variable": {"type": "str", "default": ""},
    "servers": {"type": "list", "elements": "str", "default": []},
    "leader": {"type": "str", "default": ""},
    "despite": {"type": "list", "elements": "str", "choices": ["verify", "downgrade", "jump"], "default": []},
    "archive": {"type": "dict", "default": {}},
    "plan": {"type": "dict", "default": {}},
    "turn": {"type": "dict", "default": {}},
    "problem": {"type": "str", "default": ""},
    "back": {"type": "str", "default": ""},
}


def archive_problem(path: str, backend: str) -> str:
    """Why the engine of an archive cannot serve, by what its dockerd was built with: the version may be anything."""
    try:
        with tarfile.open(path) as archive:
            member = next((entry for entry in archive if os.path.basename(entry.name) == "dockerd"), None)
            stream = archive.extractfile(member) if member else None
            if stream is None:
                return f"{path} has no dockerd: it is no static archive of Docker."
            data = stream.read()
    except (OSError, tarfile.TarError) as exc:
        return f"{path} cannot be read: {exc}."
    found = backends_in(data, len(data))
    if backend in found:
        return ""
    return (
        f"the engine of {os.path.basename(path)} has no classic mode with {backend} (it has clients for: {', '.join(found) or 'no store'})."
        " cluster-store was removed in Docker 23.0, and the newest that can be is 20.10, built with that client."
    )


class ActionModule(ActionBase):
    """One step of an upgrade, as seen from the controller."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Dispatch on the state."""
        result: Json = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(ARGUMENTS)
        steps = {"planned": self._plan, "judged": self._judge, "ended": self._end}
        return dict(result, changed=False, **steps[args["state"]](plain(args), task_vars or {}))

    def _readings(self, args: Json, task_vars: Json, hosts: list[str]) -> Json:
        found = {host: plain(task_vars["hostvars"][host].get(args["result_variable"]) or {}) for host in hosts}
        return {host: reading for host, reading in found.items() if "wanted" in reading}

    def _plan(self, args: Json, task_vars: Json) -> Json:
        rows = plans.rows(self._readings(args, task_vars, args["hosts"]), {"despite": args["despite"]})
        for line in plans.table(rows):
            Display().display(line)
        self._refuse(args, rows)
        waiting = [row for row in rows if row["action"] == "wait"]
        return {"rows": rows, "turns": plans.turns(rows, args["servers"], args["leader"]), "waiting": waiting}

    def _refuse(self, args: Json, rows: list[Json]) -> None:
        wrong = plans.refusals(rows)
        engines = [row for row in rows if row["program"] == "engine" and row["action"] != "none"]
        archive = archive_problem(**args["archive"]) if args["archive"] and engines else ""
        if archive:
            wrong = f"{wrong or 'Nothing was changed on any host. This upgrade cannot be:'}\n  - {archive}"
        if wrong:
            raise AnsibleActionFail(wrong)

    def _judge(self, args: Json, task_vars: Json) -> Json:
        turn, turns = args["turn"], args["plan"]["turns"]
        problem = args["problem"] or self._still_due(args, task_vars)
        if not problem:
            return {}
        place = turns.index(turn)
        back = args["back"] or "it was not put back."
        raise AnsibleActionFail(plans.stopped(turn, problem, back, turns[:place], turns[place + 1 :]))

    def _still_due(self, args: Json, task_vars: Json) -> str:
        turn = args["turn"]
        if turn["host"] not in task_vars["ansible_play_hosts"]:
            return "it could not be reached any more"
        readings = self._readings(args, task_vars, [turn["host"]])
        found = [row for row in plans.rows(readings, {"despite": args["despite"]}) if row["program"] == turn["program"]]
        if found and found[0]["action"] == "none":
            return ""
        return f"{found[0]['have']} runs, and not {found[0]['want']}" if found else "it could not be read afterwards"

    def _end(self, args: Json, _task_vars: Json) -> Json:
        waiting = args["plan"]["waiting"]
        if not waiting:
            return {}
        lines = [f"  - {row['host']}: {row['have']} -> {row['want']}: {row['why']}" for row in waiting]
        words = "\n".join(["These engines are not upgraded, because nobody has consented to their restart:", *lines])
        if all("never" in row["why"] for row in waiting):
            Display().warning(words)
            return {}
        raise AnsibleActionFail(words)
