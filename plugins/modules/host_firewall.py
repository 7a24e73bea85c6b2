#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Closes ports to all but a cluster's hosts, by an nftables table of our own."""

from __future__ import annotations

DOCUMENTATION = r"""
module: host_firewall
short_description: Close ports to all but a cluster's hosts, by an nftables table of our own
version_added: "0.1.0"
author: multihost.overlay contributors (@multihost)
description:
  - Brings the table C(inet multihost_overlay), the file and the unit that load it at boot, and the rules of a running firewalld or ufw
    to what is wanted, in one call. No other table is touched.
  - The loaded table is compared with what nft itself makes of the wanted one, so that a table that was flushed or edited by hand is
    mended by the next run.
  - Files and rules are recorded in the host's manifest before they are there.
extends_documentation_fragment:
  - multihost.overlay.attributes
  - multihost.overlay.attributes.full
options:
  state:
    description:
      - V(present) closes the ports.
      - V(absent) takes away what the manifest says is ours, and leaves everything else alone.
    type: str
    choices: [present, absent]
    default: present
  ports:
    description: The ports to close, each as C(NUMBER/tcp) or C(NUMBER/udp). Without any there is nothing to close, as with O(state=absent).
    type: list
    elements: str
    default: []
  peers:
    description: IPv4 addresses of the cluster's hosts.
    type: list
    elements: str
    default: []
  allow:
    description: Further addresses or networks, IPv4 or IPv6, that may reach the ports.
    type: list
    elements: str
    default: []
  address:
    description: The host's own underlay address. The zone of its interface is where a running firewalld is opened for peers.
    type: str
    default: ""
  zone:
    description: The zone of firewalld to open for peers, where that of O(address) is not the right one.
    type: str
    default: ""
  ssh_port:
    description: The port that Ansible reaches the host on. To close it is refused, and so is the port of the present SSH connection.
    type: int
    default: 22
seealso:
  - module: multihost.overlay.host_preflight
"""

EXAMPLES = r"""
- name: Close the ports of the overlay
  multihost.overlay.host_firewall:
    ports: [7946/tcp, 7946/udp, 4789/udp]
    peers: [10.88.0.11, 10.88.0.12]
    allow: ["2001:db8::/64"]
"""

RETURN = r"""
steps:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
  sample: ["write /etc/multihost-overlay/firewall.nft", "load the table inet multihost_overlay"]
managers:
  description: The host's own firewall managers that run.
  type: list
  elements: str
  returned: always
  sample: [ufw]
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.multihost.overlay.plugins.module_utils._firewall_host import (
    FirewallError,
    apply,
    observe,
    plan,
    rules_to_record,
)
from ansible_collections.multihost.overlay.plugins.module_utils._firewall_rules import TABLE, UNIT, locked_out, parse
from ansible_collections.multihost.overlay.plugins.module_utils._manifest import Manifest, ManifestError
from ansible_collections.multihost.overlay.plugins.module_utils._programs import run_program

ARGUMENTS = {
    "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    "ports": {"type": "list", "elements": "str", "default": []},
    "peers": {"type": "list", "elements": "str", "default": []},
    "allow": {"type": "list", "elements": "str", "default": []},
    "address": {"type": "str", "default": ""},
    "zone": {"type": "str", "default": ""},
    "ssh_port": {"type": "int", "default": 22},
}


def ssh_ports(given: int, environment: Any) -> list[int]:
    """The port that Ansible was told, and the one of this connection: behind a forwarded port they differ."""
    words = str(environment.get("SSH_CONNECTION", "")).split()
    return [given, *([int(words[3])] if len(words) == 4 and words[3].isdigit() else [])]


def told(planned: dict[str, Any]) -> list[str]:
    """The plan in words."""
    words = [f"write {path}" for path in planned["write"]] + [f"remove {path}" for path in planned["remove"]]
    named = {
        "load": f"load the table inet {TABLE}",
        "delete": f"delete the table inet {TABLE}",
        "start": f"enable {UNIT}",
        "stop": f"disable {UNIT}",
    }
    return words + [text for name, text in named.items() if planned[name]] + list(map(" ".join, planned["managers"]))


def differences(observed: dict[str, Any], planned: dict[str, Any]) -> list[dict[str, str]]:
    """Files, the loaded table where it is not what its file says, and the managers' rules."""
    changes = [(path, observed["files"][path] or "", text) for path, text in planned["write"].items()]
    changes += [(path, observed["files"][path] or "", "") for path in planned["remove"]]
    if planned["load"] and not planned["write"]:
        changes.append((f"table inet {TABLE}", observed["live"] or "", observed["expected"] or "(loaded)\n"))
    if planned["managers"]:
        changes.append(("firewall managers", "", "".join(" ".join(argv) + "\n" for argv in planned["managers"])))
    return [
        {"before_header": name, "after_header": name, "before": before, "after": after}
        for name, before, after in changes
    ]


def run(module: AnsibleModule) -> dict[str, Any]:
    """Parse, observe, plan, apply."""
    params = module.params
    wanted = parse(params["ports"], params["peers"], params["allow"])
    closes = params["state"] == "present" and bool(wanted.tcp or wanted.udp)
    firewall = wanted if closes else None
    refused = locked_out(wanted, ssh_ports(params["ssh_port"], os.environ)) if closes else []
    if refused:
        raise FirewallError(
            f"port {refused[0]}/tcp is SSH's on this host and would be closed. Let sshd listen on another port, or set "
            "overlay_host_firewall: off. Nothing was changed."
        )
    manifest = Manifest.load()
    observed = observe(run_program, manifest, params, firewall)
    if firewall and not observed["nft"] and not module.check_mode:
        raise FirewallError("the program nft is missing. Install the package nftables. Nothing was changed.")
    planned = plan(observed, firewall)
    steps = told(planned)
    if steps and not module.check_mode:
        apply(run_program, manifest, planned, rules_to_record(observed, firewall), firewall)
    managers = [name for name in ("firewalld", "ufw") if observed[name] is not None]
    return {"changed": bool(steps), "steps": steps, "managers": managers, "diff": differences(observed, planned)}


def main() -> None:
    """Parse, call, exit."""
    module = AnsibleModule(argument_spec=ARGUMENTS, supports_check_mode=True)
    try:
        result = run(module)
    except (FirewallError, ManifestError, ValueError, OSError) as exc:
        module.fail_json(msg=str(exc))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
