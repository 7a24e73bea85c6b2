# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs playbooks for tests, as a user would, and says what they did.

    run = run_playbook("site.yml", inventory="inventories/lab")          # fails the test unless the run succeeds
    assert run.changed == {}                                             # {host: number of changed tasks}
    assert max(run.remote.values()) <= 25                                # {host: modules executed on it}
    run = run_playbook("site.yml", inventory=..., extra_vars={"overlay_mode": "moon"}, succeeds=False)
    assert "overlay_mode" in run.messages

A run with a deprecation warning, or with a warning that is not named in `warnings`, fails whatever else it does, and so
does a run that loads another copy of the collection than this checkout.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Iterable, Mapping

from tests.provenance import compare

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".build" / "logs" / "runs"
CONTROLLER = ("localhost", "127.0.0.1", "::1")
_number = itertools.count(1)


@dataclasses.dataclass
class Task:
    """One task of a run: where it stands, how long it took, how it ended on each host."""

    name: str
    action: str
    path: str
    seconds: float = 0.0
    outcomes: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass
class Run:
    """What a run of ansible-playbook did."""

    returncode: int
    output: str
    seconds: float
    collection: str
    stats: dict[str, dict[str, int]]  # host -> ok, changed, unreachable, failures, skipped, rescued, ignored
    remote: dict[str, int]  # host -> modules executed on it; skips and what runs on the controller do not count
    commands: dict[str, int]  # host -> commands sent to it (a module is one with pipelining; raw is one too)
    modules: dict[str, list[str]]  # host -> names of the modules, in order
    tasks: list[Task]
    failures: dict[str, str]  # host -> its last failure's message
    log: Path

    @property
    def changed(self) -> dict[str, int]:
        """The hosts that changed, and by how many tasks."""
        return {host: stats["changed"] for host, stats in self.stats.items() if stats["changed"]}

    @property
    def changes(self) -> dict[str, list[str]]:
        """The tasks that changed something, and on which hosts; hosts are done in any order, and one by one in tasks of one name."""
        changed: dict[str, set[str]] = {}
        for task in self.tasks:
            changed.setdefault(task.name, set()).update(host for host, how in task.outcomes.items() if how == "changed")
        return {name: sorted(hosts) for name, hosts in changed.items() if hosts}

    @property
    def messages(self) -> str:
        """All failures' messages."""
        return "\n".join(f"{host}: {message}" for host, message in self.failures.items())

    @property
    def unreachable(self) -> list[str]:
        """The hosts that could not be reached."""
        return [host for host, stats in self.stats.items() if stats["unreachable"]]

    def slowest(self, number: int = 10) -> list[Task]:
        """The tasks that took longest."""
        return sorted(self.tasks, key=lambda task: -task.seconds)[:number]


def recording_environment(record: Path) -> dict[str, str]:
    """What makes any ansible-playbook below this process write its record there."""
    return {
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "overlay_record",
        "OVERLAY_RECORD": str(record),
    }


def environment(record: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a run: the checkout's ansible.cfg, and nothing that the caller has set for Ansible."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environ.update(
        {
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            # Warnings are wrapped at the terminal's width, and then no pattern finds them.
            "COLUMNS": "10000",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            **recording_environment(record),
            **(extra or {}),
        }
    )
    return environ


def read_record(record: Path) -> list[dict[str, Any]]:
    """The events of a record; the last line of a run that was killed may be half a line."""
    events = []
    for line in record.read_text().splitlines() if record.exists() else []:
        try:
            events.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return events


