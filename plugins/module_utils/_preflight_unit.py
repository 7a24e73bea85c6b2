# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds out which flags and which environment dockerd has, and where each is set.

The unit is read from its files, as systemd merges them: that needs no bus, and each line keeps the name of its file.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import SWITCHES
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader, parse_assignments

UNIT_DIRS = (
    "/etc/systemd/system.control",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/etc/systemd/system",
    "/run/systemd/system",
    "/run/systemd/generator",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
UNIT = "docker.service"
SHORT = {
    "D": "debug",
    "H": "host",
    "G": "group",
    "b": "bridge",
    "g": "data-root",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
}
# Their values may hold credentials.
SECRET = frozenset(("log-opt", "http-proxy", "https-proxy"))


def unit_files(reader: Reader) -> list[str]:
    """The unit's file, if any, and its drop-ins in the order in which they apply."""
    main = [f"{folder}/{UNIT}" for folder in UNIT_DIRS if reader.exists(f"{folder}/{UNIT}")][:1]
    dropins: dict[str, str] = {}
    for folder in UNIT_DIRS:
        for name in reader.names(f"{folder}/{UNIT}.d"):
            if name.endswith(".conf"):
                dropins.setdefault(name, f"{folder}/{UNIT}.d/{name}")
    return main + [dropins[name] for name in sorted(dropins)] if main else []


def words(text: str) -> list[str]:
    """Split as a shell does; a line that cannot be split is split at its blanks."""
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def settings(text: str) -> list[tuple[str, str]]:
    """The (key, value) lines of a unit file, continued lines joined."""
    joined = re.sub(r"\\\n", " ", text)
    pairs = [
        line.strip().partition("=") for line in joined.splitlines() if line.strip() and line.strip()[0] not in "#;["
    ]
    return [(key.strip(), value.strip()) for key, equals, value in pairs if equals]


def merge_unit(files: list[tuple[str, str]]) -> dict[str, Any]:
    """The merged unit: the command, the environment and its files, each with the file that says so."""
    command: tuple[str, str] = ("", "")
    environment: list[tuple[str, str, str]] = []
    env_files: list[str] = []
    for path, text in files:
        for key, value in settings(text):
            if key == "ExecStart":
                command = (value, path) if value else ("", "")
            elif key == "Environment":
                pairs = [word.partition("=") for word in words(value)]
                environment = [*environment, *[(name, content, path) for name, _eq, content in pairs]] if value else []
            elif key == "EnvironmentFile":
                env_files = [*env_files, value.lstrip("-")] if value else []
    return {
        "command": command[0].lstrip("@-:+!"),
        "command_file": command[1],
        "environment": environment,
        "environment_files": env_files,
    }


def manager_environment(reader: Reader) -> list[tuple[str, str, str]]:
    """DefaultEnvironment of the service manager reaches every unit."""
    folder = "/etc/systemd/system.conf.d"
    found = []
    for path in [
        "/etc/systemd/system.conf",
        *[f"{folder}/{name}" for name in reader.names(folder) if name.endswith(".conf")],
    ]:
        for key, value in settings(reader.text(path) or ""):
            if key == "DefaultEnvironment":
                found += [(pair.partition("=")[0], pair.partition("=")[2], path) for pair in words(value)]
    return found


def unit_environment(reader: Reader, unit: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Name -> (value, where it is set); later settings win, files over lines, as in systemd."""
    found = {name: (value, path) for name, value, path in [*manager_environment(reader), *unit["environment"]]}
    for path in unit["environment_files"]:
        for name, value in parse_assignments(reader.text(path) or "").items():
            found[name] = (value, path)
    return found


def expand(command: str, source: str, environment: dict[str, tuple[str, str]]) -> list[tuple[str, str]]:
    """The command's words, each with the file it comes from: $VAR becomes several words, ${VAR} stays within one."""
    found: list[tuple[str, str]] = []
    for word in words(command):
        whole = re.fullmatch(r"\$(\w+)", word)
        if whole:
            value, path = environment.get(whole.group(1), ("", ""))
            found += [(part, path) for part in words(value)]
            continue
        inner = re.search(r"\$\{(\w+)\}", word)
        path = environment[inner.group(1)][1] if inner and inner.group(1) in environment else source
        found.append((re.sub(r"\$\{(\w+)\}", lambda match: environment.get(match.group(1), ("", ""))[0], word), path))
    return found


def parse_flags(argv: list[tuple[str, str]]) -> list[dict[str, str]]:
    """dockerd's flags as {flag, value, source}; a switch without a value is true."""
    found = []
    rest = list(argv)
    while rest:
        word, source = rest.pop(0)
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        elif word.startswith("-") and len(word) > 1:
            name, value = SHORT.get(word[1], word[1]), word[2:].lstrip("=")
            equals = "=" if value else ""
        else:
            continue
        if not equals:
            takes_word = name not in SWITCHES and rest and not rest[0][0].startswith("-")
            value = rest.pop(0)[0] if takes_word else "true"
        found.append({"flag": name, "value": value, "source": source})
    return found


def read_unit(reader: Reader) -> dict[str, Any]:
    """Flags and environment as the next start of docker.service would have them."""
    files = unit_files(reader)
    unit = merge_unit([(path, reader.text(path) or "") for path in files])
    environment = unit_environment(reader, unit) if files else {}
    argv = expand(unit["command"], unit["command_file"], environment)
    return {
        "files": files,
        "program": argv[0][0] if argv else "",
        "flags": parse_flags(argv[1:]),
        "environment": [
            {"name": name, "value": value, "source": source} for name, (value, source) in environment.items()
        ],
    }
