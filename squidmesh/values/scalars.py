"""How single values are read from JSON: one reader for each type that a contract or a step's parameter can have.

``jsonable`` writes these types; what is written there is read here. A value that already is of the type is taken as it
is, since callers in Python pass such values. No text is read as a number and no number as text, but for the types that
JSON does not have: a contract that guesses hides mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, TypeAlias, TypeVar
from uuid import UUID

from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit, noun, quote


@dataclass(frozen=True, slots=True)
class Mode:
    """How values are read.

    Args:
        lenient: What storage may have changed is accepted: an int for a float; unknown and computed fields of an
            object that another version of the code has written.
        now: The instant (aware, UTC) that ``today()`` and ``now()`` stand for; None where they stand for nothing.
    """

    lenient: bool = False
    now: datetime | None = None


STRICT: Final = Mode()
LENIENT: Final = Mode(lenient=True)

Reader: TypeAlias = Callable[[object, Mode], object]
"""Gives the Python value that a JSON value stands for, or raises Misfit."""

_T = TypeVar("_T")


def must_be(expected: str, value: object) -> Misfit:
    """The value is of another kind than expected; it is not quoted."""
    return Misfit.because(f"must be {expected}, not {noun(value)}")


def read_anything(value: object, mode: Mode) -> object:
    """Any value, as it is."""
    del mode
    return value


def read_null(value: object, mode: Mode) -> object:
    """Null only."""
    del mode
    if value is not None:
        raise must_be("null", value)
    return None


def read_bool(value: object, mode: Mode) -> object:
    """True or false only."""
    del mode
    if not isinstance(value, bool):
        raise must_be("true or false", value)
    return value


def read_text(value: object, mode: Mode) -> object:
    """Text only; a subclass such as StrEnum becomes plain text."""
    del mode
    if not isinstance(value, str):
        raise must_be("text", value)
    return value if type(value) is str else str.__str__(value)


def read_int(value: object, mode: Mode) -> object:
    """An int; never a bool, never a float."""
    del mode
    if not isinstance(value, int) or isinstance(value, bool):
        raise must_be("an int", value)
    return value if type(value) is int else int.__int__(value)


def read_float(value: object, mode: Mode) -> object:
    """A finite float; an int only from storage, where 1e16 may have become one."""
    if isinstance(value, float):
        if value - value != 0:
            raise Misfit.because(f"must be a finite float, not {quote(value)}")
        return value if type(value) is float else float.__float__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        if not mode.lenient:
            raise Misfit.because("must be a float such as 5.0, not int")
        try:
            return float(value)
        except OverflowError:
            raise Misfit.because(f"must fit a float, not {quote(value)}") from None
    raise must_be("a float", value)


def read_date(value: object, mode: Mode) -> object:
    """A date, or its ISO 8601 text; not a datetime, which is a different day elsewhere."""
    if isinstance(value, datetime):
        raise Misfit.because("must be a date, not datetime: pass its .date()")
    return _DATE(value, mode)


def read_datetime(value: object, mode: Mode) -> object:
    """An aware datetime, or its ISO 8601 text with an offset."""
    moment = _DATETIME(value, mode)
    if isinstance(moment, datetime) and moment.utcoffset() is None:
        raise Misfit.because("must have a time zone: end the text with Z or +00:00, or use datetime.now(UTC)")
    return moment


def read_timedelta(value: object, mode: Mode) -> object:
    """A duration, or its seconds."""
    del mode
    if isinstance(value, timedelta):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise must_be("a duration in seconds", value)
    try:
        return timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise Misfit.because(f"must be a duration in seconds, not {quote(value)}") from None


def read_decimal(value: object, mode: Mode) -> object:
    """A finite decimal, from text or an int; never from a float, which has already lost digits."""
    if isinstance(value, int) and not isinstance(value, bool):
        return Decimal(value)
    number = _DECIMAL(value, mode)
    if isinstance(number, Decimal) and not number.is_finite():
        raise Misfit.because(f"must be a finite decimal, not {quote(value)}")
    return number


def one_of(choices: Iterable[object]) -> Reader:
    """A reader for a fixed set of values, each known by what it is in JSON: ``Enum`` and ``Literal``.

    Raises:
        Misfit: A choice cannot be stored.
    """
    expected = "one of " + ", ".join(quote(each.value if isinstance(each, Enum) else each) for each in choices)
    by_stored = {_known_as(choice): choice for choice in reversed(list(choices))}

    def read(value: object, mode: Mode) -> object:
        del mode
        found = by_stored.get(_known_as(value), _NOTHING)
        if found is _NOTHING:
            raise Misfit.because(f"must be {expected}, not {quote(value)}")
        return found

    return read


def _parsed(kind: type[_T], parse: Callable[[str], _T], expected: str) -> Reader:
    """A reader for a type that JSON keeps as text."""

    def read(value: object, mode: Mode) -> object:
        del mode
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            raise must_be(expected, value)
        try:
            return parse(value)
        except (ValueError, InvalidOperation):
            raise Misfit.because(f"must be {expected}, not {quote(value)}") from None

    return read


def _known_as(value: object) -> tuple[str, object]:
    """What tells a stored value from all others: 1, 1.0, true and "1" are four."""
    stored: object = value if type(value) in _SCALARS else to_json(value)
    kind = type(stored)
    return kind.__name__, stored if kind in _SCALARS else json.dumps(stored, sort_keys=True)


_SCALARS: Final = frozenset({str, int, float, bool, type(None)})
_NOTHING: Final = object()

_DATE: Final = _parsed(date, date.fromisoformat, "a date such as 2025-03-31")
_DATETIME: Final = _parsed(datetime, datetime.fromisoformat, "a time stamp such as 2025-03-31T08:00:00Z")
_DECIMAL: Final = _parsed(Decimal, Decimal, "a decimal, as text or int")
read_time: Final = _parsed(time, time.fromisoformat, "a time such as 08:30")
read_uuid: Final = _parsed(UUID, UUID, "a UUID")
