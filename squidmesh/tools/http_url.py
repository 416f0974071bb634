"""URLs: what the HTTP tool accepts from a step, and what it makes of it before anything is sent.

Pure functions. A URL that two parsers could read differently is refused rather than mended, and no message quotes the
URL: it may hold credentials.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, TypeAlias, cast
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlencode, urljoin, urlsplit, urlunsplit

if TYPE_CHECKING:
    from squidmesh.records import JSON

Scalar: TypeAlias = str | int | float | bool
Params: TypeAlias = Mapping[str, "Scalar | Sequence[Scalar]"]
"""Query parameters: a text, number or boolean each, or a sequence of these for a name that occurs several times."""

# Spaces and control characters end up as other requests or headers; a backslash is a slash to some parsers only.
_FORBIDDEN = re.compile(r"[\s\\\x00-\x20\x7f-\x9f]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?", re.IGNORECASE)
_KEPT = "!#$%&'()*+,/:;=?@[]~"
_BAD_PARAMETER = "must be texts, numbers or booleans, or a list of these; leave a parameter out instead of passing None"


class Unusable(ValueError):
    """A URL or a parameter cannot be used: why, as the rest of a sentence, without quoting it."""


def parse_url(text: object) -> tuple[str, str | None]:
    """A URL as it is sent, and the value of the ``Authorization`` header that its userinfo stands for.

    Non-ASCII characters are percent-encoded, host names are written in IDNA, the fragment is dropped.

    Raises:
        Unusable: The URL cannot be used.
    """
    if not isinstance(text, str) or not text:
        raise Unusable("must be a text that starts with http:// or https://")
    _refuse_forbidden(text)
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise Unusable("cannot be read: check the host and the port") from None
    if parts.scheme not in {"http", "https"}:
        raise Unusable("must start with http:// or https://; other schemes are not served")
    if port == 0:
        raise Unusable("has port 0, which is not a port one can connect to")
    netloc = _ascii_host(parts.hostname or "") + ("" if port is None else f":{port}")
    try:
        path, query = quote(parts.path or "/", safe=_KEPT), quote(parts.query, safe=_KEPT)
    except UnicodeEncodeError:
        raise Unusable("contains half of a surrogate pair, which is not a character") from None
    return urlunsplit((parts.scheme, netloc, path, query, "")), _basic_authorization(parts)


def with_params(url: str, params: object) -> str:
    """``url`` (as ``parse_url`` returns it) with ``params`` added behind the query that it has.

    Raises:
        Unusable: The parameters are not a mapping, or a value is none that a query can hold.
    """
    if not isinstance(params, Mapping):
        raise Unusable("must be a mapping of names to values")
    given = cast("Mapping[object, JSON]", params)
    pairs = [(_parameter(name), _parameter(item)) for name, value in given.items() for item in _items(value)]
    try:
        added = urlencode(pairs)
    except UnicodeEncodeError:
        raise Unusable("contain half of a surrogate pair, which is not a character") from None
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query="&".join(part for part in (parts.query, added) if part)))


def join_location(url: str, location: str) -> tuple[str, str | None]:
    """Where a ``Location`` header leads to, seen from ``url``; the result and the errors are those of ``parse_url``."""
    with suppress(UnicodeError):
        # http.client decodes headers as Latin-1; what servers mean by such bytes is UTF-8.
        location = location.encode("latin-1").decode()
    location = location.strip().replace(" ", "%20")
    _refuse_forbidden(location)  # before urljoin drops some of them
    try:
        target = urljoin(url, location)
    except ValueError:
        raise Unusable("cannot be read") from None
    return parse_url(target)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port: what must be the same for credentials to be sent along."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _refuse_forbidden(text: str) -> None:
    if _FORBIDDEN.search(text):
        raise Unusable("contains a space, a control character or a backslash; percent-encode it")


def _ascii_host(host: str) -> str:
    if ":" in host:
        return f"[{_ipv6(host)}]"
    try:
        name = host.encode("idna").decode()
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name):
        raise Unusable("has no host, or one that is not a host name")
    return name


def _ipv6(host: str) -> str:
    with suppress(ValueError):
        address = ipaddress.IPv6Address(host)
        if address.scope_id is None:
            return str(address)
    raise Unusable("has a host that is not an IPv6 address, or one with a zone, which URL parsers spell differently")


def _basic_authorization(parts: SplitResult) -> str | None:
    userinfo, at, _ = parts.netloc.rpartition("@")
    if not at:
        return None
    user, _, password = userinfo.partition(":")
    pair = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
    return "Basic " + base64.b64encode(pair).decode()


def _items(value: JSON) -> Sequence[JSON]:
    return cast("Sequence[JSON]", value) if isinstance(value, list | tuple) else [value]


def _parameter(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | float):
        return str(value)
    raise Unusable(_BAD_PARAMETER)
