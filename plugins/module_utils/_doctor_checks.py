# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of what the doctor can find on a running cluster: one entry for each check id."""

from __future__ import annotations

from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_checks import Check, found_in

CHECKS: dict[str, Check] = {
    "doctor_failed": Check(
        "error",
        "the module's own result",
        "a host that could not be examined is not known to be well",
        "run the play again with -vvv",
        "ansible-core",
    ),
    "unexamined": Check(
        "warning",
        "the named file, program or API",
        "what cannot be read cannot be judged",
        "see the evidence; make the file readable or install the program, then run the doctor again",
        "design",
    ),
    "repair_refused": Check(
        "error",
        "the results of all hosts of overlay_hosts",
        "only who has seen all hosts knows that a container is on none of them, so that nothing was repaired on any host",
        "run it for all hosts, without --limit, when all of them and the store answer",
        "design",
    ),
    # -- certificates
    "certificate_ended": Check(
        "error",
        "/etc/multihost-overlay/tls",
        "who is shown it refuses it: Consuls lose one another, or clients lose Docker's API",
        "run playbooks/rotate_certificates.yml; for a CA see docs/day-2.md",
        "design",
    ),
    # -- the engine
    "engine_down": Check(
        "error",
        "processes, the unit docker.service, dockerd's last words in the journal",
        "without dockerd no container of this host is started, stopped or told of its peers",
        "cure what dockerd's words say, then: systemctl reset-failed docker; systemctl start docker",
        "design",
    ),
    "engine_hangs": Check(
        "error",
        "the engine's socket",
        "a dockerd that does not answer mostly waits for its store",
        "journalctl -u docker -n 50; see that the store answers; then: systemctl restart docker",
        "own trial",
    ),
    "boot_repair_failed": Check(
        "warning",
        "the unit multihost-overlay-boot-repair.service",
        "after a power cut it is this unit that brings overlay containers back",
        "journalctl -u multihost-overlay-boot-repair; then: systemctl restart multihost-overlay-boot-repair",
        "own trial",
    ),
    "peers_unit_down": Check(
        "warning",
        "the unit multihost-overlay-peers.service: active and enabled",
        "after an engine was restarted under live-restore, new containers on other hosts may not reach its containers",
        "journalctl -u multihost-overlay-peers; then: systemctl unmask multihost-overlay-peers; "
        "systemctl enable --now multihost-overlay-peers",
        "own trial",
    ),
    "restart_pending": Check(
        "warning",
        "daemon.json and /info, and our manifest",
        "the file says one thing and the engine does another until it is restarted; a reload does not change a store",
        "systemctl restart docker, knowing what stops: live-restore keeps containers running",
        "own trial",
    ),
    "lost_threads": Check(
        "warning",
        "/proc/PID/task/*/ns/net of dockerd",
        "threads in the namespace of a network that is gone: calls to the store fail now and then, endpoints are left behind",
        "systemctl restart docker (with live-restore containers go on); docs/verify.md explains it",
        "own trial",
    ),
    # -- the store
    "store_silent": Check(
        "error",
        "an HTTP request to the engine's store, from this host",
        "networks, endpoints and addresses are kept there: nothing new can join",
        "start the store: systemctl restart multihost-overlay-consul, or the unit of your own store; then its port and address",
        "own trial",
    ),
    "store_leaderless": Check(
        "error",
        "/v1/status/leader",
        "a store without a leader refuses every write; more than half of its servers must be up",
        "start the servers of the group overlay_store that are down; 3 or 5 servers survive the loss of 1 or 2",
        "own trial",
    ),
    "store_denied": Check(
        "warning",
        "/v1/kv/docker",
        "the doctor may not read what the engines wrote, so ghosts and orphans stay unseen",
        "give overlay_doctor_store_token a token that may read docker/",
        "own trial",
    ),
    "store_unsupported": Check(
        "info",
        "the engine's store",
        "this version reads Consul only, so what the store holds is not compared",
        "look at the store with its own tools",
        "design",
    ),
    "store_unprotected": Check(
        "warning",
        "/v1/kv/docker without a token, where the store is not on the loopback address",
        "whoever reaches the store can change every network of the cluster",
        "let the store listen on the loopback address (an agent on each host), or switch on its access control",
        "design",
    ),
    "store_missing": Check(
        "error",
        "/info of all hosts",
        "the others have a store and this engine has none: overlay networks do not exist on it",
        "set cluster-store and cluster-advertise in /etc/docker/daemon.json as on the others (role overlay_docker), restart docker",
        "m#18783",
    ),
    "store_differs": Check(
        "error",
        "/info of all hosts",
        "engines with different stores have different networks",
        "set cluster-store as on the others (role overlay_docker), restart docker",
        "m#18783",
    ),
    # -- who the engine says it is
    "not_advertised": Check(
        "error",
        "/info",
        "an engine without cluster-advertise lists the networks and carries no traffic between hosts",
        "set cluster-advertise to ADDRESS:2376 in /etc/docker/daemon.json (role overlay_docker), restart docker",
        "m#16923",
    ),
    "advertises_elsewhere": Check(
        "error",
        "/info and ip -4 addr",
        "the peers send their packets to this address: it must be the host's own, and neither loopback nor a bridge of Docker's",
        "set cluster-advertise to the host's underlay address, restart docker",
        "cs#2830, m#22008",
    ),
    "advertises_other": Check(
        "warning",
        "/info and the inventory",
        "the engine advertises another address than the inventory says: behind NAT peers do not reach it",
        "correct overlay_address, or cluster-advertise and restart docker",
        "cs#2830, fl#51",
    ),
    "gossip_silent": Check(
        "error",
        "/proc/net/tcp and udp, /proc/PID/fd of dockerd",
        "engines tell one another on port 7946, tcp and udp, where a container is; without it no packet finds its host",
        "look for the cause in journalctl -u docker; then: systemctl restart docker",
        "m#16923",
    ),
    "engine_unregistered": Check(
        "error",
        "docker/nodes in the store, and /info",
        "the other engines do not know of this one",
        "systemctl restart docker on this host",
        "own trial",
    ),
    # -- store against reality
    "ghost_host": Check(
        "warning",
        "docker/nodes in the store, the inventory, /info of all hosts",
        "engines try to gossip with a host that is not there; a host that changed its address leaves its old one for a minute",
        "wait for a minute (discovery.ttl); if it stays: consul kv delete docker/nodes/ADDRESS:PORT",
        "read in the code",
    ),
    "network_twice": Check(
        "error",
        "docker/network/v1.0/network in the store",
        "two networks of one name: containers of one name do not meet, and the network can be removed by its id only",
        "move the containers to one of them, then remove the other: docker network rm ID",
        "m#20648",
    ),
    "network_unseen": Check(
        "error",
        "GET /networks/ID on each host for each overlay network in the store",
        "containers on this host cannot join it",
        "compare Cluster Store in docker info with the other hosts; then: systemctl restart docker",
        "m#18783",
    ),
    "network_lost": Check(
        "error",
        "the containers' networks, and the networks in the store",
        "the store has lost its data, or another one was put in its place: what runs goes on until it is restarted",
        "bring back the store's data (playbooks/restore.yml), or make the networks anew and connect the containers",
        "cs#2290",
    ),
    "subnet_full": Check(
        "warning",
        "endpoints of each network in the store, and its subnet",
        "when no address is left containers do not start",
        "make a second network, or the network anew with a larger subnet",
        "m#43052, m#34446",
    ),
    "orphan_endpoint": Check(
        "warning",
        "endpoints in the store, the containers of the host that they name",
        "no container has it: a container of this name is refused with 'endpoint with name ... already exists', and its address is lost",
        "docker network disconnect -f NETWORK NAME, if no container has that name; else, or if that fails: "
        "consul kv delete docker/network/v1.0/endpoint/NETWORK_ID/ENDPOINT_ID/",
        "m#20398, ln#573",
    ),
    "endpoint_of_nobody": Check(
        "warning",
        "endpoints in the store, the addresses of all hosts",
        "it belongs to a host that is not in the inventory: a host that was removed without taking leave leaves these",
        "if the host is gone for good: docker network disconnect -f NETWORK NAME, or consul kv delete "
        "docker/network/v1.0/endpoint/NETWORK_ID/ENDPOINT_ID/",
        "m#20398",
    ),
    "stale_endpoint_count": Check(
        "warning",
        "endpoint_count and the endpoints in the store",
        "docker network rm is refused with 'has active endpoints' though there are none, or removes a network in use",
        "with no container on the network: stop docker on all hosts, consul kv delete docker/network/v1.0/endpoint_count/NETWORK_ID/, "
        "start them, remove the network",
        "m#23302",
    ),
    "leaked_address": Check(
        "warning",
        "ipam/default/data in the store, and the endpoints",
        "nobody has the address and Docker does not give it out: 'Address already in use', and the subnet fills up",
        "make the network anew when its containers can be stopped",
        "m#27398",
    ),
    "static_address_taken": Check(
        "error",
        "configured addresses of stopped containers, endpoints in the store",
        "Docker does not keep a stopped container's address for it: it cannot start any more",
        "give one of the two another address; give static ones outside of the network's ip_range",
        "compose#11899",
    ),
    # -- containers and what is left of them
    "container_down": Check(
        "error",
        "containers that have a restart policy and do not run, with Docker's own word on why",
        "after a power cut endpoints of the old boot stand in the way, whatever the restart policy",
        "systemctl restart multihost-overlay-boot-repair, or: systemctl restart docker",
        "own trial, m#22561",
    ),
    "container_without_endpoint": Check(
        "error",
        "running containers, GET /containers/ID/json",
        "it runs, and is on none of the overlay networks that it was given",
        "docker restart NAME",
        "own trial",
    ),
    "leftover_namespace": Check(
        "warning",
        "/run/docker/netns, and the containers and networks that run here",
        "a namespace that no container and no network has: 'vxlan interface: file exists' when the network comes back",
        "when no container of the network runs here: systemctl stop docker; umount NAMESPACE; rm NAMESPACE; systemctl start docker",
        "ln#751",
    ),
    "leftover_vxlan": Check(
        "warning",
        "ip -d link of type vxlan in the host's namespace",
        "a tunnel of Docker's that was left outside its namespace keeps the network's number: 'vxlan interface: file exists'",
        "ip link delete NAME, when no container of the network runs here",
        "ln#751",
    ),
    # -- the overlays' tables and the containers' DNS
    "tunnel_missing": Check(
        "error",
        "links in the namespace of each overlay that a running container is on",
        "without its vxlan device no packet of the network leaves or enters this host",
        "docker restart the containers of the network on this host; if that fails: systemctl restart docker",
        "own trial",
    ),
    "tunnel_differs": Check(
        "error",
        "links in the namespace of each overlay in use, and the network in the store",
        "with another number (VNI) packets are taken for those of another network; with another MTU large ones are lost",
        "docker restart the containers of the network on this host, one after another, so that its namespace is made anew",
        "read in the code",
    ),
    "fdb_wrong": Check(
        "error",
        "forwarding entries in each overlay's namespace, and the endpoints in the store",
        "packets to a container go to a host where it is not: what an engine learnt by asking it never forgets",
        "start multihost-overlay-peers, or: systemctl restart docker",
        "m#31588, own trial",
    ),
    "fdb_missing": Check(
        "error",
        "forwarding entries and neighbours in each overlay's namespace, and the endpoints in the store",
        "the MAC of a container is known for good and its host is not, so that its packets vanish: an engine that was restarted under "
        "live-restore answers so",
        "start multihost-overlay-peers, or: systemctl restart docker",
        "own trial",
    ),
    "neighbour_wrong": Check(
        "error",
        "neighbours in each overlay's namespace, and the endpoints in the store",
        "packets to a container carry the MAC of another, and nobody takes them",
        "start multihost-overlay-peers, or: systemctl restart docker",
        "m#31588",
    ),
    "neighbour_missing": Check(
        "error",
        "neighbours in each overlay's namespace, the endpoints in the store, and who listens for misses",
        "an engine that was restarted under live-restore does not ask for containers of the networks that it took over; where one "
        "listens, a missing entry is in order and is not said",
        "start multihost-overlay-peers, or restart the network's containers on this host",
        "own trial, read in the code",
    ),
    "entry_of_nobody": Check(
        "info",
        "the tables of each overlay's namespace, and the endpoints in the store",
        "left by a container that is gone; it leads astray if its address is given to another, unless multihost-overlay-peers runs",
        "none is needed while multihost-overlay-peers runs; it goes with the last container of the network on this host",
        "own trial",
    ),
    "address_twice": Check(
        "error",
        "endpoints in the store",
        "two containers answer to one address, and which of them is reached depends on who asks: a store that lost writes gives an "
        "address out again",
        "docker network disconnect one of them, and connect it again",
        "m#27398",
    ),
    "dns_rules_gone": Check(
        "error",
        "iptables -t nat -S in the namespace of each running container on an overlay",
        "Docker answers names on 127.0.0.11 by rules within the container; without them no name is resolved",
        "docker restart NAME",
        "own trial",
    ),
    # -- the kernel and the firewall
    "forwarding_off": Check(
        "error",
        "/proc/sys/net/ipv4/ip_forward",
        "containers reach nothing outside the host while it is 0",
        "sysctl -w net.ipv4.ip_forward=1, and see which file of sysctl.d says otherwise: preflight names it",
        "m#47966",
    ),
    "docker_rules_gone": Check(
        "error",
        "iptables -S and iptables -t nat -S",
        "published ports and the way out are dead: somebody flushed Docker's rules (iptables -F, a reload of firewalld)",
        "systemctl restart docker (with live-restore containers go on), after each such reload",
        "m#27069",
    ),
    "overlay_port_dropped": Check(
        "error",
        "iptables -S, its rules in their order, for each host that the store knows",
        "containers do not reach each other, in one direction or all, always or now and then",
        "take the rule away, or let peers in before it",
        "own trial",
    ),
    # -- what dockerd says
    "journal_name_taken": Check(
        "error",
        "dockerd's journal",
        "two hosts of one name: names resolve but packets go nowhere",
        "hostnamectl set-hostname NAME on all but one of them, restart docker",
        "cs#1573, m#19301",
    ),
    "journal_peer_unresolved": Check(
        "warning",
        "dockerd's journal",
        "this engine does not know on which host a container is: packets to it are lost",
        "see that tcp and udp 7946 are open between the hosts; then: systemctl restart docker on this host",
        "m#31588, m#35807",
    ),
    "journal_peer_suspect": Check(
        "warning",
        "dockerd's journal",
        "a peer that does not answer is taken for dead, and its containers out of reach with it",
        "see that the named host runs and that tcp and udp 7946 are open between the two",
        "m#33721",
    ),
    "journal_tcp_only": Check(
        "warning",
        "dockerd's journal",
        "peers answer by tcp and not by udp",
        "open udp 7946 between the hosts",
        "m#33721",
    ),
    "journal_store_plain": Check(
        "warning",
        "dockerd's journal",
        "the store's traffic is not encrypted although certificates were given",
        "give all of kv.cacertfile, kv.certfile and kv.keyfile",
        "own trial",
    ),
    "journal_store_kept": Check(
        "warning",
        "dockerd's journal",
        "the store was changed by a reload: /info shows the new one, the engine keeps the old one",
        "systemctl restart docker",
        "own trial",
    ),
    "journal_session_refused": Check(
        "warning",
        "dockerd's journal",
        "the store refuses sessions: no leader, no right to session:write, or a discovery.ttl out of bounds",
        "see store_leaderless; give the token session:write; discovery.ttl from 20 to 172800",
        "ln#651",
    ),
    "journal_file_exists": Check(
        "warning",
        "dockerd's journal",
        "a tunnel could not be made because an old one of the same number is there",
        "see leftover_vxlan and leftover_namespace; or: systemctl restart docker",
        "ln#751",
    ),
}


def found(check_id: str, message: str, evidence: Any = "", fix: str = "") -> dict[str, str]:
    """A finding of this register."""
    return found_in(CHECKS, check_id, message, evidence, fix)
