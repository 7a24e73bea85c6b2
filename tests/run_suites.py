# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs every suite, goes on when one fails, and ends with a table of results and times: what `make test` is.

Suites that make no hosts run two at a time. The output is shown as it comes, each line with its suite, and kept in .build/logs; the
table is kept as .build/test-results.json too. Suites can be named: `python -m tests.run_suites lint unit`.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests import stream

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build"
# Cheap and telling ones first. Each is a target of the Makefile.
SUITES = ("lint", "unit", "meta", "cores", "sanity", "molecule", "e2e")
LONG = ("faults", "bench")
# They make no hosts, so that only their processors have to be shared.
HOSTLESS = ("lint", "unit", "meta", "cores", "sanity")
AT_A_TIME = 2
# Lines of a failed suite that are printed again at the end.
LAST_WORDS = 30
TOTALS = re.compile(r"(\d+ (?:passed|failed|errors?|skipped|xfailed|deselected)\b.*?)(?: in [\d.]+s.*?)?=*$")


def details_of(output: str) -> str:
    """What a suite says of itself: its last line of totals, or that it did not run and why."""
    lines = [line.strip() for line in output.splitlines()]
    not_run = [line for line in lines if line.startswith("NOT RUN")]
    totals = [found.group(1) for line in lines if line.startswith("=") and (found := TOTALS.search(line.strip("= ")))]
    return "; ".join(not_run + totals[-1:])


class Result(NamedTuple):
    """How a suite ended."""

    suite: str
    passed: bool
    seconds: float
    details: str


def log_of(suite: str) -> Path:
    return BUILD / "logs" / f"{suite}.log"


def run(suite: str) -> Result:
    """One suite: shown, kept, timed."""
    started = time.monotonic()
    status, output = stream.run(["make", "--no-print-directory", suite], log_of(suite), ROOT, label=f"{suite} | ")
    return Result(suite, status == 0, round(time.monotonic() - started, 1), details_of(output))


def run_all(suites: list[str]) -> list[Result]:
    """Those without hosts first, the others one after another."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        hostless = list(pool.map(run, [suite for suite in suites if suite in HOSTLESS]))
    return hostless + [run(suite) for suite in suites if suite not in HOSTLESS]


def last_words(results: list[Result]) -> list[str]:
    """How each suite that failed ended: by the time the table is printed, the output of others stands between."""
    lines = []
    for result in results:
        if not result.passed:
            lines += [f"===== {result.suite} ended with", *log_of(result.suite).read_text().splitlines()[-LAST_WORDS:]]
    return lines


def table(results: list[Result], seconds: float) -> list[str]:
    """A line for each suite, and how long all took."""
    lines = [
        f"{result.suite:<10} {'passed' if result.passed else 'FAILED':<7} {result.seconds:>8.1f} s  {result.details}"
        for result in results
    ]
    failed = sum(not result.passed for result in results)
    counts = f"{failed} failed, " if failed else ""
    return ["===== results", *lines, f"===== {counts}{len(results) - failed} passed in {seconds:.1f} s"]


def main() -> int:
    """Run, sum up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also the suites that take longer")
    parser.add_argument("suites", nargs="*", help="only these")
    options = parser.parse_args()
    suites = options.suites or [*SUITES, *(LONG if options.long else ())]
    started = time.monotonic()
    # Before two of them want it.
    subprocess.run(["make", "--no-print-directory", "venv"], cwd=ROOT, check=True)
    results = run_all(suites)
    (BUILD / "test-results.json").write_text(json.dumps([result._asdict() for result in results], indent=2) + "\n")
    print("", *last_words(results), *table(results, time.monotonic() - started), sep="\n")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
