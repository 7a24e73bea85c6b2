# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes what a run of ansible-playbook does to the file named by OVERLAY_RECORD, one JSON object a line.

tests/e2e/support.py switches it on and reads it. Written line by line: a run that is killed leaves its record too.
With OVERLAY_END_AT it kills the run itself, exactly where that task would begin.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import time
from typing import Any, Callable

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: overlay_record
type: notification
short_description: Records tasks, results and remote executions of a run for the tests
description:
  - One JSON object a line, in the file named by the environment variable E(OVERLAY_RECORD).
  - E(OVERLAY_END_AT) is the number of a task, counted from 1, before which the run is killed with all its processes.
options: {}
"""


def write(event: str, **fields: Any) -> None:
    """Append one line. A single write to a file opened for appending does not mix with those of the forked workers."""
    line = json.dumps({"event": event, "time": time.time(), **fields}, default=str) + "\n"
    handle = os.open(os.environ["OVERLAY_RECORD"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(handle, line.encode())
    finally:
        os.close(handle)


def counting(method: Callable[..., Any], kind: str) -> Callable[..., Any]:
    """A method of ActionBase that leaves a line for each call before it does its work."""

    @functools.wraps(method)
    def wrapper(self: ActionBase, *args: Any, **kwargs: Any) -> Any:
        task, name = self._task, kwargs.get("module_name") or self._task.action
        host = (kwargs.get("task_vars") or {}).get("inventory_hostname") or self._play_context.remote_addr
        write(kind, host=task.delegate_to or host, task=task.get_name(), uuid=str(task._uuid), module=name)
        return method(self, *args, **kwargs)

    return wrapper


def collection_folder() -> str:
    """The folder from which this very process loads multihost.overlay; empty when it finds none."""
    try:
        package = importlib.import_module("ansible_collections.multihost.overlay")
    except ImportError:
        return ""
    return os.path.realpath(next(iter(package.__path__)))


class CallbackModule(CallbackBase):
    """Sees results in the main process; the executions on hosts are counted where they happen, in the workers."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "overlay_record"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.started = 0
        if not os.environ.get("OVERLAY_RECORD"):
            self.disabled = True
            return
        # Results do not tell how many modules an action ran, nor whether any: `copy` runs two or three, `assert` none.
        # The callbacks are made before the workers are forked, which is why this reaches them.
        if not hasattr(ActionBase._execute_module, "__wrapped__"):
            ActionBase._execute_module = counting(ActionBase._execute_module, "module")
            ActionBase._low_level_execute_command = counting(ActionBase._low_level_execute_command, "command")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        write("start", playbook=playbook._file_name, collection=collection_folder())

    def v2_playbook_on_play_start(self, play: Any) -> None:
        write("play", name=play.get_name())

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        self.started += 1
        if str(self.started) == os.environ.get("OVERLAY_END_AT"):
            os.killpg(0, signal.SIGKILL)
        write("task", name=task.get_name(), action=task.action, uuid=str(task._uuid), path=task.get_path())

    v2_playbook_on_handler_task_start = functools.partialmethod(v2_playbook_on_task_start, is_conditional=False)

    def _result(self, outcome: str, result: Any) -> None:
        kept = {key: result._result.get(key) for key in ("msg", "changed") if key in result._result}
        if result._task.no_log and "msg" in kept:
            kept["msg"] = "(no_log)"
        write("result", outcome=outcome, host=result._host.get_name(), uuid=str(result._task._uuid), **kept)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result("failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result("unreachable", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        write("stats", hosts={host: stats.summarize(host) for host in sorted(stats.processed)})
