# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Restarts dockerd once after a boot that left overlay containers dead.

After a power cut (and after a reboot with live-restore) Docker restores the overlay endpoints of the boot before and
stops at the first one: "could not get network sandbox". Its containers stay down whatever their restart policy, and
`docker start` fails too. Each start of dockerd forgets that first endpoint only; those behind it in its database are
never forgotten, so a restart alone is the cure for a host with one overlay container, and no number of restarts is
for two. Where no container is left that should run (none had a restart policy, or somebody was quick to remove it), the
overlay is broken all the same: no container can be started on it; only what dockerd wrote at its start tells.

So this waits for the engine and for the store's leader, looks for such containers and such words, and if there are any: stops
dockerd, makes the endpoints that no running container has name a network that does not exist (dockerd itself then
deletes them as stale), and starts it again. At most once a boot, and never if nothing is wrong. Under live-restore
the overlay containers that did come up are ended meanwhile, if their restart policy brings them back; all others go
on.

And where the store had no leader while dockerd took the endpoints of the boot before out of it, they stay there for ever, and each is
in the way of its container: "endpoint with name X already exists in network Y". Docker's own way to remove one goes by its name,
and would take the container off its network. So such an endpoint, if it is of this host and no running container has it, is given another
name first. Standard library only: it runs before anything else can be counted on.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import fcntl
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import Any, Callable, Sequence

from overlay_store import Consul, TroubleError, add_arguments, opener_for

MARKER = "/run/multihost-overlay/boot-repair"
BACKUP = "/var/lib/multihost-overlay/backup/local-kv.db"
# An overlay endpoint in dockerd's database of this host: key, eight bytes of libkv's, and JSON that names its network.
ENDPOINT = re.compile(rb'overlay/endpoint/([0-9a-f]{64})/.{8}\{[^{}]*"nid":"([0-9a-f]{64})"', re.DOTALL)
NOWHERE = b"0" * 64
SOCKET = "/var/run/docker.sock"
POLICIES = ("always", "unless-stopped", "on-failure")
UP = ("running", "paused")
# What dockerd writes when it has left an overlay broken (20.10's libnetwork, drivers/overlay).
BROKEN = "Failure during overlay endpoints restore"
# Why a container is down whose endpoint of the boot before is still in the store.
CLAIMED = re.compile(r"endpoint with name \S+ already exists in network")
# What else it writes when an endpoint of the boot before is in the way.
WORDS = re.compile(
    r"could not get network sandbox|[Ee]rror (?:restoring|while restoring)|datastore|sandbox .* not found"
    r"|failed to (?:restore|populate|get) .*endpoint|failed to start container"
)


def log(text: str) -> None:
    """To the journal, by way of systemd."""
    print(text, flush=True)


class _Connection(http.client.HTTPConnection):
    def __init__(self) -> None:
        super().__init__("docker", timeout=60)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(SOCKET)


