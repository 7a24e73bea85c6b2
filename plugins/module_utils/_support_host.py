# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Gathers of a host what somebody needs who is to help from afar. Secrets are taken out here, before anything leaves the host."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Tuple

from ansible_collections.multihost.overlay.plugins.module_utils._docker import DockerError
from ansible_collections.multihost.overlay.plugins.module_utils._doctor_host import Client
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_engine import DAEMON_JSON, running_pid
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader, parse_assignments
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_system import MANIFEST
from ansible_collections.multihost.overlay.plugins.module_utils._preflight_unit import read_unit
from ansible_collections.multihost.overlay.plugins.module_utils._support import (
    Redactor,
    cut,
    key_lines,
    of_environment,
    of_json,
)

OURS = "/etc/multihost-overlay"
# Of what they say only their values are used, to take them out of everything else.
SECRET_FILES = (f"{OURS}/secrets.json", f"{OURS}/consul-secrets.json", f"{OURS}/consul-gossip.json")
MOST_OF_A_FILE = 256 * 1024
MOST_OF_A_HOST = 2 * 1024 * 1024
JOURNAL = ["journalctl", "-q", "--no-pager", "-o", "short-iso", "-n"]
# Name of the file -> the program whose output it is.
PROGRAMS: Dict[str, List[str]] = {
    "units.txt": [
        "systemctl",
        "--no-pager",
        "cat",
        "docker.service",
        "docker.socket",
        "containerd.service",
        "multihost-overlay-*",
    ],
    "units-state.txt": [
        "systemctl",
        "--no-pager",
        "list-units",
        "--all",
        "docker*",
        "containerd*",
        "multihost-overlay*",
        "consul*",
    ],
    "addresses.txt": ["ip", "addr"],
    "routes.txt": ["ip", "route", "show", "table", "all"],
    "links.txt": ["ip", "-d", "link"],
    "iptables.txt": ["iptables-save"],
    "nftables.txt": ["nft", "list", "ruleset"],
    "journal-multihost-overlay.txt": [*JOURNAL, "2000", "-u", "multihost-overlay-*"],
    "journal-docker.txt": [*JOURNAL, "4000", "-u", "docker.service"],
}
FILES = {"daemon.json": DAEMON_JSON, "manifest.json": MANIFEST, "os-release.txt": "/etc/os-release"}
SYSCTLS = (
    "kernel.osrelease",
    "kernel.version",
    "net.ipv4.ip_forward",
    "net.ipv4.conf.all.forwarding",
    "net.ipv4.conf.all.rp_filter",
    "net.ipv4.conf.default.rp_filter",
    "net.bridge.bridge-nf-call-iptables",
    "net.ipv4.neigh.default.gc_thresh1",
    "net.ipv4.neigh.default.gc_thresh2",
    "net.ipv4.neigh.default.gc_thresh3",
    "net.ipv4.ip_local_port_range",
    "net.netfilter.nf_conntrack_max",
    "net.netfilter.nf_conntrack_count",
)
# Of a container in a list: no command, no label and no environment, which may hold secrets.
CONTAINER = ("Id", "Names", "Image", "Created", "State", "Status", "Ports")


class Text(NamedTuple):
    """A file of the bundle, or why it is not there."""

    name: str
    text: str
    why: str = ""


def environment_of(reader: Reader, pid: int) -> Iterator[Tuple[str, str]]:
    """The variables of dockerd as it runs, and as its unit would start it."""
    for entry in (reader.text(f"/proc/{pid}/environ") or "").split("\0") if pid else []:
        name, _equals, value = entry.partition("=")
        yield name, value
    for row in read_unit(reader)["environment"]:
        yield row["name"], row["value"]
    for name in reader.names(OURS):
        if name.endswith(".env"):
            yield from parse_assignments(reader.text(f"{OURS}/{name}") or "").items()


