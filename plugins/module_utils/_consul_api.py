# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Calls of Consul's HTTP API by the modules that manage it. What engines need of the store goes by the store seam instead."""

from __future__ import annotations

import json
from typing import Any
from urllib.error import HTTPError, URLError

from ansible.module_utils.urls import open_url


class ConsulError(Exception):
    """Consul does not do it; the message has its own words. ``status`` is its answer's, 0 where there was none."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class Consul:
    """One Consul, and the token that it is asked with."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url.rstrip("/")
        self.headers = {"X-Consul-Token": token, "Content-Type": "application/json"}

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 15) -> Any:
        """One call; ``path`` is what comes behind /v1/."""
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = open_url(
                f"{self.url}/v1/{path}",
                method=method,
                data=data,
                headers=self.headers,
                timeout=timeout,
                use_proxy=False,
            )
            return json.loads(answer.read() or b"null")
        except HTTPError as exc:
            # No more of the path than says what it was: IDs behind it may be secret.
            what = "/".join(path.split("/")[:2])
            words = exc.read().decode("utf-8", "replace").strip()
            raise ConsulError(
                f"Consul at {self.url} answers {method} {what} with {exc.code}: {words}", exc.code
            ) from exc
        except (URLError, OSError, ValueError) as exc:
            raise ConsulError(f"Consul at {self.url} does not answer: {exc}", 0) from exc
