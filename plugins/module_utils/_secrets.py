# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The cluster's secrets: two random values that lie on the store's hosts, and what follows from them. No I/O.

Tokens are derived and not stored, one for each host and purpose: so a host that is added needs no new secret, and one
that is lost gives away its own tokens only.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import uuid
from typing import Any, Callable, Dict, List, Mapping

Json = Dict[str, Any]

SCHEMA_VERSION = 1
PATH = "/etc/multihost-overlay/secrets.json"
GOSSIP_BYTES = 32  # Consul's own `keygen` makes so many since 1.8; 16 and 24 are valid too
# The cluster's CA; one whose certificates Docker takes for its clients', who are root on every host: those of the first are not; and,
# while the first is being replaced, the one that follows.
AUTHORITIES = ("ca", "client_ca", "ca_next")
SEED = re.compile(r"[0-9a-f]{64}")


class SecretsError(Exception):
    """The secrets cannot be used; the message names the host and the cure."""


def new() -> Json:
    """Secrets for a cluster that has none."""
    return {
        "schema_version": SCHEMA_VERSION,
        # Counted up by whatever changes them, so that of two hosts the one is known that a run which was killed did not reach.
        "serial": 1,
        "gossip_key": base64.b64encode(secrets.token_bytes(GOSSIP_BYTES)).decode(),
        "seed": secrets.token_hex(32),
        # Counted up by a rotation, which makes other tokens of the same seed.
        "generations": {"engine": 1, "agent": 1, "management": 1},
    }


def problems(found: Any) -> List[str]:
    """What is wrong with secrets that were read or given."""
    if not isinstance(found, dict) or found.get("schema_version") != SCHEMA_VERSION:
        return [f"schema_version is not {SCHEMA_VERSION}"]
    wrong = []
    try:
        if len(base64.b64decode(str(found.get("gossip_key")), validate=True)) not in (16, 24, 32):
            wrong.append("gossip_key has not 16, 24 or 32 bytes")
    except binascii.Error:
        wrong.append("gossip_key is not base64")
    if not SEED.fullmatch(str(found.get("seed"))):
        wrong.append("seed is not 64 hexadecimal digits")
    wrong += [
        f"{name}_key and {name}_certificate go together"
        for name in AUTHORITIES
        if (f"{name}_key" in found) != (f"{name}_certificate" in found)
    ]
    if not isinstance(found.get("serial"), int):
        wrong.append("serial is no number")
    generations = found.get("generations")
    if not isinstance(generations, dict) or not all(isinstance(value, int) for value in generations.values()):
        wrong.append("generations is not a mapping to numbers")
    return wrong


def choose(read: Mapping[str, Any], given: Mapping[str, str], unread: List[str]) -> Json:
    """The cluster's secrets from what its store's hosts have; new ones only where it is certain that there are none.

    ``read`` has, for each host that was read, its secrets or None; ``unread`` are the store's other hosts.
    """
    held = {host: found for host, found in read.items() if found is not None}
    for host, found in held.items():
        wrong = problems(found)
        if wrong:
            raise SecretsError(
                f"{host}: {PATH} cannot be used: {'; '.join(wrong)}. Put back the file of another store's host"
            )
    newest = _newest(held)
    if not held and unread:
        raise SecretsError(
            f"none of {', '.join(sorted(read)) or 'the hosts of this run'} has {PATH}, and {', '.join(unread)} could not be asked. "
            "New secrets would lock out a cluster that has some: run again with all hosts of the store"
        )
    chosen = dict(newest or new())
    for key, value in ((key, value) for key, value in given.items() if value):
        if held and value not in (chosen.get(key, value), chosen.get(key.replace("ca_", "ca_next_", 1))):
            raise SecretsError(
                f"the {key} that was given is not the one in {PATH} of {', '.join(sorted(held))}: take it out"
                + (", or run playbooks/rotate_ca.yml" if key.startswith("ca_") else "")
            )
        if not held or key not in chosen:
            chosen[key] = value
    if newest and chosen != newest:
        chosen["serial"] = newest["serial"] + 1
    wrong = problems(chosen)
    if wrong:
        raise SecretsError(f"what was given cannot be used: {'; '.join(wrong)}")
    return chosen


