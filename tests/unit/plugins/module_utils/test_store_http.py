# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Asking a store over HTTP: what is sent, and what becomes of answers. A server on the loopback address stands in for Consul."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from ansible_collections.multihost.overlay.plugins.module_utils._store_http import http_asker

SEEN: list[tuple[str, str, str | None, bytes]] = []


class Handler(BaseHTTPRequestHandler):
    """Notes what it is asked, and denies what it does not know."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        SEEN.append((self.command, self.path, self.headers.get("X-Consul-Token"), body))
        known = self.path == "/v1/known"
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(b'"yes"' if known else b"Permission denied")

    def log_message(self, *_words: object) -> None:
        """Nobody reads it."""


# The names that http.server looks for.
for method in ("GET", "PUT"):
    setattr(Handler, f"do_{method}", Handler.answer)


@pytest.fixture
def url() -> Iterator[str]:
    SEEN.clear()
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"consul://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_what_is_sent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    ask = http_asker(url, {})
    assert ask("/v1/known", "secret") == (200, b'"yes"')
    assert ask("/v1/known", "", b"") == (200, b'"yes"')
    assert ask("/v1/other?x", "", b"content") == (403, b"Permission denied")
    assert SEEN == [
        ("GET", "/v1/known", "secret", b""),
        ("PUT", "/v1/known", None, b""),
        ("PUT", "/v1/other?x", None, b"content"),
    ]


def test_tls_is_spoken_only_with_all_three_files(url: str) -> None:
    # As Docker does; with all three they would be read, and are not there.
    files = {"kv.cacertfile": "/no/ca", "kv.certfile": "/no/crt", "kv.keyfile": "/no/key"}
    with pytest.raises(OSError, match="No such file"):
        http_asker(url, files)
    del files["kv.keyfile"]
    assert http_asker(url, files)("/v1/known", "")[0] == 200


def test_nobody_answers() -> None:
    status, words = http_asker("consul://127.0.0.1:1", {})("/v1/known", "")
    assert (status, words) == (0, b"[Errno 111] Connection refused")
