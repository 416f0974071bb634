"""``SquidMesh`` and ``AsyncSquidMesh``: what an application holds. Thin twins: each method checks, asks, returns.

What is asked is written once, as flows, in ``operations``. Constructors open nothing; pools open on first use, one per
process, and in async code one per event loop. A forked child forgets its parent's pools without closing them.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from random import uniform
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

import psycopg
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from squidmesh.clock import new_id
from squidmesh.definition import DEFAULT_QUEUE
from squidmesh.errors import ConfigurationError, RunTimeout
from squidmesh.events import EventBus, events_of, started
from squidmesh.operations import Operations, run_filter, run_id_of
from squidmesh.registry import Registry
from squidmesh.retry import seconds_of
from squidmesh.store.database import AsyncDatabase, Database
from squidmesh.store.migrations import ensure_schema, migrate
from squidmesh.store.statements import DEFAULT_SCHEMA, check_schema_name
from squidmesh.waiting import Waiters
from squidmesh.worker.settings import DEFAULT_CONCURRENCY, WorkerSettings
from squidmesh.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType
    from uuid import UUID

    from squidmesh.events import Subscriber
    from squidmesh.operations import Start
    from squidmesh.planner.plan import Plan
    from squidmesh.records import JSON, Run
    from squidmesh.retry import Seconds
    from squidmesh.states import RunStatus
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow

T = TypeVar("T")

POLL: Final = (1.0, 3.0)
"""Seconds between looks of somebody who waits for a run: a notification that was lost costs no more than this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    """Where the database is, and how to connect to it."""

    dsn: str | None
    listen_dsn: str | None
    schema: str
    prepare: bool
    polling_only: bool

    def conninfo(self) -> str:
        found = self.dsn or os.environ.get("SQUIDMESH_DATABASE_URL") or os.environ.get("DATABASE_URL")
        if not found:
            raise ConfigurationError(
                "no database is given: pass SquidMesh(dsn) or set SQUIDMESH_DATABASE_URL (or DATABASE_URL)"
            )
        return found

    @property
    def kwargs(self) -> dict[str, Any]:
        return {
            "autocommit": True,
            "prepare_threshold": 5 if self.prepare else None,
            "application_name": "squidmesh",
        }

    def connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.conninfo(), **self.kwargs)

    def connect_to_listen(self) -> psycopg.Connection[Any]:
        return psycopg.connect(self.listen_dsn or self.conninfo(), **self.kwargs)


class _Mesh:
    """What the twins share: everything that does not talk to the database."""

    def __init__(
        self,
        dsn: str | None = None,
        *,
        workflows: Iterable[Workflow] = (),
        schema: str = DEFAULT_SCHEMA,
        listen_dsn: str | None = None,
        polling_only: bool = False,
        prepared_statements: bool = True,
        max_connections: int = 10,
    ) -> None:
        self.schema = check_schema_name(schema)
        self.registry = Registry(workflows)
        self.events = EventBus()
        self._address = _Address(
            dsn=dsn,
            listen_dsn=listen_dsn,
            schema=schema,
            prepare=prepared_statements,
            polling_only=polling_only,
        )
        self._max_connections = max_connections
        self._operations = Operations(self.registry, self.schema, new_id, lambda: datetime.now(UTC))
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._registered: set[str] = set()
        self._waiters = self._new_waiters()

    def _new_waiters(self) -> Waiters:
        return Waiters(None if self._address.polling_only else self._address.connect_to_listen, self.schema)

    def migrate(self) -> None:
        """Bring the database's schema up to date. Doing so again, or from many processes at once, is safe.

        Raises:
            SchemaError: It cannot be done; the message says why.
        """
        with self._address.connect() as connection:
            migrate(connection, self.schema)

    def subscribe(self, subscriber: Subscriber, *names: str) -> Callable[[], None]:
        """Call ``subscriber(event)`` after the commit of what these events tell; of all events if none is named.

        Args:
            subscriber: Called on a thread of its own; if it raises, that is logged and harms nothing.
            names: Some of ``squidmesh.events.EVENT_NAMES``.

        Returns:
            A function that ends the subscription.
        """
        return self.events.subscribe(subscriber, *names)

    def worker(
        self,
        *,
        queues: Mapping[str, int] | None = None,
        grace: float = 30.0,
        lease: float = 30.0,
        heartbeat: float = 10.0,
    ) -> Worker:
        """A worker in this process, to be started: ``with mesh.worker(): ...`` (or ``async with``).

        Args:
            queues: The queues it serves, and how many steps of each it runs at once; ``{"default": 10}`` by default.
            grace: Seconds that running steps may go on when it is stopped.
            lease: Seconds that it is taken to be alive after its last heartbeat.
            heartbeat: Seconds between heartbeats, which also look for work that nobody announced.

        Raises:
            ConfigurationError: One of these cannot be used.
        """
        return Worker(
            connect=self._address.connect,
            listen=None if self._address.polling_only else self._address.connect_to_listen,
            schema=self.schema,
            channel=self.schema,
            registry=self.registry,
            bus=self.events,
            settings=WorkerSettings(
                queues=dict(queues) if queues is not None else {DEFAULT_QUEUE: DEFAULT_CONCURRENCY},
                grace=grace,
                lease=lease,
                beat=heartbeat,
            ),
        )

    def _forget_after_fork(self) -> bool:
        """Whether this process was forked since the last call: then everything that was opened is the parent's."""
        if self._pid == os.getpid():
            return False
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._waiters = self._new_waiters()
        self.events = EventBus()
        return True

    def _tell_started(self, start: Start, runs: Sequence[Run]) -> None:
        if self.events.active:
            steps = [job.step for job in start.runs.plan.jobs]
            for run in runs:
                self.events.emit(started(run.id, run.workflow, run.trigger, steps, run.replayed_from))

    def _tell(self, plan: Plan | None) -> None:
        if plan is not None and self.events.active:
            self.events.emit(events_of(plan))


