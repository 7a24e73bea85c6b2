#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers of one host what somebody needs who is to help from afar, without its secrets."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_support
short_description: Gather of one host what somebody needs who is to help from afar, without secrets
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads journals and units of Docker and of this collection, C(daemon.json), the manifest, rules, addresses, routes and links,
    some sysctls, and what the engine says of itself, its containers and their networks.
  - Takes secrets out on the host. Those that it knows (of dockerd's environment, of C(/etc/multihost-overlay), private keys) by
    their value in plain text, base64, hexadecimal and as in URLs; others by where they stand.
    Commands, labels and environments of containers are not read at all.
  - A file has at most 256 KiB and a host 2 MiB. What is cut says so.
  - Changes nothing, and never fails because something cannot be read.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  secrets:
    description: More values that must not be shown.
    type: list
    elements: str
    default: []
seealso:
  - module: multihost.overlay.doctor_bundle
  - module: multihost.overlay.host_doctor
"""

EXAMPLES = r"""
- name: Gather what a helper asks for
  multihost.overlay.host_support:
  register: support
"""

RETURN = r"""
files:
  description: Name of a file and its text.
  type: dict
  returned: always
  sample:
    sysctl.txt: "net.ipv4.ip_forward = 1\n"
cut:
  description: The files of which a part is left out.
  type: list
  elements: str
  returned: always
  sample: [journal-docker.txt]
missing:
  description: Name of a file that is not there, and why.
  type: dict
  returned: always
  sample:
    nftables.txt: "nft: not found"
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import patient_client
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._support_host import gather

ARGUMENTS = {"secrets": {"type": "list", "elements": "str", "default": [], "no_log": True}}


def main() -> None:
    """Gather, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    module.exit_json(changed=False, **gather(Reader(), patient_client(), module.params["secrets"]))


if __name__ == "__main__":
    main()
