# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a host, and nothing else: no function here writes, and none raises because a host is strange.

What cannot be read is remembered in ``Reader.unreadable`` and becomes a finding. The root directory and the runner of
programs are injected, so that a test can lay out a host in a folder.
"""

from __future__ import annotations

import fnmatch
import os
import re
from functools import partial
from typing import Any

from ansible_collections.multihost.overlay.plugins.module_utils._programs import Runner, run_program

MODULES = ("vxlan", "bridge", "br_netfilter", "veth", "overlay")
# Link types that a throw-away namespace can prove where neither /lib/modules nor /proc/config.gz tell.
LINK_TRIALS = {"vxlan": ["id", "1", "dstport", "4789"], "bridge": [], "veth": []}
SYSCTLS = (
    "net.ipv4.ip_forward",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
)
PACKAGES = (
    "docker.io",
    "docker-ce",
    "docker-ce-cli",
    "docker-engine",
    "moby-engine",
    "podman-docker",
    "containerd",
    "containerd.io",
    "runc",
    "consul",
    "python3-docker",
    "etcd",
    "etcd-server",
    "zookeeper",
    "zookeeperd",
    "apparmor",
    "iptables",
    "nftables",
    "kmod",
    "iproute2",
    "unzip",
    "cgroupfs-mount",
    "firewalld",
    "ufw",
)
FORWARDING = ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding")
SYSCTL_DIRS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")


# Reading must not hang where a host is broken.
QUICK = partial(run_program, timeout=15)


class Reader:
    """Files below ``root`` and the output of programs."""

    def __init__(self, root: str = "/", run: Runner = QUICK) -> None:
        self.root = root
        self.run = run
        self.unreadable: list[dict[str, str]] = []

    def path(self, path: str) -> str:
        return os.path.join(self.root, path.lstrip("/"))

    def trouble(self, what: str, error: object) -> None:
        """Remember that something could not be read; it becomes a finding."""
        self.unreadable.append({"what": what, "error": str(error)})

    def text(self, path: str) -> str | None:
        """A file's text, or None when there is no such file."""
        data = self.data(path)
        return None if data is None else data.decode("utf-8", "replace")

    def data(self, path: str) -> bytes | None:
        """A file's bytes, or None when there is no such file."""
        try:
            with open(self.path(path), "rb") as handle:
                return handle.read()
        except (FileNotFoundError, NotADirectoryError):
            return None
        # A process that ended while it was looked at is no more than a file that is not there.
        except ProcessLookupError:
            return None
        except OSError as exc:
            self.trouble(path, exc)
            return None

    def line(self, path: str) -> str:
        return (self.text(path) or "").strip()

    def names(self, path: str) -> list[str]:
        """The sorted names in a directory; none when it is not there."""
        try:
            return sorted(os.listdir(self.path(path)))
        except OSError:
            return []

    def exists(self, path: str) -> bool:
        return os.path.exists(self.path(path))

    def link(self, path: str) -> str:
        try:
            return os.readlink(self.path(path))
        except OSError:
            return ""

    def output(self, argv: list[str]) -> str | None:
        """A program's output, or None (and an unreadable thing) when it fails."""
        status, out, err = self.run(argv)
        if status != 0:
            self.trouble(" ".join(argv), err.strip() or f"status {status}")
            return None
        return out


def parse_assignments(text: str) -> dict[str, str]:
    """KEY=VALUE lines as in os-release and systemd's environment files."""
    found = {}
    for raw in text.splitlines():
        line = raw.strip()
        if not line or line[0] in "#;" or "=" not in line:
            continue
        key, value = line.split("=", 1)
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        found[key.replace("export ", "", 1).strip()] = value
    return found


def read_identity(reader: Reader) -> dict[str, Any]:
    """Who the host is, and what runs it."""
    release = parse_assignments(reader.text("/etc/os-release") or reader.text("/usr/lib/os-release") or "")
    return {
        "distribution": {
            "id": release.get("ID", "").lower(),
            "version": release.get("VERSION_ID", ""),
            "codename": release.get("VERSION_CODENAME", ""),
        },
        "kernel": reader.line("/proc/sys/kernel/osrelease"),
        "hostname": reader.line("/proc/sys/kernel/hostname"),
        "machine_id": reader.line("/etc/machine-id"),
        "systemd": reader.exists("/run/systemd/system"),
        "init": reader.line("/proc/1/comm"),
    }


