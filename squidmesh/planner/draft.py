"""A plan in the making: the run as locked, and what has been decided so far.

The draft is where facts become rows; which facts, others decide. It is built, filled and concluded within one call of
the planner and never leaves it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from squidmesh.errors import InconsistentRun
from squidmesh.meters import meter_to_pause
from squidmesh.planner.facts import NeedsMore
from squidmesh.planner.plan import ConsumedSignal, LockedRun, NewAttempt, NewAudit, NewSignal, NextJob, Plan
from squidmesh.planner.progress import visit_key
from squidmesh.records import BODILESS, DEADLINE_SLOT, JobKind
from squidmesh.states import RUN_MOVES, AttemptStatus, JobState, ParkedReason, RunStatus, may_move, shown_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.planner.facts import Facts
    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding, Output
    from squidmesh.planner.plan import LiveJob
    from squidmesh.records import JSON, JSONObject

SNAPSHOT_FACTOR: Final = 4
"""The outputs since the last snapshot may outweigh it, or the largest of them, this many times: else a single large
output would be written a second time at once, and no reader would be spared anything."""

SNAPSHOT_FLOOR: Final = 16 * 1024
"""Bytes that count as the weight of the smallest snapshot: short histories need none."""

OUTPUT_OVERHEAD: Final = 256
"""Bytes added to an output's weight for its row, which costs a reader as much, however small the output is."""

NOT_COMPENSATED: Final = "not_compensated"
"""The attention of a cancelled run of which something could not be undone."""


