"""What a test asks of runs: plain questions, and assertions whose messages say what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.authoring.reading import StepReference
from squidmesh.errors import InvalidOption
from squidmesh.explaining import explain_run
from squidmesh.operations import MOST_LISTED, run_filter, run_id_of
from squidmesh.records import Run
from squidmesh.states import AttemptStatus, RunStatus, StepStatus

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from squidmesh.authoring.reading import Reference
    from squidmesh.operations import Operations
    from squidmesh.records import JSON, Attempt, DeclaredStep, StepRun
    from squidmesh.testing.sessions import Session
    from squidmesh.workflow import Workflow

ANYTHING: Final = object()
STEP: Final = "step"
COMPENSATION: Final = "compensation"
RAN: Final = (AttemptStatus.COMPLETED, AttemptStatus.FAILED)
MOST_DESCRIBED: Final = 10
UNFINISHED: Final = tuple(status for status in RunStatus if not status.terminal)


class Looking:
    """Questions and assertions.

    Args:
        session: Where the runs are.
        operations: Asks for them.
    """

    def __init__(self, session: Session, operations: Operations) -> None:
        self._session = session
        self._operations = operations

    # -- questions -----------------------------------------------------------------------------------------------

    def run(self, run: Run | UUID | str) -> Run:
        """A run as it stands now, with its context and the first 1,000 attempts of its history."""
        return self._page(_id(run), 0)

    def _page(self, run_id: UUID, after: int) -> Run:
        return self._session.ask(self._operations.inspect(run_id, history=True, after_seq=after, limit=MOST_LISTED))

    def step_runs(self, run: Run | UUID | str) -> list[StepRun]:
        """All visits to steps; one whose attempts are on two pages is there twice."""
        found: list[StepRun] = []
        after: int | None = 0
        while after is not None:
            history = self._page(_id(run), after).history
            assert history is not None  # noqa: S101 - it was asked for
            found += history.step_runs
            after = history.next_seq
        return found

    def attempts(self, run: Run | UUID | str) -> list[Attempt]:
        """All ended attempts, in the order in which they ended."""
        return sorted((a for visit in self.step_runs(run) for a in visit.attempts), key=lambda attempt: attempt.seq)

    def steps(self, run: Run | UUID | str) -> list[str]:
        """The names of the steps that ran, in the order in which they ended: once for each attempt."""
        return [attempt.step for attempt in self.attempts(run) if attempt.status in RAN and attempt.kind == STEP]

    def undone(self, run: Run | UUID | str) -> list[str]:
        """The names of the steps that were undone, in the order in which their compensations completed."""
        undone = (AttemptStatus.COMPLETED, COMPENSATION)
        return [attempt.step for attempt in self.attempts(run) if (attempt.status, attempt.kind) == undone]

    def runs(self, workflow: Workflow | str | None = None, *, unfinished: bool = False) -> list[Run]:
        """The latest 1,000 runs, the oldest of them first."""
        wanted = run_filter(
            workflow=workflow,
            status=UNFINISHED if unfinished else None,
            trigger=None, key=None, since=None, until=None, before=None, limit=MOST_LISTED,
        )  # fmt: skip
        return self._session.ask(self._operations.list_runs(wanted))[::-1]

    # -- assertions ----------------------------------------------------------------------------------------------

    def assert_started(self, workflow: Workflow | str, count: int | None, payload: dict[str, JSON]) -> list[Run]:
        """Assert that so many runs were started whose payload has these values."""
        name = workflow if isinstance(workflow, str) else workflow.name
        runs = self.runs()
        found = [run for run in runs if run.workflow == name and _has(run.payload, payload)]
        if len(found) == count or (count is None and found):
            return found
        wanted = f"{'any run' if count is None else f'{count} run(s)'} of {name!r}"
        wanted += f" with {payload}" if payload else ""
        said = [f"  {run.workflow} {run.payload} {run.status}" for run in runs[-MOST_DESCRIBED:]]
        raise AssertionError(f"expected {wanted}, found {len(found)}. {_listed('Started', said)}")

    def assert_status(self, run: Run | UUID | str, status: RunStatus | str) -> Run:
        """Assert that a run has a status."""
        shown = self.run(run)
        if shown.status != checked_status(status):
            raise AssertionError(f"expected {status}, but: {self.describe(shown)}")
        return shown

    def assert_step(
        self, run: Run | UUID | str, step: Reference, status: str | None, attempts: int | None, output: object
    ) -> DeclaredStep:
        """Assert how the latest visit to a step stands, or ended."""
        shown, name = self.run(run), name_of(step)
        declared = _step_of(shown, name)
        visits = [visit for visit in self.step_runs(run) if visit.step == name and visit.kind != COMPENSATION]
        latest = [visit for visit in visits if visit.visit == visits[-1].visit]
        tried = sum(attempt.status in RAN for visit in latest for attempt in visit.attempts)
        added = latest[-1].output if latest else None
        wrong: list[str] = []
        if status is not None and declared.status != StepStatus(status):
            wrong.append(f"status {status!r}, not {str(declared.status)!r}")
        if attempts is not None and tried != attempts:
            wrong.append(f"{attempts} attempt(s), not {tried}")
        if output is not ANYTHING and added != output:
            wrong.append(f"output {output!r}, not {added!r}")
        if wrong:
            raise AssertionError(f"expected of step {name!r}: {'; '.join(wrong)}. It is {self.describe(shown)}")
        return declared

    # -- telling -------------------------------------------------------------------------------------------------

    def describe(self, run: Run) -> str:
        """Where a run stands, step by step."""
        lines = [f"run {run.id} of {run.workflow!r}: {run.status}"]
        lines += [f"  needs attention: {run.attention}"] if run.attention else []
        errors = {visit.step: visit.error for visit in run.history.step_runs} if run.history else {}
        for step in run.history.steps if run.history else ():
            said = f"  {step.step}: {step.status}"
            said += f" ({step.reason})" if step.reason else ""
            said += f", due at {step.due_at}" if step.due_at else ""
            error = errors.get(step.step)
            said += f", {error['type']}: {error['message']}" if error else ""
            lines.append(said)
        return "\n".join(lines)

    def explain(self, run_id: UUID) -> str:
        """What a run waits for, and what may be done about it."""
        why = self._session.ask(explain_run(self._operations, run_id))
        lines = [f"  {why.summary}", *(f"  {cause.summary}" for cause in why.also)]
        can = dict.fromkeys(action.name for action in why.next_actions)
        lines += [f"  What can be done: {', '.join(can)}"] if can else []
        return "\n".join(lines)

    def describe_unfinished(self) -> str:
        """Where every run stands that has not ended."""
        runs = self.runs(unfinished=True)
        said = [f"{self.describe(self.run(run))}\n{self.explain(run.id)}" for run in runs[:MOST_DESCRIBED]]
        more = [f"and {len(runs) - MOST_DESCRIBED} more"] if len(runs) > MOST_DESCRIBED else []
        return "\n".join([*said, *more]) or "every run has ended"


def name_of(step: Reference) -> str:
    """A step's name."""
    return step.name if isinstance(step, StepReference) else step


def checked_status(status: RunStatus | str) -> RunStatus:
    """A run's status by its name.

    Raises:
        InvalidOption: There is none of this name.
    """
    try:
        return RunStatus(status)
    except ValueError:
        raise InvalidOption("status", f"{status!r} is no status; there are {', '.join(RunStatus)}") from None


def has_completed(run: Run, step: str) -> bool:
    """Whether a step of a run has completed.

    Raises:
        InvalidOption: It has no such step.
    """
    return _step_of(run, step).status is StepStatus.COMPLETED


def _step_of(run: Run, name: str) -> DeclaredStep:
    steps = {step.step: step for step in run.history.steps} if run.history else {}
    if name not in steps:
        raise InvalidOption("step", f"{name!r} is no step of {run.workflow!r}; it has {', '.join(steps)}")
    return steps[name]


def _id(run: Run | UUID | str) -> UUID:
    return run.id if isinstance(run, Run) else run_id_of(run)


def _has(payload: dict[str, JSON], wanted: dict[str, JSON]) -> bool:
    return all(key in payload and payload[key] == value for key, value in wanted.items())


def _listed(what: str, lines: Iterable[str]) -> str:
    said = "\n".join(lines)
    return f"{what}:\n{said}" if said else f"{what}: nothing"
