"""Flow control: limits and rates that steps share, across all workers, as a whole or for each value of a key.

What steps share is a *meter*. Its definition (``payments/charge:account_id``) is what code declares; its name
(``payments/charge:account_id=acct_1``) is that of one value of the key. A job of a metered step carries the names of
its meters, in three lines: the limit's, the rate's, and that of its queue's limit. How much of a limit is taken is
counted among the jobs that are claimed; what is left of a rate is a token bucket, which is a row in the database.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from squidmesh.definition import LONGEST_NAME
from squidmesh.errors import ConfigurationError
from squidmesh.retry import LONGEST_DELAY, Seconds, measured, seconds_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from squidmesh.records import JSON

LONGEST_KEY: Final = 200
"""Bytes of a key's value that are kept in a meter's name; of what is longer, a digest."""

HIGHEST: Final = 1_000_000
OF_QUEUE: Final = "@"
"""With this begins the limit of a queue, and no name that a limit can be given."""


@dataclass(frozen=True, slots=True)
class Limit:
    """At most so many of a step execute at once, across all workers.

    Args:
        most: How many.
        key: The key of the step's input for each value of which it holds; None: for the step as a whole.
        name: Steps that give the same name share the limit; by default it is the step's own.

    Example:
        >>> Limit(5, key="account_id").definition("payments/charge")
        'payments/charge:account_id'
    """

    most: int
    key: str | None = None
    name: str | None = None

    def definition(self, step: str) -> str:
        """What names the limit, of a step's own name, with its workflow's."""
        return _definition(self.name or step, self.key)

    def problems(self) -> list[str]:
        """What is wrong with it, each with its remedy."""
        return [*_whole("limit needs a number of steps", self.most), *_naming("limit", self.key, self.name)]


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many attempts at a step begin in a period, across all workers.

    It is a token bucket: tokens come back evenly, and those that are not used gather, up to ``burst``.

    Args:
        count: How many may begin in a period, on average.
        per: The period, in seconds or timedelta.
        key: The key of the step's input for each value of which it holds; None: for the step as a whole.
        name: Steps that give the same name share the rate; by default it is the step's own.
        burst: How many may begin at once after a quiet time; ``count`` by default.

    Example:
        >>> Rate(100, per=60, key="account_id", burst=10).refill
        1.6666666666666667
    """

    count: int
    per: Seconds
    key: str | None = None
    name: str | None = None
    burst: int | None = None

    @property
    def refill(self) -> float:
        """Tokens that come back in a second."""
        return self.count / seconds_of(self.per)

    @property
    def most(self) -> int:
        """The most tokens that gather."""
        return self.count if self.burst is None else self.burst

    def tokens(self, left: float | None, seconds: float | None) -> float:
        """The tokens of a bucket.

        Args:
            left: What was left of it; None if nothing was ever taken.
            seconds: How long ago that was; a clock that was set back takes nothing away.
        """
        if left is None or seconds is None:
            return float(self.most)
        return min(left + self.refill * max(seconds, 0.0), float(self.most))

    def definition(self, step: str) -> str:
        """What names the rate, of a step's own name, with its workflow's."""
        return _definition(self.name or step, self.key)

    def problems(self) -> list[str]:
        """What is wrong with it, each with its remedy."""
        found = [*_whole("rate needs a count", self.count), *_naming("rate", self.key, self.name)]
        if not 0 < measured(self.per) <= LONGEST_DELAY:
            found.append(f"rate needs per= in seconds or timedelta, above 0 and at most {LONGEST_DELAY:g} seconds")
        if self.burst is not None:
            found += _whole("rate needs a burst", self.burst)
        return found


def _definition(name: str, key: str | None) -> str:
    return name if key is None else f"{name}:{key}"


def _whole(what: str, value: object) -> list[str]:
    fits = type(value) is int and 1 <= value <= HIGHEST
    return [] if fits else [f"{what}, a whole number from 1 to {HIGHEST:,}"]


def _naming(what: str, key: object, name: object) -> list[str]:
    found: list[str] = []
    if key is not None and not (isinstance(key, str) and key.isidentifier() and len(key) <= LONGEST_NAME):
        found.append(
            f"{what} needs key= to be a key of the step's input, as text of at most {LONGEST_NAME} characters, such as "
            "key='account_id'"
        )
    if name is not None and not (
        isinstance(name, str) and name.replace("-", "_").isidentifier() and len(name) <= LONGEST_NAME
    ):
        found.append(
            f"{what} needs name= to be a name of letters, digits, _ and -, not a digit first, at most {LONGEST_NAME} "
            "characters"
        )
    return found


def meter_name(definition: str, value: JSON) -> str:
    """The name of a definition's meter for one value of its key.

    Args:
        definition: The definition; it has a key.
        value: The value. Text stands for itself, everything else for its JSON; None, or a missing key, is a value, too.
    """
    text = "" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    stored = text.encode("utf-8", "surrogatepass")
    if len(stored) > LONGEST_KEY or not text.isprintable():
        digest = hashlib.sha256(stored).hexdigest()[:32]
        text = "".join(filter(str.isprintable, stored[: LONGEST_KEY - 33].decode("utf-8", "ignore"))) + "#" + digest
    return f"{definition}={text}"


def _has_key(definition: str) -> bool:
    return not definition.startswith(OF_QUEUE) and ":" in definition


def definition_of(name: str) -> str:
    """The definition of a meter, by its name."""
    return name if name.startswith(OF_QUEUE) else name.partition("=")[0]


