# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Speaks to a Docker engine over its unix socket with the standard library alone.

Preflight and verify must work on hosts that this collection did not build and must change nothing there, so they
cannot ask for a Python package to be installed first. Paths carry no API version: the engine then answers with its
newest, and the few fields read here have kept their names from 1.9 to today.
"""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any, Mapping
from urllib.parse import quote, urlencode

DEFAULT_SOCKET = "/var/run/docker.sock"


class DockerError(Exception):
    """The engine refused, or could not be reached (then ``status`` is None)."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, socket_path: str, timeout: float) -> None:
        super().__init__("docker", timeout=timeout)
        self._socket_path = socket_path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._socket_path)


def _query_string(query: Mapping[str, Any] | None) -> str:
    """Encode a query as Docker wants it: filters and other structures as JSON, booleans as 1 and 0."""
    if not query:
        return ""
    flat = {}
    for key, value in query.items():
        if isinstance(value, (dict, list)):
            value = json.dumps(value)
        elif isinstance(value, bool):
            value = int(value)
        flat[key] = value
    return "?" + urlencode(flat)


def _error_text(raw: bytes) -> str:
    try:
        return str(json.loads(raw)["message"])
    except (ValueError, KeyError, TypeError):
        return raw.decode("utf-8", "replace").strip()


class DockerClient:
    """A connection per request; ``timeout`` is in seconds and bounds each read from the socket."""

    def __init__(self, socket_path: str = DEFAULT_SOCKET, timeout: float = 60.0) -> None:
        self.socket_path = socket_path
        self.timeout = timeout

    def _send(self, method: str, target: str, data: bytes | None, content_type: str) -> bytes:
        connection = _UnixConnection(self.socket_path, self.timeout)
        try:
            connection.request(method, target, body=data, headers={"Content-Type": content_type} if data else {})
            response = connection.getresponse()
            raw = response.read()
        except (OSError, http.client.HTTPException) as exc:
            raise DockerError(f"the Docker engine does not answer on {self.socket_path}: {exc}") from exc
        finally:
            connection.close()
        if response.status >= 400:
            raise DockerError(_error_text(raw), response.status)
        return raw

    def request(self, method: str, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        """Send one request; return the parsed answer, or None when it is empty. Raise DockerError otherwise."""
        data = None if body is None else json.dumps(body).encode()
        raw = self._send(method, quote(path) + _query_string(query), data, "application/json")
        try:
            return json.loads(raw) if raw.strip() else None
        except ValueError as exc:
            raise DockerError(f"{method} {path}: the answer is not JSON: {raw[:200]!r}") from exc

    def get(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.request("GET", path, query=query)

    def post(self, path: str, body: Any = None, query: Mapping[str, Any] | None = None) -> Any:
        return self.request("POST", path, body, query)

    def delete(self, path: str, query: Mapping[str, Any] | None = None) -> Any:
        return self.request("DELETE", path, query=query)

    def stream_post(self, path: str, data: bytes, content_type: str, query: Mapping[str, Any] | None = None) -> str:
        """Post raw bytes, such as an image's tar; the answer is a stream of JSON lines, returned as text."""
        answer = self._send("POST", quote(path) + _query_string(query), data, content_type).decode("utf-8", "replace")
        # Docker reports a failure in mid-stream inside an answer of status 200.
        for line in answer.splitlines():
            if '"error"' in line:
                raise DockerError(f"{path}: {line.strip()}")
        return answer

    def info(self) -> dict[str, Any]:
        """What ``docker info`` shows."""
        result: dict[str, Any] = self.get("/info")
        return result

    def available(self) -> bool:
        """Whether an engine answers on the socket at all."""
        try:
            self._send("GET", "/_ping", None, "application/json")
        except DockerError:
            return False
        return True
