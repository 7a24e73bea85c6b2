# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Rules about the archive that users install."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ANSIBLE_GALAXY = str(Path(sys.executable).with_name("ansible-galaxy"))
# First parts of paths that belong into it; whatever else turns up has been forgotten in build_ignore.
WANTED = {
    "CHANGELOG.rst", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "changelogs", "docs",
    "inventories", "meta", "playbooks", "plugins", "requirements.txt", "roles",
}  # fmt: skip
NEEDED = (
    "LICENSE",
    "README.md",
    "CHANGELOG.rst",
    "meta/runtime.yml",
    "playbooks/site.yml",
    "changelogs/changelog.yaml",
)


def built(root: Path) -> set[str]:
    """The names in the archive that ansible-galaxy builds from a folder."""
    with tempfile.TemporaryDirectory() as folder:
        command = [ANSIBLE_GALAXY, "collection", "build", "--output-path", folder]
        subprocess.run(command, cwd=root, check=True, capture_output=True, text=True)
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            names = {member.name for member in archive if not member.isdir()}
            manifest = archive.extractfile("MANIFEST.json")
            assert manifest is not None
            assert json.load(manifest)["collection_info"]["name"] == "overlay"
    return names


def archive_holds_the_collection(root: Path) -> list[str]:
    """No tests, no tools and no leftovers in it, and nothing missing."""
    names = built(root)
    found = [
        f"galaxy archive: {name} does not belong there" for name in sorted(names) if name.split("/")[0] not in WANTED
    ]
    found += [f"galaxy archive: {name}" for name in sorted(names) if "__pycache__" in name or "inventories/lab" in name]
    return found + [f"galaxy archive: {name} is missing" for name in NEEDED if name not in names]
