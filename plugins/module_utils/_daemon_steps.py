# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The two steps of docker_daemon_config, from looking to acting: stage writes the file, apply moves the engine."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_arguments as arguments
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as host
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_pending as pending
from ansible_collections.multihost.overlay.plugins.module_utils import _published_ports as published_ports
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_json import (
    DaemonConfigError,
    parse,
    render,
    shown,
)
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_plan import (
    ADVERTISE,
    OPTIONS,
    STORE,
    Plan,
    Situation,
    all_wanted,
    is_foreign,
    make_plan,
    stringified,
)
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import (
    STATE_DIR,
    Manifest,
    make_directories,
    write_atomic,
)
from ansible_collections.multihost.overlay.plugins.module_utils._store import StoreError, await_leader, open_store
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import summary

STATE_KEY = "docker_pending"
PREVIOUS = STATE_DIR + "/backup/daemon.json.previous"


@dataclass
class Request:
    """The module's parameters."""

    config: dict[str, Any]
    defaults: dict[str, Any]
    keep: list[str]
    path: str
    role: str
    overwrite: bool
    restart: str
    reasons: list[str]
    environment_file: str | None
    arguments: list[str]
    read_at_start: list[str]
    units: list[str]
    wait: float
    check_mode: bool


@dataclass
class View:
    """Everything that was seen on the host, and what follows from it."""

    text: str | None
    document: dict[str, Any]
    manifest: Manifest
    running: pending.Running
    plan: Plan
    due: pending.Due
    joined: bool
    wanted: dict[str, Any] = field(default_factory=dict)
    # The drop-in with our arguments, as it is and as it shall be.
    drop_in: tuple[str | None, str | None] = (None, None)


def look(request: Request, engine: host.Engine) -> View:
    """Look at the host and plan. Raise DaemonConfigError for what a person has to decide."""
    text = host.read_text(request.path)
    document = parse(text or "", request.path)
    manifest = Manifest.load()
    running = engine.look(request.units)
    seen = _situation(request, engine, document, manifest)
    wanted = stringified(all_wanted(request.config, request.defaults, request.keep, seen))
    plan = make_plan(wanted, seen)
    problems = plan.problems + arguments.conflicts(request.arguments, plan.document, request.path)
    if problems:
        raise DaemonConfigError("\n".join(problems))
    drop_in = host.read_text(arguments.PATH), arguments.drop_in(host.unit_files(), request.arguments)
    reasons = [*_reasons(request, engine, running, plan, wanted), arguments.change_reason(*drop_in)]
    due = pending.whats_due(running, manifest.state.get(STATE_KEY), reasons)
    joined = STORE not in wanted or _is_joined(running, wanted, due)
    return View(text, document, manifest, running, plan, due, joined, wanted, drop_in)


def _is_joined(running: pending.Running, wanted: dict[str, Any], due: pending.Due) -> bool:
    """Whether the engine is in the wanted store, which one that gossips by way of another store is not."""
    return running.active and STORE not in due.restart and host.gossips(_advertised(running, wanted))


def _situation(request: Request, engine: host.Engine, document: dict[str, Any], manifest: Manifest) -> Situation:
    keys = manifest.owned_keys(request.path)
    owned = {key: record for key, record in keys.items() if record.get("role") == request.role}
    seen = Situation(request.path, document, engine.flags(), owned, request.overwrite, False, host.address_of)
    if is_foreign(request.config, seen) and not request.overwrite:
        seen = replace(seen, store_in_use=engine.has_overlay_networks())
    return seen


def _reasons(
    request: Request, engine: host.Engine, running: pending.Running, plan: Plan, wanted: dict[str, Any]
) -> list[dict[str, str]]:
    if running.info is None:
        return []
    other, younger = engine.other_binary(), engine.younger(request.read_at_start)
    return [
        pending.change_reasons(plan.changes),
        pending.mismatches(running.info, wanted, host.address_of),
        pending.environment_mismatches(host.environment_wanted(request.environment_file), engine.environment()),
        arguments.running_without(request.arguments, engine.argv()),
        {"files": f"dockerd read these before they were changed: {', '.join(younger)}"} if younger else {},
        {"binary": f"the unit starts {other}, another program than the running one"} if other else {},
        {reason: reason for reason in request.reasons},
    ]


