# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is to be undone on a host, in which order, and what stays. Pure.

The order is the point of it: containers leave networks that still work, engines leave a store that still answers, programs stop before
their files go, and the manifest goes last. Each step is dropped from the manifest when it is done: the next run goes on where one ended.
"""

from __future__ import annotations

import re
from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_arguments as arguments
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import DROPIN_FILE, RULES_FILE, TABLE
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import UNIT_FILE as FIREWALL_UNIT_FILE

CONTAINERS, NETWORKS, ENGINE, END = "containers", "networks", "engine", "end"
PHASES = (CONTAINERS, NETWORKS, ENGINE, END)
STATE_DIR = "/var/lib/multihost-overlay"
DAEMON_JSON = "/etc/docker/daemon.json"
ENVIRONMENT = "/etc/multihost-overlay/dockerd.env"
ROLE_OF_ENGINE = "overlay_docker"
DOCKER_UNITS = ("docker.service", "docker.socket")
DOCKER_UNIT_FILES = tuple(f"/etc/systemd/system/{name}" for name in DOCKER_UNITS)
ENGINES = ("docker.io", "docker-ce")
# What goes and stays with an engine of ours.
ENGINE_PACKAGES = (*ENGINES, "docker-ce-cli", "containerd.io", "iptables", "apparmor")
ENGINE_FILE = re.compile(
    r"/etc/systemd/system/docker\.(service|socket)|/usr/local/bin/docker|/etc/apt/.*docker-ce.*|/etc/sysusers\.d/.*-docker\.conf"
)
ENGINE_DIRECTORY = re.compile(
    r"/usr/local/lib/multihost-overlay(/docker-.*)?|/usr/local/lib|/etc/apt/keyrings|/etc/sysusers\.d"
)
DROP_IN = re.compile(r"/etc/systemd/system/docker\.service\.d/.*\.conf")
OWN_UNIT = re.compile(r"/systemd/system/(multihost-overlay-[^/]+\.service)$")
FIREWALL_FILES = (RULES_FILE, FIREWALL_UNIT_FILE, DROPIN_FILE)
# Settings that an engine makes for itself, and whose prior value would cut its containers off.
ENGINE_SYSCTLS = ("net.ipv4.ip_forward",)
# Ours, and gone with the next boot anyway.
RUN_FILES = ("/run/multihost-overlay/peers.json", "/run/multihost-overlay/boot-repair")

# Entries of the manifest that are dropped and nothing else: nobody has to read of them.
QUIET = ("forget", "forget_sysctl", "forget_package", "shared")

Json = Mapping[str, Any]


class Step(NamedTuple):
    """One thing to undo. ``other`` is what the kind needs besides."""

    phase: str
    kind: str
    thing: str
    say: str
    other: Any = None


class Plan(NamedTuple):
    """The steps in their order, what stays and why, and why nothing may be done at all."""

    steps: list[Step]
    stays: list[str]
    refused: list[str]


def make_plan(seen: Json, options: Json) -> Plan:
    """From what was observed. Without a manifest nothing here is ours."""
    if seen["manifest"] is None:
        return Plan(
            [], [f"{STATE_DIR}/manifest.json is not there: nothing here is known as ours, and nothing is touched"], []
        )
    fate, why = fate_of_engine(seen, options)
    steps = [
        *container_steps(seen, options, fate),
        *network_steps(seen, options),
        *engine_steps(seen, fate),
        *end_steps(seen, options, fate),
    ]
    return Plan(steps, [*why, *staying(seen, options, fate, steps)], refusals(seen, options, fate))


# --- the engine ---


def fate_of_engine(seen: Json, options: Json) -> tuple[str, list[str]]:
    """``theirs``: it was there before us; ``back``: theirs comes back in place of ours; ``goes``, or ``stays``, and why."""
    packages, files = seen["manifest"]["packages"], seen["manifest"]["files"]
    unpacked = DOCKER_UNIT_FILES[0] in files
    if unpacked and seen["engine"]["other_unit"]:
        return "back", []
    if not unpacked and not any(name in packages for name in ENGINES):
        return "theirs", []
    if not options["packages"]:
        return "stays", ["the engine that we installed: overlay_reset_packages is false"]
    used = seen["engine"]["used"]
    if used:
        return "stays", [
            f"the engine that we installed, because it is used: {', '.join(used)}. Remove these and run reset again to have it removed"
        ]
    return "goes", []


def leaves(seen: Json, fate: str) -> bool:
    """Whether the engine is in a store now and will not be in it."""
    return bool(seen["engine"]["store"]) and (
        fate == "goes" or seen["engine"]["store_after"] != seen["engine"]["store"]
    )


def going_networks(seen: Json, options: Json, fate: str) -> dict[str, str]:
    """id -> name of the overlay networks that this engine loses: all where it leaves the store, else those of ours that are removed."""
    engine = seen["engine"]
    found = removed_networks(seen, options)
    return {row["id"]: row["name"] for row in engine["networks"] if leaves(seen, fate)} or found


def removed_networks(seen: Json, options: Json) -> dict[str, str]:
    """id -> name of those that go from the store: all of a store of ours, and of somebody else's what we made."""
    rows = seen["engine"]["networks"] if options["networks"] else []
    return {row["id"]: row["name"] for row in rows if options["store_managed"] or row["ours"]}