class SquidMesh(_Mesh):
    """Durable workflows on a Postgres database; for sync code. ``AsyncSquidMesh`` is its twin for async code.

    Methods that change something take ``connection=``, a psycopg connection whose transaction they then take part in:
    what they do happens if and when that transaction commits, and no event tells of it.

    Args:
        dsn: Address of the database; by default SQUIDMESH_DATABASE_URL or DATABASE_URL.
        workflows: The workflows of this app. They are checked and frozen.
        schema: The schema that squidmesh lives in.
        listen_dsn: Address for LISTEN, where ``dsn`` goes through a pooler that shares sessions.
        polling_only: Do without LISTEN.
        prepared_statements: False behind a pooler that cannot keep them.
        max_connections: Size of the pool.

    Raises:
        DefinitionError: A workflow is declared wrongly.
        ConfigurationError: Two workflows have one name, or the schema's name cannot be used.

    Example::

        mesh = SquidMesh("postgresql://localhost/billing", workflows=[orders])
        run = mesh.start_run(orders, {"order_id": "o-17"})
    """

    _database: Database | None = None

    def start_run(
        self,
        workflow: Workflow | str,
        payload: object = None,
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Start a run.

        Args:
            workflow: A registered workflow, or its name.
            payload: A dataclass instance or mapping that meets the trigger's contract.
            trigger: The trigger's name; the first one declared by default.
            run_at: An aware datetime before which it does not begin.
            delay: Seconds or timedelta from now before which it does not begin.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            WorkflowNotFound: The workflow is not registered.
            TriggerNotFound: It has no such trigger.
            InvalidPayload: The payload does not meet the contract.
            InvalidOption: ``run_at`` or ``delay`` cannot be used.
            ConnectionUnusable: ``connection`` cannot take part.
        """
        start = self._operations.prepare(workflow, [payload], trigger=trigger, run_at=run_at, delay=delay)
        return self._start(start, connection)[0]

    def start_runs(
        self,
        workflow: Workflow | str,
        payloads: Iterable[object],
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> list[Run]:
        """Start many runs in one transaction: all of them, or none. As ``start_run``, with a payload for each."""
        start = self._operations.prepare(workflow, payloads, trigger=trigger, run_at=run_at, delay=delay)
        return self._start(start, connection) if start.runs.ids else []

    def inspect_run(
        self, run_id: UUID | str, *, include_history: bool = False, after_seq: int = 0, limit: int = 1000
    ) -> Run:
        """A run, with its context.

        Args:
            run_id: Its id.
            include_history: Whether to add its declared steps, step runs, attempts and audit events.
            after_seq: Where the page of history begins: ``history.next_seq`` of the page before.
            limit: Attempts on a page, at most.

        Raises:
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
        """
        flow = self._operations.inspect(run_id_of(run_id), history=include_history, after_seq=after_seq, limit=limit)
        return self._ask(flow)

    def list_runs(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        trigger: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: Run | tuple[datetime, UUID] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Runs, newest first, without context and history.

        Args:
            workflow: Only of this workflow.
            status: Only in this status, or one of these.
            trigger: Only started by this trigger.
            since: Only created at or after this instant.
            until: Only created before this instant.
            before: Continue after this run: the last one of the page before, or its (created_at, id).
            limit: At most so many, up to 1,000.

        Raises:
            InvalidOption: A filter cannot be used.
        """
        wanted = run_filter(
            workflow=workflow, status=status, trigger=trigger, since=since, until=until, before=before, limit=limit
        )
        return self._ask(self._operations.list_runs(wanted))

    def cancel_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Cancel a run. What waits or sleeps goes at once; what executes is told, and its result recorded.

        Cancelling a cancelled run returns it.

        Args:
            run_id: Its id.
            actor: Who cancels it, for the audit: a text or an object.
            comment: Why, for the audit.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
            IllegalMove: It has completed or failed, or is failing.
        """
        flow = self._operations.cancel(run_id_of(run_id), actor=actor, comment=comment)
        run, plan = self._ask(flow, connection)
        if connection is None:
            self._tell(plan)
        return run

    def replay_run(
        self,
        run_id: UUID | str,
        *,
        allow_irreversible: bool = False,
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Start a new run with the payload of one that has ended, on today's graph; from the beginning.

        Args:
            run_id: The run to replay.
            allow_irreversible: True to run irreversible steps again that have completed.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
            IllegalMove: It has not ended.
            UnsafeReplay: It has completed irreversible steps.
            WorkflowNotFound: Its workflow is not registered.
        """
        flow = self._operations.prepare_replay(run_id_of(run_id), allow_irreversible=allow_irreversible)
        return self._start(self._ask(flow, connection), connection)[0]

    def wait_for_run(self, run_id: UUID | str, timeout: Seconds | None = None) -> Run:  # noqa: ASYNC109 - sync
        """Wait until a run has ended, and return it with its context.

        Args:
            run_id: Its id.
            timeout: Seconds or timedelta to wait at most; None waits for ever.

        Raises:
            RunTimeout: It has not ended in time. It goes on.
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
        """
        wanted, deadline = run_id_of(run_id), _Deadline(timeout)
        woken = threading.Event()
        remove = self._waiters.add(wanted, woken.set)
        try:
            run, _ = self._ask(self._operations.watch(wanted))
            while not run.status.terminal:
                if not woken.wait(deadline.next_look()) and deadline.passed:
                    raise RunTimeout(wanted, deadline.seconds, run.status)
                woken.clear()
                run = self._ask(self._operations.read(wanted))
        finally:
            remove()
        return self.inspect_run(wanted)

    def close(self) -> None:
        """Close the pool and stop listening. Using the mesh again opens them again."""
        self._waiters.close()
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, start: Start, connection: psycopg.Connection[Any] | None) -> list[Run]:
        fingerprint = start.runs.fingerprint
        if fingerprint not in self._registered:
            # On a connection of ours: in a host's transaction it would hold up everybody else who starts.
            self._ask(self._operations.register(start.graph))
            self._registered.add(fingerprint)
        runs = self._ask(self._operations.start(start, always_notify=connection is not None), connection)
        if connection is None:
            self._tell_started(start, runs)
        return runs

    def _ask(self, flow: Flow[T], connection: psycopg.Connection[Any] | None = None) -> T:
        return self._opened().run(flow, connection)

    def _opened(self) -> Database:
        """The database, opened and checked at the first use in this process."""
        if self._forget_after_fork():
            self._database = None
        with self._lock:
            if self._database is None:
                pool = ConnectionPool(
                    self._address.conninfo(),
                    kwargs=self._address.kwargs,
                    min_size=0,
                    max_size=self._max_connections,
                    open=True,
                    name="squidmesh",
                )
                database = Database(pool, self.schema)
                try:
                    database.run(ensure_schema(self.schema))
                except BaseException:
                    pool.close()
                    raise
                self._database = database
            return self._database


