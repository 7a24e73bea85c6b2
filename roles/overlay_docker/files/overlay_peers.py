# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Keeps the tables of this host's overlays complete and right, so that its containers reach those of every other host.

Docker 20.10 is told of remote containers by announcements, which a host that was down or had no container on the network
has missed. It then asks all engines, and one that was restarted while its containers ran on (live-restore) answers
"<nil>" for the host: the asking kernel has an address's MAC for ever and never the host behind which it is. An engine
that was restarted so does not ask any more either, on the networks that it had then. And what it has learnt by asking it
never forgets: an address that moves to another host is sent to where it was.

So this compares every few seconds what the store says of each network that has containers here with what the kernel has,
and adds what is missing: for each remote container one neighbour (address -> MAC) and one forwarding entry (MAC -> host)
on the overlay's vxlan device, just as dockerd makes them. It replaces what leads to another host than the one that the
store names, when a second look finds both as before. An entry of dockerd's for an address that nobody has in the store
stays, its own goes, and nothing is changed if the store does not answer.

And it keeps names known: an engine whose watch of the store has failed (an election is enough) learns no name of a new
container any more until it hears that something has changed among the hosts of the store's discovery. Each engine writes
itself anew there every 20 seconds, which was such a change until Consul (1.4) began to pass over what stays the same. So
one of the hosts makes a change that means nothing, as often. An engine may also have asked the store in vain for all the
names of a network, which it takes for the answer that there are none. So a host's DNS is asked for the newest container of
another host whenever one has come or gone, and where it does not know it, the number of the network's containers is written
anew as it is: then all engines read all names again. Standard library only.
"""

from __future__ import annotations

import argparse
import base64
import collections
import ipaddress
import json
import os
import re
import subprocess
import sys
import time
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from overlay_store import Consul, NoStoreError, TroubleError, add_arguments

SECONDS = 10.0
# Between two changes under the key where engines find each other; what Docker takes itself, if nobody sets discovery.heartbeat.
NUDGE = 20.0
# So many times at most an engine is made to read the names of a network again, two rounds apart. Each time it can fail again.
TRIES = 6
# So long records are taken for those that were read. Of a store that was made anew and restored from a backup the index counts again from
# where it was then, and may come to be the same for others.
VALID = 60.0
# Between two looks. Docker writes a container into the store before it announces it, so that whoever is right is right in both by then.
AGAIN = 1.0
NAMESPACES = "/run/docker/netns"
# Docker names the namespace of an overlay by a number, which grows, and as much of the network's id as makes twelve characters.
OVERLAY = re.compile(r"^(?=.{12}$)\d+-([0-9a-f]{6,10})$")
RECORD = "/run/multihost-overlay/peers.json"
# A container's short id, which Docker makes an alias of it: no other container has it.
SHORT_ID = re.compile(r"[0-9a-f]{12}")
# Asks Docker's DNS for a name, and prints the address.
QUESTION = """
import socket, struct, sys
name = sys.argv[1].encode()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.settimeout(3)
    server.sendto(struct.pack("!6H", 1, 0x100, 1, 0, 0, 0) + bytes([len(name)]) + name + struct.pack("!xHH", 1, 1), ("127.0.0.11", 53))
    answer = server.recv(512)
print(socket.inet_ntoa(answer[-4:]) if answer[6:8] != bytes(2) else "unknown")
"""
LOOK = "ip -json -details address && ip -json neighbour && bridge -json fdb"


class Peer(NamedTuple):
    """A container on a network, as the store knows it."""

    address: str
    mac: str
    host: str


class Named(NamedTuple):
    """What the store says of a container's name: when that was written, and in which namespace it asks for the names of others."""

    written: int
    host: str
    sandbox: str
    short_id: str
    address: str


class Known(NamedTuple):
    """What the store said of a network: at which index and at what time, and of whom."""

    index: str
    since: float
    peers: List[Peer]
    named: List[Named]


class Asked(NamedTuple):
    """How it is with the names of a network: of which endpoints and what number of them, tries left, whether one may be unknown."""

    index: str
    count: int
    tries: int = TRIES
    unknown: bool = True


