# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What has to happen to daemon.json so that dockerd has our settings and the user keeps theirs. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_flags import LISTS, Flag

STORE = "cluster-store"
ADVERTISE = "cluster-advertise"
OPTIONS = "cluster-store-opts"
TLS_OPTIONS = ("kv.cacertfile", "kv.certfile", "kv.keyfile")


@dataclass(frozen=True)
class Situation:
    """What was found on the host."""

    path: str
    document: dict[str, Any]
    flags: dict[str, Flag] = field(default_factory=dict)
    # The manifest's keys of this file that are ours: {"had": bool, "prior": value}.
    owned: dict[str, dict[str, Any]] = field(default_factory=dict)
    overwrite: bool = False
    # Whether the engine has overlay networks; None if that could not be learnt.
    store_in_use: bool | None = False
    # Interface name or address -> address, because dockerd takes either in cluster-advertise.
    resolve: Callable[[str], str] = str


@dataclass(frozen=True)
class Change:
    """One key of daemon.json that changes. `present` says whether it is in the file afterwards."""

    key: str
    before: Any
    after: Any
    had: bool
    present: bool = True


@dataclass
class Plan:
    """What to do, what flags do already, which of the user's values give way, and why nothing must be done at all."""

    document: dict[str, Any]
    changes: list[Change] = field(default_factory=list)
    satisfied: dict[str, str] = field(default_factory=dict)
    replaced: list[str] = field(default_factory=list)
    forgotten: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def _address(value: str, resolve: Callable[[str], str]) -> str:
    host, colon, port = value.rpartition(":")
    return f"{resolve(host)}{colon}{port}"


def normalised(key: str, value: Any, resolve: Callable[[str], str] = str) -> str:
    """A value in the form in which two spellings of the same setting are equal."""
    if key == STORE:
        scheme, separator, rest = str(value).partition("://")
        return scheme.lower() + separator + rest.rstrip("/")
    if key == ADVERTISE:
        return _address(str(value), resolve)
    if isinstance(value, dict):
        value = {name: str(option) for name, option in value.items()}
    elif key in LISTS and isinstance(value, list):
        value = [str(item) for item in value]
    elif not isinstance(value, (bool, list)):
        return str(value)
    return json.dumps(value, sort_keys=True)


def stringified(config: dict[str, Any]) -> dict[str, Any]:
    """The settings with the store's options as strings, because a number is fatal for dockerd."""
    options = config.get(OPTIONS)
    if not isinstance(options, dict):
        return dict(config)
    texts = {
        name: str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
        for name, value in options.items()
    }
    return {**config, OPTIONS: texts}


def all_wanted(config: dict[str, Any], defaults: dict[str, Any], keep: list[str], seen: Situation) -> dict[str, Any]:
    """All wanted settings: of `defaults` only those that the user has not decided otherwise; of `keep` what is ours."""
    kept = {key: seen.document[key] for key in keep if key in seen.document and _is_ours(key, seen)}
    yielding = {key: value for key, value in defaults.items() if not _is_decided(key, value, seen)}
    return {**kept, **yielding, **config}


def _is_decided(key: str, value: Any, seen: Situation) -> bool:
    if key in seen.flags:
        return not _same(key, value, seen.flags[key].value, seen)
    return key in seen.document and not _is_ours(key, seen) and not _same(key, value, seen.document[key], seen)


def is_foreign(wanted: dict[str, Any], seen: Situation) -> bool:
    """Whether daemon.json names a store that is neither the wanted one nor put there by us."""
    if STORE not in wanted or STORE not in seen.document or _is_ours(STORE, seen):
        return False
    return normalised(STORE, wanted[STORE]) != normalised(STORE, seen.document[STORE])


def _is_ours(key: str, seen: Situation) -> bool:
    """Ours is what the manifest says, unless the user's own prior value is back (after a change that was undone)."""
    record = seen.owned.get(key)
    if record is None:
        return False
    return not (record.get("had") and key in seen.document and seen.document[key] == record.get("prior"))


def _same(key: str, one: Any, other: Any, seen: Situation) -> bool:
    return normalised(key, one, seen.resolve) == normalised(key, other, seen.resolve)


def _drop(plan: Plan, key: str) -> None:
    plan.changes.append(Change(key, plan.document.pop(key), None, True, present=False))


def _plan_flagged(plan: Plan, key: str, value: Any, seen: Situation) -> None:
    flag = seen.flags[key]
    if not _same(key, value, flag.value, seen):
        plan.problems.append(
            f"{key} is set as a flag in {flag.source} to {json.dumps(flag.value)}, but {json.dumps(value)} is"
            f" wanted. dockerd takes a"
            f" setting from one place only: remove the flag from {flag.source}, or give this host the flag's"
            f" value as the wanted one."
        )
        return
    plan.satisfied[key] = flag.source
    if key in plan.document and _is_ours(key, seen):
        _drop(plan, key)  # in both places it would be fatal at the next start


