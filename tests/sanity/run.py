# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs `ansible-test sanity` on a copy of the checkout, without ignores and without touching the caller's home.

ansible-test insists on a folder really named ansible_collections/multihost/overlay. The copy stays in .build, and with
it ansible-test's virtual environments: the second run takes seconds. Arguments are handed on to
`ansible-test sanity`: `python -m tests.sanity.run --test pep8`.

What ansible-test tries per Python version (compile, import) it tries on each one that this machine has.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests import pythons
from tests.provenance import compare, copy_project

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / ".build" / "sanity"
COPY = BUILD / "ansible_collections" / "multihost" / "overlay"
HOME = BUILD / "home"
# The names under which ansible-test of core 2.18/2.19 and of 2.20/2.21 looks for the script that installs pip.
GET_PIP = ("get_pip_24_2.py", "get_pip_25_2.py")


def prepare_home() -> None:
    """A home of its own for ansible-test, with pip's way to its packages taken over from the caller's."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in GET_PIP:
        shutil.copy2(ROOT / "tests" / "sanity" / "get_pip.py", cache / name)
    for place in (".config/pip", ".pip", ".cache/pip"):
        caller, link = Path.home() / place, HOME / place
        if caller.exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(caller)


def search_path() -> str:
    """PATH with the interpreters that run in front, and without folders whose python3.x is a shim that leads nowhere.

    ansible-test takes the first python3.x on PATH and gives up altogether when that one does not run.
    """
    folder = BUILD / "bin"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    lacking = []
    for version in pythons.VERSIONS:
        if found := pythons.find(version):
            (folder / f"python{version}").symlink_to(found)
        else:
            lacking.append(version)
    print(f"Pythons that are not on this machine and not tried: {' '.join(lacking) or 'none'}", flush=True)
    entries = [Path(entry) for entry in os.environ["PATH"].split(os.pathsep) if entry]
    return os.pathsep.join(str(entry) for entry in [folder, *entries] if entry == folder or not leads_nowhere(entry))


def leads_nowhere(folder: Path) -> bool:
    """Whether any python3.x there does not run."""
    candidates = {version: folder / f"python{version}" for version in pythons.VERSIONS}
    return any(python.exists() and not pythons.answers(python, version) for version, python in candidates.items())


def main() -> int:
    """Copy, check the copy, run."""
    if list(ROOT.glob("tests/sanity/ignore-*.txt")):
        sys.exit("tests/sanity/ignore-*.txt: nothing is ignored here, mend what sanity finds instead")
    copy_project(ROOT, COPY, keep=(".git", "tests/output"))
    # ansible-test asks git for the files. The checkout's own git would say that all of .build is ignored.
    subprocess.run(["git", "init", "--quiet"], cwd=COPY, check=True)
    if stale := compare(ROOT, COPY):
        sys.exit("\n".join(stale))
    prepare_home()
    command = [str(Path(sys.executable).with_name("ansible-test")), "sanity", "--venv", "--color", "no", *sys.argv[1:]]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    environ.update(HOME=str(HOME), PATH=search_path())
    return subprocess.run(command, cwd=COPY, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
