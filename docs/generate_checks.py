# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes docs/checks.md from the registers of checks and of failures: python3 docs/generate_checks.py [--check].

Needs nothing but the standard library. A register is a dictionary CHECKS in a file of plugins/module_utils.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "checks.md"
UTILS = ROOT / "plugins" / "module_utils"
PACKAGE = "ansible_collections.multihost.overlay.plugins.module_utils"
HEAD = """# Checks

Made from the registers in `plugins/module_utils` (dictionaries `CHECKS`) and from `plugins/plugin_utils/_checks_rows.py` by
`docs/generate_checks.py`; change them there.

Two playbooks look for what is wrong, and change nothing on any host, unless the doctor is asked to repair:

- **preflight** reads each host in one call of `host_preflight`, before anything is changed, sends packets between all hosts on the real
  ports ([probe.md](probe.md)), compares the hosts with one another, and ends the run if there are errors. `site` begins with it.
- **doctor** examines a running cluster in one call of `host_doctor` per host and compares hosts, engines and store with one another
  ([doctor.md](doctor.md)).

Both work on hosts that this collection did not build and need nothing there but Python. Both show errors and warnings on the terminal,
errors first, each with its host, what was seen and the cure, and write all findings into `overlay_report_dir`: `preflight.json` and
`doctor.json`, and as JUnit XML for CI systems `preflight.xml` and `doctor.xml`.

- **error**: the cluster would not work, or does not, or something of yours would be lost.
- **warning**: known to cause trouble. A run goes on, unless `-e overlay_preflight_fail_on=warning` (`overlay_doctor_fail_on`).
- **info**: good to know, or put right by a later role.

The JSON is `{"schema_version", "findings": [{"host", "id", "level", "message", "evidence", "fix"}], "summary": {"hosts", "hosts_read",
"errors", "warnings", "infos"}, "hosts", "written", "seconds"}`, errors first ([report.md](report.md)). A finding about a path between
hosts has `from` and `to` besides, and `preflight.json` has `underlay`, what was measured ([probe.md](probe.md)). In the XML each host is a
test case, which fails if a finding of this host ends the run, and each finding is one.

What cannot be read is a finding (`unreadable`, `unexamined`), never a crash. A Docker engine that does not run is not started in order to
ask it. Networks are never listed over the engine's API: with a store that takes seconds. The trial for `vxlan_missing` is made in a
network namespace that ends with the program, and only where the kernel's files tell nothing.

Sources: `m#` moby/moby, `ln#` moby/libnetwork, `cs#` docker-archive/classicswarm, `fl#` flannel-io/flannel; "own trial" was seen on real
daemons, "read in the code" in that of Docker 20.10.
"""
ROWS_HEAD = """
## Known failures, and what is done about each

{kinds}
"""


def load(path: Path, name: str) -> types.ModuleType:
    """A file as the module that it is to its users, without Ansible's own importer."""
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(str(path))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def prepare() -> None:
    """Let registers import one another."""
    for depth in range(1, PACKAGE.count(".") + 2):
        name = ".".join(PACKAGE.split(".")[:depth])
        package = sys.modules.get(name) or types.ModuleType(name)
        if not hasattr(package, "__path__"):
            package.__path__ = []
        if name == PACKAGE and str(UTILS) not in package.__path__:
            package.__path__ = [*package.__path__, str(UTILS)]
        sys.modules.setdefault(name, package)


def place(path: Path) -> str:
    """Which verb has a register."""
    return "doctor" if path.stem.startswith("_doctor") else "preflight"


def registers() -> dict[str, dict[str, tuple[str, Any]]]:
    """verb -> id -> (file, entry), of all files with a register."""
    prepare()
    found: dict[str, dict[str, tuple[str, Any]]] = {"preflight": {}, "doctor": {}}
    for path in sorted(UTILS.glob("_*.py")):
        if re.search(r"^CHECKS\b.*=", path.read_text(), re.MULTILINE):
            entries = load(path, f"{PACKAGE}.{path.stem}").CHECKS
            found[place(path)].update({name: (path.stem, entry) for name, entry in entries.items()})
    return found


def rows() -> Any:
    """The register of failures."""
    return load(ROOT / "plugins" / "plugin_utils" / "_checks_rows.py", "overlay_checks_rows")


def cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table(title: str, entries: dict[str, tuple[str, Any]]) -> str:
    """One verb's checks."""
    lines = [
        f"\n## {title}\n",
        "| id | level | what is read | why it matters | cure | source |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{name}` | " + " | ".join(cell(field) for field in entry) + " |" for name, (_file, entry) in entries.items()
    ]
    return "\n".join(lines) + "\n"


def way(one: Any, register: Any) -> str:
    """What is done, in a few words."""
    if one.kind in (register.PREFLIGHT, register.PROBE, register.DOCTOR):
        return f"{one.kind} `{one.by}`"
    if one.kind == register.LATER:
        return f"**later**, with {register.PARTS[one.by]}" + (f": {one.how}" if one.how else "")
    if one.kind == register.MACHINE:
        return f"**virtual machine only**: {one.how}"
    return f"{one.kind}, `{one.by}`: {one.how}"


def failures(register: Any) -> str:
    """The table of all failures."""
    kinds = "\n".join(f"- **{kind}**: {text}" for kind, text in register.KINDS.items())
    lines = [ROWS_HEAD.format(kinds=kinds), "| what people see | cause | what is done | source |", "|---|---|---|---|"]
    for row in register.ROWS:
        done = "; ".join(way(one, register) for one in row.ways)
        lines.append(f"| {cell(row.symptom)} | {cell(row.cause)} | {cell(done)} | {cell(row.source)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The whole page."""
    found = registers()
    return HEAD + table("Preflight", found["preflight"]) + table("Doctor", found["doctor"]) + failures(rows())


def main() -> int:
    """Write the page, or with --check say whether it is up to date."""
    if "--check" in sys.argv[1:]:
        if PAGE.read_text() != page():
            print("docs/checks.md is out of date: run python3 docs/generate_checks.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main())
