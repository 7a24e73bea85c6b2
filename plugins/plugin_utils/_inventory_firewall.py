# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an inventory says of the hosts' firewall: one typing error here would let strangers in, or close peers out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import parse_network

MODES = ("manage", "report", "off")


def check_mode(name: str, given: Any) -> list[str]:
    """YAML 1.1 reads an unquoted off as false: it is taken for what was meant."""
    mode = "off" if given is False else given
    return [] if mode in MODES else [f"{name}: overlay_host_firewall: {given!r} is unknown. Use {' or '.join(MODES)}."]


def check_allowed(name: str, given: Any) -> list[str]:
    """Each entry is an address or a network."""
    if not isinstance(given, (list, tuple)):
        return [f"{name}: overlay_host_firewall_allow: {given!r} is no list. Write [192.0.2.0/24]."]
    errors = []
    for entry in given:
        try:
            parse_network(entry)
        except ValueError as exc:
            errors.append(f"{name}: overlay_host_firewall_allow: {exc}.")
    return errors


def check_firewall(names: Iterable[str], hostvars: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What is wrong with the firewall's variables of these hosts; the same thing on many hosts is said once."""
    found: dict[str, str] = {}
    for name in names:
        variables = hostvars[name]
        errors = check_mode(name, variables.get("overlay_host_firewall", "manage"))
        errors += check_allowed(name, variables.get("overlay_host_firewall_allow", []))
        for error in errors:
            found.setdefault(error.partition(": ")[2], error)
    return list(found.values())
