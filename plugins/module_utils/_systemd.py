# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs, and what systemd knows of units: many in one call, so that no task has to ask for each."""

from __future__ import annotations

import subprocess
from typing import Any

PROPERTIES = "Id,LoadState,ActiveState,SubState,Result,MainPID,InvocationID,NeedDaemonReload,KillMode,UnitFileState"


def run(argv: list[str], timeout: float = 60.0) -> tuple[int, str]:
    """Run a program; its status and all that it printed. 127: there is no such program, 124: it took too long."""
    try:
        done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False)
    except FileNotFoundError:
        return 127, f"{argv[0]}: not found"
    except subprocess.TimeoutExpired:
        return 124, f"{' '.join(argv)}: no end after {timeout:.0f} s"
    return done.returncode, done.stdout.decode("utf-8", "replace")


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """``systemctl show`` of several units: one block for each."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def units(names: list[str]) -> dict[str, dict[str, str]]:
    """systemd's properties of some units, in one call."""
    return parse_units(run(["systemctl", "show", "-p", PROPERTIES, *names])[1])


def summary(properties: dict[str, str]) -> dict[str, Any]:
    """What tasks decide by."""
    return {
        "active": properties.get("ActiveState", ""),
        "enabled": properties.get("UnitFileState", ""),
        "needs_reload": properties.get("NeedDaemonReload") == "yes",
    }
