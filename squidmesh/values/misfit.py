"""How a value that does not fit is reported: every problem in it, each with its path, and little of the value itself.

Payloads hold secrets, and messages end up in logs: no message quotes more than 80 characters of a value.
Nothing here knows what fits: that is ``coercion`` (types) and ``jsonable`` (JSON).
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Final, NamedTuple, TypeVar

_MOST_PROBLEMS: Final = 50  # of one value: whoever has 50 to mend knows enough
_LONGEST_PATH: Final = 200
_LONGEST_QUOTE: Final = 80

_How = TypeVar("_How")
_T = TypeVar("_T")


class Problem(NamedTuple):
    """What is wrong with one value: its path from the value that was looked at, and what to do about it."""

    path: str
    text: str


class Misfit(ValueError):
    """A value does not fit: every problem found in it. Internal; callers raise what *their* caller understands."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        super().__init__()
        self.problems = list(problems)

    def __str__(self) -> str:
        return "; ".join(f"{path}: {text}" if path else text for path, text in self.problems)

    @classmethod
    def because(cls, text: str) -> Misfit:
        """The value itself is wrong, not a part of it."""
        return cls([Problem("", text)])

    def under(self, fragment: str) -> list[Problem]:
        """The problems as seen from the list or object that holds the value at ``fragment``."""
        return [Problem(fragment + path, text) for path, text in self.problems]

    def rooted(self, root: str) -> list[Problem]:
        """The problems with paths for people, which start at ``root`` (may be empty)."""
        return [Problem(_readable(root + path), text) for path, text in self.problems]


def member(key: str) -> str:
    """The fragment of a path that leads to the value under ``key``."""
    return f".{key}" if key.isidentifier() and len(key) <= _LONGEST_QUOTE else f"[{quote(key)}]"


def quote(value: object) -> str:
    """A value for a message: at most 80 characters of it, whatever it is."""
    try:
        text = _BRIEF.repr(value)
    except Exception:  # noqa: BLE001 - a message about a bad value must not fail on its bad __repr__
        text = f"<{type(value).__name__}>"
    return shortened(text, _LONGEST_QUOTE)


def label(key: object) -> str:
    """A key for a message: as it is if that can be printed, else quoted."""
    return key if isinstance(key, str) and key.isprintable() and len(key) <= _LONGEST_QUOTE else quote(key)


def noun(value: object) -> str:
    """What kind of JSON value this is, for a message; for anything else its type."""
    if isinstance(value, Enum):
        return type(value).__name__
    return next((word for kind, word in _NOUNS if isinstance(value, kind)), type(value).__name__)


def shortened(text: str, most: int) -> str:
    """The text, or its beginning and three dots."""
    return text if len(text) <= most else text[: most - 3] + "..."


def convert_list(items: Iterable[object], convert: Callable[[object, _How], _T], how: _How) -> list[_T]:
    """Each item converted; raises Misfit with the problems of all items."""
    converted: list[_T] = []
    problems: list[Problem] = []
    for index, item in enumerate(items):
        try:
            converted.append(convert(item, how))
        except Misfit as misfit:
            problems += misfit.under(f"[{index}]")
            if len(problems) >= _MOST_PROBLEMS:
                break
    if problems:
        raise Misfit(problems)
    return converted


def convert_object(
    given: Mapping[object, object], name: Callable[[object], str], convert: Callable[[object, _How], _T], how: _How
) -> dict[str, _T]:
    """Each value converted, under what ``name`` makes of its key; raises Misfit with the problems of all of them."""
    converted: dict[str, _T] = {}
    problems: list[Problem] = []
    for key, value in given.items():
        fragment = ""
        try:
            text = name(key)
            fragment = member(text)
            converted[text] = convert(value, how)
        except Misfit as misfit:
            problems += misfit.under(fragment)
            if len(problems) >= _MOST_PROBLEMS:
                break
    if problems:
        raise Misfit(problems)
    return converted


def _readable(path: str) -> str:
    """A path without its leading dot, and without the middle of a very long one."""
    path = path.removeprefix(".")
    half = _LONGEST_PATH // 2
    return path if len(path) <= _LONGEST_PATH else f"{path[:half]}...{path[-half:]}"


_BRIEF: Final = reprlib.Repr()
_BRIEF.maxstring = _BRIEF.maxother = _LONGEST_QUOTE
_BRIEF.maxlong = 40

_NOUNS: Final[tuple[tuple[type, str], ...]] = (
    (type(None), "null"),
    (bool, "bool"),
    (str, "text"),
    (int, "int"),
    (float, "float"),
    (list, "a list"),
    (tuple, "a list"),
    (Mapping, "an object"),
)
