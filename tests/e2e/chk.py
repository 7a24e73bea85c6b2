# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The hosts of lab `chk`, on which things are broken on purpose, and what preflight and doctor say of them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.cluster import Cluster
from tests.e2e import shared
from tests.e2e.support import ROOT, Run, run_playbook

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "chk.yml"
HOSTS = ("node1", "node2", "node3")
DEBIAN12 = "node4"
PLAYBOOKS = {"preflight": "playbooks/preflight.yml", "doctor": "playbooks/doctor.yml"}
DAEMON_JSON = "/etc/docker/daemon.json"
# With it the hosts stay, and the next run takes them as they are: for who works on a suite.
KEEP = "OVERLAY_KEEP_CHK"

Inventory = dict[str, Any]
Change = Callable[[Inventory], None]
Trouble = set[tuple[str, str]]


@contextmanager
def lab() -> Iterator[Cluster]:
    """The hosts, bare. What an earlier run left is removed first."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("chk", [*HOSTS, DEBIAN12])
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def variation(folder: Path, *changes: Change) -> Path:
    """The inventory with something changed in it."""
    return shared.variation(folder, *changes, base=INVENTORY)


def host_variables(name: str, **values: Any) -> Change:
    """Variables of one host."""
    return lambda inventory: inventory["overlay_lab"]["hosts"][name].update(values)


def check(verb: str, report: Path, **options: Any) -> Run:
    """Run preflight or doctor; it only reports, so that a test can look at everything."""
    extra = {"overlay_report_dir": str(report), f"overlay_{verb}_fail_on": "never", **options.pop("extra_vars", {})}
    # What single hosts are blamed for is looked at here; the paths between them have a suite of their own.
    extra.setdefault("overlay_preflight_probe", False)
    options.setdefault("inventory", INVENTORY)
    return run_playbook(PLAYBOOKS[verb], extra_vars=extra, **options)


def findings(report: Path, verb: str) -> list[dict[str, str]]:
    """What the report has."""
    rows: list[dict[str, str]] = json.loads((report / f"{verb}.json").read_text())["findings"]
    return rows


def trouble(report: Path, verb: str) -> Trouble:
    """(host, check id) of all errors and warnings."""
    return {(row["host"], row["id"]) for row in findings(report, verb) if row["level"] != "info"}