class Draft:
    """A plan in the making.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: Its jobs by slot: those that findings speak of, or all.
        facts: What else was read of it.
    """

    def __init__(self, graph: Graph, run: LockedRun, jobs: Mapping[int, LiveJob], facts: Facts) -> None:
        self.graph = graph
        self.run = run
        self.jobs = jobs
        self.facts = facts
        self.progress = run.progress.copy()
        self.seq = run.seq
        self.error = run.error
        self.attention = run.attention
        going_on = run.status is RunStatus.RUNNING or not (run.status.ending or run.status.terminal)
        self.ending: RunStatus | None = None if going_on else run.status
        """How the run ends or has ended; None while it goes on."""
        self.executed = False
        """Whether anything was at work: a run of which nothing ever was is still pending."""
        self.attempts: list[NewAttempt] = []
        self.audits: list[NewAudit] = []
        self.signals: tuple[NewSignal, ...] = ()
        self.consumed: tuple[ConsumedSignal, ...] = ()
        self.discarded: list[Finding] = []
        self.pauses: tuple[tuple[str, float], ...] = ()
        self.next: dict[int, NextJob | None] = {}
        """By slot: the job as it shall be, or None where it leaves."""
        self.freed: list[int] = []
        """The slots of jobs that left, for those that come: what a step leads to takes over its slot."""
        self.early: tuple[NextJob, ...] = ()
        """The waits that a kept signal ends at once."""

    @property
    def has_all_jobs(self) -> bool:
        """Whether all jobs of the run were read."""
        return len(self.jobs) == self.run.progress.live_count + self.run.progress.deadline

    # -- writing down what happened ------------------------------------------------------------------------------

    def record(
        self,
        job: LiveJob,
        status: AttemptStatus,
        finding: Finding | None = None,
        *,
        outcome: str | None = None,
        output: Output | None = None,
        error: JSONObject | None = None,
    ) -> None:
        """Add an ended attempt to the history."""
        undone = job.kind == JobKind.COMPENSATION
        self.attempts.append(
            NewAttempt(
                seq=self._take_seq(),
                step=job.step,
                visit=job.visit,
                attempt=job.attempt,
                status=status,
                saw=job.saw,
                outcome=outcome,
                output=output,
                error=error,
                worker=finding.worker if finding else None,
                started_ago=finding.started_ago if finding else None,
                finished_ago=finding.finished_ago if finding else 0.0,
                takes=finding.takes if finding else None,
                kind="compensation" if undone else "step",
            )
        )
        if output is not None and not undone:
            self._weigh(output)

    def audit(
        self,
        type_: str,
        step: str | None = None,
        *,
        actor: JSON = None,
        comment: str | None = None,
        metadata: JSONObject | None = None,
        **known: JSON,
    ) -> int:
        """Add an audit event to the history; its place there comes back."""
        said = {**(metadata or {}), **known}
        event = NewAudit(seq=self._take_seq(), type=type_, step=step, actor=actor, comment=comment, metadata=said)
        self.audits.append(event)
        return event.seq

    def copy_attempt(self, attempt: NewAttempt) -> None:
        """Take over an ended attempt from the run that this one replays."""
        self.attempts.append(replace(attempt, seq=self._take_seq(), kind="copied"))
        if attempt.output is not None:
            self._weigh(attempt.output)

    def _weigh(self, output: Output) -> None:
        size = len(output.text)
        self.progress.weight += size + OUTPUT_OVERHEAD
        if size > max(self.progress.snapshot, SNAPSHOT_FLOOR):
            self.progress.snapshot = size

    def _take_seq(self) -> int:
        self.seq += 1
        return self.seq - 1

    # -- changing what is live -----------------------------------------------------------------------------------

    def put(self, job: NextJob) -> None:
        """A job becomes live; its step is counted already."""
        self._count(job, +1)
        self.next[job.slot] = job

    def leave(self, job: LiveJob) -> None:
        """The step is not live any more."""
        self.progress.leave(self.graph, job.step)
        if self.progress.retried:
            self.progress.retried.pop(visit_key(job.step, job.visit), None)
        self._count(job, -1)
        self.next[job.slot] = None
        self.freed.append(job.slot)

    def again(self, job: LiveJob, changed: NextJob) -> None:
        """The same visit goes on as ``changed`` says: another attempt, later, or elsewhere."""
        self._count(job, -1)
        self._count(changed, +1)
        self.next[job.slot] = changed

    def park(self, job: LiveJob, reason: ParkedReason) -> None:
        """The job waits for somebody."""
        self.again(job, replace(NextJob.same(job), state=JobState.PARKED, reason=reason))
        if reason.needs_human:
            self.trouble(job, reason)

    def pause(self, job: LiveJob, seconds: float) -> None:
        """Nothing that shares the job's rate or limit may begin for some time; if it has none, it alone waits."""
        if job.meters is not None and (name := meter_to_pause(job.meters)):
            self.pauses = (*self.pauses, (name, seconds))

    def trouble(self, job: LiveJob, reason: ParkedReason) -> None:
        """A person is needed, because something went wrong with the job."""
        self.attention = reason
        self.audit("paused", job.step, visit=job.visit, reason=reason)

    def _count(self, job: LiveJob, by: int) -> None:
        """Count a job among those for which the run waits: for a human, or else for a further attempt."""
        if job.kind is JobKind.STEP and job.state is not JobState.PARKED:
            if job.attempt > 1:  # nearly all jobs are looked at no further
                self.progress.retrying += by
            return
        if job.kind == JobKind.TIMER:
            return
        reason = ParkedReason(str(job.reason)) if job.state is JobState.PARKED else None
        if job.kind == JobKind.GATE or (reason is not None and reason.needs_human):
            self.progress.gates += by
            if reason is not None and reason.is_trouble:
                self.progress.troubles += by
        elif job.attempt > 1:
            self.progress.retrying += by

    def free_slot(self) -> int:
        """The slot that was freed last, or a new one."""
        if self.freed:
            return self.freed.pop()
        self.progress.slots += 1
        return self.progress.slots - 1

    # -- ending --------------------------------------------------------------------------------------------------

    def fail(self, error: JSONObject, at: int | None = None) -> None:
        """The run fails with ``error``: nothing is decided about it any more, so the first reason stands.

        Args:
            error: The reason.
            at: The place in the history of the attempt that is the reason; by default what comes next.
        """
        self.ending, self.error = RunStatus.FAILING, error
        self.progress.failed_at = self.seq if at is None else at

    def withdraw(self, reason: str, *, force: bool = False) -> None:
        """Take away what does not execute yet.

        Args:
            reason: Why, for the history.
            force: Also what executes: its result will come too late, and nobody knows what it has done.

        Raises:
            NeedsMore: Not all jobs of the run were given.
            InconsistentRun: They were, and are not those that the run's state counts.
        """
        if not self.has_all_jobs:
            if self.facts.jobs:
                raise InconsistentRun(self.run.id)
            raise NeedsMore(jobs=True)
        for _, job in sorted({**self.jobs, **self.next}.items(), key=lambda item: item[0]):
            if job is None or job.kind == JobKind.TIMER:
                continue
            executes = job.state is JobState.CLAIMED and job.kind not in BODILESS
            if executes and not force:
                continue
            error: JSONObject = {"type": "Cancelled", "message": reason}
            if job.state is JobState.PARKED and ParkedReason(str(job.reason)).is_trouble:
                error["parked"] = str(job.reason)
            self.record(job, AttemptStatus.ABANDONED if executes else AttemptStatus.CANCELLED, error=error)
            self.leave(job)

    def conclude(self, *, may_snapshot: bool = False) -> Plan:
        """The finished plan."""
        status = self._status()
        self._check_move(status)
        moved: list[NextJob] = []
        added: list[NextJob] = []
        removed: list[int] = []
        for slot, job in self.next.items():
            known = slot in self.jobs
            if job is not None:
                (moved if known else added).append(job)
                if job.kind is JobKind.GATE and not (known and job.same_visit):
                    # Gates are announced once it is clear that the run really waits at them.
                    self.audit("paused", job.step, visit=job.visit, reason=job.reason)
            elif known:
                removed.append(slot)
        plan = Plan(
            run=self.run,
            status=status,
            attention=self._attention(status),
            seq=self.seq,
            progress=self.progress,
            error=self.error,
            attempts=self.attempts,
            audits=self.audits,
            moved=moved,
            added=added,
            removed=removed,
            discarded=self.discarded,
            flag=status.ending and not self.run.status.ending,
            signals=self.signals,
            consumed=self.consumed,
            pauses=self.pauses,
        )
        if self.progress.deadline and (status.ending or status.terminal):
            self._drop_deadline(plan)
        if may_snapshot and not status.terminal and self._snapshot_due():
            plan.snapshot_seq, plan.seq = plan.seq, plan.seq + 1
        for job in self.next.values():
            if job is not None and not job.same_visit:
                job.saw = plan.seq
        return plan

    def _check_move(self, status: RunStatus) -> None:
        old = self.run.status
        if not (may_move(RUN_MOVES, old, status) or may_move(RUN_MOVES, shown_status(old, claimed=True), status)):
            raise AssertionError(f"the planner would move run {self.run.id} from {old} to {status}")

    def _drop_deadline(self, plan: Plan) -> None:
        """A run that is ending has no deadline any more; nobody needs to have read its job to take it away."""
        self.progress.deadline = False
        if DEADLINE_SLOT not in plan.removed and self.run.progress.deadline:
            plan.removed.append(DEADLINE_SLOT)

    def _snapshot_due(self) -> bool:
        base = max(self.progress.snapshot, SNAPSHOT_FLOOR)
        return self.progress.weight > SNAPSHOT_FACTOR * base

    def _status(self) -> RunStatus:
        """The run's status: one pure function of what is live."""
        live, progress = self.progress.live_count, self.progress
        if self.ending is not None:
            return self.ending if live or self.ending.terminal else self._end()
        if self.run.status is RunStatus.PENDING and not self.executed and live > progress.gates:
            return RunStatus.PENDING
        if not live:
            return RunStatus.COMPLETED
        if live > progress.retrying + progress.gates:
            return RunStatus.RUNNING
        return RunStatus.RETRYING if progress.retrying else RunStatus.PAUSED

    def _end(self) -> RunStatus:
        """Where a run that is ending arrives once nothing executes any more."""
        if self.ending is RunStatus.COMPENSATING and self.progress.undo is not None:
            return RunStatus.CANCELLED if self.progress.undo.cancelled else RunStatus.FAILED
        return RunStatus.CANCELLED if self.ending is RunStatus.CANCELLING else RunStatus.FAILED

    def _attention(self, status: RunStatus) -> str | None:
        if self.progress.troubles:
            return self._trouble_left()
        if status is RunStatus.RUNNING:
            return RunStatus.PAUSED if self.progress.gates else None
        undo = self.progress.undo
        if status is RunStatus.CANCELLED and undo is not None and undo.left:
            return NOT_COMPENSATED
        cancelled = undo is not None and undo.cancelled
        if status in (RunStatus.FAILING, RunStatus.FAILED) or (status is RunStatus.COMPENSATING and not cancelled):
            return RunStatus.FAILED
        return RunStatus.PAUSED if self.progress.gates else None

    def _trouble_left(self) -> str | None:
        """What went wrong last; another trouble that is left, once that is mended."""
        if not self.has_all_jobs:
            return self.attention  # nothing is mended without having looked at all jobs
        parked = [job for job in {**self.jobs, **self.next}.values() if job and job.state is JobState.PARKED]
        left = sorted({str(job.reason) for job in parked if ParkedReason(str(job.reason)).is_trouble})
        return self.attention if self.attention in left else left[0]
