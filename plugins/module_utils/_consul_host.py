# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The Consul of this host: its version, and whether it runs with the files that are there.

A run may be killed between writing one and telling Consul.
"""

from __future__ import annotations

import os
import re
from typing import Dict, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import content
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

OURS = "/etc/multihost-overlay"
# Consul's unit puts copies there of all files that it starts Consul with, and of the second kind again when it is reloaded.
HANDED_OVER = "/run/overlay-consul"
AT_START = (
    "/etc/systemd/system/multihost-overlay-consul.service",
    f"{OURS}/consul/config.json",
    f"{OURS}/consul-secrets.json",
)
AT_RELOAD = (f"{OURS}/tls/consul.key", f"{OURS}/tls/consul.crt", f"{OURS}/tls/ca.crt")


def in_use(paths: Iterable[str]) -> bool:
    """Whether the copies are what the files are."""
    return all(content(path) == content(os.path.join(HANDED_OVER, os.path.basename(path))) for path in paths)


def read_consul() -> Dict[str, bool]:
    """Whether it was started with its present configuration, and told of its present certificate. Without a Consul both are."""
    return {"configured": in_use(AT_START), "certified": in_use(AT_RELOAD)}


def consul_program(reader: Reader) -> str:
    """The program of the Consul that runs on the host itself, not of one in a container; empty where none does."""
    own = reader.link("/proc/self/ns/pid")
    for pid in [name for name in reader.names("/proc") if name.isdigit()]:
        if reader.line(f"/proc/{pid}/comm") == "consul" and reader.link(f"/proc/{pid}/ns/pid") == own:
            return reader.link(f"/proc/{pid}/exe")
    return ""


def consul_version(reader: Reader, packages: Mapping[str, str]) -> str:
    """1.8.7, or empty. A package says it for nothing; another program is asked, if it lies where only root can have put it."""
    program = consul_program(reader)
    text = packages.get("consul", "") if program in ("", "/usr/bin/consul") else ""
    # Anybody may call another program so.
    if not text and program.startswith("/usr/") and os.path.basename(program) == "consul":
        _status, text, _err = reader.run([program, "version"])
    found = re.search(r"\d+(\.\d+)+", text)
    return found.group(0) if found else ""
