# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the programs on a host ask the store for Docker's records. Standard library only."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import urllib.error
import urllib.request
from typing import Any, Dict, List, Optional, Sequence, Tuple, Type, TypeVar

Store = TypeVar("Store", bound="Consul")


class TroubleError(Exception):
    """Why nothing is changed this time."""


class NoStoreError(TroubleError):
    """The store does not answer, or with an error: there is no use in asking it once more."""


def opener_for(tls: Sequence[str]) -> urllib.request.OpenerDirector:
    """What asks the store: through no proxy, since none is between a host and its own store, and over TLS with CA, certificate and key."""
    handlers: List[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if tls:
        context = ssl.create_default_context(cafile=tls[0])
        context.load_cert_chain(tls[1], tls[2])
        handlers.append(urllib.request.HTTPSHandler(context=context))
    return urllib.request.build_opener(*handlers)


class Consul:
    """Docker's records in a Consul."""

    def __init__(self, url: str, token: str, tls: Sequence[str] = ()) -> None:
        host, _slash, folder = url.partition("://")[2].partition("/")
        self.folder = f"{folder.strip('/') + '/' if folder else ''}docker/"
        self.url = f"{'https' if tls else 'http'}://{host}/v1/kv/{self.folder}"
        self.headers = {"X-Consul-Token": token} if token else {}
        self.tls = tls
        self.opener = opener_for(())

    @classmethod
    def of(cls: Type[Store], given: argparse.Namespace) -> Store:
        """The one of these arguments. Its token is in a file that only root can read, which the unit hands over as environment."""
        return cls(given.store, os.environ.get("CONSUL_HTTP_TOKEN", ""), given.store_tls)

    def ask(self, what: str, content: Optional[bytes] = None) -> Tuple[str, bytes]:
        """(the index at which this was changed last, the answer). Content is written. Consul says 404 where there is no key."""
        try:
            if self.tls:
                # Anew each time: the files may have been renewed.
                self.opener = opener_for(self.tls)
            verb = "GET" if content is None else "PUT"
            request = urllib.request.Request(self.url + what, content, self.headers, method=verb)
            with self.opener.open(request, timeout=5) as response:
                return response.headers.get("X-Consul-Index", ""), response.read()
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return error.headers.get("X-Consul-Index", ""), b"[]"
            raise NoStoreError(f"the store says HTTP {error.code}") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise NoStoreError(f"the store does not answer: {error}") from error

    def below(self, folder: str) -> List[Dict[str, Any]]:
        """Consul's entries of all keys that begin with this: Key, Value (base64), Flags, ModifyIndex."""
        return list(json.loads(self.ask(f"{folder}?recurse")[1]))

    def put(self, key: str, content: bytes, flags: int, index: int) -> bool:
        """Write a key that was last changed at this index (0: that is not there). Whether nobody was quicker."""
        return self.ask(f"{key}?cas={index}&flags={flags}", content)[1].strip() == b"true"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What tells a program of its store and its host."""
    parser.add_argument("--store", required=True, help="the store's URL, as dockerd has it")
    parser.add_argument(
        "--store-tls", nargs=3, default=(), metavar=("CA", "CERTIFICATE", "KEY"), help="files, as dockerd has them"
    )
    parser.add_argument("--address", required=True, help="the address that this host advertises")
