# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What systemd knows of units: many in one call, so that no task has to ask for each."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program

PROPERTIES = "Id,LoadState,ActiveState,SubState,Result,MainPID,InvocationID,NeedDaemonReload,KillMode,UnitFileState"


def parse_units(text: str) -> dict[str, dict[str, str]]:
    """``systemctl show`` of several units: one block for each."""
    blocks = [dict(line.split("=", 1) for line in block.splitlines() if "=" in line) for block in text.split("\n\n")]
    return {block["Id"]: block for block in blocks if "Id" in block}


def units(names: list[str]) -> dict[str, dict[str, str]]:
    """systemd's properties of some units, in one call."""
    return parse_units(run_program(["systemctl", "show", "-p", PROPERTIES, *names])[1])


def summary(properties: dict[str, str]) -> dict[str, Any]:
    """What tasks decide by."""
    return {
        "active": properties.get("ActiveState", ""),
        "enabled": properties.get("UnitFileState", ""),
        "needs_reload": properties.get("NeedDaemonReload") == "yes",
    }
