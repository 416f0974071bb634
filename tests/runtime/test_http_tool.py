"""The HTTP tool against real servers on the loopback interface: honest, broken, slow and hostile ones."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import socket
import ssl
import subprocess
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeAlias
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from squidmesh import Rate, Retry, Workflow, testing
from squidmesh.tools import ErrorKind, Result, ToolError, http, invoke

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a hanging server gives up; far beyond any time-out that a test sets for the client."""


@dataclass(frozen=True)
class Asked:
    """A request as it arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def raw(self) -> str:
        """The whole head, as one text."""
        return "\n".join([self.line, *(f"{name}: {value}" for name, value in self.headers.items())])


Answer: TypeAlias = "bytes | Callable[[Server, Asked], bytes | Iterator[bytes]]"


@dataclass
class Server:
    """Answers every connection with bytes of the test's choosing, and remembers what it was asked."""

    answer: Answer
    tls: ssl.SSLContext | None = None
    reads: bool = True
    asked: list[Asked] = field(default_factory=list[Asked], repr=False)

    def __enter__(self) -> Self:
        self.stopping = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        # Closing a listener does not wake the thread in accept; a connection does.
        socket.create_connection(self._listener.getsockname()).close()
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def url(self, path: str = "/", *, host: str = "127.0.0.1") -> str:
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}{path}"

    def pause(self, seconds: float = 0.05) -> None:
        """Wait as a slow server does, but not beyond the end of the test."""
        self.stopping.wait(seconds)

    def _accept(self) -> None:
        while not self.stopping.is_set():
            connection, _ = self._listener.accept()
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # The peer may leave at any time: that is what many of these tests are about.
        with closing(connection), suppress(OSError):
            connection.settimeout(PATIENCE)
            if self.stopping.is_set():
                return
            if not self.reads:
                self.stopping.wait(PATIENCE)
                return
            served = self.tls.wrap_socket(connection, server_side=True) if self.tls else connection
            with closing(served):
                self._answer(served)

    def _answer(self, connection: socket.socket) -> None:
        asked = read_request(connection)
        self.asked.append(asked)
        answer = self.answer(self, asked) if callable(self.answer) else self.answer
        for piece in [answer] if isinstance(answer, bytes) else answer:
            connection.sendall(piece)