class Entry(NamedTuple):
    """A line of a kernel's table: ("neigh", device, address, mac) or ("fdb", device, mac, host)."""

    table: str
    device: str
    key: str
    value: str

    @property
    def place(self) -> Tuple[str, str, str]:
        """Where only one entry can be."""
        return self[:3]


class Space(NamedTuple):
    """What the namespace of an overlay has: its vxlan devices with their subnets, entries that stay and those that do not."""

    subnets: Dict[str, ipaddress.IPv4Network]
    fixed: Set[Entry]
    passing: Set[Tuple[str, str, str]]


# An answer of the store or of a program that is not what it should be ends in one of these.
ODD = (TroubleError, OSError, ValueError, KeyError, TypeError, AttributeError, subprocess.SubprocessError)


def describe(error: Exception) -> str:
    return str(error) if isinstance(error, TroubleError) else f"an answer is not understood ({error!r})"


def log(text: str) -> None:
    """To the journal, by way of systemd."""
    print(text, flush=True)


# -- the store


class Networks(Consul):
    """Docker's records of networks. All that another kind of store needs is its own of these."""

    def __init__(self, url: str, token: str, tls: Sequence[str] = ()) -> None:
        super().__init__(url, token, tls)
        self.known: Dict[str, Known] = {}
        self.nodes = (-1, 0.0)

    def endpoints(self, network: str) -> Known:
        """Who is on the network with this beginning of its id. The records are read if the index has changed, or if that was long ago."""
        folder = f"network/v1.0/endpoint/{network}"
        index, keys = self.ask(f"{folder}?keys&separator=/")
        if len(json.loads(keys)) > 1:
            raise TroubleError(f"{network} is the beginning of more than one network's id")
        now = time.monotonic()
        known = self.known.pop(network, Known("", now, [], []))
        if not index or known.index != index or now - known.since >= VALID:
            known = read_endpoints(index, now, self.below(folder))
        self.known[network] = known
        return known

    def touch(self, key: str, entry: Dict[str, Any]) -> None:
        """Make a change that means nothing; of all hosts that would make it, the first one does."""
        content = base64.b64decode(entry.get("Value") or "")
        self.put(key, content, (entry.get("Flags", 0) + 1) % 2**64, entry.get("ModifyIndex", 0))

    def nudge(self, now: float) -> None:
        """Change something under the hosts' key if nothing has been for a while."""
        entry = (json.loads(self.ask("nodes")[1]) or [{}])[0]
        index, since = entry.get("ModifyIndex", 0), self.nodes[1]
        if index != self.nodes[0]:
            self.nodes = (index, now)
        elif now - since >= NUDGE:
            self.touch("nodes", entry)

    def count(self, network: str) -> Dict[str, Any]:
        """Where Docker counts the containers of a network: engines read all its names when that is written. Empty where there is none."""
        return next(iter(self.below(f"network/v1.0/endpoint_count/{network}")), {})

    def recount(self, entry: Dict[str, Any]) -> None:
        """Write the number anew as it is."""
        self.touch(entry["Key"][len(self.folder) :], entry)


def read_endpoints(index: str, now: float, pairs: List[Dict[str, Any]]) -> Known:
    """What the records say."""
    rows = [(pair, json.loads(base64.b64decode(pair["Value"]))) for pair in pairs if pair["Value"]]
    peers = sorted({peer for _pair, record in rows for peer in peer_of(record)})
    return Known(index, now, peers, [named for pair, record in rows for named in named_of(pair["ModifyIndex"], record)])


def peer_of(record: Dict[str, Any]) -> List[Peer]:
    """What Docker wrote of an endpoint; nothing yet of one that is being made."""
    interface, host = record.get("ep_iface") or {}, record.get("locator")
    if not interface.get("addr") or not interface.get("mac") or not host:
        return []
    address = ipaddress.IPv4Interface(interface["addr"]).ip
    return [Peer(str(address), interface["mac"].lower(), str(ipaddress.IPv4Address(host)))]


