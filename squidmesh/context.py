"""What a step is given (``Context``) and how it names the way on (``Outcome``)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from squidmesh.errors import TransactionError
from squidmesh.records import hot_record

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from squidmesh.records import JSON, JSONObject, Tick


class Cancellation:
    """A flag that the worker raises while a step runs, and the step may look at."""

    __slots__ = ("raised",)

    def __init__(self) -> None:
        self.raised = False


@hot_record(kw_only=True)
class Context:
    """What a step knows about where it is. A parameter annotated ``Context`` receives it.

    Args:
        run_id: The run.
        workflow: The workflow's name.
        trigger: The name of the trigger that started the run.
        step: The step's name.
        visit: How often the run has reached this step, from 1; above 1 only in loops.
        attempt: Number of this attempt, from 1. Attempts that a dead worker abandoned do not count.
        payload: What the run was started with.
        state: The payload overlaid with what earlier steps returned, as this visit saw it first; for a compensation as
            it was once the visit that it undoes had completed.
        failure: Why the run is failing, where that is known: what a compensation is told.
        compensating: Whether this is a step's compensation.
        schedule: The nominal time that the run was started for, if a schedule started it.
        cancellation: The flag behind ``cancelled``.
        session: The psycopg connection behind ``connection``, in a transactional step.
    """

    run_id: UUID
    workflow: str
    trigger: str
    step: str
    visit: int
    attempt: int
    payload: Mapping[str, JSON]
    state: Mapping[str, JSON]
    failure: JSONObject | None = None
    compensating: bool = False
    schedule: Tick | None = None
    cancellation: Cancellation = field(default_factory=Cancellation, repr=False, compare=False)
    session: Any = field(default=None, repr=False, compare=False)

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for the step any more: its run was cancelled or failed, or its time is up.

        A long step should stop at its next good moment.
        """
        return self.cancellation.raised

    @property
    def connection(self) -> Any:  # which of the two it is depends on the function, and no annotation can say so
        """The connection of a step with ``transaction=True``: a psycopg ``Connection``, in an ``async def`` step an
        ``AsyncConnection``. What is written on it commits with the step's result, or not at all.

        Raises:
            TransactionError: The step is not declared with ``transaction=True``.
        """  # noqa: D205 - one sentence
        if self.session is None:
            raise TransactionError(
                f"step {self.step!r} has no transaction; declare it with step(transaction=True) to have ctx.connection",
                retryable=False,
            )
        return self.session

    @property
    def idempotency_key(self) -> str:
        """A text that is the same for every attempt at this visit, also after a crash or a retry, and new on a replay.

        The visit's compensation has one of its own.

        Hand it to the outside system that must not do the same thing twice.
        """
        return f"{self.run_id}:{self.step}:{self.visit}{':compensation' * self.compensating}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Returned by a step to name the transition to take.

    Args:
        name: The outcome; the workflow must have a transition for it, or the run fails.
        output: The step's output, like a plain return value.

    Example:
        >>> Outcome("needs_review", {"score": 0.4})
        Outcome(name='needs_review', output={'score': 0.4})
    """

    OK: ClassVar[str] = "ok"
    ERROR: ClassVar[str] = "error"
    REJECTED: ClassVar[str] = "rejected"
    TIMEOUT: ClassVar[str] = "timeout"

    name: str
    output: object = None
