"""HTTP answers as values: headers without case, and a body that is JSON, text or bytes.

Nothing here reads from a connection. ``body`` gives only what the database can store; what it cannot (binary data, NUL,
halves of surrogate pairs, NaN) is an error or the replacement character, never a surprise at the end of the step.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from json import loads
from typing import TYPE_CHECKING

from squidmesh.tools.http_request import ADAPTER
from squidmesh.tools.redaction import is_secret, redact_url
from squidmesh.tools.tool import ErrorKind, ToolError
from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squidmesh.records import JSON, JSONObject

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
# Codecs that Python has but no server means; some of them take quadratic time.
_UNFIT = frozenset({"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape", "utf-7"})


class Headers(Mapping[str, str]):
    """Headers by name, in any case. Several of one name are joined by ``", "``, as the standard has it.

    Args:
        pairs: Names and values in the order in which they came.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in pairs:
            before = self._values.get(name.lower())
            clean = _UNSTORABLE.sub("\ufffd", value)
            self._values[name.lower()] = clean if before is None else f"{before}, {clean}"

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Headers({self.to_json()!r})"

    def to_json(self) -> JSONObject:
        """The headers by lower-case name, those that hold credentials (``Set-Cookie``...) left out."""
        return {name: value for name, value in self._values.items() if not is_secret(name)}


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a request.

    Args:
        status: Its status, below 400: others are errors.
        headers: Its headers.
        content: Its body as it came.
        method: The method of the request that it answers; after a redirect not always the one asked for.
        url: The URL of that request, without userinfo and fragment.
    """

    status: int
    headers: Headers = field(repr=False)
    content: bytes = field(repr=False)
    method: str
    url: str = field(repr=False)

    def __str__(self) -> str:
        return f"{self.status} from {self.method} {redact_url(self.url)}, {len(self.content)} bytes"

    @property
    def body(self) -> JSON:
        """The body as a value that can be stored: parsed if its type says JSON, else text; None if there is none.

        Raises:
            ToolError: Of kind ``invalid_response``: JSON was promised but not sent, or the body is binary data; then
                use ``content``.
        """
        if not self.content:
            return None
        if self._says_json and not self._is_compressed:
            return self.json()
        if not self.is_text:
            raise self._unusable("the body is binary or compressed; use content")
        return self.text

    @property
    def text(self) -> str:
        """The body as text, decoded as its content type says, else as UTF-8.

        What cannot be decoded or stored becomes U+FFFD.
        """
        return _UNSTORABLE.sub("\ufffd", self.content.decode(self._charset, errors="replace"))

    def json(self) -> JSON:
        """The body parsed as JSON, whatever the content type says.

        Raises:
            ToolError: Of kind ``invalid_response``: it is not JSON, or holds what the database cannot store.
        """
        try:
            # Without a charset, loads finds out which UTF it is.
            return to_json(loads(self.content.decode(self._charset) if self._names_charset else self.content))
        except Misfit as misfit:
            where = ", ".join(path for path, _ in misfit.rooted("body"))
            raise self._unusable(f"the body is JSON that cannot be stored (see {where}); use text or content") from None
        except (ValueError, RecursionError):
            raise self._unusable("the body is not JSON; use text or content") from None

    @property
    def is_text(self) -> bool:
        """Whether the body is text, by its content type or because it decodes."""
        if self._is_compressed:
            return False
        if self._type.get_content_maintype() == "text":
            return True
        try:
            return "\0" not in self.content.decode(self._charset)
        except ValueError:
            return False

    @property
    def _type(self) -> Message:
        parsed = Message()
        parsed["content-type"] = self.headers.get("content-type", "application/octet-stream")
        return parsed

    @property
    def _names_charset(self) -> bool:
        return self._type.get_content_charset() is not None

    @property
    def _charset(self) -> str:
        try:
            named = codecs.lookup(self._type.get_content_charset("utf-8")).name
            # Python calls zlib and the like codecs too; this is its own check whether one makes text of bytes.
            b"any bytes".decode(named, errors="replace")
        except (LookupError, ValueError):
            return "utf-8-sig"
        return "utf-8-sig" if named == "utf-8" or named in _UNFIT else named

    @property
    def _says_json(self) -> bool:
        subtype = self._type.get_content_subtype()
        return subtype == "json" or subtype.endswith("+json")

    @property
    def _is_compressed(self) -> bool:
        return self.headers.get("content-encoding", "identity").strip().lower() not in {"", "identity"}

    def _unusable(self, problem: str) -> ToolError:
        shown = redact_url(self.url)
        return ToolError(
            f"{self.method} {shown} answered {self.status}, but {problem}",
            adapter=ADAPTER,
            kind=ErrorKind.INVALID_RESPONSE,
            details={"method": self.method, "url": shown, "status": self.status},
        )
