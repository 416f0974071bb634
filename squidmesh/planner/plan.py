"""A plan: everything that is to be written to one run because of what happened to it.

A plan writes one run. The save path writes many plans at once, set-wise, and knows nothing of why.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from squidmesh.records import JobKind, Lane, hot_record
from squidmesh.states import AttemptStatus, JobState, RunStatus, shown_status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from squidmesh.planner.outcome import Finding, Output
    from squidmesh.planner.progress import Progress
    from squidmesh.records import JSON, Job, JSONObject


@hot_record(kw_only=True)
class LockedRun:
    """What planning needs of a run's row, read under its lock.

    Args:
        id: The run.
        workflow: Its workflow's name.
        trigger: The trigger that started it.
        fingerprint: Names the graph it runs on.
        status: As stored (``states.shown_status`` says what is shown).
        attention: As stored.
        seq: The next place in its history.
        progress: How far it has come.
        error: Why it is failing, if it is.
    """

    id: UUID
    workflow: str
    trigger: str
    fingerprint: str
    status: RunStatus
    attention: str | None
    seq: int
    progress: Progress
    error: JSONObject | None


@hot_record(kw_only=True)
class NewAttempt:
    """An attempt to insert; times are seconds before the database's now."""

    seq: int
    step: str
    visit: int
    attempt: int
    status: AttemptStatus
    saw: int
    outcome: str | None = None
    output: Output | None = None
    error: JSONObject | None = None
    worker: UUID | None = None
    started_ago: float | None = None
    finished_ago: float = 0.0
    takes: tuple[str, ...] | None = None
    kind: str = "step"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewAudit:
    """An audit event to insert."""

    seq: int
    type: str
    step: str | None = None
    actor: JSON = None
    comment: str | None = None
    metadata: JSONObject = field(default_factory=dict[str, "JSON"])


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignal:
    """A signal to insert: what was sent to the run.

    Args:
        name: Its name.
        key: The sender's name for this delivery.
        payload: What was sent.
        seq: Its place in the run's history.
        consumed_by: The ``seq`` of the attempt that it ended; None if nothing waits for it yet.
    """

    name: str
    key: str
    payload: Output
    seq: int
    consumed_by: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumedSignal:
    """A signal that was kept, and has ended an attempt now."""

    name: str
    key: str
    consumed_by: int


@dataclass(slots=True, kw_only=True)
class NextJob:
    """A job as it shall be; its fields are those of ``records.Job``.

    Args:
        saw: Filled in when the plan is concluded, unless it goes on with the same visit.
        delay: Seconds that it sleeps first.
        same_visit: Whether it goes on with the visit that the job stood for already.
        worker: Who has it: the planner makes jobs ready; a worker that keeps the successor says so here.
        claim: The claim number under which it is kept.
        meters: What it is filed under; the planner does not ask what a step shares with others, the worker says so.
    """

    slot: int
    step: str
    visit: int
    attempt: int
    queue: str
    priority: int
    saw: int = 0
    kind: JobKind | str = JobKind.STEP
    lane: Lane = Lane.AHEAD
    state: JobState = JobState.READY
    delay: float = 0.0
    crashes: int = 0
    defers: int = 0
    reason: str | None = None
    same_visit: bool = False
    worker: UUID | None = None
    claim: int = 0
    meters: str | None = None

    @staticmethod
    def same(job: LiveJob) -> NextJob:
        """The same visit of the same step, ready at once."""
        return NextJob(
            slot=job.slot,
            step=job.step,
            visit=job.visit,
            attempt=job.attempt,
            queue=job.queue,
            priority=job.priority,
            saw=job.saw,
            kind=job.kind,
            lane=job.lane,
            crashes=job.crashes,
            defers=job.defers,
            reason=job.reason if job.kind in (JobKind.GATE, JobKind.SIGNAL) else None,
            same_visit=True,
            meters=job.meters,
        )

    @property
    def started(self) -> bool:
        """Whether it is marked as started: whoever claims it begins with it at once."""
        return self.state is JobState.CLAIMED and self.lane is not Lane.AHEAD

    def after(self, delay: float) -> NextJob:
        """This job, after sleeping ``delay`` seconds."""
        self.delay, self.state = delay, JobState.SLEEPING if delay > 0 else JobState.READY
        return self