def named_of(written: int, record: Dict[str, Any]) -> List[Named]:
    """What of it is needed to ask for names; nothing of one whose container has no id there."""
    ids = [alias for alias in record.get("myAliases") or [] if SHORT_ID.fullmatch(alias)]
    peers = peer_of(record)
    # Its namespace has the beginning of the sandbox's id for a name.
    sandbox = (record.get("sandbox") or "")[:12]
    return [Named(written, peers[0].host, sandbox, ids[-1], peers[0].address)] if ids and peers else []


# -- what is, and what is to be


def spaces() -> List[str]:
    """Names of Docker's namespaces, of overlays and of containers. An empty file is not one any more."""
    kind = os.stat("/proc/self/ns/net").st_dev
    names = sorted(os.listdir(NAMESPACES)) if os.path.isdir(NAMESPACES) else []
    return [name for name in names if os.stat(os.path.join(NAMESPACES, name)).st_dev == kind]


def namespaces() -> Dict[str, str]:
    """Name of an overlay's namespace -> beginning of the network's id."""
    matches = ((name, OVERLAY.match(name)) for name in spaces())
    return {name: match.group(1) for name, match in matches if match}


def subnets(links: Iterable[Dict[str, Any]]) -> Dict[str, ipaddress.IPv4Network]:
    """vxlan device -> its subnet, which the bridge of the device has."""
    bridges = {
        link["ifname"]: ipaddress.IPv4Interface(f"{address['local']}/{address['prefixlen']}").network
        for link in links
        for address in link.get("addr_info", [])
        if address["family"] == "inet"
    }
    tunnels = [link for link in links if link.get("linkinfo", {}).get("info_kind") == "vxlan"]
    return {link["ifname"]: bridges[link["master"]] for link in tunnels if link.get("master") in bridges}


def parse(text: str) -> Space:
    """What LOOK printed: links, neighbours and forwarding entries, a line each."""
    links, neighbours, forwarding = (json.loads(line) for line in text.splitlines() if line.strip())
    devices = subnets(links)
    rows = [
        (Entry("neigh", row["dev"], row["dst"], row.get("lladdr", "")), "PERMANENT" in row["state"])
        for row in neighbours
        if row["dev"] in devices
    ] + [
        (Entry("fdb", row["ifname"], row["mac"], row["dst"]), row["state"] in ("permanent", "static"))
        for row in forwarding
        if row["ifname"] in devices and "dst" in row
    ]
    return Space(
        devices, {entry for entry, stays in rows if stays}, {entry.place for entry, stays in rows if not stays}
    )


def claimed_twice(peers: List[Peer]) -> Set[str]:
    """Addresses and MACs that more than one peer has: who is right cannot be told."""
    claims = collections.Counter(claim for peer in peers for claim in (peer.address, peer.mac))
    return {claim for claim, count in claims.items() if count > 1}


def leading(peers: List[Peer], devices: Dict[str, ipaddress.IPv4Network]) -> Set[Entry]:
    """The entries that lead to peers."""
    doubtful = claimed_twice(peers)
    return {
        entry
        for peer in peers
        if not doubtful.intersection((peer.address, peer.mac))
        for device, subnet in devices.items()
        if ipaddress.IPv4Address(peer.address) in subnet
        for entry in (
            Entry("neigh", device, peer.address, peer.mac),
            Entry("fdb", device, peer.mac, peer.host),
        )
    }


def wanted(peers: List[Peer], own: str, devices: Dict[str, ipaddress.IPv4Network]) -> Set[Entry]:
    """Those to peers on other hosts."""
    here = {claim for peer in peers if peer.host == own for claim in (peer.address, peer.mac)}
    return {entry for entry in leading(peers, devices) if entry.key not in here}


def contradicted(space: Space, peers: List[Peer]) -> Set[Entry]:
    """Entries that lead elsewhere. dockerd has some to containers of its own host too: in order as long as these are there."""
    right = {entry.place: entry for entry in leading(peers, space.subnets)}
    return {entry for entry in space.fixed if right.get(entry.place, entry) != entry}


