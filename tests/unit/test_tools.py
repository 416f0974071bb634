"""The tool contract, and the pure parts of the HTTP tool: URLs, requests, redirects, answers, waiting times, redaction."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError, dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squidmesh.errors import Defer, Fail, StepError
from squidmesh.tools import Adapter, ErrorKind, Result, ToolError, http, invoke
from squidmesh.tools.http_errors import LONGEST_RETRY_AFTER, retry_after
from squidmesh.tools.http_request import METHODS, HTTPRequest
from squidmesh.tools.http_response import Headers, Response
from squidmesh.tools.http_url import Unusable, parse_url, with_params
from squidmesh.tools.redaction import HIDDEN, Secrets, is_secret, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squidmesh.records import JSON


@dataclass(frozen=True)
class Scripted:
    """An adapter that does what it is told."""

    act: Callable[[Mapping[str, JSON], Mapping[str, JSON]], Any]
    name: str = "scripted"

    def invoke(self, request: Mapping[str, JSON], context: Mapping[str, JSON], /) -> Result:
        return cast("Result", self.act(request, context))


def returning(value: object) -> Scripted:
    def act(request: object, context: object) -> object:
        return value

    return Scripted(act)


def raising(problem: BaseException) -> Scripted:
    def act(request: object, context: object) -> Result:
        raise problem

    return Scripted(act)


def refused(call: Callable[[], object]) -> ToolError:
    """The error of a call that must not send anything."""
    with pytest.raises(ToolError) as caught:
        call()
    assert caught.value.kind is ErrorKind.INVALID_REQUEST
    assert caught.value.retryable is False
    return caught.value


class TestContract:
    def test_an_adapter_gets_request_and_context_and_its_result_comes_back(self) -> None:
        adapter: Adapter = Scripted(lambda request, context: Result("scripted", {"saw": [request, context]}, {"n": 1}))
        assert invoke(adapter, {"a": 1}, {"b": 2}) == Result("scripted", {"saw": [{"a": 1}, {"b": 2}]}, {"n": 1})
        assert invoke(adapter, {}).payload == {"saw": [{}, {}]}

    def test_a_result_is_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Result("a", None).payload = 1  # type: ignore[misc]

    @pytest.mark.parametrize("request_", [None, [], "get", 5])
    def test_a_request_that_is_no_mapping_is_refused(self, request_: Any) -> None:
        error = refused(lambda: invoke(returning(Result("x", 1)), request_))
        assert error.details == {"given": type(request_).__name__, "adapter": "scripted", "kind": "invalid_request"}

    @pytest.mark.parametrize("context", [[], "x", 0, False])
    def test_a_context_that_is_no_mapping_is_refused(self, context: Any) -> None:
        with pytest.raises(ToolError) as caught:
            invoke(returning(Result("x", 1)), {}, context)
        assert (caught.value.kind, caught.value.retryable) == (ErrorKind.INVALID_CONTEXT, False)

    def test_what_is_no_adapter_breaks_the_contract(self) -> None:
        class Nameless:
            def invoke(self, request: object, context: object) -> Result:
                return Result("x", 1)

        class Powerless:
            name = "powerless"

        for adapter in (None, Nameless(), Powerless(), "http"):
            with pytest.raises(ToolError) as caught:
                invoke(cast("Adapter", adapter), {})
            assert (caught.value.kind, caught.value.retryable) == (ErrorKind.ADAPTER_CONTRACT, False)

    @pytest.mark.parametrize("returned", [None, {"payload": 1}, ToolError])
    def test_returning_something_else_breaks_the_contract(self, returned: object) -> None:
        with pytest.raises(ToolError, match="must return a Result") as caught:
            invoke(returning(returned), {})
        assert caught.value.kind is ErrorKind.ADAPTER_CONTRACT

    def test_an_unforeseen_exception_is_chained_but_its_text_is_not_stored(self) -> None:
        problem = ValueError("password=hunter2")
        with pytest.raises(ToolError) as caught:
            invoke(raising(problem), {})
        error = caught.value
        assert error.__cause__ is problem
        assert (error.kind, error.retryable) == (ErrorKind.ADAPTER_CONTRACT, False)
        assert error.details["exception"] == "ValueError"
        assert "hunter2" not in json.dumps(error.to_json())

    @pytest.mark.parametrize(
        "problem",
        [
            ToolError("down", adapter="scripted", kind=ErrorKind.TRANSPORT, retryable=True),
            Fail("no"),
            Defer(5),
            KeyboardInterrupt(),
        ],
    )
    def test_what_an_adapter_raises_on_purpose_passes_unchanged(self, problem: BaseException) -> None:
        with pytest.raises(type(problem)) as caught:
            invoke(raising(problem), {})
        assert caught.value is problem

    def test_an_error_is_a_step_error_that_is_complete_in_its_details(self) -> None:
        error = ToolError(
            "busy",
            adapter="crm",
            kind=ErrorKind.HTTP,
            details={"status": 429, "kind": "forged", "adapter": "forged"},
            retryable=True,
            retry_after=timedelta(minutes=1),
        )
        assert isinstance(error, StepError)
        assert (error.adapter, error.kind, error.retryable, error.retry_after) == ("crm", ErrorKind.HTTP, True, 60)
        assert error.to_json() == {
            "error": "tool_error",
            "message": "busy",
            "status": 429,
            "adapter": "crm",
            "kind": "http",
        }
        assert type(error.details["kind"]) is str
        assert ToolError("x", adapter="crm", kind=ErrorKind.TIMEOUT).retryable is False


URL = "http://127.0.0.1:9/"


class TestRequestsThatAreRefused:
    """Nothing listens on the URL: a request that was sent would be a transport error instead."""

    @pytest.mark.parametrize(
        "url",
        [
            None,
            "",
            b"http://host/",
            "host/path",
            "/path",
            "file:///etc/passwd",
            "FILE:///etc/passwd",
            "ftp://host/",
            "data:,x",
            "javascript:1",
            "http:",
            "http:///path",
            "http://:80/",
            "http://host:port/",
            "http://host:0/",
            "http://host:65536/",
            "http://host:-1/",
            "http://[::1/",
            "http://[nonsense]/",
            "http://[fe80::1%25eth0]/",
            "http://ho st/",
            "http://host/a b",
            " http://host/",
            "http://host/\r\nX-Injected: 1",
            "http://host/\x00",
            "http://host/\x85",
            "http://host/\u2028",
            "http://host\\@other/",
            "http://a..b/",
            "http://" + "a" * 64 + ".example/",
            "http://ho%2Fst/",
            "http://host%0d%0aX/",
            "http://ho<st>/",
            "http://host/\ud800",
        ],
    )
    def test_urls(self, url: Any) -> None:
        error = refused(lambda: http.get(url))
        assert error.details["argument"] == "url"
        assert str(error).startswith("url: ")

    @pytest.mark.parametrize(
        "headers",
        [
            [("a", "b")],
            {"": "x"},
            {"a b": "x"},
            {"a:": "x"},
            {"a\r\nb": "x"},
            {"é": "x"},
            {1: "x"},
            {"a": 1},
            {"a": None},
            {"a": b"x"},
            {"a": "x\r\ny: z"},
            {"a": "x\n y"},
            {"a": "\x00"},
            {"a": "\x7f"},
            {"a": "€"},
            {"a": "1", "A": "2"},
            {"Host": "other"},
            {"Content-Length": "5"},
            {"transfer-encoding": "chunked"},
            {"Accept-Encoding": "gzip"},
        ],
    )
    def test_headers(self, headers: Any) -> None:
        assert refused(lambda: http.get(URL, headers=headers)).details["argument"] == "headers"

    @pytest.mark.parametrize(
        "params", ["a=b", [("a", "b")], {"a": None}, {"a": {1: 2}}, {"a": [["b"]]}, {"a": "\ud800"}]
    )
    def test_params(self, params: Any) -> None:
        assert refused(lambda: http.get(URL, params=params)).details["argument"] == "params"

    @pytest.mark.parametrize("timeout", [0, -1, True, None, "5", float("nan"), float("inf"), 86_401, timedelta(0)])
    def test_time_outs(self, timeout: Any) -> None:
        assert refused(lambda: http.get(URL, timeout=timeout)).details["argument"] == "timeout"

    @pytest.mark.parametrize("option", ["max_bytes", "max_redirects"])
    @pytest.mark.parametrize("value", [-1, 1.0, True, None, "1"])
    def test_limits(self, option: str, value: Any) -> None:
        assert refused(lambda: http.request("GET", URL, **{option: value})).details["argument"] == option

    @pytest.mark.parametrize("method", ["CONNECT", "TRACE", "", "GET ", "GET / HTTP/1.1\r\n", None, 1])
    def test_methods(self, method: Any) -> None:
        error = refused(lambda: http.request(method, URL))
        assert error.details["argument"] == "method"
        assert "GET, HEAD" in str(error)

    @pytest.mark.parametrize("body", [{"a": 1}, 5, ["x"], bytearray(b"x"), "\ud800"])
    def test_bodies(self, body: Any) -> None:
        assert refused(lambda: http.post(URL, body=body)).details["argument"] == "body"

    @pytest.mark.parametrize("value", [float("nan"), object(), {1: 2}, "\ud800", b"x"])
    def test_json(self, value: Any) -> None:
        assert refused(lambda: http.post(URL, json={"at": value})).details["argument"] == "json"

    def test_body_and_json_together(self) -> None:
        assert "not both" in str(refused(lambda: http.post(URL, body="x", json={})))

    def test_the_adapter_names_what_it_does_not_know_and_what_it_lacks(self) -> None:
        unknown = refused(lambda: invoke(http.HTTP, {"method": "get", "url": URL, "verify": False, "retries": 3}))
        assert "retries, verify" in str(unknown)
        assert "method, url, headers, params, body, json, timeout, max_bytes, max_redirects" in str(unknown)
        assert "missing: url" in str(refused(lambda: invoke(http.HTTP, {"method": "get"})))
        assert "missing: method, url" in str(refused(lambda: invoke(http.HTTP, {})))


class TestURLs:
    @pytest.mark.parametrize(
        ("given", "sent"),
        [
            ("http://host", "http://host/"),
            ("HTTP://HOST:80/A", "http://host:80/A"),
            ("https://host/ü?q=ä#frag", "https://host/%C3%BC?q=%C3%A4"),
            ("https://bücher.example/", "https://xn--bcher-kva.example/"),
            ("http://host/a%20b?c=%2F", "http://host/a%20b?c=%2F"),
            ("http://[2001:DB8::1]:8080/x", "http://[2001:db8::1]:8080/x"),
            ("http://host?a=1", "http://host/?a=1"),
            ('http://host/"<>`{}', "http://host/%22%3C%3E%60%7B%7D"),
            ("http://under_score.example./", "http://under_score.example./"),
        ],
    )
    def test_are_completed_and_encoded(self, given: str, sent: str) -> None:
        assert parse_url(given) == (sent, None)

    def test_userinfo_becomes_basic_authentication(self) -> None:
        assert parse_url("http://me:p%40ss@host/") == ("http://host/", "Basic bWU6cEBzcw==")
        assert parse_url("http://me@host/") == ("http://host/", "Basic bWU6")

    def test_params_join_the_query_that_is_there(self) -> None:
        params = {"a": "ü &", "n": 1, "f": 1.5, "yes": True, "many": ["x", "y"], "none": []}
        url = with_params("http://host/?q=1", params)
        assert url == "http://host/?q=1&a=%C3%BC+%26&n=1&f=1.5&yes=true&many=x&many=y"
        assert with_params("http://host/", {"a": "b"}) == "http://host/?a=b"
        assert with_params("http://host/?q=1", {}) == "http://host/?q=1"

    @given(st.text(max_size=40) | st.builds("http://{}/{}".format, st.text(max_size=12), st.text()))
    def test_any_text_is_refused_or_sendable(self, text: str) -> None:
        """Whatever is accepted is ASCII, has no character that ends a request line, and reads back as itself."""
        try:
            url, _ = parse_url(text)
        except Unusable:
            return
        assert url.isascii()
        assert url.isprintable()
        assert " " not in url
        assert parse_url(url) == (url, None)

    @given(st.dictionaries(st.text(min_size=1), st.text()))
    def test_params_arrive_as_they_were_given(self, params: dict[str, str]) -> None:
        try:
            url = with_params("http://host/", params)
        except Unusable:
            assert any("\ud800" <= character <= "\udfff" for text in [*params, *params.values()] for character in text)
            return
        assert dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) == params


def asked(method: str = "GET", url: str = "http://host/a/b", **headers: str) -> HTTPRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return HTTPRequest(method, url, named, b"body" if method in {"POST", "PUT", "PATCH"} else None)


class TestRedirects:
    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("method", METHODS)
    def test_change_the_method_as_browsers_do(self, method: str, status: int) -> None:
        request = asked(method, content_type="text/plain", accept="text/plain").redirected(status, "/next")
        becomes_get = (status == 303 and method != "HEAD") or (status in {301, 302} and method == "POST")
        assert request.method == ("GET" if becomes_get else method)
        assert request.content == (None if becomes_get else asked(method).content)
        assert ("content-type" in request.headers) is not becomes_get
        assert request.headers["accept"] == "text/plain"

    @pytest.mark.parametrize(
        ("location", "url"),
        [
            ("c", "http://host/a/c"),
            ("/c?d=e#f", "http://host/c?d=e"),
            ("//other/c", "http://other/c"),
            ("http://host:8080", "http://host:8080/"),
            ("/a b", "http://host/a%20b"),
            ("/\xc3\xbc", "http://host/%C3%BC"),
            ("/\xfc", "http://host/%C3%BC"),
        ],
    )
    def test_are_resolved_and_encoded(self, location: str, url: str) -> None:
        assert asked().redirected(302, location).url == url

    @pytest.mark.parametrize(
        "location",
        [
            "https://host/",
            "ftp://host/",
            "file:///etc/passwd",
            "javascript:1",
            "http://:80/",
            "http://ho\tst/",
            "http://host:x/",
            "http://[/",
        ],
    )
    def test_to_elsewhere_are_not_followed(self, location: str) -> None:
        with pytest.raises(Unusable):
            asked().redirected(302, location)

    def test_from_https_to_http_are_not_followed(self) -> None:
        with pytest.raises(Unusable, match="ask for the right URL"):
            asked(url="https://host/").redirected(302, "http://host/")

    SECRETS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "x-auth-token", "private-token", "x-auth")

    @pytest.mark.parametrize("location", ["http://other/", "http://host:8080/", "http://sub.host/", "//host@other/"])
    def test_to_another_host_or_port_lose_the_credentials(self, location: str) -> None:
        headers = {**dict.fromkeys(self.SECRETS, "s"), "accept": "*/*", "idempotency-key": "k"}
        moved = HTTPRequest("GET", "http://host/", headers).redirected(307, location)
        kept = {name: value for name, value in moved.headers.items() if value in {"s", "*/*", "k"}}
        assert kept == {"accept": "*/*", "idempotency-key": "k"}

    def test_to_the_same_host_keep_them(self) -> None:
        headers = {str(name): "s" for name in self.SECRETS}
        assert HTTPRequest("GET", "http://host/", headers).redirected(302, "http://HOST:80/x").headers == headers


def answer(content: bytes = b"", content_type: str | None = None, **headers: str) -> Response:
    named = [(name.replace("_", "-"), value) for name, value in headers.items()]
    if content_type is not None:
        named.append(("Content-Type", content_type))
    return Response(200, Headers(named), content, "GET", "http://host/x?token=sesame")


class TestAnswers:
    @pytest.mark.parametrize(
        ("content", "content_type", "body"),
        [
            (b'{"a": [1, null]}', "application/json", {"a": [1, None]}),
            (b"[1]", "application/problem+json; charset=utf-8", [1]),
            (b"\xef\xbb\xbf[1]", "application/json; charset=UTF-8", [1]),
            ('"ü"'.encode("utf-16"), "application/json", "ü"),
            (b'"\xfc"', "application/json; charset=iso-8859-1", "ü"),
            (b"1", "text/json", 1),
            (b"", "application/json", None),
            (b"", "image/png", None),
            (b"ok", None, "ok"),
            (b"[1]", "text/plain", "[1]"),
            (b'{"a":1}\n{"a":2}', "application/x-ndjson", '{"a":1}\n{"a":2}'),
            (b"\xfc", "text/plain; charset=latin-1", "ü"),
            (b"\xfc", "text/plain", "\ufffd"),
            (b"a\0b", "text/plain", "a\ufffdb"),
            (b"\\ud800", "text/plain; charset=unicode_escape", "\\ud800"),
            (b"a", "text/plain; charset=no-such-charset", "a"),
            (b"a", "text/plain; charset=zlib", "a"),
            (b"a", 'text/plain; charset="a\0b"', "a"),
            (b"<a/>", "application/xml", "<a/>"),
            (b"ok", ";;;", "ok"),
        ],
    )
    def test_body_is_what_the_content_type_says(self, content: bytes, content_type: str | None, body: JSON) -> None:
        assert answer(content, content_type).body == body

    @pytest.mark.parametrize(
        ("content", "content_type"),
        [
            (b"{", "application/json"),
            (b"<html>", "application/json"),
            (b"\xff\xff", "application/json"),
            (b"NaN", "application/json"),
            (b"1e999", "application/json"),
            (b'"\\u0000"', "application/json"),
            (b'"\\ud800"', "application/json"),
            (b"9" * 5000, "application/json"),
            (b"[" * 100_000, "application/json"),
            (b"\x89PNG\r\n\x1a\n\0", "image/png"),
            (b"\0", None),
        ],
    )
    def test_a_body_that_cannot_be_stored_is_an_error_that_does_not_quote_it(
        self, content: bytes, content_type: str | None
    ) -> None:
        with pytest.raises(ToolError, match="; use ") as caught:
            _ = answer(content, content_type).body
        error = caught.value
        assert (error.kind, error.retryable) == (ErrorKind.INVALID_RESPONSE, False)
        assert error.details == {
            "method": "GET",
            "url": "http://host/x?token=***",
            "status": 200,
            "adapter": "http",
            "kind": "invalid_response",
        }
        assert answer(content, content_type).content == content

    def test_a_compressed_body_is_not_mistaken_for_text(self) -> None:
        with pytest.raises(ToolError, match="compressed"):
            _ = answer(b"\x1f\x8b", "text/plain", content_encoding="gzip").body

    def test_json_can_be_asked_for_whatever_the_type(self) -> None:
        assert answer(b"[1]", "text/plain").json() == [1]

    def test_headers_are_found_in_any_case_and_joined(self) -> None:
        headers = Headers([("X-A", "1"), ("x-a", "2"), ("B", "\0")])
        assert headers["X-a"] == "1, 2"
        assert "b" in headers
        assert cast("Any", 5) not in headers
        assert dict(headers) == {"x-a": "1, 2", "b": "\ufffd"}
        assert headers.get("c") is None

    def test_neither_text_form_shows_a_credential(self) -> None:
        whole = answer(b"sesame", set_cookie="sesame")
        assert "sesame" not in repr(whole) + str(whole) + repr(whole.headers)
        assert whole.headers["set-cookie"] == "sesame"

    @given(st.binary(), st.sampled_from(["text/plain", "application/json", "text/x; charset=utf-16", "x/y", None]))
    def test_any_body_is_storable_or_an_error(self, content: bytes, content_type: str | None) -> None:
        try:
            body = answer(content, content_type).body
        except ToolError:
            return
        stored = json.dumps(body, allow_nan=False, ensure_ascii=False)
        stored.encode()
        assert "\0" not in stored


NOW = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)


def http_date(seconds: float) -> str:
    return format_datetime(NOW + timedelta(seconds=seconds), usegmt=True)


class TestRetryAfter:
    @pytest.mark.parametrize(
        ("value", "seconds"),
        [
            ("0", 0),
            (" 120 ", 120),
            ("1.5", 1.5),
            ("9" * 400, LONGEST_RETRY_AFTER),
            (http_date(90), 90),
            (http_date(-90), 0),
            (http_date(10**7), LONGEST_RETRY_AFTER),
            ("Wednesday, 02-Jan-30 03:05:05 GMT", 60),
            ("", None),
            ("-5", None),
            ("soon", None),
            ("1e3", None),
            ("\u0665", None),
            ("Wed, 99 Jan 2030 99:99:99 GMT", None),
        ],
    )
    def test_is_seconds_or_a_date_counted_from_the_answers_own(self, value: str, seconds: float | None) -> None:
        assert retry_after(Headers([("Retry-After", value), ("Date", http_date(0))])) == seconds

    def test_without_a_date_of_its_own_a_past_date_means_now_and_a_far_one_a_day(self) -> None:
        assert retry_after(Headers([("Retry-After", "Wed, 02 Jan 2002 03:04:05 GMT")])) == 0
        assert retry_after(Headers([("Retry-After", "Fri, 02 Jan 2300 03:04:05 GMT")])) == LONGEST_RETRY_AFTER
        assert retry_after(Headers()) is None

    @given(st.text() | st.from_regex(r"[A-Z][a-z]{2}, \d+ Jan \d+ \d+:\d+:\d+ [A-Z+-]+\d*", fullmatch=True), st.text())
    def test_no_text_breaks_it(self, value: str, date: str) -> None:
        seconds = retry_after(Headers([("Retry-After", value), ("Date", date)]))
        assert seconds is None or 0 <= seconds <= LONGEST_RETRY_AFTER


SECRET_NAMES = [
    "token", "access_token", "accessToken", "X-Auth-Token", "key", "api_key", "apikey", "X-API-Key", "Private-Token",
    "client_secret", "password", "passwd", "pwd", "sig", "signature", "X-Amz-Signature", "X-Amz-Credential", "code",
    "auth", "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "jwt", "sessionid", "otp", "hmac", "ticket",
]  # fmt: skip
HARMLESS_NAMES = [
    "page", "id", "author", "monkeys", "country", "postcode", "design", "assign", "Accept", "Content-Type", "Date",
    "Idempotency-Key", "User-Agent", "X-Request-Id", "Retry-After", "spin", "compass",
]  # fmt: skip

secrets = st.text(st.characters(min_codepoint=33, max_codepoint=0x17F), min_size=6, max_size=20).map("§".__add__)


class TestRedaction:
    @pytest.mark.parametrize("name", SECRET_NAMES)
    def test_knows_secrets_by_their_names(self, name: str) -> None:
        assert is_secret(name)

    @pytest.mark.parametrize("name", HARMLESS_NAMES)
    def test_leaves_harmless_names_alone(self, name: str) -> None:
        assert not is_secret(name)

    @pytest.mark.parametrize(
        ("url", "shown"),
        [
            ("http://me:pw@host:8/p?page=2#token", "http://host:8/p?page=2"),
            ("http://host/?a=1&Api%5FKey=x&b", "http://host/?a=1&Api%5FKey=***&b"),
            ("http://host/?a=1;token=x", "http://host/?a=***"),
            ("http://host/?next=http%3A%2F%2Fh%2F%3Ftoken%3Dx", "http://host/?next=***"),
            ("http://host/?token=a=b;c", "http://host/?token=***"),
            ("http://host/a;jsessionid=x;v=1/b", "http://host/a;jsessionid=***;v=1/b"),
        ],
    )
    def test_shows_the_rest_of_a_url(self, url: str, shown: str) -> None:
        assert redact_url(url) == shown

    @given(secrets, st.sampled_from(SECRET_NAMES))
    def test_no_secret_survives_in_a_url(self, secret: str, name: str) -> None:
        sent, _ = parse_url(f"http://u:{quote(secret, safe='')}@host/;{name}={quote(secret, safe='')}")
        shown = redact_url(with_params(sent, {name: secret, "page": 1}))
        assert secret not in shown
        assert quote(secret, safe="") not in shown
        assert "page=1" in shown

    @given(secrets, st.text())
    def test_an_echoed_secret_is_struck_in_every_spelling(self, secret: str, around: str) -> None:
        known = Secrets.of(with_params("http://host/", {"token": secret}), {"authorization": f"Bearer {secret}"})
        spellings = [secret, quote(secret, safe=""), json.dumps(secret), f"Bearer {secret}"]
        struck = known.strike(around.join(spellings))
        assert not any(spelling.strip('"') in struck for spelling in spellings)

    @given(secrets, st.integers(0, 40))
    def test_a_secret_that_was_cut_in_half_goes_too(self, secret: str, length: int) -> None:
        known = Secrets.of("http://host/", {"cookie": f"session={secret}"})
        text = ("." * 10 + secret)[: 10 + length]
        struck = known.strike(text, cut=True)
        assert set(struck) <= {".", *HIDDEN}

    def test_basic_credentials_are_known_decoded_too(self) -> None:
        known = Secrets.of("http://host/", {"authorization": "Basic bWU6cEBzczEyMw=="})
        assert known.strike("user me has no password p@ss123") == "user me has no password ***"
        assert Secrets.of("http://host/", {"authorization": "Basic not-base64"}).strike("plain") == "plain"
