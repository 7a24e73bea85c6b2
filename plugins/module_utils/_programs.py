# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the host's programs, always in the same way."""

from __future__ import annotations

import os
import subprocess
from typing import Callable

# Not the caller's: sudo may leave out the folders of a system's own tools.
SEARCH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
Runner = Callable[..., "tuple[int, str, str]"]


def run_program(argv: list[str], stdin: str = "", timeout: float = 60.0) -> tuple[int, str, str]:
    """Status, output and complaints of a program in the C locale; 127: it cannot be run, 124: it took more than `timeout` seconds."""
    environment = dict(os.environ, LC_ALL="C", LANGUAGE="C", PATH=SEARCH)
    try:
        done = subprocess.run(
            argv, input=stdin.encode(), capture_output=True, timeout=timeout, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return 124, "", f"{argv[0]} did not end within {timeout:g} s"
    except OSError as exc:
        return 127, "", str(exc)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")