def rotated(found: Json) -> Json:
    """Other secrets for the same cluster: a new gossip key, and new tokens for the engines. The old key is kept until nobody needs it.

    Of a rotation that was interrupted what it began with: its key may be on some members already.
    """
    if "gossip_key_old" in found:
        return found
    generations = {**found["generations"], "engine": found["generations"]["engine"] + 1}
    fresh = {"gossip_key": new()["gossip_key"], "gossip_key_old": found["gossip_key"], "generations": generations}
    return {**found, **fresh, "serial": found["serial"] + 1}


def _without(found: Json, *keys: str) -> Json:
    """The secrets without some of them; the same where there are none of these."""
    kept = {key: value for key, value in found.items() if key not in keys}
    return found if len(kept) == len(found) else {**kept, "serial": found["serial"] + 1}


def settled(found: Json) -> Json:
    """Without the key that a rotation kept."""
    return _without(found, "gossip_key_old")


def ca_swapped(found: Json) -> Json:
    """The CA that follows signs from now on; of the one before the certificate is kept, because there are certificates of it."""
    if "ca_next_key" not in found:
        return found
    swapped = {"ca_key": found["ca_next_key"], "ca_certificate": found["ca_next_certificate"]}
    kept = _without(found, "ca_next_key", "ca_next_certificate")
    return {**kept, **swapped, "ca_old_certificate": found["ca_certificate"]}


def ca_settled(found: Json) -> Json:
    """Without the CA of before."""
    return _without(found, "ca_old_certificate")


def clients_revoked(found: Json) -> Json:
    """Without the CA of Docker's clients; a new one is made where the API is served."""
    return _without(found, "client_ca_key", "client_ca_certificate")


# Each is done at once and can be done again: of what is done nothing is left to do.
STEPS: Dict[str, Callable[[Json], Json]] = {
    "none": dict,
    "keys_begin": rotated,
    "keys_end": settled,
    "ca_swap": ca_swapped,
    "ca_end": ca_settled,
    "clients_revoke": clients_revoked,
}


def trusted(found: Json) -> str:
    """The CAs whose certificates are valid, as one PEM: while one follows another, both."""
    names = ("ca_certificate", "ca_next_certificate", "ca_old_certificate")
    return "".join(f"{found[name].strip()}\n" for name in names if name in found)


def _newest(held: Mapping[str, Json]) -> Json | None:
    """The secrets of the host that was reached last. Of one cluster they have the same seed."""
    hosts = sorted(held, key=lambda host: held[host]["serial"])
    if not hosts:
        return None
    last = hosts[-1]
    for host in hosts[:-1]:
        other = held[host]
        if other["seed"] != held[last]["seed"] or (other["serial"] == held[last]["serial"] and other != held[last]):
            raise SecretsError(
                f"{host} and {last} have different secrets in {PATH}: they belonged to two clusters, or two runs changed them at the same "
                "time. Copy the file of the host whose Consul serves to the other"
            )
    return held[last]


def token(found: Json, purpose: str, host: str = "") -> str:
    """A token: the first 16 bytes of an HMAC-SHA256 (RFC 2104) of purpose, generation and host, as a UUID."""
    message = f"{purpose}:{found['generations'][purpose]}:{host}".encode()
    digest = hmac.new(bytes.fromhex(found["seed"]), message, hashlib.sha256).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def tokens(found: Json, hosts: List[str]) -> Json:
    """All of them: one for who manages Consul, two for each host."""
    return {
        "management": token(found, "management"),
        "hosts": {
            host: {"name": host, **{purpose: token(found, purpose, host) for purpose in ("agent", "engine")}}
            for host in hosts
        },
    }
