# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""dockerd's arguments that are ours: a drop-in with the unit's own command line and ours behind it. Pure.

Where Docker's API listens cannot stand in daemon.json, because the distributions' units have `-H fd://` already, and dockerd
refuses a setting that is in both places (moby's issue 25471). What secures it stands in the same line: a listener and its TLS come and
go together, whatever happens to daemon.json.
"""

from __future__ import annotations

from typing import Iterable, Mapping, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import Flag, from_argv, merge_unit

# The last of all drop-ins by its name: another one behind it would take the listener's TLS away.
PATH = "/etc/systemd/system/docker.service.d/zzz-multihost-overlay-arguments.conf"
Files = Iterable[Tuple[str, str]]


def drop_in(files: Files, arguments: list[str]) -> str | None:
    """The drop-in's text; None where there is nothing to add, or no unit yet. ``files`` make the unit, this drop-in possibly among them."""
    command = merge_unit((path, text) for path, text in files if path != PATH).start
    if not arguments or not command:
        return None
    words = " ".join([command, *(word.replace("%", "%%") for word in arguments)])
    return f"# Written by multihost.overlay: the unit's own command line, and Docker's API.\n[Service]\nExecStart=\nExecStart={words}\n"


def change_reason(before: str | None, after: str | None) -> dict[str, str]:
    """Why a drop-in that changes means a restart."""
    return {} if before == after else {"arguments": "dockerd's arguments change"}


def conflicts(arguments: list[str], document: Mapping[str, object], path: str) -> list[str]:
    """Settings that daemon.json has too, for which dockerd would not start."""
    ours = from_argv(["dockerd", *arguments], "ours")
    return [
        f"{path} has {key!r}, which overlay_docker_api: tls or insecure gives dockerd as an argument. It cannot be in both places: "
        f"take it out of the file, or set overlay_docker_api: none"
        for key in ours
        if key in document
    ]


def running_without(arguments: list[str], argv: list[str]) -> dict[str, str]:
    """What a dockerd runs without, or runs with though it is not wanted any more, as a reason for a restart."""
    has = {key: flag.value for key, flag in from_argv(argv, "the running dockerd").items()}
    lacking = [key for key, flag in from_argv(["dockerd", *arguments], "ours").items() if not _has(has.get(key), flag)]
    return {"arguments": f"dockerd runs without the present {', '.join(sorted(lacking))}"} if lacking else {}


def _has(value: object, flag: Flag) -> bool:
    if isinstance(flag.value, list) and isinstance(value, list):
        return set(flag.value) <= set(value)
    return value == flag.value
