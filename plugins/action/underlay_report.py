# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of the underlay's probe: numbers the run, plans it, judges it. Nothing is run on any host."""

from __future__ import annotations

import secrets
import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_paths import found
from ansible_collections.multihost.overlay.plugins.module_utils._probe_plan import (
    make_plan,
    ports_of,
    ports_text,
    spread,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._probe_report import (
    OVERHEAD,
    Paths,
    findings_of,
    needs_ports,
    underlay,
)
from ansible_collections.multihost.overlay.plugins.plugin_utils._variables import plain, registered

# What the hosts' tasks registered; role overlay_preflight uses these names.
STARTED = "__overlay_preflight_started"
# The results are in the first where all agents were started together, else in the second.
PROBED, COLLECTED = "__overlay_preflight_probed", "__overlay_preflight_collected"
Json = dict[str, Any]


def host_facts(hostvars: Json, host: str) -> Json:
    """What preflight has read of a host; empty if it could not."""
    facts: Json = (hostvars.get(host, {}).get("ansible_facts") or {}).get("overlay_host_facts") or {}
    return facts


def all_joined(topology: Json, hostvars: Json) -> bool:
    """Whether every Docker host uses the store already and has all the networks, so that no MTU is to be chosen."""
    engines = [host_facts(hostvars, host).get("engine") or {} for host in topology["groups"]["hosts"]]
    return all(
        engine.get("running")
        and engine.get("cluster_store") == topology["store_url"]
        and set(topology["networks"]) <= set(engine.get("networks", []))
        for engine in engines
    )


class ActionModule(ActionBase):
    """Begins, plans or composes one run of the probe."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """Dispatch on the state."""
        result: Json = super().run(tmp, task_vars)
        _validated, args = self.validate_argument_spec(
            argument_spec={
                "state": {"type": "str", "choices": ["begun", "planned", "composed"], "required": True},
                "topology": {"type": "dict", "required": True},
                "run": {"type": "dict"},
                "plan": {"type": "dict"},
                "patience": {"type": "float", "default": 3.0},
                "gossip": {"type": "float", "default": 2.5},
                "clock_offset": {"type": "float", "default": 2.0},
                "clock_shift": {"type": "dict", "default": {}},
                "unless_proven": {"type": "bool", "default": False},
            },
            required_if=[("state", "planned", ("run",)), ("state", "composed", ("run", "plan"))],
        )
        steps = {"begun": self._begin, "planned": self._plan, "composed": self._compose}
        return dict(result, changed=False, **steps[args["state"]](plain(args), task_vars or {}))

    def _begin(self, args: Json, task_vars: Json) -> Json:
        if args["patience"] < 1 or args["gossip"] < 0:
            raise AnsibleActionFail("overlay_preflight_probe_patience must be 1 or more, _gossip 0 or more")
        members: list[str] = args["topology"]["groups"]["members"]
        left_out = [host for host in members if host not in task_vars["ansible_play_hosts_all"]]
        why = f"--limit, or the play, leaves out {', '.join(left_out)}" if left_out else ""
        why = why or ("there is only one host" if len(members) < 2 else "")
        if not why and args["unless_proven"] and all_joined(args["topology"], task_vars["hostvars"]):
            why = "all hosts are in the cluster and have its networks, which verify proves"
        names = [f"{row['proto']}/{row['port']}" for row in ports_of(args["topology"])]
        return {"run": {"id": secrets.token_hex(8), "begun": time.time(), "ports": names, "skipped": why}}

    def _plan(self, args: Json, task_vars: Json) -> Json:
        topology, run = args["topology"], args["run"]
        members = topology["groups"]["members"]
        started = registered(task_vars["hostvars"], members, STARTED, run["id"])
        elapsed = max(0.0, time.time() - run["begun"])
        forks = int(task_vars.get("ansible_forks", 5))
        timing = {
            # Nobody has to be collected after others were started.
            "together": len(members) <= forks,
            # What its deadlines know as the length of a series.
            "count": 1,
            "interval": 1.0,
            "patience": args["patience"],
            "gossip": args["gossip"],
            "spread": spread(elapsed, len(members), forks),
        }
        plan = make_plan(run["id"], topology, ports_of(topology), started, timing)
        return {"plan": dict(plan, clock_shift=args["clock_shift"])}

    def _compose(self, args: Json, task_vars: Json) -> Json:
        topology, plan, run = args["topology"], args["plan"], args["run"]
        if run["skipped"]:
            hosts = topology["groups"]["members"]
            host = next((host for host in hosts if host in task_vars["ansible_play_hosts_all"]), "")
            words = "the paths between the hosts were not probed"
            findings = [dict(found("probe_skipped", words, run["skipped"]), host=host)] if len(hosts) > 1 else []
            return {"findings": findings, "underlay": {}, "ports": []}
        members = topology["groups"]["members"]
        results = PROBED if plan["timing"]["together"] else COLLECTED
        started, collected = (
            registered(task_vars["hostvars"], members, name, run["id"]) for name in (STARTED, results)
        )
        ports = ports_of(topology)
        topology["tables"] = {host: host_facts(task_vars["hostvars"], host).get("firewall") for host in members}
        paths = Paths(topology, ports, plan, started, collected)
        findings = findings_of(paths, args["clock_offset"], topology["encryption"])
        seen = underlay(paths)
        shown = ports_text(ports, topology["groups"], topology["addresses"]) if needs_ports(findings) else []
        result: Json = {"findings": findings, "underlay": seen, "ports": shown}
        if seen["paths"]:
            usable = {"mtu": seen["mtu"] - OVERHEAD[topology["encryption"]]}
            result["ansible_facts"] = {"overlay_underlay": usable}
        return result