def docker(path: str, content: Any = None) -> Any:
    """What the engine answers; None if it does not, or does not know the thing. Content makes it a POST."""
    connection = _Connection()
    try:
        body = None if content is None else json.dumps(content)
        connection.request("GET" if body is None else "POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        return json.loads(text or "{}") if response.status in (200, 204) else None
    except (OSError, ValueError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def has_leader(url: str, tls: Sequence[str] = ()) -> bool:
    """Whether the store says that it is healthy. One that answers but lets us not ask (401, 403) counts as well."""
    try:
        with opener_for(tls).open(url, timeout=5) as response:
            text = response.read(4096).decode("utf-8", "replace").strip()
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except (OSError, ValueError, http.client.HTTPException):
        return False
    return text not in ("", '""', "null") and not re.search(r'"health"\s*:\s*"?false', text)


def wait_for(what: str, test: Callable[[], Any], deadline: float) -> bool:
    """Ask until it is so; false when the deadline comes first."""
    told = False
    while time.monotonic() < deadline:
        if test():
            return True
        if not told:
            log(f"waiting for {what}")
            told = True
        time.sleep(1)
    return bool(test())


def stopped_by_hand(container: dict[str, Any], root: str) -> bool:
    """Whether somebody stopped it: only dockerd's own file tells."""
    try:
        with open(os.path.join(root, "containers", container["Id"], "config.v2.json"), encoding="utf-8") as handle:
            return bool(json.load(handle).get("HasBeenManuallyStopped"))
    except (OSError, ValueError):
        return False


def trouble(container: dict[str, Any], overlays: set[str], by_hand: bool) -> str:
    """Why an inspected container needs the repair; nothing if it does not."""
    state, networks = container["State"], container["NetworkSettings"]["Networks"] or {}
    mine = [name for name in networks if name in overlays]
    if not mine:
        return ""
    if state["Status"] in UP:
        lost = [name for name in mine if not networks[name].get("EndpointID")]
        return f"runs without its endpoint on {', '.join(lost)}" if lost else ""
    policy = container["HostConfig"]["RestartPolicy"]["Name"]
    if policy not in POLICIES or state["Status"] in ("restarting", "created", "removing"):
        return ""
    meant = by_hand or (policy == "on-failure" and state.get("ExitCode") == 0)
    if (policy == "unless-stopped" and by_hand) or (meant and not state.get("Error")):
        return ""
    return f"is down in spite of its restart policy {policy}" + (f" ({state['Error']})" if state.get("Error") else "")


def overlay_names(containers: list[dict[str, Any]], ask: Callable[[str], Any]) -> set[str]:
    """Those of the containers' networks that are overlays. Asked one by one: a list of all is slow over a store."""
    names = {name for container in containers for name in (container["NetworkSettings"]["Networks"] or {})}
    names -= {"bridge", "host", "none"}
    return {name for name in names if (ask(f"/networks/{name}") or {}).get("Driver") == "overlay"}


def look(ask: Callable[[str], Any]) -> tuple[dict[str, str], list[str]]:
    """(troubles by container name, containers that a restart of dockerd would take away for good)."""
    info = ask("/info") or {}
    found = [ask(f"/containers/{item['Id']}/json") for item in ask("/containers/json?all=1") or []]
    containers = [item for item in found if item]
    overlays = overlay_names(containers, ask)
    root = info.get("DockerRootDir", "/var/lib/docker")
    troubles, victims = {}, []
    for container in containers:
        name = container["Name"].lstrip("/")
        why = trouble(container, overlays, stopped_by_hand(container, root))
        if why:
            troubles[name] = why
        elif container["State"]["Running"] and container["HostConfig"]["RestartPolicy"]["Name"] not in POLICIES:
            victims.append(name)
    return troubles, ([] if info.get("LiveRestoreEnabled") else victims)


def output(*argv: str) -> str:
    """What a program says; nothing if it fails."""
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else ""


def complaints() -> list[str]:
    """What the dockerd that runs now has said of endpoints."""
    start = output("systemctl", "show", "--property", "InvocationID", "--value", "docker.service").strip()
    lines = output("journalctl", f"_SYSTEMD_INVOCATION_ID={start}", "-o", "cat", "--no-pager").splitlines()
    return [line for line in lines if (BROKEN in line or WORDS.search(line)) and "level=info" not in line]


def settled(settle: float) -> tuple[dict[str, str], list[str]]:
    """Look until two looks in a row agree, so that a container on its way up is not taken for a dead one."""
    before, victims = look(docker)
    for _attempt in range(12):
        if not before:
            break
        time.sleep(settle)
        after, victims = look(docker)
        if set(after) == set(before):
            return after, victims
        before = after
    return before, victims


def running(ask: Callable[[str], Any]) -> list[dict[str, Any]] | None:
    """The running containers, inspected; None if not all could be."""
    listed = ask("/containers/json")
    found = [ask(f"/containers/{item['Id']}/json") for item in listed or []]
    return None if listed is None or not all(found) else found


def returning(containers: list[dict[str, Any]], overlays: set[str]) -> list[dict[str, Any]]:
    """Those on an overlay that dockerd starts by itself when it finds them dead."""
    return [
        item
        for item in containers
        if item["HostConfig"]["RestartPolicy"]["Name"] in ("always", "unless-stopped")
        and overlays.intersection(item["NetworkSettings"]["Networks"] or {})
    ]


def endpoints(containers: list[dict[str, Any]]) -> set[str]:
    """The containers' endpoints on all networks."""
    networks = [item["NetworkSettings"]["Networks"] or {} for item in containers]
    return {network["EndpointID"] for group in networks for network in group.values() if network.get("EndpointID")}


def end(pids: list[int], seconds: float = 10) -> None:
    """Ask the containers' first processes to end, as `docker stop` does; then make them."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + seconds
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)


def stale_places(data: bytes, keep: set[str]) -> list[int]:
    """Where in the database the network of an endpoint stands that no running container has."""
    return [found.start(2) for found in ENDPOINT.finditer(data) if found.group(1).decode() not in keep]


def forget_stale(root: str, keep: set[str]) -> None:
    """Make dockerd, which is down, forget stale endpoints. Only bytes within values change: the tree holds."""
    path = os.path.join(root, "network/files/local-kv.db")
    try:
        with open(path, "r+b") as database:
            fcntl.flock(database, fcntl.LOCK_EX | fcntl.LOCK_NB)  # dockerd holds it while it runs
            places = stale_places(database.read(), keep)
            os.makedirs(os.path.dirname(BACKUP), mode=0o700, exist_ok=True)
            shutil.copy(path, BACKUP)
            for place in places:
                database.seek(place)
                database.write(NOWHERE)
            database.flush()
            os.fsync(database.fileno())
    except OSError as error:
        log(f"{path} could not be mended ({error}); dockerd is restarted all the same")


def systemctl(verb: str) -> bool:
    """Do it to the engine; whether it went well."""
    return subprocess.run(["systemctl", "--quiet", verb, "docker.service"], check=False).returncode == 0


def mend(root: str, containers: list[dict[str, Any]], overlays: set[str]) -> None:
    """While dockerd is down: end what it will start again, and forget the endpoints that nobody has any more.

    A container that lives on through a restart of dockerd keeps an overlay in which dockerd no longer listens for
    unknown neighbours: hosts that it has not met since the boot stay out of its reach. This boot is seconds old.
    """
    ending = returning(containers, overlays)
    for item in ending:
        log(f"container {item['Name'].lstrip('/')} is started again too, so that it reaches all hosts")
    end([item["State"]["Pid"] for item in ending])
    forget_stale(root, endpoints([item for item in containers if item not in ending]))


def repair(timeout: float) -> bool:
    """Restart dockerd without its stale endpoints, and wait until it answers."""
    os.makedirs(os.path.dirname(MARKER), exist_ok=True)
    with open(MARKER, "w", encoding="utf-8") as handle:  # before the restart: never a second one in this boot
        handle.write(f"{time.time():.0f}\n")
    info = docker("/info") or {}
    containers = running(docker)
    overlays = overlay_names(containers or [], docker)
    systemctl("stop")
    try:
        if containers is not None:
            mend(
                info.get("DockerRootDir", "/var/lib/docker"),
                containers if info.get("LiveRestoreEnabled") else [],
                overlays,
            )
    finally:
        systemctl("reset-failed")
        started = systemctl("start")
    return started and wait_for("the engine", lambda: docker("/info"), time.monotonic() + timeout)


# -- endpoints that were left in the store


def left_behind(
    entries: list[dict[str, Any]], name: str, own: str, living: set[str]
) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(the store's entry, Docker's record) of this host's endpoints of that name which no running container has."""
    rows = [(entry, json.loads(base64.b64decode(entry["Value"]))) for entry in entries if entry["Value"]]
    return [
        (entry, record)
        for entry, record in rows
        if record["name"] == name and record.get("locator") == own and record["id"] not in living
    ]


def remove(store: Consul, network: str, entry: dict[str, Any], record: dict[str, Any]) -> None:
    """Have Docker remove an endpoint, which lowers the network's count and gives the address back, under a name that no container has."""
    name = f"{record['name']}.of-the-boot-before.{record['id'][:12]}"
    content = json.dumps({**record, "name": name}).encode()
    key = entry["Key"][len(store.folder) :]
    if not store.put(key, content, entry.get("Flags", 0), entry["ModifyIndex"]):
        raise TroubleError(f"the endpoint {record['id']} has changed meanwhile")
    if docker(f"/networks/{network}/disconnect", {"Container": name, "Force": True}) is None:
        log(f"Docker has not removed an endpoint of the boot before: docker network disconnect -f {network} {name}")
    else:
        log(f"removed the endpoint {record['id'][:12]} of the boot before, of container {record['name']}")


def start_again(name: str, store: Consul, own: str) -> None:
    """Remove what is in a container's way, and start it."""
    container, alive = docker(f"/containers/{name}/json"), running(docker)
    if container is None or alive is None:
        raise TroubleError("the engine does not answer")
    for network in overlay_names([container], docker):
        number = (docker(f"/networks/{network}") or {}).get("Id", "")
        entries = store.below(f"network/v1.0/endpoint/{number}/") if number else []
        for entry, record in left_behind(entries, name, own, endpoints(alive)):
            remove(store, number, entry, record)
    docker(f"/containers/{name}/start", {})


def start_claimed(troubles: dict[str, str], store: Consul, own: str) -> bool:
    """Start the containers whose name an endpoint in the store has. Whether there were any."""
    claimed = {name: why for name, why in sorted(troubles.items()) if CLAIMED.search(why)}
    for name, why in claimed.items():
        log(f"container {name} {why}")
        try:
            start_again(name, store, own)
        except (TroubleError, ValueError, KeyError, TypeError) as error:
            log(f"container {name} is left alone: {error}")
    return bool(claimed)


def main(argv: list[str] | None = None) -> int:
    """Wait, look, repair once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--store-health", default="", help="URL that tells whether the store has a leader")
    add_arguments(parser)
    parser.add_argument("--timeout", type=float, default=1800, help="how long to wait for engine and store, in seconds")
    parser.add_argument("--settle", type=float, default=3, help="time between two looks, in seconds")
    given = parser.parse_args(argv)
    if os.path.exists(MARKER):
        log("dockerd was restarted in this boot already; not again")
        return 0
    deadline = time.monotonic() + given.timeout
    if not wait_for("the engine", lambda: docker("/info"), deadline):
        log("the engine did not answer: see journalctl -u docker.service")
        return 1
    url = given.store_health
    if url and not wait_for(f"the store ({url})", lambda: has_leader(url, given.store_tls), deadline):
        log("the store has no leader; once it has: systemctl restart multihost-overlay-boot-repair.service")
        return 1
    return act(given.settle, Consul.of(given), given.address)


def act(settle: float, store: Consul, own: str) -> int:
    """Engine and store are there: repair what there is to repair."""
    troubles, victims = settled(settle)
    if start_claimed(troubles, store, own):
        troubles, victims = settled(settle)
    said = complaints()
    if not troubles and not any(BROKEN in line for line in said):
        log("all overlay containers are as they should be; nothing to do")
        return 0
    for name, why in sorted(troubles.items()):
        log(f"container {name} {why}")
    for line in said[-5:]:
        log(f"dockerd said: {line}")
    if victims:
        log(
            f"dockerd is NOT restarted, because {', '.join(victims)} would not come back (no policy, no live-restore);"
            " when that is all right: systemctl restart docker.service"
        )
        return 1
    log("restarting dockerd, once in this boot, so that it makes their endpoints anew")
    if not repair(300):
        log("dockerd did not come back: see journalctl -u docker.service")
        return 1
    return outcome(settle, store, own)


def outcome(settle: float, store: Consul, own: str) -> int:
    """What the repair has brought about. The restart, too, took endpoints out of the store."""
    left, _victims = settled(settle)
    if start_claimed(left, store, own):
        left, _victims = settled(settle)
    broken = [line for line in complaints() if BROKEN in line]
    for line in broken[:1]:
        log(f"an overlay is still broken; dockerd said: {line}")
    log("all overlay containers are up" if not left else f"still not up: {', '.join(sorted(left))}")
    return 1 if left or broken else 0


if __name__ == "__main__":
    sys.exit(main())
