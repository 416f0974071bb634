"""What can happen to a job that was handed out: the planner's input, as values.

The executor makes them of what user code did; the caretaker makes ``Abandoned`` of what a dead worker left behind.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from squidmesh.records import hot_record

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh.records import JSONObject

WORKER_DIED: Final = "WorkerDied"
"""The type of the error of an attempt whose worker was declared dead."""


@hot_record()
class Output:
    """A step's output as it will be read back: what is in memory equals what is stored.

    Args:
        text: The JSON text.
        value: The object decoded from that text; its keys go into the context.
    """

    text: str
    value: JSONObject

    @staticmethod
    def of(value: JSONObject) -> Output:
        """The output of a value that was encoded and decoded already, part by part."""
        return Output(json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")), value)


@hot_record()
class Completed:
    """The body returned; ``outcome`` names the transition to take."""

    output: Output | None = None
    outcome: str = "ok"


@dataclass(frozen=True, slots=True)
class Failed:
    """The body raised.

    Args:
        error: What is stored.
        retryable: Whether the step's policy may give it another attempt.
        retry_after: Seconds that replace the policy's delay.
        chance: A random number in [0, 1) for the policy's jitter.
        pause: Whether nothing that shares its meter may begin before ``retry_after``.
    """

    error: JSONObject
    retryable: bool = True
    retry_after: float | None = None
    chance: float = 0.0
    pause: bool = False


@dataclass(frozen=True, slots=True)
class Elapsed:
    """The time is over that a job without a body slept for: a wait's, a gate's, a signal's, or that of the run."""


@dataclass(frozen=True, slots=True)
class TimedOut:
    """The body did not end in time, and may still be at it; otherwise as ``Failed``."""

    error: JSONObject
    retryable: bool = True
    chance: float = 0.0


@dataclass(frozen=True, slots=True)
class Deferred:
    """The body asked to come back after ``delay`` seconds, without using an attempt.

    Args:
        delay: Seconds.
        reason: Why.
        pause: Whether nothing that shares its meter may begin before.
    """

    delay: float
    reason: str
    pause: bool = False


@dataclass(frozen=True, slots=True)
class Abandoned:
    """The worker was declared dead, or gave up on a body that outlived the grace period.

    Args:
        error: The evidence: which worker, which host, when it was last heard of.
        cut_off: The worker itself says so while it stops in good order: it does not count against the crash budget.
    """

    error: JSONObject
    cut_off: bool = False


@dataclass(frozen=True, slots=True)
class Returned:
    """Given back by its worker without having been started."""


@dataclass(frozen=True, slots=True)
class Filed:
    """Not begun, but given back by a worker that knows what it shares with others.

    Args:
        meters: Those; None if it shares nothing any more.
    """

    meters: str | None


@dataclass(frozen=True, slots=True)
class Unknown:
    """The worker that claimed it has no function for this step."""


@dataclass(frozen=True, slots=True)
class Broken:
    """What happened could not be decided or stored; the run needs a human, and the batch goes on without it."""

    error: JSONObject


Happening: TypeAlias = (
    Completed | Failed | TimedOut | Elapsed | Deferred | Abandoned | Returned | Filed | Unknown | Broken
)


@hot_record()
class Finding:
    """What happened to one job that was handed out.

    Args:
        slot: The job's slot in its run.
        worker: Who had it.
        claim: The claim number under which it was handed out: the fence.
        happening: What happened.
        started_ago: Seconds since the body started, if it did, on a monotonic clock.
        finished_ago: Seconds since it ended.
        takes: Names of the parameters that the body took, where they differ from those of the run's graph.
    """

    slot: int
    worker: UUID
    claim: int
    happening: Happening
    started_ago: float | None = None
    finished_ago: float = 0.0
    takes: tuple[str, ...] | None = None
