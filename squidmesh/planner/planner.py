"""The planner: (graph, run, what happened) -> plan. Pure: values in, values out.

The planner is the only code that decides what happens to a run. Whoever wants to change one locks it, asks here (or in
``decisions`` and ``again``, what people ask for), and saves the answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from squidmesh.context import Outcome
from squidmesh.errors import IllegalMove
from squidmesh.planner import compensation
from squidmesh.planner.draft import Draft
from squidmesh.planner.facts import NO_FACTS, Facts
from squidmesh.planner.outcome import (
    Abandoned,
    Broken,
    Completed,
    Deferred,
    Elapsed,
    Failed,
    Filed,
    Returned,
    TimedOut,
    Unknown,
)
from squidmesh.planner.plan import NextJob, StartPlan
from squidmesh.planner.progress import Undo, visit_key
from squidmesh.planner.scheduling import add_deadline, filed, lead_on, output_of, schedule, settle
from squidmesh.records import BODILESS, JobKind, Lane
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding, Output
    from squidmesh.planner.plan import LiveJob, LockedRun, Plan
    from squidmesh.records import JSON, JSONObject

CRASH_BUDGET: Final = 3
"""How often a worker may die with a step that was marked as started."""

BROKEN_TIMER: Final = 60.0
"""Seconds until a deadline is looked at again that could not be decided."""

CANCELLABLE: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.RETRYING, RunStatus.PAUSED)


def plan_start(graph: Graph, run: LockedRun) -> StartPlan:
    """What a new run begins with: a job for each entry step, and one for its deadline."""
    draft = Draft(graph, run, {}, Facts())
    for step in graph.definition.entries:
        schedule(draft, step.name)
    add_deadline(draft)
    return StartPlan.of(draft.conclude())


def plan_findings(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    findings: Iterable[Finding],
    facts: Facts | None = None,
    *,
    may_snapshot: bool = False,
) -> Plan:
    """What follows from what happened to some of a run's jobs.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: Its jobs by slot, read under the lock: at least those that the findings speak of.
        findings: What happened. A finding whose fence (worker and claim number) does not hold is discarded.
        facts: What else was read of the run.
        may_snapshot: Whether the caller has the context at hand, should a snapshot be due.

    Raises:
        NeedsMore: Something else must be read before this can be decided.
    """
    draft = Draft(graph, run, jobs, NO_FACTS if facts is None else facts)
    for finding in findings:
        job = jobs.get(finding.slot)
        if job is None or finding.slot in draft.next or not _fence_holds(job, finding):
            draft.discarded.append(finding)
            continue
        draft.executed |= not isinstance(finding.happening, (Returned, Filed, Unknown))
        if draft.ending is not None and graph.readable and job.kind != JobKind.COMPENSATION:
            _settle_ending(draft, job, finding)
        else:
            _settle(draft, job, finding)
    if graph.readable:
        finish(draft)
    return draft.conclude(may_snapshot=may_snapshot)


def plan_cancel(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    facts: Facts,
    *,
    actor: JSON,
    comment: str | None,
    compensate: bool = False,
    force: bool = False,
) -> Plan | None:
    """Cancel a run: what does not execute yet is taken away, what executes is told and waited for.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: All its jobs by slot.
        facts: What else was read of the run.
        actor: Who cancels.
        comment: What they say about it.
        compensate: Whether what its steps did is undone then.
        force: Whether what executes is not waited for; also of a run that is ending already.

    Returns:
        The plan, or None when the run is cancelled as is wanted already, or about to be.

    Raises:
        IllegalMove: It has completed or failed, or is failing; or it was cancelled and not undone, as is wanted now.
        NeedsMore: Something else must be read before this can be decided.
    """
    forced = force and run.status in (RunStatus.CANCELLING, RunStatus.FAILING)
    undo_late = compensate and run.status is RunStatus.CANCELLING and run.progress.undo is None
    if not (forced or undo_late):
        if _is_cancelled(run, compensate=compensate):
            return None
        if run.status not in CANCELLABLE:
            raise IllegalMove(run.id, run.status, "cancel", CANCELLABLE)
    draft = Draft(graph, run, jobs, facts)
    if run.status is not RunStatus.FAILING:
        draft.ending = RunStatus.CANCELLING
        if compensate and draft.progress.undo is None:
            draft.progress.undo = Undo(below=0, cancelled=True)
    how = {key: True for key, chosen in (("compensate", compensate), ("force", force)) if chosen}
    draft.audit("cancelled", actor=actor, comment=comment, metadata=how)
    draft.withdraw("the run was cancelled", force=force)
    return finish(draft).conclude()


def _is_cancelled(run: LockedRun, *, compensate: bool) -> bool:
    """Whether it is cancelled in this way already, or about to be."""
    undo = run.progress.undo
    if run.status is RunStatus.COMPENSATING:
        return undo is not None and undo.cancelled
    return run.status is RunStatus.CANCELLING or (
        run.status is RunStatus.CANCELLED and (undo is not None or not compensate)
    )


def plan_watch(graph: Graph, run: LockedRun) -> Plan | None:
    """Ask for a notification of the run's end; None when it has ended or is watched already."""
    if run.status.terminal or run.progress.watched:
        return None
    draft = Draft(graph, run, {}, Facts())
    draft.progress.watched = True
    return draft.conclude()