def container_steps(seen: Json, options: Json, fate: str) -> Iterator[Step]:
    """Containers are never removed: they leave the networks that go, and run on."""
    going = going_networks(seen, options, fate)
    for container in seen["engine"]["containers"]:
        mine = {name: key for name, key in container["networks"].items() if key in going}
        rest = sorted(set(container["networks"]) - set(mine))
        then = f"it keeps {', '.join(rest)}" if rest else "it is left without a network"
        for name, key in sorted(mine.items()):
            say = f"disconnect the container {container['name']} from the network {name}; {then}"
            yield Step(CONTAINERS, "disconnect", container["id"], say, key)


def network_steps(seen: Json, options: Json) -> Iterator[Step]:
    for key, name in sorted(removed_networks(seen, options).items(), key=lambda item: item[1]):
        yield Step(NETWORKS, "network", key, f"remove the overlay network {name} from the store", name)


def engine_steps(seen: Json, fate: str) -> Iterator[Step]:
    """The engine goes on without the store, as its user had it; or it stops, where it is ours and nobody needs it."""
    files = seen["manifest"]["files"]
    own = [path for path in sorted(files) if files[path]["role"] == ROLE_OF_ENGINE and OWN_UNIT.search(path)]
    # Before the engine: they watch it, and one restarts it.
    yield from unit_steps(ENGINE, own, seen)
    yield from file_steps(ENGINE, own, seen)
    if fate == "goes" and any(seen["units"].get(name, {}).get("ActiveState") == "active" for name in DOCKER_UNITS):
        yield Step(ENGINE, "stop", "docker", "stop the engine, which we installed and nobody uses")
    yield from keep_steps(seen)
    if seen["daemon"]["owned"] or seen["daemon"]["arguments"]:
        keys = ", ".join(sorted(seen["daemon"]["owned"]) or ["the arguments"])
        goes_on = any(restart_steps(seen, fate))
        say = f"undo our settings of the engine ({keys}): what was set before comes back"
        yield Step(ENGINE, "stage", DAEMON_JSON, say, goes_on)
    yield from file_steps(ENGINE, [path for path in sorted(files) if is_engines(path, fate)], seen)
    yield from restart_steps(seen, fate)
    yield from shared_steps(seen)
    yield from leftover_steps(seen, fate)


def keep_steps(seen: Json) -> Iterator[Step]:
    """The drop-in that goes with our settings, if somebody has changed it."""
    for step in file_steps(ENGINE, [path for path in [arguments.PATH] if path in seen["manifest"]["files"]], seen):
        if step.other:
            yield Step(ENGINE, "keep", step.thing, f"keep a copy of {step.thing}, which was changed since", True)


