# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything that must stay secret in a cluster, and the places where it might show."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ansible_collections.multihost.overlay.plugins.module_utils._secrets import tokens
from tests.cluster import LABCTL, Cluster

SECRETS = "/etc/multihost-overlay/secrets.json"
KEYS = "/etc/multihost-overlay/tls/*.key"
# Where a file could be that others than root may read.
PLACES = ("/etc", "/run", "/tmp", "/var/lib/multihost-overlay", "/var/log", "/var/tmp")
EVERY = 0.05


def of_key(pem: str) -> str:
    """A line of a key that no other key has."""
    return pem.splitlines()[1]


def secrets_of(cluster: Cluster) -> set[str]:
    """What the hosts of a cluster keep, and all that follows from it."""
    held = json.loads(cluster.out(cluster.hosts[0], "cat", SECRETS))
    made = tokens(held, cluster.hosts)
    found = {held["seed"], held["gossip_key"], made["management"]}
    found |= {of_host[kind] for of_host in made["hosts"].values() for kind in ("agent", "engine")}
    found |= {of_key(value) for name, value in held.items() if name.endswith("ca_key")}
    for host in cluster.hosts:
        keys = cluster.out(host, "sh", "-c", f"for key in {KEYS}; do sed -n 2p $key; done")
        found |= set(keys.split())
    return found


def shown_on(cluster: Cluster, host: str, secrets: set[str]) -> list[str]:
    """Journal and files of a host that show a secret to others than root."""
    journal = cluster.out(host, "journalctl", "-b", "--no-pager", timeout=120)
    shown = [f"{host}: the journal has a secret" for secret in secrets if secret in journal]
    # The patterns come by a pipe, so that no argv has them.
    script = 'patterns=$(mktemp); cat >"$patterns"; find "$@" -xdev -type f -perm /o+r -exec grep -lF -f "$patterns" {} +; rm "$patterns"'
    done = cluster.run(
        host, "sh", "-c", script, "sh", *PLACES, stdin="\n".join(secrets) + "\n", check=False, timeout=120
    )
    return shown + [f"{host}: {path}" for path in done.stdout.split()]


@contextmanager
def process_with(cluster: Cluster, host: str, secret: str) -> Iterator[None]:
    """A process of a host that has a secret in its command line, and no other process: it gets it by a pipe."""
    script = "read secret; exec python3 -c 'import sys; sys.stdin.read()' \"$secret\""
    command = [sys.executable, str(LABCTL), "--name", cluster.lab, "exec", host, "sh", "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        process.stdin.write(secret + "\n")
        process.stdin.flush()
        yield


class Arguments:
    """The command lines of all processes of this machine, its labs' hosts among them, while a block runs."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Arguments:
        self._thread.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _value: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue

    def with_any(self, secrets: set[str]) -> list[str]:
        """Those that have a secret."""
        return [
            line.decode(errors="replace") for line in self.seen if any(secret.encode() in line for secret in secrets)
        ]