LiveJob: TypeAlias = "Job | NextJob"
"""A live job: as it was read, or as it was written by who has it since."""


@dataclass(slots=True, kw_only=True)
class Plan:
    """What is to be written to one run.

    Args:
        run: The run as it was locked.
        status: Its status from now on.
        attention: Its attention from now on.
        seq: The next place in its history from now on.
        progress: Its progress from now on.
        error: Why it is failing or has failed.
        attempts: Attempts to insert.
        audits: Audit events to insert.
        moved: Jobs to update in place, by their slot.
        added: Jobs to insert.
        removed: Slots of the jobs to delete.
        discarded: Findings that came too late: their job is no longer the finder's.
        snapshot_seq: Place in the history reserved for a snapshot of the context, if one is due.
        flag: Whether the jobs that still execute are to be told to stop.
        signals: Signals to insert.
        consumed: Signals that were kept, and are consumed now.
        pauses: MeterTable that are paused, and for how many seconds.
    """

    run: LockedRun
    status: RunStatus
    attention: str | None
    seq: int
    progress: Progress
    error: JSONObject | None
    attempts: list[NewAttempt]
    audits: list[NewAudit]
    moved: list[NextJob]
    added: list[NextJob]
    removed: list[int]
    discarded: list[Finding]
    snapshot_seq: int | None = None
    flag: bool = False
    signals: Sequence[NewSignal] = ()
    consumed: Sequence[ConsumedSignal] = ()
    pauses: Sequence[tuple[str, float]] = ()

    @property
    def jobs(self) -> list[NextJob]:
        """The jobs that the run has from now on because of the plan."""
        return [*self.moved, *self.added]

    @property
    def changes(self) -> bool:
        """Whether there is anything to write at all."""
        watch = self.progress.watched is not self.run.progress.watched
        return bool(self.seq != self.run.seq or self.moved or self.removed or watch)

    def add_snapshot(self, context: Output) -> None:
        """Fill in the snapshot that is due: everything that earlier outputs came to, in one."""
        assert self.snapshot_seq is not None, "no snapshot is due"  # noqa: S101 - a programming error
        self.attempts.append(
            NewAttempt(
                kind="snapshot",
                seq=self.snapshot_seq,
                step="",
                visit=0,
                attempt=0,
                status=AttemptStatus.COMPLETED,
                saw=self.snapshot_seq,
                output=context,
            )
        )
        self.progress.weight, self.progress.snapshot = 0, len(context.text)

    @property
    def finished(self) -> bool:
        """Whether the run reaches its terminal status with this plan."""
        return self.status.terminal and not self.run.status.terminal

    @property
    def shown_move(self) -> tuple[RunStatus, RunStatus]:
        """The move as seen from outside: a run of which a step was executing was running, whatever was stored."""
        executed = any(attempt.worker is not None for attempt in self.attempts)
        return shown_status(self.run.status, claimed=executed or self.status.ending), self.status


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StartPlan:
    """What is to be inserted for a new run; the same for all runs of one graph that begin at the beginning.

    It is equal only to itself.

    Args:
        status: Pending; or what follows from waiting for people or signals at once.
        attention: What needs a human.
        seq: The next place in its history.
        progress: The progress of a run whose first steps are scheduled.
        jobs: The jobs that it begins with.
        attempts: What it takes over from the run that it replays.
        audits: What was done to it already.
    """

    status: RunStatus
    progress: Progress
    jobs: tuple[NextJob, ...]
    attention: str | None = None
    seq: int = 1
    attempts: tuple[NewAttempt, ...] = ()
    audits: tuple[NewAudit, ...] = ()

    @staticmethod
    def of(plan: Plan) -> StartPlan:
        """The start that a plan for a blank run comes to."""
        return StartPlan(
            status=plan.status,
            attention=plan.attention,
            seq=plan.seq,
            progress=plan.progress,
            jobs=tuple(plan.added),
            attempts=tuple(plan.attempts),
            audits=tuple(plan.audits),
        )
