# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What every suite shares: this checkout is the collection, and a proof that it is."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before anything imports ansible, which reads its configuration once.
os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")
os.environ.pop("ANSIBLE_COLLECTIONS_PATH", None)


def pytest_configure(config: pytest.Config) -> None:
    """Make `ansible_collections.multihost.overlay` importable, as ansible-playbook itself does."""
    from ansible.plugins.loader import init_plugin_loader

    init_plugin_loader([str(ROOT / ".collections")])


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def _the_checkout_is_what_runs() -> None:
    """An installed copy of the collection must not be what the tests test."""
    from tests.provenance import differences

    found = differences(ROOT)
    assert not found, "another copy of multihost.overlay would be tested:\n" + "\n".join(found)
