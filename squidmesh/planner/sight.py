"""What is seen of a run in order to explain it: rows of one instant, read without a lock, and nothing derived."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from squidmesh.planner.decisions import Vote
    from squidmesh.planner.plan import LockedRun
    from squidmesh.records import Attempt, AuditEvent, Job

MOST_JOBS: Final = 200
"""So many live steps of a run are looked at; those that wait for people are among them."""

MOST_AHEAD: Final = 1000
"""So far the jobs are counted that come before a ready one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenWorker:
    """The worker that has a job.

    Args:
        id: Its id.
        host: Its machine; empty if its row is gone.
        pid: Its process.
        alive: Whether it has a lease that is not past.
        late: Seconds since its lease ended; negative while it lasts, None if its row is gone.
    """

    id: UUID
    host: str
    pid: int
    alive: bool
    late: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenMeter:
    """What a ready job shares with others: a limit, a rate, or the limit of its queue.

    Args:
        kind: ``limit``, ``rate`` or ``queue``.
        name: Its name.
        held: How many hold it, if it is a limit.
        tokens: What was left of a rate's bucket when somebody last took of it; None if nobody has.
        refilled_ago: How many seconds ago that was.
        paused_until: Until when nothing that shares it may begin, if it was ever paused.
    """

    kind: str
    name: str
    held: int = 0
    tokens: float | None = None
    refilled_ago: float | None = None
    paused_until: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenJob:
    """A live step, and what it depends on whether it gets on.

    Args:
        job: The job.
        since: When this visit became live.
        ready_at: When it last became ready.
        run_at: When it becomes ready, if it sleeps.
        ahead: If it is ready: how many of its queue and lane come before it, or of those that share all of its meters;
            not counted beyond ``MOST_AHEAD``.
        servers: How many live workers serve its queue.
        knowing: How many of these have a function for its step.
        worker: Who has it, if somebody has.
        last: The latest ended attempt at this visit, without its output.
        meters: If it is ready: what it shares with others.
    """

    job: Job
    since: datetime
    ready_at: datetime
    run_at: datetime | None = None
    ahead: int = 0
    servers: int = 0
    knowing: int = 0
    worker: SeenWorker | None = None
    last: Attempt | None = None
    meters: tuple[SeenMeter, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A run as it was seen.

    Args:
        now: The database's time.
        run: The run; it was not locked.
        created_at: When it was started.
        finished_at: When it ended.
        jobs: Its jobs, of which there may be more if there are ``MOST_JOBS``.
        workers: How many live workers there are, whatever they serve.
        failed: What ended at the place in the history where the run failed, without its output.
        can_go_on: Whether it can be retried, if it has failed; as read, whether attempts have ended from there on.
        done: Of a run that is over: the steps that were done, or may have been.
        votes: The approvals so far that were not the last ones needed, by step.
        cancelled: Who cancelled it.
    """

    now: datetime
    run: LockedRun
    created_at: datetime
    finished_at: datetime | None = None
    jobs: tuple[SeenJob, ...] = ()
    workers: int = 0
    failed: Attempt | None = None
    can_go_on: bool = False
    done: tuple[str, ...] = ()
    votes: Mapping[str, Sequence[Vote]] = field(default_factory=dict[str, "Sequence[Vote]"])
    cancelled: AuditEvent | None = None
