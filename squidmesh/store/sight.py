"""The statement that looks at a run in order to explain it, and what becomes of its row."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast
from uuid import UUID

from squidmesh.planner.decisions import Vote
from squidmesh.planner.sight import MOST_AHEAD, MOST_JOBS, SeenJob, SeenMeter, SeenWorker, Sight
from squidmesh.records import Attempt, AuditEvent
from squidmesh.states import AttemptStatus
from squidmesh.store.meters import LIMIT, QUEUE, RATE
from squidmesh.store.rows import instant, job_of, locked_run_of, optional
from squidmesh.store.statements import Statement

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from squidmesh.records import JSON, JSONObject
    from squidmesh.store.statements import Row

_LOCKED_RUN = 9
"""So many columns are those of a run as planning needs it."""


def read_explanation(run_id: UUID, most_ahead: int = MOST_AHEAD) -> Statement[Sight | None]:
    """Look at a run: all that says why it is where it is, as of one instant.

    Args:
        run_id: The run.
        most_ahead: How far to count the jobs before a ready one.
    """
    params = {"run_id": run_id, "most_jobs": MOST_JOBS, "most_ahead": most_ahead}
    return Statement("read_explanation", params, lambda rows: _sight(rows[0]) if rows else None)


def _sight(row: Row) -> Sight:
    created, finished, now, workers, jobs, failed, can_go_on, done, votes, cancelled = row[_LOCKED_RUN:]
    return Sight(
        now=instant(now),
        run=locked_run_of(row[:_LOCKED_RUN]),
        created_at=instant(created),
        finished_at=instant(finished),
        jobs=tuple(_job(found) for found in optional(jobs) or ()),
        workers=workers,
        failed=None if failed is None else _attempt(optional(failed)),
        can_go_on=can_go_on,
        done=tuple(done or ()),
        votes=_votes(optional(votes) or ()),
        cancelled=None if cancelled is None else _audit(optional(cancelled)),
    )


_JOB = (
    *("slot", "state", "kind", "step", "visit", "attempt", "saw", "queue", "priority", "lane", "worker", "claim"),
    *("started", "crashes", "defers", "reason", "meters"),
)


def _job(found: JSONObject) -> SeenJob:
    worker = _id(found["worker"])
    values = {**found, "worker": worker}
    return SeenJob(
        job=job_of((UUID(found["run_id"]), *(values[column] for column in _JOB))),
        since=_instant(found["since"]),
        ready_at=_instant(found["ready_at"]),
        run_at=None if found["run_at"] is None else _instant(found["run_at"]),
        ahead=found["ahead"] or 0,
        servers=found["servers"],
        knowing=found["knowing"],
        worker=None if worker is None else _worker(worker, found["holder"]),
        last=None if found["last"] is None else _attempt(found["last"]),
        meters=tuple(_meter(meter) for meter in found["sharing"] or ()),
    )


_PARTS = {LIMIT: "limit", RATE: "rate", QUEUE: "queue"}


def _meter(found: JSONObject) -> SeenMeter:
    paused = found["paused_until"]
    return SeenMeter(
        kind=_PARTS[found["part"]],
        name=found["name"],
        held=found["held"] or 0,
        tokens=found["tokens"],
        refilled_ago=found["refilled_ago"],
        paused_until=None if paused is None else _instant(paused),
    )


def _worker(worker: UUID, row: JSONObject | None) -> SeenWorker:
    if row is None:
        return SeenWorker(id=worker, host="", pid=0, alive=False, late=None)
    return SeenWorker(id=worker, host=row["host"], pid=row["pid"], alive=row["alive"], late=row["late"])


def _attempt(found: JSONObject) -> Attempt:
    return Attempt(
        seq=found["seq"],
        step=found["step"],
        visit=found["visit"],
        attempt=found["attempt"],
        status=AttemptStatus(found["status"]),
        outcome=found["outcome"],
        output=None,
        error=found["error"],
        worker=_id(found["worker"]),
        saw=found["saw"],
        takes=None,
        started_at=None if found["started_at"] is None else _instant(found["started_at"]),
        finished_at=_instant(found["finished_at"]),
        kind=found["kind"],
    )


def _audit(found: JSONObject) -> AuditEvent:
    return AuditEvent(
        seq=found["seq"],
        type=found["type"],
        step=found["step"],
        actor=found["actor"],
        comment=found["comment"],
        metadata=found["metadata"],
        at=_instant(found["at"]),
    )


def _votes(found: Sequence[Any]) -> dict[str, list[Vote]]:
    votes: dict[str, list[Vote]] = {}
    for step, visit, actor in found:
        votes.setdefault(step, []).append(Vote(visit, actor))
    return votes


def _id(text: str | None) -> UUID | None:
    return None if text is None else UUID(text)


def _instant(text: JSON) -> datetime:
    return datetime.fromisoformat(cast("str", text)).astimezone(UTC)