def of_kind(events: Iterable[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    """The events of some kinds."""
    return [event for event in events if event["event"] in kinds]


def timed_tasks(events: list[dict[str, Any]]) -> list[Task]:
    """The tasks with their times (until the last host is done) and outcomes."""
    tasks: dict[str, Task] = {}
    starts: dict[str, float] = {}
    for event in of_kind(events, "task", "result"):
        key = event["uuid"]
        if event["event"] == "task":
            tasks.setdefault(key, Task(event["name"], event["action"], event["path"]))
            starts[key] = event["time"]
        elif key in tasks:
            outcome = "changed" if event["outcome"] == "ok" and event.get("changed") else event["outcome"]
            tasks[key].outcomes[event["host"]] = outcome
            tasks[key].seconds = max(tasks[key].seconds, event["time"] - starts[key])
    return list(tasks.values())


def per_host(events: list[dict[str, Any]], kind: str) -> dict[str, list[str]]:
    """host -> the modules of its executions, without those on the controller."""
    found: dict[str, list[str]] = collections.defaultdict(list)
    for event in of_kind(events, kind):
        if event["host"] not in CONTROLLER:
            found[event["host"]].append(event["module"])
    return dict(found)


def warnings_in(output: str, allowed: Iterable[str] = ()) -> list[str]:
    """Deprecation warnings, and warnings that no pattern of `allowed` matches."""
    lines = [line for line in output.splitlines() if re.match(r"\[(DEPRECATION )?WARNING\]", line)]
    return [
        line
        for line in lines
        if line.startswith("[DEPRECATION") or not any(re.search(pattern, line) for pattern in allowed)
    ]


def playbook_command(
    playbook: str | Path, inventory: str | Path, extra_vars: Mapping[str, Any] | None, arguments: Iterable[str]
) -> list[str]:
    """The argv of ansible-playbook."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(playbook)]
    if extra_vars:
        command += ["-e", json.dumps(dict(extra_vars))]
    return command + list(arguments)


def summarize(returncode: int, output: str, seconds: float, record: Path, log: Path) -> Run:
    """Puts together what a run left behind."""
    events = read_record(record)
    starts, stats = of_kind(events, "start"), of_kind(events, "stats")
    bad = [event for event in of_kind(events, "result") if event["outcome"] in ("failed", "unreachable")]
    modules = per_host(events, "module")
    return Run(
        returncode=returncode,
        output=output,
        seconds=seconds,
        collection=starts[0]["collection"] if starts else "",
        stats=stats[-1]["hosts"] if stats else {},
        remote={host: len(names) for host, names in modules.items()},
        commands={host: len(names) for host, names in per_host(events, "command").items()},
        modules=modules,
        tasks=timed_tasks(events),
        failures={event["host"]: str(event.get("msg", "")) for event in bad},
        log=log,
    )


def check(run: Run, succeeds: bool | None, warnings: Iterable[str]) -> None:
    """Fails the test when the run is not what it has to be."""
    tail = f"\n{run.messages}\n... {run.output[-4000:]}\n(all of it: {run.log})"
    if succeeds is not None:
        assert (run.returncode == 0) is succeeds, f"the run ended with status {run.returncode}{tail}"
    found = warnings_in(run.output, warnings)
    assert not found, "unexpected warnings:\n" + "\n".join(found) + tail
    if run.collection:
        other = compare(ROOT, Path(run.collection))
        assert not other, "another copy of the collection ran:\n" + "\n".join(other)


def run_playbook(
    playbook: str | Path,
    *,
    inventory: str | Path = "inventories/lab",
    extra_vars: Mapping[str, Any] | None = None,
    arguments: Iterable[str] = (),
    succeeds: bool | None = True,
    warnings: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
    timeout: float = 1800,
) -> Run:
    """Run a playbook from the checkout. `succeeds=None` takes either end; `warnings` are patterns of expected ones."""
    with start_playbook(playbook, inventory=inventory, extra_vars=extra_vars, arguments=arguments, env=env) as running:
        return running.wait(timeout, succeeds=succeeds, warnings=warnings)


class Running:
    """A run in the background, for tests that do something to the hosts, or to the run, meanwhile."""

    def __init__(self, command: list[str], env: Mapping[str, str] | None) -> None:
        LOGS.mkdir(parents=True, exist_ok=True)
        name = f"{os.getpid()}-{next(_number):03d}-{Path(command[3]).stem}"
        self.record, self.log = LOGS / f"{name}.jsonl", LOGS / f"{name}.log"
        self.record.unlink(missing_ok=True)
        self.started = time.monotonic()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=environment(self.record, env),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # A group of its own, so that it can be ended with all its workers.
                start_new_session=True,
            )

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *unused: object) -> None:
        if self.process.poll() is None:
            self.kill()

    def kill(self) -> None:
        """End it as a machine that loses power would: the play, its workers, their connections."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def events(self) -> list[dict[str, Any]]:
        """What has happened so far."""
        return read_record(self.record)

    def wait_for_task(self, pattern: str, timeout: float = 600) -> None:
        """Returns as soon as a task whose name matches has started."""
        end = time.monotonic() + timeout
        while not any(re.search(pattern, event["name"]) for event in of_kind(self.events(), "task")):
            assert self.process.poll() is None, (
                f"the run ended before a task like {pattern!r}: {self.log.read_text()[-3000:]}"
            )
            assert time.monotonic() < end, f"no task like {pattern!r} within {timeout} s"
            time.sleep(0.1)

    def wait(self, timeout: float = 1800, *, succeeds: bool | None = True, warnings: Iterable[str] = ()) -> Run:
        """Waits for the end and checks it like run_playbook."""
        returncode = self.process.wait(timeout)
        seconds = time.monotonic() - self.started
        run = summarize(returncode, self.log.read_text(errors="replace"), seconds, self.record, self.log)
        check(run, succeeds, warnings)
        return run


def start_playbook(
    playbook: str | Path,
    *,
    inventory: str | Path = "inventories/lab",
    extra_vars: Mapping[str, Any] | None = None,
    arguments: Iterable[str] = (),
    env: Mapping[str, str] | None = None,
) -> Running:
    """Start a playbook and return at once; use it in a `with` statement, which ends it when the test fails."""
    return Running(playbook_command(playbook, inventory, extra_vars, arguments), env)
