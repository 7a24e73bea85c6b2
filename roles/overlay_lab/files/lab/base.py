# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every part of the lab needs: errors, commands, files, locks and the identity of processes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import IO, Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class LabError(Exception):
    """Something the user has to know: what was seen and what cures it."""


class Log:
    """The changes made (or, in check mode, those that would be made)."""

    def __init__(self, check: bool = False) -> None:
        self.check = check
        self.actions: List[str] = []

    def act(self, what: str) -> bool:
        """Note one change; tells whether it is to be made."""
        self.actions.append(what)
        return not self.check


def environment(**extra: str) -> Dict[str, str]:
    """A tool's environment: one language, and the places of system tools whoever calls us."""
    return {**os.environ, "PATH": os.environ.get("PATH", "") + ":" + PATH, "LC_ALL": "C", **extra}


def run(
    argv: Sequence[str], check: bool = True, stdin: Optional[str] = None, timeout: float = 120, **extra: str
) -> str:
    """Run a command and return its output; a failure names the command and its last words."""
    try:
        done = subprocess.run(
            list(argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment(**extra),
            check=False,
        )
    except FileNotFoundError as exc:
        raise LabError("%s is missing on this machine: install it" % argv[0]) from exc
    except subprocess.TimeoutExpired as exc:
        raise LabError("%r did not end within %d s" % (" ".join(argv), timeout)) from exc
    if check and done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-1500:]
        raise LabError("%r failed with status %d: %s" % (" ".join(argv), done.returncode, words))
    return done.stdout


def spawn(argv: Sequence[str], output: IO[str], **extra: str) -> None:
    """Start a process that outlives us and holds nothing of ours."""
    subprocess.Popen(
        list(argv),
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        cwd="/",
        env=environment(**extra),
    )


def ok(argv: Sequence[str], timeout: float = 30) -> bool:
    """Does a command succeed?"""
    try:
        done = subprocess.run(list(argv), capture_output=True, timeout=timeout, env=environment(), check=False)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def write(path: Path, text: str, mode: int = 0o644) -> bool:
    """Write a file in one step unless it is so already."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if path.read_text() == text and (path.stat().st_mode & 0o7777) == mode:
            return False
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(".%s.%d" % (path.name, os.getpid()))
    handle = os.open(str(temporary), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w") as stream:
        os.fchmod(stream.fileno(), mode)
        stream.write(text)
    os.replace(str(temporary), str(path))
    return True


def load(path: Path, default: Any = None) -> Any:
    """The content of a JSON file, or the default if there is none (files are written in one step: never half)."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return default
    except ValueError as exc:
        raise LabError("%s is not JSON (%s): remove it and run lab_up again" % (path, exc)) from exc


def dump(path: Path, value: Any) -> bool:
    """Write a JSON file unless it is so already."""
    return write(path, json.dumps(value, indent=1, sort_keys=True) + "\n", 0o600)


def wait_for(what: str, check: Callable[[], Any], seconds: float, pause: float = 0.1) -> Any:
    """The first true value of check(), or an error after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise LabError("%s: not within %d s" % (what, seconds))
        time.sleep(pause)


@contextlib.contextmanager
def locked(path: Path, seconds: float = 900) -> Iterator[None]:
    """Hold a lock that the kernel takes back when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as stream:
        wait_for("another run holds %s" % path, lambda: _try_lock(stream.fileno()), seconds, 0.2)
        yield


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class Process(NamedTuple):
    """A process for good: a number alone may have gone to another one."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Optional[Process]:
        """The living process with this number."""
        fields = stat(pid)
        return None if fields is None or fields[0] in "ZX" else cls(pid, int(fields[19]))

    @classmethod
    def load(cls, path: Path) -> Optional[Process]:
        """The process of a pid file, if it still is that one."""
        value = load(path)
        if not value:
            return None
        process = cls.of(int(value[0]))
        return process if process and process.started == value[1] else None

    def alive(self) -> bool:
        """Is it still there?"""
        return Process.of(self.pid) == self

    def dead(self) -> bool:
        """Is it gone?"""
        return not self.alive()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            if self.alive():
                os.kill(self.pid, number)

    def end(self, seconds: float = 10) -> None:
        """SIGTERM, and SIGKILL if that does not help in time."""
        self.kill(signal.SIGTERM)
        with contextlib.suppress(LabError):
            wait_for("", self.dead, seconds, 0.05)
            return
        self.kill()
        wait_for("process %d does not die" % self.pid, self.dead, seconds, 0.05)


def stat(pid: int) -> Optional[List[str]]:
    """The fields of /proc/PID/stat from the state on (its name may hold anything, so count from the last bracket)."""
    try:
        return Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None


def children(pid: int) -> List[int]:
    """The children of a process."""
    numbers = [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
    return [number for number in numbers if (stat(number) or ["", "-1"])[1] == str(pid)]
