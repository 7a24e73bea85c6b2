# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the rules about the project share. A rule takes the project's folder and returns what is wrong, a line each."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any, Callable

import yaml

from tests.provenance import project_files

Rule = Callable[[Path], "list[str]"]


def files(root: Path, *patterns: str) -> list[Path]:
    """The project's files that match any of the patterns (all without one), in order, with their full path.

    A pattern with a slash is matched against the path from the root, one without against the name.
    """
    in_git = (root / ".git").exists()
    found = project_files(root) if in_git else [path.relative_to(root) for path in root.rglob("*") if path.is_file()]
    return [root / path for path in sorted(found) if not patterns or any(_matches(path, item) for item in patterns)]


def _matches(path: Path, pattern: str) -> bool:
    """Whether a path from the root is meant by a pattern; a star stays within one part."""
    return ("/" / path).match(f"/{pattern}") if "/" in pattern else path.match(pattern)


def below(root: Path, *folders: str) -> list[Path]:
    """The project's files below any of the folders."""
    return [
        path for path in files(root) if str(path.relative_to(root)).startswith(tuple(f"{name}/" for name in folders))
    ]


def text(path: Path) -> str:
    """A file's text; '' for what is not text."""
    try:
        return path.read_text()
    except (UnicodeDecodeError, FileNotFoundError):
        return ""


def load(path: Path) -> Any:
    """A YAML file's content, an empty mapping when there is none."""
    return (yaml.safe_load(path.read_text()) if path.exists() else None) or {}


def roles(root: Path) -> list[Path]:
    """The folders of the roles."""
    return sorted(path for path in (root / "roles").glob("*") if path.is_dir())


def options(role: Path) -> dict[str, dict[str, Any]]:
    """What a role's argument_specs says of its variables."""
    specs = load(role / "meta" / "argument_specs.yml").get("argument_specs", {})
    return specs.get("main", {}).get("options", {})


def constants(path: Path) -> dict[str, ast.expr]:
    """name -> value of what a Python file assigns at its top level."""
    return assigned(ast.parse(path.read_text()))


def assigned(block: ast.Module | ast.ClassDef) -> dict[str, ast.expr]:
    """name -> value of what a file or a class assigns."""
    found: dict[str, ast.expr] = {}
    for node in block.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found[node.targets[0].id] = node.value
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
            found[node.target.id] = node.value
    return found


def modules(root: Path) -> list[Path]:
    """The modules' files."""
    return [path for path in files(root, "plugins/modules/*.py") if path.name != "__init__.py"]
