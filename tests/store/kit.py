"""What the store's tests share: sessions that may block, and short ways to make runs and plans."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID, uuid4

import psycopg

from squidmesh.clock import new_id
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import NewAttempt, NextJob, Plan, StartPlan
from squidmesh.planner.progress import Progress
from squidmesh.records import Lane
from squidmesh.states import AttemptStatus, JobState, RunStatus
from squidmesh.store.database import drive
from squidmesh.store.jobs import WAKE_BATCH, Room, claim_jobs, notify, wake_jobs
from squidmesh.store.runs import NewRuns, lock_run, lock_runs, start_runs
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import SCHEMA_MARK, Batch, Flow, Statement
from squidmesh.store.workers import WorkerRecord, register_worker
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future
    from contextlib import AbstractContextManager

    from squidmesh.planner.plan import LockedRun
    from squidmesh.records import Job, JSONObject

T = TypeVar("T")

SCHEMA: Final = "store_tests"
"""Not the default one: what would not be replaced in the SQL is found by every test."""

CHANNEL: Final = "store_tests"

TABLES: Final = ("runs", "jobs", "attempts", "audit_events", "signals", "workers", "definitions", "schedules", "meters")


class Session:
    """A session of the database, in autocommit mode, with a thread for statements that may block."""

    def __init__(self, dsn: str) -> None:
        self.connection = psycopg.connect(dsn, autocommit=True)
        self.pid = self.connection.info.backend_pid
        self._dsn = dsn
        self._thread = ThreadPoolExecutor(1)
        self._busy: Future[Any] | None = None

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a transaction of its own."""
        return drive(self.connection, operation, SCHEMA)

    def within(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in the transaction that is open."""
        return drive(self.connection, operation, SCHEMA, own_transaction=False)

    def transaction(self) -> AbstractContextManager[psycopg.Transaction]:
        """A transaction around ``within``."""
        return self.connection.transaction()

    def later(self, operation: Callable[[], T]) -> Future[T]:
        """Call something on the session's own thread: it may block until another session lets go."""
        future = self._busy = self._thread.submit(operation)
        return future

    def rows(self, query: str, *params: object) -> list[Any]:
        """The rows of a query, which names the schema as the SQL files do."""
        return self.connection.execute(in_schema(query), params).fetchall()

    def value(self, query: str, *params: object) -> Any:
        """The first column of a query's only row."""
        ((value, *_),) = self.rows(query, *params)
        return value

    def close(self) -> None:
        """Leave, also from a statement that would block for ever."""
        if self._busy is not None and not self._busy.done():
            with psycopg.connect(self._dsn, autocommit=True) as killer:
                killer.execute("SELECT pg_terminate_backend(%s)", [self.pid])
        self._thread.shutdown()
        self.connection.close()


def in_schema(query: str) -> bytes:
    """A query for the tests' schema."""
    return query.replace(SCHEMA_MARK, f"{SCHEMA}.").encode()


def together(*statements: Statement[Any]) -> Flow[list[Any]]:
    """Statements as one batch of one transaction."""
    return (yield Batch(statements, last=True))


def until_blocked(observer: Session, blocked: Session) -> None:
    """Wait until a session waits for another's lock."""
    asked = "SELECT cardinality(pg_blocking_pids(%s)) > 0"
    until(lambda: observer.value(asked, blocked.pid), what="a session that waits for a lock")


def entry(step: str = "first", **changes: Any) -> NextJob:
    """An entry step's job, in slot 0 if nothing else is said."""
    return replace(NextJob(slot=0, step=step, visit=1, attempt=1, queue="default", priority=0), **changes)


def start_plan(*jobs: NextJob) -> StartPlan:
    """What a run begins with that has these entry steps."""
    count = len(jobs)
    progress = Progress(live=(1 << count) - 1, seen=(1 << count) - 1, slots=count)
    return StartPlan(status=RunStatus.PENDING, progress=progress, jobs=jobs)


def new_runs(count: int = 1, *jobs: NextJob, **changes: Any) -> NewRuns:
    """Runs to start; one entry step if nothing else is said."""
    runs = NewRuns(
        ids=new_id.many(count),
        payloads=["{}"] * count,
        workflow="orders",
        fingerprint="f1",
        trigger="manual",
        plan=replace(start_plan(*(jobs or (entry(),))), seq=changes.pop("seq", 1)),
    )
    return replace(runs, **changes)


def start(session: Session, count: int = 1, *jobs: NextJob, **changes: Any) -> list[UUID]:
    """Start runs and return their ids."""
    new = new_runs(count, *jobs, **changes)
    session.run(start_runs(new, CHANNEL, always_notify=False))
    return list(new.ids)


def register(session: Session, *queues: str, knows: Sequence[str] = (), lease: float = 60.0) -> UUID:
    """Announce a worker and return its id."""
    record = WorkerRecord(
        id=new_id(), pid=1, host="here", version="0", queues=queues or ("default",), knows=tuple(knows)
    )
    session.run(register_worker(record, lease))
    return record.id


def rooms(limit: int, *queues: str, lane: Lane = Lane.AHEAD) -> list[Room]:
    """Room for so many jobs of each queue."""
    return [Room(queue, lane, limit) for queue in queues or ("default",)]


def claim(session: Session, limit: int = 100, *, worker: UUID | None = None, number: int = 1) -> list[Job]:
    """Claim ready jobs of the default queue."""
    return session.run(claim_jobs(worker or uuid4(), number, rooms(limit)))


def locked(session: Session, run_id: UUID) -> LockedRun:
    """A run as planning needs it; unlocked again at once."""
    run = session.run(lock_run(run_id))
    assert run is not None
    return run


def plan(run: LockedRun, **changes: Any) -> Plan:
    """A plan for a run that changes nothing but what is said, and its seq."""
    unchanged = Plan(
        run=run,
        status=RunStatus.RUNNING,
        attention=run.attention,
        seq=run.seq + 1,
        progress=run.progress,
        error=run.error,
        attempts=[],
        audits=[],
        moved=[],
        added=[],
        removed=[],
        discarded=[],
    )
    return replace(unchanged, **changes)


def attempt(seq: int, output: JSONObject | None = None, **changes: Any) -> NewAttempt:
    """A completed attempt."""
    made = NewAttempt(
        seq=seq,
        step=f"s{seq}",
        visit=1,
        attempt=1,
        status=AttemptStatus.COMPLETED,
        saw=1,
        output=None if output is None else Output(json.dumps(output), output),
    )
    return replace(made, **changes)


def save(session: Session, *plans: Plan) -> None:
    """Lock the plans' runs and save them, in one transaction."""
    session.run(_save(plans))


def _save(plans: Sequence[Plan]) -> Flow[None]:
    yield Batch((lock_runs([plan.run.id for plan in plans]),))
    yield Batch(tuple(save_plans(plans, CHANNEL)), last=True)


def kept(job: Job, step: str, claim_number: int) -> NextJob:
    """The successor of a claimed job, kept by its worker in the same slot."""
    return entry(step, slot=job.slot, state=JobState.CLAIMED, worker=job.worker, claim=claim_number)


def heard(listener: Session, speaker: Session) -> list[str]:
    """What a listening session was told so far: everything before a mark that is sent now."""
    speaker.run(notify(CHANNEL, ["mark"]))
    told: list[str] = []
    for notification in listener.connection.notifies(timeout=TIMEOUT):
        if notification.payload == "mark":
            return told
        told.append(notification.payload)
    raise AssertionError("the mark did not arrive")


def listen(session: Session) -> Session:
    """Make a session listen to what the others tell."""
    session.connection.execute(f"LISTEN {CHANNEL}")
    return session


def wake(session: Session, *queues: str, most: int = WAKE_BATCH, within: bool = False) -> tuple[int, float | None]:
    """Wake what is due: how many, and the seconds until the next one of all queues."""
    statement = wake_jobs(dict.fromkeys(queues, 1000), most=most)
    woken = session.within(statement) if within else session.run(statement)
    return woken.count, min(woken.dues.values(), default=None)


def make_due(session: Session, *steps: str) -> None:
    """Let the time come of sleeping jobs: the first step named is due the longest."""
    for number, step in enumerate(reversed(steps), start=1):
        session.connection.execute(
            in_schema(
                "UPDATE squidmesh.jobs SET run_at = squidmesh.clock() - make_interval(secs => %s) WHERE step = %s"
            ),
            [number, step],
        )
