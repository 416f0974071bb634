"""HTTP requests as values: checked and completed before anything is sent, and rewritten when the server redirects.

Pure. What a step passes may come straight from JSON, so every argument is checked here, whatever its annotation says.
No message quotes a value: it may be a credential.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from http import HTTPStatus
from json import dumps
from typing import TYPE_CHECKING, NoReturn, Self, cast

from squidmesh.tools.http_url import Unusable, join_location, origin, parse_url, with_params
from squidmesh.tools.redaction import is_secret
from squidmesh.tools.tool import ErrorKind, ToolError
from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit

if TYPE_CHECKING:
    from squidmesh.records import JSON

ADAPTER = "http"

METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
IDEMPOTENT = frozenset(METHODS) - {"POST", "PATCH"}
LONGEST = 86_400.0
"""The longest time-out, in seconds: one day."""

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
# How a message is framed and whom it is for is not the caller's to say: two opinions on that are request smuggling.
_OWN = frozenset(
    {
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    },
)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much time, data and patience an exchange gets."""

    seconds: float
    max_bytes: int
    max_redirects: int

    @classmethod
    def checked(cls, timeout: object, max_bytes: object, max_redirects: object) -> Self:
        """The limits as the caller gave them, checked."""
        seconds = timeout.total_seconds() if isinstance(timeout, timedelta) else timeout
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= LONGEST:
            refuse("timeout", f"must be seconds or a timedelta, above 0 and at most {LONGEST:g} seconds")
        return cls(float(seconds), _count("max_bytes", max_bytes), _count("max_redirects", max_redirects))


@dataclass(frozen=True, slots=True)
class HTTPRequest:
    """A request that can be sent: upper-case method, ASCII URL, lower-case header names, encoded body."""

    method: str
    url: str
    headers: Mapping[str, str]
    content: bytes | None = None

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does what sending it once does: by its method, or by an idempotency key."""
        return self.method in IDEMPOTENT or "idempotency-key" in self.headers

    def redirected(self, status: int, location: str) -> HTTPRequest:
        """The request that a redirect asks for, as browsers understand it.

        Raises:
            Unusable: The location cannot be followed.
        """
        url, authorization = join_location(self.url, location)
        if origin(url)[0] != origin(self.url)[0]:
            raise Unusable("leads from http to https or back, which is not followed; ask for the right URL at once")
        headers = dict(self.headers)
        if origin(url) != origin(self.url):
            headers = {name: value for name, value in headers.items() if not is_secret(name)}
        if authorization:
            headers.setdefault("authorization", authorization)
        moved = replace(self, url=url, headers=headers)
        return _as_get(moved) if _becomes_get(self.method, status) else moved


def prepare(method: object, url: object, *, headers: object, params: object, body: object, json: JSON) -> HTTPRequest:
    """Check what the caller gave and complete it.

    Raises:
        ToolError: Of kind ``invalid_request``, naming the argument.
    """
    if not isinstance(method, str) or method.upper() not in METHODS:
        refuse("method", f"must be one of {', '.join(METHODS)}")
    try:
        sendable, authorization = parse_url(url)
    except Unusable as exc:
        refuse("url", str(exc))
    try:
        sendable = sendable if params is None else with_params(sendable, params)
    except Unusable as exc:
        refuse("params", str(exc))
    named = _checked_headers({} if headers is None else headers)
    content, content_type = _encoded(body, json)
    if content_type:
        named.setdefault("content-type", content_type)
    if authorization:
        named.setdefault("authorization", authorization)
    named.setdefault("user-agent", "squidmesh")
    return HTTPRequest(method.upper(), sendable, named, content)


def refuse(argument: str, problem: str) -> NoReturn:
    """Raise the error for an argument that cannot be used."""
    raise ToolError(
        f"{argument}: {problem}",
        adapter=ADAPTER,
        kind=ErrorKind.INVALID_REQUEST,
        details={"argument": argument},
    ) from None


def _becomes_get(method: str, status: int) -> bool:
    if status in {HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.FOUND}:
        return method == "POST"
    return status == HTTPStatus.SEE_OTHER and method != "HEAD"


def _as_get(request: HTTPRequest) -> HTTPRequest:
    headers = {name: value for name, value in request.headers.items() if not name.startswith("content-")}
    return replace(request, method="GET", headers=headers, content=None)


def _count(argument: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        refuse(argument, "must be a whole number, 0 or more")
    return value


def _checked_headers(headers: object) -> dict[str, str]:
    if not isinstance(headers, Mapping):
        refuse("headers", "must be a mapping of names to values")
    checked: dict[str, str] = {}
    for name, value in cast("Mapping[object, object]", headers).items():
        if not isinstance(name, str) or not _TOKEN.fullmatch(name):
            refuse("headers", "a name may hold only letters, digits and !#$%&'*+.^_`|~-")
        key = name.lower()
        if key in _OWN:
            refuse("headers", f"{key} is set by the client itself; leave it out")
        if key in checked:
            refuse("headers", f"{key} is given twice (upper and lower case are the same)")
        checked[key] = _checked_value(key, value)
    return checked


def _checked_value(name: str, value: object) -> str:
    if not isinstance(value, str):
        refuse("headers", f"the value of {name} must be a text")
    if _CONTROL.search(value):
        refuse("headers", f"the value of {name} contains a line break or another control character")
    try:
        value.encode("latin-1")
    except UnicodeEncodeError:
        refuse("headers", f"the value of {name} contains characters outside Latin-1; percent-encode them")
    return value


def _encoded(body: object, json: JSON) -> tuple[bytes | None, str | None]:
    """The body as bytes, and the content type to send unless the caller names one."""
    if body is not None and json is not None:
        refuse("body", "give body= or json=, not both")
    if json is not None:
        return _encoded_json(json), "application/json"
    if body is None:
        return None, None
    if isinstance(body, bytes):
        return body, "application/octet-stream"
    if not isinstance(body, str):
        refuse("body", "must be text or bytes; objects go into json=")
    try:
        return body.encode(), "text/plain; charset=utf-8"
    except UnicodeEncodeError:
        refuse("body", "contains half of a surrogate pair, which is not a character")


def _encoded_json(value: JSON) -> bytes:
    try:
        return dumps(to_json(value), ensure_ascii=False, separators=(",", ":")).encode()
    except Misfit as misfit:
        where = ", ".join(path for path, _ in misfit.rooted("json"))
        refuse("json", f"cannot be written as JSON; see {where}")
