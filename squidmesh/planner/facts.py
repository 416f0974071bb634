"""What a decision may need beside the run and its jobs, and how it asks for it.

The planner reads nothing. Where a decision turns out to need more than it was given, it says so (``NeedsMore``); the
caller reads that under the run's lock and decides again. On the path of an ordinary step nothing more is ever needed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.records import JSON


class KeptSignal(NamedTuple):
    """A signal that came before anything waited for it."""

    name: str
    key: str
    payload: JSON


class Completion(NamedTuple):
    """A visit that completed: its place in the history, its step, its number."""

    seq: int
    step: str
    visit: int


@dataclass(slots=True)
class Facts:
    """What was read so far beside the run and its jobs.

    Args:
        jobs: Whether all jobs of the run were read.
        signals: The kept signals, in the order in which they came; None if they were not read.
        completions: The newest completion below a place in the history that can be undone, by that place; None as the
            value where there is none.
        values: What the context has under a key, by that key; None as the value where it has nothing.
        now: The database's time when the values were read.
    """

    jobs: bool = False
    signals: tuple[KeptSignal, ...] | None = None
    completions: dict[int, Completion | None] = field(default_factory=dict[int, "Completion | None"])
    values: dict[str, JSON] = field(default_factory=dict[str, "JSON"])
    now: datetime | None = None


NO_FACTS: Final = Facts()
"""Nothing was read: what nearly every decision of a worker is made with. Who reads more, begins facts of its own."""


class NeedsMore(Exception):
    """The decision needs what was not given. One of the arguments says what.

    Args:
        jobs: All jobs of the run.
        signals: Its kept signals.
        below: The newest completion below this place in its history that can be undone.
        key: The value of this key of its context, and what time it is.
    """

    def __init__(
        self, *, jobs: bool = False, signals: bool = False, below: int | None = None, key: str | None = None
    ) -> None:
        super().__init__("more must be read before this can be decided")
        self.jobs = jobs
        self.signals = signals
        self.below = below
        self.key = key
