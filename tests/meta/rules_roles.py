# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about roles and playbooks."""

from __future__ import annotations

import re
from pathlib import Path

from tests.meta.common import below, files, load, modules, options, roles, text

REASONED = re.compile(r"^\s*(?:- )?(?:run_once|serial|delegate_to|changed_when: false)\b[^#]*(?P<comment>#.*)?$")
MAIN_LINES = 60

# They look, or work on the controller and on hosts of the lab.
UNLOCKED = {"client_bundle", "lab_down", "lab_up", "preflight", "report", "verify"}
IMPORTED = re.compile(r"import_playbook: (\w+)\.yml")


def specs_equal_defaults(root: Path) -> list[str]:
    """argument_specs and defaults name the same variables with the same values."""
    found = []
    for role in roles(root):
        specified, defaults = options(role), load(role / "defaults" / "main.yml")
        found += [f"{role.name}: {name} is in defaults only" for name in defaults.keys() - specified.keys()]
        for name, option in specified.items():
            if "default" in option and name not in defaults:
                found.append(f"{role.name}: {name} has a default in argument_specs only")
            elif name in defaults and ("default" not in option or option["default"] != defaults[name]):
                stated = option.get("default", "none")
                found.append(f"{role.name}: {name} is {defaults[name]!r} in defaults, {stated!r} in argument_specs")
    return sorted(found)


def variables_are_described(root: Path) -> list[str]:
    """Every variable has a type and a description, and is named after its role; docs/variables.md is made of them."""
    found = []
    for role in roles(root):
        for name, option in options(role).items():
            found += [f"{role.name}: {name} has no {part}" for part in ("type", "description") if not option.get(part)]
            if not name.startswith(f"{role.name}_"):
                found.append(f"{role.name}: {name} does not start with {role.name}_")
    return found


def variables_have_a_page(root: Path) -> list[str]:
    """docs/variables.md has a row for every variable, and no row for another."""
    rows = set(re.findall(r"^\| `(\w+)` \|", text(root / "docs" / "variables.md"), re.MULTILINE))
    named = {name for role in roles(root) for name in options(role)}
    return [f"docs/variables.md: no row for {name}" for name in sorted(named - rows)] + [
        f"docs/variables.md: {name} is no variable of any role" for name in sorted(rows - named)
    ]


def roles_are_complete(root: Path) -> list[str]:
    """Every role has its README, meta and argument_specs."""
    wanted = ("README.md", "meta/main.yml", "meta/argument_specs.yml", "tasks/main.yml")
    return [f"{role.name}: no {name}" for role in roles(root) for name in wanted if not (role / name).exists()]


def main_is_a_table_of_contents(root: Path) -> list[str]:
    """tasks/main.yml of a role is short."""
    lengths = {path: len(text(path).splitlines()) for path in files(root, "roles/*/tasks/main.yml")}
    return [
        f"{path.relative_to(root)}: {n} lines, at most {MAIN_LINES}" for path, n in lengths.items() if n > MAIN_LINES
    ]


def reasons_are_given(root: Path) -> list[str]:
    """A comment beside or above every run_once, serial, delegate_to and changed_when: false; neighbours share one."""
    found = []
    for path in below(root, "roles", "playbooks", "molecule"):
        if path.suffix not in (".yml", ".yaml"):
            continue
        commented = False
        for number, line in enumerate(text(path).splitlines(), 1):
            match = REASONED.match(line)
            if match:
                commented = commented or bool(match["comment"])
                if not commented:
                    found.append(f"{path.relative_to(root)}:{number}: {line.strip()}: no comment says why")
            else:
                commented = line.lstrip().startswith("#")
    return found


def one_run_at_a_time(root: Path) -> list[str]:
    """A playbook takes the lock of a run, or imports one that does, unless it changes no host of a cluster."""
    locked = {path.stem for path in files(root, "playbooks/*.yml") if "tasks_from: lock\n" in text(path)}
    return [
        f"{path.relative_to(root)}: neither takes the lock (role overlay, tasks_from: lock), nor imports a playbook that does"
        for path in files(root, "playbooks/*.yml")
        if path.stem not in locked | UNLOCKED and not set(IMPORTED.findall(text(path))) & locked
    ]


def _sources(root: Path) -> dict[str, str]:
    """Node -> text, for the walk from tests to modules: "tests", "playbook NAME", "role NAME"."""
    nodes = {"tests": "".join(map(text, below(root, "molecule", "tests/e2e")))}
    nodes["tests"] += text(root / "tests" / "cluster.py")
    for path in files(root, "playbooks/*.yml"):
        nodes[f"playbook {path.stem}"] = text(path)
    for role in roles(root):
        nodes[f"role {role.name}"] = "".join(map(text, files(root, f"roles/{role.name}/*/*.yml")))
    return nodes


def _edges(node: str, said: str, nodes: dict[str, str]) -> set[str]:
    """The playbooks and roles that a text uses."""
    found = {f"role {name}" for name in re.findall(r"multihost\.overlay\.(\w+)", said)}
    found |= {
        f"playbook {name}" for name in re.findall(r"multihost\.overlay\.(\w+)|\b(\w+)\.ya?ml\b", said) for name in name
    }
    return found & nodes.keys() - {node}


def modules_run_on_real_daemons(root: Path) -> list[str]:
    """From what molecule and tests/e2e run, through playbooks and roles, every module is reached."""
    nodes = _sources(root)
    seen, todo = set(), ["tests"]
    while todo:
        node = todo.pop()
        if node not in seen:
            seen.add(node)
            todo += _edges(node, nodes[node], nodes) - seen
    reached = "".join(nodes[node] for node in seen)
    return [
        f"{module.stem}: neither molecule nor tests/e2e reaches it on real daemons"
        for module in modules(root)
        if not re.search(rf"multihost\.overlay\.{module.stem}\b", reached)
    ]
