"""The records: frozen values read from the database, never written back.

Nothing here knows how it is stored. ``JSON`` is the one place where the package says "any JSON value".
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar, dataclass_transform

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus, StepStatus

JSON: TypeAlias = Any
"""Any JSON value: ``None``, ``bool``, ``int``, ``float``, ``str``, a list or an object of these."""

JSONObject: TypeAlias = dict[str, Any]
"""A JSON object: text keys, JSON values."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def hot_record(*, kw_only: bool = False) -> Callable[[type[T]], type[T]]:
    """A frozen dataclass with slots, for records of which every step or start makes some.

    Type checkers keep them frozen. Nothing does at run time, where that takes four times as long to make one.
    """
    return dataclass(slots=True, kw_only=kw_only, unsafe_hash=True)


SCHEDULE_KEY: Final = "schedule"
"""The context key under which a run that a schedule started finds its tick."""


class JobKind(StrEnum):
    """What a job is for."""

    STEP = "step"
    """Run a step's function, or write a log step's message."""
    WAIT = "wait"
    """Nothing but time."""
    GATE = "gate"
    """Wait for a person: a pause, or an approval, with or without a deadline."""
    SIGNAL = "signal"
    """Wait for a signal, with or without a time-out."""
    COMPENSATION = "compensation"
    """Undo what a completed visit did: run the step's compensation."""
    TIMER = "timer"
    """The run's deadline; it belongs to no step."""


BODILESS: Final = frozenset({JobKind.WAIT, JobKind.GATE, JobKind.SIGNAL, JobKind.TIMER})
"""What executes nothing: a worker that claims one only says that its time has come."""

DEADLINE_SLOT: Final = -1
"""The slot of a run's deadline."""


class Lane(IntEnum):
    """How a ready job may be claimed."""

    AHEAD = 0
    """Many at once, more than a worker can start right now."""
    ALONE = 1
    """Only into a free slot, marked as started in the claiming transaction: what must not be charged wrongly."""
    SUSPECT = 2
    """As ALONE, and one at a time: a worker already died with it."""
    CLOCK = 3
    """Nothing executes, its time has come: also by a worker that has no free slot."""
    METERED = 4
    """As ALONE, and as its meters allow."""
    METERED_SUSPECT = 5
    """As SUSPECT, and as its meters allow."""

    @property
    def suspect(self) -> bool:
        """Whether a worker already died with it."""
        return self in (Lane.SUSPECT, Lane.METERED_SUSPECT)