def plan(
    space: Space, want: Set[Entry], made: Set[Entry], doubtful: Set[str], wrong: Set[Entry]
) -> Tuple[Set[Entry], Set[Entry], Set[Entry]]:
    """(entries to take away, entries to add, those that are ours afterwards).

    What dockerd changed is dockerd's, and is taken away only where it is known to be ``wrong``. What is doubtful stays as it is: one
    of the two that claim it may well be reached by it.
    """
    ours = made & space.fixed
    away = {entry for entry in ours - want if not doubtful.intersection((entry.key, entry.value))} | wrong
    taken = {entry.place for entry in space.fixed - away}
    missing = {entry for entry in want if entry.place not in taken}
    return away, missing, ours | missing


def add(entry: Entry, verb: str) -> str:
    """A line for the batch mode of ip (neigh) or bridge (fdb)."""
    value = f"lladdr {entry.value} nud permanent" if entry.table == "neigh" else f"dst {entry.value} self permanent"
    return f"{entry.table} {verb} {entry.key} dev {entry.device} {value}\n"


def delete(entry: Entry) -> str:
    """The same for taking away; with what the bridge has learnt, or it would not look for the container on this host."""
    line = f"{entry.table} del {entry.key} dev {entry.device}"
    return f"{line}\n" if entry.table == "neigh" else f"{line} dst {entry.value} self\n{line} master\n"


def batch(space: Space, away: Set[Entry], missing: Set[Entry]) -> List[str]:
    """Take away first, since an address may have moved. What is not there is added, never replaced: dockerd may be quicker.

    But an entry that the device has learnt from packets goes by itself: it is made to stay.
    """
    return [delete(entry) for entry in sorted(away)] + [
        add(entry, "replace" if entry.place in space.passing else "add") for entry in sorted(missing)
    ]


def again(before: Optional[Asked], index: str, count: int) -> Asked:
    """Whoever comes or goes may be unknown; and each time that the names are read all of them may come to be."""
    if before is None or before.index != index:
        return Asked(index, count)
    return before if before.count == count else before._replace(count=count, unknown=True)


def question(named: List[Named], own: str, living: Iterable[str]) -> Optional[Tuple[str, Named]]:
    """(namespace of a container here, the newest container of another host), if there are both."""
    here = sorted({one.sandbox for one in named if one.host == own}.intersection(living))
    there = sorted(one for one in named if one.host != own)
    return (here[0], there[-1]) if here and there else None


# -- the host


