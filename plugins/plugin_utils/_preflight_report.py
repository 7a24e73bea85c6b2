# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only shows when all hosts are looked at together, and the report. Pure; runs on the controller."""

from __future__ import annotations

import ipaddress
import re
from collections import Counter
from typing import Any, Iterable, Mapping, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import found
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_classic import found as found_classic
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import by_severity

# How ansible and the shell say that there is no Python, or one that is too old for modules.
NO_PYTHON = re.compile(
    r"python\S*: (command )?not found|python\S*: No such file|No python interpreters found|interpreter .* was not found"
    r"|minimum of Python|SyntaxError: future feature",
    re.IGNORECASE,
)
# How ansible, sudo, su and doas say that the user did not become root.
NO_ROOT = re.compile(
    r"(missing|incorrect) \w+ password|privilege escalation|become success|not in the sudoers|must have a tty"
    r"|\b(sudo|su|doas): (not found|command not found|a password is|a terminal is|no tty|\d+ incorrect|authentication failure|sorry)"
    r"|not allowed to (run|execute)",
    re.IGNORECASE,
)

Results = Mapping[str, Mapping[str, Any]]


def said(result: Mapping[str, Any]) -> str:
    """What a task that failed said, on one line and not too long."""
    texts = [str(result.get(key, "")).strip() for key in ("msg", "module_stderr", "module_stdout")]
    joined = "; ".join(text for text in texts if text).replace("Task failed: ", "", 1)
    return re.sub(r"\s+", " ", joined)[:400] or "no message"


def judge_result(host: str, result: Mapping[str, Any], skip_unreachable: bool) -> list[dict[str, str]]:
    """A host's findings, or the one that says why there are none."""
    if result.get("unreachable"):
        if skip_unreachable:
            return [
                found(
                    "host_skipped",
                    f"{host} cannot be reached and is left out",
                    said(result),
                    f"run again with --limit {host} once it is back",
                )
            ]
        return [found("host_unreachable", f"{host} cannot be reached", said(result))]
    if "findings" in result:
        return list(result["findings"])
    if NO_PYTHON.search(said(result)):
        return [found("python_missing", f"{host} has no Python that Ansible can use", said(result))]
    if NO_ROOT.search(said(result)):
        return [found("become_failed", f"on {host} the user of the connection cannot become root", said(result))]
    return [found("preflight_failed", f"{host} could not be read", said(result))]


def facts_of(results: Results) -> dict[str, Mapping[str, Any]]:
    """The facts of the hosts that were read."""
    read = {host: (result.get("ansible_facts") or {}).get("overlay_host_facts") for host, result in results.items()}
    return {host: facts for host, facts in read.items() if facts}


