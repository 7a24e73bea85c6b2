# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The JSON reports that the page and the metrics are made from: whether they can be read, and how old they are. Pure."""

from __future__ import annotations

import json
from typing import Any, Mapping, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils._findings import LEVELS
from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import clean

Json = dict[str, Any]

NAMES = ("verify", "preflight", "doctor")
SCHEMA_VERSION = 1
# A proof of yesterday says nothing of today.
OLD = 24 * 3600
# So far the clock that wrote a report may be ahead of the one that reads it.
AHEAD = 120
# Beyond it no time and no number of packets is meant.
LARGEST = 1e15
# The rows of each report, and what of a row must be text.
FINDINGS = ("findings", ("host", "id", "level", "message"))
ROWS = {"verify": ("pairs", ("network", "from", "to")), "preflight": FINDINGS, "doctor": FINDINGS}


class Source(NamedTuple):
    """A report: ``state`` is read, missing or broken; ``problem`` says why it is not read."""

    name: str
    state: str
    problem: str = ""
    data: Mapping[str, Any] = {}

    @property
    def rows(self) -> list[Json]:
        """Its pairs or findings."""
        return list(self.data.get(ROWS[self.name][0], []))

    @property
    def checks(self) -> list[Json]:
        """What verify tried beside the pairs."""
        checks = self.data.get("checks")
        return [row for row in checks if is_check(row)] if isinstance(checks, list) else []

    @property
    def summary(self) -> Mapping[str, Any]:
        return self.data.get("summary") or {}

    @property
    def written(self) -> float | None:
        """Seconds since 1970."""
        return number(self.data.get("written"))

    @property
    def seconds(self) -> float | None:
        """How long the run took."""
        return number(self.data.get("seconds", self.summary.get("seconds")))

    def age(self, now: float) -> float | None:
        """In seconds; unknown where the report does not say, or where it comes from the future."""
        if self.written is None or self.written > now + AHEAD:
            return None
        return max(0.0, now - self.written)

    def is_old(self, now: float) -> bool:
        """Whether it is not known to be of today."""
        age = self.age(now)
        return age is None or age > OLD


def is_check(row: Any) -> bool:
    return isinstance(row, dict) and all(isinstance(row.get(key), str) for key in ("check", "network", "from", "to"))


def number(value: Any) -> float | None:
    """A number that can be calculated with; JSON's true is none, and neither is one that is too large."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > LARGEST:
        return None
    return float(value)


def scrub(value: Any) -> Any:
    """Without characters that no file can hold: JSON may write half of a surrogate pair."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if isinstance(value, dict):
        return {clean(key): scrub(item) for key, item in value.items()}
    return value


def refuse(constant: str) -> Any:
    """NaN and Infinity are not JSON, though Python reads them."""
    raise ValueError(f"{constant} is not JSON")


def row_problem(name: str, row: Any) -> str:
    """What is wrong with a pair or a finding."""
    if not isinstance(row, dict):
        return "is not an object"
    missing = [key for key in ROWS[name][1] if not isinstance(row.get(key), str)]
    if missing:
        return f"has no {', '.join(missing)}"
    if "level" in ROWS[name][1] and row["level"] not in LEVELS:
        return f"has the unknown level {row['level'][:40]}"
    return ""


def shape_problem(name: str, data: Any) -> str:
    """Why a report cannot be understood; empty if it can."""
    if not isinstance(data, dict):
        return "it is not a JSON object"
    if data.get("schema_version") != SCHEMA_VERSION:
        return f"its schema_version is {str(data.get('schema_version'))[:40]}, and this version reads {SCHEMA_VERSION}"
    key = ROWS[name][0]
    if not isinstance(data.get(key), list) or not isinstance(data.get("summary"), dict):
        return f"it has no {key} or no summary"
    for place, row in enumerate(data[key], 1):
        problem = row_problem(name, row)
        if problem:
            return f"{place} of its {key} {problem}"
    return ""


def parse(name: str, text: str | None) -> Source:
    """A report's text, None where there is no file."""
    if text is None:
        return Source(name, "missing", f"there is no {name}.json")
    try:
        data = scrub(json.loads(text, parse_constant=refuse))
    except (ValueError, RecursionError) as exc:
        return Source(name, "broken", f"{name}.json is not JSON: {clean(str(exc))[:200]}")
    problem = shape_problem(name, data)
    if problem:
        return Source(name, "broken", f"{name}.json cannot be used: {problem}; run {name} again")
    return Source(name, "read", "", data)
