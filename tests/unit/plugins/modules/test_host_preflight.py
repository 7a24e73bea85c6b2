# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""main() of host_preflight, and that its arguments are those of its documentation."""

from __future__ import annotations

from typing import Any, Callable

import pytest
import yaml

from ansible_collections.multihost.overlay.plugins.modules import host_preflight, preflight_report


@pytest.mark.parametrize("check", [False, True])
def test_it_reads_this_very_machine(run_module: Callable[..., dict[str, Any]], check: bool) -> None:
    result = run_module(host_preflight.main, {"address": "192.0.2.254"}, check=check)
    assert result["changed"] is False
    assert "address_missing" in [row["id"] for row in result["findings"]] or "unreadable" in str(result["findings"])
    assert result["ansible_facts"]["overlay_host_facts"]["hostname"]


def test_an_unknown_mode_is_refused(run_module: Callable[..., dict[str, Any]]) -> None:
    assert run_module(host_preflight.main, {"mode": "magic"})["failed"]


def test_documentation_and_arguments_agree() -> None:
    options = yaml.safe_load(host_preflight.DOCUMENTATION)["options"]
    documented = {
        name: {key: value for key, value in option.items() if key != "description"} for name, option in options.items()
    }
    assert documented == host_preflight.ARGUMENTS


@pytest.mark.parametrize("module", [host_preflight, preflight_report])
def test_documentation_is_yaml(module: Any) -> None:
    for part in (module.DOCUMENTATION, module.EXAMPLES, module.RETURN):
        assert yaml.safe_load(part)
