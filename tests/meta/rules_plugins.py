# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about modules, their documentation and the ids of checks."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any, Iterator

import yaml

from tests.meta.common import assigned, constants, files, modules, text

ATTRIBUTES = ("check_mode", "diff_mode", "idempotent")
FRAGMENT = "multihost.overlay.attributes"


def _block(values: dict[str, ast.expr], name: str) -> Any:
    """The YAML of one of a module's documentation blocks."""
    value = values.get(name)
    return yaml.safe_load(value.value) if isinstance(value, ast.Constant) and isinstance(value.value, str) else None


def _undescribed(entries: dict[str, Any] | None, path: str = "") -> Iterator[str]:
    """Options or return values, nested ones too, without a description or a type."""
    for name, entry in (entries or {}).items():
        if not entry.get("description") or not entry.get("type"):
            yield path + name
        yield from _undescribed(entry.get("suboptions") or entry.get("contains"), f"{path}{name}.")


def _fragments(root: Path) -> dict[str, dict[str, Any]]:
    """What modules can extend, by the names that they do it with."""
    return {
        f"multihost.overlay.{path.stem}.{name.lower()}".removesuffix(".documentation"): _block(assigned(node), name)
        for path in files(root, "plugins/doc_fragments/*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.ClassDef)
        for name in assigned(node)
    }


def _complaints(values: dict[str, ast.expr], fragments: dict[str, dict[str, Any]]) -> Iterator[str]:
    """What is missing in one module's documentation, with all that it extends."""
    documentation, returned = _block(values, "DOCUMENTATION") or {}, _block(values, "RETURN") or {}
    yield from (f"no {name}" for name in ("DOCUMENTATION", "EXAMPLES", "RETURN") if not _block(values, name))
    yield from (
        f"no {name}" for name in ("short_description", "version_added", "author") if not documentation.get(name)
    )
    extended = documentation.get("extends_documentation_fragment") or []
    if FRAGMENT not in extended:
        yield f"does not use the fragment {FRAGMENT}"
    parts = [documentation, *(fragments.get(name) or {} for name in extended)]
    supported = {name for part in parts for name, entry in (part.get("attributes") or {}).items() if "support" in entry}
    yield from (f"attribute {name} has no support" for name in ATTRIBUTES if name not in supported)
    for part in parts:
        yield from (f"option {name}: no description or type" for name in _undescribed(part.get("options")))
    yield from (f"return value {name}: no description or type" for name in _undescribed(returned))
    yield from (f"return value {name}: no sample" for name, entry in returned.items() if not _has_sample(entry))


def _has_sample(entry: dict[str, Any]) -> bool:
    """A sample of its own, or of each thing that it contains."""
    inner = entry.get("contains") or {}
    return "sample" in entry or (bool(inner) and all(map(_has_sample, inner.values())))


def modules_are_documented(root: Path) -> list[str]:
    """To the standard of the large collections: attributes, types, samples."""
    fragments = _fragments(root)
    return [f"{module.stem}: {what}" for module in modules(root) for what in _complaints(constants(module), fragments)]


def modules_and_playbooks_have_a_page(root: Path) -> list[str]:
    """README or docs/ mention every module and every playbook."""
    pages = text(root / "README.md") + "".join(map(text, files(root, "docs/*.md")))
    named = [path.stem for path in modules(root)] + [path.stem for path in files(root, "playbooks/*.yml")]
    return [f"neither README.md nor docs/ mentions {name}" for name in named if not re.search(rf"\b{name}\b", pages)]


def check_ids(root: Path) -> set[str]:
    """The keys of the registers CHECKS of preflight and doctor."""
    found = set()
    for path in files(root, "plugins/module_utils/_*.py"):
        register = constants(path).get("CHECKS")
        if isinstance(register, ast.Dict):
            found |= {
                key.value for key in register.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            }
    return found


def checks_have_a_page(root: Path) -> list[str]:
    """docs/checks.md has a row for every check id, and no row for another."""
    rows = set(re.findall(r"^\| `(\w+)` \|", text(root / "docs" / "checks.md"), re.MULTILINE))
    known = check_ids(root)
    if not known:
        return ["plugins/module_utils/_*.py: no register CHECKS"]
    return [f"docs/checks.md: no row for {name}" for name in sorted(known - rows)] + [
        f"docs/checks.md: {name} is no check" for name in sorted(rows - known)
    ]
