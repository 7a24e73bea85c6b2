# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.run_lock): knows who runs, and leaves a process that keeps the lock."""

from __future__ import annotations

import multiprocessing
import os
import shlex
import signal
import time
from contextlib import suppress
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._run_lock import DIRECTORY, refusal, say
from ansible_collections.multihost.overlay.plugins.modules.run_lock import ARGUMENTS
from ansible_collections.multihost.overlay.plugins.plugin_utils import _run_keeper as keeper

Json = dict[str, Any]
NOTHING: Json = {"held": False, "again": False, "holder": {}, "taken_from": [], "refusal": "", "problem": ""}
LOST = (
    "The lock of this run on {host} is another run's now, because this controller was not heard of for a minute, or because of "
    "overlay_lock_break: {other}. Two runs must not change the same hosts, so this one ends here. Run it again when the other has ended; "
    "what is done is left as it is."
)


def this_run() -> int:
    """The process of ansible-playbook; who asks is a worker of it."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


class Lock:
    """The lock of one run on one host."""

    def __init__(self, action: ActionModule, host: str, holder: Json, task_vars: Json | None) -> None:
        self.action, self.host, self.holder, self.task_vars = action, host, holder, task_vars
        self.path = shlex.quote(f"{DIRECTORY}/{holder['id']}")
        self.other: Json = {}

    def take(self, take_over: bool = False) -> Json:
        """Take it, also from who ran here and is gone."""
        answer = self._ask([], take_over)
        if answer["holder"] and keeper.is_gone(answer["holder"]):
            answer = self._ask([answer["holder"]["id"]], take_over)
        return answer

    def _ask(self, gone: list[str], take_over: bool) -> Json:
        args = {"holder": self.holder, "gone": gone, "take_over": take_over}
        try:
            answer = self.action._execute_module(module_args=args, task_vars=self.task_vars)
        except AnsibleError as exc:
            return dict(NOTHING, problem=str(exc))
        if "held" in answer:
            return {key: answer[key] for key in NOTHING}
        return dict(NOTHING, problem=str(answer.get("msg", "no message")))

    def _tell(self, command: str) -> str:
        """Without a module: those are packed below a folder that is gone with the run."""
        return str(self.action._low_level_execute_command(command).get("stdout", ""))

    def renew(self) -> bool:
        """Whether it may still be ours; who cannot ask does not know better. After the host's reboot it is taken anew."""
        with suppress(Exception):
            if "gone" not in self._tell(
                f"if touch -c {self.path} && test -e {self.path}; then echo kept; else echo gone; fi"
            ):
                return True
            # The task's folder on the host went with the task.
            self.action._connection._shell.tmpdir = None
            self.other = self.take()["holder"]
            self.action.cleanup()
        return not self.other

    def release(self) -> None:
        """Give it back; the last one out removes the directory."""
        with suppress(Exception):
            self._tell(f"rm -f {self.path}; rmdir {DIRECTORY} 2>/dev/null")

    def end(self) -> None:
        """End the run, as somebody would who knew."""
        Display().error(LOST.format(host=self.host, other=say(self.other)))
        time.sleep(1.0)  # its message goes through the run that it ends
        os.kill(self.holder["pid"], signal.SIGTERM)

    def keep(self) -> None:
        """What the process does that stays."""
        Display().verbosity = 0
        keeper.keep(self._alive, self.renew, self.release, self.end)

    def _alive(self) -> bool:
        return keeper.lives(self.holder["pid"], self.holder["started"])


class ActionModule(ActionBase):
    """Takes the lock on the host that the task is delegated to."""

    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Take it, and have it kept; or say who has it."""
        result: Json = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        host = str(self._task.delegate_to or (task_vars or {})["inventory_hostname"])
        lock = Lock(self, host, keeper.holder(this_run(), context.CLIARGS.get("args", ())), task_vars)
        answer = lock.take(args["take_over"])
        if answer["held"] and not answer["again"]:
            keeper.start(lock.keep)
        self._say(host, answer)
        return dict(result, changed=False, **answer)

    def _say(self, host: str, answer: Json) -> None:
        """Whose it was, or is."""
        for other in answer["taken_from"]:
            Display().display(f"lock: taken over on {host}; {say(other)}")
        if answer["holder"] and self._task.check_mode:
            Display().warning(f"Another run works on this cluster meanwhile: {say(answer['holder'])} (on {host}).")
        elif answer["holder"]:
            answer["refusal"] = refusal(answer["holder"], host)
