# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""html_report: what it reads, writes and warns of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.multihost.overlay.plugins.action import html_report
from tests import reports


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """What is shown, and what is warned of."""
    words: dict[str, list[str]] = {"warning": [], "display": []}
    for kind, texts in words.items():
        monkeypatch.setattr(html_report.Display, kind, lambda _self, text, texts=texts, **_unused: texts.append(text))
    return words


def run(folder: Path, topology: dict[str, Any]) -> dict[str, Any]:
    return html_report.make({**topology, "report_dir": str(folder), "refused": False})


def test_page_and_metrics(tmp_path: Path, said: dict[str, list[str]]) -> None:
    result = run(tmp_path, reports.healthy(tmp_path))
    assert (result["changed"], result.get("failed"), result["summary"]["state"]) == (False, None, "good")
    page = tmp_path / "report.html"
    assert result["path"] == str(page)
    assert "<h1>Overlay report</h1>" in page.read_text(encoding="utf-8")
    assert "multihost_overlay_verify_pair_ok" in (tmp_path / "overlay.prom").read_text(encoding="utf-8")
    assert page.stat().st_mode & 0o777 == 0o644
    assert said["warning"] == []
    assert str(page) in said["display"][0]
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".")]


def test_nothing_is_there_yet(tmp_path: Path, said: dict[str, list[str]]) -> None:
    result = run(tmp_path / "new", reports.topology(["a", "b"]))
    assert result["summary"]["state"] == "unknown"
    assert (tmp_path / "new" / "report.html").exists()
    assert said["warning"] == []


def test_what_cannot_be_read_is_a_warning(tmp_path: Path, said: dict[str, list[str]]) -> None:
    topology = reports.healthy(tmp_path)
    (tmp_path / "verify.json").write_bytes(b"\xff\xfe not json")
    (tmp_path / "doctor.json").unlink()
    (tmp_path / "doctor.json").mkdir()
    result = run(tmp_path, topology)
    assert result["summary"]["sources"] == {"verify": "unknown", "preflight": "good", "doctor": "unknown"}
    assert [text.split()[0] for text in said["warning"]] == ["verify.json", "doctor.json"]
    assert "verify.json is not JSON" in (tmp_path / "report.html").read_text(encoding="utf-8")