@hot_record(kw_only=True)
class Job:
    """A live step of a run.

    Args:
        run_id: Its run.
        slot: Its place in the run; a chain keeps it.
        state: Where it stands.
        kind: What it is for; a text where a newer squidmesh made it for something that this one does not know.
        step: The step's name.
        visit: Number of the visit to the step.
        attempt: Number of the current or next attempt.
        saw: The run's ``seq`` when this visit was scheduled: outputs before it are the step's input.
        queue: The queue it is filed under.
        priority: Smaller is sooner.
        lane: How it may be claimed.
        worker: Who has it.
        claim: The number under which it was last handed out.
        started: Whether the claiming transaction marked it as started.
        crashes: How often a worker died with it after such a mark.
        defers: How often the step asked to come back later.
        reason: Why it is parked, or why it was deferred.
        meters: The names of the limits and rates that it shares with others, a line each; None if it shares none.
        waited: How many seconds it had been ready when it was claimed, as the claim returns it; else 0.
    """

    run_id: UUID
    slot: int
    state: JobState
    kind: JobKind | str
    step: str
    visit: int
    attempt: int
    saw: int
    queue: str
    priority: int
    lane: Lane
    worker: UUID | None = None
    claim: int = 0
    started: bool = False
    crashes: int = 0
    defers: int = 0
    reason: ParkedReason | str | None = None
    meters: str | None = None
    waited: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One ended attempt at a step.

    Args:
        seq: Its place in the run's history.
        step: The step's name.
        visit: Number of the visit to the step.
        attempt: Number of the attempt within the visit.
        status: How it ended.
        outcome: The transition it named, if it completed.
        output: What it added to the context.
        error: Why it did not complete.
        worker: Who ran it.
        saw: Outputs before this ``seq`` were its input.
        takes: The parameters that it took, where live code differed from the run's graph.
        started_at: When the body started; None if it never did.
        finished_at: When it ended.
        kind: What it was: "step"; "compensation", which undid the visit; "copied" from the run that this one replays.
    """

    seq: int
    step: str
    visit: int
    attempt: int
    status: AttemptStatus
    outcome: str | None
    output: JSONObject | None
    error: JSONObject | None
    worker: UUID | None
    saw: int
    takes: tuple[str, ...] | None
    started_at: datetime | None
    finished_at: datetime
    kind: str = "step"

    @property
    def seconds(self) -> float | None:
        """How long the body ran; None if it never started."""
        return (self.finished_at - self.started_at).total_seconds() if self.started_at else None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    """A visit to a step: its attempts so far, and the status that follows from them.

    Args:
        step: The step's name.
        visit: Number of the visit.
        status: Where it stands.
        input: What its parameters were filled from.
        output: What it added to the context.
        error: The latest attempt's error, unless it completed.
        attempts: The ended attempts, in order.
        kind: "step"; "compensation", which undoes that visit; "copied" from the run that this one replays.
    """

    step: str
    visit: int
    status: StepStatus
    input: JSONObject
    output: JSONObject | None
    error: JSONObject | None
    attempts: tuple[Attempt, ...]
    kind: str = "step"


@dataclass(frozen=True, slots=True)
class StepState:
    """Where a step stands as the database has it: its latest attempt and its latest job.

    Args:
        step: Its name.
        ended_visit: Number of the visit that the latest attempt belongs to.
        ended: How that attempt ended.
        ended_kind: What that attempt was: "step", "compensation" or "copied".
        skipped: Whether the latest that happened to it is that it was skipped.
        visit: Number of the visit that is live.
        attempt: Number of the live visit's current or next attempt.
        saw: What the live visit saw.
        state: Where the job stands.
        due_at: When it becomes due, if it sleeps.
        reason: Why it is parked or deferred.
        kind: What the job is for.
    """

    step: str
    ended_visit: int | None
    ended: AttemptStatus | None
    ended_kind: str | None
    skipped: bool
    visit: int | None
    attempt: int | None
    saw: int | None
    state: JobState | None
    due_at: datetime | None
    reason: str | None
    kind: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclaredStep:
    """A step as the run's graph declares it, and where it stands.

    Args:
        step: Its name.
        kind: What it is: function, wait, log, pause, approval, signal.
        status: Where it stands; ``waiting`` if it was not reached.
        after: The steps it joins.
        visits: How often it was reached.
        due_at: When it becomes due, if it sleeps.
        reason: Why it is parked or deferred, if it is.
    """

    step: str
    kind: str
    status: StepStatus
    after: tuple[str, ...]
    visits: int
    due_at: datetime | None
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """Something that was done to a run, by a person or by the runtime.

    Args:
        seq: Its place in the run's history.
        type: What was done: ``paused``, ``resumed``, ``voted``, ``approved``, ``rejected``, ``signalled``,
            ``resolved``, ``routed``, ``skipped``, ``cancelled``, ``retried``, ``replayed``,
            ``compensating``, ``compensated``.
        step: The step it concerns.
        actor: Who did it, if a person did.
        comment: What they said.
        metadata: What else is known.
        at: When.
    """

    seq: int
    type: str
    step: str | None
    actor: JSON
    comment: str | None
    metadata: JSONObject
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A page of what happened in a run.

    Args:
        steps: Each step of the run's graph and where it stands.
        step_runs: The visits that have ended attempts on this page, in order of their first one; on the last page also
            those that are live and have none yet.
        audit_events: What was done to the run.
        next_seq: Pass it as ``after_seq`` to get the next page; None on the last one.
        deadline: When the run fails if it has not ended; None if it may take as long as it takes, or is ending.
    """

    steps: tuple[DeclaredStep, ...]
    step_runs: tuple[StepRun, ...]
    audit_events: tuple[AuditEvent, ...]
    next_seq: int | None
    deadline: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """Which nominal time of which schedule a run was started for, however late it began.

    Args:
        name: The schedule's name.
        workflow: The workflow's name.
        trigger_name: The trigger whose contract the payload meets.
        cron_expression: The schedule's expression.
        timezone: The zone whose clock it is read by.
        nominal_at: The nominal time, in UTC.
        window_start: Where the window begins that the run is for: the nominal time.
        window_end: Where it ends: the next nominal time; None if there is none.
        signal_id: The same text for the same window of the same trigger: for systems that must not be told twice.
        received_at: When it was started, in whole seconds, on the database's clock.
    """

    name: str
    workflow: str
    trigger_name: str
    cron_expression: str
    timezone: str
    nominal_at: datetime
    window_start: datetime
    window_end: datetime | None
    signal_id: str | None
    received_at: datetime

    def to_json(self) -> JSONObject:
        """The tick as it is stored, and as a step's parameter ``schedule`` receives it."""
        said: JSONObject = {
            "name": self.name,
            "workflow": self.workflow,
            "trigger_name": self.trigger_name,
            "cron_expression": self.cron_expression,
            "timezone": self.timezone,
            "nominal_at": instant_text(self.nominal_at),
            "received_at": instant_text(self.received_at),
        }
        if self.window_end is not None:
            window = {"start_at": instant_text(self.window_start), "end_at": instant_text(self.window_end)}
            said |= {"intended_window": window, "signal_id": self.signal_id}
        return said

    @staticmethod
    def from_json(stored: JSONObject) -> Tick:
        """The tick that ``to_json`` stored."""
        window: JSONObject = stored.get("intended_window") or {}
        nominal = datetime.fromisoformat(stored["nominal_at"])
        return Tick(
            name=stored["name"],
            workflow=stored["workflow"],
            trigger_name=stored["trigger_name"],
            cron_expression=stored["cron_expression"],
            timezone=stored["timezone"],
            nominal_at=nominal,
            window_start=datetime.fromisoformat(window["start_at"]) if window else nominal,
            window_end=datetime.fromisoformat(window["end_at"]) if window else None,
            signal_id=stored.get("signal_id"),
            received_at=datetime.fromisoformat(stored["received_at"]),
        )