def _advertised(running: pending.Running, wanted: dict[str, Any]) -> str:
    value = str((running.info or {}).get("ClusterAdvertise") or wanted.get(ADVERTISE, ""))
    return host.address_of(value.rpartition(":")[0])


def result_of(view: View, engine: host.Engine) -> dict[str, Any]:
    """What both steps return."""
    restarts = bool(view.due.restart)
    return {
        "restart_pending": restarts,
        "reload_pending": bool(view.due.reload),
        "reasons": view.due.reasons,
        "containers": engine.containers(view.running) if restarts else [],
        "live_restore": view.running.live_restore,
        "joined": view.joined if STORE in view.wanted and view.running.active else None,
        "apply": pending.gate(view.running, view.due, view.joined),
        "engine": {
            "installed": view.running.installed,
            "running": view.running.active,
            "containers_running": view.running.containers,
        },
        "units": {
            name: summary(state) for name, state in [(host.UNIT, engine.properties), *engine.unit_states.items()]
        },
    }


# --- stage ---


def stage(request: Request, engine: host.Engine) -> dict[str, Any]:
    """Merge our keys into daemon.json; the engine is not touched."""
    view = look(request, engine)
    if not request.check_mode:
        _write(request, view)
    return {
        "changed": bool(view.plan.changes) or _moves(view),
        "path": request.path,
        "changed_keys": [change.key for change in view.plan.changes],
        "satisfied_by_flags": view.plan.satisfied,
        "replaced": view.plan.replaced,
        "diff": _diffs(request, view),
        **result_of(view, engine),
    }


def _moves(view: View) -> bool:
    """Whether our arguments change."""
    return view.drop_in[0] != view.drop_in[1]


def _diffs(request: Request, view: View) -> list[dict[str, str]]:
    before, after = shown(view.document, view.text or ""), shown(view.plan.document, view.text or "")
    texts = [(request.path, before, after)]
    if _moves(view):
        texts.append((arguments.PATH, view.drop_in[0] or "", view.drop_in[1] or ""))
    return [{"before_header": path, "after_header": path, "before": old, "after": new} for path, old, new in texts]


def _write(request: Request, view: View) -> None:
    """The manifest first, then the file: a run that is killed in between leaves nothing unknown."""
    if not view.manifest.owned_keys(request.path) and any(change.key in view.wanted for change in view.plan.changes):
        # As it is before the first of our keys, byte for byte.
        view.manifest.record_file(request.path, request.role)
    for change in view.plan.changes:
        if change.key in view.wanted and change.present:
            view.manifest.record_key(request.path, change.key, request.role, change.had, change.before)
    if view.plan.changes or _moves(view) or (view.due.anything and request.reasons):
        view.manifest.state[STATE_KEY] = _record(view)
    if _moves(view) and view.drop_in[1] is not None:
        view.manifest.record_file(arguments.PATH, request.role, view.drop_in[1].encode())
    view.manifest.save()
    if view.plan.changes:
        _write_file(request.path, render(view.plan.document, view.text or ""))
    if _moves(view):
        _put(arguments.PATH, view.drop_in[1])
    for key in view.plan.forgotten:
        view.manifest.forget_key(request.path, key)
    view.manifest.save()


def _record(view: View) -> dict[str, Any]:
    old = view.manifest.state.get(STATE_KEY)
    previous = None
    if view.text is not None:
        previous = PREVIOUS
        if not (old and old.get("invocation") == view.running.invocation):
            os.makedirs(os.path.dirname(PREVIOUS), mode=0o700, exist_ok=True)
            write_atomic(PREVIOUS, view.text.encode(), 0o600)
    return pending.new_record(view.running, old, view.due, {"previous": previous, "drop_in": view.drop_in[0]})


