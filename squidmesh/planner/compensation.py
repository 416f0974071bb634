"""Undoing what a run did: compensations, one at a time, the newest completion first.

It begins when a run fails for good, or is cancelled with ``compensate=True``, and nothing of it executes any more, so
that what siblings completed late is undone as well. Each completed visit of a step that has a compensation becomes one
job of its own. One that fails for good is left, and the others are undone all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.planner.facts import Completion, NeedsMore
from squidmesh.planner.plan import NextJob
from squidmesh.planner.progress import Undo
from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, RunStatus

if TYPE_CHECKING:
    from squidmesh.planner.draft import Draft
    from squidmesh.planner.plan import LiveJob
    from squidmesh.records import JSONObject

FAILURES: Final = "compensation_failures"
"""The key of a run's error under which compensations stand that failed."""

MOST_TOLD: Final = 20
"""So many compensations that failed are named in the run's error; the history has them all."""


def begin(draft: Draft) -> None:
    """Begin to undo, if the run is ending, nothing executes any more, and there is something to undo."""
    failing = draft.ending is RunStatus.FAILING
    wanted = draft.ending is RunStatus.CANCELLING and draft.progress.undo is not None
    if not (failing or wanted) or draft.progress.live_count:
        return
    if not draft.graph.undoable & draft.progress.seen:
        return
    undo = Undo(below=draft.seq, cancelled=wanted)
    newest = _newest(draft, undo.below)
    if newest is not None:
        draft.ending, draft.progress.undo = RunStatus.COMPENSATING, undo
        draft.audit("compensating")
        _schedule(draft, newest)


def ended(draft: Draft, job: LiveJob, error: JSONObject | None) -> None:
    """A compensation has ended, and its job has left: the next one, or the end.

    Args:
        draft: The plan in the making.
        job: Its job.
        error: Why it failed for good; None if it completed.
    """
    undo = draft.progress.undo
    assert undo is not None, "nothing is being undone"  # noqa: S101 - a programming error
    below = job.saw - 1
    if error is None:
        undo = undo._replace(below=below, undone=undo.undone + 1)
    else:
        undo = undo._replace(below=below, left=undo.left + 1)
        draft.error = _with_failure(draft.error, {**error, "step": job.step, "visit": job.visit})
    draft.progress.undo = undo
    newest = _newest(draft, below)
    if newest is not None:
        _schedule(draft, newest)
    else:
        draft.audit("compensated", undone=undo.undone, left=undo.left)


def _with_failure(error: JSONObject | None, failure: JSONObject) -> JSONObject:
    said = error or {
        "type": "CompensationFailed",
        "message": "the run was cancelled, and not all of it could be undone",
    }
    told = [*said.get(FAILURES, ()), failure]
    return {**said, FAILURES: told[:MOST_TOLD]}


def _newest(draft: Draft, below: int) -> Completion | None:
    """The newest completed visit below a place in the history that has a compensation."""
    for attempt in reversed(draft.attempts):
        done = attempt.kind == "step" and attempt.status is AttemptStatus.COMPLETED and attempt.seq < below
        if done and draft.graph.steps[attempt.step].compensate:
            return Completion(attempt.seq, attempt.step, attempt.visit)
    stored = min(below, draft.run.seq)
    if stored not in draft.facts.completions:
        raise NeedsMore(below=stored)
    return draft.facts.completions[stored]


def _schedule(draft: Draft, completion: Completion) -> None:
    """The job that undoes a visit. Its input is what the context was once that visit had completed."""
    step = draft.graph.steps[completion.step]
    draft.progress.come_back(draft.graph, step.name)
    job = NextJob(
        slot=draft.free_slot(),
        step=step.name,
        visit=completion.visit,
        attempt=1,
        saw=completion.seq + 1,
        same_visit=True,
        queue=step.options.queue,
        priority=step.options.priority,
        kind=JobKind.COMPENSATION,
    )
    draft.put(job)
