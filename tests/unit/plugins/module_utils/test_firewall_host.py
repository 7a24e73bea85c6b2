# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done about a host's firewall, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _firewall_host as host
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_managers import rich_rules, ufw_rules
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import (
    RULES_FILE,
    UNIT,
    files,
    parse,
)
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest

WANTED = parse(["7946/tcp", "7946/udp"], ["10.88.0.11", "10.88.0.12"], [])
FILES = files(WANTED, "/usr/sbin/nft")
NOTHING = {
    "write": {},
    "remove": [],
    "load": False,
    "start": False,
    "delete": False,
    "stop": False,
    "managers": [],
}


def observed(**changes: Any) -> dict[str, Any]:
    """A host in order."""
    found = {
        "nft": "/usr/sbin/nft",
        "unit": {"Id": UNIT, "ActiveState": "active", "UnitFileState": "enabled"},
        "wanted": FILES,
        "files": dict(FILES),
        "owned": list(FILES),
        "live": "table\n",
        "expected": "table\n",
        "recorded": {},
        "firewalld": None,
        "ufw": None,
        "ufw6": True,
    }
    return {**found, **changes}


def bare() -> dict[str, Any]:
    return observed(nft="", unit={}, files=dict.fromkeys(FILES), owned=[], live=None, expected=None)


def test_nothing_to_do() -> None:
    assert host.plan(observed(), WANTED) == NOTHING


def test_everything_to_do() -> None:
    assert host.plan(bare(), WANTED) == {**NOTHING, "write": FILES, "load": True, "start": True}


def test_a_table_that_was_flushed_or_edited_is_loaded_again() -> None:
    assert host.plan(observed(live=None), WANTED) == {**NOTHING, "load": True}
    assert host.plan(observed(live="table with a hole\n"), WANTED) == {**NOTHING, "load": True}


def test_where_nothing_can_be_compared_a_table_that_is_there_is_believed() -> None:
    assert host.plan(observed(expected=None), WANTED) == NOTHING


def test_a_unit_that_was_disabled_is_enabled() -> None:
    assert host.plan(observed(unit={"UnitFileState": "disabled", "ActiveState": "active"}), WANTED)["start"]
    assert host.plan(observed(unit={"UnitFileState": "enabled", "ActiveState": "failed"}), WANTED)["start"]


def test_off_takes_ours_away() -> None:
    planned = host.plan(observed(wanted={}, expected=None), None)
    assert planned == {**NOTHING, "remove": list(FILES), "delete": True, "stop": True}


def test_off_leaves_alone_what_is_not_ours() -> None:
    assert host.plan(observed(wanted={}, expected=None, owned=[]), None) == NOTHING
    assert host.plan({**bare(), "wanted": {}}, None) == NOTHING


def test_managers_open_for_peers_and_close_what_we_opened() -> None:
    zone = {"zone": "public", "rules": {("public", True): ["theirs"], ("old", True): ["ours", "theirs"]}}
    found = observed(firewalld=zone, recorded={"old": ["ours"]}, ufw=["allow from 1.2.3.4 to any port 1 proto tcp"])
    steps = host.plan(found, WANTED)["managers"]
    assert [argv[0] for argv in steps] == ["firewall-cmd", "firewall-cmd", "ufw", "ufw", "ufw", "ufw", "ufw"]
    assert "--remove-rich-rule=ours" in steps[1]
    assert not any("theirs" in word for argv in steps for word in argv)
    assert steps[-1] == ["ufw", "delete", "allow", "from", "1.2.3.4", "to", "any", "port", "1", "proto", "tcp"]


def test_managers_in_order_are_not_called() -> None:
    rules = rich_rules(WANTED)
    zone = {"zone": "public", "rules": {("public", True): rules, ("public", False): [*rules, "theirs"]}}
    found = observed(firewalld=zone, recorded={"public": rules}, ufw=ufw_rules(WANTED))
    assert host.plan(found, WANTED)["managers"] == []


