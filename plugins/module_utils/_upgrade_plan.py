# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade would do to each host, in which order, and what it refuses. Pure."""

from __future__ import annotations

import re
from typing import Any, Dict, List, Sequence, Tuple

Json = Dict[str, Any]
PROGRAMS = ("consul", "engine")
LABELS = {"consul": "Consul", "engine": "Docker"}
# The first engine without the classic mode (FACTS: removed in 23.0, there cluster-store is fatal).
CEILING = 23
# Consul's makers: each upgrade jumps at most two of what they call major versions, which is the second number.
LONGEST_JUMP = 2
UNNAMED = (
    "The archive's name has no version, so that it cannot be told from an older one: name it as its makers do"
    " (docker-20.10.24.tgz, consul_1.10.12_linux_amd64.zip), or consent with overlay_upgrade_despite: [downgrade]."
)
NO_CLASSIC_MODE = (
    "has no classic mode: cluster-store was removed in 23.0, and dockerd does not start with it. The newest that can be is 20.10. Give an"
    " archive of 20.10, or pin the package (/etc/apt/preferences.d: Pin: version 5:20.10.*, or 20.10.*; Pin-Priority: 1001). Beyond 20.10"
    " lies another mode (swarm)."
)


def numbers(text: str) -> Tuple[int, ...]:
    """(20, 10, 5) of 5:20.10.5~3-0~debian, of 20.10.5+dfsg1-1+deb11u2 and of docker-20.10.5.tgz; empty where there is none."""
    found = re.search(r"\d+(\.\d+)+", re.sub(r"^\d+:", "", text))
    return tuple(int(part) for part in found.group(0).split(".")) if found else ()


def row(host: str, program: str, seen: Json, wanted: Json, settings: Json) -> Json:
    """What would be done with one program of one host: ``none``, ``upgrade``, ``wait`` or ``refuse``, and why."""
    result: Json = {
        "host": host,
        "program": program,
        "have": _have(seen),
        "want": _want(seen, wanted),
        "action": "none",
    }
    result.update(packages=[f"{step['name']} {step['old']} -> {step['new']}" for step in _changes(seen, wanted)])
    if not seen["installed"]:
        return dict(result, why=f"has no {LABELS[program]} yet: run site.yml", action="refuse")
    if not _is_due(seen, wanted):
        return dict(result, want=result["have"], why=_why_not(seen, wanted))
    problems = _problems(program, result, seen, settings)
    if problems:
        return dict(result, action="refuse", why=" ".join(problems))
    waits = _waits(seen, result, wanted["restart"]) if program == "engine" else ""
    return dict(result, action="wait" if waits else "upgrade", why=waits or _how(seen, wanted))


def _changes(seen: Json, wanted: Json) -> List[Json]:
    return [] if wanted["source"] == "archive" else list(seen["changes"])


def _main_change(seen: Json) -> Json:
    return next((step for step in seen["changes"] if step["name"] == seen["package"]), {})


def _have(seen: Json) -> str:
    return str(seen["packages"].get(seen["package"]) or seen["version"])


def _want(seen: Json, wanted: Json) -> str:
    if wanted["source"] == "archive":
        return str(wanted["version"] or "?")
    return str(_main_change(seen).get("new") or _have(seen))


def _is_due(seen: Json, wanted: Json) -> bool:
    if wanted["source"] == "archive":
        return bool(seen["program"] != wanted["program"] or seen["replaced"])
    return bool(seen["changes"] or seen["replaced"] or seen["broken"])


def _why_not(seen: Json, wanted: Json) -> str:
    if wanted["source"] == "archive":
        return "runs from this archive"
    if not seen["package"]:
        return f"{seen['program']} is of no package, and no archive is given"
    if seen["held"]:
        return f"on hold: {', '.join(seen['held'])} (apt-mark unhold)"
    return "newest that its package sources offer"


def _how(seen: Json, wanted: Json) -> str:
    if wanted["source"] == "archive":
        return "from the archive"
    if seen["changes"]:
        return "from packages"
    return "installed, and not started since"


def _problems(program: str, found: Json, seen: Json, settings: Json) -> List[str]:
    have, want = numbers(seen["version"] or found["have"]), numbers(found["want"])
    problems = [f"apt would remove {', '.join(seen['removed'])} for it."] if seen["removed"] else []
    if not want and "downgrade" not in settings["despite"]:
        problems.append(UNNAMED)
    if program == "engine":
        problems += _ceiling(want)
    elif have and want:
        problems += _jump(have, want, settings)
    if want and (want < have or seen["older"]) and "downgrade" not in settings["despite"]:
        problems.append(_downgrade(program, found))
    return problems


def _ceiling(want: Sequence[int]) -> List[str]:
    if not want or want[0] < CEILING:
        return []
    return [f"Docker {'.'.join(map(str, want))} {NO_CLASSIC_MODE}"]


