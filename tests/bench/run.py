# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measures the budget on hosts of the lab: what `make bench` is.

Prints a table, writes .build/bench.json, ends with status 1 when a bound is missed. Times of different machines do not
compare, so every time is told as a multiple of another one of the same run. Both were measured with the same forks,
with pipelining, over ssh connections that were open before. `make bench HOSTS=30` adds a cluster of 30 hosts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.by_hand import PACKAGES, ByHand, LockedByHand
from tests.bench.lab import BUILD, BenchLab, Connections
from tests.bench.table import Row, table
from tests.e2e.support import Run

RESULT = BUILD.parent / "bench.json"
BASE = 3
EXECUTIONS, NO_CHANGE, BARE, TASKS, PINGS, SLACK = 25, 15.0, 1.75, 3, 3, 10.0
PREFLIGHT_EXECUTIONS, PREFLIGHT = 5, 6.0
# What a host more costs on a cluster of so many, over what it costs on one of three.
MANY, ADD = 20, 1.5
# A machine that is busier than this with other things measures those.
NOISE = 0.15


class Bench:
    """Rows of the table and the raw figures, as they come."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.rows: list[Row] = []
        self.raw: dict[str, Any] = {}
        self.noise: list[float] = []
        self.errors: list[str] = []

    def note(self, key: str, value: Any) -> Any:
        """Keep a figure, and show that something goes on."""
        self.raw.setdefault(key, []).append(round(value, 2) if isinstance(value, float) else value)
        print(f"  {key}: {value if not isinstance(value, float) else f'{value:.1f} s'}", flush=True)
        return value

    def slowest(self, key: str, run: Run) -> None:
        """Where the time of a run goes."""
        tasks = [
            {"task": task.name, "action": task.action, "seconds": round(task.seconds, 2)} for task in run.slowest(8)
        ]
        self.raw[f"{key} slowest"] = tasks
        self.raw[f"{key} in tasks"] = round(sum(task.seconds for task in run.tasks), 2)
        self.raw[f"{key} tasks"] = len([task for task in run.tasks if set(task.outcomes.values()) - {"skipped"}])

    def quiet(self) -> None:
        """How busy the machine is with other things, before something is measured."""
        before = cpu_times()
        time.sleep(1)
        idle, total = (after - early for after, early in zip(cpu_times(), before, strict=True))
        self.noise.append(round(1 - idle / total, 2))

    # What is measured

    def by_hand(self, connections: Connections, number: int, key: str = "by hand") -> float:
        """Bare hosts to containers that reach one another, by parallel ssh."""
        way = {"by hand": LockedByHand, "by hand, open": ByHand}[key]
        lab = BenchLab("benchhand", "10.88.41", number, connections)
        try:
            lab.up()
            lab.warm_packages(*PACKAGES)
            lab.ping()
            self.quiet()
            if "by hand" not in self.raw:
                self.preflight(lab, ", bare hosts")
            hand, used = way(lab), lab.processor_seconds()
            seconds = self.note(key, hand.build())
            self.note(f"{key}, processor", lab.processor_seconds() - used)
            self.note(f"{key}, steps", hand.seconds)
            return seconds
        finally:
            lab.down()

    def converge(self, lab: BenchLab, key: str) -> float:
        """Bare hosts to a verified cluster, by the collection."""
        self.note(f"{key} lab", lab.up().seconds)
        lab.warm_packages(*PACKAGES)
        lab.ping()
        self.quiet()
        used = lab.processor_seconds()
        run = lab.play("site.yml")
        self.note(f"{key}, processor", lab.processor_seconds() - used)
        self.slowest(key, run)
        return self.note(key, run.seconds)

    def no_change(self, lab: BenchLab, label: str) -> None:
        """A run on hosts that are in order, against pings."""
        pings, sites, executions = [], [], 0
        lab.ping()
        self.quiet()
        for _repeat in range(self.repeats):
            pings.append(self.note(f"ping{label}", lab.ping()))
            run = lab.play("site.yml")
            assert not run.changed, f"the second run changed {run.changed}, see {run.log}"
            sites.append(self.note(f"no-change site{label}", run.seconds))
            executions = max(executions, *run.remote.values())
        self.slowest(f"no-change site{label}", run)
        self.raw[f"no-change site{label} modules"] = run.modules[lab.hosts[0]]
        ping, site = statistics.median(pings), statistics.median(sites)
        self.rows.append(
            Row("executions" + label, f"no-change site{label}: remote executions per host", executions, EXECUTIONS)
        )
        self.rows.append(
            Row("no_change" + label, f"no-change site{label}: time over one ping", round(site / ping, 2), NO_CHANGE,
                " x", f"{site:.1f} s / {ping:.1f} s")
        )  # fmt: skip

    def preflight(self, lab: BenchLab, label: str) -> None:
        """Everything looked at and every path probed, against pings."""
        pings, times, executions = [], [], 0
        lab.ping()
        self.quiet()
        for _repeat in range(self.repeats):
            pings.append(self.note(f"ping{label}", lab.ping()))
            run = lab.play("playbooks/preflight.yml")
            times.append(self.note(f"preflight{label}", run.seconds))
            executions = max(executions, *run.remote.values())
        ping, seconds = statistics.median(pings), statistics.median(times)
        basis = f"{seconds:.1f} s / {ping:.1f} s"
        self.rows += [
            Row(
                "preflight executions" + label,
                f"preflight{label}: remote executions per host",
                executions,
                PREFLIGHT_EXECUTIONS,
            ),
            Row(
                "preflight" + label,
                f"preflight{label}: time over one ping",
                round(seconds / ping, 2),
                PREFLIGHT,
                " x",
                basis,
            ),
        ]

    def verification(self, lab: BenchLab, label: str) -> None:
        """All pairs: how many tasks, whether right with few forks too, how long."""
        expected = len(lab.hosts) * (len(lab.hosts) - 1)
        pings, times, tasks, proven = [], [], 0, expected
        lab.ping()
        self.quiet()
        for _repeat in range(self.repeats):
            pings.append(self.note(f"ping{label}", lab.ping()))
            run = lab.verify()
            times.append(self.note(f"verify{label}", run.seconds))
            tasks, proven = max(tasks, *run.remote.values()), min(proven, lab.pairs()[0])
        self.slowest(f"verify{label}", run)
        few = lab.verify("--forks=2")
        self.note(f"verify{label} with forks=2", few.seconds)
        tasks, few_proven = max(tasks, *few.remote.values()), lab.pairs()[0]
        ping, seconds = statistics.median(pings), statistics.median(times)
        over = round(max(0.0, seconds - PINGS * ping), 2)
        basis = f"{seconds:.1f} s - {PINGS} x {ping:.1f} s"
        self.rows += [
            Row("tasks" + label, f"verify{label}: remote executions per host", tasks, TASKS),
            Row("pairs" + label, f"verify{label}: ordered pairs proven", proven, expected, at_least=True),
            Row("pairs_forks_2" + label, f"verify{label}: the same with forks=2", few_proven, expected, at_least=True),
            Row("verify" + label, f"verify{label}: time over three pings", over, SLACK, " s", basis),
        ]

    def join(self, connections: Connections, number: int) -> float:
        """One bare host more on a cluster of so many."""
        lab, label = BenchLab("benchadd", "10.88.43", number + 1, connections), f"add_node, {number} hosts"
        lab.members = lab.hosts[:-1]
        try:
            self.converge(lab, f"site, before {label}")
            lab.members = list(lab.hosts)
            lab.write_inventory()
            lab.ping()
            self.quiet()
            run = lab.play("playbooks/add_node.yml", "-e", f"node={lab.hosts[-1]}")
            assert lab.pairs() == (2 * number, 0), f"{lab.pairs()} pairs are good and bad, see {run.log}"
            self.slowest(label, run)
            self.raw[f"{label} modules of another host"] = run.modules[lab.hosts[1]]
            return self.note(label, run.seconds)
        finally:
            lab.down()

    # The parts of the bench

    def small(self, connections: Connections, rounds: int, number: int = BASE) -> None:
        """The whole budget on three hosts."""
        hands, opens, sites = [], [], []
        lab = BenchLab("bench", "10.88.40", number, connections)
        try:
            for _round in range(rounds):
                # One after the other, and with only its own hosts up.
                lab.down()
                hands.append(self.by_hand(connections, number))
                opens.append(self.by_hand(connections, number, "by hand, open"))
                sites.append(self.converge(lab, "site"))
            hand, opened, site = (statistics.median(seconds) for seconds in (hands, opens, sites))
            used = [statistics.median(self.raw[f"{key}, processor"]) for key in ("site", "by hand")]
            basis = (
                f"{site:.1f} s / {hand:.1f} s (processor: {used[0]:.0f} s / {used[1]:.0f} s);"
                f" over an open cluster {site / opened:.2f} x ({opened:.1f} s)"
            )
            self.no_change(lab, "")
            self.preflight(lab, ", joined hosts")
            self.rows.append(
                Row(
                    "bare",
                    "bare hosts to verified cluster: time over by hand",
                    round(site / hand, 2),
                    BARE,
                    " x",
                    basis,
                )
            )
            self.verification(lab, "")
        finally:
            lab.down()

    def large(self, connections: Connections, number: int) -> None:
        """A cluster that costs minutes to make: by site itself, so that it is what a user has."""
        lab, label = BenchLab("benchlarge", "10.88.42", number, connections), f", {number} hosts"
        try:
            self.converge(lab, f"site{label}")
            self.no_change(lab, label)
            self.verification(lab, label)
            # What a user has: then no endpoint has to be started for the proof.
            ByHand(lab).step("containers", ByHand(lab).container)
            self.verification(lab, f"{label} with a container each")
        finally:
            lab.down()

    def add(self, connections: Connections, number: int) -> None:
        """What a host more costs on a large cluster, over a small one."""
        few, many = (self.join(connections, hosts) for hosts in (BASE, number))
        basis = f"{many:.1f} s / {few:.1f} s"
        words = f"add_node to {number} hosts: time over {BASE} hosts"
        self.rows.append(Row("add", words, round(many / few, 2), ADD, " x", basis))

    def result(self, hosts: int) -> dict[str, Any]:
        """For the JSON."""
        return {
            "schema_version": 1,
            "hosts": hosts,
            "met": not self.errors and all(row.met for row in self.rows),
            "rows": [row.as_dict() for row in self.rows],
            "errors": self.errors,
            "busy_before": self.noise,
            "raw": self.raw,
        }


def cpu_times() -> tuple[float, float]:
    """Idle and all time of all processors so far."""
    fields = [float(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return fields[3] + fields[4], sum(fields)


def hints(bench: Bench, hosts: int) -> list[str]:
    """What one has to know to read the table, and where the time went."""
    lines = []
    if hosts <= BASE:
        lines.append(
            "The figures of 30 hosts are measured apart, by make bench HOSTS=30; the last are in docs/performance.md."
        )
    if bench.noise and max(bench.noise) > NOISE:
        lines.append(
            f"Other work took up to {max(bench.noise):.0%} of the processors before a measurement: not reliable."
        )
    for key in [key for key in bench.raw if key.endswith(" slowest")]:
        lines += ["", f"{key} tasks:", *(f"  {task['seconds']:7.2f} s  {task['task']}" for task in bench.raw[key])]
    return lines


def report(bench: Bench, hosts: int) -> int:
    """Table, file, status."""
    RESULT.write_text(json.dumps(bench.result(hosts), indent=2) + "\n")
    print("\n" + table(bench.rows) + "\n", *hints(bench, hosts), sep="\n")
    missed = sum(not row.met for row in bench.rows) + len(bench.errors)
    print(*(f"NOT MEASURED: {error}" for error in bench.errors), sep="\n")
    print(f"===== {f'{missed} failed, ' if missed else ''}{sum(row.met for row in bench.rows)} passed (bounds) =====")
    return 1 if missed or not bench.rows else 0


def measure(bench: Bench, part: Callable[..., None], *arguments: Any) -> None:
    """A part of the bench; what it has measured before it failed is told all the same."""
    try:
        part(*arguments)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        bench.errors.append(str(error))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    hosts = int(os.environ.get("HOSTS") or BASE)
    parser.add_argument("--hosts", type=int, default=hosts, help="more than 3: also measure so many (variable HOSTS)")
    parser.add_argument("--rounds", type=int, default=1, help="how often to begin with bare hosts; the median counts")
    parser.add_argument("--repeats", type=int, default=3, help="how often to measure the rest; the median counts")
    parser.add_argument("--only", choices=["small", "large", "add"], help="leave out the rest")
    return parser.parse_args()


def main() -> int:
    """Measure, tell."""
    options = arguments()
    BUILD.mkdir(parents=True, exist_ok=True)
    bench = Bench(options.repeats)
    with Connections() as connections:
        if options.only == "add":
            measure(bench, bench.add, connections, options.hosts if options.hosts > BASE else MANY)
        if options.only in (None, "small"):
            measure(bench, bench.small, connections, options.rounds)
        if options.only in (None, "large") and options.hosts > BASE:
            measure(bench, bench.large, connections, options.hosts)
    return report(bench, options.hosts)


if __name__ == "__main__":
    sys.exit(main())
