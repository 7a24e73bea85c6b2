# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring up, control and take down hosts of a lab on this machine. Run it as root: python3 labctl.py --help."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Callable, Dict, List

from lab import cache, host, image, machine, network, supervisor
from lab.base import LabError, Log, dump, locked
from lab.spec import Host, Lab


def read_spec(path: str) -> Dict[str, Any]:
    """What the role wants."""
    if path == "-":
        return json.load(sys.stdin)
    with open(path) as stream:
        return json.load(stream)


def up(options: argparse.Namespace, log: Log) -> Dict[str, Any]:
    """Bring the lab to what is wanted; every step looks first, so a run that died is mended by the next."""
    wanted = read_spec(options.spec)
    machine.ensure_tools(log, bool(wanted.pop("install_tools", True)))
    if log.check and machine.missing_packages():
        log.act("make the lab with them")
        return {}
    seconds = float(wanted.pop("timeout", 180))
    wanted["mirror"] = machine.check_mirror(wanted.get("mirror", ""))
    wanted["nameservers"] = wanted.get("nameservers") or machine.name_servers()
    lab = Lab(options.dir, options.name, wanted)
    with locked(lab.base / (lab.name + ".lock")):
        check_changes(lab)
        network.check_free(lab)
        if not log.check:
            lab.dir.mkdir(parents=True, exist_ok=True)
            dump(lab.dir / "lab.json", wanted)
        machine.ensure_modules()
        network.ensure_bridge(lab, log)
        network.ensure_sysctls(lab, log)
        network.ensure_nat(lab, log)
        cache.ensure_cache(lab, log)
        for release in sorted({item.release for item in lab.hosts}):
            image.ensure_image(lab, log, release)
        host.ensure_key(lab, log)
        each(lab.hosts, lambda item: host.ensure_disk(lab, log, item))
        host.ensure_known_hosts(lab, log)
        each(lab.hosts, lambda item: host.start(lab, log, item))
        if not log.check:
            each(lab.hosts, lambda item: host.wait(lab, item, seconds))
    return {"hosts": {item.name: item.address for item in lab.hosts}}


def check_changes(lab: Lab) -> None:
    """A lab that is there can grow, but hosts that left the inventory and another network are the user's decision."""
    before = Lab(str(lab.base), lab.name)
    if not before.wanted:
        return
    if before.network != lab.network:
        raise LabError(
            "lab %s is up with network %s, not %s: take it down first (playbooks/lab_down.yml)"
            % (lab.name, before.network, lab.network)
        )
    gone = sorted({item.name for item in before.hosts} - {item.name for item in lab.hosts})
    if gone:
        raise LabError(
            "lab %s has hosts that are not in the inventory: %s. Put them back or take it down (playbooks/lab_down.yml)"
            % (lab.name, ", ".join(gone))
        )


def each(hosts: List[Host], action: Callable[[Host], None]) -> None:
    """Do it for all hosts at once; all are tried before the first error is told."""
    with ThreadPoolExecutor(max_workers=min(16, len(hosts))) as pool:
        futures = [pool.submit(action, item) for item in hosts]
    errors = [str(future.exception()) for future in futures if future.exception()]
    if errors:
        raise LabError("; ".join(errors))


def down(options: argparse.Namespace, log: Log) -> Dict[str, Any]:
    """Take away all that `up` made but images and cache."""
    lab = Lab(options.dir, options.name)
    with locked(lab.base / (lab.name + ".lock")):
        if lab.wanted:
            each(lab.hosts, lambda item: host.cut(lab, log, item))
            cache.stop_cache(lab, log)
        network.remove_network(lab, log)
        network.restore_sysctls(lab, log)
        if lab.exists and log.act("remove %s" % lab.dir):
            image.remove_tree(lab.dir)
        if options.remove_images:
            image.remove_images(lab, log)
    return {}


def on_hosts(action: Callable[[Lab, Log, Host], None]) -> Callable[[argparse.Namespace, Log], Dict[str, Any]]:
    """A command for some hosts of a lab, or for all."""

    def command(options: argparse.Namespace, log: Log) -> Dict[str, Any]:
        lab = Lab(options.dir, options.name)
        hosts = lab.pick(options.hosts)
        with locked(lab.base / (lab.name + ".lock")):
            each(hosts, lambda item: action(lab, log, item))
        return {}

    return command


def wait(options: argparse.Namespace, _log: Log) -> Dict[str, Any]:
    """Wait until hosts can be used."""
    lab = Lab(options.dir, options.name)
    each(lab.pick(options.hosts), lambda item: host.wait(lab, item, options.timeout))
    return {}


