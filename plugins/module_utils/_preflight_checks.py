# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The register of what preflight can find: one entry for each check id.

Each register of the collection is a dictionary CHECKS in a file of its own; docs/generate_checks.py makes docs/checks.md of all.
"""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from ansible_collections.multihost.overlay.plugins.module_utils._findings import finding


class Check(NamedTuple):
    """A check id: its one level, what is read, why it matters, the cure, and where that is known from."""

    level: str
    reads: str
    why: str
    fix: str
    source: str


CHECKS: dict[str, Check] = {
    # -- the host itself
    "host_unreachable": Check(
        "error",
        "the SSH connection",
        "a run that leaves out a peer builds a cluster that does not know it",
        "start the host or repair SSH to it; or set overlay_skip_unreachable: true to go on without it",
        "design",
    ),
    "host_skipped": Check(
        "warning",
        "the SSH connection, with overlay_skip_unreachable",
        "the host is left as it is and must be done later",
        "run again with --limit HOST once it is back",
        "design",
    ),
    "python_missing": Check(
        "error",
        "the module's interpreter",
        "Ansible's modules are Python programs (3.8 or newer)",
        "apt-get install python3 on the host, or set ansible_python_interpreter",
        "ansible-core",
    ),
    "preflight_failed": Check(
        "error",
        "the module's own result",
        "a host that could not be read is not known to be fit",
        "run the play again with -vvv",
        "ansible-core",
    ),
    "not_root": Check(
        "error",
        "effective user id",
        "processes, listeners and Docker's socket are hidden from other users",
        "set ansible_become: true in the inventory or run with --become; or log in as root: ansible_user: root",
        "design",
    ),
    "become_failed": Check(
        "error",
        "Ansible's own words",
        "only root can see and change what an overlay needs",
        "let the user become root: give ansible_become_password in a file that only you can read, or run with --ask-become-pass, or "
        "allow sudo without a password on the host (NOPASSWD); where sudo is missing install it, or log in as root",
        "ansible-core",
    ),
    "systemd_missing": Check(
        "error",
        "/run/systemd/system",
        "all services of this collection are systemd units",
        "use a host that boots with systemd",
        "design",
    ),
    "distribution_untested": Check(
        "warning",
        "/etc/os-release",
        "package names, versions and backends are known for Debian 11, 12 and 13 only",
        "try it on a host that may break, or use Debian 11, 12 or 13",
        "design",
    ),
    "unreadable": Check(
        "warning",
        "the named file, program or API",
        "what cannot be read cannot be checked",
        "see the evidence; make the file readable or install the program, then run preflight again",
        "design",
    ),
    # -- kernel
    "kernel_too_old": Check(
        "error",
        "/proc/sys/kernel/osrelease",
        "network namespaces and vxlan as Docker needs them are not there",
        "boot a newer kernel (3.18 or later), or lower overlay_preflight_kernel_minimum knowingly",
        "m#18929",
    ),
    "kernel_old": Check(
        "warning",
        "/proc/sys/kernel/osrelease",
        "before 3.16 Docker runs overlays in the host's namespace and refuses subnets that overlap any route, before "
        "3.12 "
        "vxlan listens on port 8472 and does not talk to newer kernels; enterprise kernels carry both back to 3.10",
        "boot kernel 3.18 or later; on an enterprise 3.10 kernel keep all hosts on the same one",
        "m#31281, m#18929",
    ),
    "vxlan_missing": Check(
        "error",
        "/proc/modules, /sys/module, modules.builtin, modules.dep, /proc/config.gz, a trial in a throw-away namespace",
        "overlay networks are vxlan tunnels",
        "install the package with the kernel's extra modules, or boot a kernel with CONFIG_VXLAN",
        "fl#1502",
    ),
    "bridge_missing": Check(
        "error",
        "as vxlan_missing",
        "docker_gwbridge and each overlay are bridges",
        "install the package with the kernel's extra modules, or boot a kernel with CONFIG_BRIDGE",
        "fl#1502",
    ),
    "ip_forward_off": Check(
        "info",
        "/proc/sys/net/ipv4/ip_forward",
        "containers reach nothing outside the host while it is 0",
        "nothing to do: role overlay_host sets it to 1",
        "m#47966",
    ),
    "ip_forward_reset": Check(
        "warning",
        "sysctl.d directories, /etc/sysctl.conf and ufw's file, in the order they are applied",
        "the last file wins: forwarding is off again after the next boot or `sysctl --system`",
        "remove the line or set it to 1",
        "m#47966",
    ),
    # -- address and routes
    "address_missing": Check(
        "error",
        "ip -4 addr",
        "the engine advertises this address to its peers; they would talk to nobody",
        "set overlay_address to an address of this host, or configure it on the host",
        "m#16923, cs#2830",
    ),
    "address_loopback": Check(
        "error",
        "the host's overlay_address",
        "every host would advertise itself as itself",
        "set overlay_address to an address that the peers reach",
        "cs#2830",
    ),
    "address_on_docker_bridge": Check(
        "error",
        "ip -4 addr",
        "Docker's own bridges exist on each host and lead nowhere",
        "set overlay_address to an address of the network between the hosts",
        "m#22008",
    ),
    "address_nat": Check(
        "warning",
        "the host's overlay_address",
        "10.0.2.15 is what VirtualBox and QEMU give every guest behind NAT: peers cannot reach it",
        "add a private network to the machines and set overlay_address to its address",
        "fl#51",
    ),
    "address_dynamic": Check(
        "info",
        "ip -4 addr",
        "a lease that changes breaks the store and the overlays",
        "reserve the address in the DHCP server or configure it statically",
        "seeds",
    ),
    "interface_mismatch": Check(
        "error",
        "ip -4 addr",
        "overlay_interface says where the address must lie, and it lies elsewhere",
        "correct overlay_address or overlay_interface",
        "seeds",
    ),
    "subnet_overlaps_address": Check(
        "error",
        "ip -4 addr",
        "containers would take the host's network for their own; DNS and the gateway become unreachable",
        "choose another subnet for the overlay network",
        "m#27399",
    ),
    "subnet_overlaps_route": Check(
        "error",
        "ip -4 route, all tables",
        "containers could not reach what the route leads to",
        "choose another subnet for the overlay network, or remove the route",
        "m#34841",
    ),
    "subnet_overlaps_resolver": Check(
        "error",
        "resolv.conf, also systemd-resolved's",
        "containers could not resolve names",
        "choose another subnet for the overlay network",
        "m#27399",
    ),
    "subnet_overlaps_peer": Check(
        "error",
        "the overlay addresses of all hosts",
        "containers could not reach that host",
        "choose another subnet for the overlay network",
        "m#34841",
    ),
    "subnet_left_to_docker": Check(
        "warning",
        "overlay_networks and the host's routes",
        "Docker takes the next free /24 of 10.0.0.0/8 and does not look at the hosts' routes",
        "give the network a subnet",
        "own trial",
    ),
    # -- identities, compared over all hosts
    "hostname_duplicate": Check(
        "error",
        "hostname of all hosts",
        "hosts are known to each other by hostname: names resolve but packets go nowhere",
        "hostnamectl set-hostname NAME on all but one of them, restart docker",
        "cs#1573, m#19301",
    ),
    "machine_id_duplicate": Check(
        "error",
        "/etc/machine-id of all hosts",
        "cloned hosts get one DHCP lease, and systemd gives their bridges and tunnels the same MAC",
        "rm /etc/machine-id && systemd-machine-id-setup on all but one of them, reboot",
        "fl#1155",
    ),
    "engine_id_duplicate": Check(
        "error",
        "the engine's ID of all hosts",
        "cloned engines are taken for one",
        "stop docker, delete /etc/docker/key.json (and /var/lib/docker/engine-id) on all but one of them, start docker",
        "cs#1467",
    ),
    "address_shared": Check(
        "error",
        "addresses of all hosts",
        "peers would reach the wrong host",
        "give each host an address of its own",
        "cs#2830",
    ),
    # -- engine
    "engine_too_new": Check(
        "error",
        "the engine's version",
        "classic mode (cluster-store) was removed in Docker 23.0; there it is a fatal start error",
        "remove this engine and its data (its containers are lost), then run again: Debian 11 has Docker 20.10, elsewhere give an "
        "archive; an engine is never downgraded in place, and newer ones only know swarm mode",
        "m#42247",
    ),
    "engine_backend_missing": Check(
        "error",
        "strings in the dockerd binary",
        'the engine exits with "discovery service not supported"',
        "overlay_docker_install: archive with a dockerd that has the backend, or an overlay_store_type that this "
        "engine has",
        "own trial",
    ),
    "engine_unavailable": Check(
        "error",
        "/etc/os-release and overlay_docker_install",
        "the engine that would be installed cannot serve the mode",
        "overlay_docker_install: archive with a dockerd that has the backend, or a host with Debian 11",
        "own trial",
    ),
    "engine_plan_unknown": Check(
        "warning",
        "/etc/os-release and overlay_docker_install",
        "it is not known which backends the engine to be installed has",
        "try it on one host first, or use overlay_docker_install: archive with a binary that has the backend",
        "design",
    ),
    "engine_replaced": Check(
        "warning",
        "the engine that is there and overlay_docker_install",
        "the engine on the host does not serve the mode and will be replaced, as was asked for by name",
        "see which containers run on it first",
        "design",
    ),
    "engine_stopped": Check(
        "info",
        "processes",
        "its containers and its state cannot be seen",
        "nothing to do: role overlay_docker starts it",
        "design",
    ),
    "engine_silent": Check(
        "warning",
        "the engine's socket",
        "a dockerd that hangs, for instance on a store out of reach, cannot be asked for its containers",
        "journalctl -u docker; check that its store answers",
        "own trial",
    ),
    "engine_is_podman": Check(
        "error",
        "the engine's socket",
        "podman serves Docker's socket; it has neither overlays nor a cluster store",
        "systemctl disable --now podman.socket and remove the package podman-docker",
        "design",
    ),
    "swarm_active": Check(
        "error",
        "the engine's swarm state",
        "an engine is in classic mode or in a swarm, never both",
        "`docker swarm leave` on the host, knowing that its services end; or leave the host out of the group",
        "own trial",
    ),
    "cluster_store_blocks_swarm": Check(
        "error",
        "the engine's cluster store",
        "Docker refuses a swarm while a store is set",
        "remove cluster-store and restart docker, knowing that its overlay networks end",
        "own trial",
    ),
    "cluster_store_other": Check(
        "warning",
        "the engine's cluster store",
        "overlay networks live in the store: those in the present one disappear from this host",
        "set overlay_store_url to the present store to keep its networks",
        "cs#2290",
    ),
    # -- engine's configuration
    "daemon_json_invalid": Check(
        "error",
        "/etc/docker/daemon.json",
        "dockerd does not start with it and nobody can merge into it; it is left untouched",
        "correct the file: python3 -m json.tool /etc/docker/daemon.json",
        "design",
    ),
    "store_opts_not_strings": Check(
        "error",
        "/etc/docker/daemon.json",
        "every value of cluster-store-opts must be a string, a number is fatal",
        "quote the value in /etc/docker/daemon.json",
        "own trial",
    ),
    "engine_flag_conflict": Check(
        "error",
        "dockerd's argv, the unit with its drop-ins and environment files",
        "dockerd exits when a setting is both a flag and a key of daemon.json",
        "remove the flag where it is set (see evidence), or give our setting the same value",
        "m#25471",
    ),
    "engine_flag_same": Check(
        "info",
        "as engine_flag_conflict",
        "it has the value we want; it stays a flag and is not written into daemon.json",
        "nothing to do",
        "m#25471",
    ),
    "engine_key_twice": Check(
        "error",
        "as engine_flag_conflict, and daemon.json",
        'dockerd exits at its next start: "specified both as a flag and in the configuration file"',
        "remove it in one of the two places",
        "m#25471",
    ),
    "engine_config_elsewhere": Check(
        "error",
        "as engine_flag_conflict",
        "dockerd reads another file than the /etc/docker/daemon.json we write",
        "remove --config-file from the place in the evidence and move that file to /etc/docker/daemon.json",
        "design",
    ),
    "proxy_swallows_store": Check(
        "error",
        "dockerd's environment: process, unit, drop-ins, environment files, manager defaults",
        "dockerd asks the proxy for its store",
        "add the store's host to NO_PROXY in the same place, then restart docker",
        "m#23666",
    ),
    # -- store
    "store_in_container": Check(
        "warning",
        "running containers and the store's URL",
        "at boot the engine waits for the store and the store for the engine: overlay containers stay dead",
        "run the store as a service of the host (overlay_consul_manage: true does)",
        "m#22561, m#23302",
    ),
    # -- certificates
    "certificate_ends": Check(
        "warning",
        "/etc/multihost-overlay/tls",
        "Consuls refuse one another, and Docker's clients its API, from the second on in which a certificate ends",
        "run site.yml, which renews what ends within overlay_tls_renew_days; or playbooks/rotate_certificates.yml, which renews all",
        "design",
    ),
    "ca_ends": Check(
        "warning",
        "/etc/multihost-overlay/tls/ca.crt and docker-clients.crt",
        "with the CA end all certificates that it has issued",
        "playbooks/rotate_ca.yml, best while it is valid; for the one of Docker's clients playbooks/revoke_clients.yml",
        "design",
    ),
    "port_held": Check(
        "error",
        "/proc/net/tcp, tcp6, udp and udp6, /proc/PID/fd",
        "the port is needed and another program listens on it",
        "stop that program, or use it: overlay_store_url and, for a Consul, overlay_consul_manage: false",
        "design",
    ),
}


def found_in(
    register: Mapping[str, Check], check_id: str, message: str, evidence: Any = "", fix: str = ""
) -> dict[str, str]:
    """A finding with the level, and unless given the cure, of its entry in a register."""
    check = register[check_id]
    return finding(
        check_id, check.level, message, evidence if isinstance(evidence, str) else "; ".join(evidence), fix or check.fix
    )


def found(check_id: str, message: str, evidence: Any = "", fix: str = "") -> dict[str, str]:
    """A finding of this register."""
    return found_in(CHECKS, check_id, message, evidence, fix)
