# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of what the probe of the underlay can find between hosts."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._findings import finding
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import Check

CHECKS: dict[str, Check] = {
    "path_dead": Check(
        "error",
        "packets of the probe on all ports, and ICMP, in one direction",
        "hosts that cannot reach one another make no cluster",
        "check routes, overlay_address, and the firewalls on the way and of the receiving host",
        "m#33416",
    ),
    "path_host_dead": Check(
        "error",
        "as path_dead, towards all peers",
        "the host can take part in nothing",
        "check the host's overlay_address, its route to the others, its own firewall and its security group",
        "m#33416",
    ),
    "path_tcp_dropped": Check(
        "error",
        "TCP handshakes on the real ports, and their first packets as they arrive",
        "engines and store exchange their state over TCP",
        "open the port on the way and in the receiving host's firewall",
        "m#33721",
    ),
    "path_tcp_refused": Check(
        "error",
        "as path_tcp_dropped: an active refusal, while the port is listened on",
        "a firewall that rejects is as good as one that drops",
        "open the port in the receiving host's firewall",
        "m#33721",
    ),
    "path_udp_dropped": Check(
        "error",
        "datagrams on the gossip ports, where these are free",
        "gossip over TCP alone leaves hosts suspect and containers unknown to their peers",
        "open the port for UDP on the way and in the receiving host's firewall",
        "m#33721",
    ),
    "path_vxlan_swallowed": Check(
        "error",
        "datagrams to 4789/udp with a VXLAN header and a reserved VNI, which must arrive unchanged",
        "names and control work, and no container's packet arrives; some virtual networks and clouds keep VXLAN for themselves",
        "open 4789/udp on the way and in the receiving host's firewall; where the provider keeps it, use another underlay "
        "(in mode swarm another --data-path-port)",
        "m#33416",
    ),
    "path_store_gossip": Check(
        "error",
        "the members as the local Consul sees them",
        "Consul takes the peer for dead: its sessions end, and with them the engine's place in the cluster",
        "open 8301 tcp and udp between the hosts; see `journalctl -u multihost-overlay-consul` on both",
        "design",
    ),
    "path_mtu_small": Check(
        "warning",
        "packets of the interface's size that must not be fragmented, then smaller ones; the route's MTU",
        "large packets are lost or cut up: connections open and then hang",
        "give the interfaces the MTU that the path carries, or repair the path; networks that are created now get it by "
        "themselves",
        "m#24906, ln#2661",
    ),
    "path_mtu_asymmetric": Check(
        "info",
        "as path_mtu_small, both directions compared",
        "the smaller direction decides what networks can carry",
        "give both hosts' interfaces and routes the same MTU",
        "m#24906",
    ),
    "underlay_mtu_below_default": Check(
        "info",
        "the smallest MTU of all paths and interfaces",
        "Docker makes networks for an underlay of 1500 bytes unless told otherwise",
        "nothing to do: networks that are created get this MTU, less what tunnels take",
        "ln#1021",
    ),
    "network_mtu_large": Check(
        "warning",
        "the MTU that an existing network was made with, and the underlay's",
        "small packets pass between its containers and large ones do not",
        "set mtu for the network and overlay_networks_recreate: true, knowing that its containers must be reconnected",
        "m#24906, ln#2661",
    ),
    "bridge_mtu_large": Check(
        "warning",
        "the MTU that containers get on docker0 and docker_gwbridge, and that of the host's underlay",
        "containers send packets to the outside that the host's interface cannot carry",
        "docker0: overlay_docker_config: {mtu: N}, which needs a restart of docker; docker_gwbridge: remove it while no "
        "container uses it, and create it with -o com.docker.network.driver.mtu=N",
        "ln#1021",
    ),
    "clock_offset": Check(
        "warning",
        "both ends' clocks, stamped into packets and freed of the round trip",
        "certificates are not valid yet or any more, and logs cannot be compared",
        "run chrony or systemd-timesyncd on all hosts",
        "m#25112",
    ),
    "path_opened_later": Check(
        "info",
        "as the errors of paths, and who rules the receiving host's firewall",
        "the host's own firewall does not let this peer in yet, and role overlay_host is about to change that",
        "nothing to do with overlay_host_firewall: manage; run preflight again afterwards",
        "design",
    ),
    "path_unproven": Check(
        "info",
        "gossip of running engines and stores, which is only listened to",
        "a port that a program holds is never sent a stray datagram; nothing was heard there in time",
        "nothing to do if verify passes; a longer overlay_preflight_probe_gossip hears more",
        "design",
    ),
    "probe_skipped": Check(
        "info",
        "the hosts of the play, and whether they could be read as root",
        "the paths from and to these hosts were not probed",
        "run preflight for all hosts, without --limit, as root",
        "design",
    ),
    "probe_failed": Check(
        "warning",
        "the result of the host's probing agent",
        "the paths from and to this host were not proven",
        "see the evidence, and run preflight again",
        "design",
    ),
}


def found(check_id: str, message: str, evidence: Any = "", fix: str = "") -> dict[str, str]:
    """A finding of this register."""
    check = CHECKS[check_id]
    return finding(
        check_id, check.level, message, evidence if isinstance(evidence, str) else "; ".join(evidence), fix or check.fix
    )
