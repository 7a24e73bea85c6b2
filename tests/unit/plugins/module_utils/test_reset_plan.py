# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a reset decides: the order, what stays, and what it refuses."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _reset_plan as plan

CONSUL_UNIT = "/etc/systemd/system/multihost-overlay-consul.service"
PEERS_UNIT = "/usr/local/lib/systemd/system/multihost-overlay-peers.service"
DROP_IN = "/etc/systemd/system/docker.service.d/multihost-overlay.conf"
SECRET = "/etc/multihost-overlay/secrets.json"
DATA = "/var/lib/multihost-overlay-consul"
STORE = "consul://127.0.0.1:8500"
OPTIONS: dict[str, Any] = {
    "until": "end", "networks": True, "store_managed": True, "packages": True, "restart": "safe", "without_store": False,
}  # fmt: skip


def file(role: str, **changes: Any) -> dict[str, Any]:
    return {"role": role, "existed": False, "backup": None, "digests": ["ours"], **changes}


def observed(**engine: Any) -> dict[str, Any]:
    """A host that site.yml brought about from nothing, with one container on an overlay."""
    files = {
        CONSUL_UNIT: file("overlay_consul"),
        PEERS_UNIT: file("overlay_docker"),
        DROP_IN: file("overlay_docker"),
        SECRET: file("overlay_consul"),
        plan.DAEMON_JSON: {"role": "overlay_docker", "existed": False, "backup": None},
    }
    manifest = {
        "files": files,
        "keys": {plan.DAEMON_JSON: {"cluster-store": {}}},
        "directories": {
            "/etc/multihost-overlay": {"role": "overlay_tls", "made": True},
            "/etc/multihost-overlay/tls": {"role": "overlay_tls", "made": True},
            DATA: {"role": "overlay_consul", "made": True, "content": True},
        },
        "packages": {"consul": {"role": "overlay"}, "docker.io": {"role": "overlay"}, "nftables": {"role": "overlay"}},
        "sysctls": {"net.ipv4.ip_forward": {"role": "overlay_host", "prior": "0", "ours": "1"}},
        "users": {"overlay-consul": {"role": "overlay_consul"}},
        "groups": {},
        "state": {},
    }
    web = {"id": "c1", "name": "web", "networks": {"front": "n1", "shop": "n9"}}
    return {
        "manifest": manifest,
        "engine": {
            "installed": True, "running": True, "hangs": False, "store": STORE, "store_after": "", "store_answers": True,
            "other_unit": True, "containers": [web], "networks": [{"id": "n1", "name": "front", "ours": True}],
            "known": ["n1", "n9"], "own_networks": [], "used": ["1 containers"], **engine,
        },
        "daemon": {
            "owned": ["cluster-store"], "arguments": False, "due": ["cluster-store: out"], "restarts": True, "allowed": True,
            "dying": [], "without_policy": [], "live_restore": True,
        },
        "files": {path: {"digest": "ours", "backup": None} for path in files},
        "directories": {"/etc/multihost-overlay": ["tls"], "/etc/multihost-overlay/tls": [], DATA: ["raft"]},
        "units": {name: {"ActiveState": "active"} for name in ("multihost-overlay-consul.service", "docker.service")},
        "namespaces": ["1-abcdefghij"],
        "tunnels": [],
        "firewall": ["delete the table inet multihost_overlay"],
        "closed_manager": False,
        "sysctls": {"net.ipv4.ip_forward": "1"},
        "users": {"overlay-consul": True},
        "groups": {},
        "run_files": [],
        "packages": {"installed": ["consul", "docker.io", "nftables"], "in_use": {}, "along": ["runc"]},
    }  # fmt: skip


def made(seen: dict[str, Any], **options: Any) -> plan.Plan:
    return plan.make_plan(seen, {**OPTIONS, **options})


def things(planned: plan.Plan, *kinds: str) -> list[str]:
    return [step.thing for step in planned.steps if step.kind in kinds]


def place(planned: plan.Plan, kind: str, thing: str = "") -> int:
    return next(n for n, step in enumerate(planned.steps) if step.kind == kind and thing in (step.thing, ""))


def test_each_thing_goes_before_what_it_needs() -> None:
    planned = made(observed(containers=[], used=[]))
    order = [
        place(planned, "network"),
        place(planned, "stop"),
        place(planned, "stage"),
        place(planned, "remove", DROP_IN),
        place(planned, "namespace"),
        place(planned, "unit", "multihost-overlay-consul.service"),
        place(planned, "firewall"),
        place(planned, "remove", SECRET),
        place(planned, "remove", CONSUL_UNIT),
        place(planned, "packages"),
        place(planned, "content", DATA),
        place(planned, "user", "overlay-consul"),
        place(planned, "directory", "/etc/multihost-overlay/tls"),
        place(planned, "directory", "/etc/multihost-overlay"),
        place(planned, "state"),
    ]
    assert order == sorted(order)
    assert [step.phase for step in planned.steps] == sorted(
        (step.phase for step in planned.steps), key=plan.PHASES.index
    )
    assert planned.steps[-1].kind == "state"