def finish(draft: Draft) -> Draft:
    """Follow up what was decided: joins and kept signals; or what a run that is ending does next."""
    settle(draft)
    if draft.ending is None:
        return draft
    if draft.ending is RunStatus.FAILING and draft.run.status is not RunStatus.FAILING:
        draft.withdraw("the run failed")
    compensation.begin(draft)
    return draft


def _fence_holds(job: LiveJob, finding: Finding) -> bool:
    """Whether the job is still the finder's: nobody rescued it or handed it out again since."""
    return job.state is JobState.CLAIMED and job.worker == finding.worker and job.claim == finding.claim


def _settle_ending(draft: Draft, job: LiveJob, finding: Finding) -> None:
    """In a run that is ending, a result is recorded and starts nothing."""
    if job.kind == JobKind.TIMER:
        draft.next[job.slot] = None
        return
    match finding.happening:
        case Completed(output, outcome):
            draft.record(job, AttemptStatus.COMPLETED, finding, outcome=outcome, output=output)
        case Failed(error) | TimedOut(error):
            draft.record(job, AttemptStatus.FAILED, finding, error=error)
        case Abandoned(error) | Broken(error):
            draft.record(job, AttemptStatus.ABANDONED, finding, error=error)
        case Deferred() | Returned() | Filed() | Unknown() | Elapsed():
            error = {"type": "Cancelled", "message": f"the run was {draft.ending} before the step was done"}
            draft.record(job, AttemptStatus.CANCELLED, finding, error=error)
    draft.leave(job)


def _settle(draft: Draft, job: LiveJob, finding: Finding) -> None:
    """Turn one happening into what follows from it."""
    match finding.happening:
        case Completed(output, outcome):
            _complete(draft, job, finding, outcome, output)
        case Elapsed():
            _elapse(draft, job, finding)
        case Failed() | TimedOut() as failed:
            _fail(draft, job, finding, failed)
        case Deferred() as deferred:
            _defer(draft, job, deferred)
        case Abandoned() as abandoned:
            _abandon(draft, job, finding, abandoned)
        case Returned() | Filed() as given_back:
            _give_back(draft, job, given_back)
        case Unknown():
            draft.park(job, ParkedReason.UNKNOWN_STEP)
        case Broken() if job.kind == JobKind.TIMER:
            # It belongs to no step, so no attempt tells of it and nobody could unblock it: it comes again.
            draft.again(job, NextJob.same(job).after(BROKEN_TIMER))
        case Broken(error):
            draft.record(job, AttemptStatus.ABANDONED, finding, error=error)
            draft.park(job, ParkedReason.QUARANTINED)


def _give_back(draft: Draft, job: LiveJob, given_back: Returned | Filed) -> None:
    again = NextJob.same(job)
    draft.again(job, filed(again, given_back.meters, draft.graph) if isinstance(given_back, Filed) else again)


def _defer(draft: Draft, job: LiveJob, deferred: Deferred) -> None:
    if deferred.pause:
        draft.pause(job, deferred.delay)
    later = replace(NextJob.same(job), defers=job.defers + 1, reason=deferred.reason).after(deferred.delay)
    draft.again(job, later)


