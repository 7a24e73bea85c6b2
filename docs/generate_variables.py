# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/variables.md from the roles' argument_specs: python3 docs/generate_variables.py [--check]."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "variables.md"
HEAD = """# Variables

Made from the roles' `meta/argument_specs.yml` by `docs/generate_variables.py`; change them there.

A simple user sets those of the role `overlay` only. Set the cluster's variables for the whole inventory (`group_vars/all`): a value that
differs between hosts is refused.
"""


def shown(value: Any) -> str:
    """A default as one would write it in YAML."""
    return "" if value is None else f"`{json.dumps(value)}`"


def row(name: str, option: dict[str, Any]) -> str:
    """One line of a role's table."""
    description = option["description"]
    text = " ".join(description) if isinstance(description, list) else description
    choices = f" One of {', '.join(f'`{choice}`' for choice in option['choices'])}." if "choices" in option else ""
    kind = option["type"] + (f" of {option['elements']}" if "elements" in option else "")
    text = re.sub(r"[VO]\(([^)]*)\)", r"`\1`", " ".join(text.split()))
    return f"| `{name}` | {kind} | {shown(option.get('default'))} | {text}{choices} |"


def section(path: Path) -> str:
    """One role's heading and table; '' for a role without variables."""
    spec = yaml.safe_load(path.read_text())["argument_specs"]["main"]
    rows = [row(name, option) for name, option in spec.get("options", {}).items()]
    if not rows:
        return ""
    table = "\n".join(["| variable | type | default | |", "|---|---|---|---|", *rows])
    return f"\n## {path.parent.parent.name}\n\n{spec['short_description']}.\n\n{table}\n"


def page() -> str:
    """The whole page."""
    return HEAD + "".join(section(path) for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml")))


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    if "--check" in sys.argv[1:]:
        if PAGE.read_text() != page():
            print("docs/variables.md is out of date: run python3 docs/generate_variables.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
