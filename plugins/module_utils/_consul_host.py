# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether the Consul of this host runs with the files that are there. A run may be killed between writing one and telling Consul."""

from __future__ import annotations

import os
from typing import Dict, Iterable

from ansible_collections.multihost.overlay.plugins.module_utils._certificates import content

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
