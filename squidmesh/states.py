"""THE state machine: every status there is, and every legal move, as tables.

A *move* is a change of status (a *transition* is an edge of a workflow's graph, a different thing). The planner is the
only code that moves anything, and it looks every move up here; ``docs/state-machine.md`` prints these tables and a test
compares them.

``pending``, ``running`` and ``retrying`` are told from the jobs as well: a claim writes the job, not the run, so a run
stored as pending or retrying of which a job is claimed *is* running (``shown_status``).
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Mapping


class RunStatus(StrEnum):
    """Where a run stands."""

    PENDING = "pending"
    """Started; no step has been handed out yet."""
    RUNNING = "running"
    """A step is ready, executing, or waiting for time."""
    RETRYING = "retrying"
    """Nothing else is live than failed steps that wait for their next attempt."""
    PAUSED = "paused"
    """Nothing else is live than what waits for a human."""
    FAILING = "failing"
    """A step failed for good; siblings that still execute are waited for."""
    CANCELLING = "cancelling"
    """Cancelled; steps that still execute are waited for."""
    COMPENSATING = "compensating"
    """Failed or cancelled; what its steps did is being undone, the newest first."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether nothing will ever happen to the run by itself again."""
        return self in _TERMINAL

    @property
    def ending(self) -> bool:
        """Whether no further step of the run begins: it waits for what executes, or undoes what was done."""
        return self in _ENDING


_TERMINAL: Final = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
_ENDING: Final = (RunStatus.FAILING, RunStatus.CANCELLING, RunStatus.COMPENSATING)

RUN_MOVES: Final[Mapping[RunStatus, frozenset[RunStatus]]] = MappingProxyType(
    {
        RunStatus.PENDING: frozenset({RunStatus.RUNNING, RunStatus.PAUSED, RunStatus.FAILED, RunStatus.CANCELLED}),
        RunStatus.RUNNING: frozenset(
            {
                RunStatus.RETRYING,
                RunStatus.PAUSED,
                RunStatus.FAILING,
                RunStatus.CANCELLING,
                RunStatus.COMPENSATING,
                RunStatus.COMPLETED,
                RunStatus.FAILED,
                RunStatus.CANCELLED,
            }
        ),
        RunStatus.RETRYING: frozenset(
            {RunStatus.RUNNING, RunStatus.COMPENSATING, RunStatus.FAILED, RunStatus.CANCELLED}
        ),
        RunStatus.PAUSED: frozenset(
            {
                RunStatus.RUNNING,
                RunStatus.RETRYING,
                RunStatus.COMPENSATING,
                RunStatus.COMPLETED,
                RunStatus.FAILED,
                RunStatus.CANCELLED,
            }
        ),
        RunStatus.FAILING: frozenset({RunStatus.COMPENSATING, RunStatus.FAILED}),
        RunStatus.CANCELLING: frozenset({RunStatus.COMPENSATING, RunStatus.CANCELLED}),
        RunStatus.COMPENSATING: frozenset({RunStatus.FAILED, RunStatus.CANCELLED}),
        RunStatus.COMPLETED: frozenset(),
        # A failed run goes on when somebody asks for it (retry_run), and never by itself.
        RunStatus.FAILED: frozenset({RunStatus.RUNNING, RunStatus.RETRYING, RunStatus.PAUSED, RunStatus.COMPLETED}),
        RunStatus.CANCELLED: frozenset(),
    }
)


class JobState(StrEnum):
    """Where a live step stands."""

    READY = "ready"
    """Any worker that serves its queue may claim it."""
    SLEEPING = "sleeping"
    """Becomes ready at its ``run_at``."""
    CLAIMED = "claimed"
    """A worker has it; only that worker, under that claim number, may say how it ended."""
    PARKED = "parked"
    """Waits for somebody; its ``reason`` says for whom."""


JOB_MOVES: Final[Mapping[JobState, frozenset[JobState]]] = MappingProxyType(
    {
        # A step's successor takes over its row. So a gate that was decided on, or a signal that came, leads on from
        # wherever its job was: parked, asleep until its time-out, or ready because that is over.
        JobState.READY: frozenset({JobState.CLAIMED, JobState.SLEEPING, JobState.PARKED}),
        JobState.SLEEPING: frozenset({JobState.READY, JobState.PARKED}),
        # A chain keeps its row: claimed -> claimed is the successor, kept by the worker under a new claim number.
        JobState.CLAIMED: frozenset({JobState.READY, JobState.SLEEPING, JobState.PARKED, JobState.CLAIMED}),
        JobState.PARKED: frozenset({JobState.READY, JobState.SLEEPING, JobState.CLAIMED}),
    }
)
"""Beside these a job may always leave: its step ended, or its run was cancelled or failed."""


class ParkedReason(StrEnum):
    """For what a parked job waits."""

    UNKNOWN_STEP = "unknown_step"
    """For a worker whose code has a function for this step."""
    QUARANTINED = "quarantined"
    """For a human: its worker died with it again and again, or its outcome could not be decided or stored."""
    INTERRUPTED = "interrupted"
    """For a human: an irreversible step was cut off in the middle, and only a human can know what it did."""
    PAUSE = "pause"
    """For a human, who unblocks the run."""
    APPROVAL = "approval"
    """For humans, who approve or reject."""
    SIGNAL = "signal"
    """For a signal from outside."""

    @property
    def needs_human(self) -> bool:
        """Whether it waits for a person's decision."""
        return self not in (ParkedReason.UNKNOWN_STEP, ParkedReason.SIGNAL)

    @property
    def is_trouble(self) -> bool:
        """Whether it waits because something went wrong, not because the workflow says so."""
        return self in (ParkedReason.QUARANTINED, ParkedReason.INTERRUPTED)


class AttemptStatus(StrEnum):
    """How one attempt at a step ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"
    """Its worker died with it; does not count as one of the step's attempts."""
    CANCELLED = "cancelled"
    """Taken away because the run failed or was cancelled."""


class StepStatus(StrEnum):
    """Where a declared step of a run stands, derived from its latest attempt and its job."""

    WAITING = "waiting"
    """Not reached, or not reached again."""
    READY = "ready"
    SLEEPING = "sleeping"
    RUNNING = "running"
    RETRYING = "retrying"
    """Failed; its next attempt is waiting."""
    PARKED = "parked"
    COMPLETED = "completed"
    FAILED = "failed"
    ABANDONED = "abandoned"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"
    """A join one of whose dependencies did not end well."""
    COMPENSATING = "compensating"
    """Completed, and what it did is being undone."""
    COMPENSATED = "compensated"
    """Completed, and what it did was undone."""
    NOT_COMPENSATED = "not_compensated"
    """Completed, and what it did could not be undone."""


_Status = TypeVar("_Status", RunStatus, JobState)


def may_move(table: Mapping[_Status, frozenset[_Status]], old: _Status, new: _Status) -> bool:
    """Whether ``old`` may become ``new``; staying is no move and always allowed."""
    return old == new or new in table[old]


def shown_status(stored: RunStatus, *, claimed: bool) -> RunStatus:
    """What a run's status is, given the stored one and whether one of its jobs is claimed."""
    if claimed and stored in (RunStatus.PENDING, RunStatus.RETRYING):
        return RunStatus.RUNNING
    return stored
