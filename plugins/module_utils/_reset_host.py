# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what the plan of a reset needs to know of a host. Changes nothing."""

from __future__ import annotations

import glob
import grp
import hashlib
import os
import pwd
import re
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_arguments as arguments
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_engine as host
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_pending as pending
from ansible_collections.multihost.overlay.plugins.module_utils import _daemon_steps as daemon
from ansible_collections.multihost.overlay.plugins.module_utils import _firewall_host as firewall
from ansible_collections.multihost.overlay.plugins.module_utils import _reset_plan as plan
from ansible_collections.multihost.overlay.plugins.module_utils._daemon_plan import OPTIONS, STORE
from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import read_namespaces, read_tunnels
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_spaces import OVERLAY_NAMESPACE
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import PACKAGES_BEFORE, Manifest
from ansible_collections.multihost.overlay.plugins.module_utils._network import OURS
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_classic import endpoints
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner
from ansible_collections.multihost.overlay.plugins.module_utils._store_http import http_asker
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import units

PREDEFINED = ("bridge", "host", "none", "docker_gwbridge")
# Docker's name of a tunnel that it has not moved into its namespace.
TUNNEL = re.compile(r"vx-[0-9a-f]{6}-[0-9a-z]+")
REMOVED = re.compile(r"^(?:Remv|Purg) (\S+)", re.MULTILINE)
# In the manifest's state, once a reset has begun with the engine: what is pending from then on is its own doing.
BEGUN = "reset_begun"
CONSUL_UNIT = "multihost-overlay-consul.service"
Json = Mapping[str, Any]


def observe(manifest: Manifest, engine: host.Engine, options: Json, run: Runner) -> dict[str, Any]:
    """Everything that the plan needs. Packages, which take seconds, only where it comes to them."""
    seen: dict[str, Any] = {"manifest": manifest.data if os.path.exists(manifest.path) else None}
    if seen["manifest"] is None:
        return seen
    data = manifest.data
    request = daemon_request(manifest, options)
    view = daemon.look(request, engine)
    seen["engine"] = read_engine(engine, view)
    seen["daemon"] = read_daemon(request, view, engine)
    if never_applied(manifest, view, seen["engine"]):
        seen["daemon"].update(due=[], restarts=False, live_restore=False)
    seen["files"] = {
        path: {"digest": digest(path), "backup": digest(entry["backup"])} for path, entry in data["files"].items()
    }
    seen["directories"] = {path: os.listdir(path) if os.path.isdir(path) else [] for path in data["directories"]}
    seen["units"] = units([*plan.DOCKER_UNITS, *unit_names(data["files"])])
    seen["namespaces"] = [name for name in read_namespaces(Reader()) if OVERLAY_NAMESPACE.match(name)]
    seen["tunnels"] = [name for name in read_tunnels(Reader()) if TUNNEL.fullmatch(name)]
    seen["firewall"], seen["closed_manager"] = firewall_steps(manifest, run)
    seen["sysctls"] = {key: run(["sysctl", "-n", key])[1].strip() for key in data["sysctls"]}
    seen["users"] = {name: is_account(pwd.getpwnam, name) for name in data["users"]}
    seen["groups"] = {name: grp.getgrnam(name).gr_mem for name in data["groups"] if is_account(grp.getgrnam, name)}
    seen["run_files"] = [path for path in plan.RUN_FILES if os.path.exists(path)]
    seen["packages"] = read_packages(seen, options, run)
    return seen


def digest(path: str | None) -> str | None:
    """Of a file's content; None where there is none."""
    if not path or not os.path.isfile(path):
        return None
    with open(path, "rb") as handle:
        return hashlib.sha256(handle.read()).hexdigest()


def is_account(lookup: Callable[[str], Any], name: str) -> bool:
    try:
        lookup(name)
    except KeyError:
        return False
    return True


def unit_names(paths: Iterable[str]) -> list[str]:
    return [found.group(1) for found in map(plan.OWN_UNIT.search, paths) if found]


# --- the engine ---


def daemon_request(manifest: Manifest, options: Json, config: Json | None = None) -> daemon.Request:
    """What docker_daemon_config is to be asked: for none of our settings, but for live-restore, which containers need over a restart."""
    owned = manifest.owned_keys(plan.DAEMON_JSON)
    kept = {pending.LIVE_RESTORE: True} if owned_on(owned, host.read_text(plan.DAEMON_JSON)) else {}
    return daemon.Request(
        config=dict(kept if config is None else config),
        defaults={},
        keep=[],
        path=plan.DAEMON_JSON,
        role=plan.ROLE_OF_ENGINE,
        overwrite=True,
        restart=options["restart"],
        reasons=reasons(manifest),
        environment_file=None,
        arguments=[],
        read_at_start=[],
        units=[],
        wait=options["wait"],
        check_mode=options["check_mode"],
    )