def status(options: argparse.Namespace, _log: Log) -> Dict[str, Any]:
    """What is there."""
    lab = Lab(options.dir, options.name)
    hosts = {item.name: host.describe(lab, item) for item in lab.pick(options.hosts)}
    return {"hosts": hosts, "cuts": network.cuts(lab), "cache": cache.statistics(lab), "bridge": lab.bridge}


def partition(options: argparse.Namespace, log: Log) -> Dict[str, Any]:
    """Drop what one host sends another."""
    lab = Lab(options.dir, options.name)
    with locked(lab.base / (lab.name + ".lock")):
        network.partition(lab, log, lab.pick(options.hosts), options.one_way, options.proto, options.port)
    return {"cuts": network.cuts(lab)}


def heal(options: argparse.Namespace, log: Log) -> Dict[str, Any]:
    """End cuts."""
    lab = Lab(options.dir, options.name)
    hosts = lab.pick(options.hosts) if options.hosts else []
    with locked(lab.base / (lab.name + ".lock")):
        network.heal(lab, log, hosts)
    return {"cuts": network.cuts(lab)}


def execute(options: argparse.Namespace, _log: Log) -> Dict[str, Any]:
    """Run a command within a host; without ssh, so it works when the host's network does not."""
    lab = Lab(options.dir, options.name)
    [item] = lab.pick([options.host])
    first = host.leader(lab, item)
    if not first:
        raise LabError("host %s is off: start it" % item.name)
    sys.exit(subprocess.call(host.inside(first, options.argv)))


def serve_cache(options: argparse.Namespace, _log: Log) -> Dict[str, Any]:
    """Be the package cache."""
    cache.serve(Lab(options.dir, options.name))
    return {}


def supervise(options: argparse.Namespace, _log: Log) -> Dict[str, Any]:
    """Be a host's supervisor."""
    lab = Lab(options.dir, options.name)
    [item] = lab.pick(options.hosts)
    sys.exit(supervisor.supervise(lab, item))


COMMANDS: Dict[str, Callable[[argparse.Namespace, Log], Dict[str, Any]]] = {
    "up": up,
    "down": down,
    "start": on_hosts(host.start),
    "stop": on_hosts(host.stop),
    "cut": on_hosts(host.cut),
    "reboot": on_hosts(host.reboot),
    "wait": wait,
    "status": status,
    "partition": partition,
    "heal": heal,
    "exec": execute,
    "serve-cache": serve_cache,
    "supervise": supervise,
}


def parser() -> argparse.ArgumentParser:
    """The command line."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument(
        "--dir", default="/var/lib/multihost-overlay-lab", help="where labs, images and the package cache lie"
    )
    top.add_argument("--name", default="lab", help="the lab's name")
    top.add_argument("--check", action="store_true", help="say what would be done")
    commands = top.add_subparsers(dest="command", required=True)
    for name, function in COMMANDS.items():
        sub = commands.add_parser(name, help=(function.__doc__ or "").split(";", 1)[0])
        if name == "up":
            sub.add_argument("--spec", default="-", help="JSON of what is wanted; - is standard input")
        elif name == "down":
            sub.add_argument("--remove-images", action="store_true", help="also the images and the package cache")
        elif name == "exec":
            sub.add_argument("host")
            sub.add_argument("argv", nargs=argparse.REMAINDER)
        elif name != "serve-cache":
            sub.add_argument("hosts", nargs="*", metavar="HOST")
        if name == "wait":
            sub.add_argument("--timeout", type=float, default=180.0)
        if name == "partition":
            sub.add_argument("--one-way", action="store_true", help="only what the first host sends the second")
            sub.add_argument("--proto", default="", choices=["", "tcp", "udp", "icmp"])
            sub.add_argument("--port", type=int, default=0, help="the port it is sent to")
    return top


def main() -> int:
    """Parse, call, tell."""
    options = parser().parse_args()
    log = Log(options.check)
    try:
        if not sys.platform.startswith("linux"):
            raise LabError("the lab needs Linux on this machine")
        if os.geteuid() != 0:
            raise LabError("the lab needs root on this machine (bridge, NAT, systemd-nspawn): run this as root")
        result = COMMANDS[options.command](options, log)
    except LabError as exc:
        print(
            json.dumps(
                {"failed": True, "changed": bool(log.actions), "actions": log.actions, "msg": str(exc)}, indent=1
            )
        )
        return 1
    print(json.dumps({"changed": bool(log.actions), "actions": log.actions, **result}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
