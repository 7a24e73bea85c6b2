# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A browser without a window, for pages that lie in files. It notes what it complains about and what it asks for."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PATIENCE = 60
# As root Chromium has no sandbox; a container's /dev/shm may be too small for it.
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--window-size=1280,1000",
    # Whoever asks for anything else than a file gets nothing.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)
# The colours of an element's text, and of what is painted behind it.
COLOURS = """
let element = arguments[0], own = getComputedStyle(element), back = null;
for (let at = element; at && !back; at = at.parentElement) {
  const colour = getComputedStyle(at).backgroundColor;
  if (!/, 0\\)$/.test(colour)) back = colour;
}
return [own.color, back || getComputedStyle(document.documentElement).backgroundColor];
"""


class Browser:
    """One tab."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, page: Path, scheme: str = "light") -> None:
        """Show a page as somebody sees it who prefers light or dark ones."""
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(page.as_uri())
        self.wait(lambda: self.driver.execute_script("return document.readyState") == "complete")

    def wait(self, condition: Callable[[], Any]) -> Any:
        """The first true value, within bounds."""
        return WebDriverWait(self.driver, PATIENCE, poll_frequency=0.1).until(lambda _driver: condition())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element("css selector", selector)

    def complaints(self) -> list[str]:
        """What stands in the console since the last time."""
        return [str(entry["message"]) for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """The URLs that were asked for since the last time."""
        messages = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
        return [params["request"]["url"] for params in sent]

    def contrast(self, element: WebElement) -> float:
        """Of an element's text with what is behind it, by WCAG 2."""
        text, back = self.driver.execute_script(COLOURS, element)
        lighter, darker = sorted((luminance(text), luminance(back)), reverse=True)
        return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    """Of rgb(r, g, b)."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@contextmanager
def browser() -> Iterator[Browser]:
    """Debian's Chromium; nothing is fetched, and its profile goes with it."""
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    assert all(programs.values()), f"{programs}: .ci/system-packages browser installs what is missing"
    options = ChromeOptions()
    options.binary_location = str(programs["chromium"])
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = Chrome(options=options, service=ChromeService(executable_path=str(programs["chromedriver"])))
    try:
        driver.set_page_load_timeout(PATIENCE)
        yield Browser(driver)
    finally:
        driver.quit()
