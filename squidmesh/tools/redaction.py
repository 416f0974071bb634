"""What must not be stored: recognises credentials by the names they go under and strikes them out of texts.

Errors are stored, shown and mailed around; requests are not. So everything that an error tells of a request passes
through here. Recognition is by name and errs on the side of hiding: a hidden sort key costs a moment, a shown token
costs an account. It cannot know a secret that sits in the path of a URL or under a harmless name.
"""

from __future__ import annotations

import base64
import binascii
import html
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HIDDEN = "***"

SHORTEST = 4
"""Shorter secrets are hidden where their name tells, but not looked for in other texts: they would be everywhere."""

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
# First the words that are telling anywhere in a name, then those that are so only as a word of their own.
_SECRET = re.compile(
    r"""
    token | secret | passw | passphrase | passcode | pwd | signature | credential | session | bearer | jwt | cookie
    | hmac | assertion | authori[sz]ation | authenticat | oauth | key (?![a-z])
    | (?<![a-z])
      (?: auth | authcode | code | sig | sign | pass | pin | otp | totp | mfa | sid | ticket | nonce | csrf | xsrf )
      (?![a-z])
    """,
    re.VERBOSE,
)
# Names of parameters inside a parameter's value too: ``next=https://host/?token=...`` and ``a=1;token=...``.
_NAMES = re.compile(r"(?:^|[;?&#])([^=;?&#]*)=")
_MATRIX = re.compile(r";([^=;/]*)=([^;/]*)")


def is_secret(name: str) -> bool:
    """Whether a parameter or header of this name holds a credential, as far as its name tells."""
    lowered = _CAMEL.sub("_", name).lower()
    return lowered != "idempotency-key" and _SECRET.search(lowered) is not None


def redact_url(url: str) -> str:
    """``url`` without userinfo and fragment, and with the values of secret parameters hidden.

    Example:
        >>> redact_url("https://me:pw@host/pay?page=2&api_key=k3y")
        'https://host/pay?page=2&api_key=***'
    """
    parts = urlsplit(url)
    path = _MATRIX.sub(lambda m: f";{m[1]}={HIDDEN}" if is_secret(unquote(m[1])) else m[0], parts.path)
    query = "&".join(_redact_parameter(parameter) for parameter in parts.query.split("&"))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], path, query, ""))


def _redact_parameter(parameter: str) -> str:
    name, equals, _ = parameter.partition("=")
    return f"{name}={HIDDEN}" if equals and _is_secret_parameter(parameter) else parameter


def _is_secret_parameter(parameter: str) -> bool:
    return any(is_secret(name) for name in _NAMES.findall(unquote_plus(parameter)))


@dataclass(frozen=True, slots=True)
class Secrets:
    """The credentials of a request, in every spelling in which a server may echo them; longest first."""

    spellings: tuple[str, ...] = ()

    @classmethod
    def of(cls, url: str, headers: Mapping[str, str]) -> Self:
        """The credentials in the parameters of ``url`` and in ``headers``."""
        found = {form for value in _values(url, headers) for form in _spellings(value) if len(form) >= SHORTEST}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def __or__(self, other: Secrets) -> Secrets:
        """The credentials of both."""
        return Secrets(tuple(sorted({*self.spellings, *other.spellings}, key=len, reverse=True)))

    def strike(self, text: str, *, cut: bool = False) -> str:
        """``text`` with every credential hidden.

        Args:
            text: What is to be stored.
            cut: Whether ``text`` is the beginning of something longer. Then its last characters go, as many as the
                longest credential has: what was cut may have been the rest of one.
        """
        for spelling in self.spellings:
            text = text.replace(spelling, HIDDEN)
        return text[: -len(self.spellings[0])] if cut and self.spellings else text


def _values(url: str, headers: Mapping[str, str]) -> Iterator[str]:
    parts = urlsplit(url)
    for name, value in _MATRIX.findall(parts.path):
        if is_secret(unquote(name)):
            yield value
    for parameter in parts.query.split("&"):
        if _is_secret_parameter(parameter):
            yield parameter.partition("=")[2]
    for name, value in headers.items():
        if is_secret(name):
            yield from _header_values(value)


def _header_values(value: str) -> Iterator[str]:
    """A header's value and the credentials within: ``Basic <b64>``, ``Bearer <token>``, ``a=1; b=2``."""
    scheme, _, rest = value.partition(" ")
    yield value
    yield rest
    for part in (*value.split(";"), *value.split(","), *re.split(r"[\s;,]+", rest)):
        yield part.strip()
        yield part.partition("=")[2].strip(' "')
    if scheme.lower() == "basic":
        yield from _basic_credentials(rest)


def _basic_credentials(encoded: str) -> Iterator[str]:
    try:
        pair = base64.b64decode(encoded).decode()
    except (binascii.Error, UnicodeDecodeError):
        return
    yield pair
    yield pair.partition(":")[2]


def _spellings(value: str) -> set[str]:
    plain = {value, unquote(value), unquote_plus(value)}
    spelled = set(plain)
    for text in plain:
        spelled |= {
            quote(text, safe=""),
            quote(text),
            quote_plus(text),
            html.escape(text),
            html.escape(text, quote=False),
        }
        spelled |= {json.dumps(text)[1:-1], json.dumps(text, ensure_ascii=False)[1:-1]}
    return spelled