def read_request(connection: socket.socket) -> Asked:
    with connection.makefile("rb") as stream:
        line = stream.readline().decode("latin-1").rstrip("\r\n")
        headers: dict[str, str] = {}
        while field_ := stream.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = field_.partition(":")
            headers[name.lower()] = value.strip()
        return Asked(line, headers, stream.read(int(headers.get("content-length", "0"))))


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    named = {"Content-Length": str(len(body)), **{name.replace("_", "-"): value for name, value in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Whatever\r\n{head}\r\n".encode("latin-1") + body


def redirect(location: str, status: int = 302) -> bytes:
    return reply(status, b"elsewhere", Location=location)


def failure(call: Callable[[], object], kind: ErrorKind, *, retryable: bool) -> ToolError:
    with pytest.raises(ToolError) as caught:
        call()
    assert (caught.value.kind, caught.value.retryable) == (kind, retryable), caught.value
    return caught.value


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


class TestAnswers:
    def test_a_gateway_check_in_one_line(self) -> None:
        with Server(reply(body=b'{"status": "settled"}', Content_Type="application/json")) as server:
            answer = http.get(server.url("/checks/att_3"), timeout=5)
        assert answer.body == {"status": "settled"}
        assert (answer.status, answer.method, answer.url) == (200, "GET", server.url("/checks/att_3"))
        assert answer.headers["CONTENT-type"] == "application/json"

    def test_a_request_arrives_as_it_was_given_and_asks_for_no_compression(self) -> None:
        with Server(reply()) as server:
            http.post(server.url("/ü?q=1"), params={"n": 2}, json={"ü": [1]}, headers={"X-Thing": "é"})
            http.put(server.url(), body="ü")
            http.patch(server.url(), body=b"\0", headers={"content-type": "x/y"})
            http.delete(server.url())
            http.post(server.url())
        post, put, patch, delete, empty = server.asked
        assert post.line == "POST /%C3%BC?q=1&n=2 HTTP/1.1"
        assert json.loads(post.body) == {"ü": [1]}
        assert post.headers == {
            "accept-encoding": "identity",
            "connection": "close",
            "content-length": str(len(post.body)),
            "content-type": "application/json",
            "host": f"127.0.0.1:{server.port}",
            "user-agent": "squidmesh",
            "x-thing": "é",
        }
        assert (put.line, put.body) == ("PUT / HTTP/1.1", "ü".encode())
        assert put.headers["content-type"] == "text/plain; charset=utf-8"
        assert (patch.body, patch.headers["content-type"]) == (b"\0", "x/y")
        assert (delete.line, "content-type" in delete.headers) == ("DELETE / HTTP/1.1", False)
        assert (empty.body, empty.headers["content-length"]) == (b"", "0")

    def test_userinfo_is_sent_as_a_header_only(self) -> None:
        with Server(reply()) as server:
            http.get(server.url().replace("//", "//me:pw@"))
        assert server.asked[0].headers["authorization"] == "Basic bWU6cHc="
        assert "pw" not in server.asked[0].raw

    def test_head_has_headers_and_no_body(self) -> None:
        with Server(reply(Content_Length="99999999999", X_Thing="1")) as server:
            answer = http.head(server.url())
        assert (answer.body, answer.headers["x-thing"]) == (None, "1")

    @pytest.mark.parametrize("status", [204, 300, 304, 399])
    def test_every_status_below_400_is_an_answer(self, status: int) -> None:
        with Server(reply(status)) as server:
            assert http.get(server.url()).status == status

    def test_chunks_and_bodies_without_a_length_arrive_whole(self) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"
        with Server(chunked) as server:
            assert http.get(server.url()).body == "abcdefg"
        with Server(b"HTTP/1.0 200 OK\r\n\r\nabc") as server:
            assert http.get(server.url()).body == "abc"

    def test_a_body_that_was_compressed_all_the_same_is_kept_as_bytes(self) -> None:
        packed = gzip.compress(b"{}")
        with Server(reply(body=packed, Content_Type="application/json", Content_Encoding="gzip")) as server:
            answer = http.get(server.url())
        assert answer.content == packed
        failure(lambda: answer.body, ErrorKind.INVALID_RESPONSE, retryable=False)

    def test_the_adapter_returns_what_can_be_stored(self) -> None:
        with Server(reply(201, b"[1]", Content_Type="application/json", Set_Cookie="session=1")) as server:
            url = server.url("/?token=sesame")
            result = invoke(http.HTTP, {"method": "get", "url": url, "timeout": 5}, {"ignored": 1})
        assert result == Result(
            "http",
            {"status": 201, "headers": {"content-type": "application/json", "content-length": "3"}, "body": [1]},
            {"method": "GET", "url": server.url("/?token=***")},
        )

    def test_calls_in_many_threads_do_not_mix(self) -> None:
        def echo(server: Server, asked: Asked) -> bytes:
            return reply(body=asked.headers["authorization"].encode())

        with Server(echo) as server, ThreadPoolExecutor(8) as pool:
            names = [f"Bearer {number}" for number in range(64)]
            waiting = [pool.submit(http.get, server.url(), headers={"Authorization": name}) for name in names]
            assert [answer.result().body for answer in waiting] == names


class TestStatusErrors:
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422, 501, 505, 600])
    def test_what_will_not_change_is_not_retryable(self, status: int) -> None:
        with Server(reply(status)) as server:
            failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=False)

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 507, 599])
    @pytest.mark.parametrize("method", ["GET", "POST"])
    def test_what_may_pass_is_retryable(self, method: str, status: int) -> None:
        with Server(reply(status)) as server:
            failure(lambda: http.request(method, server.url()), ErrorKind.HTTP, retryable=True)

    def test_the_error_has_the_evidence_and_nothing_else(self) -> None:
        body = b'{"error": "rate limit"}'
        answer = reply(
            429,
            body,
            Content_Type="application/json",
            Retry_After="7",
            Set_Cookie="session=1",
            X_Internal="secret plans",
            X_Request_Id="r-1",
        )
        with Server(answer) as server:
            error = failure(lambda: http.post(server.url("/pay?token=sesame")), ErrorKind.HTTP, retryable=True)
        url = server.url("/pay?token=***")
        assert error.retry_after == 7
        assert error.to_json() == {
            "error": "tool_error",
            "message": f"POST {url} answered 429 (Too Many Requests)",
            "adapter": "http",
            "kind": "http",
            "method": "POST",
            "url": url,
            "status": 429,
            "headers": {
                "content-type": "application/json",
                "content-length": str(len(body)),
                "retry-after": "7",
                "x-request-id": "r-1",
            },
            "body": body.decode(),
        }

    @pytest.mark.parametrize(
        ("headers", "seconds"),
        [
            ({"Retry_After": "120"}, 120),
            ({"Retry_After": "Wed, 02 Jan 2030 03:05:05 GMT", "Date": "Wed, 02 Jan 2030 03:04:05 GMT"}, 60),
            ({"Retry_After": "Wed, 02 Jan 2002 03:04:05 GMT"}, 0),
            ({"Retry_After": "soon"}, None),
            ({}, None),
        ],
    )
    def test_retry_after_is_passed_on(self, headers: dict[str, str], seconds: float | None) -> None:
        with Server(reply(503, b"", **headers)) as server:
            error = failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=True)
        assert error.retry_after == seconds
        assert error.pause is (seconds is not None)

    @pytest.mark.parametrize(("status", "pause"), [(429, True), (503, True), (500, False), (408, False)])
    def test_too_much_is_meant_for_all_that_share_the_limit_if_it_says_for_how_long(
        self, status: int, pause: bool
    ) -> None:
        with Server(reply(status, Retry_After="7")) as server:
            assert failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=True).pause is pause
        with Server(reply(status)) as server:
            assert not failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=True).pause

    def test_the_excerpt_is_short_and_never_of_binary_data(self) -> None:
        with Server(reply(500, "ü".encode() * 500_000, Content_Type="text/plain")) as server:
            error = failure(lambda: http.get(server.url(), max_bytes=10), ErrorKind.HTTP, retryable=True)
        assert error.details["body"] == "ü" * 1024
        with Server(reply(500, b"\x89PNG\0", Content_Type="image/png")) as server:
            error = failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=True)
        assert error.details["body"] == ""

    def test_a_body_that_breaks_does_not_hide_the_status(self) -> None:
        with Server(reply(404, b"gone", Content_Length="100")) as server:
            error = failure(lambda: http.get(server.url()), ErrorKind.HTTP, retryable=False)
        assert (error.details["status"], error.details["body"]) == (404, "gone")

    def test_a_body_that_never_ends_does_not_hide_the_status(self) -> None:
        def drip(server: Server, asked: Asked) -> Iterator[bytes]:
            yield reply(404, Content_Length="400")
            for _ in range(400):
                yield b"x"
                server.pause()

        with Server(drip) as server:
            error = failure(lambda: http.get(server.url(), timeout=1), ErrorKind.HTTP, retryable=False)
        assert set(error.details["body"]) == {"x"}


