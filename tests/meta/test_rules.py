# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every rule passes on a small sound project and fails on it with one seeded defect."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.meta import rules_galaxy, rules_plugins, rules_roles, rules_text
from tests.meta.common import Rule
from tests.meta.test_project import RULES

LICENCE = "# SPDX-License-Identifier: GPL-3.0-or-later\n"
MODULE = (
    LICENCE
    + '''
DOCUMENTATION = r"""
module: overlay_thing
short_description: Does it
version_added: "0.1.0"
author: somebody
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.both_modes
attributes:
  idempotent:
    support: full
options:
  name:
    description: A name.
    type: str
"""
EXAMPLES = "- name: Do it"
RETURN = r"""
thing:
  description: The thing.
  type: str
  sample: a
"""
'''
)
FRAGMENT = (
    LICENCE
    + '''
class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  size:
    description: A size.
    type: int
"""
    BOTH_MODES = r"""
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
"""
'''
)
SOUND = {
    ".ansible-lint": "profile: production\n",
    ".ci/cores": "",
    "CHANGELOG.rst": "changes\n",
    "LICENSE": "licence\n",
    "Makefile": "unit: venv\n\tpytest tests/unit\n",
    "README.md": "The module overlay_thing, run by the playbook site.\n",
    "changelogs/changelog.yaml": "releases: {}\n",
    "docs/checks.md": "| id | level |\n|---|---|\n| `too_old` | error |\n",
    "docs/variables.md": "| `overlay_a_size` | int |\n",
    "galaxy.yml": "namespace: multihost\nname: overlay\nversion: 0.1.0\nreadme: README.md\nauthors: [a]\n"
    "build_ignore: [tests, molecule, Makefile, requirements-dev.txt, .ansible-lint, .ci]\n",
    "meta/runtime.yml": "requires_ansible: '>=2.19.0'\n",
    "molecule/default/converge.yml": "- ansible.builtin.import_playbook: ../../playbooks/site.yml\n",
    "playbooks/site.yml": "- hosts: all\n  roles: [multihost.overlay.overlay_a]\n  tasks_from: lock\n",
    "plugins/doc_fragments/attributes.py": FRAGMENT,
    "plugins/module_utils/_preflight_checks.py": LICENCE + 'CHECKS: dict[str, str] = {"too_old": "error"}\n',
    "plugins/modules/overlay_thing.py": MODULE,
    "requirements-dev.txt": '# pinned\n-r requirements.txt\nansible==12.3.0 ; python_version < "3.12"\n',
    "roles/overlay_a/README.md": "`overlay_a_size`\n",
    "roles/overlay_a/defaults/main.yml": "overlay_a_size: 3\n",
    "roles/overlay_a/meta/argument_specs.yml": "argument_specs: {main: {options: {overlay_a_size: "
    "{type: int, default: 3, description: Its size.}}}}\n",
    "roles/overlay_a/meta/main.yml": "galaxy_info: {}\n",
    "roles/overlay_a/tasks/main.yml": "- multihost.overlay.overlay_thing:\n  run_once: true # why\n",
    "tests/run_suites.py": LICENCE + 'SUITES = ("unit",)\n',
    "tests/unit/test_a.py": LICENCE,
}
SPECS, TASKS, PLUGIN, SHARED = (
    "roles/overlay_a/meta/argument_specs.yml",
    "roles/overlay_a/tasks/main.yml",
    "plugins/modules/overlay_thing.py",
    "plugins/doc_fragments/attributes.py",
)

