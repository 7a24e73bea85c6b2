# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lines about tasks that take long, for logs that nobody can look behind."""

from __future__ import annotations

DOCUMENTATION = """
name: progress
type: aggregate
short_description: Says during long tasks for how long they run and which hosts are waited for
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - While a task runs for longer than O(interval) it prints a line every O(interval) seconds, with the play, the task, how long it has
    run, how many hosts are done, and the first of those that are at work. Nothing is printed about tasks that are done sooner.
  - The lines are whole lines beside those of the normal output, so that they fit the log of a CI system.
  - Where a strategy other than V(linear) lets hosts be at different tasks, the lines are about the task that began last.
requirements:
  - It is enabled by its name in E(ANSIBLE_CALLBACKS_ENABLED), or in C(callbacks_enabled) of C(ansible.cfg).
options:
  interval:
    description: Seconds between two lines, and how long a task is left to run before the first.
    type: float
    default: 10
    ini:
      - section: callback_overlay_progress
        key: interval
    env:
      - name: OVERLAY_PROGRESS_INTERVAL
"""

import atexit
import sys
import threading
import time
from typing import Any

from ansible import context
from ansible.errors import AnsibleOptionsError
from ansible.plugins.callback import CallbackBase

NAMES = 4


def duration(seconds: float) -> str:
    """Seconds as one reads them in a log."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"


class Waiting:
    """One task: who is at work on it, who is done. The main thread writes, the watching one reads."""

    def __init__(self, name: str, uuid: str, hosts: int, most: int, now: float) -> None:
        self.name, self.uuid = " ".join(name.split()), uuid
        # How many hosts the task is for, and how many can be at work at the same time.
        self.hosts, self.most = hosts, most
        self.began = now
        self.at_work: dict[str, None] = {}
        self.done = 0
        self.said = 0

    def start(self, host: str) -> None:
        """A worker has been given this host."""
        if self.most == 1:
            # The only worker is free again: who had it is done, though Ansible may read that result only after this host's.
            self.done += len(self.at_work)
            self.at_work.clear()
        self.at_work[host] = None

    def end(self, host: str) -> None:
        """Its result is there."""
        if host in self.at_work:
            del self.at_work[host]
            self.done += 1

    def due(self, interval: float) -> float:
        """When the next line is to be printed."""
        return self.began + interval * (self.said + 1)

    def line(self, now: float) -> str:
        """What is waited for; empty when it is nothing."""
        hosts = list(self.at_work)
        if not hosts:
            return ""
        # While workers are left, nobody else is to come: the other hosts do not have this task.
        total = max(self.hosts, self.done + len(hosts)) if len(hosts) >= self.most else self.done + len(hosts)
        names = ", ".join(hosts[:NAMES]) + (f" and {len(hosts) - NAMES} more" if len(hosts) > NAMES else "")
        return f"[progress] {self.name}: {duration(now - self.began)}, {self.done} of {total} hosts done, waiting for {names}"


class CallbackModule(CallbackBase):
    """Learns from Ansible's events who is at work. A thread says so, as the main one waits without any event."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "multihost.overlay.progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interval = 0.0
        self._play, self._hosts = "", 0
        self._waiting: Waiting | None = None
        self._over = threading.Event()
        self._watcher: threading.Thread | None = None

    def set_options(self, task_keys: Any = None, var_options: Any = None, direct: Any = None) -> None:
        """Take the interval, and refuse a senseless one before anything runs."""
        super().set_options(task_keys=task_keys, var_options=var_options, direct=direct)
        self._interval = float(self.get_option("interval"))
        if not self._interval > 0:
            raise AnsibleOptionsError(f"OVERLAY_PROGRESS_INTERVAL is {self._interval:g}: give it more than 0 seconds")

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Begin to watch.

        Not by a signal: its handler could come in the midst of another write to the same stream, and tasks with a timeout need SIGALRM.
        Workers are forked while Ansible holds the lock that Display takes for each write, so no worker inherits it from this thread.
        """
        # Each playbook of the command line begins with this event, and the statistics come after the last.
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="overlay-progress", daemon=True)
            self._watcher.start()
            # A run that ends by an error has no statistics.
            atexit.register(self._over.set)

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Learn how many hosts take part, in this batch of them if there are several."""
        variables = play.get_variable_manager().get_vars(play=play)
        self._play, self._hosts = play.get_name(), len(variables["ansible_play_batch"])
        self._waiting = None

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins; what is left of the one before is of no interest."""
        throttle = task.throttle if isinstance(task.throttle, int) else 0
        most = min(filter(None, (context.CLIARGS.get("forks") or 5, throttle)))
        name = f"{self._play} / {task.get_name()}"
        hosts = 1 if task.run_once is True else self._hosts
        self._waiting = Waiting(name, str(task._uuid), hosts, most, time.monotonic())

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """Handlers take as long as tasks."""
        self.v2_playbook_on_task_start(task, is_conditional=False)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A worker begins."""
        if self._waiting and self._waiting.uuid == str(task._uuid):
            self._waiting.start(host.get_name())

    def _end(self, result: Any) -> None:
        if self._waiting and self._waiting.uuid == str(result.task._uuid):
            self._waiting.end(result.host.get_name())

    def v2_runner_on_ok(self, result: Any) -> None:
        """One host less."""
        self._end(result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """One host less."""
        self._end(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """One host less."""
        self._end(result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """One host less."""
        self._end(result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The last lines are the statistics."""
        self._over.set()

    def _watch(self) -> None:
        pause = self._interval
        while not self._over.wait(pause):
            pause = self._look(time.monotonic())

    def _look(self, now: float) -> float:
        """Print a line if it is time for one; return when to look again. A later task's line is never due before this one's."""
        waiting = self._waiting
        if waiting is None:
            return self._interval
        if now >= waiting.due(self._interval):
            waiting.said = int((now - waiting.began) / self._interval)
            self._say(waiting.line(now))
        return max(0.1, waiting.due(self._interval) - now)

    def _say(self, line: str) -> None:
        """At once: what is not a terminal is written in large blocks else."""
        if not line or self._over.is_set():
            return
        try:
            self._display.display(line)
            sys.stdout.flush()
        except OSError:
            # Nobody reads it any more; Ansible itself will find out and say so.
            self._over.set()
