"""A ticket: one job in a worker's hands, from the claim until its result is saved."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from squidmesh.context import Cancellation, Context
from squidmesh.planner.outcome import Completed
from squidmesh.records import JobKind

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh.authoring.functions import StepFunction
    from squidmesh.definition import Step
    from squidmesh.planner.outcome import Happening
    from squidmesh.planner.plan import LiveJob
    from squidmesh.records import JSONObject
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.permit import Permit


@dataclass(slots=True, eq=False)
class Ticket:
    """One job in a worker's hands.

    Args:
        run: What the worker carries of its run.
        job: The job, as it was handed out: while its fence holds, it is what the database has.
        step: The step, of the run's graph with live options; None if the graph cannot be read.
        function: The step's function in live code; None if there is none, or the step needs none.
        state: The payload overlaid with what earlier steps returned, as this visit saw it first. Shared: never changed.
        kept_since: When the worker began to keep this chain, on its monotonic clock.
        permit: Of a transactional step: whether what it writes may be committed.
        cancellation: Raised when the run is ending, or the worker gave up on the body.
        handed: When it began to wait for a slot, on the monotonic clock.
        started: When the body started, on the monotonic clock.
        finished: When it ended.
        happening: What happened to it.
        given_up: Whether the worker said so itself, and the body still runs.
    """

    run: CarriedRun
    job: LiveJob
    step: Step | None
    function: StepFunction[..., object] | None
    state: JSONObject
    kept_since: float
    permit: Permit | None = None
    cancellation: Cancellation = field(default_factory=Cancellation)
    handed: float = 0.0
    started: float | None = None
    finished: float = 0.0
    happening: Happening | None = None
    given_up: bool = False

    @property
    def key(self) -> tuple[UUID, int]:
        """(run, slot)."""
        return self.run.run_id, self.job.slot

    @property
    def busy(self) -> bool:
        """Whether its body has not ended, or not even begun: it occupies a slot."""
        return self.happening is None or self.given_up

    @property
    def unsure(self) -> bool:
        """Whether what is said of it may come too late because the step itself has said more, in its transaction."""
        return self.given_up or (self.permit is not None and self.permit.in_doubt)

    @property
    def size(self) -> int:
        """Bytes of what the body returned."""
        happening = self.happening
        return len(happening.output.text) if isinstance(happening, Completed) and happening.output is not None else 0

    def context(self) -> Context:
        """What the step's function is given as ``Context``."""
        return Context(
            run_id=self.run.run_id,
            workflow=self.run.workflow,
            trigger=self.run.trigger,
            step=self.job.step,
            visit=self.job.visit,
            attempt=self.job.attempt,
            payload=self.run.payload,
            state=self.state,
            failure=self.run.error,
            compensating=self.job.kind == JobKind.COMPENSATION,
            schedule=self.run.schedule,
            cancellation=self.cancellation,
            session=None if self.permit is None else self.permit.connection,
        )
