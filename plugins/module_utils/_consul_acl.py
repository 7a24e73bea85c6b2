# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which policies and tokens Consul is to have for an overlay's hosts, compared with those that it has. No I/O.

What an engine needs was found by trial with Docker 20.10.5 and Consul 1.8.7: its own keys, and sessions on its own node.
"""

from __future__ import annotations

import hashlib
import uuid
from typing import Any, Dict, Iterable, List, NamedTuple

Json = Dict[str, Any]

MARK = "multihost.overlay"
# Namespace of the accessor ids, which name a token without giving it away.
ACCESSORS = uuid.UUID("3f1c2f5e-6d0b-5f0c-9d0e-7c1d4b0a8e21")


class Wanted(NamedTuple):
    """What Consul is to have."""

    policies: List[Json]
    tokens: List[Json]


class Steps(NamedTuple):
    """What is to be done, as bodies for the API; an update has the ID of what it replaces."""

    policies: List[Json]
    tokens: List[Json]
    stale: List[str]

    @property
    def any(self) -> bool:
        """Whether there is something to do."""
        return bool(self.policies or self.tokens or self.stale)


def engine_rules(node: str, prefix: str) -> str:
    """What the engine of a node may do: all with its own keys, sessions on its own node, nothing else."""
    return f'key_prefix "{prefix}" {{ policy = "write" }}\nsession "{node}" {{ policy = "write" }}\n'


def policy_name(node: str) -> str:
    """Consul allows letters, digits, dashes and underscores, 128 characters."""
    clean = "".join(letter if letter.isalnum() and letter.isascii() else "-" for letter in node)
    digest = hashlib.sha256(node.encode()).hexdigest()[:8]
    return f"multihost-overlay-engine-{clean[:80]}-{digest}"


def accessor(secret: str) -> str:
    """The same for the same token, and no way back."""
    return str(uuid.uuid5(ACCESSORS, secret))


def wanted(hosts: Iterable[Json], prefix: str, datacenter: str) -> Wanted:
    """Two tokens for each host: its Consul's own, and its engine's with a policy of its own."""
    policies, tokens = [], []
    for host in hosts:
        rules, name = engine_rules(host["name"], prefix), policy_name(host["name"])
        digest = hashlib.sha256(rules.encode()).hexdigest()[:16]
        # The API's list has no rules, but the description: so it tells whether they are these.
        policies.append(
            {"Name": name, "Description": f"{MARK}: engine of {host['name']}, rules {digest}", "Rules": rules}
        )
        identity = {"NodeName": host["name"], "Datacenter": datacenter}
        tokens.append(_token(host["agent"], f"agent of {host['name']}", NodeIdentities=[identity]))
        tokens.append(_token(host["engine"], f"engine of {host['name']}", Policies=[{"Name": name}]))
    return Wanted(policies, tokens)


def _token(secret: str, what: str, **rights: Any) -> Json:
    return {"AccessorID": accessor(secret), "SecretID": secret, "Description": f"{MARK}: {what}", **rights}


def plan(want: Wanted, policies: List[Json], tokens: List[Json]) -> Steps:
    """Compare with what the API lists. Only what carries our mark, for a host that is wanted, is ever taken away."""
    there = {policy["Name"]: policy for policy in policies}
    to_write = [
        {**policy, **({"ID": there[policy["Name"]]["ID"]} if policy["Name"] in there else {})}
        for policy in want.policies
        if there.get(policy["Name"], {}).get("Description") != policy["Description"]
    ]
    known = {token["AccessorID"] for token in tokens}
    keep = {token["AccessorID"] for token in want.tokens}
    ours = {token["Description"] for token in want.tokens}
    stale = [
        token["AccessorID"] for token in tokens if token["Description"] in ours and token["AccessorID"] not in keep
    ]
    return Steps(to_write, [token for token in want.tokens if token["AccessorID"] not in known], stale)
