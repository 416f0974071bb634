"""What becomes live: where an ended step leads, how a job for the next one begins, and which joins are decided."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

from squidmesh.context import Outcome
from squidmesh.definition import COMPLETE, StepKind
from squidmesh.planner import joins
from squidmesh.planner.facts import NeedsMore
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import ConsumedSignal, NextJob
from squidmesh.records import BODILESS, DEADLINE_SLOT, JobKind, Lane
from squidmesh.states import AttemptStatus, JobState, ParkedReason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.definition import Step
    from squidmesh.planner.draft import Draft
    from squidmesh.planner.graph import Graph
    from squidmesh.records import JSON, JSONObject

KINDS: Final[Mapping[StepKind, JobKind]] = {
    StepKind.FUNCTION: JobKind.STEP,
    StepKind.LOG: JobKind.STEP,
    StepKind.WAIT: JobKind.WAIT,
    StepKind.PAUSE: JobKind.GATE,
    StepKind.APPROVAL: JobKind.GATE,
    StepKind.SIGNAL: JobKind.SIGNAL,
}
"""What the job of a step is for."""

PARKED: Final[Mapping[StepKind, tuple[ParkedReason, str]]] = {
    StepKind.PAUSE: (ParkedReason.PAUSE, "deadline"),
    StepKind.APPROVAL: (ParkedReason.APPROVAL, "deadline"),
    StepKind.SIGNAL: (ParkedReason.SIGNAL, "timeout"),
}
"""For what a step waits that is not done by a worker, and the setting that says for how long at most."""


def schedule(draft: Draft, name: str) -> None:
    """A new visit to a step becomes live, in the slot that was freed last, or in a new one."""
    step = draft.graph.steps[name]
    visit = draft.progress.enter(draft.graph, name)
    if visit > step.visit_limit:
        draft.progress.leave(draft.graph, name)
        draft.fail(
            {
                "type": "VisitLimitReached",
                "message": f"step {name!r} was reached more than {step.visit_limit} times; "
                "raise its visit_limit= if that is meant",
                "step": name,
            }
        )
        return
    begin(draft, step, visit=visit)


def begin(
    draft: Draft,
    step: Step,
    *,
    visit: int,
    attempt: int = 1,
    saw: int | None = None,
    trouble: ParkedReason | None = None,
) -> None:
    """Make the job of a visit that is counted already.

    Args:
        draft: The plan in the making.
        step: The step.
        visit: Number of the visit.
        attempt: Number of the attempt.
        saw: What the visit saw before, where it goes on.
        trouble: Why a person must be asked first.
    """
    kind = JobKind.STEP if step.kind is StepKind.FUNCTION else KINDS[step.kind]
    job = NextJob(
        slot=draft.free_slot(),
        step=step.name,
        visit=visit,
        attempt=attempt,
        saw=draft.seq if saw is None else saw,
        same_visit=saw is not None,
        queue=step.options.queue,
        priority=step.options.priority,
        kind=kind,
        lane=lane_of(kind, irreversible=step.irreversible),
    )
    if trouble is not None:
        job.reason, job.state = trouble, JobState.PARKED
        draft.trouble(job, trouble)
    elif step.kind is StepKind.FUNCTION:
        pass  # it is ready; most are
    elif step.kind in PARKED:
        reason, limit = PARKED[step.kind]
        job.reason, job.state = reason, JobState.PARKED
        if limit in step.settings:
            job.after(float(step.settings[limit]))
    elif step.kind is StepKind.WAIT:
        job.after(_seconds_to_wait(draft, step))
    draft.put(job)
    if job.kind is JobKind.SIGNAL:
        draft.executed = True  # a run that waits for a signal is at work
        if draft.progress.signals.get(str(step.settings["signal"])):
            draft.early = (*draft.early, job)


def lane_of(kind: JobKind | str, *, irreversible: bool) -> Lane:
    """How a job may be claimed with which no worker has died."""
    if kind in BODILESS:
        return Lane.CLOCK
    return Lane.ALONE if irreversible and kind != JobKind.COMPENSATION else Lane.AHEAD


def filed(job: NextJob, meters: str | None, graph: Graph) -> NextJob:
    """The job in the lane of what it shares with others; the planner itself never asks what that is.

    Args:
        job: The job, which has not begun.
        meters: The names of its meters; None if it shares nothing.
        graph: The graph that its run started with.
    """
    if meters is None:
        plain = lane_of(job.kind, irreversible=graph.steps[job.step].irreversible)
        lane = Lane.SUSPECT if job.lane.suspect else plain
    else:
        lane = Lane.METERED_SUSPECT if job.lane.suspect else Lane.METERED
    job.meters, job.lane = meters, lane
    return job


def add_deadline(draft: Draft) -> None:
    """Give the run its deadline, if its workflow has one: a timer that belongs to no step."""
    seconds = draft.graph.definition.deadline
    if seconds is None or draft.ending is not None or not draft.progress.live_count:
        return
    draft.progress.deadline = True
    entry = draft.graph.definition.entries[0]
    draft.next[DEADLINE_SLOT] = NextJob(
        slot=DEADLINE_SLOT,
        step="",
        visit=1,
        attempt=1,
        queue=entry.options.queue,
        priority=entry.options.priority,
        kind=JobKind.TIMER,
        lane=Lane.CLOCK,
    ).after(seconds)


def _seconds_to_wait(draft: Draft, step: Step) -> float:
    """How long a wait sleeps from now on."""
    if "until" not in step.settings:
        return float(step.settings["seconds"])
    until = str(step.settings["until"])
    if step.settings.get("key"):
        found = _value(draft, until)
        instant = _instant(found)
        if instant is None:
            draft.fail(
                {
                    "type": "InvalidInput",
                    "message": f"wait {step.name!r} needs an instant under the key {until!r}, as ISO 8601 text with an "
                    f"offset such as 2026-03-01T09:00:00Z, not {found!r:.100}",
                    "step": step.name,
                    "retryable": False,
                }
            )
            return 0.0
    else:
        instant = _instant(until)
        assert instant is not None, "a definition was checked"  # noqa: S101 - a programming error
    if draft.facts.now is None:
        raise NeedsMore(key=until)
    return max((instant - draft.facts.now).total_seconds(), 0.0)


def _value(draft: Draft, key: str) -> JSON:
    """What the context has under a key by now."""
    for attempt in reversed(draft.attempts):
        if attempt.kind != "compensation" and attempt.output is not None and key in attempt.output.value:
            return attempt.output.value[key]
    if key not in draft.facts.values:
        raise NeedsMore(key=key)
    return draft.facts.values[key]


def _instant(value: JSON) -> datetime | None:
    try:
        instant = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    return None if instant.tzinfo is None else instant.astimezone(UTC)


# -- where an ended step leads -----------------------------------------------------------------------------------------


def lead_on(draft: Draft, name: str, outcome: str, error: JSONObject | None = None) -> None:
    """Go on from a visit that has ended and left.

    Args:
        draft: The plan in the making.
        name: The step.
        outcome: How it ended.
        error: Why the run fails if there is no way on from there.
    """
    note = joins.mark if outcome == Outcome.OK else joins.spoil
    note(draft.graph, draft.progress, name)
    edge = draft.graph.way(name, outcome)
    if edge is None:
        if outcome != Outcome.OK:
            draft.fail(error or _no_transition(name, outcome), at=draft.attempts[-1].seq)
        return
    if edge.recovery is not None:
        draft.audit("routed", name, target=edge.target, recovery=edge.recovery)
    if edge.target != COMPLETE:
        schedule(draft, edge.target)


def _no_transition(step: str, outcome: str) -> JSONObject:
    return {
        "type": "NoTransition",
        "message": f"step {step!r} ended with outcome {outcome!r}, which has no transition; "
        f"declare transition({step}, on={outcome!r}, to=...)",
        "step": step,
        "outcome": outcome,
    }


def settle(draft: Draft) -> None:
    """Decide what can be decided now: waits that kept signals end, and joins."""
    while draft.ending is None:
        _settle_joins(draft)
        if not draft.early or draft.ending is not None:
            return
        first, draft.early = draft.early[0], draft.early[1:]
        _take_signal(draft, first)


def _settle_joins(draft: Draft) -> None:
    for join, runs in joins.decisions(draft.graph, draft.progress):
        if runs:
            schedule(draft, join)
        else:
            draft.audit("skipped", join)
        if draft.ending is not None:
            break


def _take_signal(draft: Draft, job: NextJob) -> None:
    """A signal that was kept ends a wait that has just begun."""
    step, progress = draft.graph.steps[job.step], draft.progress
    name = str(step.settings["signal"])
    if not progress.signals.get(name):
        return  # another wait for it was first
    if draft.facts.signals is None:
        raise NeedsMore(signals=True)
    gone = {(signal.name, signal.key) for signal in draft.consumed}
    kept = next(s for s in draft.facts.signals if s.name == name and (s.name, s.key) not in gone)
    progress.signals[name] -= 1
    if not progress.signals[name]:
        del progress.signals[name]
    job.saw = job.saw if job.same_visit else draft.seq
    draft.record(job, AttemptStatus.COMPLETED, outcome=Outcome.OK, output=output_of(step, kept.payload))
    consumed = ConsumedSignal(name=name, key=kept.key, consumed_by=draft.attempts[-1].seq)
    draft.consumed = (*draft.consumed, consumed)
    draft.leave(job)
    lead_on(draft, job.step, Outcome.OK)


def output_of(step: Step, value: JSON) -> Output | None:
    """What a step without a function adds to the context: a value under its key, or a mapping merged."""
    if step.output is not None:
        return Output.of({step.output: value})
    return Output.of(cast("JSONObject", value)) if isinstance(value, dict) and value else None
