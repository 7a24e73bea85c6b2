# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads the firewall of a host, decides what is to be done, and does it. Programs are run through an injected runner."""

from __future__ import annotations

import os
import re
import shutil
from typing import Any, Iterable

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_managers import (
    firewalld_steps,
    rich_rules,
    ufw_ours,
    ufw_rules,
    ufw_steps,
)
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import (
    DROPIN_FILE,
    RULES_FILE,
    TABLE,
    UNIT,
    UNIT_FILE,
    Firewall,
    files,
)
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import (
    Manifest,
    make_directories,
    write_atomic,
)
from ansible_collections.multihost.overlay.plugins.module_utils._programs import SEARCH, Runner
from ansible_collections.multihost.overlay.plugins.module_utils._systemd import parse_units

ROLE = "overlay_host"
PATHS = (RULES_FILE, UNIT_FILE, DROPIN_FILE)
LIST = ["nft", "-s", "list", "table", "inet", TABLE]
# A slot in the manifest's state: zone -> the rich rules that we added there.
SLOT = "firewalld_rules"


class FirewallError(Exception):
    """A step failed; the message has the program's own words."""


def program(name: str) -> str:
    """Where a program is, or an empty string."""
    return shutil.which(name, path=SEARCH) or ""


def read_file(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as handle:
            return handle.read()
    except FileNotFoundError:
        return None


def listing(run: Runner) -> str | None:
    """Our table as it is loaded, without counters; None when it is not."""
    status, out, _err = run(LIST)
    return out if status == 0 else None


def expected(run: Runner, rules: str) -> str | None:
    """How this very nft lists our file: it is loaded in a network namespace that ends with the program.

    None where no namespace can be made; then only a missing table is noticed.
    """
    status, out, _err = run(
        ["unshare", "--net", "sh", "-c", f"nft -f /dev/stdin && {' '.join(LIST)}"],
        rules,
    )
    return out if status == 0 else None


def read_units(run: Runner) -> dict[str, dict[str, str]]:
    argv = ["systemctl", "show", "-p", "Id,ActiveState,UnitFileState,NeedDaemonReload", UNIT, "firewalld.service"]
    return parse_units(run(argv)[1])


def rules_of(run: Runner, zone: str, permanent: bool) -> list[str]:
    """firewalld's rich rules of a zone; one that does not exist has none."""
    argv = ["firewall-cmd", *(["--permanent"] if permanent else []), f"--zone={zone}", "--list-rich-rules"]
    return [line.strip() for line in run(argv)[1].splitlines() if line.strip()]


def zone_of(run: Runner, zone: str, address: str) -> str:
    """The zone that peers' packets come into: the given one, else that of the address's interface, else the default."""
    if zone:
        return zone
    status, out, _err = run(["ip", "-o", "-4", "addr", "show", "to", address]) if address else (1, "", "")
    device = re.match(r"\d+:\s+([^\s@]+)", out) if status == 0 else None
    if device:
        status, out, _err = run(["firewall-cmd", f"--get-zone-of-interface={device.group(1)}"])
        if status == 0 and out.strip():
            return out.strip()
    return run(["firewall-cmd", "--get-default-zone"])[1].strip() or "public"


def read_firewalld(run: Runner, wanted_zone: str, address: str, recorded: Iterable[str]) -> dict[str, Any]:
    """The zone, and the rich rules of it and of each zone where we once added some."""
    zone = zone_of(run, wanted_zone, address)
    zones = sorted({zone, *recorded})
    return {"zone": zone, "rules": {(name, how): rules_of(run, name, how) for name in zones for how in (True, False)}}


def observe(run: Runner, manifest: Manifest, params: dict[str, Any], firewall: Firewall | None) -> dict[str, Any]:
    """Everything that the plan needs; a host without nft has no table."""
    nft = program("nft")
    units = read_units(run)
    firewalld = units.get("firewalld.service", {}).get("ActiveState") == "active" and bool(program("firewall-cmd"))
    ufw = "ENABLED=yes" in (read_file("/etc/ufw/ufw.conf") or "").splitlines() and bool(program("ufw"))
    wanted = files(firewall, nft or "/usr/sbin/nft") if firewall else {}
    recorded = manifest.state.get(SLOT, {})
    return {
        "nft": nft,
        "unit": units.get(UNIT, {}),
        "wanted": wanted,
        "files": {path: read_file(path) for path in PATHS},
        "owned": [path for path in PATHS if manifest.owns_file(path)],
        "live": listing(run) if nft else None,
        "expected": expected(run, wanted[RULES_FILE]) if nft and wanted else None,
        "recorded": recorded,
        "firewalld": read_firewalld(run, params["zone"], params["address"], recorded) if firewalld else None,
        "ufw6": "IPV6=yes" in (read_file("/etc/default/ufw") or "").splitlines(),
        "ufw": ufw_ours(run(["ufw", "show", "added"])[1]) if ufw else None,
    }


def manager_steps(observed: dict[str, Any], firewall: Firewall | None) -> list[list[str]]:
    """Calls of firewall-cmd and ufw that open what is to be open for peers, and close what we once opened."""
    steps: list[list[str]] = []
    firewalld = observed["firewalld"]
    if firewalld:
        for (zone, permanent), found in firewalld["rules"].items():
            wanted = rich_rules(firewall) if firewall and zone == firewalld["zone"] else []
            steps += firewalld_steps(zone, permanent, wanted, found, observed["recorded"].get(zone, []))
    if observed["ufw"] is not None:
        steps += ufw_steps(ufw_rules(firewall, observed["ufw6"]) if firewall else [], observed["ufw"])
    return steps


def rules_to_record(observed: dict[str, Any], firewall: Firewall | None) -> dict[str, list[str]]:
    """What is ours in firewalld from now on: what we add now, and what we added before and keep."""
    firewalld = observed["firewalld"]
    if not firewalld:
        return dict(observed["recorded"])
    if firewall is None:
        return {}
    zone = firewalld["zone"]
    theirs = set(firewalld["rules"][(zone, True)]) - set(observed["recorded"].get(zone, []))
    return {zone: [rule for rule in rich_rules(firewall) if rule not in theirs]}


def plan(observed: dict[str, Any], firewall: Firewall | None) -> dict[str, Any]:
    """What is to be done: files to write and to remove, whether the table is loaded, dropped, the unit enabled."""
    ours = RULES_FILE in observed["owned"]
    unit = observed["unit"]
    write = {path: text for path, text in observed["wanted"].items() if observed["files"][path] != text}
    drifted = observed["live"] is None or observed["expected"] not in (None, observed["live"])
    started = unit.get("UnitFileState") == "enabled" and unit.get("ActiveState") == "active"
    gone = not firewall and ours
    return {
        "write": write,
        "remove": [path for path in observed["owned"] if observed["files"][path] is not None] if gone else [],
        "load": bool(firewall) and (drifted or RULES_FILE in write),
        "start": bool(firewall) and not started,
        "delete": gone and observed["live"] is not None,
        "stop": gone and (unit.get("UnitFileState") == "enabled" or unit.get("ActiveState") == "active"),
        "managers": manager_steps(observed, firewall),
    }


def must(run: Runner, argv: list[str], stdin: str = "", cure: str = "") -> None:
    """Run a program that has to succeed."""
    status, out, err = run(argv, stdin)
    if status != 0:
        said = (err or out).strip() or f"status {status}"
        raise FirewallError(f"`{' '.join(argv)}` failed: {said}" + (f" {cure}" if cure else ""))


def strangers(firewall: Firewall) -> list[str]:
    """The call that ends connections of strangers to our ports which were made before they were closed.

    The kernel may have met such a connection in the middle, by a packet of ours, and then takes what comes in for the answer.
    """
    ports = " or ".join(f"sport = :{port}" for port in firewall.tcp)
    friends = [
        "127.0.0.0/8",
        "[::1]",
        *firewall.peers,
        *firewall.allow4,
        *(f"[{network}]" for network in firewall.allow6),
    ]
    return ["ss", "-K", "-H", "-t", "-n", f"( {ports} ) and not ( {' or '.join(f'dst {name}' for name in friends)} )"]


def load(run: Runner, firewall: Firewall) -> None:
    """The table as a whole, and an end to what it did not let begin."""
    must(run, ["nft", "-f", RULES_FILE])
    if firewall.tcp:
        # As well as the kernel can: one without INET_DIAG_DESTROY ends none.
        run(strangers(firewall))


def put_files(run: Runner, manifest: Manifest, planned: dict[str, Any]) -> None:
    """Write and remove the files; systemd is told of units."""
    for path, text in planned["write"].items():
        make_directories(os.path.dirname(path))
        write_atomic(path, text.encode(), 0o644)
    for path in planned["remove"]:
        restore(manifest, path)
    if {UNIT_FILE, DROPIN_FILE} & {*planned["write"], *planned["remove"]}:
        must(run, ["systemctl", "daemon-reload"])


def restore(manifest: Manifest, path: str) -> None:
    """What stood there before us comes back; else the file goes."""
    backup = manifest.data["files"][path].get("backup")
    content = read_file(backup) if backup else None
    if content is None:
        os.unlink(path)
    else:
        write_atomic(path, content.encode(), 0o644)


def apply(
    run: Runner, manifest: Manifest, planned: dict[str, Any], record: dict[str, list[str]], firewall: Firewall | None
) -> None:
    """Nothing is changed before nft has accepted the rules; the manifest knows of everything before it is there."""
    rules = planned["write"].get(RULES_FILE)
    if rules:
        must(run, ["nft", "-c", "-f", "/dev/stdin"], rules, "Nothing was changed.")
    for path, text in planned["write"].items():
        manifest.record_file(path, ROLE, text.encode())
    if planned["managers"]:
        kept = manifest.state.get(SLOT, {})
        manifest.state[SLOT] = {
            zone: list(dict.fromkeys([*kept.get(zone, []), *record.get(zone, [])])) for zone in {*kept, *record}
        }
    manifest.save()
    if planned["stop"]:
        must(run, ["systemctl", "disable", "--now", UNIT])
    put_files(run, manifest, planned)
    if planned["load"] and firewall:
        load(run, firewall)
    # The unit's own stop has deleted it already, unless somebody else had loaded it.
    if planned["delete"] and listing(run) is not None:
        must(run, ["nft", "delete", "table", "inet", TABLE])
    if planned["start"]:
        must(run, ["systemctl", "enable", "--now", UNIT])
    for argv in planned["managers"]:
        must(run, argv)
    if manifest.state.get(SLOT, {}) != record:
        manifest.state[SLOT] = record
        manifest.save()
