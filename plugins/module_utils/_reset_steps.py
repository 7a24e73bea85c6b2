# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does the steps of a reset, one by one; each is dropped from the manifest once it is done."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from typing import Any, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as host
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_pending as pending
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_steps as daemon
from ansible_collections.multihost.overlay.plugins.module_utils import _firewall_host as firewall
from ansible_collections.multihost.overlay.plugins.module_utils import _published_ports as published_ports
from ansible_collections.multihost.overlay.plugins.module_utils import _reset_plan as plan
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import NAMESPACES
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_steps import holders
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import (
    PACKAGES_BEFORE,
    Manifest,
    write_atomic,
)
from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner
from ansible_collections.multihost.overlay.plugins.module_utils._reset_host import (
    BEGUN,
    daemon_request,
    firewall_plan,
    list_networks,
)
from ansible_collections.multihost.overlay.plugins.module_utils._reset_plan import Step

# Kinds of steps of which there is one at most, so that they name no thing.
ALONE = ("apply", "disable", "firewall", "live_restore", "state", "stop")
PURGE_SECONDS = 600.0
APT = [
    "env",
    "DEBIAN_FRONTEND=noninteractive",
    "apt-get",
    "-q",
    "-y",
    "--allow-change-held-packages",
    "-o",
    "DPkg::Lock::Timeout=120",
]
# Bridges of an engine that is gone.
BRIDGES = ("docker0", "docker_gwbridge")
ENGINE_KEY = "/etc/docker/key.json"
# Folders that dockerd and containerd make for themselves, and no package takes away; deeper ones first.
ENGINE_FOLDERS = ("/etc/docker", "/etc/cni/net.d", "/etc/cni", "/var/lib/docker")
CONTAINERD = "/var/lib/containerd"
# Left alone when the rest of our folder goes: the doctor's copies of keys, and files that somebody had changed.
USERS = ("backups", "kept")


class ResetError(Exception):
    """A step failed; the message has the thing and the cure."""


def holds_nothing(folder: str) -> bool:
    """Whether a containerd that is gone kept no image and no container there: all it has is the list of them."""
    return all(name == "meta.db" for _place, _folders, files in os.walk(folder) for name in files)


