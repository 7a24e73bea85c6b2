#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the controller's part."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_backup
short_description: Take a backup of the store, and keep it encrypted on the controller
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Has M(multihost.overlay.consul_snapshot) take on the host what there is, puts the cluster's secrets and a list of its networks
    beside it, and writes all that into one file which C(ansible-vault) opens. A second file beside it says in clear text what the
    first one is.
  - The file is read back and opened before older ones are taken away. Only finished backups of the same cluster ever are.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What is in it is secret.
  idempotent:
    support: none
    details: Each run writes a backup.
options:
  url:
    description: The store, as an engine of this host names it.
    type: str
    required: true
  token:
    description: A token that manages Consul, or of somebody else's one that may read below C(docker/).
    type: str
    default: ""
  store_options:
    description: Docker's C(cluster-store-opts), for a store that is asked over TLS.
    type: dict
    default: {}
  managed:
    description: Whether this Consul is the cluster's own. Of another one only the keys below C(docker/) are taken.
    type: bool
    default: true
  secrets:
    description: The cluster's secrets, as M(multihost.overlay.cluster_secrets) returns them.
    type: dict
    default: {}
  own_ca:
    description: Whether the CA is the user's, who keeps it; then it is left out.
    type: bool
    default: false
  directory:
    description: Where backups lie on the controller. It is made for its user alone.
    type: str
    required: true
  keep:
    description: How many backups of this cluster stay there.
    type: int
    default: 7
  passphrase:
    description: What to encrypt with, 12 characters or more.
    type: str
    default: ""
  passphrase_file:
    description: A file on the controller that holds it.
    type: str
    default: ""
seealso:
  - module: multihost.overlay.consul_restore
"""

EXAMPLES = r"""
- name: Take a backup
  multihost.overlay.consul_backup:
    url: consul://127.0.0.1:8500
    token: "{{ known.tokens.management }}"
    secrets: "{{ known.secrets }}"
    directory: ./overlay-backup
    passphrase_file: ~/.overlay-passphrase
  # One server answers for all.
  run_once: true
"""

RETURN = r"""
path:
  description: The file that was written; empty in check mode.
  type: str
  returned: success
  sample: /srv/overlay-backup/overlay-backup-0123456789abcdef-20270101T120000Z.vault
manifest:
  description: What stands in clear text beside it.
  type: dict
  returned: success
  sample:
    schema_version: 1
    cluster: 0123456789abcdef
    time: "2027-01-01T12:00:00Z"
    store: consul
    scope: everything
    consul_version: 1.8.7
    networks: 2
    file: overlay-backup-0123456789abcdef-20270101T120000Z.vault
    bytes: 65536
    sha256: "..."
removed:
  description: Names of the files that were taken away.
  type: list
  elements: str
  returned: success
  sample: []
"""
