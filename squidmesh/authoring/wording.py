"""Names in messages to authors: a few of many, and what somebody may have meant."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

_MOST_LISTED: Final = 5

_MOST_SUGGESTIONS: Final = 10
"""To find close names among thousands takes milliseconds: the first few are help enough."""


def listed(names: Iterable[str]) -> str:
    """Names for a message: all of a few, the first of many."""
    known = list(names)
    shown = ", ".join(repr(name) for name in known[:_MOST_LISTED])
    return shown if len(known) <= _MOST_LISTED else f"{shown} and {len(known) - _MOST_LISTED} more"


def subject(steps: Iterable[str]) -> str:
    """Steps, as a message about them begins."""
    known = list(steps)
    return f"step{'s' * (len(known) != 1)} {listed(known)}"


class Known:
    """Names that exist, and what somebody may have meant who wrote another one."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)
        self._left = _MOST_SUGGESTIONS

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __str__(self) -> str:
        return listed(self._names)

    def suggestion(self, name: str) -> str:
        """A question for the end of a message, or nothing."""
        self._left -= 1
        close = get_close_matches(name, self._names, n=1) if self._left >= 0 else []
        return f"; did you mean {close[0]!r}?" if close else ""