def test_a_host_without_a_manifest_is_left_alone() -> None:
    planned = made({"manifest": None})
    assert (planned.steps, planned.refused) == ([], [])
    assert "nothing here is known as ours" in planned.stays[0]


def test_a_container_leaves_the_overlays_alone_and_it_is_said_what_it_keeps() -> None:
    planned = made(observed())
    steps = [step for step in planned.steps if step.kind == "disconnect"]
    assert [(step.thing, step.other) for step in steps] == [("c1", "n1")]
    assert "web from the network front; it keeps shop" in steps[0].say
    alone = {"id": "c2", "name": "alone", "networks": {"front": "n1"}}
    assert "left without a network" in made(observed(containers=[alone])).steps[0].say


# --- the engine ---


def test_an_engine_of_ours_that_is_used_stays_and_the_manifest_with_it() -> None:
    planned = made(observed())
    assert things(planned, "packages") == ["consul nftables"]
    assert things(planned, "apply") == ["docker.service"] and not things(planned, "stop", "state")
    assert any("it is used: 1 containers" in line for line in planned.stays)
    # Its containers need it; a later reset sets it back.
    assert not things(planned, "sysctl", "forget_sysctl")


def test_one_that_nobody_uses_goes() -> None:
    planned = made(observed(containers=[], used=[]))
    assert things(planned, "stop") and not things(planned, "apply", "live_restore")
    assert things(planned, "packages") == ["consul docker.io nftables"]
    assert things(planned, "sysctl") == ["net.ipv4.ip_forward"]


def test_one_that_was_there_before_stays_and_is_nothing_of_ours() -> None:
    seen = observed()
    del seen["manifest"]["packages"]["docker.io"]
    planned = made(seen)
    assert things(planned, "packages") == ["consul nftables"] and things(planned, "state")
    assert things(planned, "apply") and things(planned, "live_restore")
    # dockerd needs it, and sets it itself.
    assert things(planned, "forget_sysctl") == ["net.ipv4.ip_forward"]


def test_an_unpacked_one_gives_way_to_the_one_of_before() -> None:
    seen = observed(used=[])
    del seen["manifest"]["packages"]["docker.io"]
    unit = plan.DOCKER_UNIT_FILES[0]
    seen["manifest"]["files"][unit] = file("overlay_docker")
    seen["files"][unit] = {"digest": "ours", "backup": None}
    back = made(seen)
    assert place(back, "remove", unit) < place(back, "apply") and not things(back, "stop", "disable")
    seen["engine"]["other_unit"] = False
    goes = made(seen)
    assert place(goes, "stop") < place(goes, "disable") < place(goes, "remove", unit)
    seen["engine"]["used"] = ["2 images"]
    stays = made(seen)
    assert unit not in things(stays, "remove", "forget") and not things(stays, "state")


def test_no_package_goes_where_that_is_not_wanted() -> None:
    planned = made(observed(containers=[], used=[]), packages=False)
    assert not things(planned, "packages", "stop", "state")
    assert "the package consul: overlay_reset_packages is false" in planned.stays


def test_what_others_need_stays() -> None:
    seen = observed(containers=[], used=[])
    seen["packages"]["in_use"] = {"nftables": "nftables.service is enabled"}
    planned = made(seen)
    assert things(planned, "packages") == ["consul docker.io"]
    assert "the package nftables: nftables.service is enabled" in planned.stays
    assert things(planned, "state"), "it is the user's from now on"


def test_a_stopped_engine_is_not_started() -> None:
    planned = made(observed(running=False, containers=[], networks=[]))
    assert things(planned, "stage") and not things(planned, "apply", "live_restore")


# --- somebody else's store ---


def test_of_a_store_of_others_only_what_we_made_goes() -> None:
    theirs = {"id": "n2", "name": "theirs", "ours": False}
    both = {"id": "c1", "name": "web", "networks": {"front": "n1", "theirs": "n2"}}
    seen = observed(networks=[*observed()["engine"]["networks"], theirs], containers=[both], store_after=STORE)
    planned = made(seen, store_managed=False)
    assert things(planned, "network") == ["n1"]
    # Its engine stays in the store by the user's own flags.
    assert [step.other for step in planned.steps if step.kind == "disconnect"] == ["n1"]
    assert not things(planned, "namespace")
    # One that leaves it loses all.
    leaving = {**seen, "engine": {**seen["engine"], "store_after": ""}}
    assert [step.other for step in made(leaving, store_managed=False).steps if step.kind == "disconnect"] == [
        "n1",
        "n2",
    ]


