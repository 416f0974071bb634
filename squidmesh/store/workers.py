"""Statements about workers: announce, renew, look for the dead."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from squidmesh.store import columns
from squidmesh.store.statements import Statement, nothing

if TYPE_CHECKING:
    from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker as it announces itself.

    Args:
        id: Random, new at each start; never the host's name.
        pid: Its process.
        host: Its machine, for people.
        version: The version of squidmesh that it runs.
        queues: The queues that it serves.
        knows: ``workflow/step`` of each step that it can run.
    """

    id: UUID
    pid: int
    host: str
    version: str
    queues: tuple[str, ...]
    knows: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LateWorker:
    """A worker whose lease is past, or says nothing because the clock was set back; or that was declared dead.

    Args:
        id: Its id.
        beats: Its beat counter.
        dead: Whether it was declared dead.
        host: Its machine.
        pid: Its process.
        late: Seconds since its lease ended, by the database's clock; below 0 if that was set back.
        silence: Seconds that it may be silent, where its lease says nothing.
    """

    id: UUID
    beats: int
    dead: bool
    host: str
    pid: int
    late: float
    silence: float = 0.0

    @property
    def overdue(self) -> float:
        """Seconds that it is late, as told to people."""
        return max(self.late, 0.0)


def register_worker(record: WorkerRecord, lease: float) -> Statement[None]:
    """Announce a worker with a lease of so many seconds."""
    params: dict[str, object] = {
        "id": record.id,
        "pid": record.pid,
        "host": record.host,
        "version": record.version,
        "queues": columns.texts(record.queues),
        "knows": columns.texts(record.knows),
        "lease": lease,
    }
    return Statement("register_worker", params, nothing)


def renew_worker(worker: UUID, lease: float) -> Statement[bool]:
    """Renew a lease; the result is False if the worker was declared dead."""
    return Statement("renew_worker", {"id": worker, "lease": lease}, bool)


def list_late_workers(asking: UUID) -> Statement[list[LateWorker]]:
    """The other workers that are late or dead."""
    return Statement("list_late_workers", {"id": asking}, lambda rows: [LateWorker(*row) for row in rows])


def declare_dead(worker: UUID, beats: int) -> Statement[bool]:
    """Declare a worker dead, unless it has beaten since; the result is whether it is dead now."""
    return Statement("declare_dead", {"id": worker, "beats": beats}, bool)


def remove_worker(worker: UUID) -> Statement[None]:
    """Take a worker's row away."""
    return Statement("remove_worker", {"id": worker}, nothing)


def set_idle(worker: UUID, *, idle: bool) -> Statement[None]:
    """Say whether a worker sleeps."""
    return Statement("set_idle", {"id": worker, "idle": idle}, nothing)
