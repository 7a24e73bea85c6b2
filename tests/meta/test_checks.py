# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks, known failures and docs/checks.md hold together, and each of these tests can fail."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils import _checks_rows as register
from tests.meta.common import files, text
from tests.meta.rules_plugins import check_ids

# A row that is taken out would otherwise not be missed. New ones only make it grow.
AT_LEAST = 66
GENERATOR = "docs/generate_checks.py"


def generate(folder: Path, *words: str) -> int:
    return subprocess.run(
        [sys.executable, str(folder / GENERATOR), *words], check=False, capture_output=True
    ).returncode


@pytest.fixture
def copied(root: Path, tmp_path: Path) -> Path:
    """What the page is made of."""
    for name in ("docs/checks.md", GENERATOR, "plugins/plugin_utils/_checks_rows.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    shutil.copytree(root / "plugins" / "module_utils", tmp_path / "plugins" / "module_utils")
    return tmp_path


def test_the_page_is_up_to_date(root: Path) -> None:
    """`python3 docs/generate_checks.py` mends it."""
    assert generate(root, "--check") == 0


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("plugins/module_utils/_preflight_checks.py", "the SSH connection", "another thing"),
        ("plugins/module_utils/_doctor_checks.py", '"ghost_host": Check(', '"spirit": Check('),
        ("plugins/plugin_utils/_checks_rows.py", "networks vanish", "networks go away"),
        ("docs/checks.md", "`ghost_host`", "`ghost`"),
    ],
)
def test_a_page_out_of_date_is_noticed(copied: Path, name: str, old: str, new: str) -> None:
    assert generate(copied, "--check") == 0
    content = (copied / name).read_text()
    assert old in content
    (copied / name).write_text(content.replace(old, new))
    assert generate(copied, "--check") == 1


def problems(rows: tuple[register.Row, ...], ids: set[str], roles: set[str]) -> list[str]:
    """Rows that nothing is done about, or whose check, role or part is not there."""
    known = {
        register.PREFLIGHT: ids,
        register.DOCTOR: ids,
        register.PROBE: ids,
        register.PREVENTED: roles,
        register.VERIFY: roles,
        register.LATER: set(register.PARTS),
        register.MACHINE: {"vagrant"},
    }
    found = [f"{row.symptom}: nothing is done about it" for row in rows if not row.ways]
    found += [
        f"{row.symptom}: there is no {way.kind} {way.by}"
        for row in rows
        for way in row.ways
        if way.by not in known[way.kind]
    ]
    found += [f"{row.symptom}: no source" for row in rows if not row.source]
    twice = [symptom for symptom, number in Counter(row.symptom for row in rows).items() if number > 1]
    return found + [f"{symptom}: stands there twice" for symptom in twice]


def test_every_known_failure_is_accounted_for(root: Path) -> None:
    roles = {path.name for path in (root / "roles").iterdir()}
    assert problems(register.ROWS, check_ids(root), roles) == []
    assert len(register.ROWS) >= AT_LEAST


def test_a_row_that_nothing_is_done_about_is_noticed(root: Path) -> None:
    lost = register.Row("a", "b", (), "c")
    wrong = register.Row("d", "e", register.pre("no_such_check"), "f")
    unnamed = register.Row("g", "h", register.later("swarm"), "")
    assert len(problems((lost, wrong, unnamed, unnamed), check_ids(root), set())) == 5


def test_the_doctor_and_preflight_share_no_id(root: Path) -> None:
    """An id says where a finding comes from."""
    registers = [
        path for path in files(root, "plugins/module_utils/_*.py") if re.search(r"^CHECKS\b", text(path), re.MULTILINE)
    ]
    counted = Counter(name for path in registers for name in ids_of(path))
    assert [name for name, number in counted.items() if number > 1] == []
    assert len(registers) >= 3


def ids_of(path: Path) -> list[str]:
    """The keys of a file's register."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id == "CHECKS":
            assert isinstance(node.value, ast.Dict)
            return [
                key.value for key in node.value.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)
            ]
    return []


def used_ids(root: Path) -> set[str]:
    """The check ids that the code or its tests name outside of a register."""
    pages = [
        text(path) for path in files(root, "plugins/**/*.py", "plugins/*/*.py") if "CHECKS: dict" not in text(path)
    ]
    return {name for page in pages for name in re.findall(r'"([a-z0-9_]+)"', page)}


def test_every_id_is_found_somewhere(root: Path) -> None:
    """A check that nothing in the code can find is a promise that is not kept. Some ids are put together."""
    composed = {f"store_{state}" for state in ("silent", "leaderless", "denied")} | {"vxlan_missing", "bridge_missing"}
    assert sorted(check_ids(root) - used_ids(root) - composed) == []