def shared(values: Mapping[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Host -> (its value, the other hosts with the same one), for values that are not unique."""
    found_on: dict[str, list[str]] = {}
    for host, value in values.items():
        if value:
            found_on.setdefault(value, []).append(host)
    return {
        host: (value, [other for other in found_on[value] if other != host])
        for host, value in values.items()
        if value and len(found_on[value]) > 1
    }


def check_identities(facts: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, dict[str, str]]]:
    """Nobody is mistaken for somebody else."""
    kinds = [
        ("hostname_duplicate", "hostname", {host: str(fact["hostname"]) for host, fact in facts.items()}),
        ("machine_id_duplicate", "machine-id", {host: str(fact["machine_id"]) for host, fact in facts.items()}),
        ("engine_id_duplicate", "engine ID", {host: str(fact["engine"]["id"]) for host, fact in facts.items()}),
    ]
    for check_id, label, values in kinds:
        for host, (value, others) in shared(values).items():
            yield host, found(check_id, f"{host} has the same {label} as {', '.join(others)}", f"{label}: {value}")


def check_shared_addresses(
    facts: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str]
) -> Iterable[tuple[str, dict[str, str]]]:
    """A host's overlay address is on no other host."""
    for host, address in addresses.items():
        others = [other for other, fact in facts.items() if other != host and address in fact["addresses"]]
        if others and host in facts:
            yield (
                host,
                found(
                    "address_shared",
                    f"the overlay address {address} of {host} is also on {', '.join(others)}",
                    f"{address} on {', '.join([host, *others])}",
                ),
            )


def check_bridges(
    facts: Mapping[str, Mapping[str, Any]], addresses: Mapping[str, str]
) -> Iterable[tuple[str, dict[str, str]]]:
    """No host has a peer's address in the range of one of its own Docker bridges."""
    for host, fact in facts.items():
        for bridge, text in fact.get("bridges", {}).items():
            own = ipaddress.IPv4Network(text, strict=False)
            for peer, address in addresses.items():
                if peer != host and ipaddress.IPv4Address(address) in own:
                    yield (
                        host,
                        found_classic(
                            "bridge_overlaps_peer",
                            f"Docker's bridge {bridge} of {host} has {own}, and {peer} has the address {address} in it",
                            f"{bridge}: {text}; {peer}: {address}",
                        ),
                    )


def check_versions(facts: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, dict[str, str]]]:
    """Who has another engine than most."""
    versions = {host: str(fact["engine"].get("version") or "") for host, fact in facts.items()}
    counted = Counter(filter(None, versions.values()))
    usual = counted.most_common(1)[0][0] if counted else ""
    for host, version in versions.items():
        if version and version != usual:
            yield (
                host,
                found_classic(
                    "engine_versions_differ",
                    f"{host} has Docker {version}, and most others have {usual}",
                    ", ".join(f"{name}: {value}" for name, value in versions.items() if value),
                ),
            )


def check_peer_subnets(
    addresses: Mapping[str, str], networks: Sequence[Mapping[str, Any]]
) -> Iterable[tuple[str, dict[str, str]]]:
    """No overlay subnet holds the address of a host, however it is routed."""
    for entry in networks:
        try:
            subnet = ipaddress.IPv4Network(str(entry.get("subnet") or ""), strict=False)
        except ValueError:
            continue
        for host, address in addresses.items():
            if entry.get("state", "present") != "absent" and ipaddress.IPv4Address(address) in subnet:
                yield (
                    host,
                    found(
                        "subnet_overlaps_peer",
                        f"subnet {subnet} of network {entry.get('name', '?')} contains {host}'s address {address}",
                        f"{host}: {address}",
                    ),
                )


def known_already(host: str, finding: Mapping[str, str], findings: Sequence[Mapping[str, str]]) -> bool:
    """The host itself has found the same overlap by looking at its interfaces."""
    return finding["id"] == "subnet_overlaps_peer" and any(
        row["host"] == host
        and row["id"] == "subnet_overlaps_address"
        and row["message"].split(" overlaps ")[0] == finding["message"].split(" contains ")[0]
        for row in findings
    )


def all_findings(
    results: Results,
    addresses: Mapping[str, str],
    networks: Sequence[Mapping[str, Any]],
    skip_unreachable: bool,
    others: Sequence[Mapping[str, str]] = (),
) -> list[dict[str, str]]:
    """Each host's own findings, those across hosts and ``others`` (of paths), errors first, then in the order of the hosts."""
    rows = [
        dict(row, host=host) for host, result in results.items() for row in judge_result(host, result, skip_unreachable)
    ]
    facts = facts_of(results)
    members = {host: address for host, address in addresses.items() if host in results}
    for host, row in [
        *check_identities(facts),
        *check_shared_addresses(facts, members),
        *check_peer_subnets(members, networks),
        *check_bridges(facts, members),
        *check_versions(facts),
    ]:
        if not known_already(host, row, rows):
            rows.append(dict(row, host=host))
    rows += [dict(row) for row in others if row["host"] in results]
    return by_severity(rows, list(results))
