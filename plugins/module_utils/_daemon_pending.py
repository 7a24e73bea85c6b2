# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an engine still has to be told after its daemon.json was written, and whether it may be restarted for it. Pure.

Nothing remembers whether the user restarted the engine since: a pending restart is recorded together with systemd's
InvocationID of docker.service, and is pending only while that very invocation still runs.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable

from ansible_collections.multihost.overlay.plugins.module_utils._daemon_json import without_secrets
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_plan import ADVERTISE, STORE, Change, normalised

LIVE_RESTORE = "live-restore"
# What dockerd really takes over on SIGHUP. It also takes cluster-store, but then libnetwork keeps the old one.
RELOADABLE = frozenset(
    [
        "authorization-plugins",
        "debug",
        "default-runtime",
        "features",
        "insecure-registries",
        "labels",
        "live-restore",
        "max-concurrent-downloads",
        "max-concurrent-uploads",
        "max-download-attempts",
        "registry-mirrors",
        "runtimes",
        "shutdown-timeout",
    ]
)


@dataclass(frozen=True)
class Running:
    """The engine as it is. `info` is None when it does not answer."""

    installed: bool = False
    active: bool = False
    invocation: str = ""
    kill_mode: str = "process"
    info: dict[str, Any] | None = None

    @property
    def containers(self) -> int:
        """How many containers run."""
        return int((self.info or {}).get("ContainersRunning") or 0)

    @property
    def live_restore(self) -> bool:
        """Whether the running engine would leave its containers alone when it stops."""
        return bool((self.info or {}).get("LiveRestoreEnabled"))

    @property
    def shims_survive(self) -> bool:
        """Whether systemd leaves the containers' parents alone when it stops the unit."""
        return self.kill_mode in ("process", "none")


@dataclass
class Due:
    """What is due, with the reasons by the setting that they are about."""

    start: bool = False
    restart: dict[str, str] = field(default_factory=dict)
    reload: dict[str, str] = field(default_factory=dict)

    @property
    def anything(self) -> bool:
        return bool(self.start or self.restart or self.reload)

    @property
    def reasons(self) -> list[str]:
        return [*self.restart.values(), *self.reload.values()]

    def add(self, key: str, reason: str) -> None:
        """File a reason under restart or reload; the first one about a setting stays."""
        (self.reload if key in RELOADABLE else self.restart).setdefault(key, reason)


@dataclass(frozen=True)
class Decision:
    """What to do now. `pending` means that a restart is due and not allowed."""

    start: bool = False
    reload: bool = False
    restart: bool = False
    pending: bool = False


def change_reasons(changes: Iterable[Change]) -> dict[str, str]:
    """A reason for each changed key."""
    reasons = {}
    for change in changes:
        before = json.dumps(without_secrets({change.key: change.before})[change.key]) if change.had else "unset"
        after = json.dumps(without_secrets({change.key: change.after})[change.key]) if change.present else "unset"
        reasons[change.key] = f"{change.key}: {before} -> {after}"
    return reasons


def mismatches(info: dict[str, Any], wanted: dict[str, Any], resolve: Callable[[str], str]) -> dict[str, str]:
    """Where the running engine differs from what is wanted, as far as it tells."""
    found = {}
    for key, shown in ((STORE, "ClusterStore"), (ADVERTISE, "ClusterAdvertise")):
        has = str(info.get(shown) or "")
        if key in wanted and normalised(key, has, resolve) != normalised(key, wanted[key], resolve):
            found[key] = f"{key}: the running engine has {has or 'none'}, wanted is {wanted[key]}"
    if LIVE_RESTORE in wanted and bool(info.get("LiveRestoreEnabled")) != bool(wanted[LIVE_RESTORE]):
        found[LIVE_RESTORE] = f"{LIVE_RESTORE}: the running engine has it {'off' if wanted[LIVE_RESTORE] else 'on'}"
    return found


def environment_mismatches(wanted: dict[str, str], has: dict[str, str]) -> dict[str, str]:
    """Variables that dockerd was started without, or with another value. Values are secret: only names are told."""
    differ = sorted(name for name, value in wanted.items() if has.get(name) != value)
    return {"environment": f"dockerd runs without the present value of {', '.join(differ)}"} if differ else {}


def whats_due(running: Running, record: dict[str, Any] | None, reasons: Iterable[dict[str, str]]) -> Due:
    """All that is due: `reasons` of now, and what was recorded while this same invocation of the engine ran."""
    due = Due(start=running.installed and not running.active)
    if not running.active:
        return due  # it reads everything anew when it starts
    for group in reasons:
        for key, reason in group.items():
            due.add(key, reason)
    if record and record.get("invocation") and record["invocation"] == running.invocation:
        for key, reason in record.get("reasons", {}).items():
            due.add(key, reason)
    if LIVE_RESTORE in due.reload and _is_done(record, running):
        del due.reload[LIVE_RESTORE]
    return due


def _is_done(record: dict[str, Any] | None, running: Running) -> bool:
    """Whether a recorded change of live-restore has been reloaded since: the engine tells that one."""
    reason = (record or {}).get("reasons", {}).get(LIVE_RESTORE, "")
    return running.live_restore and reason.endswith("-> true")


def new_record(running: Running, old: dict[str, Any] | None, due: Due, before: dict[str, Any]) -> dict[str, Any]:
    """What to remember. While the same invocation runs, reasons add up, and what to go back to (``before``) stays the first."""
    same = bool(old) and (old or {}).get("invocation") == running.invocation
    return {
        "invocation": running.invocation,
        "reasons": {**((old or {}).get("reasons", {}) if same else {}), **due.restart, **due.reload},
        **({key: (old or {}).get(key) for key in before} if same else before),
    }


def decide(due: Due, policy: str, running: Running, live_restore_wanted: bool) -> Decision:
    """Whether to start, reload, restart, or leave it pending."""
    if due.start:
        return Decision(start=policy != "never", pending=policy == "never")
    if not due.restart:
        return Decision(reload=bool(due.reload))
    needs_reload = running.containers > 0 and not running.live_restore and live_restore_wanted and running.shims_survive
    survives = running.containers == 0 or (running.shims_survive and (running.live_restore or live_restore_wanted))
    allowed = policy == "rolling" or (policy == "safe" and survives)
    return Decision(reload=allowed and needs_reload, restart=allowed, pending=not allowed)


def gate(running: Running, due: Due, joined: bool) -> str:
    """How apply may be run: `none`, on all such hosts at once (`idle`), or one host after another (`busy`)."""
    if running.active and joined and not due.anything:
        return "none"
    return "busy" if running.containers and due.restart else "idle"


def explain(due: Due, running: Running, containers: list[dict[str, Any]], refused: bool = False) -> str:
    """Why a restart stays pending, and the cures. `refused`: the user has switched live-restore off."""
    if due.start:
        return "The engine does not run and overlay_docker_restart is never: start it with systemctl start docker."
    dying = [item["name"] for item in containers if item["would_die"]]
    without = [item["name"] for item in containers if item["restart_policy"] in ("", "no")]
    text = f"A restart of the engine is pending ({'; '.join(due.reasons)})."
    if dying:
        text += f" These running containers would die of it: {', '.join(dying)}."
    if dying and without:
        text += f" These would not come back by themselves (no restart policy): {', '.join(without)}."
    if not running.shims_survive:
        text += f" Its unit has KillMode={running.kill_mode}, so that live-restore does not save them."
    if dying and refused:
        text += " live-restore would save them, but is switched off by a setting that is not ours."
    return (
        text + " Consent with overlay_docker_restart: rolling, or restart it yourself when it suits: systemctl"
        " restart docker."
    )
