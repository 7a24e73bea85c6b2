# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster that people set up by hand, as tutorials say, and all of it that a run could change.

node1  plain Docker, and in a container of it the store: one open Consul
node2  an engine with flags in a drop-in, which advertises an interface by its name, and listens on loopback by TCP too
node3  the same with an address and without TCP

The networks `handmade`, with a container of theirs on each of the two, `empty`, and `chosen`, whose subnet Docker chose.
Nothing of this collection is on any host.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from tests.cluster import IMAGE, PROGRAMS, Cluster, wait_for
from tests.e2e.brownfield import DROP_INS, INSTALL

ENGINES = ("node2", "node3")
STORE = "consul://10.88.140.11:8500"
FLAGS = {
    "node2": f"-H fd:// -H tcp://127.0.0.1:2375 --cluster-store={STORE} --cluster-advertise=host0:2376",
    "node3": f"-H fd:// --cluster-store={STORE} --cluster-advertise=10.88.140.13:2376",
}
CONSUL = (
    "/usr/bin/consul", "agent", "-server", "-bootstrap", "-data-dir=/consul/data", "-bind=10.88.140.11", "-client=0.0.0.0",
    "-disable-host-node-id",
)  # fmt: skip
NETWORK, EMPTY, CHOSEN = "handmade", "empty", "chosen"
DECOY = "app/config"
# What engines write into the store while nobody does anything: who is there, anew every twenty seconds.
HEARTBEAT = "docker/nodes/"
# What is looked at on each host; one JSON object of thing -> what it is.
LOOK = """
import glob, hashlib, json, os, re, stat, subprocess

FOLDERS = ["/etc", "/usr/local", "/lib/systemd", "/var/lib/multihost-overlay", "/run/multihost-overlay", "/root", "/tmp"]
DOCKERS = ["containers", "image/overlay2/imagedb/content/sha256", "image/overlay2/layerdb/sha256", "overlay2", "overlay2/l", "volumes"]
INSPECT = "{{.Name}} {{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}"
NETWORK = "{{.Name}} {{.Driver}} {{.Scope}} {{json .IPAM}} {{json .Options}} {{json .Labels}}"
seen = {}

def say(*argv):
    done = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.stdout.decode().splitlines() if done.returncode == 0 else ["%s: %d" % (argv, done.returncode)]

def show(path):
    status = os.lstat(path)
    text = "%o %d:%d" % (status.st_mode, status.st_uid, status.st_gid)
    if stat.S_ISLNK(status.st_mode):
        return text + " -> " + os.readlink(path)
    if stat.S_ISREG(status.st_mode):
        with open(path, "rb") as stream:
            text += " %d %s" % (status.st_mtime_ns, hashlib.sha256(stream.read()).hexdigest())
    return text

for folder in FOLDERS:
    for place, names, files in os.walk(folder):
        for path in [place] + [os.path.join(place, name) for name in names + files]:
            seen[path] = show(path)
for folder in DOCKERS:
    path = "/var/lib/docker/" + folder
    seen[path] = " ".join(sorted(os.listdir(path)))
for kind, form in (("ps -a", INSPECT), ("network ls", NETWORK)):
    for one in say("docker", *kind.split(), "-q", "--no-trunc"):
        seen["docker %s: %s" % (kind.split()[0], one)] = " ".join(say("docker", "inspect", "-f", form, one))
seen["images"] = " ".join(sorted(say("docker", "images", "-aq", "--no-trunc")))
for number, line in enumerate(say("iptables-save")):
    if not line.startswith("#"):
        seen["rule %d" % number] = re.sub(r"\\[\\d+:\\d+\\]", "", line)
# A plain file there is a namespace no more: Docker sweeps such files away when it likes.
for path in glob.glob("/run/docker/netns/*"):
    if os.stat(path).st_dev != os.stat("/run/docker/netns").st_dev:
        seen[path] = "namespace %d" % os.stat(path).st_ino
for line in say("ss", "-Hlntup"):
    words = line.split()
    seen["listens " + " ".join([words[0], words[4]])] = " ".join(words[6:])
for block in "\\n".join(say("systemctl", "show", "-p", "Id,ActiveState,MainPID", "*.service", "*.socket")).split("\\n\\n"):
    unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    seen["unit " + unit["Id"]] = "%s %s" % (unit["ActiveState"], unit.get("MainPID", "-"))
for line in say("systemctl", "list-unit-files", "--no-legend", "--no-pager"):
    seen["unit file " + line.split()[0]] = line.split()[1]
for line in say("dpkg-query", "-W"):
    seen["package " + line.split()[0]] = line.split()[-1]
for line in say("ip", "-o", "link") + say("ip", "route"):
    seen["net " + line.split()[0] + line.split()[1]] = re.sub(r"\\s+", " ", line)
for name in ("net/ipv4/ip_forward", "net/ipv4/conf/all/rp_filter", "net/bridge/bridge-nf-call-iptables", "modules"):
    path = "/proc/" + name if name == "modules" else "/proc/sys/" + name
    seen[path] = open(path).read().strip() if os.path.exists(path) else "absent"
print(json.dumps(seen))
"""

