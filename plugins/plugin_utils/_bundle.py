# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts what was gathered of all hosts into one archive. Runs on the controller."""

from __future__ import annotations

import io
import json
import platform
import re
import tarfile
import time
from pathlib import Path
from typing import Any, Mapping

import yaml
from ansible.release import __version__ as ansible_version

from ansible_collections.multihost.overlay.plugins.module_utils._support import Redactor, cut
from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_whole
from ansible_collections.multihost.overlay.plugins.plugin_utils._preflight_report import said

NAME = "doctor.tar.gz"
REPORTS = ("doctor.json", "verify.json", "preflight.json")
MOST_OF_A_REPORT = 4 * 1024 * 1024

Results = Mapping[str, Mapping[str, Any]]


def collection_version() -> str:
    """Of an installed collection, or of a checkout."""
    root = Path(__file__).resolve().parents[2]
    if (root / "MANIFEST.json").exists():
        return str(json.loads((root / "MANIFEST.json").read_text())["collection_info"]["version"])
    return str(yaml.safe_load((root / "galaxy.yml").read_text())["version"])


def versions() -> dict[str, str]:
    """Of the controller's programs."""
    return {
        "multihost.overlay": collection_version(),
        "ansible-core": ansible_version,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def host_files(name: str, support: Mapping[str, Any], doctor: Mapping[str, Any], redact: Redactor) -> dict[str, str]:
    """Path in the archive -> text, for one host."""
    folder = f"hosts/{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"
    found = {f"{folder}/{path}": text for path, text in support.get("files", {}).items()}
    seen = {part: doctor[part] for part in ("findings", "store_findings", "facts") if part in doctor}
    found[f"{folder}/host_doctor.json"] = redact(json.dumps(seen or {"failed": said(doctor)}, indent=1) + "\n")
    return found


def contents(results: Results, doctors: Results, report_dir: str, redact: Redactor) -> tuple[dict[str, str], list[str]]:
    """Path -> text of all files, and in words what is cut or missing."""
    found, notes = {"controller/versions.json": json.dumps(versions(), indent=1) + "\n"}, []
    for host, support in results.items():
        found.update(host_files(host, support, doctors[host], redact))
        notes += [f"{host}: {name} is cut" for name in support.get("cut", [])]
        notes += [f"{host}: no {name}: {why}" for name, why in support.get("missing", {}).items()]
        notes += [] if "files" in support else [f"{host}: nothing was gathered: {redact(said(support))}"]
    for name in REPORTS:
        path = Path(report_dir).expanduser() / name
        if path.exists():
            text, is_cut = cut(redact(path.read_text(errors="replace")), MOST_OF_A_REPORT, False)
            found[f"controller/{name}"] = text
            notes += [f"controller: {name} is cut"] if is_cut else []
    return found, notes


def archive(files: Mapping[str, str], now: float) -> bytes:
    """A compressed tar of the files, below a folder of its own."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for path, text in sorted(files.items()):
            data = text.encode("utf-8", "replace")
            member = tarfile.TarInfo(f"overlay-doctor/{path}")
            member.size, member.mode, member.mtime = len(data), 0o600, int(now)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def bundle(results: Results, doctors: Results, report_dir: str, secrets: list[str]) -> tuple[str, list[str]]:
    """Write the archive: its path, and what is cut or missing in it."""
    files, notes = contents(results, doctors, report_dir, Redactor(secrets))
    files["NOTES.txt"] = "".join(f"{note}\n" for note in notes) or "Nothing is cut and nothing is missing.\n"
    return write_whole(report_dir, NAME, archive(files, time.time()), 0o600), notes