def meter_to_pause(meters: str) -> str:
    """Which of a job's meters is paused when a step asks for it: its rate, else its limit; empty if it has neither.

    Not that of its queue: one service that is busy is no reason for steps that call others to wait.
    """
    limit, rate, _ = meters.split("\n")
    return rate or limit


@dataclass(frozen=True, slots=True)
class Metering:
    """The meters of one step in one queue.

    Args:
        limit: The definition of its limit and the key, if it has one.
        rate: The same of its rate.
        queue: The definition of its queue's limit; empty if there is none.
    """

    limit: tuple[str, str | None] | None
    rate: tuple[str, str | None] | None
    queue: str = ""

    def meters(self, state: Mapping[str, JSON]) -> str:
        """What a job of the step carries: the names of its meters.

        Args:
            state: What its input is taken from.
        """
        return "\n".join((_named(self.limit, state), _named(self.rate, state), self.queue))


def _named(meter: tuple[str, str | None] | None, state: Mapping[str, JSON]) -> str:
    if meter is None:
        return ""
    definition, key = meter
    return definition if key is None else meter_name(definition, state.get(key))


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """A limit or a rate, or both of one name, for one value of its key if it has one.

    Args:
        name: Its name.
        held: How many steps that share it are with workers.
        waiting: How many that share it are ready and with none.
        most: How many may be at once; None if this process's code declares no limit of this name.
        tokens: How many more its rate lets begin now; None if this process's code declares no rate of this name.
        paused_until: Until when nothing that shares it begins; None if it is not paused.
    """

    name: str
    held: int
    waiting: int
    most: int | None
    tokens: float | None
    paused_until: datetime | None


@dataclass(slots=True)
class MeterTable:
    """All limits and rates that a process's code declares.

    Args:
        limits: How many may execute at once, by definition; those of queues, too.
        rates: By definition.
        queues: The definition of the limit of each queue that has one.
    """

    limits: dict[str, int] = field(default_factory=dict[str, int])
    rates: dict[str, Rate] = field(default_factory=dict[str, Rate])
    queues: dict[str, str] = field(default_factory=dict[str, str])

    @staticmethod
    def of(queue_limits: Mapping[str, int]) -> MeterTable:
        """The meters of queues.

        Raises:
            ConfigurationError: A limit is none.
        """
        for queue, most in queue_limits.items():
            if not queue.isprintable() or not queue or "=" in queue:
                raise ConfigurationError(
                    f"queue_limits={{{queue!r}: ...}}: the name of a queue that has a limit is one line without ="
                )
            if _whole("", most):
                raise ConfigurationError(
                    f"queue_limits={{{queue!r}: {most!r}}}: give how many steps of a queue may execute at once on all "
                    f"workers together, from 1 to {HIGHEST:,}"
                )
        queues = {queue: OF_QUEUE + queue for queue in queue_limits}
        return MeterTable({queues[queue]: most for queue, most in queue_limits.items()}, {}, queues)

    def __bool__(self) -> bool:
        return bool(self.limits or self.rates)

    def declare(self, step: str, limit: Limit | None, rate: Rate | None) -> None:
        """Take in what a step declares.

        Args:
            step: The step's name, with its workflow's.
            limit: Its limit, if it has one.
            rate: Its rate, if it has one.

        Raises:
            ConfigurationError: Another step has given the same name to another limit or rate.
        """
        if limit is not None and self.limits.setdefault(limit.definition(step), limit.most) != limit.most:
            other = self.limits[limit.definition(step)]
            raise ConfigurationError(
                f"step {step!r} shares the limit {limit.name!r}, which is {other}, not {limit.most}"
            )
        if rate is not None:
            known = self.rates.setdefault(rate.definition(step), rate)
            if (known.most, known.refill) != (rate.most, rate.refill):
                raise ConfigurationError(f"step {step!r} shares the rate {rate.name!r}, which is {known}, not {rate}")

    def metering(self, step: str, limit: Limit | None, rate: Rate | None, queue: str) -> Metering | None:
        """The meters of a step in a queue; None if it has none."""
        if limit is None and rate is None and queue not in self.queues:
            return None
        return Metering(
            None if limit is None else (limit.definition(step), limit.key),
            None if rate is None else (rate.definition(step), rate.key),
            self.queues.get(queue, ""),
        )

    @property
    def queue_limits(self) -> dict[str, int]:
        """How many steps of a queue may execute at once, as it was given to the mesh."""
        return {queue: self.limits[definition] for queue, definition in self.queues.items()}

    def most_of(self, name: str) -> int | None:
        """How many may hold a meter at once; None if no limit of this name is declared here."""
        return self.limits.get(definition_of(name))

    def rate_of(self, name: str) -> Rate | None:
        """The rate of a meter; None if none of this name is declared here."""
        return self.rates.get(definition_of(name))

    def may_name(self, name: str) -> bool:
        """Whether a meter that is declared here may have this name: with a value where it has a key, else without."""
        definition = definition_of(name)
        return definition in self.definitions and _has_key(definition) == (name != definition)

    @property
    def names(self) -> list[str]:
        """The names of those that have no key."""
        return sorted(definition for definition in self.definitions if not _has_key(definition))

    @property
    def shown(self) -> tuple[str, ...]:
        """All of them for people: with a placeholder where they have a key."""
        return tuple(f"{d}=VALUE" if _has_key(d) else d for d in sorted(self.definitions))

    @property
    def definitions(self) -> Iterable[str]:
        """All of them."""
        return {*self.limits, *self.rates}
