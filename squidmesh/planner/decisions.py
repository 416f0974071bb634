"""What people and the world outside decide about a run that waits for them: approve, reject, unblock, signal.

Pure, as all of the planner. The gate that is meant is looked for among the run's jobs under its lock, so of two
decisions at once one is first, and the other is told that nothing waits for it any more.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from squidmesh.context import Outcome
from squidmesh.definition import StepKind
from squidmesh.errors import AlreadyVoted, IllegalMove, InvalidOption, NotWaiting, SignalNotFound
from squidmesh.planner import compensation
from squidmesh.planner.draft import Draft
from squidmesh.planner.plan import NewSignal, NextJob
from squidmesh.planner.planner import fail_for_good, finish
from squidmesh.planner.scheduling import PARKED, lane_of, lead_on, output_of
from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from squidmesh.planner.facts import Facts
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Output
    from squidmesh.planner.plan import LiveJob, LockedRun, Plan
    from squidmesh.records import JSON, JSONObject

DECIDABLE: Final = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.RETRYING, RunStatus.PAUSED)
RESOLUTIONS: Final = ("rerun", "completed", "failed")
"""What a person may say of a step that was interrupted or quarantined."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remark:
    """Who decides, and what they say about it; checked and storable.

    Args:
        actor: Who: text or a mapping; None where nobody says.
        comment: What they say.
        metadata: What else is to be kept.
    """

    actor: JSON = None
    comment: str | None = None
    metadata: JSONObject = field(default_factory=dict[str, "JSON"])


@dataclass(frozen=True, slots=True)
class Vote:
    """An approval that was not the last one needed."""

    visit: int
    actor: JSON


def plan_review(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    facts: Facts,
    *,
    approve: bool,
    step: str | None,
    remark: Remark,
    votes: Mapping[str, Sequence[Vote]],
    now: datetime,
) -> Plan:
    """Approve or reject what waits for it.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: All its jobs by slot.
        facts: What else was read of the run.
        approve: Or reject.
        step: Which approval is meant, where several wait.
        remark: Who decides.
        votes: The approvals so far, by step.
        now: The database's time, for the output.

    Raises:
        IllegalMove: The run has ended or is ending.
        NotWaiting: No approval waits (any more).
        InvalidOption: Several wait, and none was named.
        AlreadyVoted: The actor has approved this one already.
        NeedsMore: Something else must be read before this can be decided.
    """
    verb = "approve" if approve else "reject"
    draft = Draft(graph, run, jobs, facts)
    job = _find(draft, verb, step, _is_approval)
    gate = graph.steps[job.step]
    before = [vote.actor for vote in votes.get(job.step, ()) if vote.visit == job.visit]
    needed = int(gate.settings.get("approvers", 1))
    if approve and remark.actor in before:
        raise AlreadyVoted(run.id, job.step, len(before), needed)
    if approve and len(before) + 1 < needed:
        _audit(draft, "voted", job, remark)
        return draft.conclude()
    outcome, decision = (Outcome.OK, "approved") if approve else (Outcome.REJECTED, "rejected")
    _audit(draft, decision, job, remark)
    output: JSONObject = {"decision": decision, "actor": remark.actor, "decided_at": now.isoformat()}
    if needed > 1:
        output["approvers"] = [*before, remark.actor] if approve else before
    output |= {"comment": remark.comment} if remark.comment is not None else {}
    output |= {"metadata": remark.metadata} if remark.metadata else {}
    draft.executed = True
    draft.record(job, AttemptStatus.COMPLETED, outcome=outcome, output=output_of(gate, output))
    draft.leave(job)
    error = {"type": "Rejected", "message": f"step {job.step!r} was rejected", "step": job.step, **output}
    lead_on(draft, job.step, outcome, error)
    return finish(draft).conclude()


def plan_unblock(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    facts: Facts,
    *,
    step: str | None,
    resolution: str | None,
    output: Output | None,
    remark: Remark,
) -> Plan:
    """Let a run go on that is paused: at a pause step, or because something went wrong with a step.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: All its jobs by slot.
        facts: What else was read of the run.
        step: Which step is meant, where several wait.
        resolution: Of a step with which something went wrong: what is to become of it. None resumes a pause, and runs a
            quarantined step again; what became of an interrupted one, only a person can say.
        output: With the resolution "completed": what the step is taken to have returned.
        remark: Who decides.

    Raises:
        IllegalMove: The run has ended.
        NotWaiting: Nothing waits to be unblocked (any more).
        InvalidOption: Several wait, and none was named; or the resolution does not fit.
        NeedsMore: Something else must be read before this can be decided.
    """
    draft = Draft(graph, run, jobs, facts)
    job = _find(draft, "unblock", step, _can_be_unblocked)
    draft.executed = True
    if job.kind == JobKind.GATE and job.reason != ParkedReason.QUARANTINED:
        if resolution is not None or output is not None:
            raise InvalidOption("resolution", f"step {job.step!r} is a pause, which only goes on; leave it out")
        _audit(draft, "resumed", job, remark)
        draft.record(job, AttemptStatus.COMPLETED, outcome=Outcome.OK)
        draft.leave(job)
        lead_on(draft, job.step, Outcome.OK)
        return finish(draft).conclude()
    chosen = _resolution(job, resolution, output)
    _audit(draft, "resolved", job, remark, resolution=chosen, reason=job.reason)
    _resolve(draft, job, chosen, output, remark)
    return finish(draft).conclude()


