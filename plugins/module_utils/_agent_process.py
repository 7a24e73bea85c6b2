# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An agent as a process of its own: leaves its module's process, has a last deadline, ends by itself."""

from __future__ import annotations

import ctypes
import os
import signal
import time
import traceback
from contextlib import suppress
from typing import Any, Callable, Dict, NoReturn

from ansible_collections.multihost.overlay.plugins.module_utils import _run_state as state

Json = Dict[str, Any]
# A result that nobody collects (the play was interrupted) goes away with the agent after this many seconds.
KEEP = 300.0
_PR_SET_NAME = 15
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM)


class EndedError(Exception):
    """A signal, or the last deadline."""


def _raise_ended(number: int, _frame: Any) -> NoReturn:
    raise EndedError(f"ended by signal {number}")


def ignore_signals() -> None:
    """From here on the agent only cleans up, and is not to be disturbed."""
    for number in _ENDING:
        signal.signal(number, signal.SIG_IGN)


def _await_collection(path: str, keep: float) -> None:
    limit = time.monotonic() + keep
    while os.path.isdir(path) and time.monotonic() < limit:
        time.sleep(0.1)


def _close(descriptor: int) -> None:
    with suppress(OSError):  # the listing's own is closed already
        os.close(descriptor)


def _detach(keep: int, log: str) -> None:
    """Leave nothing of the module's process: Ansible waits for every copy of its pipes to be closed."""
    os.setsid()
    os.chdir("/")
    os.umask(0o077)
    null = os.open(os.devnull, os.O_RDWR)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for target, source in ((0, null), (1, output), (2, output)):
        os.dup2(source, target)
    for descriptor in [int(name) for name in os.listdir("/proc/self/fd")]:
        if descriptor > 2 and descriptor != keep:
            _close(descriptor)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in _ENDING:
        signal.signal(number, _raise_ended)


def _rename(name: str) -> None:
    """What ps shows, and what preflight knows its own agent by."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def _live(run: str, kind: str, descriptor: int, last: float, keep: float, work: Callable[[str], None]) -> NoReturn:
    """The agent's whole life, after the second fork. It never returns into the module's code."""
    path = state.directory(run, kind=kind)
    try:
        _detach(descriptor, os.path.join(path, "log"))
        _rename(f"overlay-{kind}")
        signal.setitimer(signal.ITIMER_REAL, last)
        work(path)
        _await_collection(path, keep)
        state.remove(run, kind=kind)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def start_process(kind: str, plan: Json, last: float, work: Callable[[str], None], keep: float = KEEP) -> None:
    """Start ``work`` as a process of its own, with ``last`` seconds to live, and return at once."""
    descriptor = state.create(plan["run"], plan, kind=kind)
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            _live(plan["run"], kind, descriptor, last, keep, work)
        os._exit(0)
    os.waitpid(child, 0)
    os.close(descriptor)