def is_engines(path: str, fate: str) -> bool:
    """Files that have to be gone before the engine starts the next time."""
    return (
        bool(DROP_IN.fullmatch(path)) or path == ENVIRONMENT or (fate == "back" and bool(ENGINE_FILE.fullmatch(path)))
    )


def restart_steps(seen: Json, fate: str) -> Iterator[Step]:
    daemon = seen["daemon"]
    if fate == "goes" or not seen["engine"]["running"]:
        return
    if daemon["due"]:
        way = "restart" if daemon["restarts"] else "reload"
        yield Step(ENGINE, "apply", "docker.service", f"{way} the engine: {'; '.join(daemon['due'])}")
    if daemon["live_restore"]:
        say = "switch live-restore off again, as it was, now that no restart is to come"
        yield Step(ENGINE, "live_restore", DAEMON_JSON, say)


def shared_steps(seen: Json) -> Iterator[Step]:
    if DAEMON_JSON in seen["manifest"]["files"] or DAEMON_JSON in seen["manifest"]["keys"]:
        say = f"leave {DAEMON_JSON} as it was before, save what others have changed in it since"
        yield Step(ENGINE, "shared", DAEMON_JSON, say)


def leftover_steps(seen: Json, fate: str) -> Iterator[Step]:
    """What an overlay leaves behind: only where none is left that could have it."""
    if not leaves(seen, fate) and (seen["engine"]["store"] or seen["engine"]["networks"]):
        return
    for name in seen["namespaces"]:
        yield Step(ENGINE, "namespace", name, f"remove the leftover namespace /run/docker/netns/{name}")
    for name in seen["tunnels"]:
        yield Step(ENGINE, "tunnel", name, f"delete the leftover tunnel {name}")


# --- files, units ---


def unit_steps(phase: str, paths: Iterable[str], seen: Json) -> Iterator[Step]:
    for match in [found for found in map(OWN_UNIT.search, paths) if found]:
        name = match.group(1)
        state = seen["units"].get(name, {})
        if (
            state.get("ActiveState") in ("active", "activating", "reloading", "failed")
            or state.get("UnitFileState") == "enabled"
        ):
            yield Step(phase, "unit", name, f"stop and disable {name}")


def file_steps(phase: str, paths: Iterable[str], seen: Json) -> Iterator[Step]:
    for path in paths:
        yield file_step(phase, path, seen["manifest"]["files"][path], seen["files"][path])


def file_step(phase: str, path: str, entry: Json, found: Json) -> Step:
    """Ours goes and what stood there comes back. What somebody has changed since is kept as a copy."""
    changed = found["digest"] is not None and found["digest"] not in (
        *entry.get("digests", [found["digest"]]),
        found["backup"],
    )
    kept = f" (it was changed since: a copy is kept in {STATE_DIR}/kept)" if changed else ""
    if entry["existed"] and found["backup"] is not None:
        if found["digest"] == found["backup"]:
            return Step(phase, "forget", path, f"leave {path}, which is as it was before")
        return Step(phase, "restore", path, f"put back {path} as it was before{kept}", changed)
    if found["digest"] is None:
        return Step(phase, "forget", path, f"leave out {path}, which is not there any more")
    return Step(phase, "remove", path, f"remove {path}{kept}", changed)


# --- the rest ---


def end_steps(seen: Json, options: Json, fate: str) -> Iterator[Step]:
    manifest = seen["manifest"]
    paths = [
        path
        for path in sorted(manifest["files"])
        if not is_done_before(path, manifest) and not stays_with_engine(path, fate)
    ]
    yield from unit_steps(END, [path for path in paths if path not in FIREWALL_FILES], seen)
    if fate == "goes" and DOCKER_UNIT_FILES[0] in manifest["files"]:
        yield Step(END, "disable", "docker", "disable the units of the engine, which go")
    if seen["firewall"]:
        yield Step(END, "firewall", TABLE, f"open the ports: {'; '.join(seen['firewall'])}")
    yield from file_steps(END, paths, seen)
    yield from sysctl_steps(seen, fate)
    yield from package_steps(seen, options, fate)
    yield from content_steps(seen, fate)
    yield from account_steps(seen, fate)
    for path in seen["run_files"]:
        yield Step(END, "run_file", path, f"remove {path}")
    yield from directory_steps(seen, fate)
    yield from state_steps(seen, options, fate)


