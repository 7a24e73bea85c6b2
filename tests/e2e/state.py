# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The named state of a cluster's hosts: what a run that must change nothing leaves exactly as it was.

Files count with owner, mode and time, so that one written anew with the same content shows; programs count with their
start, so that a restart shows.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from tests.cluster import Cluster

FOLDERS = (
    "/etc/docker",
    "/etc/multihost-overlay",
    "/etc/modules-load.d",
    "/etc/sysctl.d",
    "/etc/sysusers.d",
    "/etc/systemd/system",
    "/usr/local/lib/multihost-overlay",
    "/usr/local/lib/systemd",
    "/var/lib/multihost-overlay",
)
PROGRAMS = ("dockerd", "consul")
LOOK = """
import hashlib, json, os, stat, subprocess, sys

def show(path):
    status = os.lstat(path)
    text = "%o %d:%d" % (status.st_mode, status.st_uid, status.st_gid)
    if stat.S_ISDIR(status.st_mode):
        return text
    if stat.S_ISLNK(status.st_mode):
        return text + " -> " + os.readlink(path)
    with open(path, "rb") as stream:
        return "%s %d %s" % (text, status.st_mtime_ns, hashlib.sha256(stream.read()).hexdigest())

def say(*argv):
    try:
        return subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout.decode()
    except OSError:
        return ""

state, (folders, programs) = {}, json.loads(sys.argv[1])
for folder in folders:
    for place, names, files in os.walk(folder):
        for path in [place] + [os.path.join(place, name) for name in names + files]:
            state[path] = show(path)
for line in say("dpkg-query", "-W").splitlines():
    state["package " + line.split("\\t")[0]] = line.split("\\t")[1]
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        name, rest = open("/proc/%s/stat" % pid).read().rsplit(")", 1)
    except OSError:
        continue
    if name.split("(", 1)[1] in programs:
        state["program %s %s" % (name.split("(", 1)[1], pid)] = "started " + rest.split()[19]
for line in say("docker", "network", "ls", "--no-trunc", "--format", "{{.Name}} {{.ID}} {{.Driver}}").splitlines():
    state["network " + line] = "there"
print(json.dumps(state))
"""

State = dict[str, str]


def state_of(cluster: Cluster) -> State:
    """``host: thing`` -> its fingerprint, for all hosts."""
    ask = json.dumps([FOLDERS, PROGRAMS])

    def look(host: str) -> State:
        seen = json.loads(cluster.out(host, "/usr/bin/python3", "-c", LOOK, ask))
        return {f"{host}: {thing}": fingerprint for thing, fingerprint in seen.items()}

    with ThreadPoolExecutor() as pool:
        return {thing: value for part in pool.map(look, cluster.hosts) for thing, value in part.items()}


def differences(before: State, after: State) -> list[str]:
    """What came, went or changed."""
    return [
        f"{thing}: {before.get(thing, 'absent')} => {after.get(thing, 'absent')}"
        for thing in sorted({*before, *after})
        if before.get(thing) != after.get(thing)
    ]