def key_files(reader: Reader, pid: int) -> List[str]:
    """Files of private keys: ours, and those that dockerd was given."""
    found = [f"{OURS}/tls/{name}" for name in reader.names(f"{OURS}/tls") if name.endswith(".key")]
    words = (reader.text(f"/proc/{pid}/cmdline") or "").split("\0") if pid else []
    found += [word.partition("=")[2] for word in words if word.startswith("--tlskey=")]
    with suppress(ValueError, AttributeError):
        config = json.loads(reader.text(DAEMON_JSON) or "{}")
        found += [
            str(config.get("tlskey") or ""),
            str((config.get("cluster-store-opts") or {}).get("kv.keyfile") or ""),
        ]
    return [path for path in found if path]


def known_secrets(reader: Reader, given: Iterable[str]) -> List[str]:
    """The secrets of this host by their value."""
    pid = running_pid(reader)
    found = [*given, *of_environment(environment_of(reader, pid))]
    for path in SECRET_FILES:
        with suppress(ValueError):
            found += of_json(json.loads(reader.text(path) or "{}"))
    for path in key_files(reader, pid):
        found += key_lines(reader.text(path) or "")
    return found


def programs(reader: Reader) -> Iterator[Text]:
    for name, argv in PROGRAMS.items():
        status, out, err = reader.run(argv)
        # `systemctl cat` tells of the units that are there although others are not.
        if status and not out:
            yield Text(name, "", f"{argv[0]}: {err.strip()[:300] or f'status {status}'}")
        else:
            yield Text(name, out)


def files(reader: Reader) -> Iterator[Text]:
    for name, path in FILES.items():
        text = reader.text(path)
        yield Text(name, text or "", "" if text is not None else f"{path} is not there")
    values = {key: reader.text(f"/proc/sys/{key.replace('.', '/')}") for key in SYSCTLS}
    yield Text(
        "sysctl.txt", "".join(f"{key} = {value.strip()}\n" for key, value in values.items() if value is not None)
    )


def container_row(row: Mapping[str, Any]) -> Dict[str, Any]:
    """A container as the list has it, with the networks that it is on."""
    networks = (row.get("NetworkSettings") or {}).get("Networks") or {}
    return {**{name: row.get(name) for name in CONTAINER}, "Networks": networks}


def engine_parts(client: Client) -> Iterator[Tuple[str, Callable[[], Any]]]:
    """Names of files, and what asks the engine for each. Networks one by one: a list of all takes seconds over a store."""
    listed: List[Mapping[str, Any]] = []

    def containers() -> Any:
        listed.extend(client.get("/containers/json", {"all": True}) or [])
        return [container_row(row) for row in listed]

    def networks() -> Any:
        ids = {
            str(entry.get("NetworkID"))
            for row in listed
            for entry in ((row.get("NetworkSettings") or {}).get("Networks") or {}).values()
            if entry.get("NetworkID")
        }
        return [client.get(f"/networks/{name}") for name in sorted(ids | {"bridge", "docker_gwbridge"})]

    yield "docker-info.json", lambda: client.get("/info")
    yield "docker-version.json", lambda: client.get("/version")
    yield "docker-containers.json", containers
    yield "docker-networks.json", networks


def engine(client: Client) -> Iterator[Text]:
    for name, ask in engine_parts(client):
        try:
            yield Text(name, json.dumps(ask(), indent=1) + "\n")
        except DockerError as exc:
            yield Text(name, "", exc.message)


def gather(reader: Reader, client: Client, given: Iterable[str] = ()) -> Dict[str, Any]:
    """The files, without secrets and not too large; which are cut; and why others are not there."""
    redact, left = Redactor(known_secrets(reader, given)), MOST_OF_A_HOST
    found: Dict[str, Any] = {"files": {}, "cut": [], "missing": {}}
    for entry in (*files(reader), *engine(client), *programs(reader)):
        if entry.why:
            found["missing"][entry.name] = redact(entry.why)
            continue
        # Taken out first: a secret of which a part was cut off would not be known any more.
        text, is_cut = cut(redact(entry.text), min(MOST_OF_A_FILE, left), entry.name.startswith("journal"))
        left = max(left - len(text.encode("utf-8", "replace")), 0)
        found["files"][entry.name] = text
        found["cut"] += [entry.name] if is_cut else []
    return found
