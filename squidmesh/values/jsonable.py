"""Which Python values can be stored as JSON, and as what.

Payloads and outputs both go through ``to_json``: one rule, so that whatever a contract accepts can be stored. It knows
nothing of text, sizes or Postgres: that is ``squidmesh.store.codec``.

======================================  =============================================
str, int, float, bool, None             themselves
dict and other mappings, dataclasses    an object; its keys must be text
list, tuple                             a list
set, frozenset                          a list, in an order that does not change
Enum                                    its value
date, time, aware datetime              ISO 8601 text, with the offset it had
timedelta                               seconds
Decimal, UUID                           text
======================================  =============================================
"""

from __future__ import annotations

import dataclasses
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NoReturn
from uuid import UUID

from squidmesh.values.misfit import Misfit, Problem, convert_list, convert_object, member, noun, quote

if TYPE_CHECKING:
    from squidmesh.records import JSON

DEEPEST: Final = 100
"""How many lists and objects may be inside each other."""

MOST_DIGITS: Final = 4_000
"""Digits of the longest integer: Python itself refuses to read more than 4,300."""

_INT_LIMIT: Final = 10**MOST_DIGITS


def to_json(value: object) -> JSON:
    """The value as new JSON values, by the table above.

    Raises:
        Misfit: Something in it cannot be stored.
    """
    return _dump(value, 0)


def key_text(key: object) -> str:
    """A key as plain text; raises Misfit for one that no stored object can have."""
    if not isinstance(key, str):
        raise Misfit.because(f"keys must be text, not {noun(key)} ({quote(key)})")
    try:
        return _text(key)
    except Misfit as misfit:
        raise Misfit.because(f"the key {quote(key)} {misfit.problems[0].text}") from None


def _dump(value: object, depth: int) -> JSON:
    kind = type(value)
    leaf = _LEAVES.get(kind)
    if leaf is not None:
        return leaf(value)
    branch = _BRANCHES.get(kind)
    if branch is not None:
        return branch(value, _deeper(depth))
    return _dump_of_kind(value, depth)


def _dump_of_kind(value: object, depth: int) -> JSON:
    """Write a subclass, or a value of another kind."""
    if _is_mere_dataclass(type(value)):  # type: ignore[arg-type]  # mypy finds no hash in a class
        return _dataclass(value, _deeper(depth))
    for kind, leaf in _LEAVES.items():
        if isinstance(value, kind):
            return leaf(value)
    if isinstance(value, Enum):
        return _dump(value.value, depth)
    for kind, branch in _BRANCHES.items():
        if isinstance(value, kind):
            return branch(value, _deeper(depth))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, _deeper(depth))
    return _refuse(value)


@lru_cache(maxsize=1024)
def _is_mere_dataclass(kind: type[Any]) -> bool:
    """Whether it is a dataclass and nothing else that there is a rule for; payloads mostly are."""
    return dataclasses.is_dataclass(kind) and not issubclass(kind, (*_LEAVES, *_BRANCHES, Enum))


def _deeper(depth: int) -> int:
    if depth >= DEEPEST:
        raise Misfit.because(f"nested deeper than {DEEPEST} levels, or contains itself: flatten it")
    return depth + 1


def _list(value: Iterable[object], depth: int) -> list[JSON]:
    return convert_list(value, _dump, depth)


def _set(value: Iterable[object], depth: int) -> list[JSON]:
    try:
        items = [_dump(item, depth) for item in value]
    except Misfit as misfit:
        raise Misfit(misfit.under("[*]")) from None
    try:
        return sorted(items)
    except TypeError:  # of several kinds: any order will do that is the same in every process
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))


def _object(value: Mapping[object, object], depth: int) -> dict[str, JSON]:
    return convert_object(value, key_text, _dump, depth)


def _dataclass(value: Any, depth: int) -> dict[str, JSON]:
    names = [field.name for field in dataclasses.fields(value)]
    unset = [name for name in names if not hasattr(value, name)]
    if unset:
        raise Misfit(Problem(member(name), "has no value: set it in __post_init__") for name in unset)
    return _object({name: getattr(value, name) for name in names}, depth)


def _itself(value: JSON) -> JSON:
    return value


def _text(value: str) -> str:
    if "\x00" in value:
        raise Misfit.because("contains a NUL character, which Postgres cannot store: remove it")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            remedy = "decode its source with errors='replace'"
            raise Misfit.because(f"contains half a surrogate pair, which is not text: {remedy}") from None
    return value if type(value) is str else str.__str__(value)


def _int(value: int) -> int:
    if not -_INT_LIMIT < value < _INT_LIMIT:
        raise Misfit.because(f"an integer of more than {MOST_DIGITS:,} digits: store it as text")
    return value if type(value) is int else int.__int__(value)


def _float(value: float) -> float:
    if value - value != 0:
        raise Misfit.because(f"{quote(value)} is no JSON number: use None or text")
    return value if type(value) is float else float.__float__(value)


def _iso(value: date) -> str:
    return value.isoformat()


def _time_iso(value: time) -> str:
    if value.tzinfo is not None and value.utcoffset() is None:
        raise Misfit.because("a time in a zone whose offset depends on the day: store a datetime")
    return value.isoformat()


def _aware_iso(value: datetime) -> str:
    if value.utcoffset() is None:
        raise Misfit.because("a datetime without a time zone: make it aware, e.g. datetime.now(UTC)")
    return value.isoformat()


def _seconds(value: timedelta) -> int | float:
    if not value.microseconds:
        return value.days * 86_400 + value.seconds
    seconds = value.total_seconds()
    try:
        exact = timedelta(seconds=seconds) == value
    except OverflowError:
        exact = False
    if not exact:
        raise Misfit.because("too long to keep its microseconds as a number of seconds: round it")
    return seconds


def _decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Misfit.because(f"{quote(value)} is not a number: use None")
    return str(value)


def _bytes(value: object) -> NoReturn:
    del value
    raise Misfit.because("JSON has no bytes: store base64.b64encode(...).decode()")


def _refuse(value: object) -> NoReturn:
    if inspect.isawaitable(value):
        raise Misfit.because(f"a {type(value).__name__} that nobody awaited: write 'await' before the call")
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    raise Misfit.because(f"of type {kind}, which cannot be stored: make it text, a number, a list or a dict")


# Both tables in the order in which the kind of a subclass is looked for: a datetime is also a date.
_LEAVES: Final[dict[type, Callable[[Any], JSON]]] = {
    type(None): _itself,
    bool: _itself,
    str: _text,
    int: _int,
    float: _float,
    datetime: _aware_iso,
    date: _iso,
    time: _time_iso,
    timedelta: _seconds,
    Decimal: _decimal,
    UUID: str,
    bytes: _bytes,
    bytearray: _bytes,
    memoryview: _bytes,
}

_BRANCHES: Final[dict[type, Callable[[Any, int], JSON]]] = {
    dict: _object,
    list: _list,
    tuple: _list,
    set: _set,
    frozenset: _set,
    Mapping: _object,
}
