# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which pairs are measured where it is not all."""

from __future__ import annotations

from ansible_collections.multihost.overlay.plugins.module_utils._ping_sample import partners, streams

HOSTS = ["a", "b", "c", "d"]


def test_pairs_of_one_host_are_all_of_its_pairs_both_ways_and_no_other() -> None:
    assert partners(HOSTS, 0, [1]) == [{1}, {0, 2, 3}, {1}, {1}]
    assert partners(HOSTS, 0, [1, 3]) == [{1, 3}, {0, 2, 3}, {1, 3}, {0, 1, 2}]
    assert partners(HOSTS, 0) == [{1, 2, 3}, {0, 2, 3}, {0, 1, 3}, {0, 1, 2}]


def test_streams_are_sent_on_measured_pairs_only() -> None:
    assert all(1 in pair for pair in streams(HOSTS, 2, 0, [1]))
