# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds the Pythons of this machine that really run, those of version managers included.

As a program (`python -m tests.pythons 3.13`) it prints the path of that version; status 1 when there is none.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# ansible-core 2.19 runs modules on the first to the last but one of these, core 2.21 on the second to the last.
VERSIONS = tuple(f"3.{minor}" for minor in range(8, 15))
ASK = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"


def folders() -> list[Path]:
    """PATH, then where version managers keep interpreters; of several patch releases the newest comes first."""
    managed = [
        (Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions", "{}*"),
        (Path.home() / ".local/share/uv/python", "cpython-{}*"),
        (Path.home() / ".asdf/installs/python", "{}*"),
    ]
    found = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    for place, pattern in managed:
        for version in VERSIONS:
            found += sorted((folder / "bin" for folder in place.glob(pattern.format(version + "."))), reverse=True)
    return found


def answers(python: Path, version: str) -> bool:
    """Whether it runs, is what its name says and can make virtual environments: a version manager's shim may not."""
    try:
        said = subprocess.run([str(python), "-c", ASK], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.stdout.strip() == version


def find(version: str) -> Path | None:
    """The first working interpreter of a version, apart from virtual environments of this checkout."""
    for folder in folders():
        python = folder / f"python{version}"
        in_venv = (folder.parent / "pyvenv.cfg").exists()
        if python.exists() and not in_venv and answers(python, version):
            return python
    return None


def main() -> int:
    """Print the path of the version asked for."""
    python = find(sys.argv[1])
    if python:
        print(python)
    return 0 if python else 1


if __name__ == "__main__":
    sys.exit(main())
