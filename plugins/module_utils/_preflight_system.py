# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads what needs more than one look at a host: kernel modules, listening programs, the manifest."""

from __future__ import annotations

import gzip
import json
import re
from typing import Any, Sequence

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import LINK_TRIALS, MODULES, Reader

MANIFEST = "/var/lib/multihost-overlay/manifest.json"
CONFIG_NAMES = {
    "vxlan": "VXLAN",
    "bridge": "BRIDGE",
    "br_netfilter": "BRIDGE_NETFILTER",
    "veth": "VETH",
    "overlay": "OVERLAY_FS",
}
LISTEN = "0A"
UNCONNECTED = "07"


def kernel_config(reader: Reader, kernel: str) -> dict[str, str]:
    """CONFIG_ values (y or m) of our modules, from the running kernel or the file beside it."""
    packed = reader.data("/proc/config.gz")
    text = ""
    if packed:
        try:
            text = gzip.decompress(packed).decode("utf-8", "replace")
        except (OSError, EOFError) as exc:
            reader.trouble("/proc/config.gz", exc)
    text = text or reader.text(f"/boot/config-{kernel}") or ""
    found = dict(re.findall(r"^CONFIG_(\w+)=([ym])$", text, re.MULTILINE))
    return {module: found[name] for module, name in CONFIG_NAMES.items() if name in found}


def module_names(text: str) -> set[str]:
    """Module names of a modules.builtin or modules.dep: one path a line, up to a colon."""
    paths = [line.split(":")[0].rsplit("/", 1)[-1] for line in text.splitlines() if line.strip()]
    return {re.sub(r"\.ko(\.\w+)?$", "", path).replace("-", "_") for path in paths}


def evident(reader: Reader, module: str) -> str:
    """What the running kernel itself shows of a module, or an empty string."""
    if module == "overlay":
        return "builtin" if re.search(r"\boverlay$", reader.text("/proc/filesystems") or "", re.MULTILINE) else ""
    # A built-in module has a directory only if it has parameters or a version; any directory means that it is there.
    if reader.exists("/sys/module/" + module):
        return "builtin"
    return "builtin" if module == "br_netfilter" and reader.exists("/proc/sys/net/bridge") else ""


def trial(reader: Reader, module: str) -> str:
    """Make such a link in a network namespace that ends with the program: nothing stays on the host."""
    argv = ["unshare", "--net", "ip", "link", "add", "name", "mo-trial0", "type", module]
    status, _out, _err = reader.run(argv + LINK_TRIALS[module])
    return "builtin" if status == 0 else "missing"


def read_modules(reader: Reader, kernel: str) -> dict[str, str]:
    """loaded, builtin, loadable or missing for each module; cheap evidence first."""
    loaded = {line.split()[0] for line in (reader.text("/proc/modules") or "").splitlines() if line.strip()}
    folder = (
        next((base for base in ("/lib/modules/", "/usr/lib/modules/") if reader.exists(base + kernel)), "/lib/modules/")
        + kernel
    )
    builtin = module_names(reader.text(folder + "/modules.builtin") or "")
    loadable = module_names(reader.text(folder + "/modules.dep") or "")
    config = kernel_config(reader, kernel)
    found = {}
    for module in MODULES:
        if module in loaded:
            found[module] = "loaded"
        elif module in builtin or config.get(module) == "y":
            found[module] = "builtin"
        else:
            found[module] = evident(reader, module) or ("loadable" if module in loadable else "")
        if not found[module]:
            found[module] = trial(reader, module) if module in LINK_TRIALS else "missing"
    return found


def listening(text: str, state: str = LISTEN) -> dict[str, int]:
    """Socket inode -> port, of the listening sockets in a /proc/net/tcp, or of all unconnected ones in a /proc/net/udp."""
    rows = [line.split() for line in text.splitlines()[1:]]
    return {row[9]: int(row[1].rsplit(":", 1)[1], 16) for row in rows if len(row) > 9 and row[3] == state}


def read_listeners(reader: Reader, ports: list[int], udp: Sequence[int] = ()) -> list[dict[str, Any]]:
    """Who listens on one of ``ports`` or ``udp``; processes are searched only if somebody does."""
    wanted: dict[str, tuple[str, int]] = {}
    for proto, state, asked in (("tcp", LISTEN, ports), ("udp", UNCONNECTED, udp)):
        for path in (f"/proc/net/{proto}", f"/proc/net/{proto}6") if asked else ():
            inodes = listening(reader.text(path) or "", state)
            wanted.update({f"socket:[{inode}]": (proto, port) for inode, port in inodes.items() if port in asked})
    if not wanted:
        return []
    found = {}
    for pid in [name for name in reader.names("/proc") if name.isdigit()]:
        for descriptor in reader.names(f"/proc/{pid}/fd"):
            held = wanted.get(reader.link(f"/proc/{pid}/fd/{descriptor}"))
            if held is not None:
                found[held] = {
                    "proto": held[0],
                    "port": held[1],
                    "pid": int(pid),
                    "program": reader.line(f"/proc/{pid}/comm"),
                    "executable": reader.link(f"/proc/{pid}/exe"),
                }
    nobody = {"pid": 0, "program": "", "executable": ""}
    return [found.get(held, dict(nobody, proto=held[0], port=held[1])) for held in sorted(set(wanted.values()))]


def read_manifest(reader: Reader) -> dict[str, Any]:
    """The roles that own something on this host; empty on a host that is not ours yet."""
    try:
        data = json.loads(reader.text(MANIFEST) or "{}")
        entries = [*data.get("files", {}).values(), *data.get("packages", {}).values()]
        return {"roles": sorted({str(entry.get("role", "")) for entry in entries})}
    except (ValueError, AttributeError) as exc:
        reader.trouble(MANIFEST, exc)
        return {"roles": []}
