# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wanted lab: what the role hands over, checked before anything is touched."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

from .base import LabError, load

# The bridge is called ol-NAME, and the kernel takes 15 characters.
NAME_MAX = 11
RELEASES = ("bullseye", "bookworm", "trixie")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


class Host(NamedTuple):
    """One wanted host."""

    name: str
    address: str
    release: str


class Lab:
    """A lab: its places on the disk and what is wanted of it."""

    def __init__(self, directory: str, name: str, wanted: Optional[Dict[str, Any]] = None) -> None:
        self.base = Path(directory)
        self.name = check_name(name)
        self.dir = self.base / name
        self.bridge = "ol-" + name
        self.wanted: Dict[str, Any] = wanted if wanted is not None else load(self.dir / "lab.json", {})
        self.images = self.base / "images"
        self.cache = self.base / "cache"
        if self.wanted:
            self.network = check_network(self.wanted["network"])
            self.gateway = str(self.network.network_address + 1)
            self.hosts = check_hosts(self.wanted["hosts"], self.network)

    @property
    def mac(self) -> str:
        """The bridge's own: with one of its ports' it would change with them, and hosts would lose their gateway for a while."""
        return "02:" + hashlib.sha256(self.bridge.encode()).digest()[:5].hex(":")

    @property
    def exists(self) -> bool:
        """Has this lab been brought up (perhaps in part)?"""
        return self.dir.is_dir()

    def require(self) -> None:
        """Every command but `up` needs a lab that is there."""
        if not self.wanted:
            raise LabError("there is no lab %r in %s: bring it up with playbooks/lab_up.yml" % (self.name, self.base))

    def pick(self, names: List[str]) -> List[Host]:
        """The hosts of these names; all without any."""
        self.require()
        known = {host.name: host for host in self.hosts}
        for name in names:
            if name not in known:
                raise LabError("lab %r has no host %r, only %s" % (self.name, name, ", ".join(known)))
        return [known[name] for name in names] if names else list(self.hosts)

    def host_dir(self, name: str) -> Path:
        """Where all that makes up a host lies."""
        return self.dir / "hosts" / name

    def machine(self, name: str) -> str:
        """A host's name among all machines of this machine."""
        return "%s-%s" % (self.name, name)


def check_name(name: str) -> str:
    """A lab's name becomes part of a bridge's."""
    if not NAME.fullmatch(name) or len(name) > NAME_MAX or name in ("images", "cache"):
        raise LabError(
            "overlay_lab_name %r: take 1 to %d of a-z, 0-9 and - (the bridge is called ol-NAME), not images or cache"
            % (name, NAME_MAX)
        )
    return name


def check_network(text: str) -> ipaddress.IPv4Network:
    """The lab's own network."""
    try:
        network = ipaddress.IPv4Network(text)
    except ValueError as exc:
        raise LabError("overlay_lab_network %r is not an IPv4 network such as 10.88.0.0/24: %s" % (text, exc)) from exc
    if network.prefixlen > 29:
        raise LabError("overlay_lab_network %s has no room for hosts: take a /24" % text)
    return network


def check_hosts(hosts: List[Dict[str, str]], network: ipaddress.IPv4Network) -> List[Host]:
    """Names that can be host names, addresses of the lab's network, each once."""
    found = [check_host(Host(entry["name"], entry["address"], entry["release"]), network) for entry in hosts]
    if not found:
        raise LabError("the inventory's group overlay_lab has no hosts: each host of it becomes one of the lab")
    for field in ("name", "address"):
        values = [getattr(host, field) for host in found]
        twice = sorted({value for value in values if values.count(value) > 1})
        if twice:
            raise LabError("two hosts of the lab have the same %s %s" % (field, twice[0]))
    return found


def check_host(host: Host, network: ipaddress.IPv4Network) -> Host:
    """One host."""
    if not NAME.fullmatch(host.name) or len(host.name) > 40:
        raise LabError("host %r: its name must be a host name (a-z, 0-9 and -, at most 40)" % host.name)
    if host.release not in RELEASES:
        raise LabError("host %s: overlay_lab_release %r is none of %s" % (host.name, host.release, ", ".join(RELEASES)))
    try:
        address = ipaddress.IPv4Address(host.address)
    except ValueError as exc:
        raise LabError("host %s: ansible_host must be its IPv4 address, not %r" % (host.name, host.address)) from exc
    reserved = (network.network_address, network.network_address + 1, network.broadcast_address)
    if address not in network or address in reserved:
        raise LabError(
            "host %s: ansible_host %s is not a free address of overlay_lab_network %s (its first one is this machine's)"
            % (host.name, address, network)
        )
    return host