def _put(path: str, text: str | None) -> None:
    """Write a file, or take it away where there is to be none."""
    if text is not None:
        _write_file(path, text)
    elif os.path.exists(path):
        os.unlink(path)


def _write_file(path: str, text: str) -> None:
    """Replace a file, keeping its mode and owner."""
    make_directories(os.path.dirname(path))
    path = os.path.realpath(path)
    try:
        status = os.stat(path)
    except FileNotFoundError:
        write_atomic(path, text.encode(), 0o644)
    else:
        write_atomic(path, text.encode(), status.st_mode & 0o7777, status.st_uid, status.st_gid)


# --- apply ---


def apply(request: Request, engine: host.Engine, warn: Callable[[str], None]) -> dict[str, Any]:
    """Start, reload or restart the engine if that is due and allowed, and wait until it has joined."""
    view = look(request, engine)
    if view.plan.changes and not request.check_mode:
        raise DaemonConfigError(f"{request.path} has not been staged: run this module with state=staged first.")
    if not view.running.installed and not request.check_mode:
        raise DaemonConfigError("Docker is not installed on this host.")
    decision = pending.decide(view.due, request.restart, view.running, bool(view.wanted.get(pending.LIVE_RESTORE)))
    if not request.check_mode:
        decision = _act(request, engine, view, decision)
    result = result_of(view, engine)
    result["restart_pending"] = bool(view.due.restart) and decision.pending
    result["explanation"] = ""
    if decision.pending:
        refused = bool(request.defaults.get(pending.LIVE_RESTORE)) and pending.LIVE_RESTORE not in view.wanted
        result["explanation"] = pending.explain(view.due, view.running, result["containers"], refused)
        warn(result["explanation"])
    done = _done(decision)
    return {"changed": any(done.values()), **done, **result, "diff": _diff(view, decision)}


def _done(decision: pending.Decision) -> dict[str, bool]:
    return {"started": decision.start, "reloaded": decision.reload, "restarted": decision.restart}


def _diff(view: View, decision: pending.Decision) -> dict[str, str]:
    does = [name for name, yes in _done(decision).items() if yes]
    text = "".join(f"{name}: {reason}\n" for name in does for reason in view.due.reasons or ["the engine does not run"])
    return {"before_header": host.UNIT, "after_header": host.UNIT, "before": "", "after": text}


def _act(request: Request, engine: host.Engine, view: View, decision: pending.Decision) -> pending.Decision:
    if decision.reload and not _reload(engine, view) and decision.restart and request.restart == "safe":
        # live-restore did not come on: a restart would kill the containers after all.
        return pending.Decision(reload=True, pending=True)
    outlive = bool(view.wanted.get(pending.LIVE_RESTORE, view.running.live_restore))
    if decision.restart and view.running.containers and outlive:
        # Twice as long as one start may take: one that fails is undone by another.
        with published_ports.kept(2 * request.wait + 60):
            _move(request, engine, view, decision)
    else:
        _move(request, engine, view, decision)
    return decision


def _move(request: Request, engine: host.Engine, view: View, decision: pending.Decision) -> None:
    """Start or restart if that is decided, and wait until the engine is as it shall be."""
    begun, before = host.now(), None
    if decision.restart or decision.start:
        _await_store(request, view)
        before = engine.invocation()
        _order(engine, "restart" if decision.restart else "start")
    if not decision.pending:
        _wait_or_undo(request, engine, view, before, begun)
        view.due = pending.Due()
        if view.manifest.state.pop(STATE_KEY, None):
            view.manifest.save()


def _await_store(request: Request, view: View) -> None:
    """An engine that starts while its store does not answer hangs for minutes: rather it is left as it is."""
    url = str(view.wanted.get(STORE, ""))
    if not url.startswith("consul://"):
        return
    token = host.environment_wanted(request.environment_file).get("CONSUL_HTTP_TOKEN")
    try:
        await_leader(open_store(url, token, view.wanted.get(OPTIONS)), request.wait)
    except StoreError as exc:
        raise DaemonConfigError(f"{exc}. The engine was not touched; it needs its store to start.") from exc


