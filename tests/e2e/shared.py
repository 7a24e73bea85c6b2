# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster that several of these suites share, and variations of its inventory."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster, wait_for
from tests.e2e.support import ROOT, Run, run_playbook

HOSTS = ("node1", "node2", "node3")
NETWORKS = ("frontend", "backend")
INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "e2e" / "hosts.yml"
PAIRS = [(source, target) for source in HOSTS for target in HOSTS if source != target]
# Nobody in the lab has this address.
NOBODY = "10.88.20.14"

Inventory = dict[str, Any]


def variation(folder: Path, *changes: Callable[[Inventory], None], base: Path = INVENTORY) -> Path:
    """The cluster's inventory, or that of another suite, with something changed in it."""
    inventory = yaml.safe_load(base.read_text())
    for change in changes:
        change(inventory)
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump(inventory))
    return path


def variables(**values: Any) -> Callable[[Inventory], None]:
    """Change variables of all hosts."""
    return lambda inventory: inventory["all"]["vars"].update(values)


def converge(report: Path, **options: Any) -> Run:
    """site.yml on the cluster, or on a variation of it."""
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook("site.yml", inventory=options.pop("inventory", INVENTORY), extra_vars=extra, **options)


def verify(report: Path, **options: Any) -> Run:
    """The proof alone."""
    extra = {"overlay_report_dir": str(report), **options.pop("extra_vars", {})}
    return run_playbook("playbooks/verify.yml", inventory=INVENTORY, extra_vars=extra, **options)


def read(report: Path, name: str) -> dict[str, Any]:
    """A report."""
    content: dict[str, Any] = json.loads((report / name).read_text())
    return content


def bad_pairs(report: Path) -> set[tuple[str, str, str]]:
    """(network, from, to) of the pairs that failed."""
    return {
        (pair["network"], pair["from"], pair["to"]) for pair in read(report, "verify.json")["pairs"] if not pair["ok"]
    }


def leftovers(cluster: Cluster, *, places: bool = True) -> list[str]:
    """Containers, images and directories of a proof that are still on hosts."""
    asked = [
        ["docker", "ps", "-aq", "--filter", "label=multihost.overlay.verify"],
        ["docker", "images", "-q", "--filter", "label=multihost.overlay.verify"],
        ["docker", "ps", "-aq", "--filter", "name=overlay-verify"],
    ]
    if places:
        asked.append(["find", "/run/multihost-overlay", "-mindepth", "1", "-maxdepth", "1", "-type", "d"])
    found = []
    for host in cluster.hosts:
        for argv in asked:
            said = cluster.run(host, *argv, check=False).stdout.split()
            found += [f"{host}: {' '.join(argv[:2])}: {word}" for word in said]
    return found


def wait_until_gone(cluster: Cluster, seconds: float, *, places: bool = True) -> None:
    """Until nothing of a proof is left."""
    wait_for("nothing left of the proof", lambda: not leftovers(cluster, places=places), seconds, every=2)
