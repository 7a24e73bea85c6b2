# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about every file: what must not stand in it, and what must."""

from __future__ import annotations

import re
from pathlib import Path

from tests.meta.common import below, files, load, text

# Whatever makes a tool or a test look away. What it complains about is to be mended instead.
LOOKING_AWAY = re.compile(
    r"^\s*ignore_errors:|#\s*noqa\b|#\s*type:\s*ignore|#\s*nosec\b|#\s*ruff:|#\s*pylint:|#\s*mypy:|yamllint disable"
    r"|shellcheck disable|pytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b|unittest\.skip"
)
# Where packages and images come from is the user's configuration; a host name here would be one more default to undo.
ELSEWHERE = re.compile(
    r"\bpypi\.org|pythonhosted\.org|galaxy\.ansible\.com|registry-1\.|hub\.docker\.com|index\.docker\.io|download\.docker\.com"
    r"|\bquay\.io|\bghcr\.io|\bgcr\.io|mcr\.microsoft\.com|registry\.npmjs|releases\.hashicorp\.com"
)
LICENCE = "SPDX-License-Identifier: GPL-3.0-or-later"


def _lines(root: Path, pattern: re.Pattern[str], paths: list[Path]) -> list[str]:
    """The lines that match."""
    return [
        f"{path.relative_to(root)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(text(path).splitlines(), 1)
        if pattern.search(line)
    ]


def _others(root: Path) -> list[Path]:
    """All files but the rules themselves, which name what they forbid, and prose."""
    return [
        path for path in files(root) if path not in below(root, "tests/meta") and path.suffix not in (".md", ".rst")
    ]


def nothing_looks_away(root: Path) -> list[str]:
    """No tool and no test is told to ignore anything."""
    found = _lines(root, LOOKING_AWAY, _others(root))
    lint = load(root / ".ansible-lint")
    found += [f".ansible-lint: {key}" for key in ("skip_list", "warn_list", "kinds") if lint.get(key)]
    found += [f"{path.relative_to(root)}: sanity ignores" for path in files(root, "tests/sanity/ignore-*.txt")]
    found += [str(path.relative_to(root)) for path in files(root, ".ansible-lint-ignore")]
    return found


def no_registry_is_named(root: Path) -> list[str]:
    """No host name of a registry of packages or images."""
    return _lines(root, ELSEWHERE, [path for path in files(root) if path not in below(root, "tests/meta")])


def python_files_name_the_licence(root: Path) -> list[str]:
    """Every Python file that has content says under which licence it stands."""
    return [
        f"{path.relative_to(root)}: no licence in its first lines"
        for path in files(root, "*.py")
        if text(path).strip() and LICENCE not in "\n".join(text(path).splitlines()[:4])
    ]


def suites_are_wired(root: Path) -> list[str]:
    """Every folder of tests is run by a target of the Makefile, and every suite of make test is such a target."""
    makefile = text(root / "Makefile") + text(root / ".ci" / "cores")
    folders = {path.relative_to(root).parts[1] for path in files(root, "test_*.py") if path in below(root, "tests")}
    found = [
        f"tests/{name}: no target of the Makefile runs it"
        for name in sorted(folders)
        if f"tests/{name}" not in makefile
    ]
    suites = re.findall(
        r'"(\w+)"', "".join(re.findall(r"^(?:SUITES|LONG) = \(.*\)", text(root / "tests" / "run_suites.py"), re.M))
    )
    return found + [f"Makefile: no target {name}" for name in suites if not re.search(rf"^{name}:", makefile, re.M)]


def requirements_are_pinned(root: Path) -> list[str]:
    """Every requirement is pinned."""
    loose = re.compile(r"^(?!#|-r |\s*$)(?![\w.-]+(\[\w+\])?==[\w.]+( ; .+)?$)")
    return _lines(root, loose, files(root, "requirements*.txt"))