def test_a_rule_that_was_theirs_before_stays_theirs() -> None:
    rules = rich_rules(WANTED)
    zone = {"zone": "public", "rules": {("public", True): rules[:1], ("public", False): []}}
    assert host.rules_to_record(observed(firewalld=zone), WANTED) == {"public": rules[1:]}
    assert host.rules_to_record(observed(recorded={"public": rules}), WANTED) == {"public": rules}
    assert host.rules_to_record(observed(firewalld=zone, recorded={"public": rules}), None) == {}


class Programs:
    """Notes what is run."""

    def __init__(self, **ends: int) -> None:
        self.calls: list[str] = []
        self.ends = ends

    def __call__(self, argv: list[str], _stdin: str = "") -> tuple[int, str, str]:
        self.calls.append(" ".join(argv))
        return self.ends.get(argv[0], 0), "", "its own words"


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Manifest:
    written: dict[str, bytes] = {}
    monkeypatch.setattr(host, "write_atomic", lambda path, data, mode: written.update({path: data}))
    monkeypatch.setattr(host.os, "makedirs", lambda *_args, **_more: None)
    loaded = Manifest.load(str(tmp_path / "manifest.json"))
    monkeypatch.setattr(loaded, "save", lambda: None)
    return loaded


def test_rules_are_checked_before_anything_is_written(manifest: Manifest) -> None:
    run = Programs(nft=1)
    with pytest.raises(host.FirewallError, match="its own words Nothing was changed"):
        host.apply(run, manifest, host.plan(bare(), WANTED), {}, WANTED)
    assert run.calls == ["nft -c -f /dev/stdin"]
    assert not manifest.owns_file(RULES_FILE)


def test_order_on_a_bare_host(manifest: Manifest) -> None:
    run = Programs()
    host.apply(run, manifest, host.plan(bare(), WANTED), {}, WANTED)
    assert run.calls == [
        "nft -c -f /dev/stdin",
        "systemctl daemon-reload",
        f"nft -f {RULES_FILE}",
        " ".join(host.strangers(WANTED)),
        f"systemctl enable --now {UNIT}",
    ]
    assert all(manifest.owns_file(path) for path in FILES)


def test_units_are_read_in_one_call() -> None:
    text = f"Id={UNIT}\nActiveState=active\nUnitFileState=enabled\n\nId=firewalld.service\nActiveState=inactive\n"
    units = host.read_units(lambda argv, stdin="": (0, text, ""))
    assert units[UNIT]["UnitFileState"] == "enabled"
    assert units["firewalld.service"]["ActiveState"] == "inactive"


@pytest.mark.parametrize(
    ("ends", "zone"),
    [
        ({"firewall-cmd --get-zone-of-interface=eth1": (0, "internal\n", "")}, "internal"),
        ({"firewall-cmd --get-zone-of-interface=eth1": (2, "", "no zone")}, "public"),
    ],
)
def test_the_zone_is_that_of_the_address(ends: dict[str, tuple[int, str, str]], zone: str) -> None:
    answers = {
        "ip -o -4 addr show to 10.0.0.1": (0, "3: eth1    inet 10.0.0.1/24 scope global eth1\n", ""),
        "firewall-cmd --get-default-zone": (0, "public\n", ""),
        **ends,
    }
    assert host.zone_of(lambda argv: answers[" ".join(argv)], "", "10.0.0.1") == zone
    assert host.zone_of(lambda argv: answers[" ".join(argv)], "mine", "10.0.0.1") == "mine"


def test_connections_of_strangers_are_ended() -> None:
    firewall = parse(["7946/tcp", "8301/tcp"], ["10.88.0.11"], ["2001:db8::/64"])
    assert host.strangers(firewall)[-1] == (
        "( sport = :7946 or sport = :8301 ) and not ( dst 127.0.0.0/8 or dst [::1] or dst 10.88.0.11 or dst [2001:db8::/64] )"
    )
