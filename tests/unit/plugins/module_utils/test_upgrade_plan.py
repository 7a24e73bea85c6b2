# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an upgrade would do, in which order, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _upgrade_plan as plans

PACKAGES = {"source": "packages", "program": "", "version": "", "restart": "safe"}
ARCHIVE = {"source": "archive", "program": "/new/dockerd", "version": "20.10.24", "restart": "safe"}
STRICT: dict[str, Any] = {"despite": []}


def engine(**changes: Any) -> dict[str, Any]:
    return {
        "installed": True,
        "running": True,
        "program": "/usr/sbin/dockerd",
        "version": "20.10.5+dfsg1",
        "replaced": [],
        "containers": [],
        "live_restore": True,
        "shims_survive": True,
        "package": "docker.io",
        "packages": {"docker.io": "20.10.5+dfsg1-1+deb11u2"},
        "changes": [],
        "removed": [],
        "held": [],
        "broken": [],
        "older": False,
        **changes,
    }


def newer(version: str, name: str = "docker.io") -> dict[str, Any]:
    return {"changes": [{"name": name, "old": "20.10.5+dfsg1-1+deb11u2", "new": version}]}


def judge(seen: dict[str, Any], wanted: dict[str, Any] | None = None, program: str = "engine", *despite: str) -> Any:
    return plans.row("node1", program, seen, PACKAGES if wanted is None else wanted, {"despite": list(despite)})


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("5:20.10.24~3-0~debian-bullseye", (20, 10, 24)),
        ("20.10.5+dfsg1-1+deb11u2", (20, 10, 5)),
        ("docker-23.0.6.tgz", (23, 0, 6)),
        ("consul_1.10.12_linux_amd64.zip", (1, 10, 12)),
        ("docker.tgz", ()),
    ],
)
def test_versions_are_read_as_they_are_written(text: str, found: tuple[int, ...]) -> None:
    assert plans.numbers(text) == found


def test_nothing_is_done_where_there_is_nothing_newer() -> None:
    assert judge(engine())["action"] == "none"
    assert judge(engine(program="/new/dockerd"), ARCHIVE)["action"] == "none"


def test_a_revision_of_the_package_is_an_upgrade() -> None:
    found = judge(engine(**newer("20.10.5+dfsg1-1+deb11u4")))
    assert (found["action"], found["have"], found["want"]) == (
        "upgrade",
        "20.10.5+dfsg1-1+deb11u2",
        "20.10.5+dfsg1-1+deb11u4",
    )
    assert found["packages"] == ["docker.io 20.10.5+dfsg1-1+deb11u2 -> 20.10.5+dfsg1-1+deb11u4"]


@pytest.mark.parametrize("state", [{"replaced": ["dockerd"]}, {"broken": ["docker.io"]}])
def test_an_upgrade_that_was_killed_goes_on(state: dict[str, Any]) -> None:
    assert judge(engine(**state))["action"] == "upgrade"


def test_what_only_runs_from_elsewhere_is_no_business_of_packages() -> None:
    found = judge(engine(package="", packages={}, program="/opt/dockerd"))
    assert found["action"] == "none" and "of no package" in found["why"]


def test_a_hold_is_respected_and_said() -> None:
    found = judge(engine(held=["docker.io"]))
    assert found["action"] == "none" and "apt-mark unhold" in found["why"]


@pytest.mark.parametrize("version", ["26.1.5+dfsg1-9", "5:23.0.0~3-0", "5:24.0.7-1"])
def test_an_engine_without_the_classic_mode_is_refused_with_the_reason(version: str) -> None:
    found = judge(engine(**newer(version)), PACKAGES, "engine", "verify", "downgrade", "jump")
    assert found["action"] == "refuse" and "removed in 23.0" in found["why"] and "Pin-Priority" in found["why"]


def test_an_older_version_needs_consent() -> None:
    old = dict(ARCHIVE, version="19.03.15")
    assert judge(engine(), old)["action"] == "refuse"
    assert judge(engine(), old, "engine", "downgrade")["action"] == "upgrade"
    revision = engine(**newer("20.10.5+dfsg1-1+deb11u1"), older=True)
    assert "is older than" in judge(revision)["why"]


