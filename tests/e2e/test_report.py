# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as somebody sees it: pages in a browser, and what runs on hosts leave behind, also those that fail."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.remote.webelement import WebElement

from tests import reports
from tests.cluster import Cluster
from tests.e2e.browser import Browser, browser
from tests.e2e.shared import HOSTS, INVENTORY, NETWORKS, PAIRS, converge, verify
from tests.e2e.support import Run, run_playbook

# What WCAG 2.1 (AA) asks of text.
READABLE = 4.5


@pytest.fixture(scope="module")
def tab() -> Iterator[Browser]:
    """One browser for all pages."""
    with browser() as opened:
        yield opened


def inventory(folder: Path, topology: dict[str, Any]) -> Path:
    """An inventory of hosts that nobody can reach."""
    hosts = {host: {"ansible_host": address} for host, address in topology["addresses"].items()}
    groups = {
        "overlay_hosts": {"hosts": hosts},
        "overlay_store": {"hosts": {host: {} for host in topology["store_hosts"]}},
    }
    path = folder / "hosts.yml"
    path.write_text(yaml.safe_dump({**groups, "all": {"vars": {"ansible_ssh_executable": "/bin/false"}}}))
    return path


def made(folder: Path, topology: dict[str, Any], **options: Any) -> Run:
    """The playbook report, by which the page of a folder's reports is made."""
    extra = {"overlay_report_dir": str(folder)}
    return run_playbook("playbooks/report.yml", inventory=inventory(folder, topology), extra_vars=extra, **options)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """report.html of clusters that are in order, broken, and large."""
    found = {}
    for name, build, number in (
        ("healthy", reports.healthy, 3),
        ("broken", reports.broken, 3),
        ("large", reports.broken, 30),
    ):
        folder = tmp_path_factory.mktemp(name)
        run = made(folder, build(folder, number))
        assert (run.remote, run.changed) == ({}, {})
        found[name] = folder / "report.html"
    return found


def tooltip(tab: Browser, cell: WebElement) -> WebElement:
    return cell.find_element("css selector", ".words")


