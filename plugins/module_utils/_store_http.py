# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to a Consul with the standard library alone: who asks a store need not install anything on a host."""

from __future__ import annotations

import http.client
import ssl
import urllib.error
import urllib.request
from typing import Any, Callable, Mapping

from ansible_collections.multihost.overlay.plugins.module_utils._preflight_classic import endpoints
from ansible_collections.multihost.overlay.plugins.module_utils._store import TLS_FILES

TIMEOUT = 8.0

# (path, token) -> (status, body); status 0 when nobody answers, and the body says why.
Asker = Callable[[str, str], "tuple[int, bytes]"]
# The same with content to be written, or None.
Sender = Callable[..., "tuple[int, bytes]"]


def http_asker(url: str, options: Mapping[str, Any], timeout: float = TIMEOUT) -> Sender:
    """Ask the store over HTTP, through no proxy; over TLS where dockerd does. ``timeout`` bounds each request, in seconds."""
    host, port = endpoints(url)[0]
    secure = all(options.get(name) for name in TLS_FILES)
    handlers: list[Any] = [urllib.request.ProxyHandler({})]
    if secure:
        context = ssl.create_default_context(cafile=str(options["kv.cacertfile"]))
        context.load_cert_chain(str(options["kv.certfile"]), str(options["kv.keyfile"]))
        handlers.append(urllib.request.HTTPSHandler(context=context))
    opener = urllib.request.build_opener(*handlers)
    base = f"{'https' if secure else 'http'}://{host}:{port}"

    def ask(path: str, token: str, body: bytes | None = None) -> tuple[int, bytes]:
        headers = {"X-Consul-Token": token} if token else {}
        request = urllib.request.Request(base + path, body, headers, method="GET" if body is None else "PUT")
        try:
            with opener.open(request, timeout=timeout) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as exc:
            return exc.code, exc.read()
        except (OSError, ValueError, http.client.HTTPException) as exc:
            return 0, str(getattr(exc, "reason", exc)).encode()

    return ask
