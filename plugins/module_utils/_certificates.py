# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate on a host says of itself. Python's own ssl can decode one, so nothing needs to be installed."""

from __future__ import annotations

import hashlib
import math
import os
import ssl
import time
from typing import Any, Dict, Iterator, Mapping, NamedTuple, Optional, Tuple

Json = Dict[str, Any]
FOLDER = "/etc/multihost-overlay/tls"
# The CAs, and how long before their end that is said; other certificates 30 days before, which is half of what site.yml renews them at.
WARN_DAYS = {"ca": 90, "docker-clients": 90, "store-ca": 90}
Names = Tuple[Tuple[Tuple[str, str], ...], ...]

# The name of CPython's function is private, and the same from 3.8 to 3.13; where it is missing a certificate is unknown.
_DECODE = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)


# Of a store that is somebody else's: what the user gave.
GIVEN = {
    "store-ca": "ask who runs the store for its present CA, and give it: overlay_store_ca",
    "store": "if you gave it, give another one: overlay_store_certificate, overlay_store_key; else run site.yml",
}


class Ending(NamedTuple):
    """A certificate that ends soon or has ended: its name, the check, and the cure where that is another than the check's."""

    name: str
    check: str
    ended: bool
    message: str
    fix: str


def common_name(names: Names) -> str:
    """The CN of a subject or an issuer."""
    return next((value for part in names for key, value in part if key == "commonName"), "")


def describe(decoded: Json) -> Json:
    """The parts that decisions are made by: the end in seconds since 1970, names, issuer."""
    return {
        "subject": common_name(decoded.get("subject", ())),
        "issuer": common_name(decoded.get("issuer", ())),
        "not_after": int(ssl.cert_time_to_seconds(decoded["notAfter"])),
        "names": sorted(f"{kind}:{value}" for kind, value in decoded.get("subjectAltName", ())),
    }


def read(path: str) -> Optional[Json]:
    """What the certificate at ``path`` says; None where there is none, or none that can be decoded."""
    if _DECODE is None:
        return None
    try:
        return describe(_DECODE(path))
    except (OSError, ValueError, KeyError):
        return None


def read_all(folder: str = FOLDER) -> Dict[str, Json]:
    """Those of a folder by their names, each with its file's SHA-256 and whether its own key lies beside it."""
    try:
        names = sorted(name[:-4] for name in os.listdir(folder) if name.endswith(".crt"))
    except OSError:
        return {}
    found = {}
    for name in names:
        path = os.path.join(folder, name)
        digest = hashlib.sha256(content(f"{path}.crt")).hexdigest()
        found[name] = {**(read(f"{path}.crt") or {}), "key": is_pair(f"{path}.crt", f"{path}.key"), "digest": digest}
    return found


def content(path: str) -> bytes:
    """A file's content; nothing where it cannot be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return b""


def is_pair(certificate: str, key: str) -> bool:
    """Whether the key lies there and is the certificate's; a run that was killed may have written one of them alone."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except (OSError, ValueError):  # ssl's own error is an OSError
        return False
    return True


def ending(certificates: Mapping[str, Mapping[str, Any]], now: float) -> Iterator[Ending]:
    """Those that end soon, or have ended."""
    for name, found in sorted(certificates.items()):
        left = found.get("not_after", math.inf) - now
        if left < WARN_DAYS.get(name, 30) * 86400:
            day = time.strftime("%Y-%m-%d", time.gmtime(found["not_after"]))
            ended = left <= 0
            message = f"the certificate {name} {'has ended' if ended else 'ends'} on {day}"
            check = "ca_ends" if name in WARN_DAYS else "certificate_ends"
            yield Ending(name, check, ended, message, GIVEN.get(name, ""))
