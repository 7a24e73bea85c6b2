# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of verify: numbers the run, plans it, reports it. Nothing is run on any host."""

from __future__ import annotations

import json
import os
import secrets
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ansible_collections.multihost.overlay.plugins.module_utils._ping_checks import make_checks, merge_checks
from ansible_collections.multihost.overlay.plugins.module_utils._ping_plan import make_plan, soon, stop
from ansible_collections.multihost.overlay.plugins.module_utils._ping_report import (
    Books,
    failure_text,
    make_report,
    make_rows,
    merge_rounds,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners
from ansible_collections.multihost.overlay.plugins.plugin_utils import _baseline
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_report, write_whole
from ansible_collections.multihost.overlay.plugins.plugin_utils._junit import junit_of_pairs
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, registered
from ansible_collections.multihost.overlay.plugins.plugin_utils._verify_matrix import render

# What the hosts' tasks registered; role overlay_verify uses these names.
STARTED, PROBED, COLLECTED = "__overlay_verify_started", "__overlay_verify_probed", "__overlay_verify_collected"
Json = dict[str, Any]
# How a run measures; the agents are told all of it.
TIMING: dict[str, Json] = {
    "count": {"type": "int", "default": 10},
    "interval": {"type": "float", "default": 0.05},
    "patience": {"type": "float", "default": 10.0},
    "start_wait": {"type": "float", "default": 60.0},
    "transport": {"type": "bool", "default": True},
    "peers": {"type": "int", "default": 0},
    "only": {"type": "list", "elements": "str", "default": []},
    "rounds": {"type": "int", "default": 1},
    "streams": {"type": "int", "default": 0},
}
ARGUMENTS: dict[str, Json] = {
    "state": {"type": "str", "choices": ["begun", "planned", "composed"], "required": True},
    "hosts": {"type": "list", "elements": "str", "required": True},
    "addresses": {"type": "dict"},
    "networks": {"type": "list", "elements": "str", "default": []},
    "run": {"type": "dict"},
    "plan": {"type": "dict"},
    **TIMING,
    "max_loss": {"type": "float", "default": 0.0},
    "baseline": {"type": "str", "default": ""},
    "slower": {"type": "float", "default": 3.0},
    "report_dir": {"type": "str", "default": "./overlay-report"},
}
LEAST = {
    "count": 1,
    "interval": 0.01,
    "patience": 1,
    "start_wait": 1,
    "peers": 0,
    "rounds": 1,
    "streams": 0,
    "slower": 1,
}
# Results of pairs in one run, of some hundred bytes each, which hosts hand over in one piece.
MOST_BOOKS = 50000


def settings_problem(args: Json) -> str:
    """What of the settings cannot be."""
    wrong = [f"overlay_verify_{name} must be {bound} or more" for name, bound in LEAST.items() if args[name] < bound]
    if not 0 <= args["max_loss"] <= 1:
        wrong.append("overlay_verify_max_loss is a fraction, from 0 to 1")
    unknown = sorted(set(args["only"]) - set(args["hosts"]))
    if unknown:
        wrong.append(f"overlay_verify_hosts has {', '.join(unknown)}, which the overlay has not")
    if args["streams"] and not args["transport"]:
        wrong.append("overlay_verify_streams needs overlay_verify_transport")
    if not wrong:
        wrong += books_problem(args)
    return "; ".join(wrong)


def books_problem(args: Json) -> list[str]:
    """Whether more is to be written down than a controller can hold at once."""
    pairs = sum(map(len, partners(args["hosts"], args["peers"], places(args))))
    books = args["rounds"] * max(1, pairs * len(args["networks"]))
    if args["rounds"] == 1 or books <= MOST_BOOKS:
        return []
    many = f"overlay_verify_rounds is {args['rounds']}, which makes {books} results of pairs, and {MOST_BOOKS} are the most"
    return [f"{many}: fewer rounds, or fewer overlay_verify_peers"]


def places(args: Json) -> list[int]:
    """Where the hosts stand whose pairs alone are wanted."""
    return sorted(args["hosts"].index(host) for host in set(args["only"]))


def on_controller(path: str) -> str:
    """The absolute path; a relative one is under the folder that Ansible was started in."""
    return os.path.abspath(os.path.expanduser(path))


def read_baseline(path: str) -> dict[_baseline.Key, float | None] | None:
    """The medians to compare with; None when there is no baseline yet."""
    try:
        with open(path, encoding="utf-8") as stream:
            return _baseline.parse(stream.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise AnsibleActionFail(
            f"overlay_verify_baseline: {path} on the controller cannot be used: {exc}. Name another file, or remove this "
            "one: the next good run writes a new one."
        ) from None


def may_be_written(path: str) -> bool:
    """Whether a file can be made there, with the folders that lack."""
    folder = os.path.dirname(path)
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)


def compare(args: Json, report: Json) -> tuple[Json, list[str]]:
    """What verify.json and the terminal say of the baseline; it is written when there is none and the run is good."""
    path, rows, failed = on_controller(args["baseline"]), report["pairs"], report["summary"]["failed"]
    medians = read_baseline(path)
    if medians is not None:
        found = {"path": path, "written": False, **_baseline.compare(medians, rows, args["slower"])}
        return found, _baseline.compared_words(found)
    good = bool(rows) and not failed
    if good:
        folder, name = os.path.split(path)
        write_whole(folder, name, json.dumps(_baseline.compose(rows), indent=2) + "\n")
    found = {"path": path, "written": good, **_baseline.compare({}, [], args["slower"])}
    return found, _baseline.first_words(path, good, f"{failed} pair(s) failed" if failed else "there is no pair")


class ActionModule(ActionBase):
    """Begins, plans or composes one run of verify."""

    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS = frozenset(ARGUMENTS)

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Dispatch on the state."""
        result: Json = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec=ARGUMENTS,
            required_if=[("state", "planned", ("run", "addresses")), ("state", "composed", ("run", "plan"))],
        )
        steps = {"begun": self._begin, "planned": self._plan, "composed": self._compose}
        return dict(result, changed=False, **steps[args["state"]](plain(args), task_vars or {}))

    def _begin(self, args: Json, task_vars: Json) -> Json:
        left_out = [host for host in args["hosts"] if host not in task_vars["ansible_play_hosts_all"]]
        if left_out:
            raise AnsibleActionFail(
                f"verify proves every pair of hosts, but --limit, or the play, leaves out {', '.join(left_out)}. What "
                "the containers there claim is then unknown, and a temporary endpoint could take an address of "
                "theirs. Run it without --limit."
            )
        problem = settings_problem(args)
        if problem:
            raise AnsibleActionFail(problem)
        self._begin_baseline(args)
        return {"run": {"id": secrets.token_hex(8), "begun": time.time()}}

    def _begin_baseline(self, args: Json) -> None:
        """A baseline of no use is refused before a packet is sent."""
        path = on_controller(args["baseline"])
        if args["baseline"] and read_baseline(path) is None and not may_be_written(path):
            raise AnsibleActionFail(
                f"overlay_verify_baseline: {path} is not there, and cannot be written on the controller by this user. Name another file."
            )

    def _plan(self, args: Json, task_vars: Json) -> Json:
        started = registered(task_vars["hostvars"], args["hosts"], STARTED, args["run"]["id"])
        elapsed = max(0.0, time.time() - args["run"]["begun"])
        timing = {key: args[key] for key in TIMING}
        timing["only"] = places(args)
        timing["stop"] = stop(elapsed, len(args["hosts"]), int(task_vars.get("ansible_forks", 5)), timing)
        timing["soon"] = soon(elapsed, timing)
        underlay = {host: args["addresses"][host] for host in args["hosts"]}
        return {"plan": make_plan(args["run"], underlay, args["networks"], started, timing), "at": time.time()}

    def _compose(self, args: Json, task_vars: Json) -> Json:
        hosts, plan = args["hosts"], args["plan"]
        started, probed, collected = (
            registered(task_vars["hostvars"], hosts, name, plan["run"]) for name in (STARTED, PROBED, COLLECTED)
        )
        # Who was done soon was not asked again.
        collected.update({host: result for host, result in probed.items() if "networks" in result})
        books = [
            Books(plan, started, probed, collected, args["max_loss"], turn) for turn in range(plan["timing"]["rounds"])
        ]
        rows = merge_rounds([make_rows(book) for book in books])
        checks = merge_checks([make_checks(book) for book in books])
        now = time.time()
        report = dict(make_report(plan, rows, checks, now - args["run"]["begun"]), written=round(now, 3))
        words: list[str] = []
        # Pairs that were not asked for would pass for lost.
        if args["baseline"] and not args["only"]:
            report["baseline"], words = compare(args, report)
        path = write_report(args["report_dir"], report, "verify")
        write_whole(args["report_dir"], "verify.xml", junit_of_pairs(rows, checks))
        self._show(hosts, report)
        self._show_baseline(report, words)
        self._warn(collected)
        result = {"path": path, "summary": report["summary"], "msg": f"all {len(rows)} pairs are good; see {path}"}
        if report["summary"]["failed"] or report["summary"]["checks_failed"]:
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

    def _show_baseline(self, report: Json, words: list[str]) -> None:
        for line in words:
            Display().display(line)
        if report.get("baseline", {}).get("slower"):
            Display().warning(_baseline.slower_words(report["baseline"]))