def _store_problem(wanted: dict[str, Any], seen: Situation) -> str | None:
    if not is_foreign(wanted, seen) or seen.overwrite or seen.store_in_use is False:
        return None
    why = (
        "has overlay networks there"
        if seen.store_in_use
        else "could not be asked whether it has overlay networks there"
    )
    return (
        f"{seen.path} names another store, {seen.document[STORE]}, and the engine {why}: with {wanted[STORE]} it"
        f" would lose them."
        f" Use that store (overlay_consul_manage: false and overlay_store_url), or remove its overlay networks,"
        f" or consent with"
        f" overlay_docker_overwrite_keys: true."
    )


def _plan_key(plan: Plan, key: str, value: Any, seen: Situation) -> None:
    had = key in plan.document
    before = plan.document.get(key)
    if had and _same(key, before, value, seen):
        return
    if had and not _is_ours(key, seen):
        plan.replaced.append(key)
    plan.document[key] = value
    plan.changes.append(Change(key, before, value, had))


def _plan_unwanted(plan: Plan, key: str, seen: Situation) -> None:
    """A key that we set once and that is no longer wanted gets its prior value back."""
    plan.forgotten.append(key)
    if key not in plan.document or not _is_ours(key, seen):
        return
    record = seen.owned[key]
    if record.get("had"):
        before = plan.document[key]
        plan.document[key] = record.get("prior")
        plan.changes.append(Change(key, before, record.get("prior"), True))
    else:
        _drop(plan, key)


def make_plan(config: dict[str, Any], seen: Situation) -> Plan:
    """The plan that brings daemon.json from what was seen to what is wanted."""
    wanted = stringified(config)
    plan = Plan(dict(seen.document))
    problem = _store_problem(wanted, seen)
    if problem:
        plan.problems.append(problem)
    for key, value in wanted.items():
        if key in seen.flags:
            _plan_flagged(plan, key, value, seen)
        else:
            _plan_key(plan, key, value, seen)
    for key in seen.owned:
        if key not in wanted:
            _plan_unwanted(plan, key, seen)
    plan.problems += document_problems(plan.document, seen)
    return plan


def document_problems(document: dict[str, Any], seen: Situation) -> list[str]:
    """Why dockerd would refuse to start with this document, or quietly do something else."""
    return [*_twice(document, seen), *_option_problems(document, seen), *_url_problems(document, seen.path)]


def _twice(document: dict[str, Any], seen: Situation) -> list[str]:
    problems = []
    for key in document:
        if key not in seen.flags:
            continue
        source = seen.flags[key].source
        cure = f"keep it in one of the two: remove it from {seen.path}, or the flag from {source}"
        if key == "hosts":
            cure += " (a drop-in of docker.service with an empty ExecStart= and an ExecStart= without -H)"
        problems.append(
            f"{key} is set in {seen.path} and as a flag in {source}; dockerd will not start with both: {cure}."
        )
    return problems


def _option_problems(document: dict[str, Any], seen: Situation) -> list[str]:
    flagged = seen.flags[OPTIONS].value if OPTIONS in seen.flags else {}
    options = document.get(OPTIONS, flagged)
    if not isinstance(options, dict):
        return [
            f"{OPTIONS} in {seen.path} must be an object of strings; dockerd will not start with {json.dumps(options)}."
        ]
    problems = [
        f"{OPTIONS}: {name} in {seen.path} is {json.dumps(value)}; dockerd takes strings only and will not start:"
        f" write it in quotes."
        for name, value in options.items()
        if not isinstance(value, str)
    ]
    given = [name for name in TLS_OPTIONS if options.get(name)]
    if given and len(given) < len(TLS_OPTIONS):
        missing = ", ".join(name for name in TLS_OPTIONS if name not in given)
        problems.append(
            f"{OPTIONS} has {', '.join(given)} but not {missing}: dockerd would quietly talk to the store in"
            f" plain text. Give all three."
        )
    return problems


def _url_problems(document: dict[str, Any], path: str) -> list[str]:
    url = str(document.get(STORE, ""))
    if url.lower().startswith("consul://") and "," in url:
        return [
            (
                f"{STORE} in {path} names several endpoints ({url}); with Consul dockerd takes exactly one and will"
                f" not start with more."
                " Name the Consul agent of the host itself (consul://127.0.0.1:8500)."
            )
        ]
    return []
