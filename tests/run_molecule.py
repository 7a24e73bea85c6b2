# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs molecule's scenarios, one after the other, and proves afterwards that each run loaded this checkout.

`python -m tests.run_molecule [SCENARIO..]`; by default all whose hosts the lab makes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests import stream
from tests.e2e.support import environment, of_kind, read_record, warnings_in
from tests.provenance import compare

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "molecule"
# Those that want more than a lab: tests/run_vagrant.py prepares it, and runs them step by step.
APART = ("vagrant",)


def complaints(output: str, record: Path) -> list[str]:
    """What is wrong with a scenario that molecule itself found good."""
    starts = of_kind(read_record(record), "start")
    if not starts:
        return ["no run of ansible-playbook left a record: it cannot be told which copy of the collection was tested"]
    copies = {start["collection"] for start in starts if start["collection"]}
    found = [line for copy in sorted(copies) for line in compare(ROOT, Path(copy))]
    if not copies:
        found.append("no run found multihost.overlay")
    return found + warnings_in(output)


def run(scenario: str, step: str = "test") -> list[str]:
    """One scenario, or one step of it; what is wrong with it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    record, log = BUILD / f"{scenario}.jsonl", BUILD / f"{scenario}.{step}.log"
    # Of all steps together: not each runs a playbook.
    if step in ("test", "create"):
        record.unlink(missing_ok=True)
    # Molecule keys its own folder on the checkout's basename alone: two checkouts would share it.
    environ = environment(record, {"MOLECULE_EPHEMERAL_DIRECTORY": str(BUILD / scenario), "PY_COLORS": "0"})
    command = [str(Path(sys.executable).with_name("molecule")), step, "--scenario-name", scenario]
    status, output = stream.run(command, log, ROOT, environ)
    found = complaints(output, record)
    return [f"molecule ended with status {status}", *found] if status else found


def in_the_lab(root: Path) -> list[str]:
    """The scenarios that need nothing but the lab."""
    return sorted({path.parent.name for path in root.glob("molecule/*/molecule.yml")} - set(APART))


def main() -> int:
    """Run all scenarios, sum up."""
    scenarios = sys.argv[1:] or in_the_lab(ROOT)
    if not scenarios:
        print("There is no scenario: molecule/*/molecule.yml", file=sys.stderr)
        return 1
    os.chdir(ROOT)
    wrong = {scenario: run(scenario) for scenario in scenarios}
    bad = {scenario: found for scenario, found in wrong.items() if found}
    for scenario, found in bad.items():
        print(f"scenario {scenario}: " + "; ".join(found), file=sys.stderr)
    summary = f"{len(bad)} failed, " if bad else ""
    print(f"===== {summary}{len(wrong) - len(bad)} passed (molecule scenarios) =====")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
