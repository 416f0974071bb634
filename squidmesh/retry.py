"""How often a step is tried, and how long it waits in between.

The policy is data and the decision is arithmetic: the exception was already judged by the executor (``on`` and
``give_up_on`` name classes, which only live code has), and the random part is handed in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, TypeAlias, cast

if TYPE_CHECKING:
    from squidmesh.records import JSONObject

Seconds: TypeAlias = float | timedelta
"""A duration: seconds, or a timedelta."""

LONGEST_DELAY = 366 * 24 * 3600.0
"""Seconds. A longer wait is a mistake, and would overflow dates further on."""


def seconds_of(duration: Seconds) -> float:
    """The duration in seconds."""
    return duration.total_seconds() if isinstance(duration, timedelta) else float(duration)


def measured(value: object) -> float:
    """What an author gave as a duration, in seconds; NaN, which is within no limits, for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        return math.nan
    try:
        return seconds_of(value)
    except OverflowError:  # an int beyond every float
        return math.inf


@dataclass(frozen=True, slots=True)
class Constant:
    """The same delay before every further attempt.

    Args:
        delay: Seconds or timedelta.
    """

    delay: Seconds

    def seconds(self, attempt: int) -> float:
        """Seconds to wait after failed attempt ``attempt``."""
        del attempt
        return seconds_of(self.delay)


@dataclass(frozen=True, slots=True)
class Exponential:
    """A delay that doubles: ``min * 2 ** (n - 1)`` after failed attempt ``n``, and never more than ``max``.

    Args:
        min: Seconds or timedelta before the second attempt.
        max: The longest delay, seconds or timedelta.

    Example:
        >>> [Exponential(min=1, max=5).seconds(n) for n in (1, 2, 3, 4)]
        [1.0, 2.0, 4.0, 5.0]
    """

    min: Seconds
    max: Seconds

    def seconds(self, attempt: int) -> float:
        """Seconds to wait after failed attempt ``attempt``."""
        least, most = seconds_of(self.min), seconds_of(self.max)
        # Capped before the power overflows: 64 doublings of anything exceed every allowed maximum.
        return min(least * 2.0 ** min(attempt - 1, 64), most)


Backoff: TypeAlias = Constant | Exponential


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a step is tried.

    Args:
        max_attempts: All attempts, the first included.
        backoff: The delay between attempts; none by default.
        jitter: Up to this fraction of the delay is added at random (0.2 adds 0 to 20 %).
        on: Only these exceptions are retried; all by default.
        give_up_on: These exceptions are never retried; stronger than ``on``.

    Example:
        >>> Retry(max_attempts=5, backoff=Exponential(min=1, max=30))  # doctest: +ELLIPSIS
        Retry(max_attempts=5, ...)
    """

    max_attempts: int
    backoff: Backoff = Constant(0)
    jitter: float = 0.0
    on: tuple[type[Exception], ...] = (Exception,)
    give_up_on: tuple[type[Exception], ...] = ()

    def covers(self, error: Exception) -> bool:
        """Whether an attempt that failed with ``error`` may be tried again at all."""
        return isinstance(error, self.on) and not isinstance(error, self.give_up_on)

    def delay_after(self, attempt: int, chance: float) -> float | None:
        """Seconds before the next attempt after failed attempt ``attempt``, or None when there is none.

        Args:
            attempt: Number of the attempt that failed, from 1.
            chance: A random number in [0, 1) for the jitter.
        """
        if attempt >= self.max_attempts:
            return None
        return self.backoff.seconds(attempt) * (1.0 + self.jitter * chance)

    def problems(self) -> list[str]:
        """What is wrong with the policy, each with its remedy."""
        found = _backoff_problems(self.backoff)
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            found.append("retry needs max_attempts >= 1, an int that counts all attempts")
        if not 0 <= measured(self.jitter) <= 1:
            found.append("retry needs a jitter from 0 to 1: a fraction of the delay")
        found += [
            f"retry needs {option}= to be a tuple of exception classes, such as (TimeoutError,)"
            for option, classes in (("on", self.on), ("give_up_on", self.give_up_on))
            if not _are_exceptions(classes)
        ]
        return found

    def to_json(self) -> JSONObject:
        """The policy as stored with a definition: what a worker without the live code falls back on."""
        kind, numbers = (
            ("exponential", [seconds_of(self.backoff.min), seconds_of(self.backoff.max)])
            if isinstance(self.backoff, Exponential)
            else ("constant", [seconds_of(self.backoff.delay)])
        )
        return {"max_attempts": self.max_attempts, "backoff": [kind, *numbers], "jitter": self.jitter}

    @staticmethod
    def from_json(stored: JSONObject) -> Retry:
        """The policy that ``to_json`` stored, without the exception classes."""
        kind, *numbers = stored["backoff"]
        backoff = Exponential(*numbers) if kind == "exponential" else Constant(*numbers)
        return Retry(max_attempts=stored["max_attempts"], backoff=backoff, jitter=stored["jitter"])


def _backoff_problems(backoff: object) -> list[str]:
    longest = f"{LONGEST_DELAY:g} seconds"
    if isinstance(backoff, Exponential):
        fits = 0 < measured(backoff.min) <= measured(backoff.max) <= LONGEST_DELAY
        return [] if fits else [f"Exponential needs 0 < min <= max <= {longest}, in seconds or timedelta"]
    if isinstance(backoff, Constant):
        fits = 0 <= measured(backoff.delay) <= LONGEST_DELAY
        return [] if fits else [f"Constant needs 0 <= delay <= {longest}, in seconds or timedelta"]
    return ["retry needs a backoff that is a Constant or an Exponential, such as Constant(5)"]


def _are_exceptions(classes: object) -> bool:
    given = cast("tuple[object, ...]", classes)
    return isinstance(classes, tuple) and all(isinstance(c, type) and issubclass(c, Exception) for c in given)


NEVER = Retry(max_attempts=1)
"""The policy of a step that declares none."""
