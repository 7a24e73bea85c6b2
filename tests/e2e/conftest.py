# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One cluster for the suites that need one and leave it whole."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.cluster import Cluster
from tests.e2e.shared import HOSTS, INVENTORY, converge
from tests.e2e.support import run_playbook

# For who works on a suite: with it the hosts stay, and the next run takes them as they are.
KEEP = "OVERLAY_KEEP_E2E"


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three hosts of the lab `e2e`, converged by site.yml."""
    keep = bool(os.environ.get(KEEP))
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    converge(tmp_path_factory.mktemp("converge"))
    yield Cluster("e2e", HOSTS)
    if not keep:
        run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
