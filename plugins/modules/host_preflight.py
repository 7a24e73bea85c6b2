#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads everything that is to be known of one host in one call, and says what stands in the way of an overlay."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_preflight
short_description: Find everything on one host that stands in the way of an overlay, in one call
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Reads kernel, network, identity, packages, listening programs and the Docker engine of a host. Returns all findings
    at once, each with what was seen and what cures it. C(docs/checks.md) lists them.
  - Changes nothing, and works on bare hosts and on hosts that this collection did not build. A Docker engine that does
    not run is not started by it.
  - Never fails because a host is strange. What cannot be read is a finding.
  - Sets the fact C(overlay_host_facts), which the roles of this collection use.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.changes_nothing
options:
  mode:
    description: The overlay's mode, as C(overlay_mode).
    type: str
    choices: [classic, swarm, flannel, routed, macvlan]
    default: classic
  store_type:
    description: The key-value store of mode V(classic).
    type: str
    choices: [consul, etcd, zookeeper]
    default: consul
  store_url:
    description: URL of the store that dockerd will use. It counts where O(daemon_config) has no C(cluster-store).
    type: str
    default: ""
  store_managed:
    description: Whether the store is one that this collection runs, so that it need not be there yet.
    type: bool
    default: false
  store_ports:
    description: TCP ports that a store of ours will bind on this host. Leave it empty if the store is not managed.
    type: list
    elements: int
    default: []
  engine_ports:
    description: TCP ports that the engine's API will bind on this host.
    type: list
    elements: int
    default: []
  address:
    description: The host's underlay address. Without it nothing about addresses is checked.
    type: str
    default: ""
  address_origin:
    description: Where O(address) comes from if not from C(overlay_address), for the finding that it is not on the host.
    type: str
    default: ""
  interface:
    description: Name of an interface, or a network in CIDR notation, that O(address) must lie on.
    type: str
    default: ""
  networks:
    description: The overlay networks, as C(overlay_networks). Used are C(name), C(subnet) and C(state).
    type: list
    elements: dict
    default: []
  daemon_config:
    description: The settings of C(daemon.json) that will be made, to be compared with dockerd's flags.
    type: dict
    default: {}
  docker_host:
    description: Whether the host joins the overlay. Of a host for the store alone neither kernel nor engine is judged.
    type: bool
    default: true
  docker_install:
    description: Where an engine would come from, as C(overlay_docker_install).
    type: str
    choices: [auto, distribution, docker_ce, archive]
    default: auto
  hosts:
    description: How many hosts the cluster has.
    type: int
    default: 0
  firewall:
    description: What is done about the cluster's ports, as C(overlay_host_firewall). With V(report) it is said which are open.
    type: str
    choices: [manage, report, "off"]
    default: manage
  ports:
    description: The cluster's ports on this host, each as C(NUMBER/tcp) or C(NUMBER/udp). Used with O(firewall=report).
    type: list
    elements: str
    default: []
  kernel_minimum:
    description: An older kernel is an error.
    type: str
    default: "3.10"
  kernel_recommended:
    description: An older kernel is a warning.
    type: str
    default: "3.18"
seealso:
  - module: multihost.overlay.preflight_report
"""

EXAMPLES = r"""
- name: See what stands in the way of an overlay on this host
  multihost.overlay.host_preflight:
    address: 10.88.0.11
    interface: 10.88.0.0/24
    networks:
      - name: blue
        subnet: 172.30.1.0/24
    daemon_config:
      cluster-store: consul://127.0.0.1:8500
      cluster-advertise: 10.88.0.11:2376
  register: preflight

- name: Show the errors
  ansible.builtin.debug:
    var: preflight.findings | selectattr('level', 'equalto', 'error')
"""

RETURN = r"""
findings:
  description: What was found, in the order of the checks.
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
    - id: ip_forward_off
      level: info
      message: IPv4 forwarding is off now
      evidence: net.ipv4.ip_forward = 0
      fix: "nothing to do: role overlay_host sets it to 1"
ansible_facts:
  description: The fact C(overlay_host_facts).
  type: dict
  returned: always
  contains:
    overlay_host_facts:
      description: What roles of this collection need to know of the host.
      type: dict
      sample:
        distribution: {id: debian, version: "11", codename: bullseye}
        architecture: x86_64
        kernel: 5.10.0-33-amd64
        hostname: node1
        machine_id: 0123456789abcdef0123456789abcdef
        addresses: [10.88.0.11]
        sysctl: {net.ipv4.ip_forward: "0"}
        kernel_modules: {vxlan: loadable, bridge: loaded}
        packages: {docker.io: 20.10.5+dfsg1-1+deb11u4}
        apparmor_parser_missing: false
        firewall: {loaded: true, peers: [10.88.0.11, 10.88.0.12]}
        consul: {configured: true, certified: true}
        consul_version: 1.8.7
        certificates:
          consul: {subject: node1, issuer: "multihost-overlay CA 5d3e91ab", not_after: 1800000000, names: [], key: true, digest: "..."}
        owned:
          files: {/etc/multihost-overlay/dockerd.env: "0600 root root 3f5a..."}
          directories: {/etc/multihost-overlay: "0755 root root -"}
          units: {multihost-overlay-consul.service: {active: active, enabled: enabled, needs_reload: false}}
        engine:
          installed: true
          running: true
          binary: /usr/sbin/dockerd
          version: 20.10.5
          backends: [consul, etcd, zk]
          id: 7TRN:IPZB:QYBB:VPBQ:UMPP:KARE:6ZNR:XE6T:7EWV:PKF4:ZOJD:TPYS
          cluster_store: consul://127.0.0.1:8500
          cluster_advertise: 10.88.0.11:2376
          live_restore: true
          log_driver: json-file
          containers_running: 0
          swarm: false
          networks: [blue]
          flags: {host: "fd://"}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_host import host_facts, read_host
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_plan import plan
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader

ARGUMENTS = {
    "mode": {"type": "str", "choices": ["classic", "swarm", "flannel", "routed", "macvlan"], "default": "classic"},
    "store_type": {"type": "str", "choices": ["consul", "etcd", "zookeeper"], "default": "consul"},
    "store_url": {"type": "str", "default": ""},
    "store_managed": {"type": "bool", "default": False},
    "store_ports": {"type": "list", "elements": "int", "default": []},
    "engine_ports": {"type": "list", "elements": "int", "default": []},
    "address": {"type": "str", "default": ""},
    "address_origin": {"type": "str", "default": ""},
    "interface": {"type": "str", "default": ""},
    "networks": {"type": "list", "elements": "dict", "default": []},
    "daemon_config": {"type": "dict", "default": {}},
    "docker_host": {"type": "bool", "default": True},
    "docker_install": {"type": "str", "choices": ["auto", "distribution", "docker_ce", "archive"], "default": "auto"},
    "hosts": {"type": "int", "default": 0},
    "firewall": {"type": "str", "choices": ["manage", "report", "off"], "default": "manage"},
    "ports": {"type": "list", "elements": "str", "default": []},
    "kernel_minimum": {"type": "str", "default": "3.10"},
    "kernel_recommended": {"type": "str", "default": "3.18"},
}


def main() -> None:
    """Parse, read, judge, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    observed = read_host(Reader(), module.params)
    module.exit_json(
        changed=False,
        findings=plan(observed, module.params),
        ansible_facts={"overlay_host_facts": host_facts(observed)},
    )


if __name__ == "__main__":
    main()
