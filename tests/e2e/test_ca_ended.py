# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A CA that has ended: what runs goes on, no Consul trusts another any more, and rotate_ca.yml is the cure all the same."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Cluster, wait_for
from tests.e2e.shared import variables, variation
from tests.e2e.support import ROOT, run_playbook

pytestmark = [pytest.mark.lab, pytest.mark.long]

INVENTORY = ROOT / "tests" / "e2e" / "inventories" / "ended.yml"
HOSTS = ("node1", "node2", "node3")
UNIT = "multihost-overlay-consul.service"
# Seconds from the making of the CA; the cluster is made in that time.
LIFE = 200
# A CA with an end that no command of openssl of this age can give it.
MAKE_CA = """
import datetime, json, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "short-lived CA")])
now = datetime.datetime.now(datetime.timezone.utc)
usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
builder = builder.not_valid_after(now + datetime.timedelta(seconds=int(sys.argv[1])))
builder = builder.add_extension(x509.BasicConstraints(True, 0), True).add_extension(usage, True)
builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
form = (serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
pem = key.private_bytes(serialization.Encoding.PEM, *form).decode()
print(json.dumps([builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode(), pem]))
"""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Bare hosts, taken away in the end."""
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)
    run_playbook("playbooks/lab_up.yml", inventory=INVENTORY)
    yield Cluster("ended", HOSTS)
    run_playbook("playbooks/lab_down.yml", inventory=INVENTORY)


def short_lived(python: str) -> dict[str, str]:
    """What a user with a CA of their own writes into the inventory."""
    made = subprocess.run([python, "-c", MAKE_CA, str(LIFE)], capture_output=True, text=True, check=True)
    certificate, key = json.loads(made.stdout)
    return {"overlay_tls_ca_certificate": certificate, "overlay_tls_ca_key": key}


def leader(cluster: Cluster) -> bool:
    answer = cluster.call("node1", "http://127.0.0.1:8500/v1/status/leader")
    return answer[0] == 200 and ":" in answer[1]


def test_another_follows_a_ca_that_has_ended(cluster: Cluster, tmp_path: Path) -> None:
    began = time.monotonic()
    own = variation(tmp_path, variables(**short_lived(str(ROOT / ".venv" / "bin" / "python"))), base=INVENTORY)
    settings = {"overlay_report_dir": str(tmp_path)}
    run_playbook("site.yml", inventory=own, extra_vars=settings)
    for host in HOSTS:
        cluster.start_service(host, f"service-{host}", "blue")
    wait_for("the end of the CA", lambda: time.monotonic() > began + LIFE, LIFE + 5)
    for host in HOSTS:
        cluster.run(host, "systemctl", "restart", UNIT)
    # Nobody trusts anybody: no leader comes, which takes as long to be sure of as an election may take.
    with pytest.raises(AssertionError):
        wait_for("a leader", lambda: leader(cluster), 20)
    placed = {f"service-{host}": host for host in HOSTS}
    assert cluster.unreached(placed) == []
    run_playbook("playbooks/rotate_ca.yml", inventory=INVENTORY, extra_vars=settings)
    assert leader(cluster)
    assert cluster.unreached(placed) == []
    again = run_playbook("site.yml", inventory=INVENTORY, extra_vars=settings)
    assert again.changes == {}