def _complete(draft: Draft, job: LiveJob, finding: Finding, outcome: str, output: Output | None) -> None:
    draft.record(job, AttemptStatus.COMPLETED, finding, outcome=outcome, output=output)
    draft.leave(job)
    if job.kind == JobKind.COMPENSATION:
        compensation.ended(draft, job, None)
    else:
        lead_on(draft, job.step, outcome)


def _elapse(draft: Draft, job: LiveJob, finding: Finding) -> None:
    """A wait is over; or nobody decided, nothing came, or the run did not end in time."""
    if job.kind == JobKind.WAIT:
        _complete(draft, job, finding, Outcome.OK, None)
    elif job.kind == JobKind.TIMER:
        draft.next[job.slot] = None
        draft.fail({"type": "DeadlineExceeded", "message": "the run did not end before its deadline"})
    else:
        step, gate = draft.graph.steps[job.step], job.kind == JobKind.GATE
        draft.record(
            job,
            AttemptStatus.COMPLETED,
            finding,
            outcome=Outcome.TIMEOUT,
            output=output_of(step, {"decision": Outcome.TIMEOUT}) if gate else None,
        )
        draft.leave(job)
        what = "nobody decided" if gate else f"the signal {step.settings['signal']!r} did not come"
        error = {"type": "TimedOut", "message": f"{what} in time at step {job.step!r}", "step": job.step}
        lead_on(draft, job.step, Outcome.TIMEOUT, error)


def _fail(draft: Draft, job: LiveJob, finding: Finding, failed: Failed | TimedOut) -> None:
    """Another attempt, else the error transition, else the run fails."""
    if isinstance(failed, TimedOut):
        failed = Failed(failed.error, failed.retryable, chance=failed.chance)
        if job.started and draft.graph.steps[job.step].irreversible:
            # Whether it did its work, only a human can find out.
            draft.record(job, AttemptStatus.ABANDONED, finding, error=failed.error)
            draft.park(job, ParkedReason.INTERRUPTED)
            return
    options, undoing = draft.graph.steps[job.step].options, job.kind == JobKind.COMPENSATION
    policy = options.compensate_retry if undoing else options.retry
    before = draft.progress.retried.get(visit_key(job.step, job.visit), 0) if draft.progress.retried else 0
    made = job.attempt - (0 if undoing else before)
    delay = policy.delay_after(made, failed.chance) if failed.retryable else None
    error = failed.error
    if failed.retry_after is not None and policy.max_attempts == 1:
        error = {**error, "hint": "the step asked to be retried, but declares no Retry; add retry=Retry(...)"}
    draft.record(job, AttemptStatus.FAILED, finding, error=error)
    if failed.pause and failed.retry_after is not None:
        draft.pause(job, failed.retry_after)
    if delay is not None:
        delay = failed.retry_after if failed.retry_after is not None else delay
        draft.again(job, replace(NextJob.same(job), attempt=job.attempt + 1).after(delay))
    else:
        fail_for_good(draft, job, error)


def fail_for_good(draft: Draft, job: LiveJob, error: JSONObject) -> None:
    """A visit has failed, which is recorded, and is not tried again."""
    draft.leave(job)
    if job.kind == JobKind.COMPENSATION:
        compensation.ended(draft, job, error)
    else:
        lead_on(draft, job.step, Outcome.ERROR, {**error, "step": job.step})


def _abandon(draft: Draft, job: LiveJob, finding: Finding, abandoned: Abandoned) -> None:
    """Run it again, more carefully; or ask a human, when that could do harm."""
    if job.kind in BODILESS:
        draft.again(job, NextJob.same(job))  # nothing was executing
        return
    draft.record(job, AttemptStatus.ABANDONED, finding, error=abandoned.error)
    crashes = job.crashes + (job.started and not abandoned.cut_off)
    irreversible = draft.graph.steps[job.step].irreversible and job.kind != JobKind.COMPENSATION
    if job.started and irreversible:
        draft.park(job, ParkedReason.INTERRUPTED)
    elif crashes >= CRASH_BUDGET:
        draft.park(job, ParkedReason.QUARANTINED)
    else:
        suspect = Lane.SUSPECT if job.meters is None else Lane.METERED_SUSPECT
        lane = job.lane if abandoned.cut_off else suspect
        draft.again(job, replace(NextJob.same(job), crashes=crashes, lane=lane))
