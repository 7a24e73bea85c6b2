# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TCP between probes: the agent of each answers what it is told; who asked for a stream is told how much of it arrived."""

from __future__ import annotations

import errno
import os
import selectors
import socket
import struct
import time
from contextlib import suppress
from typing import Callable, Dict

from ansible_collections.multihost.overlay.plugins.module_utils._ping_codec import (
    STREAM,
    WORDS,
    unpack,
)
from ansible_collections.multihost.overlay.plugins.module_utils._ping_pair import Dialogue

CHUNK = bytes(65536)
_COUNT = struct.Struct("!Q")


class Watch:
    """Sockets, and what to do when one is ready."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._held: Dict[socket.socket, None] = {}

    def reading(self, sock: socket.socket, call: Callable[[], None]) -> None:
        self._set(sock, selectors.EVENT_READ, call)

    def writing(self, sock: socket.socket, call: Callable[[], None]) -> None:
        self._set(sock, selectors.EVENT_WRITE, call)

    def _set(self, sock: socket.socket, events: int, call: Callable[[], None]) -> None:
        change = self._selector.modify if sock in self._selector.get_map() else self._selector.register
        change(sock, events, call)

    def own(self, sock: socket.socket) -> None:
        """It is closed with the watch at the latest."""
        self._held[sock] = None

    def close_one(self, sock: socket.socket) -> None:
        """End a connection; one that has ended already is let be."""
        if sock in self._held:
            del self._held[sock]
            self.forget(sock)
            sock.close()

    def forget(self, sock: socket.socket) -> None:
        """Do nothing any more when it is ready."""
        if sock in self._selector.get_map():
            self._selector.unregister(sock)

    def wait(self, seconds: float) -> None:
        """Wait for so long, and do what is to be done for those that are ready."""
        for key, _events in self._selector.select(max(0.0, seconds)):
            key.data()

    def close(self) -> None:
        """End all connections; sockets of others stay open."""
        for sock in list(self._held):
            self.close_one(sock)
        self._selector.close()


class Answerer:
    """The end of a connection that a peer has opened: says its first words back, counts what follows."""

    def __init__(self, watch: Watch, run: bytes, sock: socket.socket) -> None:
        self.watch, self.run, self.sock = watch, run, sock
        self.words = b""
        self.count = 0
        watch.own(sock)
        watch.reading(sock, self.read)

    def read(self) -> None:
        """Take what has come."""
        try:
            data = self.sock.recv(len(CHUNK))
            if not data:
                self._end()
            elif len(self.words) < WORDS:
                self._greet(data)
            else:
                self.count += len(data)
        except BlockingIOError:
            return
        except OSError:
            self.watch.close_one(self.sock)

    def _greet(self, data: bytes) -> None:
        self.words += data[: WORDS - len(self.words)]
        if len(self.words) == WORDS:
            if unpack(self.run, self.words) is None:  # somebody else's
                self.watch.close_one(self.sock)
            else:
                self.sock.send(self.words)

    def _end(self) -> None:
        probe = unpack(self.run, self.words)
        if probe is not None and probe.phase == STREAM:
            self.sock.send(_COUNT.pack(self.count))
        self.watch.close_one(self.sock)


class Caller:
    """The end that opens it: says its words, expects them back, and may pour a stream after them."""

    def __init__(self, watch: Watch, sock: socket.socket, words: bytes, talk: Dialogue, seconds: float = 0.0) -> None:
        self.watch, self.sock, self.words, self.talk = watch, sock, words, talk
        self.seconds = seconds  # of a stream
        self.got = b""
        self.began = 0.0
        watch.own(sock)

    def call(self, address: str, port: int) -> None:
        """Open the connection, and say the words when it is there."""
        status = self.sock.connect_ex((address, port))
        if status in (0, errno.EINPROGRESS):
            self.watch.writing(self.sock, self._guarded(self._connected))
        else:
            self._end(False, os.strerror(status))

    def _guarded(self, step: Callable[[], None]) -> Callable[[], None]:
        def guarded() -> None:
            if self.talk.finished:  # patience has ended
                self.watch.close_one(self.sock)
                return
            try:
                with suppress(BlockingIOError):
                    step()
            except OSError as exc:
                self._end(False, exc.strerror or str(exc))

        return guarded

    def _end(self, ok: bool, error: str | None = None) -> None:
        self.talk.end(ok, error)
        self.watch.close_one(self.sock)

    def _connected(self) -> None:
        status = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if status:
            raise OSError(status, os.strerror(status))
        self.sock.send(self.words)
        self.watch.reading(self.sock, self._guarded(self._answered))

    def _receive(self, wanted: int) -> bool:
        """Whether so many bytes have come."""
        data = self.sock.recv(wanted - len(self.got))
        self.got += data
        if not data:
            self._end(False, "somebody else ended the connection")
        return len(self.got) == wanted

    def _answered(self) -> None:
        if not self._receive(WORDS):
            return
        if self.got != self.words:
            self._end(False, "somebody else answered")
        elif self.seconds:
            self.got, self.began = b"", time.monotonic()
            self.watch.writing(self.sock, self._guarded(self._pour))
        else:
            self._end(True)

    def _pour(self) -> None:
        if time.monotonic() < self.began + self.seconds:
            self.sock.send(CHUNK)
        else:
            self.sock.shutdown(socket.SHUT_WR)
            self.watch.reading(self.sock, self._guarded(self._counted))

    def _counted(self) -> None:
        if self._receive(_COUNT.size):
            (count,) = _COUNT.unpack(self.got)
            self.talk.rate = round(8 * count / (time.monotonic() - self.began))
            self._end(True)
