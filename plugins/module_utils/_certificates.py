# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a certificate on a host says of itself. Python's own ssl can decode one, so nothing needs to be installed."""

from __future__ import annotations

import os
import ssl
from typing import Any, Dict, Optional, Tuple

Json = Dict[str, Any]
FOLDER = "/etc/multihost-overlay/tls"
# The copy that Consul's unit gives it.
HANDED_OVER = "/run/overlay-consul/consul.key"
Names = Tuple[Tuple[Tuple[str, str], ...], ...]

# The name of CPython's function is private, and the same from 3.8 to 3.13; where it is missing a certificate is unknown.
_DECODE = getattr(getattr(ssl, "_ssl", None), "_test_decode_cert", None)


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
    """Those of a folder by their names, each with whether its own key lies beside it; what cannot be decoded is empty."""
    try:
        names = sorted(name[:-4] for name in os.listdir(folder) if name.endswith(".crt"))
    except OSError:
        return {}
    found = {}
    for name in names:
        path = os.path.join(folder, name)
        found[name] = {**(read(f"{path}.crt") or {}), "key": is_pair(f"{path}.crt", f"{path}.key")}
    if "consul" in found:
        found["consul"]["in_use"] = _content(os.path.join(folder, "consul.key")) == _content(HANDED_OVER)
    return found


def _content(path: str) -> bytes:
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
