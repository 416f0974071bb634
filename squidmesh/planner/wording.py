"""How an explanation puts things: names, instants, durations and errors, for sentences and for JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from squidmesh.records import JobKind

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.planner.sight import SeenJob
    from squidmesh.records import JSON, Attempt, JSONObject

LONGEST_ERROR: Final = 200
"""Characters of an error that a sentence takes; the details have all of it."""

_UNITS: Final = (("d", 86400, 2 * 86400), ("h", 3600, 2 * 3600), ("min", 60, 2 * 60), ("s", 1, 0))


def lasted(seconds: float) -> str:
    """A duration, in the unit that says enough: ``45 s``, ``3 min``, ``5 h``, ``12 d``."""
    unit, size = next((unit, size) for unit, size, least in _UNITS if max(seconds, 0) >= least)
    return f"{max(seconds, 0) / size:.0f} {unit}"


def until(instant: datetime, now: datetime) -> str:
    """An instant to come, or one that has come."""
    ahead = (instant - now).total_seconds()
    return f"at {clock_time(instant)} ({f'in {lasted(ahead)}' if ahead > 0 else 'now'})"


def clock_time(instant: datetime) -> str:
    """An instant to the second."""
    return f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def iso(instant: datetime | None) -> str | None:
    """An instant as JSON has it."""
    return None if instant is None else instant.isoformat()


def counted(number: int, what: str) -> str:
    """A number of things: ``1 step``, ``2 steps``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def error_text(error: JSONObject | None) -> str:
    """An error within a sentence, without a full stop."""
    if not error:
        return "nothing is known of why"
    said = ": ".join(" ".join(str(error[key]).split()) for key in ("type", "message") if error.get(key))
    said = said.rstrip(".")
    return said if len(said) <= LONGEST_ERROR else f"{said[:LONGEST_ERROR]} ..."


def name_of(actor: JSON) -> str:
    """Whoever acts, within a sentence: their name, if they have one."""
    if not isinstance(actor, dict):
        return str(actor)
    known = cast("JSONObject", actor)
    return str(next((known[key] for key in ("name", "email", "id") if known.get(key)), known))


def what_of(seen: SeenJob) -> str:
    """A live step within a sentence, at its beginning or not."""
    undoing = "undoing of step" if seen.job.kind == JobKind.COMPENSATION else "step"
    return f"{undoing} {seen.job.step!r}"


def job_json(seen: SeenJob) -> JSONObject:
    """A job as evidence."""
    job = seen.job
    return {
        "step": job.step,
        "kind": str(job.kind),
        "visit": job.visit,
        "attempt": job.attempt,
        "state": str(job.state),
        "reason": job.reason,
        "queue": job.queue,
        "priority": job.priority,
        "lane": int(job.lane),
        "worker": str(job.worker) if job.worker else None,
        "crashes": job.crashes,
        "defers": job.defers,
        "since": iso(seen.since),
        "ready_at": iso(seen.ready_at),
        "run_at": iso(seen.run_at),
    }


def attempt_json(attempt: Attempt) -> JSONObject:
    """An ended attempt as evidence; what it returned is in the history."""
    return {
        "seq": attempt.seq,
        "step": attempt.step,
        "kind": attempt.kind,
        "visit": attempt.visit,
        "attempt": attempt.attempt,
        "status": str(attempt.status),
        "outcome": attempt.outcome,
        "error": attempt.error,
        "worker": str(attempt.worker) if attempt.worker else None,
        "started_at": iso(attempt.started_at),
        "finished_at": iso(attempt.finished_at),
    }


def worker_json(seen: SeenJob) -> JSONObject | None:
    """The worker that has a job as evidence."""
    worker = seen.worker
    if worker is None:
        return None
    return {
        "id": str(worker.id),
        "host": worker.host,
        "pid": worker.pid,
        "alive": worker.alive,
        "late_seconds": worker.late,
    }