class Undo:
    """What the steps need, and what they say of themselves."""

    def __init__(self, manifest: Manifest, engine: host.Engine, options: Mapping[str, Any], run: Runner) -> None:
        self.manifest = manifest
        self.engine = engine
        self.options = options
        self.run = run
        self.kept: list[str] = []
        self.said: list[str] = []

    def all(self, steps: Iterable[Step]) -> None:
        """In their order; systemd is told of units that are gone."""
        touched = False
        for step in steps:
            if step.kind in ALONE:
                getattr(self, step.kind)()
            else:
                getattr(self, step.kind)(step)
            touched = touched or "/systemd/system/" in step.thing
        if touched:
            self.run(["systemctl", "daemon-reload"])

    def _must(self, argv: list[str], cure: str, timeout: float = 60.0) -> None:
        status, out, err = self.run(argv, timeout=timeout)
        if status:
            raise ResetError(f"`{' '.join(argv)}` failed: {(err or out).strip()[-1000:] or status}. {cure}")

    # --- containers and networks ---

    def disconnect(self, step: Step) -> None:
        try:
            self.engine.client.post(f"/networks/{step.other}/disconnect", {"Container": step.thing, "Force": True})
        except DockerError as error:
            if error.status != 404:  # it, or its network, has gone meanwhile
                raise ResetError(
                    f"could not {step.say.partition(';')[0]}: {error.message}. Disconnect it by hand, then run again"
                ) from error

    def network(self, step: Step) -> None:
        """Endpoints that nobody of the play has are ghosts of a store that goes; in somebody else's store they may be alive."""
        found = list_networks(self.engine, step.thing)
        left = (found or {}).get("Containers") or {}
        if left and not self.options["store_managed"]:
            names = ", ".join(sorted(entry.get("Name", key) for key, entry in left.items()))
            raise ResetError(
                f"the network {step.other} is used by {names}, on hosts that are not reset. Disconnect these, then run again"
            )
        try:
            for key, entry in left.items():
                who = entry.get("Name", "") if key.startswith("ep-") else key
                self.engine.client.post(f"/networks/{step.thing}/disconnect", {"Container": who, "Force": True})
            self.engine.client.delete(f"/networks/{step.thing}")
        except DockerError as error:
            if error.status != 404 and not self.options["store_managed"]:
                raise ResetError(f"could not {step.say}: {error.message}. The doctor says what holds it") from error

    # --- the engine ---

    def unit(self, step: Step) -> None:
        self._must(["systemctl", "stop", step.thing], f"See journalctl -u {step.thing}")
        # One that is masked, or whose file is gone, cannot be disabled and need not be.
        self.run(["systemctl", "disable", step.thing])
        self.run(["systemctl", "reset-failed", step.thing])

    def stop(self) -> None:
        self._must(["systemctl", "stop", *plan.DOCKER_UNITS], "See journalctl -u docker", timeout=self.options["wait"])

    def disable(self) -> None:
        self.run(["systemctl", "disable", *plan.DOCKER_UNITS])
        self._forget_engine()

    def _request(self, config: Mapping[str, Any] | None) -> daemon.Request:
        return daemon_request(self.manifest, self.options, config)

    def stage(self, step: Step) -> None:
        """Our keys stay in the manifest until the engine runs without them: if it does not, they come back with the file."""
        self.manifest.state[BEGUN] = True
        self.manifest.save()
        owned = dict(self.manifest.owned_keys(plan.DAEMON_JSON))
        daemon.stage(self._request(None if step.other else {}), self.engine)
        self._reload_manifest()
        if step.other:
            for key, entry in owned.items():
                self.manifest.record_key(plan.DAEMON_JSON, key, entry["role"], entry["had"], entry["prior"])
            self.manifest.save()

    def _reload_manifest(self) -> None:
        """What others have written there."""
        self.manifest = Manifest.load()

    def apply(self) -> None:
        request = self._request(None)
        result = daemon.apply(request, self.engine, self.said.append)
        self._reload_manifest()
        if result["restart_pending"]:
            raise ResetError(f"{result['explanation']} Nothing else was changed on this host")

    def live_restore(self) -> None:
        """A key that is taken out is not read again: the engine is told so by its opposite first."""
        off = self._request({pending.LIVE_RESTORE: False})
        daemon.stage(off, self.engine)
        daemon.apply(off, self.engine, self.said.append)
        daemon.stage(self._request({}), self.engine)
        self._reload_manifest()

    def shared(self, step: Step) -> None:
        """Byte for byte what it was, if it says the same; away, if it was not there."""
        for key in list(self.manifest.owned_keys(step.thing)):
            self.manifest.forget_key(step.thing, key)
        for name in (daemon.STATE_KEY, BEGUN):
            self.manifest.state.pop(name, None)
        self.manifest.data["keys"].pop(step.thing, None)
        self.manifest.save()
        entry = self.manifest.data["files"].get(step.thing)
        text = host.read_text(step.thing)
        if entry and text is not None:
            self._put_back_shared(step.thing, entry, text)
        self.manifest.forget("files", step.thing)

    def _put_back_shared(self, path: str, entry: Mapping[str, Any], text: str) -> None:
        now = daemon.parse(text, path)
        before = host.read_text(entry["backup"]) if entry["backup"] else None
        if before is None and not entry["existed"] and not now:
            os.unlink(path)
        elif before is not None and before != text and json.dumps(daemon.parse(before, path)) == json.dumps(now):
            self._write(path, before.encode(), entry)

    def namespace(self, step: Step) -> None:
        path = os.path.join(NAMESPACES, step.thing)
        if not os.path.exists(path):
            return
        if holders(path):
            self.said.append(f"{path} is left until the next boot: a process is in it")
            return
        self.run(["umount", path])
        os.unlink(path)

    def tunnel(self, step: Step) -> None:
        self.run(["ip", "link", "delete", step.thing])

    def _forget_engine(self) -> None:
        """What an engine leaves that is gone: its bridges, who it was, and folders with nothing in them."""
        for name in BRIDGES:
            self.run(["ip", "link", "delete", name])
        with suppress(FileNotFoundError):
            os.unlink(ENGINE_KEY)
        if not shutil.which("containerd") and holds_nothing(CONTAINERD):
            shutil.rmtree(CONTAINERD, ignore_errors=True)
        for path in ENGINE_FOLDERS:
            with suppress(OSError):
                os.rmdir(path)

    # --- files ---

    def forget(self, step: Step) -> None:
        self.manifest.forget("files", step.thing)

    def remove(self, step: Step) -> None:
        self.keep(step)
        if os.path.lexists(step.thing):
            os.unlink(step.thing)
        self.manifest.forget("files", step.thing)

    def restore(self, step: Step) -> None:
        self.keep(step)
        entry = self.manifest.data["files"][step.thing]
        with open(entry["backup"], "rb") as handle:
            self._write(step.thing, handle.read(), entry)
        self.manifest.forget("files", step.thing)

    def keep(self, step: Step) -> None:
        """A copy of what somebody has changed since we wrote it; one that has gone meanwhile was kept before that."""
        if not step.other or not os.path.exists(step.thing):
            return
        copy = self.manifest.copy_path(step.thing, "kept")
        os.makedirs(os.path.dirname(copy), mode=0o700, exist_ok=True)
        with open(step.thing, "rb") as handle:
            write_atomic(copy, handle.read(), 0o600)
        self.kept.append(copy)
        self.said.append(f"{step.thing} was changed since it was written: a copy is {copy}")

    @staticmethod
    def _write(path: str, content: bytes, entry: Mapping[str, Any]) -> None:
        found = entry.get("attributes") or {"mode": 0o644, "uid": 0, "gid": 0}
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomic(os.path.realpath(path), content, found["mode"], found["uid"], found["gid"])

    # --- the rest ---

    def firewall(self) -> None:
        planned = firewall_plan(self.manifest, self.run)
        firewall.apply(self.run, self.manifest, planned, {}, None)
        self.run(["nft", "-f", "/dev/stdin"], published_ports.removal())

    def sysctl(self, step: Step) -> None:
        self._must(["sysctl", "-q", "-w", f"{step.thing}={step.other}"], "Set it by hand, then run again")
        self.manifest.forget("sysctls", step.thing)

    def forget_sysctl(self, step: Step) -> None:
        self.manifest.forget("sysctls", step.thing)

    def forget_package(self, step: Step) -> None:
        self.manifest.forget("packages", step.thing)

    def packages(self, step: Step) -> None:
        """Those of which only the configuration was there keep it."""
        ours, before = step.thing.split(), self.manifest.state.get(PACKAGES_BEFORE, {})
        names = [*ours, *step.other]
        some = {
            "remove": [name for name in names if name in before],
            "purge": [name for name in names if name not in before],
        }
        for verb in [verb for verb in some if some[verb]]:
            self._must([*APT, verb, *some[verb]], "Cure what apt says, then run again", timeout=PURGE_SECONDS)
        if any(name in plan.ENGINES for name in ours):
            self._forget_engine()
        for name in ours:
            self.manifest.forget("packages", name)

    def content(self, step: Step) -> None:
        for name in os.listdir(step.thing):
            path = os.path.join(step.thing, name)
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)

    def directory(self, step: Step) -> None:
        if step.other and os.path.isdir(step.thing):
            inside = os.listdir(step.thing)
            if inside:
                self.said.append(f"{step.thing} stays, because it is not empty: {', '.join(sorted(inside)[:5])}")
            else:
                os.rmdir(step.thing)
        self.manifest.forget("directories", step.thing)

    def user(self, step: Step) -> None:
        if step.other:
            self._must(["userdel", step.thing], "Remove the user by hand, then run again")
        self.manifest.forget("users", step.thing)

    def group(self, step: Step) -> None:
        if step.other:
            self._must(["groupdel", step.thing], "Remove the group by hand, then run again")
        self.manifest.forget("groups", step.thing)

    def run_file(self, step: Step) -> None:
        os.unlink(step.thing)
        if not os.listdir(os.path.dirname(step.thing)):
            os.rmdir(os.path.dirname(step.thing))

    def state(self) -> None:
        """The manifest last: until it goes, the next run knows what is still to be done."""
        folder = os.path.dirname(self.manifest.path)
        shutil.rmtree(os.path.join(folder, "backup"), ignore_errors=True)
        os.unlink(self.manifest.path)
        inside = os.listdir(folder)
        if not inside:
            os.rmdir(folder)
        for name in sorted(set(inside) & set(USERS)):
            self.said.append(f"{os.path.join(folder, name)} stays: it is yours to look at and to remove")
