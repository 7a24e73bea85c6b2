#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Examines one host of a running cluster in one call, and says what is wrong with it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_doctor
short_description: Find what is wrong with one host of a running overlay cluster, in one call
version_added: "0.2.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads the Docker engine, its containers and namespaces, the tables in those of overlays, its journal, its rules, and what its
    key-value store holds, and compares them with one another. Returns all findings at once, each with what was seen and what cures it.
    C(docs/checks.md) lists them.
  - Changes nothing, and works on clusters that this collection did not build. It needs nothing on the host but Python.
    The store is read with the standard library; this version reads Consul.
  - What a container that starts or stops just now looks like for a moment is looked at twice.
  - Never fails because a host is strange. What cannot be read is a finding.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  address:
    description: The host's underlay address, to be compared with what the engine advertises.
    type: str
    default: ""
  journal_minutes:
    description: How far back the running dockerd's journal is read.
    type: int
    default: 30
  store_token:
    description: Token that may read C(docker/) in the store. Without it the one of dockerd's environment, if any.
    type: str
    default: ""
seealso:
  - module: multihost.overlay.doctor_report
  - module: multihost.overlay.doctor_repair
  - module: multihost.overlay.host_preflight
"""

EXAMPLES = r"""
- name: Examine this host
  multihost.overlay.host_doctor:
    address: 10.88.0.11
  register: doctor

- name: Show what is wrong
  ansible.builtin.debug:
    var: doctor.findings
"""

RETURN = r"""
findings:
  description: What is wrong with this host.
  type: list
  elements: dict
  returned: always
  contains:
    id:
      description: The check's id, as in C(docs/checks.md).
      type: str
    level:
      description: V(error), V(warning) or V(info).
      type: str
    message:
      description: What is wrong.
      type: str
    evidence:
      description: What was seen, and where.
      type: str
    fix:
      description: What cures it.
      type: str
  sample:
    - id: forwarding_off
      level: error
      message: IPv4 forwarding is off
      evidence: net.ipv4.ip_forward = 0
      fix: "sysctl -w net.ipv4.ip_forward=1, and see which file of sysctl.d says otherwise: preflight names it"
store_findings:
  description: What is wrong within the store, as this host reads it; in the form of RV(findings).
  type: list
  elements: dict
  returned: always
  sample: []
repairs:
  description: What M(multihost.overlay.doctor_repair) can do about the findings.
  type: list
  elements: dict
  returned: always
  sample:
    - kind: namespace
      thing: 1-a1b2c3d4e5
      network_id: ""
      network: ""
      name: ""
      address: ""
facts:
  description: What M(multihost.overlay.doctor_report) compares with other hosts.
  type: dict
  returned: always
  sample:
    hostname: node1
    machine_id: 0123456789abcdef0123456789abcdef
    distribution: {id: debian, version: "11", codename: bullseye}
    kernel: 5.10.0-33-amd64
    consul_version: 1.8.7
    addresses: [10.88.0.11]
    had: [0f1e2d3c]
    engine:
      id: 7TRN:IPZB:QYBB:VPBQ:UMPP:KARE:6ZNR:XE6T:7EWV:PKF4:ZOJD:TPYS
      answers: true
      version: 20.10.5
      store: consul://127.0.0.1:8500
      advertise: 10.88.0.11:2376
    store:
      url: consul://127.0.0.1:8500
      state: ok
      leader: 10.88.0.11:8300
      nodes: ["10.88.0.11:2376"]
      networks: []
      endpoints: []
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._doctor import doctor
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import examine
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan import not_root
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

ARGUMENTS = {
    "address": {"type": "str", "default": ""},
    "journal_minutes": {"type": "int", "default": 30},
    "store_token": {"type": "str", "default": "", "no_log": True},
}


def main() -> None:
    """Parse, examine, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    if os.geteuid() != 0:
        # What cannot be seen would pass for what is not there: an engine that is down, no container.
        module.exit_json(changed=False, findings=[not_root("the doctor")], store_findings=[], facts={}, repairs=[])
    module.exit_json(changed=False, **doctor(lambda: examine(Reader(), module.params), module.params))


if __name__ == "__main__":
    main()
