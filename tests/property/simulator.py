"""One run and its rows in memory, changed as the database changes them: the reference model of the store.

It has no rule of its own. What happens to the run is the planner's decision; when which job is claimed, woken or ended
is up to whoever drives it. So whatever a test sees here was decided by the planner from rows as they would be stored.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar
from uuid import UUID

from squidmesh.planner.again import plan_replay, plan_retry
from squidmesh.planner.decisions import Remark, Vote, plan_review, plan_signal, plan_unblock
from squidmesh.planner.facts import Completion, Facts, KeptSignal, NeedsMore
from squidmesh.planner.graph import Graph
from squidmesh.planner.outcome import Completed, Finding, Output
from squidmesh.planner.plan import LockedRun, NewAttempt, NewAudit
from squidmesh.planner.planner import plan_cancel, plan_findings, plan_start
from squidmesh.planner.progress import Progress
from squidmesh.records import Attempt, Job, Lane
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus, shown_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squidmesh.definition import Definition
    from squidmesh.planner.again import Replay
    from squidmesh.planner.outcome import Happening
    from squidmesh.planner.plan import NextJob, Plan, StartPlan
    from squidmesh.records import JSON

T = TypeVar("T")

NOW: Final = datetime(2026, 3, 1, 9, 0, tzinfo=UTC)
RUN_ID: Final = UUID(int=0)
WORKER: Final = UUID(int=1)
OTHER_WORKER: Final = UUID(int=2)

CONTEXT: Final = Output("x" * 1024, {})
"""What every snapshot is taken of: only its weight matters here."""

Row: TypeAlias = NewAttempt | NewAudit
"""A row of the run's history."""


PLAIN: Final = {Lane.METERED: Lane.ALONE, Lane.METERED_SUSPECT: Lane.SUSPECT}
"""The lane of what is claimed without asking what it shares; its worker files it then."""


