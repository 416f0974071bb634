"""A plan in the making: the run as locked, and what has been decided so far.

The draft is where facts become rows; which facts, ``planner`` decides. It is built, filled and concluded within one
call of the planner and never leaves it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from squidmesh.definition import COMPLETE, StepKind
from squidmesh.planner import joins
from squidmesh.planner.plan import LockedRun, NewAttempt, NewAudit, NextJob, Plan
from squidmesh.records import JobKind, Lane
from squidmesh.states import RUN_MOVES, AttemptStatus, JobState, ParkedReason, RunStatus, may_move, shown_status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding, Output
    from squidmesh.records import JSON, Job, JSONObject

SNAPSHOT_FACTOR: Final = 4
"""The outputs since the last snapshot may outweigh it this many times."""

SNAPSHOT_FLOOR: Final = 16 * 1024
"""Bytes that count as the weight of the smallest snapshot: short histories need none."""

OUTPUT_OVERHEAD: Final = 100
"""Bytes added to an output's weight for its row."""

ENDS: Final = {RunStatus.FAILING: RunStatus.FAILED, RunStatus.CANCELLING: RunStatus.CANCELLED}
"""Where a run that is ending arrives once nothing executes any more."""


class NeedsAllJobs(Exception):
    """The decision concerns every job of the run, and not all were given: read them and decide again."""


