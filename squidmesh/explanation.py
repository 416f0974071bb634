"""Why a run is where it is, as values: the answer of ``explain_run``.

Beside ``records``: those say what is stored, these what it means. Details and evidence are JSON, so that an answer can
be logged, or given to a browser, as it is; instants in them are ISO 8601 texts in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from squidmesh.records import JSON

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from squidmesh.records import JSONObject
    from squidmesh.states import RunStatus


class Reason(StrEnum):
    """Why a run is where it is.

    Their order is their precedence, where several hold at once: what needs a person, what nothing will move by itself,
    trouble, what a run that is ending waits for, what moves by itself, and last how a run has ended.
    """

    # -- a person is needed ------------------------------------------------------------------------------------------
    INCONSISTENT = "inconsistent"
    """Its rows contradict each other: somebody changed them by hand."""
    INTERRUPTED = "interrupted"
    """An irreversible step was cut off in the middle, and only a person can know what it did."""
    QUARANTINED = "quarantined"
    """A worker died with the step again and again, or what happened to it could not be decided or stored."""
    NOT_COMPENSATED = "not_compensated"
    """The run has ended, and something that it did was to be undone and could not be."""
    PAUSED_FOR_APPROVAL = "paused_for_approval"
    """An approval step waits for people to approve or reject."""
    PAUSED_FOR_MANUAL_ACTION = "paused_for_manual_action"
    """A pause step waits for a person who unblocks the run."""

    # -- nothing will move it by itself ------------------------------------------------------------------------------
    NO_WORKER_FOR_QUEUE = "no_worker_for_queue"
    """No live worker serves the queue that the step is filed under."""
    NO_WORKER_KNOWS_STEP = "no_worker_knows_step"
    """Workers serve the queue, and none of them has a function for the step."""

    # -- trouble, which is taken care of -----------------------------------------------------------------------------
    WORKER_LOST = "worker_lost"
    """The worker that has the step is not heard of any more; another one will rescue it."""
    RESCUED = "rescued"
    """The step was abandoned by a worker that died or stopped, and waits to be run again."""
    WAITING_FOR_RETRY = "waiting_for_retry"
    """The step failed, and waits for its next attempt."""

    # -- the run is ending -------------------------------------------------------------------------------------------
    COMPENSATING = "compensating"
    """What the run did is being undone, the newest first."""
    FAILING = "failing"
    """A step failed for good; what still executes is waited for."""
    CANCELLING = "cancelling"
    """The run was cancelled; what still executes is waited for."""

    # -- it moves by itself, or when the world outside does ----------------------------------------------------------
    WAITING_FOR_SIGNAL = "waiting_for_signal"
    """A step waits for a signal from outside."""
    STEP_RUNNING = "step_running"
    """A worker has the step."""
    KEY_PAUSED = "key_paused"
    """The step is ready, and what it shares with others is paused."""
    WAITING_FOR_LIMIT = "waiting_for_limit"
    """The step is ready, and as many that share its limit, or its queue's, are with workers as may be."""
    WAITING_FOR_RATE = "waiting_for_rate"
    """The step is ready, and its rate has no token."""
    QUEUED = "queued"
    """The step is ready, and others of its queue are before it."""
    STEP_SCHEDULED = "step_scheduled"
    """The step is ready, and next in its queue."""
    PENDING_DISPATCH = "pending_dispatch"
    """The run was started, and nothing of it was handed out yet."""
    DEFERRED = "deferred"
    """The step asked to come back later."""
    SLEEPING = "sleeping"
    """A wait step lets time pass."""
    DELAYED_START = "delayed_start"
    """The run is not to begin yet."""
    WAITING_FOR_DEPENDENCIES = "waiting_for_dependencies"
    """A join waits for steps that have not ended. What these wait for comes first."""

    # -- it is over --------------------------------------------------------------------------------------------------
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The run failed because it did not end before its deadline."""
    REJECTED = "rejected"
    """The run failed because somebody rejected what waited for approval."""
    TIMED_OUT = "timed_out"
    """The run failed because nobody decided, or a signal did not come, in time."""
    RETRY_EXHAUSTED = "retry_exhausted"
    """The run failed because a step failed at its last attempt."""
    STEP_FAILED = "step_failed"
    """The run failed because a step did, without another attempt to make."""
    CANCELLED = "cancelled"
    """The run was cancelled."""
    COMPLETED = "completed"
    """The run has done all there was to do."""

    @property
    def precedence(self) -> int:
        """Smaller is told first."""
        return _PRECEDENCE[self]


_PRECEDENCE = {reason: number for number, reason in enumerate(Reason)}


@dataclass(frozen=True, slots=True)
class Action:
    """Something that may be done about a run now: a method of ``SquidMesh`` that would not refuse it at this moment.

    Args:
        name: The method.
        arguments: What to call it with, beside the run's id.
        why: What comes of it.
        needs: The arguments that only the caller can give: ``actor``, ``payload``.
    """

    name: str
    arguments: JSONObject
    why: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that a run waits for, or that became of it.

    Args:
        reason: What it is.
        step: The step that it is about; None if it is about the run.
        summary: A sentence for people.
        details: What belongs to the reason, as JSON.
        evidence: The rows that say so, as JSON: ``job``, ``attempt``, ``worker``, ``audit``, those that there are.
    """

    reason: Reason
    step: str | None
    summary: str
    details: JSONObject = field(default_factory=dict[str, JSON])
    evidence: JSONObject = field(default_factory=dict[str, JSON])


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a run is where it is, and what may be done about it. All of it is of one instant.

    Args:
        run_id: The run.
        workflow: Its workflow's name.
        status: Where it stands.
        reason: The main reason; ``Reason`` says which of several is the main one.
        step: The step that it is about; None if it is about the run.
        summary: A sentence for people.
        details: What belongs to the reason, as JSON.
        also: What else holds at the same time, in order of precedence.
        next_actions: What may be done now.
        evidence: The rows that say so, as JSON: ``run``, and those of the main reason.
        at: The instant, on the database's clock.
    """

    run_id: UUID
    workflow: str
    status: RunStatus
    reason: Reason
    step: str | None
    summary: str
    details: JSONObject
    also: tuple[Cause, ...]
    next_actions: tuple[Action, ...]
    evidence: JSONObject
    at: datetime

    @property
    def causes(self) -> tuple[Cause, ...]:
        """All that holds, the main reason first."""
        main = Cause(
            reason=self.reason, step=self.step, summary=self.summary, details=self.details, evidence=self.evidence
        )
        return (main, *self.also)