# rule, file, what stands there (None: the file goes; "": text is added), what stands there instead
DEFECTS: list[tuple[Rule, str, str | None, str]] = [
    (rules_galaxy.archive_holds_the_collection, "galaxy.yml", "tests, ", ""),
    (rules_galaxy.archive_holds_the_collection, "LICENSE", None, ""),
    (rules_plugins.checks_have_a_page, "docs/checks.md", "| `too_old` | error |", ""),
    (rules_plugins.checks_have_a_page, "docs/checks.md", "", "| `gone` | error |\n"),
    (rules_plugins.checks_have_a_page, "plugins/module_utils/_preflight_checks.py", "CHECKS", "OTHERS"),
    (rules_plugins.modules_and_playbooks_have_a_page, "README.md", "overlay_thing", "overlay_other"),
    (rules_plugins.modules_and_playbooks_have_a_page, "playbooks/verify.yml", "", "---\n"),
    (rules_plugins.modules_are_documented, PLUGIN, "  idempotent:\n    support: full\n", ""),
    (rules_plugins.modules_are_documented, PLUGIN, "  - multihost.overlay.attributes\n", "  - other.fragment\n"),
    (rules_plugins.modules_are_documented, PLUGIN, "    description: A name.\n", ""),
    (rules_plugins.modules_are_documented, PLUGIN, "  - multihost.overlay.attributes.both_modes\n", ""),
    (rules_plugins.modules_are_documented, SHARED, "  diff_mode:\n    support: full\n", ""),
    (rules_plugins.modules_are_documented, SHARED, "    description: A size.\n", ""),
    (rules_plugins.modules_are_documented, PLUGIN, "  sample: a\n", ""),
    (rules_plugins.modules_are_documented, PLUGIN, "EXAMPLES", "NOTHING"),
    (rules_roles.main_is_a_table_of_contents, TASKS, "", "# line\n" * 60),
    (rules_roles.modules_run_on_real_daemons, TASKS, "multihost.overlay.overlay_thing", "ansible.builtin.ping"),
    (rules_roles.modules_run_on_real_daemons, "molecule/default/converge.yml", "site.yml", "other.yml"),
    (rules_roles.modules_run_on_real_daemons, "plugins/modules/new.py", "", LICENCE),
    (rules_roles.one_run_at_a_time, "playbooks/site.yml", "  tasks_from: lock\n", ""),
    (rules_roles.one_run_at_a_time, "playbooks/other.yml", "", "- hosts: all\n"),
    (rules_roles.reasons_are_given, TASKS, " # why", ""),
    (rules_roles.reasons_are_given, TASKS, "", "- name: N\n  changed_when: false\n"),
    (rules_roles.reasons_are_given, "playbooks/site.yml", "", "- hosts: all\n  serial: 1\n"),
    (rules_roles.reasons_are_given, "playbooks/site.yml", "", "# why\n- hosts: all\n  delegate_to: localhost\n"),
    (rules_roles.roles_are_complete, "roles/overlay_a/README.md", None, ""),
    (rules_roles.roles_are_complete, SPECS, None, ""),
    (rules_roles.specs_equal_defaults, SPECS, "default: 3", "default: 4"),
    (rules_roles.specs_equal_defaults, SPECS, "default: 3, ", ""),
    (rules_roles.specs_equal_defaults, "roles/overlay_a/defaults/main.yml", "", "overlay_a_more: 1\n"),
    (rules_roles.specs_equal_defaults, "roles/overlay_a/defaults/main.yml", "overlay_a_size: 3", "---"),
    (rules_roles.variables_are_described, SPECS, ", description: Its size.", ""),
    (rules_roles.variables_are_described, SPECS, "overlay_a_size", "size"),
    (rules_roles.variables_have_a_page, "docs/variables.md", "overlay_a_size", "overlay_a_gone"),
    (rules_text.no_registry_is_named, TASKS, "", "# from https://" + "pypi" + ".org\n"),
    (rules_text.nothing_looks_away, TASKS, "", "  ignore_errors: true\n"),
    (rules_text.nothing_looks_away, PLUGIN, "", "import os  # noqa: F401\n"),
    (rules_text.nothing_looks_away, PLUGIN, "", "x = 1  # type: ignore[misc]\n"),
    (rules_text.nothing_looks_away, "tests/unit/test_a.py", "", "@pytest.mark.skip\n"),
    (rules_text.nothing_looks_away, "tests/unit/test_a.py", "", 'docker = pytest.importorskip("docker")\n'),
    (rules_text.nothing_looks_away, ".ansible-lint", "", "skip_list: [name]\n"),
    (rules_text.nothing_looks_away, "tests/sanity/ignore-2.19.txt", "", "x\n"),
    (rules_text.python_files_name_the_licence, "tests/unit/test_b.py", "", "x = 1\n"),
    (rules_text.requirements_are_pinned, "requirements-dev.txt", "ansible==12.3.0", "ansible>=12"),
    (rules_text.requirements_are_pinned, "requirements-dev.txt", "", "pytest\n"),
    (rules_text.suites_are_wired, "tests/other/test_c.py", "", LICENCE),
    (rules_text.suites_are_wired, "tests/run_suites.py", '("unit",)', '("unit", "e2e")'),
]


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """The sound project."""
    for name, content in SOUND.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def seed(root: Path, name: str, old: str | None, new: str) -> None:
    """Put one defect into the project."""
    path = root / name
    if old is None:
        path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text() if path.exists() else ""
    after = before.replace(old, new) if old else before + new
    assert after != before, f"nothing was seeded into {name}"
    path.write_text(after)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_sound_project_passes(rule: Rule, sound: Path) -> None:
    """A rule that fails here says nothing about the defects below."""
    assert rule(sound) == []


@pytest.mark.parametrize(("rule", "name", "old", "new"), DEFECTS)
def test_defect_is_found(rule: Rule, name: str, old: str | None, new: str, sound: Path) -> None:
    """One defect, and the rule speaks."""
    seed(sound, name, old, new)
    assert rule(sound)


def test_every_rule_has_a_defect() -> None:
    """A new rule without a seeded defect is not shown to work."""
    assert {rule.__name__ for rule in RULES} == {defect[0].__name__ for defect in DEFECTS}
