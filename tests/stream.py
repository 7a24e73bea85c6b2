# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a program whose output is shown as it comes and kept."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Mapping


def run(
    command: list[str], log: Path, cwd: Path, env: Mapping[str, str] | None = None, label: str = ""
) -> tuple[int, str]:
    """The status it ended with, and all that it said; also in the file `log`. Each line is shown behind `label`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    said = []
    with (
        log.open("w") as kept,
        subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):
        for line in process.stdout or ():
            print(label + line, end="", flush=True)
            kept.write(line)
            said.append(line)
    return process.returncode, "".join(said)
