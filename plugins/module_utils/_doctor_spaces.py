# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Looks into the namespaces of overlays and containers for the doctor. Nothing of the user's is run there, and time is bounded."""

from __future__ import annotations

import re
import time
from typing import Any, Callable, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._netlink import read_tables
from ansible_collections.multihost.overlay.plugins.module_utils._ping_netns import inside
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

NAMESPACES = "/run/docker/netns"
# A number that grows, and as much of the network's id as makes twelve characters.
OVERLAY_NAMESPACE = re.compile(r"^(?=.{12}$)(\d+)-([0-9a-z]{6,10})$")
# For the overlays of a host, and for its containers; both are milliseconds each.
SECONDS = 20.0
# Docker's rules are in the tables of the program that dockerd had when the container was started.
PROGRAMS = ("iptables", "iptables-legacy", "iptables-nft")
HOOK = re.compile(r"^-A OUTPUT -d 127\.0\.0\.11(/32)? -j DOCKER_OUTPUT$", re.MULTILINE)
RESOLVER = re.compile(
    r"^-A DOCKER_OUTPUT .*-p udp .*--dport 53 .*-j DNAT --to-destination 127\.0\.0\.11:\d+", re.MULTILINE
)

Look = Callable[[str], Any]


def look_into(path: str) -> dict[str, Any]:
    """The tables of the overlay whose namespace this is."""
    with inside(path):
        return read_tables()


def bounded(
    reader: Reader, what: str, things: Iterable[tuple[str, str]], look: Look, clock: Callable[[], float]
) -> dict[str, Any]:
    """Name -> what is seen at its path, for as many as there is time for. One that ends meanwhile is no trouble."""
    limit, found, left = clock() + SECONDS, {}, 0
    for name, path in things:
        if clock() > limit:
            left += 1
            continue
        try:
            found[name] = look(path)
        except FileNotFoundError:
            continue
        except (OSError, ValueError) as exc:
            if reader.exists(path):
                reader.trouble(path, exc)
    if left:
        reader.trouble(what, f"{left} were not looked at, because it took more than {SECONDS:g} s")
    return found


def read_overlays(
    reader: Reader, names: Iterable[str], look: Look = look_into, clock: Callable[[], float] = time.monotonic
) -> dict[str, dict[str, Any]]:
    """Name of an overlay's namespace -> its vxlan devices and their entries."""
    things = [(name, f"{NAMESPACES}/{name}") for name in names if OVERLAY_NAMESPACE.match(name)]
    return bounded(reader, "the overlays' tables", things, look, clock)


def resolves(text: str) -> bool:
    """Whether rules lead a container's questions for names to Docker."""
    return bool(HOOK.search(text) and RESOLVER.search(text))


def has_legacy_tables() -> bool:
    """Whether this namespace has a table of NAT of the older kind."""
    try:
        with open("/proc/thread-self/net/ip_tables_names", encoding="ascii") as names:
            return "nat" in names.read().split()
    except OSError:
        return False


def rules_look(reader: Reader) -> Look:
    """How a container's namespace is asked for its rules of DNS: True, False, or None where no program tells."""

    def look(path: str) -> bool | None:
        answers = []
        with inside(path):
            for program in PROGRAMS:
                if program.endswith("legacy") and not has_legacy_tables():
                    continue  # asking would make some
                status, out, _err = reader.run([program, "-w", "5", "-t", "nat", "-S"])
                if status == 0 and resolves(out):
                    return True
                answers.append(status)
        # 4: its lock was held too long. What fails otherwise has no tables in which the rules could be.
        return False if 0 in answers and not {4, 124} & set(answers) else None

    return look


def read_dns(
    reader: Reader,
    containers: Iterable[Mapping[str, Any]],
    known: Mapping[str, str],
    look: Look | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, bool | None]:
    """Name of a running container on an overlay -> whether its rules lead questions for names to Docker."""
    things = [
        (container["name"], f"{NAMESPACES}/{container['sandbox']}")
        for container in containers
        if container["running"]
        and container["sandbox"]
        and any(known.get(entry["id"]) == "overlay" and entry["endpoint"] for entry in container["networks"].values())
    ]
    return bounded(reader, "the containers' rules of DNS", things, look or rules_look(reader), clock)
