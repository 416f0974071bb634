"""The planner: (graph, run, what happened) -> plan. Pure: values in, values out.

This is the only place that decides what happens to a run. Whoever wants to change one locks it, asks here, and saves
the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from squidmesh.context import Outcome
from squidmesh.errors import IllegalMove
from squidmesh.planner import joins
from squidmesh.planner.draft import Draft
from squidmesh.planner.outcome import (
    Abandoned,
    Broken,
    Completed,
    Deferred,
    Failed,
    Returned,
    TimedOut,
    Unknown,
)
from squidmesh.planner.plan import NextJob, StartPlan
from squidmesh.records import Lane
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding
    from squidmesh.planner.plan import LockedRun, Plan
    from squidmesh.records import JSON, Job

CRASH_BUDGET: Final = 3
"""How often a worker may die with a step that was marked as started."""

CANCELLABLE: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.RETRYING, RunStatus.PAUSED)


def plan_start(graph: Graph, run: LockedRun) -> StartPlan:
    """What a new run begins with: a job for each entry step."""
    draft = Draft(graph, run, {})
    for step in graph.definition.entries:
        draft.schedule(step.name)
    plan = draft.conclude()
    return StartPlan(status=RunStatus.PENDING, progress=plan.progress, jobs=tuple(plan.added))


def plan_findings(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, Job],
    findings: Iterable[Finding],
    *,
    may_snapshot: bool = False,
) -> Plan:
    """What follows from what happened to some of a run's jobs.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: Its jobs by slot, read under the lock: at least those that the findings speak of.
        findings: What happened. A finding whose fence (worker and claim number) does not hold is discarded.
        may_snapshot: Whether the caller has the context at hand, should a snapshot be due.

    Raises:
        NeedsAllJobs: The run fails, and not all of its jobs were given.
    """
    draft = Draft(graph, run, jobs)
    for finding in findings:
        job = jobs.get(finding.slot)
        if job is None or finding.slot in draft.next or not _fence_holds(job, finding):
            draft.discarded.append(finding)
            continue
        draft.executed |= not isinstance(finding.happening, (Returned, Unknown))
        if draft.ending is not None and graph.readable:
            _settle_ending(draft, job, finding)
        else:
            _settle(draft, job, finding)
    if draft.ending is None and graph.readable:
        draft.settle_joins()
    if draft.ending is RunStatus.FAILING and run.status is not RunStatus.FAILING:
        draft.withdraw("the run failed")
    return draft.conclude(may_snapshot=may_snapshot)


def plan_cancel(
    graph: Graph, run: LockedRun, jobs: Mapping[int, Job], *, actor: JSON, comment: str | None
) -> Plan | None:
    """Cancel a run: what does not execute yet is taken away, what executes is told and waited for.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: All its jobs by slot.
        actor: Who cancels.
        comment: What they say about it.

    Returns:
        The plan, or None when the run is cancelled already or about to be.

    Raises:
        IllegalMove: It has completed or failed, or is failing.
    """
    if run.status in (RunStatus.CANCELLED, RunStatus.CANCELLING):
        return None
    if run.status not in CANCELLABLE:
        raise IllegalMove(run.id, run.status, "cancel", CANCELLABLE)
    draft = Draft(graph, run, jobs)
    draft.ending = RunStatus.CANCELLING
    draft.audit("cancelled", actor=actor, comment=comment)
    draft.withdraw("the run was cancelled")
    return draft.conclude()


def plan_watch(graph: Graph, run: LockedRun) -> Plan | None:
    """Ask for a notification of the run's end; None when it has ended or is watched already."""
    if run.status.terminal or run.progress.watched:
        return None
    draft = Draft(graph, run, {})
    draft.progress.watched = True
    return draft.conclude()


def _fence_holds(job: Job, finding: Finding) -> bool:
    """Whether the job is still the finder's: nobody rescued it or handed it out again since."""
    return job.state is JobState.CLAIMED and job.worker == finding.worker and job.claim == finding.claim


def _settle_ending(draft: Draft, job: Job, finding: Finding) -> None:
    """In a run that is ending, a result is recorded and starts nothing."""
    match finding.happening:
        case Completed(output, outcome):
            draft.record(job, AttemptStatus.COMPLETED, finding, outcome=outcome, output=output)
        case Failed(error) | TimedOut(error):
            draft.record(job, AttemptStatus.FAILED, finding, error=error)
        case Abandoned(error) | Broken(error):
            draft.record(job, AttemptStatus.ABANDONED, finding, error=error)
        case Deferred() | Returned() | Unknown():
            error = {"type": "Cancelled", "message": f"the run was {draft.ending} before the step was done"}
            draft.record(job, AttemptStatus.CANCELLED, finding, error=error)
    draft.leave(job)