class AsyncSquidMesh(_Mesh):
    """The twin of ``SquidMesh`` for async code: the same methods, awaited. Its documentation is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._databases: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncDatabase] = (
            weakref.WeakKeyDictionary()
        )

    async def start_run(
        self,
        workflow: Workflow | str,
        payload: object = None,
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        start = self._operations.prepare(workflow, [payload], trigger=trigger, run_at=run_at, delay=delay)
        return (await self._start(start, connection))[0]

    async def start_runs(
        self,
        workflow: Workflow | str,
        payloads: Iterable[object],
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> list[Run]:
        start = self._operations.prepare(workflow, payloads, trigger=trigger, run_at=run_at, delay=delay)
        return await self._start(start, connection) if start.runs.ids else []

    async def inspect_run(
        self, run_id: UUID | str, *, include_history: bool = False, after_seq: int = 0, limit: int = 1000
    ) -> Run:
        flow = self._operations.inspect(run_id_of(run_id), history=include_history, after_seq=after_seq, limit=limit)
        return await self._ask(flow)

    async def list_runs(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        trigger: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: Run | tuple[datetime, UUID] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        wanted = run_filter(
            workflow=workflow, status=status, trigger=trigger, since=since, until=until, before=before, limit=limit
        )
        return await self._ask(self._operations.list_runs(wanted))

    async def cancel_run(
        self,
        run_id: UUID | str,
        *,
        actor: JSON = None,
        comment: str | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        flow = self._operations.cancel(run_id_of(run_id), actor=actor, comment=comment)
        run, plan = await self._ask(flow, connection)
        if connection is None:
            self._tell(plan)
        return run

    async def replay_run(
        self,
        run_id: UUID | str,
        *,
        allow_irreversible: bool = False,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        flow = self._operations.prepare_replay(run_id_of(run_id), allow_irreversible=allow_irreversible)
        return (await self._start(await self._ask(flow, connection), connection))[0]

    async def wait_for_run(self, run_id: UUID | str, timeout: Seconds | None = None) -> Run:  # noqa: ASYNC109 - as its twin
        wanted, deadline = run_id_of(run_id), _Deadline(timeout)
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        remove = self._waiters.add(wanted, lambda: loop.call_soon_threadsafe(woken.set))
        try:
            run, _ = await self._ask(self._operations.watch(wanted))
            while not run.status.terminal:
                try:
                    await asyncio.wait_for(woken.wait(), deadline.next_look())
                except TimeoutError:
                    if deadline.passed:
                        raise RunTimeout(wanted, deadline.seconds, run.status) from None
                woken.clear()
                run = await self._ask(self._operations.read(wanted))
        finally:
            remove()
        return await self.inspect_run(wanted)

    async def close(self) -> None:
        """Close this loop's pool and stop listening. Using the mesh again opens them again."""
        await asyncio.to_thread(self._waiters.close)
        database = self._databases.pop(asyncio.get_running_loop(), None)
        if database is not None:
            await database.pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self, start: Start, connection: psycopg.AsyncConnection[Any] | None) -> list[Run]:
        fingerprint = start.runs.fingerprint
        if fingerprint not in self._registered:
            await self._ask(self._operations.register(start.graph))
            self._registered.add(fingerprint)
        runs = await self._ask(self._operations.start(start, always_notify=connection is not None), connection)
        if connection is None:
            self._tell_started(start, runs)
        return runs

    async def _ask(self, flow: Flow[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        return await (await self._opened()).run(flow, connection)

    async def _opened(self) -> AsyncDatabase:
        """This loop's database, opened and checked at the first use."""
        if self._forget_after_fork():
            self._databases = weakref.WeakKeyDictionary()
        loop = asyncio.get_running_loop()
        database = self._databases.get(loop)
        if database is None:
            pool = AsyncConnectionPool(
                self._address.conninfo(),
                kwargs=self._address.kwargs,
                min_size=0,
                max_size=self._max_connections,
                open=False,
                name="squidmesh",
            )
            await pool.open()
            database = AsyncDatabase(pool, self.schema)
            try:
                await database.run(ensure_schema(self.schema))
            except BaseException:
                await pool.close()
                raise
            self._databases[loop] = database
        return database


class _Deadline:
    """How long somebody is willing to wait."""

    def __init__(self, timeout: Seconds | None) -> None:
        self.seconds = inf if timeout is None else seconds_of(timeout)
        self._at = time.monotonic() + self.seconds

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._at

    def next_look(self) -> float:
        """Seconds until the next look: a jittered poll, or the end."""
        return max(min(uniform(*POLL), self._at - time.monotonic()), 0.0)  # noqa: S311 - jitter, not a secret


for _name, _method in vars(AsyncSquidMesh).items():
    if _method.__class__.__name__ == "function" and not _method.__doc__ and hasattr(SquidMesh, _name):
        _method.__doc__ = getattr(SquidMesh, _name).__doc__
