"""Rows to records: what the columns of the reading statements become."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final, cast

from squidmesh.planner.plan import LockedRun
from squidmesh.planner.progress import Progress
from squidmesh.records import Attempt, AuditEvent, Job, JobKind, JSONObject, Lane, Run, StepState, Tick
from squidmesh.states import AttemptStatus, JobState, RunStatus, shown_status
from squidmesh.store.codec import decode

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.store.statements import Row, Rows


_STATES: Final = {state.value: state for state in JobState}
_KINDS: Final[dict[str, JobKind]] = {kind.value: kind for kind in JobKind}
_STATUSES: Final = {status.value: status for status in RunStatus}
_LANES: Final[dict[int, Lane]] = {lane.value: lane for lane in Lane}
"""Looking a member up costs a tenth of calling its class, and these are looked up for every step."""

_STATE: Final = 7
"""The column of a locked run's progress."""


def optional(text: str | None) -> Any:
    """The value of a JSON text that may be null in the database."""
    return None if text is None else decode(text)


def job_of(row: Row) -> Job:
    """A job, from the columns that all statements on jobs share."""
    run_id, slot, state, kind, step, visit, attempt, saw, queue, priority, lane, worker, claim, started, *rest = row
    crashes, defers, reason, meters, *waited = rest
    return Job(
        run_id=run_id,
        slot=slot,
        state=_STATES[state],
        kind=_KINDS.get(kind) or str(kind),
        step=step,
        visit=visit,
        attempt=attempt,
        saw=saw,
        queue=queue,
        priority=priority,
        lane=_LANES[lane],
        worker=worker,
        claim=claim,
        started=started,
        crashes=crashes,
        defers=defers,
        reason=reason,
        meters=meters,
        waited=waited[0] if waited else 0.0,
    )


def instant(value: datetime | None) -> Any:
    """An instant in UTC, whatever time zone the session has."""
    return None if value is None else value.astimezone(UTC)


def jobs_of(rows: Rows) -> list[Job]:
    """Jobs."""
    return [job_of(row) for row in rows]


def locked_runs_of(rows: Rows) -> list[LockedRun]:
    """Runs as planning needs them; those that have come as far share their progress, of which planning takes a copy."""
    read = {state: _progress_of(state) for state in {row[_STATE] for row in rows}}
    return [locked_run_of(row, read[row[_STATE]]) for row in rows]


def locked_run_of(row: Row, progress: Progress | None = None) -> LockedRun:
    """A run as planning needs it, and its progress if that was read already."""
    run_id, workflow, trigger, fingerprint, status, attention, seq, state, error = row
    return LockedRun(
        id=run_id,
        workflow=workflow,
        trigger=trigger,
        fingerprint=fingerprint,
        status=_STATUSES[status],
        attention=attention,
        seq=seq,
        progress=_progress_of(state) if progress is None else progress,
        error=optional(error),
    )


def _progress_of(state: str) -> Progress:
    return Progress.from_json(cast("JSONObject", decode(state)))


def run_of(row: Row) -> Run:
    """A run as users see it."""
    run_id, workflow, trigger, key, status, attention, payload, error, fingerprint, source, created, *rest = row
    finished, schedule, claimed, steps = rest
    return Run(
        id=run_id,
        workflow=workflow,
        trigger=trigger,
        key=key,
        status=shown_status(RunStatus(status), claimed=claimed),
        attention=attention,
        payload=cast("JSONObject", decode(payload)),
        context=None,
        current_steps=tuple(steps),
        error=optional(error),
        fingerprint=fingerprint,
        replayed_from=source,
        created_at=instant(created),
        finished_at=instant(finished),
        schedule=None if schedule is None else Tick.from_json(cast("JSONObject", decode(schedule))),
    )


def attempt_of(row: Row) -> Attempt:
    """An ended attempt."""
    seq, step, visit, attempt, status, outcome, output, error, worker, saw, takes, started, finished, kind = row
    return Attempt(
        seq=seq,
        step=step,
        visit=visit,
        attempt=attempt,
        status=AttemptStatus(status),
        outcome=outcome,
        output=optional(output),
        error=optional(error),
        worker=worker,
        saw=saw,
        takes=None if takes is None else tuple(takes),
        started_at=instant(started),
        finished_at=instant(finished),
        kind=kind,
    )


def step_state_of(row: Row) -> StepState:
    """Where a step stands."""
    step, ended_visit, ended, ended_kind, skipped, visit, attempt, saw, state, due_at, reason, kind = row
    return StepState(
        step=step,
        ended_visit=ended_visit,
        ended=AttemptStatus(ended) if ended else None,
        ended_kind=ended_kind,
        skipped=skipped,
        visit=visit,
        attempt=attempt,
        saw=saw,
        state=JobState(state) if state else None,
        due_at=instant(due_at),
        reason=reason,
        kind=kind,
    )


def audit_of(row: Row) -> AuditEvent:
    """An audit event."""
    seq, type_, step, actor, comment, metadata, at = row
    return AuditEvent(
        seq=seq,
        type=type_,
        step=step,
        actor=optional(actor),
        comment=comment,
        metadata=cast("JSONObject", decode(metadata)),
        at=instant(at),
    )