@pytest.mark.parametrize("name", ["healthy", "broken", "large"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_page_loads_and_asks_for_nothing(tab: Browser, pages: dict[str, Path], name: str, scheme: str) -> None:
    tab.complaints()
    tab.requests()
    tab.open(pages[name], scheme)
    assert tab.requests() == [pages[name].as_uri()]
    assert tab.complaints() == []
    # The page is not wider than what shows it.
    assert tab.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


@pytest.mark.parametrize(("name", "state"), [("healthy", "good"), ("broken", "bad"), ("large", "bad")])
def test_the_verdict_is_seen(tab: Browser, pages: dict[str, Path], name: str, state: str) -> None:
    tab.open(pages[name])
    assert tab.one(f".verdict.{state}").is_displayed()
    states = {
        row.find_element("css selector", "th").text: row.find_element("css selector", ".tag").text
        for row in tab.all("#sources tbody tr")
    }
    assert states == (
        {"verify": "✓ good", "preflight": "✓ good", "doctor": "✓ good"}
        if state == "good"
        else {"verify": "✗ bad", "preflight": "? unknown", "doctor": "✗ bad"}
    )


def test_every_pair_has_a_cell(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["large"])
    assert len(tab.all(".heat")) == 2
    assert len(tab.all(".heat td .cell")) == 2 * 30 * 29
    assert [len(tab.all(f"td.{state} .cell")) for state in ("bad", "unknown")] == [3, 58]
    # Small, all of one size, and not on top of one another.
    sizes = {
        (cell.rect["width"], cell.rect["height"])
        for cell in tab.all(".heat")[0].find_elements("css selector", ".cell")[:60]
    }
    assert sizes == {(22, 22)}
    assert tab.all(".heat")[0].rect["width"] < 1000


@pytest.mark.parametrize("name", ["broken", "large"])
def test_words_show_where_one_points(tab: Browser, pages: dict[str, Path], name: str) -> None:
    tab.open(pages[name])
    cell = tab.one("td.bad .cell")
    words = tooltip(tab, cell)
    assert not words.is_displayed()
    tab.driver.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", cell)
    ActionChains(tab.driver).move_to_element(cell).perform()
    tab.wait(words.is_displayed)
    for text in ("no_answer", "no packet from node1 arrived", "loss: 100 %", "rtt in ms: unknown"):
        assert text in words.text
    ActionChains(tab.driver).move_to_element(tab.one("h1")).perform()
    tab.wait(lambda: not words.is_displayed())


def test_words_show_by_the_keyboard(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["healthy"])
    first, second = tab.all(".cell")[:2]
    tab.driver.execute_script("arguments[0].focus()", tab.one(".counts a"))
    ActionChains(tab.driver).send_keys(Keys.TAB).perform()
    tab.wait(lambda: tab.driver.switch_to.active_element == first)
    assert tooltip(tab, first).is_displayed()
    for text in ("node1 → node2: good", "loss: 0 %", "p50", "p99", "path mtu: 1450"):
        assert text in tooltip(tab, first).text
    # It is its name for who hears the page.
    assert "node1 → node2: good" in first.accessible_name
    ActionChains(tab.driver).send_keys(Keys.TAB).perform()
    tab.wait(lambda: tooltip(tab, second).is_displayed())
    assert not tooltip(tab, first).is_displayed()


def test_the_picture_shows_what_is_broken(tab: Browser, pages: dict[str, Path]) -> None:
    tab.open(pages["broken"])
    titles = [title.get_attribute("textContent") for title in tab.all(".link.bad title")]
    assert titles == ["node1 → node3: bad on frontend", "node2 → node1: bad on frontend, backend"]
    texts = [text.text for text in tab.all(".topology text")]
    assert {"node1", "10.88.0.11", "store"} <= set(texts)
    assert tab.one(".topology").rect["height"] > 150
    tab.open(pages["healthy"])
    assert tab.all(".link.bad") == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_texts_can_be_read(tab: Browser, pages: dict[str, Path], scheme: str) -> None:
    """Contrast, wherever text of another colour or on another ground is."""
    seen: dict[str, float] = {}
    for page in pages.values():
        tab.open(page, scheme)
        selectors = [
            "p",
            ".made",
            "a",
            ".verdict p",
            ".old",
            ".faint",
            ".finding dd",
            ".finding dt",
            ".id",
            "summary",
            "li",
            ".pill",
            ".heat th",
        ]
        selectors += [f".tag.{kind}" for kind in ("good", "bad", "unknown", "error", "warning")]
        selectors += ["td.bad .cell", "td.unknown .cell", *[f"td.good.s{shade} .cell" for shade in range(5)]]
        for selector in selectors:
            found = tab.all(selector)
            if found:
                seen[selector] = min(seen.get(selector, 21.0), tab.contrast(found[0]))
    assert len(seen) == len(selectors), set(selectors) - set(seen)
    assert {selector: ratio for selector, ratio in seen.items() if ratio < READABLE} == {}
    assert tab.contrast(tab.one("body")) > 10


def test_light_and_dark_differ(tab: Browser, pages: dict[str, Path]) -> None:
    colours = []
    for scheme in ("light", "dark"):
        tab.open(pages["healthy"], scheme)
        colours.append(tab.one("body").value_of_css_property("background-color"))
    assert colours[0] != colours[1]


def test_a_small_screen_scrolls_tables_and_not_the_page(tab: Browser, pages: dict[str, Path]) -> None:
    size = tab.driver.get_window_size()
    tab.driver.set_window_size(600, 900)
    try:
        tab.open(pages["broken"])
        assert tab.driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    finally:
        tab.driver.set_window_size(size["width"], size["height"])


def test_markup_in_names_and_errors_is_text(tab: Browser, tmp_path: Path) -> None:
    hosts = reports.names(3)
    evil = {"error": reports.EVIL, "kind": reports.EVIL, reports.EVIL: reports.EVIL}
    rows = {(f"n{reports.EVIL}", hosts[0], hosts[1]): {**reports.LOST, **evil}}
    proof = reports.verify(hosts, rows, networks=[f"n{reports.EVIL}"])
    found = [reports.finding(reports.EVIL, reports.EVIL, "error", reports.EVIL)]
    reports.write(tmp_path, verify=proof, doctor=reports.findings(hosts, found))
    made(tmp_path, reports.topology(hosts))
    tab.complaints()
    tab.requests()
    tab.open(tmp_path / "report.html")
    assert (tab.complaints(), tab.requests()) == ([], [(tmp_path / "report.html").as_uri()])
    assert [tab.all(selector) for selector in ("script", "img", "[onfocus]", "[onerror]")] == [[], [], [], []]
    assert reports.EVIL.strip() in tab.one(".finding dd").text
    assert reports.EVIL.strip() in tab.one("td.error").text


def test_reports_that_cannot_be_used_are_named(tab: Browser, tmp_path: Path) -> None:
    topology = reports.healthy(tmp_path)
    (tmp_path / "verify.json").write_text(json.dumps({"schema_version": 99}))
    (tmp_path / "doctor.json").write_text("half a rep")
    run = made(tmp_path, topology, warnings=["schema_version is 99", "doctor.json is not JSON"])
    assert "schema_version is 99" in run.output
    tab.open(tmp_path / "report.html")
    assert "schema_version is 99" in tab.one(".verdict.unknown").text
    assert "doctor.json is not JSON" in tab.one("#findings").text
    assert tab.all(".heat") == []


def check_report(folder: Path, state: str, failed: int, begun: float) -> None:
    """All that a run leaves is there, is of this run, and says the same."""
    pairs = len(PAIRS) * len(NETWORKS)
    proof = json.loads((folder / "verify.json").read_text())
    assert begun <= proof["written"] <= time.time()
    assert (proof["summary"]["pairs"], proof["summary"]["failed"]) == (pairs, failed)
    suites = ElementTree.fromstring((folder / "verify.xml").read_bytes())
    checks = len(proof["checks"])
    assert (suites.get("tests"), suites.get("failures")) == (str(pairs + checks), str(failed))
    metrics = (folder / "overlay.prom").read_text().splitlines()
    values = [line.rsplit(" ", 1)[1] for line in metrics if line.startswith("multihost_overlay_verify_pair_ok{")]
    assert (values.count("1"), values.count("0")) == (pairs - failed, failed)
    page = (folder / "report.html").read_text()
    assert f'class="verdict {state}"' in page
    assert (folder / "report.html").stat().st_mtime >= begun


@pytest.mark.lab
def test_verify_leaves_a_page(cluster: Cluster, tab: Browser, tmp_path: Path) -> None:
    begun = time.time()
    run = verify(tmp_path)
    check_report(tmp_path, "good", 0, begun)
    assert max(run.remote.values()) <= 3
    (task,) = [task for task in run.tasks if task.action.endswith("html_report")]
    assert task.seconds < 2
    tab.complaints()
    tab.open(tmp_path / "report.html")
    assert tab.complaints() == []
    assert len(tab.all("td.good .cell")) == len(PAIRS) * len(NETWORKS)
    assert "rtt in ms: min" in str(tab.one(".words").get_attribute("textContent"))


@pytest.fixture
def one_way(cluster: Cluster) -> Iterator[None]:
    """What node1 sends node3 over the overlay is lost."""
    cluster.labctl("partition", "node1", "node3", "--one-way", "--proto", "udp", "--port", "4789")
    yield
    cluster.labctl("heal")


@pytest.mark.lab
def test_a_verify_that_fails_leaves_a_page_and_fails(one_way: None, tmp_path: Path) -> None:
    begun = time.time()
    run = verify(tmp_path, succeeds=False)
    check_report(tmp_path, "bad", len(NETWORKS), begun)
    assert "no_answer" in run.messages


@pytest.mark.lab
def test_preflight_and_doctor_tell_of_hosts(cluster: Cluster, tab: Browser, tmp_path: Path) -> None:
    """site ends with a page that knows the hosts, the doctor's is the same."""
    begun = time.time()
    converge(tmp_path)
    check_report(tmp_path, "good", 0, begun)
    extra = {"overlay_report_dir": str(tmp_path)}
    run_playbook("playbooks/doctor.yml", inventory=INVENTORY, extra_vars=extra)
    for name in ("preflight", "doctor"):
        report = json.loads((tmp_path / f"{name}.json").read_text())
        assert begun < report["written"] <= time.time()
        assert 0 < report["seconds"] < 120
        assert set(report["hosts"]) == set(HOSTS)
        for known in report["hosts"].values():
            assert known["os"] == "debian 11"
            assert (known["engine"], known["consul"]) == ("20.10.5", "1.8.7")
            assert known["kernel"] == cluster.out(HOSTS[0], "uname", "-r")
    tab.open(tmp_path / "report.html")
    assert [row.find_element("css selector", "th").text for row in tab.all("#hosts tbody tr")] == list(HOSTS)
    assert "unknown" not in tab.one("#hosts tbody").text


@pytest.fixture
def no_engine(cluster: Cluster) -> Iterator[None]:
    """A host whose engine is down, which doctor calls an error."""
    cluster.run("node2", "systemctl", "stop", "docker.socket", "docker.service")
    yield
    cluster.run("node2", "systemctl", "start", "docker.socket", "docker.service")


@pytest.mark.lab
def test_a_doctor_that_fails_leaves_a_page_and_fails(no_engine: None, tmp_path: Path) -> None:
    extra = {"overlay_report_dir": str(tmp_path)}
    run = run_playbook("playbooks/doctor.yml", inventory=INVENTORY, extra_vars=extra, succeeds=False)
    assert "engine_down" in run.messages
    page = (tmp_path / "report.html").read_text()
    assert 'class="verdict bad"' in page
    assert "engine_down" in page