class Simulator:
    """One run and its rows.

    Args:
        definition: The workflow; the run is started at once.
        may_snapshot: Whether the context is at hand when findings are saved.
        start: What it begins with, if it is a replay that goes on from a step.

    Attributes:
        run: The run's row.
        jobs: The jobs' rows by slot.
        turns: The rows of the history, in the order in which they were saved, a tuple for each save.
    """

    def __init__(self, definition: Definition, *, may_snapshot: bool = False, start: StartPlan | None = None) -> None:
        self.graph = Graph(definition)
        self.may_snapshot = may_snapshot
        self.turns: list[tuple[Row, ...]] = []
        self.kept: list[KeptSignal] = []
        self.values: dict[str, JSON] = {}
        self._claims = 0
        new = blank(definition)
        start = start or plan_start(self.graph, new)
        self.run = replace(
            new, status=start.status, attention=start.attention, seq=start.seq, progress=stored(start.progress)
        )
        if start.audits:
            rows: list[Row] = [*start.attempts, *start.audits]
            self.turns.append(tuple(sorted(rows, key=lambda r: r.seq)))
        self.jobs = {job.slot: row(job) for job in start.jobs}

    def fork(self, run: LockedRun | None = None, jobs: Mapping[int, Job] | None = None) -> Simulator:
        """The same run, to go on with in another way, from here or from where it once stood."""
        other = copy(self)
        other.run, other.jobs = run or self.run, dict(self.jobs if jobs is None else jobs)
        other.kept = list(self.kept)
        other.turns = [turn for turn in self.turns if not turn or turn[-1].seq < other.run.seq]
        return other

    # -- what can be seen ----------------------------------------------------------------------------------------

    @property
    def history(self) -> list[Row]:
        """The rows of the history in the order of their ``seq``."""
        return [row for turn in self.turns for row in turn]

    @property
    def attempts(self) -> list[NewAttempt]:
        return [row for row in self.history if isinstance(row, NewAttempt) and row.kind == "step"]

    @property
    def audits(self) -> list[NewAudit]:
        return [row for row in self.history if isinstance(row, NewAudit)]

    @property
    def shown(self) -> RunStatus:
        """The run's status as people are shown it."""
        return shown_status(self.run.status, claimed=bool(self.slots(JobState.CLAIMED)))

    def slots(self, state: JobState) -> list[int]:
        """The slots of the jobs in this state, in order."""
        return sorted(slot for slot, job in self.jobs.items() if job.state is state)

    def waits_for_human(self, job: Job) -> bool:
        """Also for a signal: nothing that workers do brings it on."""
        return job.state is JobState.PARKED and ParkedReason(str(job.reason)) is not ParkedReason.UNKNOWN_STEP

    # -- what workers do to jobs, without asking the planner ------------------------------------------------------

    def claim(self, slot: int, worker: UUID = WORKER) -> Job:
        """Hand out a ready job, or a parked one to a worker that knows its step."""
        job = self.jobs[slot]
        known = job.state is JobState.PARKED and job.reason == ParkedReason.UNKNOWN_STEP
        assert job.state is JobState.READY or known
        self._claims += 1
        self.jobs[slot] = replace(
            job,
            state=JobState.CLAIMED,
            worker=worker,
            claim=self._claims,
            started=job.lane not in (Lane.AHEAD, Lane.CLOCK),
            reason=None if known else job.reason,
            meters=None if known else job.meters,
            lane=PLAIN.get(job.lane, job.lane) if known else job.lane,
        )
        return self.jobs[slot]

    def wake(self, slot: int) -> None:
        """Its time has come."""
        assert self.jobs[slot].state is JobState.SLEEPING
        self.jobs[slot] = replace(self.jobs[slot], state=JobState.READY)

    # -- lock, decide, save --------------------------------------------------------------------------------------

    def finding(self, slot: int, happening: Happening) -> Finding:
        """What the worker that has this job reports of it."""
        job = self.jobs[slot]
        assert job.worker is not None
        return Finding(slot, job.worker, job.claim, happening, started_ago=1.0)

    def decide(self, *findings: Finding) -> Plan:
        """What follows from these findings; only their jobs are read first, as a turn does it."""
        some = {f.slot: self.jobs[f.slot] for f in findings if f.slot in self.jobs}
        return self.ask(
            lambda jobs, facts: plan_findings(
                self.graph, self.run, jobs, findings, facts, may_snapshot=self.may_snapshot
            ),
            some,
        )

    def ask(self, decision: Callable[[dict[int, Job], Facts], T], jobs: dict[int, Job] | None = None) -> T:
        """Decide with the jobs that were read, all of them if none are named, and what else the decision asks for."""
        facts, read = Facts(jobs=jobs is None), dict(self.jobs if jobs is None else jobs)
        for _ in range(100):
            try:
                return decision(read, facts)
            except NeedsMore as needs:
                wanted = needs
            assert not (wanted.jobs and facts.jobs), "all jobs were read, and are asked for again"
            if wanted.jobs:
                read, facts.jobs = dict(self.jobs), True
            elif wanted.signals:
                facts.signals = tuple(self.kept)
            elif wanted.below is not None:
                facts.completions[wanted.below] = self._newest_completion(wanted.below)
            else:
                assert wanted.key is not None
                facts.values[wanted.key], facts.now = self.values.get(wanted.key), NOW
        raise AssertionError("a decision asks for more and more")

    def _newest_completion(self, below: int) -> Completion | None:
        done = (
            Completion(a.seq, a.step, a.visit)
            for a in reversed(self.attempts)
            if a.seq < below and a.status is AttemptStatus.COMPLETED and self.graph.steps[a.step].compensate
        )
        return next(done, None)

    def save(self, *findings: Finding) -> Plan:
        """Decide what follows from these findings, and write it."""
        plan = self.decide(*findings)
        self.apply(plan)
        return plan

    def cancel(
        self, actor: JSON = "someone", comment: str | None = None, *, compensate: bool = False, force: bool = False
    ) -> Plan | None:
        """Cancel the run."""
        plan = self.ask(
            lambda jobs, facts: plan_cancel(
                self.graph, self.run, jobs, facts, actor=actor, comment=comment, compensate=compensate, force=force
            )
        )
        if plan is not None:
            self.apply(plan)
        return plan

    def review(self, step: str | None = None, actor: JSON = "someone", *, approve: bool = True) -> Plan:
        """Approve or reject."""
        votes = self.votes()
        plan = self.ask(
            lambda jobs, facts: plan_review(
                self.graph,
                self.run,
                jobs,
                facts,
                approve=approve,
                step=step,
                remark=Remark(actor=actor),
                votes=votes,
                now=NOW,
            )
        )
        self.apply(plan)
        return plan

    def votes(self) -> dict[str, list[Vote]]:
        """The approvals that were not the last ones needed, by step."""
        found: dict[str, list[Vote]] = {}
        for audit in self.audits:
            if audit.type == "voted" and audit.step is not None:
                found.setdefault(audit.step, []).append(Vote(audit.metadata["visit"], audit.actor))
        return found

    def unblock(self, step: str | None = None, resolution: str | None = None, output: Output | None = None) -> Plan:
        """Let a paused run go on."""
        plan = self.ask(
            lambda jobs, facts: plan_unblock(
                self.graph,
                self.run,
                jobs,
                facts,
                step=step,
                resolution=resolution,
                output=output,
                remark=Remark(actor="someone"),
            )
        )
        self.apply(plan)
        return plan

    def signal(self, name: str, payload: JSON = None, key: str = "1") -> Plan:
        """Send a signal."""
        sent = Output(json.dumps(payload), payload)
        plan = self.ask(
            lambda jobs, facts: plan_signal(
                self.graph, self.run, jobs, facts, name=name, key=key, payload=sent, actor=None
            )
        )
        self.apply(plan)
        return plan

    def retry(self) -> Plan:
        """Let a failed run go on."""
        since = [ended(a) for a in self.attempts if a.seq >= self.run.progress.failed_at]
        plan = self.ask(
            lambda jobs, facts: plan_retry(
                self.graph, self.run, jobs, facts, since=since, actor="someone", comment=None
            )
        )
        self.apply(plan)
        return plan

    def replay(self, from_step: str, definition: Definition | None = None) -> tuple[Simulator, Replay]:
        """A new run that goes on from a step of this one, on another graph if one is given; and what was planned."""
        wanted = definition or self.graph.definition
        history = [ended(row) for row in self.history if isinstance(row, NewAttempt) and row.kind != "snapshot"]
        found = self.ask(
            lambda _, facts: plan_replay(Graph(wanted), blank(wanted), history, facts, from_step=from_step)
        )
        return Simulator(wanted, start=found.start), found

    def apply(self, plan: Plan) -> None:
        """Write a plan."""
        assert plan.run == self.run, "the plan was not made from the run as it is locked"
        if not plan.changes:
            return
        for slot in plan.removed:
            del self.jobs[slot]
        for job in plan.moved:
            assert job.slot in self.jobs
            self.jobs[job.slot] = row(job)
        for job in plan.added:
            assert job.slot not in self.jobs
            self.jobs[job.slot] = row(job)
        for job in plan.jobs:
            assert (job.lane >= Lane.METERED) is (job.meters is not None), (
                f"claimed without asking what it shares: {job}"
            )
        if plan.snapshot_seq is not None:
            plan.add_snapshot(CONTEXT)
        self.kept += [KeptSignal(s.name, s.key, s.payload.value) for s in plan.signals if s.consumed_by is None]
        gone = {(s.name, s.key) for s in plan.consumed}
        self.kept = [s for s in self.kept if (s.name, s.key) not in gone]
        rows: list[Row] = [*plan.attempts, *plan.audits]
        self.turns.append(tuple(sorted(rows, key=lambda r: r.seq)))
        self.run = replace(
            self.run,
            status=plan.status,
            attention=plan.attention,
            seq=plan.seq,
            progress=stored(plan.progress),
            error=plan.error,
        )

    # -- telling stories -----------------------------------------------------------------------------------------

    @property
    def live(self) -> list[str]:
        """The names of the live steps, a step with two jobs twice."""
        return sorted(job.step for job in self.jobs.values())

    @property
    def recorded(self) -> list[tuple[str, int, int, str]]:
        """Each ended attempt in short: step, visit, number, how it ended."""
        return [(a.step, a.visit, a.attempt, str(a.status)) for a in self.attempts]

    @property
    def audited(self) -> list[tuple[str, str | None]]:
        """Each audit event in short: its type and its step."""
        return [(audit.type, audit.step) for audit in self.audits]

    def slot_of(self, step: str) -> int:
        """The slot of the oldest visit to a live step."""
        return min((job.visit, slot) for slot, job in self.jobs.items() if job.step == step)[1]

    def job(self, step: str) -> Job:
        return self.jobs[self.slot_of(step)]

    def start(self, step: str, worker: UUID = WORKER) -> Job:
        """Hand a live step out, after the time that it sleeps."""
        slot = self.slot_of(step)
        if self.jobs[slot].state is JobState.SLEEPING:
            self.wake(slot)
        return self.claim(slot, worker)

    def end(self, step: str, happening: Happening | None = None) -> Plan:
        """A live step ends, well unless something else is said; it is handed out first if it was not."""
        return self.end_all({step: Completed() if happening is None else happening})

    def end_all(self, happenings: dict[str, Happening]) -> Plan:
        """Several live steps end in one batch."""
        for step in happenings:
            if self.job(step).state is not JobState.CLAIMED:
                self.start(step)
        return self.save(*(self.finding(self.slot_of(step), h) for step, h in happenings.items()))


