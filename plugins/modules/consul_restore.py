#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Documentation of the action plugin of the same name, which does the controller's part."""

from __future__ import annotations

DOCUMENTATION = r"""
module: consul_restore
short_description: Judge a backup of the store, try it, put it back, compare
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Opens a backup that M(multihost.overlay.consul_backup) has written, and has M(multihost.overlay.consul_snapshot) do on the host
    what O(step) says.
  - Refuses, before anything is changed, one that is damaged, that the passphrase does not open, that is of another cluster, that a
    later version has written, or that is of a newer Consul.
extends_documentation_fragment:
  - multihost.overlay.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: What a restore changes is said on the terminal.
  idempotent:
    support: partial
    details: Putting back a snapshot of everything is always a change.
options:
  step:
    description:
      - V(judge) says whether the backup fits, and what its restore takes away and brings back; where something can be lost it fails
        without O(confirm).
      - V(drill) puts it into a throwaway store and compares that with the living one, which is only read.
      - V(restore) puts it back, and looks whether its networks are there.
      - V(compare) only looks.
    type: str
    choices: [judge, drill, restore, compare]
    required: true
  file:
    description: The backup.
    type: str
    default: ""
  directory:
    description: Where to look for backups to name if O(file) is empty.
    type: str
    required: true
  url:
    description: The store, as an engine of this host names it.
    type: str
    required: true
  token:
    description: A token that manages Consul, or of somebody else's one that may write below C(docker/).
    type: str
    default: ""
  store_options:
    description: Docker's C(cluster-store-opts), for a store that is asked over TLS.
    type: dict
    default: {}
  managed:
    description: Whether this Consul is the cluster's own. Of another one only the keys below C(docker/) are touched.
    type: bool
    default: true
  secrets:
    description: The secrets that the hosts of the store keep; empty where none keeps any.
    type: dict
    default: {}
  authority:
    description: Key and certificate of the user's own CA, which is not in the backup.
    type: dict
    default: {}
  confirm:
    description: Consent to what V(judge) says.
    type: bool
    default: false
  absent:
    description: Names of networks that V(compare) does not miss.
    type: list
    elements: str
    default: []
  passphrase:
    description: What it was encrypted with.
    type: str
    default: ""
  passphrase_file:
    description: A file on the controller that holds it.
    type: str
    default: ""
  program:
    description: Consul's program on the host, for V(drill).
    type: str
    default: /usr/bin/consul
  management_key:
    description: What this version of Consul calls the token that manages it in its configuration, for V(drill).
    type: str
    default: master
seealso:
  - module: multihost.overlay.consul_backup
"""

EXAMPLES = r"""
- name: Put the store back
  multihost.overlay.consul_restore:
    step: restore
    file: ./overlay-backup/overlay-backup-0123456789abcdef-20270101T120000Z.vault
    directory: ./overlay-backup
    passphrase_file: ~/.overlay-passphrase
    url: consul://127.0.0.1:8500
    token: "{{ known.tokens.management }}"
    secrets: "{{ known.secrets }}"
  # One server answers for all.
  run_once: true
"""

RETURN = r"""
fresh:
  description: Whether there is nothing that could be lost.
  type: bool
  returned: with V(judge)
  sample: false
secrets:
  description: The backup's secrets, for hosts that have none. Secret, so that the whole result of V(judge) is not shown.
  type: dict
  returned: with V(judge)
  sample: {}
networks:
  description: The networks that came back, or are there.
  type: list
  elements: str
  returned: with V(restore) and V(compare)
  sample: [network shop (10.201.1.0/24)]
keys:
  description: How many keys were compared.
  type: int
  returned: with V(drill)
  sample: 40
differences:
  description: What the living store has more, has not, or has with another value.
  type: dict
  returned: with V(drill)
  sample: {added: [], removed: [], changed: []}
equal:
  description: Whether there are none.
  type: bool
  returned: with V(drill)
  sample: true
"""