def dripping(head: bytes, body: bytes) -> Callable[[Server, Asked], Iterator[bytes]]:
    """A server that would answer in full, after many times the client's time-out."""

    def answer(server: Server, asked: Asked) -> Iterator[bytes]:
        yield head
        for number in range(len(body)):
            server.pause()
            yield body[number : number + 1]

    return answer


SLOW = [
    pytest.param(dripping(b"", reply(body=b"x" * 50)), id="from the status line on"),
    pytest.param(dripping(reply(Content_Length="100"), b"x" * 100), id="body"),
    pytest.param(
        dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 20 + b"0\r\n\r\n"),
        id="chunks",
    ),
    pytest.param(dripping(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 100), id="body without length"),
]


class TestTimeouts:
    @pytest.mark.parametrize("answer", SLOW)
    def test_a_dripping_server_is_left_in_time(self, answer: Answer) -> None:
        """Each byte comes well within the time-out; only a deadline for all of them ends this before the answer does."""
        with Server(answer) as server:
            error = failure(lambda: http.get(server.url(), timeout=0.3), ErrorKind.TIMEOUT, retryable=True)
        assert error.details["timeout"] == 0.3
        assert str(error) == f"GET {server.url()} got no complete answer within 0.3 s"

    def test_interim_answers_without_end_are_left_in_time(self) -> None:
        def continue_(server: Server, asked: Asked) -> Iterator[bytes]:
            for _ in range(100):
                yield b"HTTP/1.1 100 Continue\r\n\r\n"
                server.pause()
            yield reply()

        with Server(continue_) as server:
            failure(lambda: http.get(server.url(), timeout=0.3), ErrorKind.TIMEOUT, retryable=True)

    def test_redirects_share_one_deadline(self) -> None:
        def wander(server: Server, asked: Asked) -> bytes:
            server.pause(0.1)
            return redirect("/on") if len(server.asked) < 20 else reply()

        with Server(wander) as server:
            failure(
                lambda: http.get(server.url(), timeout=timedelta(seconds=0.3), max_redirects=30),
                ErrorKind.TIMEOUT,
                retryable=True,
            )
        assert len(server.asked) < 20

    def test_a_server_that_does_not_read_is_left_in_time(self) -> None:
        with Server(reply(), reads=False) as server:
            failure(
                lambda: http.put(server.url(), body=b"x" * 30_000_000, timeout=0.3), ErrorKind.TIMEOUT, retryable=True
            )

    def test_a_name_lookup_that_hangs_is_left_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        over = threading.Event()

        def hang(*_: object, **__: object) -> list[object]:
            over.wait(PATIENCE)
            return []

        monkeypatch.setattr(socket, "getaddrinfo", hang)
        error = failure(lambda: http.post("http://slow.example/", timeout=0.1), ErrorKind.TIMEOUT, retryable=True)
        over.set()
        assert error.details["sent"] is False

    @pytest.mark.parametrize(("method", "headers", "retryable"), [
        ("POST", {}, False),
        ("PATCH", {}, False),
        ("POST", {"Idempotency-Key": "run:step:1"}, True),
        ("PUT", {}, True),
        ("DELETE", {}, True),
    ])  # fmt: skip
    @pytest.mark.parametrize("answer", [dripping(b"", reply(body=b"x" * 50)), b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
    def test_what_may_have_been_done_is_repeated_only_if_that_does_no_harm(
        self, method: str, headers: dict[str, str], retryable: bool, answer: Answer
    ) -> None:
        """Spec D19: a POST that got no answer may have been carried out."""
        with Server(answer) as server, pytest.raises(ToolError) as caught:
            http.request(method, server.url(), headers=headers, timeout=0.3)
        assert caught.value.retryable is retryable
        assert caught.value.details["sent"] is True
        assert ("may have been carried out" in str(caught.value)) is not retryable


class TestBrokenConnections:
    def test_a_refused_post_is_retryable_because_nothing_was_sent(self) -> None:
        with closing(socket.create_server(("127.0.0.1", 0))) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        error = failure(lambda: http.post(url, timeout=5), ErrorKind.TRANSPORT, retryable=True)
        assert error.details["reason"] == "connection_refused"
        assert error.details["sent"] is False

    def test_a_name_that_does_not_resolve_is_retryable(self) -> None:
        """The name is too long to be asked about, so no query leaves the machine."""
        url = f"http://{'.'.join(['a' * 60] * 5)}.invalid/"
        error = failure(lambda: http.get(url, timeout=10), ErrorKind.TRANSPORT, retryable=True)
        assert error.details["reason"] == "name_not_resolved"

    @pytest.mark.parametrize(
        ("answer", "reason"),
        [
            (b"", "connection_broken"),
            (b"HTTP/1.1 200 OK\r\n", "connection_broken"),
            (reply(body=b"short", Content_Length="100"), "connection_broken"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "connection_broken"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", "connection_broken"),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nab", "connection_broken"),
            (b"220 mail.example ESMTP\r\n", "not_http"),
            (b"HTTP/1.1 abc\r\n\r\n", "not_http"),
            (reply(X_Long="x" * 70_000), "not_http"),
            (b"HTTP/1.1 200 OK\r\n" + b"X-Many: 1\r\n" * 200 + b"\r\n", "not_http"),
        ],
    )
    def test_half_an_answer_is_none(self, answer: bytes, reason: str) -> None:
        with Server(answer) as server:
            error = failure(lambda: http.get(server.url(), timeout=5), ErrorKind.TRANSPORT, retryable=True)
        assert error.details["reason"] == reason

    def test_what_comes_behind_the_announced_end_is_ignored(self) -> None:
        with Server(reply(body=b"abcdef", Content_Length="3")) as server:
            assert http.get(server.url()).body == "abc"


class TestLimits:
    def test_a_body_of_exactly_the_limit_is_fine(self) -> None:
        with Server(reply(body=b"x" * 1000)) as server:
            assert len(http.get(server.url(), max_bytes=1000).content) == 1000

    @pytest.mark.parametrize(
        "answer",
        [
            reply(Content_Length="99999999999"),
            reply(body=b"x" * 1001),
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: nonsense\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n" + b"x" * 100_000,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 2000,
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nfffffff\r\n" + b"x" * 100_000,
        ],
        ids=["announced", "true", "no length", "no number", "negative", "chunks", "one chunk"],
    )
    def test_a_larger_body_is_refused_however_it_comes(self, answer: bytes) -> None:
        with Server(answer) as server:
            error = failure(
                lambda: http.get(server.url(), max_bytes=1000, timeout=5), ErrorKind.TOO_LARGE, retryable=False
            )
        assert error.details["max_bytes"] == 1000

    def test_an_endless_body_is_left_at_the_limit(self) -> None:
        def endless(server: Server, asked: Asked) -> Iterator[bytes]:
            yield b"HTTP/1.1 200 OK\r\n\r\n"
            while not server.stopping.is_set():
                yield b"x" * 65_536

        with Server(endless) as server:
            failure(lambda: http.get(server.url()), ErrorKind.TOO_LARGE, retryable=False)


class TestRedirects:
    @pytest.mark.parametrize(
        ("status", "method", "body"),
        [(301, "GET", b""), (302, "GET", b""), (303, "GET", b""), (307, "POST", b"{}"), (308, "POST", b"{}")],
    )
    def test_a_post_is_followed_as_browsers_do(self, status: int, method: str, body: bytes) -> None:
        def answer(server: Server, asked: Asked) -> bytes:
            return reply(body=b"there") if asked.line.split()[1] == "/there?x=1" else redirect("there?x=1#f", status)

        with Server(answer) as server:
            got = http.post(server.url("/here"), json={})
        assert (got.body, got.method, got.url) == ("there", method, server.url("/there?x=1"))
        assert server.asked[1].line.split()[0] == method
        assert server.asked[1].body == body
        assert ("content-type" in server.asked[1].headers) is (method == "POST")

    def test_a_loop_ends_at_the_limit(self) -> None:
        with Server(redirect("/again")) as server:
            error = failure(lambda: http.get(server.url(), max_redirects=3), ErrorKind.REDIRECT, retryable=False)
        assert len(server.asked) == 4
        assert "max_redirects is 3" in str(error)

    def test_none_are_followed_if_none_are_wanted(self) -> None:
        with Server(redirect("/again")) as server:
            answer = http.get(server.url(), max_redirects=0)
        assert (answer.status, answer.headers["location"], len(server.asked)) == (302, "/again", 1)

    @pytest.mark.parametrize("location", ["https://127.0.0.1/", "file:///etc/passwd", "ftp://x/", "http://a b\\c/"])
    def test_to_another_scheme_or_nowhere_are_refused(self, location: str) -> None:
        with Server(redirect(location)) as server:
            failure(lambda: http.get(server.url()), ErrorKind.REDIRECT, retryable=False)
        assert len(server.asked) == 1

    def test_credentials_stay_with_the_host_they_were_given_for(self) -> None:
        headers = {"Authorization": "Bearer s", "Cookie": "s=1", "X-Api-Key": "s", "X-Trace": "t"}

        def hop(server: Server, asked: Asked) -> bytes:
            return redirect("/same") if asked.line.split()[1] == "/" else redirect(other.url("/x", host="localhost"))

        with Server(reply()) as other, Server(hop) as server:
            http.get(server.url(), headers=headers)
        assert len(server.asked) == 2
        assert {"authorization", "cookie", "x-api-key", "x-trace"} <= set(server.asked[1].headers)
        assert not {"authorization", "cookie", "x-api-key"} & set(other.asked[0].headers)
        assert other.asked[0].headers["x-trace"] == "t"
        assert other.asked[0].headers["host"] == f"localhost:{other.port}"

    def test_another_port_is_another_host(self) -> None:
        with Server(reply()) as other, Server(redirect(other.url())) as server:
            http.get(server.url().replace("//", "//me:pw@"))
        assert "authorization" in server.asked[0].headers
        assert "authorization" not in other.asked[0].headers


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate for ``localhost``, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("makes its certificate with the openssl program, which is not installed")
    folder = tmp_path_factory.mktemp("tls")
    options = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    command = [openssl, *options.split(), "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    both = folder / "both.pem"
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.fixture
def tls(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class TestTLS:
    def test_a_self_signed_certificate_is_refused_for_good(self, tls: ssl.SSLContext) -> None:
        with Server(reply(), tls) as server:
            error = failure(lambda: http.get(server.url(host="localhost")), ErrorKind.CERTIFICATE, retryable=False)
        assert "certificate" in error.details["reason"]
        assert error.details["sent"] is False
        assert server.asked == []

    def test_a_trusted_certificate_is_accepted_for_its_own_name_only(
        self, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Server(reply(body=b"safe"), tls) as server:
            assert http.get(server.url(host="localhost")).body == "safe"
            error = failure(lambda: http.get(server.url()), ErrorKind.CERTIFICATE, retryable=False)
        assert "IP address mismatch" in str(error)

    def test_the_deadline_holds_under_tls(
        self, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Server(dripping(b"", reply(body=b"x" * 50)), tls) as server:
            failure(lambda: http.get(server.url(host="localhost"), timeout=0.5), ErrorKind.TIMEOUT, retryable=True)

    def test_the_deadline_holds_for_the_handshake(self, tls: ssl.SSLContext) -> None:
        with Server(reply(), tls, reads=False) as server:
            error = failure(lambda: http.post(server.url(), timeout=0.2), ErrorKind.TIMEOUT, retryable=True)
        assert error.details["sent"] is False

    def test_an_address_that_accepts_gets_all_the_time_that_is_left(
        self, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With 20 addresses each has half a second to accept a connection; the handshake may take longer."""

        class Late(Server):
            def _serve(self, connection: socket.socket) -> None:
                self.pause(0.8)
                super()._serve(connection)

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Late(reply(body=b"late"), tls) as server:
            address = (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("127.0.0.1", server.port))

            def look_up(*_: object, **__: object) -> list[object]:
                return [address] * 20

            monkeypatch.setattr(socket, "getaddrinfo", look_up)
            assert http.get(server.url(host="localhost"), timeout=10).body == "late"

    def test_the_deadline_holds_for_a_large_upload(
        self, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class Lazy(Server):
            def _answer(self, connection: socket.socket) -> None:
                while not self.stopping.is_set():
                    connection.recv(100_000)
                    self.pause()

        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Lazy(reply(), tls) as server:
            url = server.url(host="localhost")
            failure(lambda: http.put(url, body=b"x" * 30_000_000, timeout=0.5), ErrorKind.TIMEOUT, retryable=True)

    def test_plain_http_where_tls_was_asked_for_is_an_error(self) -> None:
        class Plain(Server):
            def _answer(self, connection: socket.socket) -> None:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.recv(100_000)

        with Plain(b"") as server:
            url = server.url().replace("http:", "https:")
            error = failure(lambda: http.get(url, timeout=2), ErrorKind.TRANSPORT, retryable=True)
        assert error.details["sent"] is False

    def test_a_redirect_down_to_http_is_refused(
        self, tls: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with Server(reply()) as plain, Server(redirect(plain.url()), tls) as server:
            failure(lambda: http.get(server.url(host="localhost")), ErrorKind.REDIRECT, retryable=False)
        assert plain.asked == []


class TestProxies:
    """The proxies are those of the environment, as everywhere in Python."""

    def test_the_environments_proxy_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Server(reply(body=b"by proxy")) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url())
            assert http.get("http://service.invalid/x?y=1").body == "by proxy"
        assert proxy.asked[0].line == "GET http://service.invalid/x?y=1 HTTP/1.1"

    def test_a_proxy_that_refuses_a_tunnel_is_a_transport_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Server(reply(407)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url())
            failure(lambda: http.get("https://service.invalid/"), ErrorKind.TRANSPORT, retryable=True)
        assert proxy.asked[0].line.startswith("CONNECT service.invalid:443 ")

    def test_a_dripping_proxy_is_left_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with Server(dripping(b"", reply(200))) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url())
            failure(lambda: http.get("https://service.invalid/", timeout=0.3), ErrorKind.TIMEOUT, retryable=True)

    @pytest.mark.parametrize("proxy", ["http:sesame", "socks5://u:sesame@127.0.0.1:1", "http://127.0.0.1:sesame"])
    def test_an_unusable_proxy_is_named_without_its_credentials(
        self, proxy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("http_proxy", proxy)
        error = failure(lambda: http.get("http://service.invalid/"), ErrorKind.TRANSPORT, retryable=False)
        assert error.details["reason"] == "proxy_unusable"
        assert "sesame" not in "".join(traceback.format_exception(error))


def echo(server: Server, asked: Asked) -> bytes:
    """Fail in the way the path says, and tell the client all that it sent, as careless services do."""
    said = asked.raw.encode("latin-1") + b"\n" + json.dumps(asked.headers).encode()
    match asked.line.split("?")[0].removeprefix("GET "):
        case "/status":
            return reply(500, said, Content_Type="text/plain; charset=latin-1", X_Request_Id=asked.headers["x-echo"])
        case "/cut":
            return reply(400, said, Content_Length=str(len(said) + 100))
        case "/loop":
            return b"HTTP/1.1 302 Found\r\nLocation: ftp://" + asked.line.split()[1].encode() + b"\r\n\r\n"
        case "/junk":
            return said + b"\r\n\r\n"
        case _:
            return reply(200, b"{" + said, Content_Type="application/json")


secrets = st.text(st.characters(min_codepoint=33, max_codepoint=0xFF), min_size=6, max_size=24).filter(
    lambda text: text.isprintable()
)


@pytest.fixture(scope="module")
def echoing() -> Iterator[Server]:
    with Server(echo) as server:
        yield server


class TestDiscretion:
    @example(secret="§00,000", path="/status", place="bearer")
    @settings(max_examples=200)
    @given(
        secret=secrets.map("§".__add__),
        path=st.sampled_from(["/status", "/cut", "/loop", "/junk", "/json"]),
        place=st.sampled_from(["userinfo", "query", "bearer", "cookie", "header", "url", "value"]),
    )
    def test_no_secret_of_a_request_is_in_its_error(self, echoing: Server, secret: str, path: str, place: str) -> None:
        """Wherever the secret was, however the request failed, and although the server repeats it in its answer."""
        url, headers, params = echoing.url(path), {"X-Echo": "-"}, {"page": "1"}
        match place:
            case "userinfo":
                url = url.replace("//", f"//me:{quote(secret, safe='')}@")
            case "query":
                params["access_token"] = secret
            case "bearer":
                headers |= {"Authorization": f"Bearer {secret}", "X-Echo": secret}
            case "cookie":
                headers |= {"Cookie": f"a=1; session={secret}"}
            case "header":
                headers |= {"X-Api-Key": secret, "X-Echo": secret}
            case "url":
                url = f"http://me:{secret} @127.0.0.1/"
            case _:
                headers |= {"X-Api-Key": f"{secret}\n"}
        with pytest.raises(ToolError) as caught:
            _ = http.get(url, headers=headers, params=params, timeout=10).body
        assert_silent(caught.value, secret)

    @pytest.mark.parametrize("length", range(1, 18))
    def test_nor_is_a_part_of_one_where_the_body_breaks_off(self, length: int) -> None:
        secret = "0123456789abcdefgh"
        with Server(reply(500, b"YOU SENT " + secret[:length].encode(), Content_Length="999")) as server:
            error = failure(lambda: http.get(server.url(), params={"key": secret}), ErrorKind.HTTP, retryable=True)
        assert not set(secret) & set(error.details["body"])

    @pytest.mark.parametrize("kind", [ErrorKind.TIMEOUT, ErrorKind.TRANSPORT, ErrorKind.TOO_LARGE])
    def test_nor_in_the_errors_of_the_wire(self, kind: ErrorKind) -> None:
        secret = "open-sesame"
        answers: dict[ErrorKind, Any] = {
            ErrorKind.TIMEOUT: dripping(b"", reply()),
            ErrorKind.TRANSPORT: b"",
            ErrorKind.TOO_LARGE: reply(Content_Length="999"),
        }
        with Server(answers[kind]) as server, pytest.raises(ToolError) as caught:
            http.get(
                f"http://{secret}:{secret}@127.0.0.1:{server.port}/?token={secret}",
                headers={"Cookie": secret},
                timeout=0.5,
                max_bytes=10,
            )
        assert caught.value.kind is kind
        assert_silent(caught.value, secret)


def assert_silent(error: ToolError, secret: str) -> None:
    told = [str(error), repr(error), repr(error.details), json.dumps(error.to_json(), ensure_ascii=False)]
    told += [json.dumps(error.to_json()), "".join(traceback.format_exception(error))]
    for spelling in {secret, quote(secret, safe=""), quote(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1]}:
        assert not any(spelling in text for text in told), (spelling, told)


class TestFlowControl:
    def test_a_service_that_has_too_much_pauses_the_key_of_the_step_until_it_wants_more(self, dsn: str) -> None:
        asked: list[str] = []

        @dataclass
        class Account:
            account: str

        workflow = Workflow("gateway", payload=Account)

        @workflow.step(rate=Rate(100, per=1, key="account"), retry=Retry(2))
        def call(account: str) -> None:
            asked.append(account)
            http.get(server.url(f"/{account}"))

        def answer(server: Server, now: Asked) -> bytes:
            first = [each.line for each in server.asked].count(now.line) == 1
            return reply(429, Retry_After="30") if first and "/a" in now.line else reply()

        with Server(answer) as server, testing.harness(dsn, workflows=[workflow]) as h:
            for account in "aab":
                h.mesh.start_run(workflow, {"account": account})
            h.drain()
            assert sorted(asked) == ["a", "b"], "the other one of a waits, too"
            reasons = {why.reason for run in h.runs() if (why := h.mesh.explain_run(run.id)).reason != "completed"}
            assert reasons == {"waiting_for_retry", "key_paused"}
            assert [meter.name for meter in h.mesh.meters.list() if meter.paused_until] == ["gateway/call:account=a"]
            h.travel(seconds=29)
            assert len(asked) == 2
            h.travel(seconds=1)
            assert asked[2:] == ["a", "a"]
            assert {run.status for run in h.runs()} == {"completed"}
