# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which copy of the collection would run? Compares what Ansible's loader finds with this checkout.

As a program (`python -m tests.provenance [COPY]`) it tells of the environment it runs in, or of COPY, a directory
that should be a copy of the checkout; status 1 when anything differs. With `--copy COPY` it makes such a copy.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Iterator

HERE = Path(__file__).resolve().parents[1]
PARTS = ("plugins", "roles", "playbooks")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sources(root: Path) -> Iterator[Path]:
    """Every file of the collection that Ansible may load, relative to its root."""
    for part in PARTS:
        for folder, names, files in os.walk(root / part):
            names[:] = sorted(name for name in names if name != "__pycache__")
            for name in sorted(files):
                if not name.endswith((".pyc", ".pyo")):
                    yield (Path(folder) / name).relative_to(root)


def compare(root: Path, copy: Path) -> list[str]:
    """What differs between the checkout and a directory that should hold the same."""
    if root.resolve() == copy.resolve():
        return []
    mine = {path: digest(root / path) for path in sources(root)}
    theirs = {path: digest(copy / path) for path in sources(copy)}
    return [
        f"{copy / path}: {'missing' if path not in theirs else 'differs' if path in mine else 'not in the checkout'}"
        for path in sorted(mine.keys() | theirs.keys())
        if mine.get(path) != theirs.get(path)
    ]


def project_files(root: Path) -> list[Path]:
    """Every file of the project, committed or about to be; not what tools and tests leave behind."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    paths = {Path(name) for name in listing.split("\0") if name}
    return sorted(path for path in paths if (root / path).exists() and path.parts[0] != ".collections")


def copy_project(root: Path, copy: Path, keep: tuple[str, ...] = ()) -> None:
    """Make `copy` hold the project's files and nothing else, except the folders named in `keep`."""
    wanted = project_files(root)
    for folder, names, files in os.walk(copy):
        here = Path(folder).relative_to(copy)
        names[:] = [name for name in names if str(here / name) not in keep]
        for path in (here / name for name in files):
            if path not in wanted:
                (copy / path).unlink()
    for path in wanted:
        target = copy / path
        if (
            not target.exists()
            or digest(target) != digest(root / path)
            or target.stat().st_mode != (root / path).stat().st_mode
        ):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, target)


def loaded_from(environ: dict[str, str], cwd: Path) -> list[Path]:
    """Every place from which Ansible, run with this environment, may load the collection; the first one wins."""
    listing = subprocess.run(
        [
            str(Path(sys.executable).with_name("ansible-galaxy")),
            "collection",
            "list",
            "--format=json",
            "multihost.overlay",
        ],
        env=environ,
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        return []
    return [Path(place) / "multihost" / "overlay" for place in json.loads(listing.stdout)]


def differences(root: Path = HERE, environ: dict[str, str] | None = None) -> list[str]:
    """What is wrong with the collection that would be loaded; empty when it is this checkout, byte for byte."""
    environ = dict(os.environ) if environ is None else environ
    places = loaded_from(environ, root)
    if not places:
        return [f"Ansible does not find multihost.overlay (ANSIBLE_CONFIG={environ.get('ANSIBLE_CONFIG', '')})"]
    return compare(root, places[0])


def main() -> int:
    """Copy, or say what differs."""
    arguments = sys.argv[1:]
    if arguments[:1] == ["--copy"]:
        copy_project(HERE, Path(arguments[1]))
        return 0
    found = compare(HERE, Path(arguments[0])) if arguments else differences()
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