def blank(definition: Definition) -> LockedRun:
    """A run before its start."""
    return LockedRun(
        id=RUN_ID,
        workflow=definition.workflow,
        trigger="manual",
        fingerprint=definition.fingerprint,
        status=RunStatus.PENDING,
        attention=None,
        seq=0,
        progress=Progress(),
        error=None,
    )


def row(job: NextJob) -> Job:
    """The row that a planned job becomes."""
    return Job(
        run_id=RUN_ID,
        slot=job.slot,
        state=job.state,
        kind=job.kind,
        step=job.step,
        visit=job.visit,
        attempt=job.attempt,
        saw=job.saw,
        queue=job.queue,
        priority=job.priority,
        lane=job.lane,
        crashes=job.crashes,
        defers=job.defers,
        reason=job.reason,
        meters=job.meters,
    )


def ended(attempt: NewAttempt) -> Attempt:
    """What is read back of an attempt."""
    return Attempt(
        seq=attempt.seq,
        step=attempt.step,
        visit=attempt.visit,
        attempt=attempt.attempt,
        status=attempt.status,
        outcome=attempt.outcome,
        output=attempt.output.value if attempt.output else None,
        error=attempt.error,
        worker=attempt.worker,
        saw=attempt.saw,
        takes=attempt.takes,
        started_at=None,
        finished_at=NOW,
        kind=attempt.kind,
    )


def stored(progress: Progress) -> Progress:
    """What is read back of a progress."""
    return Progress.from_json(json.loads(json.dumps(progress.to_json())))
