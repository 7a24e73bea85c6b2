# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""daemon.json as text: read it, write it back in its owner's style, and show it without secrets. Pure."""

from __future__ import annotations

import json
import re
from typing import Any

DEFAULT_INDENT = 2
# Words in names of keys (log-opts of logging drivers, for instance) whose values must not be seen.
SECRET = re.compile(r"token|passw|secret|credential|access-key", re.IGNORECASE)
USER_INFO = re.compile(r"(://)[^/@\s]+@")
HIDDEN = "********"


class DaemonConfigError(Exception):
    """Something about the engine's configuration that a person has to decide."""


def parse(text: str, path: str) -> dict[str, Any]:
    """The settings in the text of daemon.json; no text is no settings."""
    if not text.strip("\ufeff \t\r\n"):
        return {}
    try:
        document = json.loads(text.lstrip("\ufeff"))
    except ValueError as error:
        raise DaemonConfigError(
            f"{path} is not JSON ({error}). It was left untouched. Correct it (python3 -m json.tool {path} shows"
            f" the place) and run again."
        ) from error
    if not isinstance(document, dict):
        raise DaemonConfigError(
            f"{path} holds a {type(document).__name__}, not an object of settings. It was left untouched."
        )
    return document


def indent_of(text: str) -> int | str:
    """The first indentation in the text: a number of spaces, or the tabs themselves."""
    found = re.search(r"\n([ \t]+)\S", text)
    if not found:
        return DEFAULT_INDENT
    return found.group(1) if "\t" in found.group(1) else len(found.group(1))


def render(document: dict[str, Any], like: str) -> str:
    """The document as text, indented as the text that it replaces."""
    return json.dumps(document, indent=indent_of(like), ensure_ascii=False) + "\n"


def without_secrets(value: Any) -> Any:
    """The same value with what looks like a secret hidden, for diffs."""
    if isinstance(value, dict):
        return {key: HIDDEN if SECRET.search(key) else without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return USER_INFO.sub(r"\1" + HIDDEN + "@", value) if isinstance(value, str) else value


def shown(document: dict[str, Any], like: str) -> str:
    """The document as text for a diff."""
    return render(without_secrets(document), like) if document else ""
