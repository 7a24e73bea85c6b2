# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The firewall's variables are refused before any host is touched."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.plugin_utils._inventory_firewall import check_firewall


def errors(**variables: Any) -> list[str]:
    return check_firewall(["a", "b"], {"a": variables, "b": variables})


@pytest.mark.parametrize("mode", ["manage", "report", "off", False])
def test_modes(mode: Any) -> None:
    assert errors(overlay_host_firewall=mode) == []


def test_nothing_said_is_fine() -> None:
    assert errors() == []
    assert errors(overlay_host_firewall_allow=["192.0.2.1", "192.0.2.0/24", "2001:db8::/32"]) == []


def test_an_unknown_mode() -> None:
    assert errors(overlay_host_firewall=True) == [
        "a: overlay_host_firewall: True is unknown. Use manage or report or off."
    ]


def test_every_entry_is_checked_and_said_once() -> None:
    (first, second) = errors(overlay_host_firewall_allow=["192.0.2.1/24", "gateway", "192.0.2.9"])
    assert first.startswith("a: overlay_host_firewall_allow: '192.0.2.1/24' is neither")
    assert "host bits" in first
    assert "'gateway'" in second


def test_a_list_is_a_list() -> None:
    (error,) = errors(overlay_host_firewall_allow="192.0.2.1")
    assert "is no list" in error
