"""From what can go wrong on the wire to the one error that is stored.

Two duties. *Verdicts*: what may be retried, and when. *Discretion*: messages are built here from words of our own,
never from the text of an exception or of the peer, and everything taken from the exchange passes through the
redaction. For the same reason the exceptions of ``ssl``, ``socket`` and ``http.client`` are not chained: a stored
traceback would print them.
"""

from __future__ import annotations

import errno
import http.client
import re
import socket
import ssl
import time
from dataclasses import dataclass, replace
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Self

from squidmesh.tools.http_request import ADAPTER
from squidmesh.tools.http_wire import ProxyUnusable, TooLarge
from squidmesh.tools.redaction import Secrets, redact_url
from squidmesh.tools.tool import ErrorKind, ToolError

if TYPE_CHECKING:
    from squidmesh.records import JSON
    from squidmesh.tools.http_request import HTTPRequest, Limits
    from squidmesh.tools.http_response import Headers, Response
    from squidmesh.tools.http_wire import Link

FAILURES: Final = (OSError, http.client.HTTPException, TooLarge, ProxyUnusable)
"""What an exchange raises when it fails."""

LONGEST_RETRY_AFTER: Final = 86_400.0
EXCERPT_BYTES: Final = 2_048

_SHOWN_HEADERS: Final = (
    "content-type",
    "content-length",
    "date",
    "retry-after",
    "request-id",
    "x-request-id",
    "x-correlation-id",
    "ratelimit",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
)
_SHOWN_LENGTH: Final = 200
# Too early, too much, or the server's own trouble. Not 501 and 505: what a server cannot do it will not learn soon.
_RETRYABLE: Final = frozenset({408, 425, 429, *range(500, 600)}) - {501, 505}
# Where a time to wait is meant for whoever asks, and not for this request alone.
_OVERLOADED: Final = frozenset({429, 503})
_SECONDS: Final = re.compile(r"[0-9]+(\.[0-9]+)?")
# In this order: some are subclasses of others.
_REASONS: Final = (
    (socket.gaierror, "name_not_resolved", "the host name could not be resolved"),
    (ConnectionRefusedError, "connection_refused", "the connection was refused"),
    (
        (ConnectionError, http.client.IncompleteRead, ssl.SSLEOFError, ssl.SSLZeroReturnError),
        "connection_broken",
        "the connection broke before the answer was complete",
    ),
    (ssl.SSLError, "tls", "no TLS connection could be agreed on"),
    (http.client.HTTPException, "not_http", "the answer is not valid HTTP"),
)


@dataclass(frozen=True, slots=True)
class Report:
    """What an error may tell of an exchange.

    Args:
        request: The hop under way.
        secrets: The credentials of all hops so far.
        repeatable: Whether the request that the caller asked for may be sent twice.
        limits: The exchange's limits.
        link: The exchange's state.
    """

    request: HTTPRequest
    secrets: Secrets
    repeatable: bool
    limits: Limits
    link: Link

    @classmethod
    def first(cls, request: HTTPRequest, limits: Limits, link: Link) -> Self:
        """The report of an exchange that begins with ``request``."""
        return cls(request, Secrets.of(request.url, request.headers), request.repeatable, limits, link)

    def then(self, request: HTTPRequest) -> Report:
        """The report after a redirect to ``request``."""
        return replace(self, request=request, secrets=self.secrets | Secrets.of(request.url, request.headers))

    def error(
        self,
        kind: ErrorKind,
        said: str,
        *,
        retryable: bool = False,
        retry_after: float | None = None,
        pause: bool = False,
        **details: JSON,
    ) -> ToolError:
        """The error that says of this request what ``said`` says."""
        url = self.secrets.strike(redact_url(self.request.url))
        return ToolError(
            f"{self.request.method} {url} {said}",
            adapter=ADAPTER,
            kind=kind,
            details={"method": self.request.method, "url": url, **details},
            retryable=retryable,
            retry_after=retry_after,
            pause=pause,
        )