def owned_on(owned: Json, text: str | None) -> bool:
    """Whether it is by us that containers outlive the engine."""
    return pending.LIVE_RESTORE in owned and bool(daemon.parse(text or "", plan.DAEMON_JSON).get(pending.LIVE_RESTORE))


def reasons(manifest: Manifest) -> list[str]:
    """Why an engine has to be started anew besides what its daemon.json tells."""
    files = manifest.data["files"]
    found = (
        ["our token leaves its environment"] if plan.ENVIRONMENT in files and os.path.exists(plan.ENVIRONMENT) else []
    )
    if plan.DOCKER_UNIT_FILES[0] in files and other_unit():
        found.append("the engine of before comes back")
    return found


def other_unit() -> bool:
    """Whether a package has an engine's unit too, which ours in /etc goes before."""
    return any(os.path.exists(f"{place}/{host.UNIT}") for place in host.UNIT_DIRS[1:])


def read_engine(engine: host.Engine, view: daemon.View) -> dict[str, Any]:
    """The engine as it is, and the store that it will have."""
    running = view.running
    flags = engine.flags() if running.installed else {}
    after = view.plan.document.get(STORE) or (flags[STORE].value if STORE in flags else "")
    store = str((running.info or {}).get("ClusterStore") or "")
    found = {
        "installed": running.installed,
        "running": running.active,
        "hangs": not running.active and engine.properties.get("ActiveState") in ("active", "activating"),
        "store": store,
        "store_after": str(after),
        "store_answers": not store or store_answers(store, view.document.get(OPTIONS) or {}),
        "other_unit": other_unit(),
        "containers": [],
        "networks": [],
        "known": [],
    }
    if running.active:
        found.update(read_objects(engine))
        found["used"] = uses(found, engine)
    else:
        found["used"] = uses_on_disk(str(view.document.get("data-root") or "/var/lib/docker"))
    return found


def read_objects(engine: host.Engine) -> dict[str, Any]:
    """Containers with their networks, and the overlay networks; a list of networks takes seconds over a store, and one is enough."""
    listed = engine.client.get("/networks") or []
    overlays = [row for row in listed if row.get("Driver") == "overlay"]
    return {
        "containers": [container(row) for row in engine.client.get("/containers/json", {"all": True}) or []],
        "networks": [
            {"id": row["Id"], "name": row["Name"], "ours": OURS.items() <= (row.get("Labels") or {}).items()}
            for row in overlays
        ],
        "known": [row["Id"] for row in listed],
        "own_networks": [row["Name"] for row in listed if row not in overlays and row["Name"] not in PREDEFINED],
    }


def container(row: Json) -> dict[str, Any]:
    attached = (row.get("NetworkSettings") or {}).get("Networks") or {}
    networks = {name: entry.get("NetworkID") or "" for name, entry in attached.items()}
    return {"id": row["Id"], "name": (row.get("Names") or [row["Id"]])[0].lstrip("/"), "networks": networks}


def uses(found: Json, engine: host.Engine) -> list[str]:
    """What of a user's an engine holds."""
    images = engine.client.get("/images/json") or []
    volumes = (engine.client.get("/volumes") or {}).get("Volumes") or []
    things = {
        "containers": found["containers"],
        "images": images,
        "volumes": volumes,
        "networks": found["own_networks"],
    }
    return [f"{len(rows)} {name}" for name, rows in things.items() if rows]


def uses_on_disk(root: str) -> list[str]:
    """The same of an engine that does not run."""
    patterns = {
        "containers": "containers/*",
        "images": "image/*/imagedb/content/sha256/*",
        "volumes": "volumes/*/_data",
    }
    counted = {name: len(glob.glob(f"{root}/{pattern}")) for name, pattern in patterns.items()}
    return [f"{number} {name}" for name, number in counted.items() if number]


def store_answers(url: str, options: Json) -> bool:
    """Whether the store has a leader; what cannot be asked so is taken to answer."""
    if not url.startswith("consul://") or not endpoints(url):
        return True
    try:
        status, answer = http_asker(url, options)("/v1/status/leader", "")
    except (OSError, ValueError):
        return False
    return status == 200 and b":" in answer