def _settle(draft: Draft, job: Job, finding: Finding) -> None:
    """Turn one happening into what follows from it."""
    match finding.happening:
        case Completed() as completed:
            _complete(draft, job, finding, completed)
        case Failed() as failed:
            _fail(draft, job, finding, failed)
        case TimedOut() as late:
            _time_out(draft, job, finding, late)
        case Deferred(delay, reason):
            later = replace(NextJob.same(job), defers=job.defers + 1, reason=reason).after(delay)
            draft.again(job, later)
        case Abandoned() as abandoned:
            _abandon(draft, job, finding, abandoned)
        case Returned():
            draft.again(job, NextJob.same(job))
        case Unknown():
            draft.park(job, ParkedReason.UNKNOWN_STEP)
        case Broken(error):
            draft.record(job, AttemptStatus.ABANDONED, finding, error=error)
            draft.park(job, ParkedReason.QUARANTINED)


def _complete(draft: Draft, job: Job, finding: Finding, completed: Completed) -> None:
    outcome = completed.outcome
    draft.record(job, AttemptStatus.COMPLETED, finding, outcome=outcome, output=completed.output)
    draft.leave(job)
    if outcome == Outcome.OK:
        joins.mark(draft.graph, draft.progress, job.step)
        draft.follow(job, outcome)
        return
    joins.spoil(draft.graph, draft.progress, job.step)
    if not draft.follow(job, outcome):
        draft.fail(
            {
                "type": "NoTransition",
                "message": f"step {job.step!r} ended with outcome {outcome!r}, which has no transition; "
                f"declare transition({job.step}, on={outcome!r}, to=...)",
                "step": job.step,
                "outcome": outcome,
            }
        )


def _fail(draft: Draft, job: Job, finding: Finding, failed: Failed) -> None:
    """Another attempt, else the error transition, else the run fails."""
    policy = draft.graph.steps[job.step].options.retry
    delay = policy.delay_after(job.attempt, failed.chance) if failed.retryable else None
    error = failed.error
    if failed.retry_after is not None and policy.max_attempts == 1:
        error = {**error, "hint": "the step asked to be retried, but declares no Retry; add retry=Retry(...)"}
    draft.record(job, AttemptStatus.FAILED, finding, error=error)
    if delay is not None:
        delay = failed.retry_after if failed.retry_after is not None else delay
        draft.again(job, replace(NextJob.same(job), attempt=job.attempt + 1).after(delay))
        return
    draft.leave(job)
    joins.spoil(draft.graph, draft.progress, job.step)
    edge = draft.graph.edges.get((job.step, Outcome.ERROR))
    if edge is None:
        draft.fail({**error, "step": job.step})
        return
    if edge.recovery is not None:
        draft.audit("routed", job.step, target=edge.target, recovery=edge.recovery)
    draft.follow(job, Outcome.ERROR)


def _time_out(draft: Draft, job: Job, finding: Finding, late: TimedOut) -> None:
    """A failure like others; but whether an irreversible step did its work, only a human can find out."""
    if job.started and draft.graph.steps[job.step].irreversible:
        draft.record(job, AttemptStatus.ABANDONED, finding, error=late.error)
        draft.park(job, ParkedReason.INTERRUPTED)
    else:
        _fail(draft, job, finding, Failed(late.error, late.retryable, chance=late.chance))


def _abandon(draft: Draft, job: Job, finding: Finding, abandoned: Abandoned) -> None:
    """Run it again, more carefully; or ask a human, when that could do harm."""
    draft.record(job, AttemptStatus.ABANDONED, finding, error=abandoned.error)
    crashes = job.crashes + (job.started and not abandoned.cut_off)
    if job.started and draft.graph.steps[job.step].irreversible:
        draft.park(job, ParkedReason.INTERRUPTED)
    elif crashes >= CRASH_BUDGET:
        draft.park(job, ParkedReason.QUARANTINED)
    else:
        lane = job.lane if abandoned.cut_off else Lane.SUSPECT
        draft.again(job, replace(NextJob.same(job), crashes=crashes, lane=lane))