def _jump(have: Sequence[int], want: Sequence[int], settings: Json) -> List[str]:
    if "jump" in settings["despite"] or (have[0] == want[0] and want[1] - have[1] <= LONGEST_JUMP):
        return []
    step, jump = f"{have[0]}.{have[1] + LONGEST_JUMP}", f"from {have[0]}.{have[1]} to {want[0]}.{want[1]}"
    words = f"Consul's makers support a jump of at most two versions, and this is one {jump}. Upgrade to the newest {step} first."
    return [f"{words} If they document this very jump, consent with overlay_upgrade_despite: [jump]."]


def _downgrade(program: str, found: Json) -> str:
    data = {
        "consul": "An older Consul may not read what the newer one has written",
        "engine": "An older engine may not find containers and images of the newer one",
    }[program]
    return f"{found['want']} is older than {found['have']}. {data}. Consent with overlay_upgrade_despite: [downgrade]."


def _waits(seen: Json, found: Json, restart: str) -> str:
    """Why the engine may not be restarted for it; empty where it may."""
    if restart == "never":
        return "overlay_docker_restart is never"
    if restart == "rolling" or not seen["containers"]:
        return ""
    names = ", ".join(sorted(seen["containers"]))
    if not (seen["live_restore"] and seen["shims_survive"]):
        return f"these containers would die: {names}. Consent with overlay_docker_restart: rolling"
    if numbers(seen["version"])[:2] != numbers(found["want"])[:2]:
        return (
            f"live-restore is made for releases of one series, and {seen['version']} -> {found['want']} is none, so that the new engine"
            f" may not find these running containers again: {names}. Consent with overlay_docker_restart: rolling"
        )
    return ""


def rows(seen: Json, settings: Json) -> List[Json]:
    """All rows, in the order of the hosts; ``seen`` has what host_upgrade returned for each."""
    return [
        row(host, program, reading[program], reading["wanted"][program], settings)
        for host, reading in seen.items()
        for program in PROGRAMS
        if reading.get(program)
    ]


def turns(found: List[Json], servers: Sequence[str], leader: str) -> List[Json]:
    """Who is upgraded after whom: the store's followers, its leader, the agents, then the engines."""

    def place(entry: Json) -> Tuple[int, int]:
        if entry["program"] == "engine":
            return (1, 0)
        is_server = entry["host"] in servers
        return (0, (1 if entry["host"] == leader else 0) if is_server else 2)

    due = [entry for entry in found if entry["action"] == "upgrade"]
    return [{"host": entry["host"], "program": entry["program"]} for entry in sorted(due, key=place)]


def table(found: List[Json]) -> List[str]:
    """The rows for the terminal."""
    cells = [["host", "program", "is there", "would be", "action", ""], *[_cells(entry) for entry in found]]
    widths = [max(len(line[number]) for line in cells) for number in range(5)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, [*widths, 0])).rstrip() for line in cells]
    return [lines[0], *[line for entry, shown in zip(found, lines[1:]) for line in [shown, *_details(entry)]]]


def _cells(entry: Json) -> List[str]:
    return [entry["host"], LABELS[entry["program"]], *[str(entry[key]) for key in ("have", "want", "action", "why")]]


def _details(entry: Json) -> List[str]:
    return [f"    {step}" for step in entry["packages"]] if entry["action"] != "none" else []


def refusals(found: List[Json]) -> str:
    """All refusals in one message; empty where there are none."""
    lines = [f"  - {entry['host']}: {entry['why']}" for entry in found if entry["action"] == "refuse"]
    return "\n".join(["Nothing was changed on any host. This upgrade cannot be:", *lines]) if lines else ""


GO_ON = "  To go on: mend what is said above, and run the same playbook with the same variables again; what is done stays done."
GO_BACK = """\
  To go back where it is done: name the archive of before, and run it again with overlay_upgrade_despite: [downgrade].
  From packages, on the host: apt-get install --allow-downgrades FILES, with those of before in /var/lib/multihost-overlay/upgrade, then
  systemctl restart containerd docker, or multihost-overlay-consul (docs/day-2.md, Upgrade)."""


def stopped(turn: Json, problem: str, back: str, passed: List[Json], left: List[Json]) -> str:
    """The last words of a run that stopped: what happened, who is done, how to go on, how to go back."""
    lines = [
        f"The upgrade stopped at {_names([turn])}: {problem.strip()}",
        f"  {turn['host']}: {back}",
        f"  Done in this run: {_names(passed)}.",
        f"  Not touched: {_names(left)}.",
    ]
    return "\n".join([*lines, GO_ON, GO_BACK])


def _names(some: List[Json]) -> str:
    return ", ".join(f"{entry['host']} ({LABELS[entry['program']]})" for entry in some) or "none"
