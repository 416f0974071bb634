"""HTTP for steps: a call that ends, in an answer or in an error that can be stored.

What the standard library leaves open is closed here: the time-out bounds the whole exchange, the answer has a size
limit, redirects keep to their scheme and carry no credentials to other hosts, nothing but ``http`` and ``https`` is
opened, and errors hold no credentials. Nothing is retried here (that is the step's ``Retry``), and no state is kept
between calls.

Example:
    >>> from squidmesh.tools import http
    >>> answer = http.get("https://gateway.example/checks/att_3", timeout=1)  # doctest: +SKIP
    >>> answer.body  # doctest: +SKIP
    {'status': 'settled'}
"""

from __future__ import annotations

from contextlib import closing
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, TypedDict, Unpack

from squidmesh.tools.http_errors import FAILURES, Report, redirect_error, status_error, wire_error
from squidmesh.tools.http_request import ADAPTER, HTTPRequest, Limits, prepare, refuse
from squidmesh.tools.http_response import Headers, Response
from squidmesh.tools.http_url import Params, Unusable
from squidmesh.tools.http_wire import Link, read_all, read_start, send
from squidmesh.tools.redaction import redact_url
from squidmesh.tools.tool import Result

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta
    from http.client import HTTPResponse

    from squidmesh.records import JSON

__all__ = [
    "HTTP",
    "HTTPAdapter",
    "Headers",
    "Options",
    "Params",
    "Response",
    "SendOptions",
    "delete",
    "get",
    "head",
    "patch",
    "post",
    "put",
    "request",
]

MAX_BYTES: Final = 8 * 1024 * 1024
MAX_REDIRECTS: Final = 5
TIMEOUT: Final = 30.0

_ARGUMENTS: Final = ("method", "url", "headers", "params", "body", "json", "timeout", "max_bytes", "max_redirects")
# Read of an error's body; more than is stored, because credentials are struck out before it is cut.
_EVIDENCE_BYTES = 65_536
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class Options(TypedDict, total=False):
    """The options of every request; see ``request``."""

    headers: Mapping[str, str] | None
    params: Params | None
    timeout: float | timedelta
    max_bytes: int
    max_redirects: int


class SendOptions(Options, total=False):
    """The options of a request that has a body; see ``request``."""

    body: str | bytes | None
    json: JSON


def request(
    method: str,
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    params: Params | None = None,
    body: str | bytes | None = None,
    json: JSON = None,
    timeout: float | timedelta = TIMEOUT,
    max_bytes: int = MAX_BYTES,
    max_redirects: int = MAX_REDIRECTS,
) -> Response:
    """Send a request and wait for the whole answer.

    Args:
        method: GET, HEAD, OPTIONS, POST, PUT, PATCH or DELETE, in any case.
        url: Starts with http:// or https://. Userinfo in it becomes Basic authentication.
        headers: Names and values.
        params: Query parameters, added to those of the URL. A list gives a name several times.
        body: Text (sent as UTF-8) or bytes. Not together with ``json``.
        json: A JSON value to send.
        timeout: Seconds or timedelta for everything together, from the name lookup to the last byte; at most a day.
        max_bytes: The largest body to accept, in bytes (default 8 MiB).
        max_redirects: How many redirects to follow (default 5); 0 returns the redirect itself.

    Returns:
        An answer with a status below 400.

    Raises:
        ToolError: Any other outcome. ``kind`` says which, ``retryable`` whether another attempt may help, and
            ``retry_after`` how long the server asked to wait; ``pause`` that it asked so because there is too much.
    """
    limits = Limits.checked(timeout, max_bytes, max_redirects)
    asked = prepare(method, url, headers=headers, params=params, body=body, json=json)
    report = Report.first(asked, limits, Link(limits.seconds))
    followed = 0
    while True:
        outcome = _hop(report, may_follow=followed < limits.max_redirects)
        if isinstance(outcome, Response):
            return outcome
        report = report.then(outcome)
        followed += 1


def get(url: str, **options: Unpack[Options]) -> Response:
    """GET ``url``; arguments and errors are those of ``request``."""
    return request("GET", url, **options)


def head(url: str, **options: Unpack[Options]) -> Response:
    """HEAD ``url``; arguments and errors are those of ``request``."""
    return request("HEAD", url, **options)


def delete(url: str, **options: Unpack[Options]) -> Response:
    """DELETE ``url``; arguments and errors are those of ``request``."""
    return request("DELETE", url, **options)


def post(url: str, **options: Unpack[SendOptions]) -> Response:
    """POST to ``url``; arguments and errors are those of ``request``."""
    return request("POST", url, **options)


def put(url: str, **options: Unpack[SendOptions]) -> Response:
    """PUT to ``url``; arguments and errors are those of ``request``."""
    return request("PUT", url, **options)


def patch(url: str, **options: Unpack[SendOptions]) -> Response:
    """PATCH ``url``; arguments and errors are those of ``request``."""
    return request("PATCH", url, **options)


class HTTPAdapter:
    """HTTP as an adapter for ``invoke``: the request is a mapping of the arguments of ``request``.

    The result's payload is ``{status, headers, body}``, its metadata ``{method, url}`` with the URL redacted. Headers
    that hold credentials (``Set-Cookie``) are left out.
    """

    name: str = ADAPTER

    def invoke(self, asked: Mapping[str, JSON], context: Mapping[str, JSON], /) -> Result:
        """Send the request that ``asked`` describes; ``context`` is not used."""
        del context
        if unknown := sorted(str(name) for name in asked if name not in _ARGUMENTS):
            refuse("request", f"unknown: {', '.join(unknown)}; allowed are {', '.join(_ARGUMENTS)}")
        if missing := [name for name in ("method", "url") if name not in asked]:
            refuse("request", f"required, but missing: {', '.join(missing)}")
        answer = request(**asked)
        payload: JSON = {"status": answer.status, "headers": answer.headers.to_json(), "body": answer.body}
        return Result(self.name, payload, {"method": answer.method, "url": redact_url(answer.url)})


HTTP: Final = HTTPAdapter()


def _hop(report: Report, *, may_follow: bool) -> Response | HTTPRequest:
    """One request of the exchange: its answer, or the request that a redirect asks for instead."""
    try:
        with closing(send(report.request, report.link)) as answer:
            headers = Headers(answer.headers.items())
            if answer.status >= HTTPStatus.BAD_REQUEST:
                content, whole = read_start(answer, _EVIDENCE_BYTES)
                raise status_error(report, _response(report, answer, headers, content), whole=whole)
            location = headers.get("location") if answer.status in _REDIRECTS else None
            if location is not None and report.limits.max_redirects:
                return _follow(report, answer.status, location, may_follow=may_follow)
            return _response(report, answer, headers, read_all(answer, report.limits.max_bytes))
    except FAILURES as problem:
        raise wire_error(report, problem) from None


def _response(report: Report, answer: HTTPResponse, headers: Headers, content: bytes) -> Response:
    return Response(answer.status, headers, content, report.request.method, report.request.url)


def _follow(report: Report, status: int, location: str, *, may_follow: bool) -> HTTPRequest:
    if not may_follow:
        raise redirect_error(report, f"is one too many: max_redirects is {report.limits.max_redirects}")
    try:
        return report.request.redirected(status, location)
    except Unusable as exc:
        raise redirect_error(report, str(exc)) from None
