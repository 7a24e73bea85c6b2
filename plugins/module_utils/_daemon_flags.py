# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings of dockerd that are command line flags, and the file in which each is set.

A setting must not be in daemon.json too: dockerd then refuses to start. Pure, but for the reader of files that is
handed in.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Tuple

# Flags whose key in daemon.json has another name.
KEYS = {
    "H": "hosts",
    "host": "hosts",
    "D": "debug",
    "G": "group",
    "b": "bridge",
    "g": "data-root",
    "graph": "data-root",
    "l": "log-level",
    "p": "pidfile",
    "s": "storage-driver",
    "add-runtime": "runtimes",
    "authorization-plugin": "authorization-plugins",
    "cluster-store-opt": "cluster-store-opts",
    "default-address-pool": "default-address-pools",
    "default-ulimit": "default-ulimits",
    "dns-opt": "dns-opts",
    "exec-opt": "exec-opts",
    "insecure-registry": "insecure-registries",
    "label": "labels",
    "log-opt": "log-opts",
    "node-generic-resource": "node-generic-resources",
    "registry-mirror": "registry-mirrors",
    "storage-opt": "storage-opts",
}
# Flags that take the next word only after "=".
SWITCHES = frozenset(
    [
        "allow-direct-routing",
        "bridge-accept-fwmark",
        "cri-containerd",
        "debug",
        "disable-legacy-registry",
        "experimental",
        "feature-containerd-snapshotter",
        "help",
        "icc",
        "init",
        "ip-forward",
        "ip-masq",
        "ip6tables",
        "iptables",
        "ipv6",
        "live-restore",
        "no-new-privileges",
        "raw-logs",
        "rootless",
        "selinux-enabled",
        "tls",
        "tlsverify",
        "userland-proxy",
        "validate",
        "version",
    ]
)
MAPS = frozenset(["cluster-store-opts", "log-opts"])
LISTS = frozenset(
    [
        "authorization-plugins",
        "default-address-pools",
        "default-ulimits",
        "dns",
        "dns-opts",
        "dns-search",
        "exec-opts",
        "hosts",
        "insecure-registries",
        "labels",
        "node-generic-resources",
        "registry-mirrors",
        "runtimes",
        "storage-opts",
    ]
)
PROGRAMS = frozenset(["dockerd", "dockerd-ce"])


@dataclass(frozen=True)
class Flag:
    """A setting that is a flag: its key in daemon.json, its value, and the file (or process) that sets it."""

    key: str
    value: Any
    source: str


Word = Tuple[str, str]  # a word of the command line, and where it comes from


def _name_and_value(words: list[Word], index: int) -> tuple[str, Any, int]:
    """The flag at `index` without its dashes, its value, and the index behind both."""
    text = words[index][0]
    if not text.startswith("--") and len(text) > 2 and text[1] in KEYS and text[2] != "=":
        return text[1], text[2:], index + 1  # -Hfd://
    name, equals, value = text.lstrip("-").partition("=")
    if equals:
        return name, value, index + 1
    if KEYS.get(name, name) in SWITCHES or name in ("h", "v"):
        return name, "true", index + 1
    following = words[index + 1][0] if index + 1 < len(words) else ""
    return name, following, index + 2


def _typed(key: str, value: str, before: Any) -> Any:
    if key in MAPS:
        name, _equals, option = value.partition("=")
        return {**(before or {}), name: option}
    if key in LISTS:
        return [*(before or []), value]
    return value.lower() in ("true", "1", "t") if key in SWITCHES else value


def from_words(words: list[Word]) -> dict[str, Flag]:
    """The flags among the words of a command line, program name included."""
    flags: dict[str, Flag] = {}
    index = 1
    while index < len(words):
        text, source = words[index]
        if not text.startswith("-") or text.strip("-") == "":
            index += 1
            continue
        name, value, index = _name_and_value(words, index)
        key = KEYS.get(name, name)
        before = flags[key].value if key in flags else None
        flags[key] = Flag(key, _typed(key, value, before), source)
    return flags


def from_argv(argv: Iterable[str], source: str) -> dict[str, Flag]:
    """The flags of a running process."""
    return from_words([(word, source) for word in argv])


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # an open quote: systemd would refuse the line as well
        return text.split()


def _assignments(text: str) -> Iterable[tuple[str, str, str]]:
    """(section, key, value) of a unit file, continued lines joined."""
    section = ""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and line[0] not in "#;" and "=" in line:
            key, _equals, value = line.partition("=")
            yield section, key.strip(), value.strip()


def environment_file(text: str) -> dict[str, str]:
    """The variables of an EnvironmentFile. Unquoted blanks belong to the value, as systemd has it."""
    variables = {}
    for line in re.sub(r"\\\n", " ", text).splitlines():
        line = line.strip()
        if line and line[0] not in "#;" and "=" in line:
            name, _equals, value = line.partition("=")
            variables[name.strip()] = " ".join(_split(value)) if value.strip() else ""
    return variables


@dataclass
class Unit:
    """What of a unit decides on dockerd's command line and environment, from all of its files together."""

    start: str = ""
    start_source: str = ""
    environment: dict[str, Word] = field(default_factory=dict)
    environment_files: list[str] = field(default_factory=list)


def merge_unit(files: Iterable[tuple[str, str]]) -> Unit:
    """The unit that its files (path, text), in systemd's order, make together."""
    unit = Unit()
    for path, text in files:
        for section, key, value in _assignments(text):
            if section == "Service":
                _assign(unit, path, key, value)
    return unit


def _assign(unit: Unit, path: str, key: str, value: str) -> None:
    if key == "ExecStart":
        unit.start, unit.start_source = value.lstrip("-@:+!"), path
    elif key == "Environment":
        if not value:
            unit.environment.clear()
        for word in _split(value):
            name, _equals, content = word.partition("=")
            unit.environment[name] = (content, path)
    elif key == "EnvironmentFile":
        if not value:
            unit.environment_files.clear()
        else:
            unit.environment_files.append(value.lstrip("-"))


def environment_of(unit: Unit, read: Callable[[str], str | None]) -> dict[str, Word]:
    """The variables that the unit gives to dockerd, each with the file it stands in. Files win over Environment=."""
    variables = dict(unit.environment)
    for path in unit.environment_files:
        for name, value in environment_file(read(path) or "").items():
            variables[name] = (value, path)
    return variables


def _expand(word: str, source: str, variables: dict[str, Word]) -> list[Word]:
    """A word of ExecStart: $NAME alone becomes the words of its value, ${NAME} is put in as it is."""
    alone = re.match(r"^\$(\w+)$", word)
    if alone:
        value, where = variables.get(alone.group(1), ("", source))
        return [(part, where) for part in _split(value)]
    used = re.findall(r"\$\{(\w+)\}", word)
    where = variables[used[-1]][1] if used and used[-1] in variables else source
    return [(re.sub(r"\$\{(\w+)\}", lambda m: variables.get(m.group(1), ("", ""))[0], word), where)]


def from_unit(files: Iterable[tuple[str, str]], read: Callable[[str], str | None]) -> dict[str, Flag] | None:
    """The flags that dockerd's unit will start it with; None if it does not start dockerd itself."""
    unit = merge_unit(files)
    variables = environment_of(unit, read)
    words = [part for word in _split(unit.start) for part in _expand(word, unit.start_source, variables)]
    if not words or words[0][0].rpartition("/")[2] not in PROGRAMS:
        return None
    return from_words(words)