class Draft:
    """A plan in the making.

    Args:
        graph: The graph that the run started with.
        run: The run, locked.
        jobs: Its jobs by slot: those that findings speak of, or all.
    """

    def __init__(self, graph: Graph, run: LockedRun, jobs: Mapping[int, Job]) -> None:
        self.graph = graph
        self.run = run
        self.jobs = jobs
        self.progress = run.progress.copy()
        self.has_all_jobs = len(jobs) == run.progress.live_count
        self.seq = run.seq
        self.error = run.error
        self.attention = run.attention
        self.ending: RunStatus | None = run.status if run.status.ending or run.status.terminal else None
        """How the run ends or has ended; None while it goes on."""
        self.executed = False
        """Whether user code was executing: a run of which nothing ever was is still pending."""
        self.attempts: list[NewAttempt] = []
        self.audits: list[NewAudit] = []
        self.discarded: list[Finding] = []
        self.next: dict[int, NextJob | None] = {}
        """By slot: the job as it shall be, or None where it leaves."""
        self.freed: list[int] = []
        """The slots of jobs that left, for those that come: what a step leads to takes over its slot."""

    # -- writing down what happened ------------------------------------------------------------------------------

    def record(
        self,
        job: Job | NextJob,
        status: AttemptStatus,
        finding: Finding | None = None,
        *,
        outcome: str | None = None,
        output: Output | None = None,
        error: JSONObject | None = None,
    ) -> None:
        """Add an ended attempt to the history."""
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
            )
        )
        if output is not None:
            self.progress.weight += len(output.text) + OUTPUT_OVERHEAD

    def audit(
        self, type_: str, step: str | None = None, *, actor: JSON = None, comment: str | None = None, **metadata: JSON
    ) -> None:
        """Add an audit event to the history."""
        event = NewAudit(seq=self._take_seq(), type=type_, step=step, actor=actor, comment=comment, metadata=metadata)
        self.audits.append(event)

    def _take_seq(self) -> int:
        self.seq += 1
        return self.seq - 1

    # -- changing what is live -----------------------------------------------------------------------------------

    def leave(self, job: Job | NextJob) -> None:
        """The step is not live any more."""
        self.progress.leave(self.graph, job.step)
        self._count(job, -1)
        self.next[job.slot] = None
        self.freed.append(job.slot)

    def again(self, job: Job, changed: NextJob) -> None:
        """The same visit goes on as ``changed`` says: another attempt, later, or elsewhere."""
        self._count(job, -1)
        self._count(changed, +1)
        self.next[job.slot] = changed

    def park(self, job: Job, reason: ParkedReason) -> None:
        """The job waits for somebody."""
        self.again(job, replace(NextJob.same(job), state=JobState.PARKED, reason=reason))
        if reason.needs_human:
            self.attention = reason
            self.audit("paused", job.step, visit=job.visit, reason=reason)

    def _count(self, job: Job | NextJob, by: int) -> None:
        """Count a job among those for which the run waits: for a human, or else for a further attempt."""
        if job.state is JobState.PARKED and ParkedReason(str(job.reason)).needs_human:
            self.progress.gates += by
        elif job.attempt > 1:
            self.progress.retrying += by

    def schedule(self, name: str) -> None:
        """A new visit to a step becomes live, in the slot that was freed last, or in a new one."""
        step = self.graph.steps[name]
        visit = self.progress.enter(self.graph, name)
        if visit > step.visit_limit:
            self.progress.leave(self.graph, name)
            self.fail(
                {
                    "type": "VisitLimitReached",
                    "message": f"step {name!r} was reached more than {step.visit_limit} times; "
                    "raise its visit_limit= if that is meant",
                    "step": name,
                }
            )
            return
        slot = self.freed.pop() if self.freed else self._new_slot()
        delay = self.graph.delay_of(step)
        self.next[slot] = NextJob(
            slot=slot,
            step=name,
            visit=visit,
            attempt=1,
            saw=self.seq,
            queue=step.options.queue,
            priority=step.options.priority,
            kind=JobKind.WAIT if step.kind is StepKind.WAIT else JobKind.STEP,
            lane=Lane.ALONE if step.irreversible else Lane.AHEAD,
            state=JobState.SLEEPING if delay > 0 else JobState.READY,
            delay=delay,
        )

    def _new_slot(self) -> int:
        self.progress.slots += 1
        return self.progress.slots - 1

    def follow(self, job: Job, outcome: str) -> bool:
        """Take the transition of ``outcome`` from a step that has left; return whether there was one."""
        edge = self.graph.edges.get((job.step, outcome))
        if edge is not None and edge.target != COMPLETE:
            self.schedule(edge.target)
        return edge is not None

    def settle_joins(self) -> None:
        """Run or skip each join that can be decided now."""
        for join, runs in joins.decisions(self.graph, self.progress):
            if runs:
                self.schedule(join)
            else:
                self.audit("skipped", join)
            if self.ending is not None:
                break

    # -- ending --------------------------------------------------------------------------------------------------

    def fail(self, error: JSONObject) -> None:
        """The run fails with ``error``: nothing is decided about it any more, so the first reason stands."""
        self.ending, self.error = RunStatus.FAILING, error

    def withdraw(self, reason: str) -> None:
        """Take away what does not execute yet.

        Raises:
            NeedsAllJobs: Not all jobs of the run were given.
        """
        if not self.has_all_jobs:
            raise NeedsAllJobs
        for _, job in sorted({**self.jobs, **self.next}.items(), key=lambda item: item[0]):
            if job is not None and job.state is not JobState.CLAIMED:
                self.record(job, AttemptStatus.CANCELLED, error={"type": "Cancelled", "message": reason})
                self.leave(job)

    def conclude(self, *, may_snapshot: bool = False) -> Plan:
        """The finished plan."""
        status = self._status()
        running = shown_status(self.run.status, claimed=True)
        if not may_move(RUN_MOVES, self.run.status, status) and not may_move(RUN_MOVES, running, status):
            raise AssertionError(f"the planner would move run {self.run.id} from {self.run.status} to {status}")
        plan = Plan(
            run=self.run,
            status=status,
            attention=self._attention(status),
            seq=self.seq,
            progress=self.progress,
            error=self.error,
            attempts=self.attempts,
            audits=self.audits,
            moved=[job for slot, job in self.next.items() if job is not None and slot in self.jobs],
            added=[job for slot, job in self.next.items() if job is not None and slot not in self.jobs],
            removed=[slot for slot, job in self.next.items() if job is None and slot in self.jobs],
            discarded=self.discarded,
            flag=status.ending and not self.run.status.ending,
        )
        if may_snapshot and not status.terminal and self._snapshot_due():
            plan.snapshot_seq, plan.seq = plan.seq, plan.seq + 1
        for job in plan.jobs:
            job.saw = job.saw if job.same_visit else plan.seq
        return plan

    def _snapshot_due(self) -> bool:
        base = max(self.progress.snapshot, SNAPSHOT_FLOOR)
        return self.progress.weight > SNAPSHOT_FACTOR * base

    def _status(self) -> RunStatus:
        """The run's status: one pure function of what is live."""
        live, progress = self.progress.live_count, self.progress
        if self.ending is not None:
            return self.ending if live else ENDS.get(self.ending, self.ending)
        if self.run.status is RunStatus.PENDING and not self.executed:
            return RunStatus.PENDING
        if not live:
            return RunStatus.COMPLETED
        if live > progress.retrying + progress.gates:
            return RunStatus.RUNNING
        return RunStatus.RETRYING if progress.retrying else RunStatus.PAUSED

    def _attention(self, status: RunStatus) -> str | None:
        if status in (RunStatus.FAILING, RunStatus.FAILED):
            return RunStatus.FAILED
        return self.attention if self.progress.gates else None
