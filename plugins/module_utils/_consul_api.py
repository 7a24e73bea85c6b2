# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of Consul's HTTP API by the modules that manage it. What engines need of the store goes by the store seam instead."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url

from ansible_collections.multihost.overlay.plugins.module_utils._store import TLS_FILES, parse_url


class ConsulError(Exception):
    """Consul does not do it; the message has its own words. ``status`` and ``body`` are its answer's, 0 and empty where there was none."""

    def __init__(self, message: str, status: int, body: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.body = body


class Consul:
    """One Consul, and the token that it is asked with; over TLS with the three files that Docker's store options name."""

    def __init__(self, url: str, token: str, options: Mapping[str, str] | None = None) -> None:
        self.url = url.rstrip("/")
        self.headers = {"X-Consul-Token": token, "Content-Type": "application/json"}
        self.tls = tls_of(options or {})

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 15) -> Any:
        """One call; ``path`` is what comes behind /v1/."""
        data = None if body is None else json.dumps(body).encode()
        try:
            return json.loads(self.send(method, path, data, timeout) or b"null")
        except ValueError as exc:
            raise ConsulError(f"Consul at {self.url} does not answer: {exc}", 0) from exc

    def send(self, method: str, path: str, data: bytes | None = None, timeout: float = 15) -> bytes:
        """The same with bytes, as they come and go."""
        url = f"{self.url}/v1/{path}"
        try:
            answer = open_url(
                url, method=method, data=data, headers=self.headers, timeout=timeout, use_proxy=False, **self.tls
            )
            return answer.read()
        except HTTPError as exc:
            # No more of the path than says what it was: IDs behind it may be secret.
            what = "/".join(path.partition("?")[0].split("/")[:2])
            words = exc.read().decode("utf-8", "replace").strip()
            raise ConsulError(
                f"Consul at {self.url} answers {method} {what} with {exc.code}: {words}", exc.code, words
            ) from exc
        except (URLError, OSError, ValueError) as exc:
            raise ConsulError(f"Consul at {self.url} does not answer: {exc}", 0) from exc


def tls_of(options: Mapping[str, str]) -> Dict[str, str]:
    """What open_url needs to speak TLS; nothing where Docker would not."""
    if not all(options.get(name) for name in TLS_FILES):
        return {}
    return dict(zip(("ca_path", "client_cert", "client_key"), (options[name] for name in TLS_FILES)))


def consul_of(store: str, token: str, options: Mapping[str, str]) -> Consul:
    """The Consul behind a ``cluster-store`` URL."""
    parsed = parse_url(store)
    return Consul(f"{'https' if tls_of(options) else 'http'}://{parsed.host}:{parsed.port}", token, options)