def read_daemon(request: daemon.Request, view: daemon.View, engine: host.Engine) -> dict[str, Any]:
    """What of its configuration is ours, and what it takes to undo it."""
    owned = view.manifest.owned_keys(plan.DAEMON_JSON)
    live = bool(request.config.get(pending.LIVE_RESTORE))
    decision = pending.decide(view.due, request.restart, view.running, live)
    dying = engine.containers(view.running) if view.due.restart and decision.pending else []
    return {
        "owned": sorted(owned),
        "arguments": host.read_text(arguments.PATH) is not None and view.manifest.owns_file(arguments.PATH),
        "due": view.due.reasons,
        "restarts": bool(view.due.restart),
        "allowed": not decision.pending,
        "dying": [row["name"] for row in dying if row["would_die"]],
        "without_policy": [row["name"] for row in dying if row["would_die"] and row["restart_policy"] in ("", "no")],
        "live_restore": live,
    }


def never_applied(manifest: Manifest, view: daemon.View, engine: Json) -> bool:
    """Whether the engine still runs with what was there before us: a run was ended before it was told of its new daemon.json."""
    record = manifest.state.get(daemon.STATE_KEY) or {}
    same = view.running.active and record.get("invocation") == view.running.invocation
    return same and not manifest.state.get(BEGUN) and engine["store"] == engine["store_after"]


# --- firewall and packages ---


def firewall_steps(manifest: Manifest, run: Runner) -> tuple[list[str], bool]:
    """What opens the ports again, in words; and whether rules of ours are in a firewalld that does not run."""
    planned = firewall_plan(manifest, run)
    words = [f"delete the table inet {plan.TABLE}"] if planned["delete"] or planned["stop"] else []
    steps = words + [" ".join(argv) for argv in planned["managers"]]
    return steps, bool(manifest.state.get(firewall.SLOT)) and not planned["managers"]


def firewall_plan(manifest: Manifest, run: Runner) -> dict[str, Any]:
    """host_firewall's own plan for nothing to be closed; its files are dealt with like all others."""
    seen = firewall.observe(run, manifest, {"zone": "", "address": ""}, None)
    if seen["ufw"] and firewall.RULES_FILE not in seen["owned"]:
        seen = dict(seen, ufw=[])  # somebody else's, who has the same comment
    return dict(firewall.plan(seen, None), remove=[])


def read_packages(seen: Json, options: Json, run: Runner) -> dict[str, Any]:
    """Which of ours are installed, which of them others need, and what came along with those that go."""
    ours = sorted(seen["manifest"]["packages"])
    found: dict[str, Any] = {"installed": installed(ours, run), "in_use": {}, "along": []}
    before = seen["manifest"]["state"].get(PACKAGES_BEFORE, {})
    if options["until"] != plan.END or not found["installed"]:
        return found
    found["in_use"] = in_use(found["installed"], ours, run)
    fate, _why = plan.fate_of_engine(seen, options)
    fates = plan.package_fates({**seen, "packages": found}, options, fate)
    gone = [name for name, why in fates.items() if not why]
    found["along"] = [name for name in came_along(gone, run) if name not in before] if gone else []
    return found


def installed(names: list[str], run: Runner) -> list[str]:
    """Those that are there, if only with their configuration, as after a removal that was killed."""
    if not names:
        return []
    output = run(["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *names])[1]
    return [line.split()[0] for line in output.splitlines() if line.endswith((" installed", " config-files"))]


def simulated(run: Runner, *words: str) -> list[str]:
    """The packages that such a call of apt-get would remove."""
    return [name.partition(":")[0] for name in REMOVED.findall(run(["apt-get", "-s", *words])[1])]


def in_use(names: list[str], ours: list[str], run: Runner) -> dict[str, str]:
    """Name -> why it must stay."""
    found = {}
    for name in names:
        others = [other for other in simulated(run, "purge", name) if other not in ours]
        if others:
            found[name] = f"{', '.join(others)} of the user's needs it"
    if "nftables" in names and "enabled" in units(["nftables.service"]).get("nftables.service", {}).get(
        "UnitFileState", ""
    ):
        found["nftables"] = "nftables.service is enabled"
    if "consul" in names and another_consul():
        found["consul"] = "a Consul that is not ours runs"
    return found


def another_consul() -> bool:
    """Whether somebody runs Consul's program outside our unit."""
    for path in glob.glob("/proc/[0-9]*/comm"):
        place = os.path.dirname(path)
        if (host.read_text(path) or "").strip() == "consul" and CONSUL_UNIT not in (
            host.read_text(f"{place}/cgroup") or ""
        ):
            return True
    return False


def came_along(names: list[str], run: Runner) -> list[str]:
    """What nobody needs any more without these, and is needed now."""
    idle = set(simulated(run, "autoremove"))
    return [name for name in simulated(run, "--auto-remove", "purge", *names) if name not in idle and name not in names]


def list_networks(engine: host.Engine, key: str) -> Json | None:
    """A network as the engine knows it; None when it is gone."""
    try:
        found: Json = engine.client.get(f"/networks/{key}")
    except DockerError as error:
        if error.status == 404:
            return None
        raise
    return found
