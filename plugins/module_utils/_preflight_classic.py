# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What mode classic adds to the reading of a host: the settings that dockerd will have, its store, one interface."""

from __future__ import annotations

import array
import fcntl
import os
import re
import socket
import ssl
import struct
from typing import Any, Iterable, Mapping
from urllib.parse import urlsplit

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_reader import Reader
from ansible_collections.multihost.overlay.plugins.module_utils._store import TLS_FILES

BRIDGE = re.compile(r"^(docker0|docker_gwbridge|br-[0-9a-f]{12})$")
DEFAULT_PORTS = {"consul": 8500, "etcd": 2379, "zk": 2181}
PATIENCE = 3.0
SIOCETHTOOL = 0x8946
ETHTOOL_GTXCSUM = 0x16

Observed = Mapping[str, Any]


def docker_bridges(addresses: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Docker's bridges with their networks, as ADDRESS/LENGTH."""
    return {
        entry["interface"]: f"{entry['address']}/{entry['prefix']}"
        for entry in addresses
        if BRIDGE.match(entry["interface"])
    }


def flag_values(engine: Observed, name: str) -> list[str]:
    """The values of a flag."""
    return [entry["value"] for entry in engine["flags"] if entry["flag"] == name]


def setting(engine: Observed, wanted: Observed, key: str) -> str:
    """A text setting as the next start of dockerd will have it: ours, else the file's, else the flag's."""
    flags = flag_values(engine, key)
    value = wanted["daemon_config"].get(key) or engine["daemon_json"]["config"].get(key) or (flags[-1] if flags else "")
    return str(value)


def store_options(engine: Observed, wanted: Observed) -> dict[str, Any]:
    """cluster-store-opts as the next start of dockerd will have them."""
    options: dict[str, Any] = {}
    for text in flag_values(engine, "cluster-store-opt"):
        name, _equals, value = text.partition("=")
        options[name] = value
    for source in (engine["daemon_json"]["config"], wanted["daemon_config"]):
        given = source.get("cluster-store-opts")
        options.update(given if isinstance(given, dict) else {})
    return options


def endpoints(url: str) -> list[tuple[str, int]]:
    """Host and port of each endpoint of a store's URL."""
    scheme, mark, rest = url.partition("://")
    found = []
    for part in (rest if mark else url).split("/")[0].split(","):
        try:
            split = urlsplit("//" + part)
            found.append((split.hostname or "", split.port or DEFAULT_PORTS.get(scheme, 0)))
        except ValueError:
            found.append((part, 0))
    return found


def driver(reader: Reader, interface: str) -> str:
    """The kernel driver of an interface; empty for one without a device, such as a bridge."""
    return os.path.basename(reader.link(f"/sys/class/net/{interface}/device/driver"))


def checksums_in_hardware(interface: str) -> bool | None:
    """Whether the interface is trusted with checksums; None when it cannot be asked."""
    value = array.array("B", struct.pack("II", ETHTOOL_GTXCSUM, 0))
    request = struct.pack("16sP", interface.encode()[:15], value.buffer_info()[0])
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
            fcntl.ioctl(asked.fileno(), SIOCETHTOOL, request)
    except OSError:
        return None
    return bool(struct.unpack("II", value.tobytes())[1])


def alternative_names(connection: socket.socket, options: Mapping[str, Any], files: Reader) -> list[str] | None:
    """The alternative names in the store's certificate; None when it shows none that the CA vouches for."""
    context = ssl.create_default_context(cafile=files.path(str(options["kv.cacertfile"])))
    # The name is what is looked at here: a certificate without any must be seen, not refused.
    context.check_hostname = False
    context.load_cert_chain(files.path(str(options["kv.certfile"])), files.path(str(options["kv.keyfile"])))
    with context.wrap_socket(connection) as secured:
        shown = secured.getpeercert() or {}
    names: Any = shown.get("subjectAltName", ())
    return [str(pair[1]) for pair in names]


def reach(reader: Reader, host: str, port: int, options: Mapping[str, Any]) -> dict[str, Any]:
    """Call the store as dockerd would, and hang up."""
    result: dict[str, Any] = {"host": host, "port": port, "error": "", "names": None}
    try:
        with socket.create_connection((host, port), timeout=PATIENCE) as connection:
            if all(options.get(name) for name in TLS_FILES):
                result["names"] = alternative_names(connection, options, reader)
    except (ssl.SSLError, ssl.CertificateError) as exc:
        result["tls_error"] = str(exc)
    except OSError as exc:
        result["error"] = str(exc)
    return result


def read_store(reader: Reader, observed: Observed, wanted: Observed) -> dict[str, Any]:
    """A store that is not ours must be there already. One of ours is not asked: it comes with the next roles."""
    url = setting(observed["engine"], wanted, "cluster-store") or wanted["store_url"]
    if wanted["mode"] != "classic" or not wanted["docker_host"] or wanted["store_managed"] or not url:
        return {}
    host, port = endpoints(url)[0]
    return reach(reader, host, port, store_options(observed["engine"], wanted)) if host and port else {}


def read_offload(reader: Reader, observed: Observed, wanted: Observed) -> dict[str, Any]:
    """The interface that will carry the tunnels: its driver, and whether checksums are left to it."""
    carrying = [entry["interface"] for entry in observed["addresses"] or [] if entry["address"] == wanted["address"]]
    if not carrying:
        return {}
    name = driver(reader, carrying[0])
    # One driver is known for it; asking all others would only cost.
    offload = checksums_in_hardware(carrying[0]) if name == "vmxnet3" else None
    return {"interface": carrying[0], "driver": name, "checksums": offload}


def read_classic(reader: Reader, observed: Observed, wanted: Observed) -> dict[str, Any]:
    """All of it."""
    options = store_options(observed["engine"], wanted)
    named = {name: str(options[name]) for name in TLS_FILES if options.get(name)}
    return {
        "offload": read_offload(reader, observed, wanted),
        "missing_files": {name: path for name, path in named.items() if not reader.exists(path)},
        "store": read_store(reader, observed, wanted),
    }