def _resolution(job: LiveJob, given: str | None, output: Output | None) -> str:
    if given is None and job.reason == ParkedReason.QUARANTINED:
        given = "rerun"
    if given not in RESOLUTIONS:
        raise InvalidOption(
            "resolution",
            f"step {job.step!r} is {job.reason}: say what is to become of it, after looking at what it did: 'rerun', "
            "'completed' (with output= if later steps need it) or 'failed'",
        )
    if output is not None and given != "completed":
        raise InvalidOption("output", "belongs to resolution='completed'")
    return given


def _resolve(draft: Draft, job: LiveJob, resolution: str, output: Output | None, remark: Remark) -> None:
    step = draft.graph.steps[job.step]
    if resolution == "rerun":
        lane = lane_of(job.kind, irreversible=step.irreversible)  # its worker files it under what it shares
        # A gate's time-out is decided again; until then it waits for what it always waited for.
        reason = PARKED[step.kind][0] if step.kind in PARKED else None
        draft.again(job, replace(NextJob.same(job), crashes=0, lane=lane, reason=reason, meters=None))
    elif resolution == "completed":
        undone = job.kind == JobKind.COMPENSATION
        draft.record(job, AttemptStatus.COMPLETED, outcome=Outcome.OK, output=output)
        draft.leave(job)
        if undone:
            compensation.ended(draft, job, None)
        else:
            lead_on(draft, job.step, Outcome.OK)
    else:
        message = remark.comment or f"a person decided that step {job.step!r} has failed"
        error: JSONObject = {"type": "ResolvedAsFailed", "message": message, "retryable": False}
        draft.record(job, AttemptStatus.FAILED, error=error)
        fail_for_good(draft, job, error)


def plan_signal(
    graph: Graph,
    run: LockedRun,
    jobs: Mapping[int, LiveJob],
    facts: Facts,
    *,
    name: str,
    key: str,
    payload: Output,
    actor: JSON,
) -> Plan:
    """A signal has come: it ends the oldest wait for it, or is kept for the next one.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: All its jobs by slot.
        facts: What else was read of the run.
        name: The signal's name.
        key: The sender's name for this delivery, which is new to the run.
        payload: What was sent; any JSON value.
        actor: Who sends it, if that is to be kept.

    Raises:
        IllegalMove: The run has ended or is ending.
        SignalNotFound: No step of the graph waits for such a signal.
        NeedsMore: Something else must be read before this can be decided.
    """
    if run.status not in DECIDABLE:
        raise IllegalMove(run.id, run.status, "signal", DECIDABLE)
    known = sorted({str(s.settings["signal"]) for s in graph.steps.values() if s.kind is StepKind.SIGNAL})
    if name not in known:
        raise SignalNotFound(run.id, name, known)
    draft = Draft(graph, run, jobs, facts)
    seq = draft.audit("signalled", actor=actor, signal=name, key=key)
    waiting = [job for job in jobs.values() if _waits_for(graph, job, name)]
    consumed_by = None
    if waiting:
        job = min(waiting, key=lambda job: (job.saw, job.slot))
        draft.executed = True
        output = output_of(graph.steps[job.step], payload.value)
        draft.record(job, AttemptStatus.COMPLETED, outcome=Outcome.OK, output=output)
        consumed_by = draft.attempts[-1].seq
        draft.leave(job)
        lead_on(draft, job.step, Outcome.OK)
    else:
        draft.progress.signals[name] = draft.progress.signals.get(name, 0) + 1
    draft.signals = (NewSignal(name=name, key=key, payload=payload, seq=seq, consumed_by=consumed_by),)
    return finish(draft).conclude()


def _waits_for(graph: Graph, job: LiveJob, name: str) -> bool:
    return job.kind == JobKind.SIGNAL and graph.steps[job.step].settings["signal"] == name


def _audit(draft: Draft, type_: str, job: LiveJob, remark: Remark, **known: JSON) -> None:
    draft.audit(
        type_,
        job.step,
        actor=remark.actor,
        comment=remark.comment,
        metadata=remark.metadata,
        visit=job.visit,
        **known,
    )


def _is_approval(graph: Graph, job: LiveJob) -> bool:
    return job.kind == JobKind.GATE and graph.steps[job.step].kind is StepKind.APPROVAL


def _can_be_unblocked(graph: Graph, job: LiveJob) -> bool:
    trouble = job.state is JobState.PARKED and job.reason is not None and ParkedReason(job.reason).is_trouble
    return trouble or (job.kind == JobKind.GATE and graph.steps[job.step].kind is StepKind.PAUSE)


def _find(draft: Draft, verb: str, step: str | None, fits: Callable[[Graph, LiveJob], bool]) -> LiveJob:
    """The job that is meant: of several visits to one step the oldest."""
    graph, run, jobs = draft.graph, draft.run, draft.jobs
    undoing = run.status is RunStatus.COMPENSATING and verb == "unblock"
    if run.status not in DECIDABLE and not undoing:
        raise IllegalMove(run.id, run.status, verb, DECIDABLE)
    if step is not None and step not in graph.steps:
        raise InvalidOption("step", f"the run's workflow has no step {step!r}; it has: {', '.join(graph.names)}")
    open_ = [job for _, job in sorted(jobs.items()) if fits(graph, job)]
    names = sorted({job.step for job in open_})
    if step is None and len(names) > 1:
        raise InvalidOption("step", f"several steps wait for that ({', '.join(names)}); say which")
    meant = [job for job in open_ if step in (None, job.step)]
    if not meant:
        raise NotWaiting(run.id, verb, step, names, run.status)
    return min(meant, key=lambda job: job.visit)
