# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What packet filters, kernel settings and interfaces' managers mean for an overlay. Pure; reads nothing."""

from __future__ import annotations

from typing import Any, Iterable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks_kernel import found

Observed = Mapping[str, Any]
Findings = Iterable["dict[str, str]"]

FLAVOURS = ("legacy", "nft")
# Modes whose packets travel by the hosts' routes and not in a tunnel.
ROUTING = ("routed", "flannel")
# Neighbours that the host has beside the cluster's: gateways, containers, clients.
OTHERS = 64


def check_bridge_filter(observed: Observed, _wanted: Observed) -> Findings:
    if observed.get("kernel_modules", {}).get("br_netfilter") == "missing":
        yield found(
            "br_netfilter_missing",
            "the kernel has no br_netfilter",
            f"br_netfilter is neither loaded, built in nor loadable in kernel {observed['kernel']}",
        )


def check_rp_filter(observed: Observed, wanted: Observed) -> Findings:
    kernel = observed.get("kernel_net", {})
    if wanted["mode"] in ROUTING and kernel.get("rp_filter") == 1:
        where = kernel["interface"] or "all"
        yield found(
            "rp_filter_strict",
            f"reverse path filtering is strict on {where}",
            f"the greater of net.ipv4.conf.all.rp_filter and net.ipv4.conf.{where}.rp_filter is 1",
        )


def makes_rules(engine: Observed) -> bool:
    """Whether this engine is to touch iptables at all."""
    flags = {entry["flag"]: entry["value"] for entry in engine.get("flags", [])}
    config = engine.get("daemon_json", {}).get("config", {})
    return flags.get("iptables", "true") != "false" and config.get("iptables", True) is not False


def check_forward(observed: Observed, _wanted: Observed) -> Findings:
    """A policy to drop is normal where Docker runs: its own rules let containers through."""
    kernel = observed.get("kernel_net", {})
    for name in kernel.get("walls", []):
        yield found(
            "forward_drop",
            f"the chain {name} of nftables drops what is forwarded, and no rule of its table speaks of Docker",
            f"{name}: hook forward, policy drop; what iptables accepts elsewhere does not overrule it",
        )
    if any(kernel.get(flavour, {}).get("docker") for flavour in FLAVOURS):
        return
    if observed["engine"]["running"] and kernel.get("readable") and makes_rules(observed["engine"]):
        yield found(
            "docker_rules_missing",
            "Docker runs, and none of its rules is there",
            "FORWARD has no rule that names DOCKER-USER or docker0",
        )
    drops = [flavour for flavour in FLAVOURS if kernel.get(flavour, {}).get("forward") == "DROP"]
    if not drops:
        return
    evidence = f"iptables-{drops[0]}: -P FORWARD DROP, and no rule of Docker's"
    if observed["engine"]["running"]:
        yield found("forward_drop", "FORWARD drops, and Docker's rules are gone though it runs", evidence)
    else:
        yield found("forward_policy_drop", "the policy of FORWARD is DROP, and no engine runs yet", evidence)


def check_flavours(observed: Observed, _wanted: Observed) -> Findings:
    kernel = observed.get("kernel_net", {})
    counts = {flavour: kernel.get(flavour, {}).get("rules", 0) for flavour in FLAVOURS}
    if all(counts.values()):
        yield found(
            "iptables_mixed",
            "iptables has rules in its legacy flavour and in its nft flavour",
            f"iptables-legacy-save prints {counts['legacy']} rules, iptables-nft-save {counts['nft']}",
        )


def check_neighbours(observed: Observed, wanted: Observed) -> Findings:
    limit, hosts = observed.get("kernel_net", {}).get("gc_thresh3"), wanted.get("hosts", 0)
    if limit is not None and hosts and limit < hosts + OTHERS:
        yield found(
            "neighbour_table_small",
            f"the neighbour table holds {limit} entries, too few for a cluster of {hosts} hosts",
            f"net.ipv4.neigh.default.gc_thresh3 = {limit}",
        )


def check_managers(observed: Observed, wanted: Observed) -> Findings:
    kernel = observed.get("kernel_net", {})
    if kernel.get("managed"):
        yield found("networkmanager_manages", "NetworkManager manages Docker's interfaces", kernel["managed"])
    if wanted["mode"] == "flannel" and kernel.get("mac_policy"):
        yield found(
            "mac_policy_persistent",
            "systemd-udevd gives tunnels another MAC address than they were made with",
            f"{kernel['mac_policy']}: MACAddressPolicy=persistent",
        )


def check_firewall(observed: Observed, wanted: Observed) -> Findings:
    """What overlay_host_firewall: report has to say; in the other modes nothing."""
    if wanted.get("firewall") != "report" or not wanted["ports"]:
        return
    kernel = observed.get("kernel_net", {})
    loaded, open_ports = kernel.get("firewall", {}).get("loaded", False), kernel.get("open", [])
    yield found(
        "firewall_would_close",
        "these ports would be closed to all but the cluster's hosts: " + ", ".join(wanted["ports"]),
        f"our nftables table is {'loaded' if loaded else 'not loaded'}",
    )
    if open_ports and not loaded:
        yield found(
            "firewall_ports_open",
            f"open to whoever reaches this host, unless another firewall closes them: {', '.join(open_ports)}",
            f"listening on more than the loopback address: {', '.join(open_ports)}",
        )


# Of any host, and of one that carries an overlay.
KERNEL_HOST_CHECKS = (check_neighbours, check_firewall)
KERNEL_DOCKER_CHECKS = (check_bridge_filter, check_rp_filter, check_forward, check_flavours, check_managers)
