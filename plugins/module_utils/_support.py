# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes secrets out of texts that are to be shown to others. Pure.

Secrets that are known are looked for by their value, in every form in which a program may write them. Of those that are not known,
what stands where secrets stand is taken out: behind names such as "token", in URLs, in headers, in private keys.
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Iterable, Iterator, List, Mapping, Set, Tuple
from urllib.parse import quote, quote_plus, unquote, urlsplit

REMOVED = "REMOVED"
# A shorter value would be found in words that have nothing to do with it.
SHORTEST = 6
NAME = (
    r"(?:token|passw(?:or)?d|passphrase|secret|credential|api[_-]?key|access[_-]?key|private[_-]?key|gossip[_-]?key|_key\b|"
    r"(?<![a-z])seed(?![a-z])|(?<![a-z])auth(?![a-z])|(?<![a-z])encrypt(?![a-z])|(?<![a-z])pass(?![a-z])|pwd?\b)"
)
NAMED = re.compile(NAME, re.IGNORECASE)
# In this order: each works on what the ones before it have left. Repeats are bounded, or a long line without a blank would take hours.
PATTERNS: Tuple[Tuple[re.Pattern[str], str], ...] = (
    # A key that was cut off has no end.
    (
        re.compile(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|\Z)", re.DOTALL),
        f"{REMOVED} PRIVATE KEY",
    ),
    (re.compile(r"(?i)([a-z0-9+.-]://)[^\s/?#'\"]{0,999}@"), rf"\1{REMOVED}@"),
    (
        re.compile(
            r"(?i)((?:x-consul-token|x-vault-token|x-registry-auth|(?:proxy-)?authorization|(?:set-)?cookie)[\"']?\s*[:=]\s*[\"']?)"
            r"[^\"'\r\n]+"
        ),
        rf"\1{REMOVED}",
    ),
    # What lets a host into a Swarm; what dockerd notes of requests in debug mode, which has commands and labels of containers.
    (re.compile(r"SWMTKN-[\w-]+"), REMOVED),
    (re.compile(r"(?i)(form data:)[^\r\n]*"), rf"\1 {REMOVED}"),
    (re.compile(rf"(?i)({NAME}[\w.-]{{0,99}}[\"']?\s*[:=]\s*\[)[^\]]*"), rf"\1{REMOVED}"),
    # Environment="NAME=several words"
    (re.compile(rf"(?i)([\"'])([\w.-]{{0,99}}{NAME}[\w.-]{{0,99}}=)(?:(?!\1)[^\r\n])*\1"), rf"\1\2{REMOVED}\1"),
    # "name": "value", name = 'value'; a value that is a list or an object has its own names.
    (re.compile(rf"(?i)({NAME}[\w.-]{{0,99}}[\"']?\s*[:=]\s*\")(?:[^\"\\\r\n]|\\.)*"), rf"\1{REMOVED}"),
    # The same within a text that is quoted itself.
    (re.compile(rf"(?i)({NAME}[\w.-]{{0,99}}\\?\"?\s*[:=]\s*\\\")(?:[^\"\\\r\n]|\\[^\"\r\n])*"), rf"\1{REMOVED}"),
    (re.compile(rf"(?i)({NAME}[\w.-]{{0,99}}[\"']?\s*[:=]\s*')[^'\r\n]*"), rf"\1{REMOVED}"),
    (
        re.compile(
            rf"(?i)({NAME}[\w.-]{{0,99}}[\"']?\s*[:=][ \t]*)(?!(?:null|true|false|{REMOVED})\b)[^\s,;\"'\\{{}}\[\]]+"
        ),
        rf"\1{REMOVED}",
    ),
    (
        re.compile(
            rf"(?i)((?<![\w-])--?[\w-]{{0,99}}{NAME}[\w-]{{0,99}}[ \t]+)(?:\"[^\"\r\n]*\"|'[^'\r\n]*'|[^\s\"'-][^\s\"']*)"
        ),
        rf"\1{REMOVED}",
    ),
)


def is_named_secret(name: str) -> bool:
    """Whether what has this name is one, by the name. A file or a path of one is not."""
    return bool(NAMED.search(name)) and not re.search(r"(?i)(file|path|dir)$", name)


def _pieces(data: bytes) -> Iterator[str]:
    """What is there of data in base64, at each of the three places at which it can begin within a longer text."""
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + data).decode()
        piece = encoded[(offset * 8 + 5) // 6 : (offset + len(data)) * 8 // 6]
        yield piece
        yield piece.replace("+", "-").replace("/", "_")


def forms(secret: str) -> Set[str]:
    """A value in all forms in which it may be written."""
    quoted = {quote(secret, safe=""), quote(secret), quote_plus(secret)}
    lower = {re.sub(r"%[0-9A-F]{2}", lambda match: match.group(0).lower(), text) for text in quoted}
    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    data = secret.encode("utf-8", "surrogateescape")
    found = {*plain, *quoted, *lower, *_pieces(data), data.hex(), data.hex().upper()}
    return {text for text in found if len(text) >= SHORTEST}


def passwords(url: str) -> List[str]:
    """The password, and user with password, of a URL such as a proxy's."""
    try:
        parts = urlsplit(url if "://" in url else f"//{url}")
        user, password = parts.username or "", parts.password or ""
    except ValueError:
        return []
    pairs = [password, unquote(password), f"{user}:{password}", f"{unquote(user)}:{unquote(password)}"]
    return pairs if password else []


def key_lines(text: str) -> List[str]:
    """The lines of private keys: each alone would be a part of the secret."""
    blocks = re.findall(r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----(.*?)-----END", text.replace("\\n", "\n"), re.DOTALL)
    return [line.strip() for block in blocks for line in block.splitlines() if len(line.strip()) >= 16]


def of_environment(pairs: Iterable[Tuple[str, str]]) -> List[str]:
    """The secrets among variables of a program: those with a telling name, and passwords in URLs."""
    found = []
    for name, value in pairs:
        found += [value] if is_named_secret(name) else []
        found += passwords(value) if "@" in value else []
    return found


def of_json(found: Any) -> List[str]:
    """All values of a file that holds secrets, but for certificates, paths and short words."""
    if isinstance(found, Mapping):
        return [value for entry in found.values() for value in of_json(entry)]
    if isinstance(found, list):
        return [value for entry in found for value in of_json(entry)]
    if not isinstance(found, str) or len(found) < 12 or found.startswith("/") or "BEGIN CERTIFICATE" in found:
        return []
    return key_lines(found) or [found]


class Redactor:
    """Takes known secrets, and what looks like one, out of texts."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        known = {secret.strip() for secret in secrets}
        # The longest first: one may be a part of another.
        self._forms = sorted(
            {form for secret in known if len(secret) >= SHORTEST for form in forms(secret)},
            key=lambda text: (-len(text), text),
        )

    def __call__(self, text: str) -> str:
        for form in self._forms:
            text = text.replace(form, REMOVED)
        for pattern, instead in PATTERNS:
            text = pattern.sub(instead, text)
        return text


def cut(text: str, most: int, last: bool) -> Tuple[str, bool]:
    """At most so many bytes of a text, its last or its first ones, and whether something is left out; then it says so."""
    data = text.encode("utf-8", "replace")
    if len(data) <= most:
        return text, False
    kept = (data[len(data) - most :] if last else data[:most]).decode("utf-8", "ignore")
    note = f"[cut: {len(data) - most} of {len(data)} bytes are left out here]"
    return (f"{note}\n{kept}" if last else f"{kept}\n{note}\n"), True
