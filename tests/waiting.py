"""Waiting for something that another thread, process or session does: a condition and a deadline, never a fixed sleep."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

TIMEOUT: Final = 20.0
"""Seconds; far more than anything takes, so that a busy machine is no failure."""

_LOOK_AGAIN: Final = 0.002


def until(condition: Callable[[], T], timeout: float = TIMEOUT, what: str = "") -> T:
    """Call ``condition`` until what it returns is true, and return that.

    Args:
        condition: Cheap, and free of side effects.
        timeout: Seconds until the test fails.
        what: What is waited for, for the message; None: the condition's name.
    """
    deadline = time.monotonic() + timeout
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout:g} s in vain: {what or condition!r}")
        time.sleep(_LOOK_AGAIN)
    return found