def is_done_before(path: str, manifest: Json) -> bool:
    """Whether the engine's steps have done with a file."""
    role = manifest["files"][path]["role"]
    return (
        path in (DAEMON_JSON, ENVIRONMENT)
        or bool(DROP_IN.fullmatch(path))
        or (role == ROLE_OF_ENGINE and bool(OWN_UNIT.search(path)))
    )


def stays_with_engine(path: str, fate: str) -> bool:
    return fate in ("stays", "back") and bool(ENGINE_FILE.fullmatch(path))


def sysctl_steps(seen: Json, fate: str) -> Iterator[Step]:
    for key, entry in sorted(seen["manifest"]["sysctls"].items()):
        if key in ENGINE_SYSCTLS and fate == "stays":
            continue  # until the engine goes
        if is_kept_sysctl(key, entry, seen, fate):
            yield Step(END, "forget_sysctl", key, f"leave {key} as it is")
        else:
            yield Step(END, "sysctl", key, f"set {key} back to {entry['prior']}", entry["prior"])


def is_kept_sysctl(key: str, entry: Json, seen: Json, fate: str) -> bool:
    """One that an engine needs, or that somebody has changed since."""
    needed = key in ENGINE_SYSCTLS and fate != "goes" and seen["engine"]["installed"]
    return needed or seen["sysctls"].get(key) != entry["ours"]


def package_fates(seen: Json, options: Json, fate: str) -> dict[str, str]:
    """Name -> why it stays; '' for one that goes."""
    found = {}
    for name in sorted(seen["manifest"]["packages"]):
        if name not in seen["packages"]["installed"]:
            found[name] = "it is not installed any more"
        elif not options["packages"]:
            found[name] = "overlay_reset_packages is false"
        elif name in ENGINE_PACKAGES and fate == "stays":
            found[name] = "the engine stays"
        elif name in ENGINE_PACKAGES and fate != "goes" and seen["engine"]["installed"]:
            found[name] = "an engine is there that may use it"
        else:
            found[name] = seen["packages"]["in_use"].get(name, "")
    return found


def package_steps(seen: Json, options: Json, fate: str) -> Iterator[Step]:
    fates = package_fates(seen, options, fate)
    gone = [name for name, why in fates.items() if not why]
    if gone:
        along = seen["packages"]["along"]
        others = f", and what came with them and nobody else needs: {', '.join(along)}" if along else ""
        yield Step(END, "packages", " ".join(gone), f"purge the packages {', '.join(gone)}{others}", along)
    for name, why in fates.items():
        if why and not stays_listed(name, options, fate):
            yield Step(END, "forget_package", name, f"leave out the package {name}: {why}")


def stays_listed(name: str, options: Json, fate: str) -> bool:
    """Whether a package stays ours: a later reset takes it with the engine, or when it may."""
    return not options["packages"] or (name in ENGINE_PACKAGES and fate == "stays")


def content_steps(seen: Json, fate: str) -> Iterator[Step]:
    for path, entry in sorted(seen["manifest"]["directories"].items()):
        if entry.get("content") and seen["directories"][path] and not keeps_directory(path, seen["manifest"], fate):
            yield Step(END, "content", path, f"remove all that is in {path}, which is ours")


def keeps_directory(path: str, manifest: Json, fate: str) -> bool:
    """Whether files of the engine that stays lie in it."""
    has_files = any(map(ENGINE_FILE.fullmatch, manifest["files"]))
    return fate == "stays" and has_files and bool(ENGINE_DIRECTORY.fullmatch(path))


def account_steps(seen: Json, fate: str) -> Iterator[Step]:
    for name in sorted(seen["manifest"]["users"]):
        there = seen["users"].get(name, False)
        yield Step(
            END, "user", name, f"remove the user {name}" if there else f"leave out the user {name}, who is gone", there
        )
    for name in sorted(seen["manifest"]["groups"]):
        if fate == "stays":
            continue
        members = seen["groups"].get(name)
        free = members is not None and not members
        why = "which is gone" if members is None else f"which has members: {', '.join(members)}"
        yield Step(END, "group", name, f"remove the group {name}" if free else f"leave the group {name}, {why}", free)


