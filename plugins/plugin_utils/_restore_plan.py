# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a backup may be restored onto a cluster, and what that means for it. Pure."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._backup import (
    Differences,
    compare_networks,
    is_older,
    networks_alone,
    say_network,
)

Json = dict[str, Any]
# Of each kind so many are said.
MOST_SAID = 10
RESTART = (
    "containers that go from the store run on; restart them afterwards, for until then their names are unknown, and their "
    "addresses may be given to others"
)


class Target(NamedTuple):
    """What is there. ``cluster`` is empty where no host of our own store keeps secrets; ``live`` is what M(consul_snapshot) read."""

    managed: bool
    cluster: str
    live: Mapping[str, Any]

    @property
    def fresh(self) -> bool:
        """Whether nothing can be lost."""
        return not self.cluster if self.managed else self.live["answers"] and not self.live["networks"]


def _shares_networks(content: Mapping[str, Any], target: Target) -> bool:
    return bool({row["id"] for row in content["networks"]} & {row["id"] for row in target.live["networks"]})


def foreign(content: Mapping[str, Any], target: Target) -> str:
    """Why the backup is of another cluster; empty if it is not."""
    if target.fresh or content["cluster"] == target.cluster:
        return ""
    if target.managed:
        return (
            f"the backup is of the cluster {content['cluster']}, and these hosts keep the secrets of {target.cluster}. Restore it onto "
            "hosts that belong to no cluster, or take this one off them first (playbooks/reset.yml)"
        )
    if _shares_networks(content, target):
        return ""
    return "the store has networks, and none of the backup's is among them: overlay_store_url names another store than was backed up"


def refusal(content: Mapping[str, Any], target: Target) -> str:
    """Why it must not be restored; empty if it may."""
    if (content["scope"] == "everything") != target.managed:
        made, now = ("ours", "somebody else's") if content["scope"] == "everything" else ("somebody else's", "ours")
        return f"the backup is of a store that was {made}, and overlay_consul_manage says that this one is {now}"
    if not target.managed and not target.live["answers"]:
        return f"the store cannot be read: {target.live['why']}"
    if target.managed and target.fresh and not content["secrets"]:
        return "these hosts keep no secrets of a cluster, and the backup has none"
    if target.managed and is_older(target.live["version"], content["consul_version"]):
        here, made = target.live["version"], content["consul_version"]
        return f"Consul is {here} here, and the backup is of {made}: install that or a newer one first"
    return foreign(content, target)


def few(words: Sequence[str]) -> str:
    """Some of them, and how many more."""
    left = len(words) - MOST_SAID
    return ", ".join(words[:MOST_SAID]) + (f" and {left} more" if left > 0 else "")


def effects(content: Mapping[str, Any], target: Target) -> list[str]:
    """What a restore does to what is there, in words."""
    if target.managed and target.fresh:
        return [f"these hosts belong to no cluster yet: {len(content['networks'])} networks come back"]
    if not target.live["answers"]:
        return [f"what the store has cannot be compared, because it does not answer: {target.live['why']}"]
    found: Differences = compare_networks(content["networks"], target.live["networks"])
    said = [
        ("these go, because they came after the backup", found.gone),
        ("these come back, though they were taken away since", found.back),
        ("these become what they were", found.changed),
    ]
    lines = [f"{what}: {few(words)}" for what, words in said if words]
    if any(words.startswith("container ") for words in found.gone):
        lines.append(RESTART)
    others = target.live["others"] or 0
    if others:
        lines.append(
            f"{others} keys that are not Docker's become what they were too, since all of this Consul is replaced"
        )
    return lines or ["networks and containers in the store are those of the backup"]


def needs_consent(target: Target) -> bool:
    """Whether there is something to be lost."""
    return not target.fresh and (not target.live["answers"] or bool(target.live["networks"]))


def missing(content: Mapping[str, Any], live: Sequence[Mapping[str, Any]], unwanted: Sequence[str]) -> list[str]:
    """Networks of the backup that are not there as they were; the inventory may say that some are to be absent."""
    there = {row["id"]: row for row in networks_alone(live)}
    return [
        f"{say_network(row)} {'differs' if row['id'] in there else 'is not there'}"
        for row in networks_alone(content["networks"])
        if row["name"] not in unwanted and there.get(row["id"]) != row
    ]
