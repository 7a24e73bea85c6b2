# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Helpers for unit tests of modules: run main() in this process, without a host."""

from __future__ import annotations

import json
from typing import Any, Callable

import pytest


class ModuleExitError(Exception):
    """A module called exit_json or fail_json; `result` is what it said."""

    def __init__(self, result: dict[str, Any]) -> None:
        super().__init__(json.dumps(result, default=str))
        self.result = result


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """run_module(module.main, {parameters}, check=False, diff=False) -> what the module returns, `failed` included."""
    from ansible.module_utils import basic
    from ansible.module_utils.testing import patch_module_args

    def leave(failed: bool) -> Callable[..., None]:
        def stand_in(self: Any, msg: str | None = None, **result: Any) -> None:
            result.setdefault("changed", False)
            if failed:
                result.update(failed=True, msg=msg)
            elif msg is not None:
                result["msg"] = msg
            raise ModuleExitError(result)

        return stand_in

    def run(main: Callable[[], None], params: dict[str, Any] | None = None, **options: bool) -> dict[str, Any]:
        monkeypatch.setattr(basic.AnsibleModule, "exit_json", leave(False))
        monkeypatch.setattr(basic.AnsibleModule, "fail_json", leave(True))
        control = {"_ansible_check_mode": options.get("check", False), "_ansible_diff": options.get("diff", False)}
        with patch_module_args({**(params or {}), **control}), pytest.raises(ModuleExitError) as left:
            main()
        return left.value.result

    return run