def parse_addresses(text: str) -> list[dict[str, Any]]:
    """`ip -o -4 addr show`: one address a line, the same form in every version of iproute2."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or words[2] != "inet":
            continue
        # A point-to-point address is followed by `peer`, and has no length of its own.
        address, _slash, length = words[3].partition("/")
        found.append(
            {
                "interface": words[1].split("@")[0],
                "address": address,
                "prefix": int(length or 32),
                "dynamic": "dynamic" in words,
            }
        )
    return found


ROUTE_TYPES = ("local", "broadcast", "multicast", "anycast", "blackhole", "unreachable", "prohibit", "throw", "nat")


def parse_routes(text: str) -> list[dict[str, str]]:
    """`ip -o -4 route show table all`, without default routes, the kernel's own, and those that lead nowhere."""
    found = []
    for line in text.splitlines():
        words = line.split()
        if words and words[0] == "unicast":
            words = words[1:]
        if not words or words[0] in ROUTE_TYPES or words[0] == "default":
            continue
        device = words[words.index("dev") + 1] if "dev" in words[:-1] else ""
        found.append({"destination": words[0], "device": device, "line": " ".join(words).rstrip("\\ ")})
    return found


def read_resolvers(reader: Reader) -> list[dict[str, str]]:
    """Name servers with the file that names them; systemd-resolved hides the real ones behind 127.0.0.53."""
    found: list[dict[str, str]] = []
    for path in ("/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"):
        for line in (reader.text(path) or "").splitlines():
            words = line.split()
            if len(words) >= 2 and words[0] == "nameserver" and words[1] not in [entry["address"] for entry in found]:
                found.append({"address": words[1], "file": path})
    return found


def read_network(reader: Reader) -> dict[str, Any]:
    """Addresses, routes and resolvers; None stands for what could not be read."""
    addresses = reader.output(["ip", "-o", "-4", "addr", "show"])
    routes = reader.output(["ip", "-o", "-4", "route", "show", "table", "all"])
    return {
        "addresses": None if addresses is None else parse_addresses(addresses),
        "routes": None if routes is None else parse_routes(routes),
        "interfaces": reader.names("/sys/class/net"),
        "resolvers": read_resolvers(reader),
    }


def read_sysctls(reader: Reader) -> dict[str, str]:
    found = {}
    for key in SYSCTLS:
        value = reader.text("/proc/sys/" + key.replace(".", "/"))
        if value is not None:
            found[key] = value.strip()
    return found


def sysctl_files(reader: Reader) -> list[str]:
    """The files in the order in which they are applied: by base name, the first directory that has one wins."""
    chosen: dict[str, str] = {}
    for directory in SYSCTL_DIRS:
        for name in reader.names(directory):
            if name.endswith(".conf"):
                chosen.setdefault(name, f"{directory}/{name}")
    files = [chosen[name] for name in sorted(chosen)]
    # `sysctl --system` reads it last, and Debian up to 12 links it as 99-sysctl.conf.
    files.append("/etc/sysctl.conf")
    if re.search(r"^ENABLED=yes", reader.text("/etc/ufw/ufw.conf") or "", re.MULTILINE):
        files.append("/etc/ufw/sysctl.conf")
    return files


def read_sysctl_settings(reader: Reader) -> list[dict[str, str]]:
    """Every line about forwarding, in the order in which the files are applied."""
    found = []
    for path in sysctl_files(reader):
        for number, raw in enumerate((reader.text(path) or "").splitlines(), 1):
            key, equals, value = raw.strip().lstrip("-").partition("=")
            key = key.strip().replace("/", ".")
            if (
                equals
                and not raw.strip().startswith(("#", ";"))
                # systemd-sysctl, and newer procps, take patterns such as net.ipv4.conf.*.forwarding.
                and any(fnmatch.fnmatchcase(name, key) for name in FORWARDING)
            ):
                found.append({"file": path, "line": str(number), "key": key, "value": value.strip()})
    return found


def lacks_apparmor_parser(reader: Reader) -> bool:
    """Whether the kernel enforces AppArmor but the program that dockerd then needs is not there."""
    places = ("/usr/sbin", "/sbin", "/usr/bin")
    there = any(reader.exists(f"{place}/apparmor_parser") for place in places)
    return reader.line("/sys/module/apparmor/parameters/enabled") == "Y" and not there


def read_packages(reader: Reader) -> dict[str, str]:
    """Installed ones of the packages that matter; empty where there is no dpkg."""
    if not reader.exists("/var/lib/dpkg/status"):
        return {}
    # Its status is 1 as soon as one of the names is unknown: what it printed is what counts.
    _status, out, _err = reader.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n", *PACKAGES]
    )
    rows = [line.split() for line in out.splitlines()]
    return {row[1]: row[2] for row in rows if len(row) == 3 and row[0] == "installed"}
