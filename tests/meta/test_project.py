# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The project keeps its rules. test_rules.py shows of each rule that it can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.meta import rules_galaxy, rules_plugins, rules_roles, rules_text
from tests.meta.common import Rule

RULES: tuple[Rule, ...] = (
    rules_galaxy.archive_holds_the_collection,
    rules_plugins.checks_have_a_page,
    rules_plugins.modules_and_playbooks_have_a_page,
    rules_plugins.modules_are_documented,
    rules_roles.main_is_a_table_of_contents,
    rules_roles.modules_run_on_real_daemons,
    rules_roles.one_run_at_a_time,
    rules_roles.reasons_are_given,
    rules_roles.roles_are_complete,
    rules_roles.specs_equal_defaults,
    rules_roles.variables_are_described,
    rules_roles.variables_have_a_page,
    rules_text.no_registry_is_named,
    rules_text.nothing_looks_away,
    rules_text.python_files_name_the_licence,
    rules_text.requirements_are_pinned,
    rules_text.suites_are_wired,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule(rule: Rule, root: Path) -> None:
    """Nothing is wrong with the project by this rule."""
    found = rule(root)
    assert not found, "\n" + "\n".join(found)
