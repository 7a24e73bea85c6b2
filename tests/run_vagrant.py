# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs the scenario `vagrant` on virtual machines, and takes them off this machine however it ends: what `make test-vagrant` is.

KVM is used where a guest runs with it, plain QEMU where not. Without OVERLAY_VAGRANT_BOX (the name of a box that Vagrant can fetch) .ci/box
builds one. The times of the steps are the last thing printed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests import run_molecule
from tests.run_suites import Result, table
from tests.vagrant.libvirt import guests_run, lacks, libvirt
from tests.vagrant.machines import FOLDER

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / ".build" / "vagrant"
STATE = FOLDER / ".vagrant"
# That the machines are the scenario's, and no user's.
OURS = STATE / "made-by-tests"
# What a run that was killed has left goes first.
STEPS = ("destroy", "create", "prepare", "converge", "idempotence", "verify")
MEMORY = 4 * 1024 + 512


def somebody_elses() -> list[str]:
    """Machines of the quick start that a user has up: they have the same names and addresses."""
    made = [] if OURS.exists() else sorted(path.parts[-3] for path in STATE.glob("machines/*/*/id"))
    return [f"would destroy your own {', '.join(made)}: first (cd {FOLDER} && vagrant destroy)"] if made else []


def environment(driver: str) -> dict[str, str]:
    """What Vagrant is told, beside what the caller has told it."""
    folder = os.environ.get("OVERLAY_VAGRANT_DIR", "/var/lib/multihost-overlay-vagrant")
    return {
        # The processes of machines have a user of their own, who cannot look into root's home.
        "VAGRANT_HOME": f"{folder}/home",
        "VAGRANT_DEFAULT_PROVIDER": "libvirt",
        "VAGRANT_CHECKPOINT_DISABLE": "1",
        "VAGRANT_BOX_UPDATE_CHECK_DISABLE": "1",
        "OVERLAY_VAGRANT_DRIVER": driver,
    }


def driver() -> str:
    """What libvirt is to run the machines with."""
    for accelerator, name, seconds in (("kvm", "kvm", 5), ("tcg", "qemu", 60)):
        if guests_run(accelerator, seconds):
            print(f"The machines run with {name}", flush=True)
            return name
    raise SystemExit("make test-vagrant cannot run here: QEMU runs no guest, neither with KVM nor without")


def box() -> None:
    """Our own where none is named."""
    if os.environ.get("OVERLAY_VAGRANT_BOX"):
        return
    program = str(ROOT / ".ci" / "box")
    name = subprocess.run([program, "--name"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    file = subprocess.run([program], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    listed = subprocess.run(["vagrant", "box", "list"], stdout=subprocess.PIPE, text=True, check=True).stdout
    known = {line.split()[0] for line in listed.splitlines() if line.startswith("overlay-bullseye-")}
    if name not in known:
        subprocess.run(["vagrant", "box", "add", "--name", name, file], check=True)
    for old in known - {name}:
        subprocess.run(["vagrant", "box", "remove", "--force", old], check=True)
    os.environ["OVERLAY_VAGRANT_BOX"] = name


def molecule(step: str) -> Result:
    """One step of the scenario: shown, kept, timed, and seen to have run this checkout."""
    started = time.monotonic()
    wrong = run_molecule.run("vagrant", step)
    return Result(step, not wrong, round(time.monotonic() - started, 1), "; ".join(wrong))


def steps() -> Iterator[Result]:
    """The steps until one fails, and the end in any case."""
    try:
        for step in STEPS:
            result = molecule(step)
            yield result
            if not result.passed:
                break
    finally:
        end = molecule("destroy")
        if end.passed:
            OURS.unlink(missing_ok=True)
    yield end._replace(suite="end")


def main() -> int:
    """Run, clean up, sum up."""
    if found := lacks(MEMORY) + somebody_elses():
        print("make test-vagrant cannot run here. It " + "; it ".join(found), file=sys.stderr)
        return 1
    os.chdir(ROOT)
    # So that the machines go too when CI ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    started = time.monotonic()
    os.environ.update(environment(driver()))
    results = []
    with libvirt(BUILD):
        box()
        results.append(Result("box", True, round(time.monotonic() - started, 1), os.environ["OVERLAY_VAGRANT_BOX"]))
        STATE.mkdir(exist_ok=True)
        OURS.touch()
        results += steps()
    print("", *table(results, time.monotonic() - started), sep="\n")
    return 0 if all(result.passed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