def _order(engine: host.Engine, verb: str) -> None:
    status, text = engine.order(verb)
    if status:
        raise DaemonConfigError(f"systemctl {verb} {host.UNIT} failed: {text.strip()}")


def _reload(engine: host.Engine, view: View) -> bool:
    """SIGHUP by way of systemd; true once the engine shows the wanted live-restore."""
    _order(engine, "reload")
    wanted = bool(view.wanted.get(pending.LIVE_RESTORE, view.running.live_restore))
    for _attempt in range(40):
        info = engine.info()
        if info is not None and bool(info.get("LiveRestoreEnabled")) == wanted:
            return True
        time.sleep(0.25)
    return False


def _wait_or_undo(request: Request, engine: host.Engine, view: View, before: str | None, begun: float) -> None:
    problem = wait_ready(engine, view, request.wait, before)
    if not problem:
        return
    moved = before is not None
    words = engine.words(begun if moved else begun - 300)
    undone = _undo(request, engine, view) if moved else "The engine was not restarted."
    raise DaemonConfigError(f"{problem}\n{undone}\ndockerd said:\n{words}")


def wait_ready(engine: host.Engine, view: View, seconds: float, before: str | None) -> str:
    """Wait until the engine answers with the wanted settings and gossips; what is wrong if it does not.

    ``before`` is the invocation that shall be over; None where nothing was ordered.
    """
    deadline = host.now() + seconds
    problem = silent = f"the engine did not answer within {seconds:.0f} s"
    while host.now() < deadline:
        running = engine.look()
        if engine.properties.get("InvocationID", "") == before:
            # What systemd says is still the state of before.
            problem = f"docker.service was not started anew within {seconds:.0f} s"
        elif _has_failed(engine.properties):
            return f"dockerd does not start (systemd says: {engine.properties.get('Result')})"
        else:
            problem = _not_ready(running, view) if running.info is not None else silent
            if not problem:
                view.running, view.joined = running, True
                return ""
        time.sleep(0.1)  # engines start in turn
    return problem


def _has_failed(properties: dict[str, str]) -> bool:
    return properties.get("ActiveState") == "failed" or properties.get("SubState") == "auto-restart"


def _not_ready(running: pending.Running, view: View) -> str:
    differ = pending.mismatches(running.info or {}, view.wanted, host.address_of)
    if differ:
        return "the engine runs, but: " + "; ".join(differ.values())
    address = _advertised(running, view.wanted)
    if STORE in view.wanted and not host.gossips(address):
        return (
            f"the engine runs, but has not joined the store {view.wanted[STORE]}: nobody listens on"
            f" {address}:{host.GOSSIP_PORT}. Is the store up, and has it a leader?"
        )
    return ""


def _undo(request: Request, engine: host.Engine, view: View) -> str:
    """Bring the old daemon.json back and the engine with it."""
    record = view.manifest.state.get(STATE_KEY)
    if record is None:
        return f"{request.path} was not changed before, so there is nothing to go back to."
    _put(request.path, host.read_text(record["previous"]) if record.get("previous") else None)
    _put(arguments.PATH, record.get("drop_in"))
    view.manifest.state.pop(STATE_KEY)
    view.manifest.save()
    engine.order("restart")
    state = "runs with it" if _answers(engine, request.wait) else _why_silent(engine.properties, request.wait)
    return f"The previous {request.path} is back, and the engine {state}."


def _why_silent(properties: dict[str, str], seconds: float) -> str:
    """A host that is slow or busy is no broken one: its engine may come yet."""
    if properties.get("ActiveState") == "activating" and not _has_failed(properties):
        return f"is still starting with it after {seconds:.0f} s: on a host that is so slow raise overlay_docker_wait"
    return "DOES NOT RUN with it either"


def _answers(engine: host.Engine, seconds: float) -> bool:
    deadline = host.now() + seconds
    while host.now() < deadline:
        time.sleep(1)
        if engine.look().info is not None:
            return True
    return False