def inside(name: str, argv: List[str], text: str = "") -> Tuple[int, str, str]:
    """(status, output, complaints) of a program in a namespace, which is held no longer than the program runs."""
    whole = ["nsenter", f"--net={os.path.join(NAMESPACES, name)}", *argv]
    done = subprocess.run(whole, input=text, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr.strip()


def look(name: str) -> Space:
    """What is there."""
    status, said, complaints = inside(name, ["sh", "-c", LOOK])
    if status:
        raise TroubleError(f"{name} cannot be read: {complaints[:200]}")
    return parse(said)


def change(name: str, lines: List[str]) -> None:
    """Do it. One line that fails does not stop the others: the next round looks again."""
    for table, program in (("neigh", "ip"), ("fdb", "bridge")):
        mine = "".join(line for line in lines if line.startswith(table))
        if mine:
            inside(name, [program, "-force", "-batch", "-"], mine)


def knows(sandbox: str, one: Named) -> bool:
    """Whether this host's DNS says where that container is."""
    status, said, _complaints = inside(sandbox, [sys.executable, "-c", QUESTION, one.short_id])
    return status == 0 and said.strip() == one.address


def words(entries: Set[Entry]) -> str:
    """A few of the entries, for the journal."""
    few = ", ".join(f"{entry.key} -> {entry.value}" for entry in sorted(entries)[:6])
    return few + (f" and {len(entries) - 6} more" if len(entries) > 6 else "")


class Keeper:
    """Does one round after the other, and remembers which entries are its own."""

    def __init__(self, store: Networks, own: str) -> None:
        self.store = store
        self.own = own
        self.made: Dict[str, Set[Entry]] = {}
        self.asked: Dict[str, Asked] = {}
        if os.path.exists(RECORD):
            with open(RECORD, encoding="utf-8") as handle:
                self.made = {name: {Entry(*row) for row in rows} for name, rows in json.load(handle).items()}

    def remember(self, made: Dict[str, Set[Entry]]) -> None:
        """Before the kernel is changed, so that one who is killed knows what was its own."""
        if made != self.made:
            os.makedirs(os.path.dirname(RECORD), exist_ok=True)
            with open(f"{RECORD}.new", "w", encoding="utf-8") as handle:
                json.dump({name: sorted(entries) for name, entries in made.items()}, handle)
            os.replace(f"{RECORD}.new", RECORD)
            self.made = made

    def see(self, name: str, network: str) -> Tuple[List[Peer], Space, Set[Entry]]:
        """(who is on the network, what the kernel has, what of it leads elsewhere)."""
        peers = self.store.endpoints(network).peers
        if self.own not in {peer.host for peer in peers}:
            # A namespace lives as long as a container here is on its network. A store without one has lost something.
            raise TroubleError(f"the store has no container of this host on the network of {name}")
        space = look(name)
        return peers, space, contradicted(space, peers)

    def mend(self, name: str, network: str) -> Set[str]:
        """Complete one namespace; what in it is claimed twice."""
        peers, space, wrong = self.see(name, network)
        if wrong:
            time.sleep(AGAIN)
            peers, space, still = self.see(name, network)
            wrong &= still
        want, made, doubtful = wanted(peers, self.own, space.subnets), self.made.get(name, set()), claimed_twice(peers)
        away, missing, ours = plan(space, want, made, doubtful, wrong)
        self.remember({**self.made, name: ours})
        change(name, batch(space, away, missing))
        for verb, entries in (("took away", away), ("added", missing)):
            if entries:
                log(f"{name}: {verb} {words(entries)}")
        return doubtful

    def round(self) -> Set[str]:
        """Complete all namespaces; what stood in the way."""
        complaints: Set[str] = set()
        try:
            found = namespaces()
            self.remember({name: entries for name, entries in self.made.items() if name in found})
            self.asked = {network: asked for network, asked in self.asked.items() if network in found.values()}
        except ODD as error:
            return {f"nothing more is changed, because {describe(error)}"}
        for name, network in found.items():
            try:
                complaints.update(
                    f"{claim} on the network of {name} has more than one owner in the store; left alone"
                    for claim in self.mend(name, network)
                )
                complaints.update(self.keep_names(network))
            except NoStoreError as error:
                return complaints | {f"nothing more is changed, because {describe(error)}"}
            except ODD as error:
                complaints.add(f"{name} is left alone, because {describe(error)}")
        return complaints | self.keep_watches(bool(found))

    def keep_names(self, network: str) -> Set[str]:
        """Make the engines read a network's names again if this one does not know them; what it still does not know in the end."""
        known, entry, before = self.store.known[network], self.store.count(network), self.asked.get(network)
        asked = question(known.named, self.own, spaces())
        now = self.asked[network] = again(before, known.index, entry.get("ModifyIndex", 0))
        # A round later, since an engine that hears of a change needs a moment.
        if not asked or not entry or not now.unknown or now != before:
            return set()
        if knows(*asked):
            self.asked[network] = now._replace(unknown=False)
            return set()
        if not now.tries:
            return {
                f"this engine does not know the name of {asked[1].address} on {asked[1].host}: a restart of docker helps"
            }
        log(f"this engine does not know the name of {asked[1].address}: those of the network are to be read again")
        self.asked[network] = now._replace(tries=now.tries - 1)
        self.store.recount(entry)
        return set()

    def keep_watches(self, needed: bool) -> Set[str]:
        """Without an overlay no name is asked for. What stood in the way."""
        try:
            if needed:
                self.store.nudge(time.monotonic())
        except ODD as error:
            return {f"names of new containers may stay unknown, because {describe(error)}"}
        return set()


def main(argv: Optional[List[str]] = None) -> int:
    """Round after round. What stands in the way is said when it comes and when it goes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    add_arguments(parser)
    given = parser.parse_args(argv)
    keeper = Keeper(Networks.of(given), given.address)
    before: Set[str] = set()
    while True:
        complaints = keeper.round()
        for text in sorted(complaints - before):
            log(text)
        for text in sorted(before - complaints):
            log(f"no longer: {text}")
        before = complaints
        time.sleep(SECONDS)


if __name__ == "__main__":
    sys.exit(main())
