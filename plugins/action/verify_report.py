# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of verify: numbers the run, plans it, reports it. Nothing is run on any host."""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import Any, Callable

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import make_plan, stop
from ansible_collections.multihost.overlay.plugins.module_utils._ping_report import (
    Books,
    failure_text,
    make_report,
    make_rows,
    render,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_whole
from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import junit_of_pairs

# What the hosts' tasks registered; role overlay_verify uses these names.
STARTED, PROBED, COLLECTED = "__overlay_verify_started", "__overlay_verify_probed", "__overlay_verify_collected"
Json = dict[str, Any]


def plain(value: Any) -> Any:
    """Copy templated values into plain ones: JSON and the planner know nothing of lazy containers."""
    if isinstance(value, dict):
        return {str(key): plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def registered(hostvars: Any, hosts: list[str], name: str, run: str) -> Json:
    """Return what each host registered under a name; hosts that fell out have nothing, or what another run left."""
    found = {}
    for host in hosts:
        variables = hostvars[host]
        value = plain(variables[name]) if name in variables else None
        if value is not None and value.get("run_id", run) == run:
            found[host] = value
    return found


def write_report(directory: str, report: Json) -> str:
    """Write verify.json, whole or not at all; return its path."""
    folder = os.path.abspath(os.path.expanduser(directory))
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "verify.json")
    with open(path + ".new", "w", encoding="utf-8") as stream:
        json.dump(report, stream, indent=2)
        stream.write("\n")
    os.replace(path + ".new", path)
    return path


class ActionModule(ActionBase):
    """Begins, plans or composes one run of verify."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(
        [
            "state",
            "hosts",
            "addresses",
            "networks",
            "run",
            "plan",
            "count",
            "interval",
            "patience",
            "max_loss",
            "report_dir",
        ]
    )

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Dispatch on the state."""
        result: Json = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["begun", "planned", "composed"], "required": True},
                "hosts": {"type": "list", "elements": "str", "required": True},
                "addresses": {"type": "dict"},
                "networks": {"type": "list", "elements": "str", "default": []},
                "run": {"type": "dict"},
                "plan": {"type": "dict"},
                "count": {"type": "int", "default": 10},
                "interval": {"type": "float", "default": 0.05},
                "patience": {"type": "float", "default": 10.0},
                "max_loss": {"type": "float", "default": 0.0},
                "report_dir": {"type": "str", "default": "./overlay-report"},
            },
            required_if=[("state", "planned", ("run", "addresses")), ("state", "composed", ("run", "plan"))],
        )
        steps: dict[str, Callable[[Json, Json], Json]] = {
            "begun": self._begin,
            "planned": self._plan,
            "composed": self._compose,
        }
        result.update(changed=False)
        result.update(steps[args["state"]](plain(args), task_vars or {}))
        return result

    def _begin(self, args: Json, task_vars: Json) -> Json:
        left_out = [host for host in args["hosts"] if host not in task_vars["ansible_play_hosts_all"]]
        if left_out:
            raise AnsibleActionFail(
                f"verify proves every pair of hosts, but --limit, or the play, leaves out {', '.join(left_out)}. What "
                "the containers there claim is then unknown, and a temporary endpoint could take an address of "
                "theirs. Run it without --limit."
            )
        if args["count"] < 1 or args["interval"] < 0.01 or args["patience"] < 1:
            raise AnsibleActionFail(
                "overlay_verify_count must be 1 or more, _interval 0.01 or more, _patience 1 or more"
            )
        return {"run": {"id": secrets.token_hex(8), "begun": time.time()}}

    def _plan(self, args: Json, task_vars: Json) -> Json:
        started = registered(task_vars["hostvars"], args["hosts"], STARTED, args["run"]["id"])
        elapsed = max(0.0, time.time() - args["run"]["begun"])
        timing = {key: args[key] for key in ("count", "interval", "patience")}
        timing["stop"] = stop(elapsed, len(args["hosts"]), int(task_vars.get("ansible_forks", 5)), args["patience"])
        underlay = {host: args["addresses"][host] for host in args["hosts"]}
        return {"plan": make_plan(args["run"], underlay, args["networks"], started, timing), "at": time.time()}

    def _compose(self, args: Json, task_vars: Json) -> Json:
        hosts, plan = args["hosts"], args["plan"]
        started, probed, collected = (
            registered(task_vars["hostvars"], hosts, name, plan["run"]) for name in (STARTED, PROBED, COLLECTED)
        )
        rows = make_rows(Books(plan, started, probed, collected, args["max_loss"]))
        now = time.time()
        report = dict(make_report(plan["networks"], rows, now - args["run"]["begun"]), written=round(now, 3))
        path = write_report(args["report_dir"], report)
        write_whole(args["report_dir"], "verify.xml", junit_of_pairs(rows))
        self._show(hosts, report)
        self._warn(collected)
        result = {"path": path, "summary": report["summary"], "msg": f"all {len(rows)} pairs are good; see {path}"}
        if report["summary"]["failed"]:
            result.update(failed=True, msg=failure_text(report, path))
        return result

    def _warn(self, collected: Json) -> None:
        """Also where all pairs are good something may have been left behind. Of an agent that died the rows tell."""
        for host, result in collected.items():
            for error in [] if result.get("agent_died") else result.get("errors") or []:
                Display().warning(f"{host}: {str(error).strip()}")

    def _show(self, hosts: list[str], report: Json) -> None:
        display = Display()
        if len(hosts) < 2:
            display.warning("verify proved nothing: the overlay has fewer than two hosts, so there is no pair.")
        elif not report["networks"]:
            display.warning("verify proved nothing: there is no network to verify (overlay_verify_networks is empty).")
        else:
            display.display(render(hosts, report))
