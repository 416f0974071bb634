"""How a worker behaves: what an operator may choose, and the numbers behind it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from squidmesh.definition import DEFAULT_QUEUE
from squidmesh.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_CONCURRENCY: Final = 10
MOST_CONCURRENCY: Final = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """How a worker behaves. Durations are seconds.

    Args:
        queues: The queues it serves, and how many steps of each it runs at once.
        lease: How long it is taken to be alive after its last heartbeat.
        beat: How often it renews its lease, looks for the dead, and looks for work that nobody told it of.
        grace: How long running steps may go on when it is told to stop.
        look_ahead: How much estimated work it claims beyond what it can start at once.
        most_ahead: At most so many jobs of a queue are claimed ahead.
        longest_ahead: How long what was claimed may wait for a slot before it is given back, if others may have one.
        keep: How long it keeps a chain's next step for itself before others get their turn.
        batch_bytes: At most so much output is saved in one turn.
        memory_bytes: So much JSON text may be in hand, of contexts and of results: beyond it less is claimed.
        nap: How long it waits for more before it tells others that it sleeps.
        poll: How often it looks for work while it sleeps; None where it is told, and heartbeats are often enough.
    """

    queues: Mapping[str, int] = field(default_factory=lambda: {DEFAULT_QUEUE: DEFAULT_CONCURRENCY})
    lease: float = 30.0
    beat: float = 10.0
    grace: float = 30.0
    look_ahead: float = 0.05
    most_ahead: int = 1000
    longest_ahead: float = 0.2
    keep: float = 1.0
    batch_bytes: int = 16 * 1024 * 1024
    memory_bytes: int = 64 * 1024 * 1024
    nap: float = 0.02
    poll: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot work.

        Raises:
            ConfigurationError: With what is allowed.
        """
        if not self.queues:
            raise ConfigurationError("a worker needs at least one queue, such as queues={'default': 10}")
        for queue, count in self.queues.items():
            if not queue or type(count) is not int or not 1 <= count <= MOST_CONCURRENCY:
                raise ConfigurationError(
                    f"queue {queue!r} with concurrency {count!r}: a queue has a name, "
                    f"and a concurrency from 1 to {MOST_CONCURRENCY}"
                )
        if not 0 < self.beat < self.lease:
            raise ConfigurationError(f"heartbeat={self.beat:g} must be above 0 and below lease={self.lease:g} seconds")
        if self.grace < 0:
            raise ConfigurationError(f"grace={self.grace:g} must not be negative")
