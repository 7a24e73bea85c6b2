# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of what preflight can find in the kernel's settings and packet filters, and of what tampers with interfaces."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._findings import finding
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import Check

CHECKS: dict[str, Check] = {
    "br_netfilter_missing": Check(
        "info",
        "as vxlan_missing, and /proc/sys/net/bridge",
        "packets between containers of one bridge pass by the host's rules: a network without icc is not kept apart",
        "nothing to do for overlays; boot a kernel with CONFIG_BRIDGE_NETFILTER where icc is to be off",
        "design",
    ),
    "rp_filter_strict": Check(
        "info",
        "/proc/sys/net/ipv4/conf of the underlay's interface, in the modes that route",
        "in mode routed, and flannel without a tunnel, the way back of a packet may be another one, and strict filtering drops it",
        "net.ipv4.conf.all.rp_filter = 2 in a file of /etc/sysctl.d",
        "design",
    ),
    "forward_drop": Check(
        "warning",
        "the FORWARD chains of iptables in both flavours, and base chains of nftables at the hook forward",
        "containers reach nothing outside the host, and published ports lead nowhere",
        "restart docker, which makes its rules anew; in a table of your own accept what comes from and goes to docker0 and docker_gwbridge",
        "m#28257, fl#872",
    ),
    "forward_policy_drop": Check(
        "info",
        "as forward_drop, while no engine runs",
        "Docker lets its own bridges through when it starts; what else is routed by this host is not let through",
        "nothing to do for Docker's networks; add rules of your own to DOCKER-USER for others",
        "m#28257, fl#872",
    ),
    "docker_rules_missing": Check(
        "warning",
        "the FORWARD chains of iptables in both flavours, while an engine runs that is to make rules",
        "something flushed Docker's rules, as firewalld does when it is started after docker: published ports lead nowhere and "
        "containers reach nothing outside the host",
        "restart docker; once it was started beside firewalld it makes its rules anew after every reload of firewalld",
        "m#27069",
    ),
    "iptables_mixed": Check(
        "warning",
        "/proc/net/ip_tables_names, iptables-legacy-save and iptables-nft-save",
        "both flavours' rules are in force at once, each invisible to the other's tools: a rule seems to have no effect",
        "choose one (update-alternatives --config iptables), flush the other's rules, restart docker",
        "m#46636",
    ),
    "neighbour_table_small": Check(
        "warning",
        "/proc/sys/net/ipv4/neigh/default/gc_thresh3 and the number of hosts",
        "with more neighbours than that the kernel drops packets: no buffer space available",
        "net.ipv4.neigh.default.gc_thresh1, 2 and 3 = 8192, 49152 and 65536 in a file of /etc/sysctl.d",
        "ln#1522",
    ),
    "networkmanager_manages": Check(
        "warning",
        "nmcli device",
        "NetworkManager reconfigures Docker's interfaces under it: veths lose their link",
        "[keyfile] unmanaged-devices=interface-name:veth*;interface-name:docker*;interface-name:vx-* in a file of "
        "/etc/NetworkManager/conf.d, then nmcli general reload",
        "design",
    ),
    "mac_policy_persistent": Check(
        "info",
        "the .link files of systemd-udevd, in mode flannel",
        "from systemd 242 on udevd changes the MAC address of a tunnel after it was announced to the peers",
        "/etc/systemd/network/50-flannel.link with [Match] OriginalName=flannel* and [Link] MACAddressPolicy=none",
        "fl#1155",
    ),
    "firewall_would_close": Check(
        "info",
        "overlay_host_firewall: report",
        "whoever reaches these ports can join the store and inject packets into the overlay",
        "overlay_host_firewall: manage closes them to all but the cluster's hosts and overlay_host_firewall_allow",
        "GHSA-vwm3-crmr-xfxw",
    ),
    "firewall_ports_open": Check(
        "warning",
        "/proc/net/tcp, tcp6, udp, udp6 and our nftables table, with overlay_host_firewall: report",
        "something listens there on more than the loopback address, and our table does not close it",
        "overlay_host_firewall: manage, or close the port to all but the cluster's hosts yourself",
        "GHSA-vwm3-crmr-xfxw",
    ),
}


def found(check_id: str, message: str, evidence: Any = "", fix: str = "") -> dict[str, str]:
    """A finding of this register."""
    check = CHECKS[check_id]
    text = evidence if isinstance(evidence, str) else "; ".join(evidence)
    return finding(check_id, check.level, message, text, fix or check.fix)
