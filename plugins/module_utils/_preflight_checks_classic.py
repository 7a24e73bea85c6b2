# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of what preflight can find in the settings that are peculiar to mode classic, and around Docker's bridges."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import Check, found_in

CHECKS: dict[str, Check] = {
    "store_url_endpoints": Check(
        "error",
        "cluster-store as the next start of dockerd will have it",
        "dockerd's Consul client takes exactly one endpoint and exits when it is given several",
        "name one endpoint, best the agent on the host itself: consul://127.0.0.1:8500",
        "own trial",
    ),
    "store_unreachable": Check(
        "error",
        "a TCP connection from the host to a store that is not ours to manage",
        "an engine that is started without its store takes seconds to minutes to come up, and has no overlay networks",
        "start the store, correct overlay_store_url, or open its port to this host",
        "own trial",
    ),
    "store_tls_partial": Check(
        "error",
        "cluster-store-opts as the next start of dockerd will have them",
        "dockerd uses TLS to its store only when CA, certificate and key are all given; with fewer it silently sends everything in "
        "plain text",
        "give all of kv.cacertfile, kv.certfile and kv.keyfile, or none of them",
        "own trial",
    ),
    "store_tls_file_missing": Check(
        "error",
        "the files that cluster-store-opts name",
        "dockerd does not start without them",
        "put the file there, or take kv.cacertfile, kv.certfile and kv.keyfile out of cluster-store-opts",
        "own trial",
    ),
    "store_certificate_without_san": Check(
        "error",
        "the certificate that the store shows, where dockerd is to speak TLS with it",
        "newer programs look for the host's name among the alternative names only and refuse a certificate that has none",
        "issue the store's certificate anew, with its address as subjectAltName",
        "Go 1.15",
    ),
    "store_ttl_invalid": Check(
        "error",
        "discovery.heartbeat and discovery.ttl in cluster-store-opts",
        "dockerd exits unless the time to live is a whole number of seconds and exceeds the heartbeat; Consul refuses sessions outside "
        "10 s to 24 h, and its sessions live half as long as discovery.ttl says",
        'leave both out, or take for instance "discovery.heartbeat": "20" and "discovery.ttl": "60"; Consul wants a ttl of 20 to 172800',
        "own trial, ln#651",
    ),
    "advertise_invalid": Check(
        "error",
        "cluster-advertise as the next start of dockerd will have it, and ip -4 addr",
        "dockerd exits when the port is missing, or when the interface has no IPv4 address",
        "set cluster-advertise to ADDRESS:PORT with an address of this host",
        "own trial",
    ),
    "advertise_missing": Check(
        "info",
        "/info of the engine",
        "an engine with a store and no cluster-advertise shows the networks and carries no traffic between hosts",
        "nothing to do: role overlay_docker sets it",
        "m#16923",
    ),
    "engine_api_open": Check(
        "warning",
        "hosts and tlsverify: dockerd's argv, the unit, daemon.json",
        "whoever reaches Docker's API without a client certificate owns the host",
        "remove the tcp:// address (overlays need none), or set tlsverify with a CA, a certificate and a key",
        "Docker's manual",
    ),
    "gwbridge_takes_subnet": Check(
        "warning",
        "addresses and routes, as Docker will choose by them",
        "docker_gwbridge is not there yet, Docker will give it the first free one of its own ranges, and that is this overlay's subnet",
        "choose another subnet for the overlay network, or make the bridge first: docker network create --subnet SUBNET "
        "-o com.docker.network.bridge.name=docker_gwbridge -o com.docker.network.bridge.enable_icc=false docker_gwbridge",
        "m#27890",
    ),
    "bridge_overlaps_route": Check(
        "warning",
        "ip -4 addr and ip -4 route",
        "packets for what the route leads to go to Docker's bridge, or the other way round",
        "recreate Docker's network behind the bridge with another subnet; for docker0 set bip in daemon.json",
        "m#27890",
    ),
    "bridge_overlaps_peer": Check(
        "error",
        "Docker's bridges of each host, the overlay addresses of all",
        "the host looks for that peer on its own bridge",
        "recreate Docker's network behind the bridge with another subnet; for docker0 set bip in daemon.json",
        "m#27890",
    ),
    "checksum_offload_vmxnet3": Check(
        "warning",
        "/sys/class/net/INTERFACE/device/driver and the interface's features (ioctl)",
        "VMware's virtual interface computes wrong checksums for packets inside VXLAN: pings pass, TCP hangs",
        "ethtool -K INTERFACE tx-checksum-ip-generic off, at each boot (a .link file of systemd: TransmitChecksumOffload=no)",
        "m#41775, fl#1279",
    ),
    "engine_versions_differ": Check(
        "info",
        "the engine's version on all hosts",
        "engines of one overlay gossip with one another; other versions than yours together are less tried",
        "bring all hosts to one version when you next upgrade",
        "design",
    ),
}


def found(check_id: str, message: str, evidence: Any = "", fix: str = "") -> dict[str, str]:
    """A finding of this register."""
    return found_in(CHECKS, check_id, message, evidence, fix)