def status_error(report: Report, answer: Response, *, whole: bool) -> ToolError:
    """The error for an answer with status 400 or above; ``whole`` says whether its content is the whole body."""
    strike = report.secrets.strike
    headers = {name: strike(answer.headers[name])[:_SHOWN_LENGTH] for name in _SHOWN_HEADERS if name in answer.headers}
    body = strike(answer.text, cut=not whole) if answer.is_text else ""
    wait = retry_after(answer.headers)
    return report.error(
        ErrorKind.HTTP,
        f"answered {answer.status} ({http.client.responses.get(answer.status, 'not a standard status')})",
        retryable=answer.status in _RETRYABLE,
        retry_after=wait,
        pause=wait is not None and answer.status in _OVERLOADED,
        status=answer.status,
        headers=headers,
        body=body.encode()[:EXCERPT_BYTES].decode(errors="ignore"),
    )


def redirect_error(report: Report, problem: str) -> ToolError:
    """The error for a redirect that is not followed. Not retryable: the server will say the same again."""
    return report.error(ErrorKind.REDIRECT, f"was redirected to a URL that {problem}")


def wire_error(report: Report, problem: Exception) -> ToolError:
    """The error for an exchange that ended without a usable answer: ``problem`` is one of ``FAILURES``."""
    sent = report.link.sent
    match problem:
        case TooLarge():
            limit = report.limits.max_bytes
            said = f"answered with more than {limit} bytes; raise max_bytes if that is right"
            return report.error(ErrorKind.TOO_LARGE, said, max_bytes=limit)
        case ProxyUnusable():
            said = "cannot be sent: the proxy that the environment names is not http://host:port"
            return report.error(ErrorKind.TRANSPORT, said, reason="proxy_unusable", sent=sent)
        case ssl.SSLCertVerificationError():
            why = report.secrets.strike(problem.verify_message)
            said = f"failed: the server's certificate is not trusted ({why})"
            return report.error(ErrorKind.CERTIFICATE, said, reason=why, sent=sent)
        case TimeoutError():
            seconds = report.link.seconds
            return _transient(
                report, ErrorKind.TIMEOUT, f"got no complete answer within {seconds:g} s", timeout=seconds
            )
        case _:
            reason, said = _reason(problem)
            return _transient(report, ErrorKind.TRANSPORT, f"failed: {said}", reason=reason)


def retry_after(headers: Headers) -> float | None:
    """The seconds that a ``Retry-After`` header asks to wait, or None if it is absent or unreadable.

    A date is counted from the answer's own ``Date``, so that a wrong clock here or there does no harm. The result is
    never negative and at most a day.
    """
    value = headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(value):
        seconds = float(value)
    else:
        until = _instant(value)
        if until is None:
            return None
        since = _instant(headers.get("date", ""))
        seconds = until - (time.time() if since is None else since)
    return min(max(seconds, 0.0), LONGEST_RETRY_AFTER)


def _transient(report: Report, kind: ErrorKind, said: str, **details: JSON) -> ToolError:
    """A failure that another attempt may not meet.

    Once a POST may have reached the server, a second one may do twice what should be done once: it is retryable only
    if it carries an idempotency key.
    """
    retryable = report.repeatable or not report.link.sent
    if not retryable:
        said += "; it may have been carried out, so it is not to be repeated (unless it has an Idempotency-Key header)"
    return report.error(kind, said, retryable=retryable, sent=report.link.sent, **details)


def _reason(problem: Exception) -> tuple[str, str]:
    """A code and words for a broken exchange."""
    for kinds, code, said in _REASONS:
        if isinstance(problem, kinds):
            return code, said
    number = problem.errno if isinstance(problem, OSError) else None
    if number is None:
        return "connection_failed", "the connection failed (a proxy may have refused it)"
    code = errno.errorcode.get(number, str(number))
    return code, f"the connection failed ({code})"


def _instant(text: str) -> float | None:
    """An HTTP date as seconds since the epoch, or None if it is none."""
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
