# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a certificate, and when it has to be made anew."""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from ansible_collections.multihost.overlay.plugins.module_utils import _certificates as certificates

DAY = 86400.0
NAMES = {"DNS": ["server.dc1.consul", "localhost"], "IP Address": ["127.0.0.1", "10.88.0.11"]}


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """One that is valid for 90 days."""
    key, name = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "node1")]),
    )
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "overlay CA 1")])
    start = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName(value) for value in NAMES["DNS"]]
    addresses = [x509.IPAddress(ipaddress.IPv4Address(value)) for value in NAMES["IP Address"]]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=90))
        .add_extension(x509.SubjectAlternativeName([*names, *addresses]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "node1.crt"
    path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    plain, pkcs8 = serialization.NoEncryption(), serialization.PrivateFormat.PKCS8
    (tmp_path / "node1.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, pkcs8, plain))
    return path


def test_a_certificate_is_read_without_any_package(certificate: Path) -> None:
    found = certificates.read(str(certificate))
    assert found is not None
    assert (found["subject"], found["issuer"]) == ("node1", "overlay CA 1")
    assert 89 * DAY < found["not_after"] - time.time() <= 90 * DAY
    assert found["names"] == ["DNS:localhost", "DNS:server.dc1.consul", "IP Address:10.88.0.11", "IP Address:127.0.0.1"]


def test_what_is_no_certificate_is_none(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("no certificate\n")
    assert certificates.read(str(tmp_path / "x")) is certificates.read(str(tmp_path / "y")) is None


def test_those_of_a_folder_tell_whether_their_own_keys_are_there(certificate: Path) -> None:
    folder = certificate.parent
    (folder / "odd.crt").write_text("x")
    found = certificates.read_all(str(folder))
    assert found["odd"] == {"key": False, "digest": hashlib.sha256(b"x").hexdigest()}
    assert (found["node1"]["key"], found["node1"]["issuer"]) == (True, "overlay CA 1")
    assert certificates.read_all(str(folder / "none")) == {}
    # As a run leaves it that was killed between the two files.
    other = ec.generate_private_key(ec.SECP256R1())
    pem = other.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "node1.key").write_bytes(pem)
    assert certificates.read_all(str(folder))["node1"]["key"] is False


def test_what_ends_is_told_before() -> None:
    days = {"consul": 31, "docker": 29, "gone": -1, "ca": 89, "docker-clients": 91}
    ends = {name: {"not_after": left * 86400} for name, left in days.items()}
    found = list(certificates.ending({**ends, "odd": {}}, 0.0))
    assert [(entry.name, entry.check, entry.ended) for entry in found] == [
        ("ca", "ca_ends", False),
        ("docker", "certificate_ends", False),
        ("gone", "certificate_ends", True),
    ]
    assert found[1].message == "the certificate docker ends on 1970-01-30"
    assert found[2].message == "the certificate gone has ended on 1969-12-31"
