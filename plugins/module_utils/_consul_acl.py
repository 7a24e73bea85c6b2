# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which policies and tokens Consul is to have for an overlay's hosts: the plan, and the API to carry it out.

What an engine needs was found by trial with Docker 20.10.5 and Consul 1.8.7: its own keys, and sessions on its own node.
"""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from typing import Any, Dict, Iterable, List, NamedTuple, Sequence, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._consul_api import Consul, ConsulError

Json = Dict[str, Any]

MARK = "multihost.overlay"
KINDS = ("agent", "engine")
# Namespace of the accessor ids, which name a token without giving it away.
ACCESSORS = uuid.UUID("3f1c2f5e-6d0b-5f0c-9d0e-7c1d4b0a8e21")


POLL = 0.5
# A server that has just become leader does not know its own tokens for a moment (403), or has no leader to ask (500).
YOUNG = (403, 429, 500, 503)


class Wanted(NamedTuple):
    """What Consul is to have."""

    policies: List[Json]
    tokens: List[Json]


class Steps(NamedTuple):
    """What is to be done, as bodies for the API; an update has the ID of what it replaces. ``unused`` are policies, name by ID."""

    policies: List[Json]
    tokens: List[Json]
    stale: List[str]
    unused: Dict[str, str] = {}

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return bool(self.policies or self.tokens or self.stale or self.unused)


def agent_rules(node: str) -> str:
    """What the Consul of a node may do: register the node, and see the others, for which probe and doctor ask it. Consul's own rules for a
    node (NodeIdentities) would do, but they take no name with a dot or a capital (hashicorp/consul's issue 18246).
    """
    seen = [f'{kind}_prefix "" {{ policy = "read" }}\n' for kind in ("node", "service")]
    return "".join([f'node {json.dumps(node)} {{ policy = "write" }}\n', *seen])


def engine_rules(node: str, servers: Sequence[str] = ()) -> str:
    """What the engine of a node may do: all with Docker's keys, sessions on its own node and on the servers that it asks, nothing else."""
    sessions = [f'session {json.dumps(name)} {{ policy = "write" }}\n' for name in sorted({node, *servers})]
    return "".join(['key_prefix "docker/" { policy = "write" }\n', *sessions])


def policy_name(kind: str, node: str) -> str:
    """Consul allows letters, digits, dashes and underscores, 128 characters."""
    clean = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in node)
    digest = hashlib.sha256(node.encode()).hexdigest()[:8]
    return f"multihost-overlay-{kind}-{clean[:80]}-{digest}"


def accessor(secret: str) -> str:
    """The same for the same token, and no way back."""
    return str(uuid.uuid5(ACCESSORS, secret))


def wanted(hosts: Iterable[Json], servers: Sequence[str] = ()) -> Wanted:
    """Two tokens for each host, its Consul's and its engine's, each with a policy of its own."""
    policies, tokens = [], []
    for host in hosts:
        rules = {"agent": agent_rules(host["name"]), "engine": engine_rules(host["name"], servers)}
        for kind in KINDS:
            name = policy_name(kind, host["name"])
            policies.append(_policy(name, f"{kind} of {host['name']}", rules[kind]))
            tokens.append(_token(host[kind], _described(kind, host["name"]), [name]))
    return Wanted(policies, tokens)


def wants(hosts: Iterable[Json], servers: Sequence[str], present: Sequence[str] | None) -> Tuple[Wanted, Wanted]:
    """For all hosts, and for those that are present."""
    every = list(hosts)
    there = [host for host in every if present is None or host["name"] in present]
    return wanted(every, servers), wanted(there, servers)


def _policy(name: str, what: str, rules: str) -> Json:
    # The API's list has no rules, but the description: so it tells whether they are these.
    digest = hashlib.sha256(rules.encode()).hexdigest()[:16]
    return {"Name": name, "Description": f"{MARK}: {what}, rules {digest}", "Rules": rules}


def _described(kind: str, host: str) -> str:
    return f"{MARK}: {kind} of {host}"


def _token(secret: str, description: str, policies: List[str]) -> Json:
    names = [{"Name": name} for name in policies]
    return {"AccessorID": accessor(secret), "SecretID": secret, "Description": description, "Policies": names}


def plan(
    want: Wanted, policies: List[Json], tokens: List[Json], settled: Iterable[str] = (), due: Wanted | None = None
) -> Steps:
    """Compare with what the API lists. Only what has our mark is ever taken away: tokens and policies of hosts that are no more, and, of
    hosts that are ``settled``, because their engines run with the present one, tokens that were made from other secrets. Of what is wanted
    only what is ``due`` is made; all by default.
    """
    due = due or want
    there = {policy["Name"]: policy for policy in policies}
    to_write = [
        {**policy, **({"ID": there[policy["Name"]]["ID"]} if policy["Name"] in there else {})}
        for policy in due.policies
        if there.get(policy["Name"], {}).get("Description") != policy["Description"]
    ]
    known = {token["AccessorID"] for token in tokens}
    keep = {token["AccessorID"] for token in want.tokens}
    spared = {token["Description"] for token in want.tokens} - {
        _described(kind, host) for kind in KINDS for host in settled
    }
    stale = [
        token["AccessorID"]
        for token in tokens
        if token["Description"].startswith(f"{MARK}: ")
        and token["AccessorID"] not in keep
        and token["Description"] not in spared
    ]
    wanted_names = {policy["Name"] for policy in want.policies}
    unused = {
        policy["ID"]: policy["Name"]
        for policy in policies
        if policy["Description"].startswith(f"{MARK}: ") and policy["Name"] not in wanted_names
    }
    return Steps(to_write, [token for token in due.tokens if token["AccessorID"] not in known], stale, unused)


class Acl(Consul):
    """Policies and tokens in Consul."""

    def lists(self, wait: float) -> Tuple[List[Any], List[Any]]:
        """Policies and tokens, as soon as there is one who may list them."""
        deadline = time.monotonic() + wait
        while True:
            try:
                return self.ask("GET", "acl/policies"), self.ask("GET", "acl/tokens")
            except ConsulError as exc:
                if exc.status not in (0, *YOUNG) or time.monotonic() >= deadline:
                    raise
            time.sleep(POLL)

    def do(self, steps: Steps) -> None:
        """Policies first, since tokens name them; what is stale goes last."""
        for policy in steps.policies:
            self.ask("PUT", f"acl/policy/{policy['ID']}" if "ID" in policy else "acl/policy", policy)
        for token in steps.tokens:
            self.ask("PUT", "acl/token", token)
        for accessor in steps.stale:
            self.ask("DELETE", f"acl/token/{accessor}")
        for policy_id in steps.unused:
            self.ask("DELETE", f"acl/policy/{policy_id}")
