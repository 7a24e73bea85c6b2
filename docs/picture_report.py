# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Takes the pictures of docs/report.md: PYTHONPATH=. .venv/bin/python docs/picture_report.py REPORT.html PICTURE.webp [light|dark]."""

from __future__ import annotations

import base64
import sys
from pathlib import Path

from tests.e2e.browser import browser

# Of 0 to 100: text stays sharp, and a page of 30 hosts below 300 kB.
QUALITY = 80


def picture(page: Path, scheme: str) -> bytes:
    """The whole page, also what is below the window's edge."""
    with browser() as tab:
        tab.open(page.resolve(), scheme)
        size = tab.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        wanted = {
            "format": "webp",
            "quality": QUALITY,
            "captureBeyondViewport": True,
            "clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1},
        }
        return base64.b64decode(tab.driver.execute_cdp_cmd("Page.captureScreenshot", wanted)["data"])


def main() -> None:
    """Take one picture."""
    page, target, *scheme = sys.argv[1:]
    Path(target).write_bytes(picture(Path(page), *(scheme or ["light"])))


if __name__ == "__main__":
    main()
