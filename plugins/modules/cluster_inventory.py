#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_inventory
short_description: Validate the inventory of a cluster without touching any host
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Checks everything that can be known of a cluster from its inventory alone (groups, number of store servers, modes, addresses,
    networks) and reports all errors at once, before any host is connected to.
  - Runs on the controller only. Sets the fact C(overlay_addresses) on the hosts of the play.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  cluster:
    description:
      - The cluster's variables with the values that hold where the inventory sets none.
      - A variable that the inventory gives different values on different hosts is an error.
    type: dict
    required: true
"""

EXAMPLES = r"""
- name: Validate the inventory
  multihost.overlay.cluster_inventory:
    cluster:
      overlay_mode: classic
      overlay_store_type: consul
      overlay_datapath: vxlan
      overlay_encryption: none
      overlay_docker_api: none
      overlay_docker_restart: safe
      overlay_store_group: overlay_store
      overlay_hosts_group: overlay_hosts
      overlay_store_allow_any_count: false
      overlay_consul_manage: true
      overlay_store_url: ""
      overlay_networks: []
"""

RETURN = r"""
addresses:
  description: The underlay address of each host of both groups, from the inventory alone.
  type: dict
  returned: always
  sample: {node1: 10.88.0.11, node2: 10.88.0.12}
hosts:
  description: The hosts of the play, which all get C(overlay_addresses) when the task has run_once.
  type: list
  elements: str
  returned: always
  sample: [node1, node2]
errors:
  description: What is wrong, each with its cure.
  type: list
  elements: str
  returned: always
  sample: []
"""
