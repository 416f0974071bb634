"""Going on from where a run failed: in place (``plan_retry``), or in a new run that knows results (``plan_replay``).

Both fold what is in the history through the same rules that made it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from squidmesh.context import Outcome
from squidmesh.errors import IllegalMove, InvalidOption, NotRetryable
from squidmesh.planner.draft import Draft
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import NewAttempt, StartPlan
from squidmesh.planner.planner import finish
from squidmesh.planner.progress import visit_key
from squidmesh.planner.scheduling import add_deadline, begin, lead_on, schedule, settle
from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, ParkedReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from squidmesh.planner.facts import Facts
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.plan import LiveJob, LockedRun, Plan
    from squidmesh.records import JSON, Attempt


DONE: Final = (AttemptStatus.COMPLETED, AttemptStatus.ABANDONED)
"""How a visit ended that has done, or may have done, what it does."""


def plan_retry(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    facts: Facts,
    *,
    since: Sequence[Attempt],
    actor: JSON,
    comment: str | None,
) -> Plan:
    """Let a failed run go on: what failed or was taken away is tried again, what completed late leads on.

    A visit that is tried again sees what it saw, under the same idempotency key, with all the attempts that its
    ``Retry`` allows.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: Its jobs, of which it has none.
        facts: What else was read of the run.
        since: The attempts from what made it fail onwards.
        actor: Who asks for it.
        comment: What they say about it.

    Raises:
        IllegalMove: The run has not failed.
        NotRetryable: It cannot go on from there, or would fail again at once.
        NeedsMore: Something else must be read before this can be decided.
    """
    if run.status is not RunStatus.FAILED:
        raise IllegalMove(run.id, run.status, "retry", (RunStatus.FAILED,))
    if run.progress.undo is not None:
        raise NotRetryable(run.id, "what its steps did was undone; replay it instead")
    if (run.error or {}).get("type") == "VisitLimitReached":
        raise NotRetryable(run.id, "its graph, which it keeps, does not allow another visit; replay it instead")
    ended = _latest(attempt for attempt in since if attempt.kind == "step")
    if not ended:
        raise NotRetryable(run.id, "nothing of it is left to be tried again; replay it instead")
    draft = Draft(graph, run, jobs, facts)
    draft.ending = draft.error = None
    draft.executed = True
    draft.progress.failed_at = 0
    for attempt in ended:
        _go_on(draft, attempt)
    if finish(draft).ending is not None:
        raise NotRetryable(run.id, f"it would fail again at once: {_message(draft)}; replay it instead")
    add_deadline(draft)  # once the joins are decided: only then is it clear whether anything is live
    steps = sorted({job.step for job in draft.next.values() if job is not None and job.step})
    draft.audit("retried", actor=actor, comment=comment, steps=steps)
    return draft.conclude()


def _message(draft: Draft) -> JSON:
    return None if draft.error is None else draft.error.get("message")


def _latest(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The latest attempt at each visit, in order."""
    found: dict[tuple[str, int], Attempt] = {}
    for attempt in attempts:
        found.pop((attempt.step, attempt.visit), None)
        found[attempt.step, attempt.visit] = attempt
    return list(found.values())


def _go_on(draft: Draft, attempt: Attempt) -> None:
    """Take up a visit where the failure of the run left it."""
    if draft.ending is not None:
        return
    graph, name = draft.graph, attempt.step
    if attempt.status is AttemptStatus.COMPLETED:
        outcome = attempt.outcome or Outcome.OK
        if outcome == Outcome.OK or graph.way(name, outcome) is not None:
            lead_on(draft, name, outcome)
        else:
            _forget_spoiling(draft, name)
            schedule(draft, name)
        return
    _forget_spoiling(draft, name)
    number = attempt.attempt + (attempt.status is AttemptStatus.FAILED)
    if number > 1:
        draft.progress.retried[visit_key(name, attempt.visit)] = number - 1
    draft.progress.come_back(graph, name)
    trouble = _trouble(attempt, irreversible=graph.steps[name].irreversible)
    begin(draft, graph.steps[name], visit=attempt.visit, attempt=number, saw=attempt.saw, trouble=trouble)


def _trouble(attempt: Attempt, *, irreversible: bool) -> ParkedReason | None:
    """Why a person must be asked before the visit goes on."""
    if attempt.status is AttemptStatus.ABANDONED and irreversible:
        return ParkedReason.INTERRUPTED  # it was cut off while the run failed: only a person knows what it did
    parked = (attempt.error or {}).get("parked") if attempt.status is AttemptStatus.CANCELLED else None
    return None if parked is None else ParkedReason(parked)  # it waited for a person when it was taken away


