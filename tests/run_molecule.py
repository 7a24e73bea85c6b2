# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs molecule's scenarios, one after the other, and proves afterwards that each run loaded this checkout.

`python -m tests.run_molecule [SCENARIO..]`; all by default.
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


def run(scenario: str) -> list[str]:
    """One scenario; what is wrong with it."""
    BUILD.mkdir(parents=True, exist_ok=True)
    record, log = BUILD / f"{scenario}.jsonl", BUILD / f"{scenario}.log"
    record.unlink(missing_ok=True)
    # Molecule keys its own folder on the checkout's basename alone: two checkouts would share it.
    environ = environment(record, {"MOLECULE_EPHEMERAL_DIRECTORY": str(BUILD / scenario), "PY_COLORS": "0"})
    command = [str(Path(sys.executable).with_name("molecule")), "test", "--scenario-name", scenario]
    status, output = stream.run(command, log, ROOT, environ)
    found = complaints(output, record)
    return [f"molecule ended with status {status}", *found] if status else found


def main() -> int:
    """Run all scenarios, sum up."""
    scenarios = sys.argv[1:] or sorted(path.parent.name for path in ROOT.glob("molecule/*/molecule.yml"))
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
