#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the work on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: cluster_secrets
short_description: Take the cluster's secrets from the hosts that keep them, or make new ones
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Takes what M(multihost.overlay.consul_secrets) read on the store's hosts, which they registered as C(__overlay_consul_secrets_read), and
    makes new secrets only where every one of them was read and none has any.
  - Fails where two hosts have different secrets, where a file is damaged, or where what is given is not what the cluster has.
  - Runs on the controller only. Its result is secret and is shown nowhere; why it fails is.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  keepers:
    description: The store's hosts, all of them, as the inventory names them.
    type: list
    elements: str
    required: true
  hosts:
    description: All hosts that have a Consul or an engine.
    type: list
    elements: str
    required: true
  given:
    description: >-
      Secrets that the user has given, or that were made for a cluster which lacks them, C(gossip_key), C(seed), and key and
      certificate (PEM) of the CAs, C(ca_key), C(ca_certificate), C(client_ca_key), C(client_ca_certificate), and C(ca_next_key) and
      C(ca_next_certificate) of the one that is to replace the first; empty ones are not given.
    type: dict
    default: {}
  step:
    description:
      - Of a rotation. A step that was done before changes nothing more, so that one that was interrupted goes on.
      - V(keys_begin) makes a new gossip key and new tokens for the engines, keeping the old key beside it; V(keys_end) drops the old key.
      - V(ca_swap) lets the CA that was given as C(ca_next_key) and C(ca_next_certificate) sign, keeping the certificate of the one before;
        V(ca_end) drops that.
      - V(clients_revoke) drops the CA of Docker's clients.
    type: str
    choices: [none, keys_begin, keys_end, ca_swap, ca_end, clients_revoke]
    default: none
requirements:
  - cryptography on the controller, which ansible-core brings
seealso:
  - module: multihost.overlay.consul_secrets
"""

EXAMPLES = r"""
- name: Know the cluster's secrets
  multihost.overlay.cluster_secrets:
    keepers: "{{ groups['overlay_store'] }}"
    hosts: "{{ groups['overlay_store'] | union(groups['overlay_hosts']) }}"
  register: known
  # The same for all hosts.
  run_once: true
"""

RETURN = r"""
secrets:
  description: What is to lie on each of O(keepers).
  type: dict
  returned: success
  sample: {schema_version: 1, serial: 1, gossip_key: "...", seed: "...", generations: {engine: 1, agent: 1, management: 1}}
tokens:
  description: What follows from it, a token for who manages Consul, and two for each of O(hosts).
  type: dict
  returned: success
  sample: {management: "...", hosts: {node1: {name: node1, agent: "...", engine: "..."}}}
ca:
  description: The cluster's CA with its name (CN), certificate and key (PEM), where it has one.
  type: dict
  returned: where there is one
  sample: {name: multihost-overlay CA 5d3e91ab, certificate: "...", key: "..."}
client_ca:
  description: The same of the CA whose certificates Docker takes for its clients'.
  type: dict
  returned: where there is one
  sample: {name: multihost-overlay Docker clients CA 0a7719c2, certificate: "...", key: "..."}
trusted:
  description: The certificates (PEM) of the CAs that hosts are to trust; two while one replaces another, none where there is none.
  type: str
  returned: success
  sample: "..."
lacking:
  description: Those of O(keepers) that do not have it yet.
  type: list
  elements: str
  returned: success
  sample: [node3]
"""