Digest = dict[str, str]


class Handmade(Cluster):
    """The hosts, as their people made them."""

    def set_up(self) -> None:
        """The store first: engines need it when they start."""
        self.install("node1", "docker.io", "consul")
        self.run("node1", "systemctl", "disable", "--now", "consul.service", check=False)
        self.start_consul()
        for host in ENGINES:
            self.write(
                host, f"{DROP_INS}/cluster.conf", f"[Service]\nExecStart=\nExecStart=/usr/sbin/dockerd {FLAGS[host]}\n"
            )
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: self.install(host, "docker.io"), ENGINES))
        self.run("node2", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.140.0/24", NETWORK)
        self.run("node2", "docker", "network", "create", "-d", "overlay", "--subnet", "10.100.141.0/24", EMPTY)
        self.run("node2", "docker", "network", "create", "-d", "overlay", CHOSEN)
        for host in ENGINES:
            options = ("--network-alias", f"shop-{host}", "--restart", "always")
            self.start_service(host, f"theirs-{host}", NETWORK, *options)
        self.run("node1", "consul", "kv", "put", DECOY, "42")
        self.wait_until_well()

    def install(self, host: str, *packages: str) -> None:
        """Debian's packages, as a user would."""
        self.run(host, "sh", "-c", INSTALL, "sh", *packages, timeout=300)

    def start_consul(self) -> None:
        """The container of a tutorial, with what there is for an image."""
        self.make_image("node1")
        mounts = [word for folder in PROGRAMS for word in ("-v", f"{folder}:{folder}:ro")]
        options = ("--name", "consul", "--network", "host", "--restart", "unless-stopped", "-v", "consul:/consul/data")
        self.run("node1", "docker", "run", "-d", *options, *mounts, IMAGE, *CONSUL)
        self.wait_for_leader()

    def wait_for_leader(self) -> None:
        url = "http://127.0.0.1:8500/v1/status/leader"
        wait_for("their Consul leads", lambda: ":8300" in self.call("node1", url)[1], 60)

    def wait_until_well(self) -> None:
        """Until the engines know each other and their containers find one another."""
        for host in ENGINES:
            wait_for(f"{host}'s engine gossips", partial(self._gossips, host))
        services = {f"theirs-{host}": host for host in ENGINES}
        wait_for("their containers meet", lambda: not self.unreached(services), 60)

    def keys(self) -> Digest:
        """All that the store holds: values, and when they were last written, but for what engines write all the time."""
        status, text = self.call("node1", "http://127.0.0.1:8500/v1/kv/?recurse")
        assert status == 200, text
        entries: list[dict[str, Any]] = json.loads(text)
        return {
            f"key {entry['Key']}": f"{entry['Value']} {'' if entry['Key'].startswith(HEARTBEAT) else entry['ModifyIndex']}"
            for entry in entries
        }

    def look(self, host: str) -> Digest:
        seen = json.loads(self.out(host, "/usr/bin/python3", "-c", LOOK))
        return {f"{host}: {thing}": what for thing, what in seen.items()}

    def digest(self) -> Digest:
        """Of all hosts and of the store, where it runs."""
        with ThreadPoolExecutor() as pool:
            found = {thing: what for part in pool.map(self.look, self.hosts) for thing, what in part.items()}
        return {**found, **self.keys()}
