# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose the lock is: one wins, who is not heard of loses it, and clocks of controllers do not count."""

from __future__ import annotations

import multiprocessing
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils import _run_lock as lock

ME: dict[str, Any] = {"id": "me", "user": "ann", "controller": "one", "pid": 7, "playbook": "site.yml"}
OTHER: dict[str, Any] = {"id": "other", "user": "bob", "controller": "two", "pid": 8, "playbook": "rotate_keys.yml"}


def age(path: Path, seconds: float) -> None:
    os.utime(path, (time.time() - seconds,) * 2)


def take(path: Path, holder: dict[str, Any], *gone: str, take_over: bool = False) -> tuple[str, list[str]]:
    """Who has it then, by name; from whom it was taken."""
    living, over = lock.take(str(path), holder, gone, take_over)
    return living.get("id", "taken"), [row["id"] for row in over]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "lock"


def test_the_first_one_has_it(place: Path) -> None:
    assert take(place, OTHER) == ("taken", [])
    assert take(place, ME) == ("other", [])
    assert os.listdir(place) == ["other"]
    assert (place.stat().st_mode & 0o777, (place / "other").stat().st_mode & 0o777) == (0o700, 0o600)


def test_who_has_it_takes_nothing_more(place: Path) -> None:
    take(place, ME)
    age(place / "me", 300)
    assert take(place, ME) == ("me", [])


@pytest.mark.parametrize(("seconds", "who"), [(50, "other"), (70, "taken"), (-50, "other"), (-70, "taken")])
def test_its_age_tells(place: Path, seconds: float, who: str) -> None:
    """A clock that was set back makes a time of the future."""
    take(place, OTHER)
    age(place / "other", seconds)
    assert take(place, ME)[0] == who
    assert os.listdir(place) == ["me" if who == "taken" else "other"]


def test_who_is_gone_loses_it(place: Path) -> None:
    take(place, OTHER)
    assert take(place, ME, "somebody") == ("other", [])
    assert take(place, ME, "other") == ("taken", ["other"])


def test_it_can_be_taken_from_who_lives(place: Path) -> None:
    take(place, OTHER)
    assert take(place, ME, take_over=True) == ("taken", ["other"])


def test_what_was_killed_in_writing_is_a_holder_until_it_is_old(place: Path) -> None:
    take(place, OTHER)
    (place / "other").write_text("{")
    living, _over = lock.take(str(place), ME, [], False)
    assert "somebody on an unknown controller" in lock.refusal(living, "node1")
    age(place / "other", 70)
    assert take(place, ME)[0] == "taken"


def test_a_directory_that_is_given_back_under_our_hands(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who releases removes it, if nobody is in it."""
    judge, rounds = lock.judge, [0]

    def and_release(*args: Any) -> Any:
        rounds[0] += 1
        if rounds == [1]:
            place.rmdir()
        return judge(*args)

    monkeypatch.setattr(lock, "judge", and_release)
    assert take(place, ME) == ("taken", [])
    assert os.listdir(place) == ["me"]


def _contend(path: str, name: str, start: Any, results: Any) -> None:
    start.wait()
    living, _over = lock.take(path, {**ME, "id": name}, [], False)
    results.put(living.get("id", name))


def test_one_of_many_at_the_same_moment(place: Path) -> None:
    """Also where a stale one is to be taken over."""
    take(place, OTHER)
    age(place / "other", 70)
    forks = multiprocessing.get_context("fork")
    start, results = forks.Event(), forks.Queue()
    names = [f"run{number}" for number in range(8)]
    processes = [forks.Process(target=_contend, args=(str(place), name, start, results)) for name in names]
    for process in processes:
        process.start()
    start.set()
    winners = {results.get(timeout=20) for _process in processes}
    for process in processes:
        process.join()
    assert winners == set(os.listdir(place))
    assert len(winners) == 1


def test_looking_makes_nothing(place: Path) -> None:
    assert lock.look(str(place)) == []
    assert not place.exists()
    take(place, OTHER)
    assert [row["id"] for row in lock.look(str(place))] == ["other"]


def test_the_words(place: Path) -> None:
    """Who, where, which playbook, since when, last heard of, and the cure."""
    holder = {**OTHER, "taken_ago": 200.0, "heard_ago": 12.4}
    words = lock.refusal(holder, "node1")
    assert (
        "on node1: bob on two (process 8, rotate_keys.yml) has had it for 3 min, and was last heard of 12 s ago"
        in words
    )
    assert "ends in 48 s" in words
    assert "nothing was changed on any host" in words
    assert "overlay_lock_break=true" in words


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (-3, "3 s"), (119, "119 s"), (121, "2 min"), (9000, "2 h")]
)
def test_durations(seconds: float, words: str) -> None:
    assert lock.duration(seconds) == words
