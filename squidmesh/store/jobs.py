"""Statements about jobs: lock, read, claim, wake, tell."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, TypeVar, cast
from uuid import UUID

from squidmesh.records import JobKind, hot_record
from squidmesh.store import columns
from squidmesh.store.codec import decode
from squidmesh.store.rows import jobs_of, optional
from squidmesh.store.statements import Statement, nothing

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from squidmesh.planner.plan import LiveJob
    from squidmesh.records import Job, JSONObject, Lane
    from squidmesh.store.statements import Row, Rows

J = TypeVar("J", bound="LiveJob")

NOBODY: Final = UUID(int=0)
WAKE_BATCH = 1000
"""At most so many jobs of a queue are woken at once: what is due goes on in the next turn."""

FIRST: Final = -(2**15)
LAST: Final = 2**15 - 1
"""The priorities of what goes first and last; they are a smallint."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many jobs of one lane of one queue may be claimed.

    Args:
        queue: The queue.
        lane: The lane.
        limit: At most so many.
        floors: (priority, seconds) in order of priority: of these, only what became ready so long ago or later is
            looked at; what is older was not ready when somebody looked. Of other priorities everything is.
        worst: The worst priority that they may have: less urgent ones are left alone.
    """

    queue: str
    lane: Lane
    limit: int
    floors: tuple[tuple[int, float], ...] = ()
    worst: int = LAST


@dataclass(frozen=True, slots=True)
class Woken:
    """What came of waking.

    Args:
        count: How many jobs were made ready.
        dues: Seconds until the next one of a queue is due; 0 if some are due still, because there are more, or somebody
            holds them. A queue in which none sleeps is not in it.
    """

    count: int
    dues: Mapping[str, float]


@hot_record()
class Material:
    """What handed-out jobs need of their run.

    Args:
        run_id: The run.
        workflow: Its workflow's name.
        trigger: The trigger that started it.
        fingerprint: Names the graph it runs on.
        status: As stored.
        payload: What it was started with.
        error: Why it is ending, if it is.
        schedule: The nominal time that it was started for, as stored; None if no schedule started it.
        outputs: (seq, output) in order, from the last snapshot that all of the jobs saw.
        payload_size: Bytes of the payload as JSON text.
        size: Bytes of the payload and the outputs.
    """

    run_id: UUID
    workflow: str
    trigger: str
    fingerprint: str
    status: str
    payload: JSONObject
    error: JSONObject | None
    schedule: JSONObject | None
    outputs: tuple[tuple[int, JSONObject], ...]
    payload_size: int = 0
    size: int = 0


def check_fences(worker: UUID, jobs: Sequence[tuple[UUID, J]]) -> Statement[list[tuple[UUID, J]]]:
    """Of the jobs of locked runs that a worker was handed out, those that are still its own, and so as it knows them.

    Args:
        worker: The worker.
        jobs: The jobs as they were handed out to it, each with its run.
    """
    params: dict[str, object] = {
        "run_ids": columns.ids(run_id for run_id, _ in jobs),
        "slots": columns.whole(job.slot for _, job in jobs),
        "claims": columns.whole(job.claim for _, job in jobs),
        "worker": worker,
    }
    return Statement("check_fences", params, lambda rows: [jobs[place - 1] for (place,) in rows])


def lock_jobs(run_ids: Sequence[UUID]) -> Statement[list[Job]]:
    """Lock and read all jobs of locked runs."""
    return Statement("lock_jobs", {"run_ids": columns.ids(run_ids)}, jobs_of)


def claim_jobs(worker: UUID, claim: int, rooms: Sequence[Room]) -> Statement[list[Job]]:
    """Claim ready jobs."""
    params: dict[str, object] = {
        "queues": columns.texts(room.queue for room in rooms),
        "lanes": columns.whole(room.lane for room in rooms),
        "limits": columns.whole(room.limit for room in rooms),
        "firsts": columns.texts(columns.whole([FIRST, *(p for p, _ in room.floors)]) for room in rooms),
        "ages": columns.texts(columns.numbers([None, *(age for _, age in room.floors)]) for room in rooms),
        "belows": columns.texts(
            columns.whole(min(p, room.worst + 1) for p in [*(p for p, _ in room.floors), LAST + 1]) for room in rooms
        ),
        "kinds": columns.texts(JobKind),
        "worker": worker,
        "claim": claim,
    }
    return Statement("claim_jobs", params, jobs_of)


def adopt_jobs(
    worker: UUID, claim: int, rooms: Sequence[Room], knows: Iterable[str], unreadable: Iterable[str] = ()
) -> Statement[list[Job]]:
    """Claim jobs that were parked because no worker knew their step.

    Args:
        worker: Who claims.
        claim: The claim number.
        rooms: How many of each queue.
        knows: ``workflow/step`` of each step that the worker can run.
        unreadable: Fingerprints of the graphs that it cannot read.
    """
    params: dict[str, object] = {
        "queues": columns.texts(room.queue for room in rooms),
        "limits": columns.whole(room.limit for room in rooms),
        "knows": columns.texts(knows),
        "unreadable": columns.texts(unreadable),
        "worker": worker,
        "claim": claim,
    }
    return Statement("adopt_jobs", params, jobs_of)


def read_claimed(keys: Sequence[tuple[UUID, int]] = ()) -> Statement[list[Material]]:
    """Read what claimed jobs need of their runs.

    Args:
        keys: (run, saw) of jobs beside those that ``claim_jobs`` claimed in this transaction.
    """
    params = {"run_ids": columns.ids(r for r, _ in keys), "saws": columns.whole(s for _, s in keys)}
    return Statement("read_claimed", params, lambda rows: [_material_of(row) for row in rows])


def _material_of(row: Row) -> Material:
    run_id, workflow, trigger, fingerprint, status, payload, error, schedule, seqs, texts = row
    outputs = tuple((seq, cast("JSONObject", decode(text))) for seq, text in zip(seqs or (), texts or (), strict=True))
    given = cast("JSONObject", decode(payload))
    return Material(
        run_id=run_id,
        workflow=workflow,
        trigger=trigger,
        fingerprint=fingerprint,
        status=status,
        payload=given,
        error=optional(error),
        schedule=optional(schedule),
        outputs=outputs,
        payload_size=len(payload),
        size=len(payload) + sum(map(len, texts or ())),
    )


def wake_jobs(
    free: Mapping[str, int],
    channel: str = "",
    worker: UUID = NOBODY,
    most: int = WAKE_BATCH,
    floors: Mapping[str, float] = MappingProxyType({}),
) -> Statement[Woken]:
    """Make due jobs ready, and learn when the next ones are due.

    Args:
        free: The queues, and how many jobs of each the caller can begin at once.
        channel: Where workers that sleep are told of what is more than that.
        worker: Who wakes; it is not told.
        most: At most so many of each queue.
        floors: Of these queues, only what was due so many seconds ago or later is looked at.
    """
    params: dict[str, object] = {
        "queues": columns.texts(free),
        "free": columns.whole(free.values()),
        "ages": columns.numbers(floors.get(queue) for queue in free),
        "most": most,
        "channel": channel,
        "worker": worker,
    }
    return Statement("wake_jobs", params, _woken)


def _woken(rows: Rows) -> Woken:
    dues = {queue: seconds for queue, _, seconds, _ in rows if seconds is not None}
    return Woken(sum(count for _, count, _, _ in rows), dues)


def find_work(queues: Iterable[str], worker: UUID) -> Statement[tuple[bool, float | None]]:
    """Whether there is something to do for a worker, and the seconds until its next timer (None: none sleeps)."""
    params: dict[str, object] = {"queues": columns.texts(queues), "worker": worker}
    return Statement("find_work", params, lambda rows: (rows[0][0], rows[0][1]))


def list_claimed(worker: UUID) -> Statement[list[Job]]:
    """What the database says a worker has."""
    return Statement("list_claimed", {"worker": worker}, jobs_of)


def list_flagged(worker: UUID) -> Statement[list[tuple[UUID, int, int]]]:
    """(run, slot, claim) of a worker's jobs whose run is ending."""
    return Statement("list_flagged", {"worker": worker}, lambda rows: [(r, s, c) for r, s, c in rows])


def pin_plans() -> Statement[None]:
    """Pin the plans of the engine's statements for this transaction."""
    return Statement("pin_plans", {}, nothing)


def notify(channel: str, payloads: Sequence[str]) -> Statement[None]:
    """Tell listeners something when the transaction commits."""
    return Statement("notify", {"channel": channel, "payloads": columns.texts(payloads)}, nothing)


def notify_idle(channel: str, queues: Sequence[str], worker: UUID | None = None) -> Statement[None]:
    """Tell workers that sleep, other than the one that knows already, to look into queues."""
    params: dict[str, object] = {"channel": channel, "queues": columns.texts(queues), "worker": worker}
    return Statement("notify_idle", params, nothing)
