# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""All that a cluster may leave on a host, as lines that can be compared; and what of it is known to remain (docs/day-2.md says why)."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.cluster import Cluster

SCRIPT = r"""
import hashlib, json, os, subprocess
OURS = ("/var/lib/multihost-overlay", "/var/lib/multihost-overlay-consul", "/run/multihost-overlay")
ROOTS = ("/etc", "/usr/local", "/lib/systemd", "/root", *OURS)

def out(*argv):
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.splitlines()
    except OSError:
        return []

def line(path):
    status = os.lstat(path)
    if os.path.islink(path):
        what = "-> " + os.readlink(path)
    elif path.startswith("/run/"):
        what = "file"  # of a program that writes it while it runs
    elif os.path.isfile(path):
        what = hashlib.sha256(open(path, "rb").read()).hexdigest()
    else:
        what = "folder"
    return "%s %o %d:%d %s" % (path, status.st_mode, status.st_uid, status.st_gid, what)

found = []
for root in ROOTS:
    found += [line(root)] if os.path.lexists(root) else []
    for folder, folders, files in os.walk(root):
        found += [line(os.path.join(folder, name)) for name in folders + files]
found += ["place " + os.path.join(root, name) for root in ("/opt", "/var/lib") for name in os.listdir(root)]
found += ["package " + row for row in out("dpkg-query", "-W", "-f", "${Package} ${Version} ${db:Status-Abbrev}\n")]
found += ["user " + row for row in out("getent", "passwd")] + ["group " + row for row in out("getent", "group")]
found += ["sysctl " + row for row in out("sysctl", "net.ipv4.ip_forward")]
found += ["table " + row for row in out("nft", "list", "tables") if "multihost" in row]
found += ["link " + row.split(":")[1].split("@")[0].strip() for row in out("ip", "-o", "link") if "veth" not in row]
found += ["unit " + row for row in out("systemctl", "list-unit-files", "--no-legend", "--state=enabled")]
found += ["runs " + row.split()[0] for row in out("systemctl", "list-units", "--no-legend", "--state=active", "--type=service")]
found += ["failed " + row for row in out("systemctl", "list-units", "--no-legend", "--state=failed")]
spaces = "/run/docker/netns"
names = [name for name in (os.listdir(spaces) if os.path.isdir(spaces) else []) if "-" in name]
# A plain file there is a namespace no more: an engine sweeps such files away when it likes.
found += ["space " + name for name in names if os.stat(os.path.join(spaces, name)).st_dev != os.stat(spaces).st_dev]
found += ["network " + row for row in out("docker", "network", "ls", "--format", "{{.Name}} {{.Driver}}")]
found += ["live-restore " + row for row in out("docker", "info", "-f", "{{.LiveRestoreEnabled}} {{.ClusterStore}}")]
ids = out("docker", "ps", "-aq")
found += ["container " + row for row in (out("docker", "inspect", "-f", "{{.Name}} {{.State.Pid}} {{.Id}}", *ids) if ids else [])]
print(json.dumps(sorted(found)))
"""
# What changes of itself, also where nobody does anything.
RESTLESS = re.compile(
    # A Consul that runs writes all the time.
    r"(/var/lib/multihost-overlay-consul/.+|/etc/(ld\.so\.cache|\.pwd\.lock|resolv\.conf|adjtime|mtab)|/root/\.ansible\S*"
    r"|runs (user@|session|systemd-(tmpfiles|timedated|hostnamed)|apt-)\S*) ?"
)
# What a reset leaves: docs/day-2.md, section Reset.
REMAINS = (
    # Of packages that are gone: their users and groups, as Debian leaves them, and so the lists of these.
    r"(user|group) (consul|docker):",
    r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-? ",
    # What engines want started before them; it is systemd's, has done its work, and does nothing more.
    r"runs systemd-networkd-wait-online\.service$",
    # An engine's own, for as long as there is an engine.
    r"link docker_gwbridge$",
    r"network docker_gwbridge bridge$",
)  # fmt: skip


def of(cluster: Cluster, host: str) -> set[str]:
    """The digest of a host."""
    lines: list[str] = json.loads(cluster.run(host, "python3", "-c", SCRIPT, timeout=120).stdout)
    return {row for row in lines if not RESTLESS.match(row)}


def of_all(cluster: Cluster) -> dict[str, set[str]]:
    """The same of all hosts."""
    return {host: of(cluster, host) for host in cluster.hosts}


def left(before: dict[str, set[str]], after: dict[str, set[str]]) -> dict[str, Any]:
    """What is more or less than before and not known to remain, by host."""
    known = re.compile("|".join(REMAINS))
    found = {
        # Docker takes away by itself the namespaces of overlays that nobody uses any more.
        host: [f"- {row}" for row in sorted(before[host] - after[host]) if not known.match(row) and row[:6] != "space "]
        + [f"+ {row}" for row in sorted(after[host] - before[host]) if not known.match(row)]
        for host in before
    }
    return {host: rows for host, rows in found.items() if rows}
