# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""After the end of all hosts at once, containers with a restart policy reach one another again, and nobody helps.

From the end of the hosts on, the tests only look: no Ansible, no `docker start`.
"""

from __future__ import annotations

import json

import pytest

from tests.cluster import Cluster

DAEMON_JSON = "/etc/docker/daemon.json"
# Boot, Consul's election, the engine's start, and the repair with its one restart of the engine.
SECONDS = 240


def set_live_restore(cluster: Cluster, wanted: bool) -> None:
    """As `overlay_docker_live_restore` would: the key, and a reload, which is all that it needs."""
    for host in cluster.hosts:
        config = json.loads(cluster.out(host, "cat", DAEMON_JSON))
        if config["live-restore"] is not wanted:
            cluster.write(host, DAEMON_JSON, json.dumps({**config, "live-restore": wanted}, indent=4) + "\n")
            cluster.run(host, "systemctl", "reload", "docker")


def end_all(cluster: Cluster, how: str) -> None:
    """End all hosts at once, gracefully or not, and let them boot."""
    cluster.labctl("reboot" if how == "reboot" else "cut", *cluster.hosts)
    if how == "cut":
        cluster.labctl("start", *cluster.hosts)
    cluster.labctl("wait", *cluster.hosts)


@pytest.mark.parametrize("live_restore", [True, False], ids=["live-restore", "no-live-restore"])
@pytest.mark.parametrize("how", ["reboot", "cut"])
def test_containers_reach_each_other_again(
    cluster: Cluster, services: dict[str, dict[str, str]], how: str, live_restore: bool
) -> None:
    set_live_restore(cluster, live_restore)
    cluster.wait_until_whole(services, "before the end of all hosts", 60)
    end_all(cluster, how)
    cluster.wait_until_whole(services, f"after: {how}", SECONDS)
