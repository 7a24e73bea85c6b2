# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab's network on this machine: bridge, forwarding, NAT, and cuts between hosts."""

from __future__ import annotations

import ipaddress
import json
from pathlib import Path
from typing import Any, Dict, List, Optional

from .base import LabError, Log, dump, load, locked, ok, run
from .spec import Host, Lab

# Each systemd and each engine takes some of the inotify instances that root has; 128 are enough for a few hosts only.
# All hosts share one table of neighbours: 30 that ping one another have some 1700, and drop packets when there are 1024.
SYSCTLS = {
    "net.ipv4.ip_forward": 1,
    "fs.inotify.max_user_instances": 8192,
    "net.ipv4.neigh.default.gc_thresh3": 32768,
    "net.ipv4.neigh.default.gc_thresh2": 16384,
    "net.ipv4.neigh.default.gc_thresh1": 8192,
}


def table(lab: Lab) -> str:
    """The name of our own nft tables: nothing else of the machine's rules is ours."""
    return "overlay-lab-" + lab.name


def comment(lab: Lab) -> str:
    """What marks our rules in the chains of others."""
    return "overlay-lab:" + lab.name


def check_free(lab: Lab) -> None:
    """No route of this machine may lead into the lab's network."""
    for route in json.loads(run(["ip", "-j", "-4", "route", "show", "table", "main"]) or "[]"):
        target = route.get("dst", "default")
        if target == "default" or route.get("dev") == lab.bridge:
            continue
        if ipaddress.IPv4Network(target, strict=False).overlaps(lab.network):
            raise LabError(
                "network %s is in use on this machine (route %s dev %s): set overlay_lab_network to another one"
                % (lab.network, target, route.get("dev"))
            )


def link(name: str) -> Optional[Dict[str, Any]]:
    """What the kernel says about an interface."""
    found = json.loads(run(["ip", "-j", "-d", "addr", "show", "dev", name], check=False) or "[]")
    return found[0] if found else None


def ensure_bridge(lab: Lab, log: Log) -> None:
    """The bridge, with this machine as the hosts' gateway."""
    wanted = "%s/%d" % (lab.gateway, lab.network.prefixlen)
    state = link(lab.bridge)
    if state is None and log.act("create bridge %s %s" % (lab.bridge, wanted)):
        run(["ip", "link", "add", lab.bridge, "address", lab.mac, "type", "bridge", "forward_delay", "0"])
    state = link(lab.bridge) or {}
    have = [
        "%s/%d" % (item["local"], item["prefixlen"]) for item in state.get("addr_info", []) if item["family"] == "inet"
    ]
    if state and (have != [wanted] or "UP" not in state["flags"]) and log.act("address bridge %s" % lab.bridge):
        run(["ip", "-4", "addr", "flush", "dev", lab.bridge])
        run(["ip", "addr", "add", wanted, "dev", lab.bridge])
        run(["ip", "link", "set", lab.bridge, "up"])


def ensure_sysctls(lab: Lab, log: Log) -> None:
    """Set what the lab needs of this machine, after noting what it was and who needs it."""
    with locked(lab.base / "machine.lock"):
        record = load(lab.base / "machine.json", {"labs": [], "prior": {}})
        # Within a network namespace of its own a machine has no say on neighbours.
        for name, value in ((name, value) for name, value in SYSCTLS.items() if sysctl(name).exists()):
            before = int(sysctl(name).read_text())
            if not record["labs"] or name not in record["prior"]:
                record["prior"][name] = before
            if before < value and log.act("set %s=%d" % (name, value)):
                note(lab, record)
                sysctl(name).write_text("%d\n" % value)
        if not log.check:
            note(lab, record)


def sysctl(name: str) -> Path:
    """Where the kernel keeps it."""
    return Path("/proc/sys", *name.split("."))


def note(lab: Lab, record: Dict[str, Any]) -> None:
    """Write the record, with this lab among those that need the settings."""
    dump(lab.base / "machine.json", {**record, "labs": sorted({*record["labs"], lab.name})})


def restore_sysctls(lab: Lab, log: Log) -> None:
    """The last lab that goes gives the machine its settings back."""
    with locked(lab.base / "machine.lock"):
        record = load(lab.base / "machine.json")
        if not record or lab.name not in record["labs"] or log.check:
            return
        labs = [name for name in record["labs"] if name != lab.name]
        if labs:
            dump(lab.base / "machine.json", {**record, "labs": labs})
            return
        for name, value in record["prior"].items():
            if int(sysctl(name).read_text()) != value:
                log.act("restore %s=%d" % (name, value))
                sysctl(name).write_text("%d\n" % value)
        (lab.base / "machine.json").unlink()


