# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Controller side of M(multihost.overlay.html_report): reads reports, writes a page and metrics, connects to nothing."""

from __future__ import annotations

import os
import time
from typing import Any, Mapping

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ansible_collections.multihost.overlay.plugins.plugin_utils._findings_report import write_whole
from ansible_collections.multihost.overlay.plugins.plugin_utils._html_report import view
from ansible_collections.multihost.overlay.plugins.plugin_utils._metrics import metrics
from ansible_collections.multihost.overlay.plugins.plugin_utils._report_sources import NAMES, Source, parse

TEMPLATES = os.path.join(os.path.dirname(__file__), "..", "..", "roles", "overlay_report", "templates")
ARGUMENTS: dict[str, dict[str, Any]] = {
    "hosts": {"type": "list", "elements": "str", "required": True},
    "store_hosts": {"type": "list", "elements": "str", "default": []},
    "addresses": {"type": "dict", "default": {}},
    "networks": {"type": "list", "elements": "str", "default": []},
    "report_dir": {"type": "path", "required": True},
    "refused": {"type": "bool", "default": False},
}


def render(content: Mapping[str, Any]) -> str:
    """The page. Names and errors come from hosts and containers: each is escaped, and none is left out unnoticed."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(content)


def read_source(folder: str, name: str) -> Source:
    """A report as it lies there; one that is not there or not readable is said on the page."""
    try:
        with open(os.path.join(folder, name + ".json"), encoding="utf-8", errors="replace") as handle:
            return parse(name, handle.read())
    except FileNotFoundError:
        return parse(name, None)
    except OSError as exc:
        return Source(name, "broken", f"{name}.json cannot be read: {exc.strerror}")


def write_all(args: Mapping[str, Any], sources: Mapping[str, Source]) -> dict[str, Any]:
    """The page and the metrics; the module's result."""
    topology = {key: args[key] for key in ("hosts", "store_hosts", "addresses", "networks")}
    content = view(sources, topology, time.time(), args["refused"])
    path = write_whole(args["report_dir"], "report.html", render(content))
    write_whole(args["report_dir"], "overlay.prom", metrics(sources, [row["name"] for row in content["hosts"]]))
    states = {row["name"]: row["state"] for row in content["sources"]}
    summary = {"state": content["verdict"]["state"], "words": content["verdict"]["words"], "sources": states}
    return {"changed": False, "path": path, "summary": summary}


def make(args: Mapping[str, Any]) -> dict[str, Any]:
    """Read, write, say where."""
    folder = os.path.abspath(os.path.expanduser(args["report_dir"]))
    sources = {name: read_source(folder, name) for name in NAMES}
    for source in sources.values():
        if source.state == "broken":
            Display().warning(source.problem)
    written = write_all(args, sources)
    Display().display(f"report: {written['summary']['words']}; the page is {written['path']}")
    return written


class ActionModule(ActionBase):
    """Makes the page of what verify, preflight and doctor have written."""

    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the arguments, and make it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        _validation, args = self.validate_argument_spec(ARGUMENTS)
        return dict(result, **make(args))