def instant_text(at: datetime) -> str:
    """An instant as ISO 8601 text in UTC: ``2026-03-01T09:00:00Z``."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One execution of a workflow.

    Args:
        id: Its id.
        workflow: The workflow's name.
        trigger: The trigger that started it.
        key: The key that it was started with, if it was: no other run of the workflow has it.
        status: Where it stands.
        attention: What needs a human or ended badly; None on the happy path.
        payload: What it was started with, validated, defaults filled in.
        context: What its steps added so far; None where it was not asked for.
        current_steps: The steps that are live, in order of their names.
        error: Why it failed.
        fingerprint: Names the graph that it runs on.
        replayed_from: The run that this one replays.
        created_at: When it was started, on the database's clock.
        finished_at: When it reached its terminal status.
        history: What happened, if it was asked for.
        schedule: The nominal time that it was started for, if a schedule started it; a replay keeps it.
    """

    id: UUID
    workflow: str
    trigger: str
    key: str | None = None
    status: RunStatus
    attention: str | None
    payload: JSONObject
    context: JSONObject | None
    current_steps: tuple[str, ...]
    error: JSONObject | None
    fingerprint: str
    replayed_from: UUID | None
    created_at: datetime
    finished_at: datetime | None
    history: History | None = None
    schedule: Tick | None = None


class StrandingReason(StrEnum):
    """Why a run would wait for other code than that at hand."""

    WORKFLOW_GONE = "workflow_gone"
    """The code has no such workflow, so no function for the step."""
    STEP_GONE = "step_gone"
    """The code has the workflow, but no function for the step: it was removed or renamed."""
    COMPENSATION_GONE = "compensation_gone"
    """The code has the step, but no compensation for it any more: a run that fails could not undo it."""
    PARAMETER_MISSING = "parameter_missing"
    """The step's function needs a key now that these runs do not have: the step would fail."""
    NEWER_GRAPH = "newer_graph"
    """The graph was stored by a newer squidmesh, in a format that this one cannot read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stranding:
    """Live runs that could not get past a step with the code at hand.

    Args:
        workflow: Their workflow.
        fingerprint: Names the graph that they run on.
        step: The step; None if the whole graph is the reason.
        reason: Why.
        key: The parameter that is missing, if that is the reason.
        runs_now: How many runs are at this step now.
        runs_later: How many others can still get to it.
    """

    workflow: str
    fingerprint: str
    step: str | None
    reason: StrandingReason
    key: str | None = None
    runs_now: int
    runs_later: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployCheck:
    """What a comparison of the code at hand with the live runs found.

    Args:
        runs: How many unfinished runs were looked at.
        strandings: What would strand, by workflow, graph and step.
    """

    runs: int
    strandings: tuple[Stranding, ...]

    @property
    def ok(self) -> bool:
        """Whether every live run can finish with the code at hand."""
        return not self.strandings


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDifference:
    """How two runs' visits to a step differ. What is None, or empty, is the same in both.

    Args:
        step: The step.
        visit: Number of the visit.
        status: Where it stands in each; None for a run that did not come to it.
        outcome: How it ended in each.
        output_keys: The keys of its output that only one has, or whose values differ.
        attempts: The number of its ended attempts in each.
        error_type: The type of its error in each.
    """

    step: str
    visit: int
    status: tuple[StepStatus | None, StepStatus | None] | None = None
    outcome: tuple[str | None, str | None] | None = None
    output_keys: tuple[str, ...] = ()
    attempts: tuple[int, int] | None = None
    error_type: tuple[str | None, str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunDiff:
    """How two runs differ. What is None, or empty, is the same in both; times, workers and ids are not compared.

    Args:
        a: The one run.
        b: The other.
        workflow: The workflow of each.
        graph: The fingerprint of each one's graph.
        trigger: The trigger that started each.
        status: Where each stands.
        payload_keys: The keys that only one payload has, or whose values differ.
        steps: The visits that differ, those first that either run came to first.
    """

    a: UUID
    b: UUID
    workflow: tuple[str, str] | None
    graph: tuple[str, str] | None
    trigger: tuple[str, str] | None
    status: tuple[RunStatus, RunStatus] | None
    payload_keys: tuple[str, ...]
    steps: tuple[StepDifference, ...]

    @property
    def parted_at(self) -> StepDifference | None:
        """The first visit that differs; None if none does."""
        return self.steps[0] if self.steps else None

    @property
    def same(self) -> bool:
        """Whether nothing differs at all."""
        started = (self.workflow, self.graph, self.trigger, self.status)
        return not self.steps and not self.payload_keys and started == (None, None, None, None)