def ensure_nat(lab: Lab, log: Log) -> None:
    """Hosts reach the outside under this machine's address."""
    rule = 'ip saddr %s ip daddr != %s oifname != "%s" masquerade' % (lab.network, lab.network, lab.bridge)
    text = run(["nft", "list", "table", "ip", table(lab)], check=False)
    if rule not in text and log.act("NAT for %s" % lab.network):
        chain = 'chain postrouting { type nat hook postrouting priority srcnat; policy accept; %s comment "%s"; };'
        body = chain % (rule, comment(lab))
        run(
            ["nft", "-f", "-"],
            stdin="table ip {0}\ndelete table ip {0}\ntable ip {0} {{ {1} }}\n".format(table(lab), body),
        )
    for tool in forward_tools():
        for rule_argv in forward_rules(lab):
            if not ok([tool, "-w", "-C", "FORWARD", *rule_argv]) and log.act("%s: let %s pass" % (tool, lab.bridge)):
                run([tool, "-w", "-I", "FORWARD", *rule_argv])


def forward_rules(lab: Lab) -> List[List[str]]:
    """What a FORWARD chain that others manage (policy DROP, as Docker sets it) must let pass."""
    mark = ["-m", "comment", "--comment", comment(lab), "-j", "ACCEPT"]
    return [["-i", lab.bridge, *mark], ["-o", lab.bridge, *mark]]


def forward_tools() -> List[str]:
    """The iptables flavours whose FORWARD chain holds anything; asking an unused legacy one would make its tables."""
    found = []
    legacy = Path("/proc/net/ip_tables_names")
    if legacy.exists() and "filter" in legacy.read_text().split():
        found.append("iptables-legacy")
    if ok(["nft", "list", "chain", "ip", "filter", "FORWARD"]):
        found.append("iptables-nft")
    return [
        tool
        for tool in found
        if run([tool, "-w", "-S", "FORWARD"], check=False).strip() not in ("", "-P FORWARD ACCEPT")
    ]


def remove_network(lab: Lab, log: Log) -> None:
    """Exactly our rules, tables and bridge."""
    for tool in forward_tools():
        for rule_argv in forward_rules(lab):
            while ok([tool, "-w", "-C", "FORWARD", *rule_argv]) and log.act("%s: remove our rule" % tool):
                run([tool, "-w", "-D", "FORWARD", *rule_argv])
    for family in ("ip", "bridge"):
        if ok(["nft", "list", "table", family, table(lab)]) and log.act(
            "remove nft table %s %s" % (family, table(lab))
        ):
            run(["nft", "delete", "table", family, table(lab)])
    if link(lab.bridge) and log.act("remove bridge %s" % lab.bridge):
        run(["ip", "link", "del", lab.bridge])


def cuts(lab: Lab) -> List[Dict[str, Any]]:
    """The cuts between hosts that are in force."""
    return load(lab.dir / "cuts.json", [])


def apply_cuts(lab: Lab, wanted: List[Dict[str, Any]]) -> None:
    """Drop frames on the bridge, where the hosts cannot see or undo it."""
    dump(lab.dir / "cuts.json", wanted)
    name = table(lab)
    lines = ["table bridge %s" % name, "delete table bridge %s" % name]
    if wanted:
        rules = "; ".join(rule for cut in wanted for rule in cut_rules(cut))
        hook = "type filter hook forward priority -300; policy accept"
        lines.append("table bridge %s { chain forward { %s; %s; }; }" % (name, hook, rules))
    run(["nft", "-f", "-"], stdin="\n".join(lines) + "\n")


def cut_rules(cut: Dict[str, Any]) -> List[str]:
    """One cut as nft rules; without a protocol even ARP goes."""
    ways = [(cut["from"], cut["to"])] + ([] if cut["one_way"] else [(cut["to"], cut["from"])])
    match = ""
    if cut.get("proto"):
        match = " meta l4proto %s" % cut["proto"]
        if cut.get("port"):
            match = " %s dport %d" % (cut["proto"], cut["port"])
    rules = [
        "ether type ip ip saddr %s ip daddr %s%s counter drop" % (source, target, match) for source, target in ways
    ]
    if not match:
        rules += ["ether type arp arp saddr ip %s arp daddr ip %s counter drop" % pair for pair in ways]
    return rules


def partition(lab: Lab, log: Log, pair: List[Host], one_way: bool, proto: str, port: int) -> None:
    """Cut two hosts off from one another."""
    if len(pair) != 2 or pair[0].name == pair[1].name:
        raise LabError("partition needs two different hosts")
    if port and not proto:
        raise LabError("--port needs --proto")
    cut = {"from": pair[0].address, "to": pair[1].address, "one_way": one_way, "proto": proto, "port": port}
    before = cuts(lab)
    if cut not in before and log.act("cut %s off from %s" % (pair[1].name, pair[0].name)):
        apply_cuts(lab, [*before, cut])


def heal(lab: Lab, log: Log, hosts: List[Host]) -> None:
    """End the cuts among these hosts (of all without any, of one host: all of its cuts)."""
    names = {host.address for host in hosts}
    before = cuts(lab)
    left = [cut for cut in before if hosts and not healed(cut, names)]
    if left != before and log.act("heal %d cuts" % (len(before) - len(left))):
        apply_cuts(lab, left)


def healed(cut: Dict[str, Any], names: Any) -> bool:
    """Does healing these hosts end this cut?"""
    ends = {cut["from"], cut["to"]}
    return bool(ends & names) if len(names) == 1 else ends <= names