def test_an_archive_without_a_version_needs_consent() -> None:
    unnamed = dict(ARCHIVE, version="")
    assert "name has no version" in judge(engine(), unnamed)["why"]
    assert judge(engine(), unnamed, "engine", "downgrade")["action"] == "upgrade"


def test_what_apt_would_remove_is_refused() -> None:
    assert "remove web" in judge(engine(**newer("20.10.24"), removed=["web"]))["why"]


def consul(version: str, want: str, *despite: str) -> Any:
    seen = {**engine(version=version, package="", packages={}, program="/old/consul")}
    return judge(seen, dict(ARCHIVE, version=want), "consul", *despite)


def test_consul_jumps_two_of_its_versions_at_most() -> None:
    assert consul("1.8.7", "1.10.12")["action"] == "upgrade"
    too_far = consul("1.8.7", "1.12.0")
    assert too_far["action"] == "refuse" and "newest 1.10 first" in too_far["why"]
    assert consul("1.21.7", "2.0.1")["action"] == "refuse"
    assert consul("1.21.7", "2.0.1", "jump")["action"] == "upgrade"


def busy(**changes: Any) -> dict[str, Any]:
    return engine(containers=["web"], **newer("20.10.24+dfsg1-1"), **changes)


def test_containers_die_only_with_consent() -> None:
    assert judge(busy())["action"] == "upgrade"
    dying = judge(busy(live_restore=False))
    assert dying["action"] == "wait" and "would die: web" in dying["why"]
    assert judge(busy(shims_survive=False))["action"] == "wait"
    assert judge(busy(live_restore=False), dict(PACKAGES, restart="rolling"))["action"] == "upgrade"
    assert judge(engine(**newer("20.10.24")), dict(PACKAGES, restart="never"))["action"] == "wait"


def test_live_restore_counts_within_one_series_only() -> None:
    found = judge(busy(version="19.03.15"))
    assert found["action"] == "wait" and "releases of one series" in found["why"]


def test_a_host_without_an_engine_is_for_site() -> None:
    assert "run site.yml" in judge(engine(installed=False))["why"]


def reading(**programs: Any) -> dict[str, Any]:
    wanted = {"engine": PACKAGES, "consul": dict(ARCHIVE, version="1.10.12")}
    return {"wanted": {name: wanted[name] for name in programs}, **programs}


def test_servers_come_before_agents_the_leader_last_of_them_and_engines_behind() -> None:
    old = engine(version="1.8.7", package="", packages={}, program="/old/consul")
    due = engine(**newer("20.10.24"))
    seen = {host: reading(consul=old, engine=due) for host in ("a", "b", "c", "d")}
    order = plans.turns(plans.rows(seen, STRICT), ["a", "b", "c"], "a")
    assert [(turn["program"], turn["host"]) for turn in order] == [
        ("consul", "b"),
        ("consul", "c"),
        ("consul", "a"),
        ("consul", "d"),
        ("engine", "a"),
        ("engine", "b"),
        ("engine", "c"),
        ("engine", "d"),
    ]


def test_the_table_and_the_refusals_name_every_host() -> None:
    seen = {"a": reading(engine=engine()), "b": reading(engine=engine(**newer("26.1.5")))}
    found = plans.rows(seen, STRICT)
    lines = plans.table(found)
    assert lines[0].split()[:2] == ["host", "program"] and "newest that" in lines[1] and "refuse" in lines[2]
    assert plans.refusals(found).startswith(
        "Nothing was changed on any host."
    ) and "- b: Docker 26.1.5" in plans.refusals(found)
    assert plans.refusals(found[:1]) == ""


def test_the_last_words_say_how_to_go_on_and_back() -> None:
    turns = [{"host": host, "program": "engine"} for host in ("a", "b", "c")]
    words = plans.stopped(turns[1], "it does not start", "what was there is back.", turns[:1], turns[2:])
    assert "stopped at b (Docker): it does not start" in words
    assert "Done in this run: a (Docker)." in words and "Not touched: c (Docker)." in words
    assert "To go on:" in words and "--allow-downgrades" in words