def directory_steps(seen: Json, fate: str) -> Iterator[Step]:
    for path in sorted(seen["manifest"]["directories"], key=lambda name: (-name.count("/"), name)):
        if not keeps_directory(path, seen["manifest"], fate):
            made = seen["manifest"]["directories"][path]["made"]
            yield Step(
                END,
                "directory",
                path,
                f"remove the directory {path} if it is empty" if made else f"leave the directory {path}",
                made,
            )


def state_steps(seen: Json, options: Json, fate: str) -> Iterator[Step]:
    """The manifest goes last, and only where nothing of ours stays."""
    if not remains(seen, options, fate):
        yield Step(END, "state", STATE_DIR, f"remove what we know of this host: {STATE_DIR}")


def remains(seen: Json, options: Json, fate: str) -> bool:
    """Whether something stays that a later reset can take off."""
    manifest = seen["manifest"]
    packages = [
        name for name, why in package_fates(seen, options, fate).items() if why and stays_listed(name, options, fate)
    ]
    return bool(packages) or (fate == "stays" and DOCKER_UNIT_FILES[0] in manifest["files"])


# --- what is said ---


def staying(seen: Json, options: Json, fate: str, steps: list[Step]) -> Iterator[str]:
    """What stays, and why."""
    fates = package_fates(seen, options, fate)
    for name, why in fates.items():
        if why and name in seen["packages"]["installed"]:
            yield f"the package {name}: {why}"
    for key, entry in sorted(seen["manifest"]["sysctls"].items()):
        if is_kept_sysctl(key, entry, seen, fate):
            yield f"{key} = {seen['sysctls'].get(key)}: an engine needs it, or it was changed since"
    if seen["closed_manager"]:
        yield "our rules in firewalld, which does not run: start it and run reset again, or remove them with firewall-offline-cmd"
    gone = {step.thing for step in steps if step.kind == "disconnect"}
    others = sorted(row["name"] for row in seen["engine"]["containers"] if row["id"] not in gone)
    if others:
        yield f"the containers {', '.join(others)}, which are on no network that goes"
    if fate != "goes" and seen["engine"]["installed"]:
        yield "the engine with its images, volumes and other networks, and docker_gwbridge, which is its own"


def refusals(seen: Json, options: Json, fate: str) -> list[str]:
    """What a person has to decide before anything is changed."""
    found = []
    daemon, engine = seen["daemon"], seen["engine"]
    if engine["hangs"]:
        found.append(
            "the engine runs, but does not answer: cure or stop it (systemctl stop docker), then run this again"
        )
    lost = lost_containers(seen) if leaves(seen, fate) else []
    if lost and not options["without_store"]:
        found.append(
            f"the store {engine['store']} does not answer, so that these containers cannot leave their networks: {', '.join(lost)}. Bring "
            "the store back, or go on with overlay_reset_without_store: true; they then keep the name of a network that is gone"
        )
    if fate != "goes" and engine["running"] and daemon["restarts"] and not daemon["allowed"]:
        found.append(why_not_restarted(daemon))
    return found


def lost_containers(seen: Json) -> list[str]:
    """Containers on networks of which an engine without its store knows nothing."""
    engine = seen["engine"]
    if engine["store_answers"]:
        return []
    return sorted(row["name"] for row in engine["containers"] if set(row["networks"].values()) - set(engine["known"]))


def why_not_restarted(daemon: Json) -> str:
    dying, without = daemon["dying"], daemon["without_policy"]
    text = f"the engine has to be restarted ({'; '.join(daemon['due'])})"
    if dying:
        text += f", and these containers would die of it: {', '.join(dying)}"
    if without:
        text += f"; these would not come back by themselves (no restart policy): {', '.join(without)}"
    return f"{text}. Consent with overlay_docker_restart: rolling, or stop them first"
