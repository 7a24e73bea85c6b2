# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every known way in which such a cluster fails, and what this collection does about it. docs/checks.md is made of it.

A failure is seen beforehand (a check of preflight, or a probe of the paths between hosts), made impossible by a role, or seen
afterwards (a check of the doctor, or verify). What belongs to a part that does not exist yet, or shows in virtual
machines only, says so.
"""

from __future__ import annotations

from typing import NamedTuple

# How a failure is dealt with.
PREFLIGHT, PROBE, PREVENTED, DOCTOR, VERIFY, LATER, MACHINE = (
    "preflight",
    "probe",
    "prevented",
    "doctor",
    "verify",
    "later",
    "virtual machine",
)
KINDS = {
    PREFLIGHT: "a check of preflight sees it before anything is changed",
    PROBE: "`underlay_probe` sees it on the paths between the hosts, before anything is installed",
    PREVENTED: "a role makes it impossible",
    DOCTOR: "a check of the doctor sees it on a running cluster",
    VERIFY: "the proof by packets shows it",
    LATER: "belongs to a part that does not exist yet",
    MACHINE: "real only in a virtual machine: for the Vagrant scenario",
}
# Parts of the design that are not there yet.
PARTS = {
    "swarm": "mode swarm",
    "wireguard": "encryption by WireGuard or IPsec",
    "etcd": "etcd as the store",
    "zookeeper": "ZooKeeper as the store",
    "routed": "the modes routed and flannel",
    "newer": "engines newer than 20.10, which have no mode classic",
}


class Way(NamedTuple):
    """One thing that is done about a failure: its kind; the check, role or part that does it; in a few words how."""

    kind: str
    by: str
    how: str = ""


class Row(NamedTuple):
    """A failure as people meet it, what causes it, what is done, and where it is known from."""

    symptom: str
    cause: str
    ways: tuple[Way, ...]
    source: str


def pre(*ids: str) -> tuple[Way, ...]:
    """Checks of preflight."""
    return tuple(Way(PREFLIGHT, name) for name in ids)


def doc(*ids: str) -> tuple[Way, ...]:
    """Checks of the doctor."""
    return tuple(Way(DOCTOR, name) for name in ids)


def probe(*ids: str) -> tuple[Way, ...]:
    """Checks of the paths between hosts."""
    return tuple(Way(PROBE, name) for name in ids)


def role(name: str, how: str) -> tuple[Way, ...]:
    return (Way(PREVENTED, name, how),)


def verify(how: str) -> tuple[Way, ...]:
    return (Way(VERIFY, "overlay_verify", how),)


def later(part: str, how: str = "") -> tuple[Way, ...]:
    return (Way(LATER, part, how),)


def machine(how: str) -> tuple[Way, ...]:
    return (Way(MACHINE, "vagrant", how),)


AGENT = "the store is a local agent on every Docker host: one endpoint, consul://127.0.0.1"

ROWS: tuple[Row, ...] = (
    # -- starting the engine
    Row(
        "dockerd exits: Consul and several endpoints",
        "a list of hosts in the store's URL",
        pre("store_url_endpoints") + role("overlay_consul", AGENT),
        "own trial",
    ),
    Row(
        "dockerd exits: the discovery service is not supported",
        "the engine was built without the store's backend",
        pre("engine_backend_missing", "engine_unavailable", "engine_plan_unknown", "engine_too_new"),
        "own trial",
    ),
    Row(
        "dockerd exits: no usable IP address, or no port",
        "cluster-advertise names an interface without IPv4, or no port",
        pre("advertise_invalid", "address_missing", "interface_mismatch")
        + role("overlay_docker", "advertises ADDRESS:PORT"),
        "own trial",
    ),
    Row(
        "dockerd exits: a setting is a flag and a key of the file",
        "hosts in daemon.json beside -H fd:// of the unit, and the like",
        pre("engine_key_twice", "engine_flag_conflict"),
        "m#25471",
    ),
    Row(
        "dockerd exits: a number cannot be read",
        "values of cluster-store-opts that are no strings",
        pre("store_opts_not_strings", "store_ttl_invalid"),
        "own trial",
    ),
    Row(
        "dockerd exits or nothing can be merged",
        "daemon.json is no JSON, or not the file that dockerd reads",
        pre("daemon_json_invalid", "engine_config_elsewhere") + doc("engine_down"),
        "design",
    ),
    Row(
        "the store's traffic is readable on the wire",
        "not all three of kv.cacertfile, kv.certfile, kv.keyfile",
        pre("store_tls_partial", "store_tls_file_missing") + doc("journal_store_plain"),
        "own trial",
    ),
    Row(
        "a change of the store has no effect",
        "the engine was reloaded and not restarted",
        role("overlay_docker", "treats each change of the store as a restart")
        + doc("restart_pending", "journal_store_kept"),
        "own trial",
    ),
    Row(
        "one host alone knows no overlays",
        "no store is set on it",
        role("overlay_docker", "sets the same store on every host")
        + pre("cluster_store_other")
        + doc("store_missing", "store_differs", "network_unseen"),
        "m#18783",
    ),
    Row(
        "the network is listed, and nothing passes between hosts",
        "no cluster-advertise",
        role("overlay_docker", "always sets it") + pre("advertise_missing") + doc("not_advertised", "gossip_silent"),
        "m#16923",
    ),
    Row(
        "the same, with an address set",
        "the address of docker0, of NAT, or of another host is advertised",
        pre(
            "address_loopback",
            "address_on_docker_bridge",
            "address_nat",
            "address_shared",
            "address_dynamic",
            "address_missing",
        )
        + doc("advertises_elsewhere", "advertises_other", "engine_unregistered"),
        "cs#2830, m#22008, fl#51",
    ),
    # -- the store
    Row(
        "the engine starts slowly or hangs",
        "its store cannot be reached, worst where packets are dropped",
        pre("store_unreachable", "engine_silent")
        + role("overlay_docker", "orders docker after the store's unit, which it wants and does not require")
        + doc("store_silent", "engine_hangs"),
        "own trial",
    ),
    Row(
        "overlay containers stay dead after a boot",
        "the store is a container of the engine that needs it",
        pre("store_in_container") + role("overlay_consul", "runs the store as a service of the host"),
        "m#22561, m#23302",
    ),
    Row(
        "overlay containers stay dead after a power cut",
        "endpoints of the boot before stand in the way",
        role("overlay_docker", "a boot repair unit takes them away")
        + doc("container_down", "container_without_endpoint", "boot_repair_failed"),
        "own trial",
    ),
    Row(
        "containers of an engine that was restarted are out of reach of hosts that boot, or join a network, later",
        'under live-restore it tells them the host "<nil>" for its containers, and asks for no others any more',
        role("overlay_docker", "a unit adds to the kernel's tables what the store says and dockerd has not")
        + doc("peers_unit_down"),
        "own trial, read in the code",
    ),
    Row(
        "the store has no leader",
        "more than half of its servers are down",
        role("overlay", "1, 3 or 5 servers") + doc("store_leaderless"),
        "own trial",
    ),
    Row(
        "networks vanish",
        "the store lost its data",
        role("overlay_consul", "keeps its data on disk, on each server") + doc("network_lost"),
        "cs#2290",
    ),
    Row(
        "etcd is unavailable, though it answers",
        "its members advertise URLs that engines do not reach",
        later("etcd"),
        "ln#766",
    ),
    Row("etcd's answer cannot be read", "its API of version 2 is off", later("etcd"), "own trial"),
    Row(
        "a session cannot be set or renewed",
        "discovery.ttl out of bounds, no right to sessions, no leader",
        pre("store_ttl_invalid") + doc("journal_session_refused", "store_denied"),
        "ln#651",
    ),
    Row(
        "TLS to the store fails after an upgrade",
        "a certificate with a common name only",
        pre("store_certificate_without_san"),
        "Go 1.15",
    ),
    Row(
        "dockerd does not reach its store though the network is fine",
        "a proxy in its environment",
        pre("proxy_swallows_store"),
        "m#23666",
    ),
    # -- identities
    Row(
        "names resolve, packets go nowhere",
        "two hosts of one name",
        pre("hostname_duplicate") + doc("journal_name_taken"),
        "cs#1573, m#19301",
    ),
    Row("an engine's ID is there twice", "a cloned key.json", pre("engine_id_duplicate"), "cs#1467"),
    Row("two hosts get one DHCP lease", "a cloned machine-id", pre("machine_id_duplicate"), "systemd's manual"),
    # -- store against reality
    Row(
        "an endpoint of this name already exists",
        "an orphan endpoint in the store",
        doc("orphan_endpoint", "endpoint_of_nobody"),
        "m#20398, ln#573",
    ),
    Row(
        "an address is in use, and nobody has it",
        "an address in the store that was not given back",
        doc("leaked_address", "subnet_full"),
        "m#27398",
    ),
    Row(
        "a network has active endpoints, and has none",
        "a stale count in the store",
        doc("stale_endpoint_count"),
        "m#23302",
    ),
    Row(
        "the vxlan interface exists already",
        "a namespace or a tunnel that was left behind",
        doc("leftover_namespace", "leftover_vxlan", "journal_file_exists"),
        "ln#751",
    ),
    Row(
        "some pairs are dead, a peer cannot be resolved",
        "gossip and forwarding entries disagree",
        role("overlay_docker", "starts engines in turn, so that each finds the others")
        + doc("journal_peer_unresolved", "fdb_wrong", "fdb_missing", "neighbour_wrong", "neighbour_missing")
        + verify("names the pair and the direction"),
        "m#31588, m#35807",
    ),
    Row(
        "an address that moved to another host is dead for some",
        "an engine keeps what it has learnt by asking, for an address that is not there any more",
        role("overlay_docker", "multihost-overlay-peers replaces what contradicts the store")
        + doc("fdb_wrong", "entry_of_nobody"),
        "own trial",
    ),
    Row(
        "nothing of an overlay reaches one host, or large packets do not",
        "its vxlan device is gone, or has another number or MTU than the network",
        doc("tunnel_missing", "tunnel_differs") + verify("full-size packets in both directions"),
        "read in the code",
    ),
    Row(
        "a container resolves no name, and its neighbours do",
        "rules within its namespace were flushed",
        doc("dns_rules_gone") + verify("asks Docker's DNS from within the namespace"),
        "own trial",
    ),
    Row(
        "an address is now one container, now another",
        "two endpoints of a network have it",
        doc("address_twice"),
        "m#27398",
    ),
    Row(
        "hosts in the store that are not there",
        "a time to live that is not over, an address that changed",
        doc("ghost_host"),
        "read in the code",
    ),
    Row(
        "two networks of one name",
        "made at the same instant on two hosts",
        role("overlay_networks", "creates under a lock in the store") + doc("network_twice"),
        "m#20648",
    ),
    Row(
        "calls to the store fail now and then, endpoints are left behind",
        "threads of dockerd in the namespace of a network that is gone",
        role("overlay_verify", "brings them home after its own endpoints") + doc("lost_threads"),
        "own trial",
    ),
    # -- the paths between hosts
    Row(
        "control works, data does not",
        "udp 4789 blocked or swallowed",
        probe("path_vxlan_swallowed")
        + verify("fails exactly the dead direction")
        + doc("overlay_port_dropped")
        + machine("NSX and clouds that swallow VXLAN"),
        "m#33416",
    ),
    Row(
        "tcp passes and udp does not, peers are suspect",
        "7946/udp blocked",
        probe("path_udp_dropped", "path_tcp_dropped", "path_tcp_refused", "path_dead", "path_host_dead")
        + doc("journal_peer_suspect", "journal_tcp_only"),
        "m#33721",
    ),
    Row(
        "hosts with kernels of different age do not meet",
        "vxlan of kernel 3.10 listens on port 8472",
        pre("kernel_old", "kernel_too_old") + machine("an old kernel"),
        "m#18929",
    ),
    Row(
        "large packets hang",
        "the overlay's MTU is larger than the path's less 50 bytes",
        probe("path_mtu_small", "path_mtu_asymmetric", "network_mtu_large", "bridge_mtu_large")
        + role("overlay_networks", "takes the MTU that the probe found when it creates a network")
        + verify("sends full-size packets"),
        "m#24906, ln#2661",
    ),
    Row(
        "ping passes, TCP hangs, on VMware",
        "wrong checksums by the interface vmxnet3",
        pre("checksum_offload_vmxnet3") + machine("a vmxnet3 interface"),
        "m#41775, fl#1279",
    ),
    Row(
        "vxlan is not supported",
        "the kernel's module is not there",
        pre("vxlan_missing", "bridge_missing") + role("overlay_host", "loads the modules at boot"),
        "fl#1502",
    ),
    Row(
        "subnets conflict with the host, whatever they are",
        "kernels before 3.16 keep overlays in the host's namespace",
        pre("kernel_old") + machine("an old kernel"),
        "m#31281, m#19499",
    ),
    # -- subnets
    Row(
        "DNS or the company's network is out of reach",
        "an overlay subnet overlaps a route, an address or a name server",
        pre(
            "subnet_overlaps_address",
            "subnet_overlaps_route",
            "subnet_overlaps_resolver",
            "subnet_overlaps_peer",
            "subnet_left_to_docker",
        ),
        "m#27399, m#34841",
    ),
    Row(
        "a host loses a route",
        "docker_gwbridge was given a range that is in use",
        pre("bridge_overlaps_route", "bridge_overlaps_peer", "gwbridge_takes_subnet"),
        "m#27890",
    ),
    Row(
        "no buffer space, with more than a thousand peers",
        "the neighbour table is full",
        pre("neighbour_table_small"),
        "ln#1522",
    ),
    Row("containers do not start for want of an address", "a subnet that is too small", doc("subnet_full"), "m#34446"),
    Row("tasks of a service stay new", "the subnet of a service network is used up", later("swarm"), "m#43052"),
    # -- encryption
    Row(
        "an encrypted overlay is dead",
        "ESP blocked, NAT, xt_u32 not there, another port than 4789, kernel 5.10.103",
        role("overlay", "refuses the option: in classic mode every join would fail")
        + later("swarm")
        + later("wireguard"),
        "m#37115, m#43359, m#43382, m#45635",
    ),
    Row(
        "encrypted overlays that are not (CVE-2023-28840, 28841, 28842)",
        "engines before 20.10.24 and 23.0.3",
        role("overlay", "refuses the option in classic mode, so that nothing relies on it")
        + later("swarm", "a floor for the engine's version"),
        "the advisories",
    ),
    # -- kernel and firewall
    Row(
        "containers do not reach the world",
        "ip_forward was set back",
        pre("ip_forward_reset", "ip_forward_off")
        + role("overlay_host", "sets it, now and at boot")
        + doc("forwarding_off"),
        "m#47966",
    ),
    Row(
        "routed traffic is dropped",
        "the policy of FORWARD is DROP",
        pre("forward_drop", "forward_policy_drop") + later("routed"),
        "m#28257, fl#872",
    ),
    Row(
        "the same, with Docker 28 and newer",
        "Docker drops it in PREROUTING of the raw table",
        later("newer"),
        "m#51015, m#49832",
    ),
    Row(
        "published ports are dead after a reload of firewalld",
        "Docker's rules were flushed",
        pre("docker_rules_missing") + doc("docker_rules_gone"),
        "m#27069",
    ),
    Row(
        "rules have no effect",
        "iptables of both kinds, legacy and nft, in use at once",
        pre("iptables_mixed"),
        "m#46636",
    ),
    Row("Swarm refuses the engine's nftables backend", "not made for it yet", later("swarm"), "m#49638"),
    Row(
        "a service's virtual address is dead",
        "the kernel has no ip_vs",
        later("swarm") + machine("ip_vs is not in the lab's kernel"),
        "m#28168",
    ),
    Row(
        "routed modes are dead",
        "source and destination checks, strict rp_filter, no common layer 2",
        pre("rp_filter_strict") + later("routed"),
        "design",
    ),
    Row(
        "the tunnel's MAC changes",
        "MACAddressPolicy of systemd 242 and newer",
        pre("mac_policy_persistent"),
        "fl#1155",
    ),
    Row(
        "containers' interfaces lose their link",
        "NetworkManager manages them",
        pre("networkmanager_manages"),
        "design",
    ),
    # -- Swarm
    Row(
        "a swarm is broken after a boot",
        "a manager's address changed",
        pre("address_dynamic") + later("swarm"),
        "m#31135",
    ),
    Row(
        "a swarm's certificate is not yet valid",
        "clocks apart",
        probe("clock_offset") + later("swarm"),
        "m#25112",
    ),
    Row(
        "one engine in two modes",
        "a swarm is active where a store is to be set, or the other way round",
        pre("swarm_active", "cluster_store_blocks_swarm"),
        "own trial",
    ),
    # -- the engine and its users
    Row(
        "settings in force that daemon.json does not show",
        "flags in ExecStart, in environment files, in drop-ins",
        pre("engine_flag_conflict", "engine_flag_same", "engine_key_twice", "engine_config_elsewhere"),
        "m#25471",
    ),
    Row(
        "a container with a fixed address cannot start",
        "its address was given away while it was stopped",
        role("overlay_verify", "temporary endpoints keep clear of all claims") + doc("static_address_taken"),
        "compose#11899",
    ),
    Row(
        "containers die with a restart of the engine",
        "no live-restore, or no restart policy",
        role("overlay_docker", "lists them, and restarts only by consent or when none would die"),
        "kubespray#8446, kubespray#4397",
    ),
    Row(
        "podman in Docker's place, or no systemd",
        "another engine, another init",
        pre("engine_is_podman", "systemd_missing"),
        "design",
    ),
    Row(
        "a port is taken",
        "another program listens on a port of ours",
        pre("port_held"),
        "design",
    ),
    Row(
        "the store loses a member though its host is well",
        "8301 blocked for tcp or udp",
        probe("path_store_gossip", "path_udp_dropped", "path_tcp_dropped"),
        "design",
    ),
    # -- strangers
    Row(
        "a stranger takes over the host",
        "2375 or 8500 open to everybody",
        pre("engine_api_open")
        + role("overlay_consul", "the HTTP API listens on the loopback address")
        + role("overlay_host", "closes the ports to all but peers")
        + pre("firewall_ports_open", "firewall_would_close")
        + doc("store_unprotected"),
        "Docker's manual",
    ),
    Row(
        "a stranger injects frames",
        "4789 open to everybody",
        role("overlay_host", "closes the port to all but peers"),
        "GHSA-vwm3-crmr-xfxw",
    ),
    Row(
        "ZooKeeper holds what everybody may write",
        "dockerd's client knows neither TLS nor rights",
        later("zookeeper"),
        "read in the code",
    ),
    Row(
        "anybody who reaches the store changes every network",
        "a Consul without ACL, and gossip and calls in the clear",
        role(
            "overlay_consul",
            "ACL that denies by default, a token for each engine, encrypted gossip, certificates for calls",
        ),
        "libkv#98, ln#847",
    ),
    Row(
        "all at once servers refuse one another",
        "a certificate, or the CA, has ended",
        pre("certificate_ends", "ca_ends") + doc("certificate_ended"),
        "design",
    ),
)