def _forget_spoiling(draft: Draft, name: str) -> None:
    """The step may end well yet, so the joins that list it are open again."""
    for join in draft.graph.joined_by[name]:
        left = draft.progress.spoiled.pop(join, 0) & ~draft.graph.bit[name]
        if left:
            draft.progress.spoiled[join] = left


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay that goes on from a step.

    Args:
        start: What the new run begins with.
        copied: The steps whose results it takes over.
        repeated: The steps that completed in the source and may run again.
    """

    start: StartPlan
    copied: tuple[str, ...]
    repeated: tuple[str, ...]


def plan_replay(graph: Graph, blank: LockedRun, history: Sequence[Attempt], facts: Facts, *, from_step: str) -> Replay:
    """A new run that takes over what a source had done before a step, and goes on from there.

    What is taken over is what completed before the step's latest visit began, and what does not come after the step
    (parallel branches). It is led through today's graph as if it had just happened.

    Args:
        graph: Today's graph.
        blank: The new run, before its start.
        history: All ended attempts of the source, in order.
        facts: What else is known.
        from_step: The step to go on from.

    Raises:
        NeedsMore: Something else must be known before this can be decided.
        InvalidOption: The step is not in the graph, or results of the source do not lead to it.
    """
    if from_step not in graph.steps:
        raise InvalidOption("from_step", f"the workflow has no step {from_step!r}; it has: {', '.join(graph.names)}")
    undone = {(a.step, a.visit) for a in history if a.kind == "compensation" and a.status is AttemptStatus.COMPLETED}
    ended = _latest(attempt for attempt in history if attempt.kind != "compensation")
    cut = max((attempt.saw for attempt in ended if attempt.step == from_step), default=0)
    later = graph.reachable(graph.bit[from_step]) | graph.bit[from_step]
    draft = Draft(graph, blank, {}, facts)
    for step in graph.definition.entries:
        schedule(draft, step.name)
    copied: list[Attempt] = []
    for attempt in ended:
        if attempt.step in graph.steps and (attempt.seq < cut or not graph.bit[attempt.step] & later):
            copied += _take_over(draft, attempt)
    live = [job.step for job in draft.next.values() if job is not None]
    if from_step not in live or draft.ending is not None:
        raise InvalidOption(
            "from_step",
            f"what the source has done does not lead to {from_step!r}; a replay of it begins with: "
            f"{', '.join(sorted(live)) or 'nothing'}. Choose a step that it reached",
        )
    if gone := sorted({attempt.step for attempt in copied if (attempt.step, attempt.visit) in undone}):
        raise InvalidOption("from_step", f"what {', '.join(gone)} did was undone; replay from there, or from the start")
    kept = {(attempt.step, attempt.visit) for attempt in copied}
    # Not only the latest attempt counts: what was interrupted, and taken away then, may have done what it does.
    steps = [attempt for attempt in history if attempt.kind != "compensation" and attempt.status in DONE]
    repeated = [attempt.step for attempt in steps if (attempt.step, attempt.visit) not in kept]
    names = tuple(dict.fromkeys(attempt.step for attempt in copied))
    draft.audit("replayed", from_step, copied=list(names), steps=sorted(set(live)))
    # What was taken over was not at work here; a wait for a signal is, as in any other run.
    draft.executed = any(job is not None and job.kind is JobKind.SIGNAL for job in draft.next.values())
    add_deadline(draft)
    return Replay(StartPlan.of(draft.conclude()), names, tuple(dict.fromkeys(repeated)))


def _take_over(draft: Draft, attempt: Attempt) -> list[Attempt]:
    """Lead an ended visit through the graph, if the graph has come to its step."""
    job = next((job for job in draft.next.values() if job is not None and job.step == attempt.step), None)
    completed = attempt.status is AttemptStatus.COMPLETED
    routed = attempt.status is AttemptStatus.FAILED and draft.graph.way(attempt.step, Outcome.ERROR) is not None
    if job is None or not (completed or routed):
        return []
    draft.copy_attempt(
        NewAttempt(
            seq=0,
            step=job.step,
            visit=job.visit,
            attempt=attempt.attempt,
            status=attempt.status,
            saw=draft.seq,
            outcome=attempt.outcome,
            output=None if attempt.output is None else Output.of(attempt.output),
            error=attempt.error,
            started_ago=attempt.seconds,
        )
    )
    draft.leave(job)
    lead_on(draft, job.step, (attempt.outcome or Outcome.OK) if completed else Outcome.ERROR)
    settle(draft)
    return [attempt]
