"""One request on the wire, inside a deadline.

``urllib`` gives each socket operation the whole time-out again: a server that drips a byte a second holds a worker's
thread for ever. Here every operation, the name lookup included, gets what is left of one deadline. Only ``http`` and
``https`` have a handler, so no other scheme can be opened; proxies are those of the environment, as ``urllib`` reads
them. Redirects and statuses are not this module's business: it returns every answer as it is.
"""

from __future__ import annotations

import functools
import http.client
import ipaddress
import os
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any, TypeAlias, cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squidmesh.tools.http_request import HTTPRequest

_PIECE = 65_536

Address: TypeAlias = tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]


class TooLarge(Exception):
    """The body is larger than the limit."""


class ProxyUnusable(Exception):
    """The proxy that the environment names cannot be used."""


class Link:
    """What the hops of one exchange share.

    Args:
        seconds: The time for the whole exchange, counted from now.

    Attributes:
        sent: Whether anything may have reached a server.
        ended: Whether the end of the present hop's stream was seen.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.sent = False
        self.ended = False
        self._deadline = time.monotonic() + seconds

    def remaining(self) -> float:
        """Seconds left, above 0.

        Raises:
            TimeoutError: None are left.
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the deadline has passed")
        return left


def send(request: HTTPRequest, link: Link) -> http.client.HTTPResponse:
    """Send ``request`` and return the answer, whatever its status, its body unread. The caller closes it.

    Raises:
        OSError: The connection cannot be made or breaks; ``TimeoutError`` after the deadline.
        http.client.HTTPException: What comes back is not HTTP.
        ProxyUnusable: The environment names a proxy that cannot be used.
    """
    opener = urllib.request.OpenerDirector()
    opener.addheaders = []
    try:
        opener.add_handler(urllib.request.ProxyHandler())
        opener.add_handler(_Handler(link))
        message = urllib.request.Request(  # noqa: S310 - the handler above knows http and https only
            request.url, data=request.content, headers=dict(request.headers), method=request.method
        )
        link.ended = False
        answer = cast("http.client.HTTPResponse", opener.open(message, timeout=link.remaining()))
    except urllib.error.URLError as exc:
        raise exc.reason if isinstance(exc.reason, OSError) else OSError(str(exc.reason)) from None
    except (ValueError, http.client.InvalidURL):
        # The request's own URL is checked already, so this can only be the proxy's.
        raise ProxyUnusable from None
    if link.ended:
        # http.client takes the end of the stream for the end of the headers: a broken answer would be an empty one.
        answer.close()
        raise http.client.RemoteDisconnected("the connection ended within the headers")
    return answer


def read_all(answer: http.client.HTTPResponse, max_bytes: int) -> bytes:
    """The whole body.

    Raises:
        TooLarge: It is larger than ``max_bytes``, announced or found.
        http.client.IncompleteRead: It ends before its announced end.
    """
    if (answer.length or 0) > max_bytes:
        raise TooLarge
    pieces: list[bytes] = []
    size = 0
    while piece := answer.read1(_PIECE):
        size += len(piece)
        if size > max_bytes:
            raise TooLarge
        pieces.append(piece)
    if answer.length:  # counted down by read1; None when nothing was announced
        raise http.client.IncompleteRead(b"", answer.length)
    return b"".join(pieces)


def read_start(answer: http.client.HTTPResponse, limit: int) -> tuple[bytes, bool]:
    """As much of the body as comes, up to ``limit`` bytes, and whether that is all of it; broken or not."""
    start = bytearray()
    try:
        while len(start) < limit:
            piece = answer.read1(limit - len(start))
            if not piece:
                return bytes(start), not answer.length
            start += piece
    except (OSError, http.client.HTTPException, ValueError):
        pass  # what is wanted is evidence for an error that is already certain
    return bytes(start), False


class _Bounded(socket.socket):
    """A socket each of whose operations gets what is left of the link's time."""

    link: Link | None = None

    def _arm(self) -> None:
        if self.link is not None:
            self.settimeout(self.link.remaining())

    def gettimeout(self) -> float | None:
        # A TLS socket takes this over for its handshake.
        return super().gettimeout() if self.link is None else self.link.remaining()

    def recv_into(self, *args: Any, **options: Any) -> int:
        self._arm()
        count = super().recv_into(*args, **options)
        if self.link is not None and count == 0:
            self.link.ended = True
        return count

    def send(self, *args: Any, **options: Any) -> int:
        self._arm()
        return super().send(*args, **options)

    def sendall(self, *args: Any, **options: Any) -> None:
        self._arm()
        super().sendall(*args, **options)


class _BoundedTLS(_Bounded, ssl.SSLSocket):
    """The same under TLS; the handshake is bounded by the time-out that it takes over."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, *, link: Link, **options: Any) -> None:
        super().__init__(host, **options)
        self._link = link
        # The seam that http.client leaves: what it calls to open the socket, before any tunnel or TLS.
        self._create_connection = functools.partial(_dial, link=link)

    def connect(self) -> None:
        super().connect()
        self._link.sent = True


class _SecureConnection(http.client.HTTPSConnection):
    def __init__(self, host: str, *, link: Link, **options: Any) -> None:
        super().__init__(host, **options)
        self._link = link
        self._create_connection = functools.partial(_dial, link=link)

    def connect(self) -> None:
        super().connect()
        cast("_Bounded", self.sock).link = self._link
        self._link.sent = True


class _Handler(urllib.request.AbstractHTTPHandler):
    """Opens both schemes with connections that keep to the link's deadline."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        if request.type != "http":  # a proxy that is to be reached in another way: no handler took it
            raise ProxyUnusable
        return self.do_open(functools.partial(_Connection, link=self._link), request)

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        context = _trust(os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))
        return self.do_open(functools.partial(_SecureConnection, link=self._link, context=context), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_


@functools.cache
def _trust(cert_file: str | None, cert_dir: str | None) -> ssl.SSLContext:
    """Python's default verification of certificates, kept because loading the authorities takes 20 ms."""
    del cert_file, cert_dir  # OpenSSL reads the variables itself; here they only say for which values this one is
    context = ssl.create_default_context()
    context.sslsocket_class = _BoundedTLS
    return context


def _dial(address: tuple[str, int], _timeout: object, _source: object, *, link: Link) -> socket.socket:
    """A connection to the first of the host's addresses that accepts one; none gets the time that the others need."""
    found = _look_up(*address, link)
    problem = OSError("the host has no address")
    for tried, (family, kind, protocol, _, target) in enumerate(found):
        sock = _Bounded(family, kind, protocol)
        try:
            sock.settimeout(link.remaining() / (len(found) - tried))
            sock.connect(target)
        except OSError as exc:
            sock.close()
            problem = exc
        else:
            sock.link = link
            return sock
    raise problem


def _look_up(host: str, port: int, link: Link) -> Sequence[Address]:
    """The host's addresses. The system's lookup knows no time-out, so it gets a thread that may be left behind."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    answers: queue.SimpleQueue[Sequence[Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except Exception as exc:  # noqa: BLE001 - raised below, by the thread that waits for it
            answers.put(exc)

    threading.Thread(target=look_up, name="squidmesh-lookup", daemon=True).start()
    try:
        answer = answers.get(timeout=link.remaining())
    except queue.Empty:
        raise TimeoutError("the name lookup took too long") from None
    if isinstance(answer, Exception):
        raise answer
    return answer
