"""JSON in and out, such that *memory equals storage*: ``Encoded.value`` is what reading the row back will give.

Postgres keeps ``jsonb``, which is not the text that was sent. It would give back some values differently from what a
run had in memory, so that a run went on differently after a crash; here is how each difference is removed:

- ``1e+16`` comes back as the integer 10000000000000000, since jsonb keeps numbers in decimal: it is sent written out,
  as ``10000000000000000.0``, which stays a float. (Small numbers such as ``1e-07`` come back as they were.)
- ``-0.0`` comes back as ``0.0``: sent as such.
- Objects come back with their keys ordered by length, then bytes: the value in memory has that order too, so that
  ``json.dumps(state)`` or a loop over a dict does the same before and after a crash.
- NUL characters and halves of surrogate pairs cannot be stored at all: refused, as is whatever ``jsonable`` refuses.

Ordinary values take the fast path: the C encoder, then the C decoder, then a proof that nothing was lost. The
encoder silently makes text of keys that are int, float, bool or None, and lists of tuples; but then what was decoded
is not equal to the value (``{"1": 2} != {1: 2}``), which the comparison finds, in C as well. Whatever fails the proof
is walked in Python by ``to_json``, which decides alone, and knows the path of what is wrong.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from squidmesh.values.jsonable import DEEPEST, MOST_DIGITS, to_json
from squidmesh.values.misfit import Misfit

if TYPE_CHECKING:
    from squidmesh.records import JSON, JSONObject

DEFAULT_LIMIT: Final = 1024 * 1024
"""Bytes that one payload or output may have as JSON text."""


class Unencodable(ValueError):
    """A value cannot be stored. Callers raise what *their* caller understands, e.g. ``InvalidOutput``.

    Args:
        path: Where it is: ``result.items[3].when``.
        problem: What is wrong with it, and what to do.
    """

    def __init__(self, path: str, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"{path}: {problem}")


class Encoded(NamedTuple):
    """A value ready to be stored.

    Attributes:
        text: Its JSON text, for jsonb.
        size: Bytes of that text in UTF-8.
        value: What reading it back will give; shares nothing with the value that was encoded.
    """

    text: str
    size: int
    value: JSON


def encode(value: object, *, what: str, limit: int = DEFAULT_LIMIT) -> Encoded:
    """Encode any value that ``jsonable`` describes.

    Args:
        value: The value.
        what: What it is, as the first word of paths in messages: ``result``, ``payload``.
        limit: Bytes that its text may have.

    Raises:
        Unencodable: It cannot be stored, or is too large.
    """
    return _encode_fast(value, what, limit) or _encode_walked(value, what, limit)


def decode(text: str) -> JSON:
    """The value of a JSON text that came out of Postgres."""
    return _scan(text)[0]


def _encode_fast(value: object, what: str, limit: int) -> Encoded | None:
    """Encode what provably needs no walk; None when there is a doubt."""
    try:
        text = _as_jsonb_keeps_it(_encode(value))
        size = len(text) if text.isascii() else len(text.encode())
        _check_size(size, what, limit)
        if r"\u0000" in text or _may_have_long_integer(text):
            return None
        decoded = _scan_ordered(text)[0]
        if _is_deep(text, decoded) or decoded != value:
            return None
    except Unencodable:
        raise
    except (TypeError, ValueError, RecursionError):  # of no JSON type; NaN, surrogates, cycles; too deep
        return None
    return Encoded(text, size, decoded)


def _encode_walked(value: object, what: str, limit: int) -> Encoded:
    try:
        plain = to_json(value)
    except Misfit as misfit:
        path, problem = misfit.rooted(what)[0]
        raise Unencodable(path, problem) from None
    try:
        text = _as_jsonb_keeps_it(_encode(plain))
        decoded = _scan_ordered(text)[0]
    except ValueError as error:  # the host has lowered Python's own limit of digits
        raise Unencodable(what, f"cannot be written as JSON: {error}") from error
    size = len(text.encode())
    _check_size(size, what, limit)
    return Encoded(text, size, decoded)


def _check_size(size: int, what: str, limit: int) -> None:
    if size > limit:
        remedy = "keep large data elsewhere and store where it is"
        raise Unencodable(what, f"{size:,} bytes as JSON, and the limit is {limit:,}: {remedy}")


def _as_jsonb_keeps_it(text: str) -> str:
    """The text with large floats written out and without negative zero. Text in strings is left alone."""
    if "e+" in text or "-0.0" in text:
        return _STRING_OR_NUMBER.sub(_number_as_kept, text)
    return text


def _number_as_kept(match: re.Match[str]) -> str:
    found = match.group()
    if found[0] == '"':
        return found
    if found == "-0.0":
        return "0.0"
    return f"{Decimal(found):f}.0"  # repr writes "e+" from 1e+16 on, where 17 digits leave no fraction


def _may_have_long_integer(text: str) -> bool:
    """Whether there may be more than 4,000 digits in a row: such a row covers 40 of the looked-at characters."""
    if len(text) <= MOST_DIGITS:
        return False
    return _MANY_DIGITS.search(text[:: MOST_DIGITS // 40]) is not None


def _is_deep(text: str, decoded: JSON) -> bool:
    """Whether lists and objects are nested deeper than is allowed; looks level by level only if they may be."""
    if text.count("[") + text.count("{") <= DEEPEST:
        return False
    level = [decoded]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _inside(outer)]
        if not level:
            return False
    return True


def _inside(value: JSON) -> list[JSON]:
    items = cast("JSONObject", value).values() if isinstance(value, dict) else value
    return [item for item in items if isinstance(item, (dict, list))]


def _ordered(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    """An object with its keys in the order of jsonb: by length in bytes, then by bytes."""
    if len(pairs) > 1:
        pairs.sort(key=_key_order)
    return dict(pairs)


def _key_order(pair: tuple[str, JSON]) -> tuple[int, str]:
    key = pair[0]
    return (len(key) if key.isascii() else len(key.encode()), key)  # UTF-8 sorts as its characters do


_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
_scan: Final = json.JSONDecoder().raw_decode
_scan_ordered: Final = json.JSONDecoder(object_pairs_hook=_ordered).raw_decode
"""``decode`` without its two looks for white space, which neither jsonb nor the encoder puts around a value."""

_STRING_OR_NUMBER: Final = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"|-0\.0(?![0-9])|-?[0-9.]+e\+[0-9]+')
_MANY_DIGITS: Final = re.compile("[0-9]{40}")
