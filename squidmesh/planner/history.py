"""What happened in a run, derived: step runs, inputs and statuses are folds of facts, stored nowhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from squidmesh.records import DeclaredStep, History, JobKind, StepRun
from squidmesh.states import AttemptStatus, JobState, StepStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from squidmesh.planner.graph import Graph
    from squidmesh.records import Attempt, AuditEvent, JSONObject, StepState

    Key: TypeAlias = tuple[str, int, bool]
    """A step, a visit to it, and whether it is about undoing that."""


def context_of(outputs: Iterable[tuple[int, JSONObject]], below: int | None = None) -> JSONObject:
    """What steps returned, in one: the fold of outputs in order of ``seq``, those below ``below``."""
    merged: JSONObject = {}
    for seq, output in outputs:
        if below is None or seq < below:
            merged.update(output)
    return merged


def history_of(
    graph: Graph,
    payload: JSONObject,
    *,
    outputs: Sequence[tuple[int, JSONObject]],
    states: Iterable[StepState],
    attempts: Sequence[Attempt],
    audits: Sequence[AuditEvent],
    next_seq: int | None,
) -> History:
    """A page of a run's history.

    Args:
        graph: The graph that it runs on.
        payload: What it was started with.
        outputs: All its outputs, in order.
        states: Where its steps stand.
        attempts: The ended attempts of the page, in order.
        audits: The audit events of the page, in order.
        next_seq: Where the next page begins; None on the last one.
    """
    by_step = {state.step: state for state in states}
    timer = by_step.pop("", None)
    visits: dict[Key, list[Attempt]] = {}
    for attempt in attempts:
        visits.setdefault((attempt.step, attempt.visit, attempt.kind == JobKind.COMPENSATION), []).append(attempt)
    saws = {key: made[0].saw for key, made in visits.items()}
    if next_seq is None:
        for state in by_step.values():
            if state.visit is not None and state.saw is not None:
                key = state.step, state.visit, state.kind == JobKind.COMPENSATION
                visits.setdefault(key, [])
                saws.setdefault(key, state.saw)
    contexts = {saw: {**payload, **context_of(outputs, saw)} for saw in set(saws.values())}
    return History(
        steps=tuple(_declared(graph, name, by_step.get(name)) for name in _in_order(graph)),
        step_runs=tuple(
            _step_run(graph, key, made, by_step.get(key[0]), contexts[saws[key]]) for key, made in visits.items()
        ),
        audit_events=tuple(audits),
        next_seq=next_seq,
        deadline=timer.due_at if timer else None,
    )


def _in_order(graph: Graph) -> list[str]:
    return [step.name for step in graph.definition.steps]


def _declared(graph: Graph, name: str, state: StepState | None) -> DeclaredStep:
    step = graph.steps[name]
    return DeclaredStep(
        step=name,
        kind=str(step.kind),
        status=_status(state) if state else StepStatus.WAITING,
        after=step.after,
        visits=max(state.visit or 0, state.ended_visit or 0) if state else 0,
        due_at=state.due_at if state else None,
        reason=state.reason if state else None,
    )


def _status(state: StepState) -> StepStatus:
    """Where a step stands: what is live counts more than what has ended."""
    match state.state:
        case None:
            return _ended(state)
        case JobState.PARKED:
            return StepStatus.PARKED
        case _ if state.kind == JobKind.COMPENSATION:
            return StepStatus.COMPENSATING
        case JobState.CLAIMED:
            return StepStatus.RUNNING
        case _ if state.kind in (JobKind.GATE, JobKind.SIGNAL):
            return StepStatus.PARKED  # it waits for somebody, whether for ever or not
        case JobState.READY | JobState.SLEEPING as waiting:
            return _waiting(state.attempt or 1, waiting)


def _waiting(attempt: int, job: JobState) -> StepStatus:
    if attempt > 1:
        return StepStatus.RETRYING
    return StepStatus.READY if job is JobState.READY else StepStatus.SLEEPING


def _ended(state: StepState) -> StepStatus:
    if state.skipped or state.ended is None:
        return StepStatus.SKIPPED
    if state.ended_kind == JobKind.COMPENSATION:
        return StepStatus.COMPENSATED if state.ended is AttemptStatus.COMPLETED else StepStatus.NOT_COMPENSATED
    return StepStatus(state.ended)


def _step_run(
    graph: Graph, key: Key, attempts: Sequence[Attempt], state: StepState | None, context: JSONObject
) -> StepRun:
    step, visit, undoing = key
    latest = attempts[-1] if attempts else None
    live = state is not None and state.visit == visit and (state.kind == JobKind.COMPENSATION) == undoing
    return StepRun(
        kind="compensation" if undoing else latest.kind if latest else "step",
        step=step,
        visit=visit,
        status=_status(state) if state and live else StepStatus(latest.status if latest else StepStatus.WAITING),
        input=_input(graph, step, attempts, context),
        output=latest.output if latest else None,
        error=latest.error if latest and latest.status is not AttemptStatus.COMPLETED else None,
        attempts=tuple(attempts),
    )


def _input(graph: Graph, name: str, attempts: Sequence[Attempt], context: Mapping[str, object]) -> JSONObject:
    """What the step's parameters were filled from: those of the graph, unless live code took others."""
    step = graph.steps[name]
    taken = attempts[-1].takes if attempts else None
    if taken is None and step.takes_all:
        return dict(context)
    names = taken if taken is not None else tuple(parameter.name for parameter in step.takes)
    return {key: context[key] for key in names if key in context}