def test_a_host_that_is_taken_out_alone_leaves_the_networks_to_the_others() -> None:
    planned = made(observed(), networks=False)
    assert not things(planned, "network") and things(planned, "disconnect") == ["c1"]


# --- files ---


@pytest.mark.parametrize(
    ("entry", "found", "kind", "kept"),
    [
        ({}, {"digest": "ours", "backup": None}, "remove", False),
        ({}, {"digest": "theirs", "backup": None}, "remove", True),
        ({}, {"digest": None, "backup": None}, "forget", False),
        ({"digests": ["new", "ours"]}, {"digest": "ours", "backup": None}, "remove", False),
        ({"existed": True}, {"digest": "ours", "backup": "before"}, "restore", False),
        ({"existed": True}, {"digest": None, "backup": "before"}, "restore", False),
        ({"existed": True}, {"digest": "theirs", "backup": "before"}, "restore", True),
        ({"existed": True}, {"digest": "before", "backup": "before"}, "forget", False),
    ],
)  # fmt: skip
def test_a_file(entry: dict[str, Any], found: dict[str, Any], kind: str, kept: bool) -> None:
    step = plan.file_step("end", "/etc/a", file("r", **entry), found)
    assert (step.kind, bool(step.other), "a copy is kept" in step.say) == (kind, kept, kept)


def test_what_somebody_changed_in_the_kernel_since_stays() -> None:
    seen = observed(containers=[], used=[])
    seen["sysctls"]["net.ipv4.ip_forward"] = "2"
    assert things(made(seen), "forget_sysctl") == ["net.ipv4.ip_forward"]


# --- refusals ---


def test_a_restart_that_kills_is_refused_with_the_names_of_who_would_die() -> None:
    seen = observed()
    seen["daemon"].update(allowed=False, dying=["web", "db"], without_policy=["db"])
    refused = made(seen).refused
    assert len(refused) == 1 and "would die of it: web, db" in refused[0] and "(no restart policy): db" in refused[0]
    assert "overlay_docker_restart: rolling" in refused[0]
    # An engine that goes, or does not run, kills nobody.
    assert not made({**seen, "engine": {**seen["engine"], "running": False}}).refused


def test_a_dead_store_is_refused_where_containers_need_it() -> None:
    seen = observed(store_answers=False, networks=[], known=["n9"])
    assert "these containers cannot leave their networks: web" in made(seen).refused[0]
    assert not made(seen, without_store=True).refused
    idle = copy.deepcopy(seen)
    idle["engine"]["containers"] = []
    assert not made(idle).refused


def test_an_engine_that_hangs_is_refused() -> None:
    assert "does not answer" in made(observed(hangs=True, running=False, containers=[], networks=[])).refused[0]


# --- once more ---


def test_nothing_is_left_to_do_where_it_was_done() -> None:
    """An engine of ours that is used: what stays in the manifest is nothing to do."""
    seen = observed(store="", networks=[])
    empty: dict[str, Any] = {name: {} for name in ("files", "keys", "directories", "users", "groups")}
    seen["manifest"] = {**seen["manifest"], **empty, "packages": {"docker.io": {}}}
    seen.update(files={}, firewall=[], namespaces=[])
    seen["daemon"] = {**seen["daemon"], "owned": [], "due": [], "restarts": False, "live_restore": False}
    assert made(seen).steps == []


def test_settings_that_the_engine_was_never_told_of_need_no_restart() -> None:
    """What was staged by a run that was ended before it applied it."""
    seen = observed(store="", networks=[])
    seen["daemon"].update(due=[], restarts=False, live_restore=False)
    planned = made(seen)
    assert [step.other for step in planned.steps if step.kind == "stage"] == [False]
    assert not things(planned, "apply", "live_restore")
    assert [step.other for step in made(observed()).steps if step.kind == "stage"] == [True]


def test_a_drop_in_that_somebody_changed_is_kept_before_it_goes_with_our_settings() -> None:
    seen = observed()
    path = plan.arguments.PATH
    seen["manifest"]["files"][path] = file("overlay_docker")
    seen["files"][path] = {"digest": "theirs", "backup": None}
    assert place(made(seen), "keep", path) < place(made(seen), "stage") < place(made(seen), "remove", path)
    seen["files"][path] = {"digest": "ours", "backup": None}
    assert not things(made(seen), "keep")
