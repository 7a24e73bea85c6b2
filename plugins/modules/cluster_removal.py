#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_removal
short_description: Say who is left when a host leaves a cluster, and whether it may leave
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - With O(state=planned), from the inventory alone, the members while a replacement joins and those that are left in the end. Refuses what
    cannot be, such as an unknown host or the last one of the store.
  - With O(state=judged), from what the hosts said to tasks before, what is going to happen. Refuses what must not be, such as a store
    without a quorum, a host that lives though Ansible does not reach it, and containers that would lose their network unasked.
  - Runs on the controller only, and changes nothing.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  state:
    description: What to decide.
    type: str
    choices: [planned, judged]
    required: true
  node:
    description: The host that is to leave, as the inventory names it.
    type: str
    default: ""
  replace_with:
    description: Host of the inventory that becomes a server of the store in its place.
    type: str
    default: ""
  limit:
    description: The run's C(--limit), with which it is refused.
    type: str
    default: ""
  store_group:
    description: Group of the store's hosts.
    type: str
    default: overlay_store
  hosts_group:
    description: Group of the Docker hosts.
    type: str
    default: overlay_hosts
  managed:
    description: Whether the store is our own.
    type: bool
    default: true
  allow_any_count:
    description: Whether another number of servers than 1, 3 or 5 may be left.
    type: bool
    default: false
  confirmed:
    description: Whether somebody has said that the node's containers may lose their overlay networks.
    type: bool
    default: false
  restart:
    description: When the node's engine may be restarted; V(safe), V(rolling) or V(never).
    type: str
    default: safe
  address:
    description: The host's underlay address.
    type: str
    default: ""
  others:
    description: The members that stay.
    type: list
    elements: str
    default: []
  skip_unreachable:
    description: Whether to go on without those of O(others) that cannot be reached.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Know who is left
  multihost.overlay.cluster_removal:
    state: planned
    node: node4
  register: removal
"""

RETURN = r"""
groups:
  description: Name of a group -> its hosts.
  type: dict
  returned: O(state=planned)
  sample: {overlay_remaining_hosts: [node1, node2, node3], overlay_remaining_store: [node1, node2, node3]}
story:
  description: What is going to happen, a line each.
  type: list
  elements: str
  returned: O(state=judged)
  sample: ["node4 is alive", "the engine of node4 is restarted"]
address:
  description: The host's underlay address, for those who do not know it any more.
  type: str
  returned: O(state=judged)
  sample: 10.88.0.14
alive:
  description: Whether the node itself can be asked.
  type: bool
  returned: O(state=judged)
  sample: true
"""
