"""A TCP proxy in front of Postgres that cuts connections at an exact message: the network's worst moments, at will.

It understands as much of the protocol as it takes to see where a message ends. A prepared statement's text travels only
once: to recognise a later execution, connect with ``prepare_threshold=None``.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import psycopg
from psycopg.conninfo import make_conninfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STARTUP: Final = 3
"""Major protocol version: what tells the start of a session from requests for encryption and cancellation."""

_READY: Final = b"Z"
"""The server's message that it has done all that was asked."""


class _Cut(NamedTuple):
    predicate: Callable[[bytes], bool]
    drop_reply: bool
    after: Callable[[bytes], bool] | None
    done: threading.Event


class Proxy:
    """Forwards connections to a Postgres server until told otherwise; use it in a with statement.

    Args:
        dsn: The address of the database, through TCP or a Unix socket.

    Attributes:
        dsn: The address of the same database through the proxy, once it is started.
    """

    def __init__(self, dsn: str) -> None:
        self._target = dsn
        self.dsn = ""
        self._links: list[_Link] = []
        self._lock = threading.Lock()
        self._cut: _Cut | None = None
        self._flowing = threading.Event()
        self._flowing.set()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen on a free port of 127.0.0.1."""
        with psycopg.connect(self._target) as probe:
            self._host, self._port = probe.info.host, probe.info.port
        self._listener = socket.create_server(("127.0.0.1", 0))
        port = self._listener.getsockname()[1]
        self.dsn = make_conninfo(self._target, host="127.0.0.1", port=port, sslmode="disable", gssencmode="disable")
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def stop(self) -> None:
        """Accept no more, and cut all connections."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._flowing.set()
        self.cut()

    def cut(self) -> None:
        """Cut all connections, now; new ones are accepted."""
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.cut()

    def cut_when(
        self,
        predicate: Callable[[bytes], bool],
        *,
        drop_reply: bool = True,
        after: Callable[[bytes], bool] | None = None,
    ) -> threading.Event:
        """Cut a connection at the first message of a client that ``predicate`` is true for.

        Args:
            predicate: Is given each whole message, its type (``b"Q"``, ``b"P"``) first.
            drop_reply: True: the message arrives and the server has done its work, but no answer comes back.
                False: the message does not arrive.
            after: Only sessions are looked at that have sent a message for which this is true, from that one on.

        Returns:
            An event that is set when it has been done.
        """
        self._cut = _Cut(predicate, drop_reply, after, threading.Event())
        return self._cut.done

    def freeze(self) -> None:
        """Let nothing through, in either direction, without cutting anything."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Let everything through again."""
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                link = _Link(client, self._connect())
            except OSError:
                return
            with self._lock:
                self._links.append(link)
            threading.Thread(target=self._upstream, args=(link,), daemon=True).start()
            threading.Thread(target=self._downstream, args=(link,), daemon=True).start()

    def _connect(self) -> socket.socket:
        if not self._host.startswith("/"):
            return socket.create_connection((self._host, self._port))
        server = socket.socket(socket.AF_UNIX)
        server.connect(f"{self._host}/.s.PGSQL.{self._port}")
        return server

    def _upstream(self, link: _Link) -> None:
        """From the client to the server."""
        with suppress(OSError):
            for message in _messages_of_client(link.client):
                self._flowing.wait()
                cut = self._cut
                if cut is not None and not link.mute and link.is_meant(cut, message) and cut.predicate(message):
                    self._cut = None
                    link.mute = cut
                    if not cut.drop_reply:
                        break
                link.server.sendall(message)
        link.cut()

    def _downstream(self, link: _Link) -> None:
        """From the server to the client."""
        with suppress(OSError):
            for message in _messages(link.server):
                self._flowing.wait()
                if not link.mute:
                    link.client.sendall(message)
                elif message[:1] == _READY:
                    break
        link.cut()


class _Link:
    """The two halves of one connection; ``mute`` when no answer comes back any more."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.mute: _Cut | None = None
        self._meant: _Cut | None = None

    def is_meant(self, cut: _Cut, message: bytes) -> bool:
        if cut.after is None or cut.after(message):
            self._meant = cut
        return self._meant is cut

    def cut(self) -> None:
        for half in (self.client, self.server):
            with suppress(OSError):
                half.shutdown(socket.SHUT_RDWR)
            half.close()
        if self.mute:
            self.mute.done.set()


def _messages_of_client(client: socket.socket) -> Iterator[bytes]:
    while True:
        length = _exactly(client, 4)
        rest = _exactly(client, struct.unpack("!I", length)[0] - 4)
        yield length + rest
        if struct.unpack("!H", rest[:2])[0] == _STARTUP:
            break
    yield from _messages(client)


def _messages(sender: socket.socket) -> Iterator[bytes]:
    while True:
        head = _exactly(sender, 5)
        yield head + _exactly(sender, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(sender: socket.socket, count: int) -> bytes:
    parts: list[bytes] = []
    while count:
        part = sender.recv(min(count, 65536))
        if not part:
            raise ConnectionResetError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
