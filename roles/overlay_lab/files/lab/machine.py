# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the machine must have, and what can be learnt from it: tools, mirror, name servers."""

from __future__ import annotations

import ipaddress
import os
import shutil
from pathlib import Path
from typing import Dict, List
from urllib.parse import urlsplit

from .base import PATH, LabError, Log, ok, run

# Tool -> Debian's package of it.
TOOLS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "nft": "nftables",
    "sysctl": "procps",
    "mount": "mount",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "wget": "wget",
}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Built in or loadable, whatever the machine has; what is really missing fails later, and is named there.
MODULES = ("bridge", "veth", "overlay", "tun", "nf_tables", "br_netfilter", "vxlan", "iptable_nat", "xt_comment")


def missing_packages() -> List[str]:
    """Packages of the tools that are not here."""
    places = os.environ.get("PATH", "") + ":" + PATH
    names = {package for tool, package in TOOLS.items() if not shutil.which(tool, path=places)}
    if not Path(KEYRING).exists():
        names.add("debian-archive-keyring")
    return sorted(names)


def ensure_tools(log: Log, install: bool) -> None:
    """Install what is missing, or say so."""
    packages = missing_packages()
    if not packages:
        return
    words = " ".join(packages)
    if not install or not shutil.which("apt-get", path=PATH):
        raise LabError("this machine lacks %s: install it (Debian: apt-get install %s)" % (words, words))
    if log.act("install %s" % words):
        options = ["-q", "-o", "DPkg::Lock::Timeout=300"]
        run(["apt-get", *options, "update"], timeout=600, DEBIAN_FRONTEND="noninteractive")
        argv = ["apt-get", *options, "install", "-y", "--no-install-recommends", *packages]
        run(argv, timeout=1200, DEBIAN_FRONTEND="noninteractive")


def ensure_modules() -> None:
    """Hosts cannot load modules themselves; a kernel without loadable ones has them built in."""
    if Path("/lib/modules").is_dir() and shutil.which("modprobe", path=PATH):
        ok(["modprobe", "-a", "-q", *MODULES])


def default_mirror() -> str:
    """The mirror of Debian's main archive that this machine's own apt uses."""
    if not shutil.which("apt-get", path=PATH):
        raise LabError("this machine has no apt to learn a mirror from: set overlay_lab_mirror to a Debian mirror")
    fields = "$(CREATED_BY)|$(COMPONENT)|$(RELEASE)|$(REPO_URI)"
    lines = run(["apt-get", "indextargets", "--format", fields], check=False)
    found = [line.split("|") for line in lines.splitlines()]
    for created_by, component, release, uri in (entry for entry in found if len(entry) == 4):
        main = created_by == "Packages" and component == "main"
        # A suite with a dash or a slash is no release (NAME-updates, NAME-security) but a part of one.
        uri = first_of_list(uri)
        if main and release.isalpha() and "debian" in urlsplit(uri).path.split("/"):
            return uri.rstrip("/")
    raise LabError("this machine's apt has no Debian main archive: set overlay_lab_mirror to the URL of a mirror")


def first_of_list(uri: str) -> str:
    """Cloud images of Debian name a file with mirrors instead of one."""
    if not uri.startswith("mirror+file:"):
        return uri
    path = Path("/" + uri.partition(":")[2].strip("/"))
    words = path.read_text().split() if path.exists() else []
    return words[0] if words else ""


def apt_proxy() -> Dict[str, str]:
    """The proxy that this machine's apt needs to reach its mirror, as a variable for other programs."""
    if not shutil.which("apt-config", path=PATH):
        return {}
    lines = run(["apt-config", "dump", "--no-empty", "--format", "%v%n", "Acquire::http::Proxy"], check=False).split()
    return {"http_proxy": lines[0]} if lines and lines[0] != "DIRECT" else {}


def check_mirror(text: str) -> str:
    """The mirror to use."""
    mirror = (text or default_mirror()).rstrip("/")
    if urlsplit(mirror).scheme not in ("http", "https") or not urlsplit(mirror).hostname:
        raise LabError("overlay_lab_mirror %r is not an http or https URL" % text)
    return mirror


def name_servers() -> List[str]:
    """Those of this machine that hosts can reach too (systemd-resolved lists them elsewhere)."""
    for path in (Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")):
        lines = path.read_text().splitlines() if path.exists() else []
        words = [line.split() for line in lines if line.startswith("nameserver")]
        found = [entry[1] for entry in words if len(entry) > 1 and reachable_from_hosts(entry[1])]
        if found:
            return found[:3]
    return []


def reachable_from_hosts(text: str) -> bool:
    """The hosts have IPv4, and a loopback of their own."""
    try:
        return not ipaddress.IPv4Address(text).is_loopback
    except ValueError:
        return False


def apt_dates() -> List[str]:
    """If this machine's apt takes an archive's dates as they are (a snapshot, a skewed clock), its hosts do too."""
    names = ("Acquire::Check-Valid-Until", "Acquire::Check-Date")
    lines = run(["apt-config", "dump", "--no-empty", *names], check=False).splitlines()
    return [line for line in lines if line.split(" ")[0] in names]
