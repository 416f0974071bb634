"""``AsyncSquidMesh``: the thin twin of ``SquidMesh`` for async code."""

from __future__ import annotations

import asyncio
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self, TypeVar

from psycopg_pool import AsyncConnectionPool

from squidmesh.async_control import AsyncControl
from squidmesh.async_meters import AsyncMeters
from squidmesh.async_schedules import AsyncSchedules
from squidmesh.client import SquidMesh
from squidmesh.deploy import check_deploy
from squidmesh.errors import RunTimeout
from squidmesh.explaining import explain_run
from squidmesh.keyed import with_key
from squidmesh.mesh import Deadline
from squidmesh.operations import run_filter, run_id_of
from squidmesh.store.database import AsyncDatabase, check_pooled_async
from squidmesh.store.migrations import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    import psycopg

    from squidmesh.explanation import Explanation
    from squidmesh.keyed import OnConflict
    from squidmesh.operations import Start
    from squidmesh.planner.graph import Graph
    from squidmesh.records import DeployCheck, Run, RunDiff
    from squidmesh.retry import Seconds
    from squidmesh.states import RunStatus
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow

T = TypeVar("T")


class _OfLoop:
    """What an event loop has for itself: its database, once it was opened, by one task for all."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.database: AsyncDatabase | None = None


class AsyncSquidMesh(AsyncControl):
    """The twin of ``SquidMesh`` for async code: the same methods, awaited. Its documentation is there."""

    _loops: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _OfLoop] | None = None

    @property
    def schedules(self) -> AsyncSchedules:
        """The schedules: those that code declares, and those that are created at run time."""
        return AsyncSchedules(self._schedules, self._ask, self._register, self._tell_scheduled)

    @property
    def meters(self) -> AsyncMeters:
        """The limits and rates that steps share: who holds them, who waits, and what is paused."""
        return AsyncMeters(self._meters, self._ask)

    async def start_run(
        self,
        workflow: Workflow | str,
        payload: object = None,
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "return",
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Run:
        start = self._operations.prepare(workflow, [payload], trigger=trigger, run_at=run_at, delay=delay)
        return (await self._start(with_key(start, key, on_conflict), connection))[0]

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

    async def explain_run(self, run_id: UUID | str) -> Explanation:
        return await self._ask(explain_run(self._operations, run_id_of(run_id)))

    async def list_runs(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        trigger: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: Run | tuple[datetime, UUID] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        wanted = run_filter(
            workflow=workflow,
            status=status,
            trigger=trigger,
            key=key,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )
        return await self._ask(self._operations.list_runs(wanted))

    async def wait_for_run(self, run_id: UUID | str, timeout: Seconds | None = None) -> Run:
        wanted, deadline = run_id_of(run_id), Deadline(timeout)
        if self._stand_in is not None:
            return await self._stand_in.wait_async(wanted, deadline.seconds)
        woken, loop = asyncio.Event(), asyncio.get_running_loop()
        remove = self._waiters.add(wanted, lambda: loop.call_soon_threadsafe(woken.set))
        try:
            while not (found := await self._ask(self._operations.watch(wanted)))[0].status.terminal:
                run, watched = found
                if deadline.passed:
                    raise RunTimeout(wanted, deadline.seconds, run.status)
                with suppress(TimeoutError):
                    await asyncio.wait_for(woken.wait(), deadline.next_look(told=watched and self._waiters.listening))
                woken.clear()
        finally:
            remove()
        return await self.inspect_run(wanted)

    async def diff_runs(self, a: UUID | str, b: UUID | str) -> RunDiff:
        return await self._ask(self._operations.diff(run_id_of(a), run_id_of(b)))

    async def check_deploy(self) -> DeployCheck:
        return await self._ask(check_deploy(self.registry))

    async def migrate(self) -> None:
        await asyncio.to_thread(self._migrate)

    async def close(self) -> None:
        """Close this loop's pool and stop listening. Using the mesh again opens them again."""
        await asyncio.to_thread(self._waiters.close)
        mine = self._of_loop()
        async with mine.lock:
            database, mine.database = mine.database, None
        if database is not None:
            await database.pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _start(self, start: Start, connection: psycopg.AsyncConnection[Any] | None) -> list[Run]:
        await self._register(start.graph)
        runs = None
        while runs is None:
            runs = await self._ask(self._operations.start(start, always_notify=connection is not None), connection)
        if connection is None:
            self._tell_started(start, runs)
        return runs

    async def _register(self, graph: Graph) -> None:
        fingerprint = graph.definition.fingerprint
        if fingerprint not in self._registered:
            await self._ask(self._operations.register(graph))
            self._registered.add(fingerprint)

    async def _ask(self, flow: Flow[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        if self._stand_in is not None:
            return await self._stand_in.run_async(flow, connection)
        return await (await self._opened()).run(flow, connection)

    def _forget_connections(self) -> None:
        self._loops = None

    def _of_loop(self) -> _OfLoop:
        with self._lock:
            if self._loops is None:
                self._loops = weakref.WeakKeyDictionary()
            return self._loops.setdefault(asyncio.get_running_loop(), _OfLoop())

    async def _opened(self) -> AsyncDatabase:
        """This loop's database, opened and checked at the first use."""
        mine = self._of_loop()
        async with mine.lock:
            if mine.database is None:
                mine.database = await self._open()
            return mine.database

    async def _open(self) -> AsyncDatabase:
        pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
            self._address.conninfo(),
            kwargs=self._address.kwargs,
            min_size=0,
            max_size=self._max_connections,
            open=False,
            name="squidmesh",
            check=check_pooled_async,
        )
        await pool.open()
        database = AsyncDatabase(pool, self.schema)
        try:
            await database.run(ensure_schema(self.schema))
        except BaseException:
            await pool.close()
            raise
        return database


for _name, _method in [*vars(AsyncControl).items(), *vars(AsyncSquidMesh).items()]:
    if _method.__class__.__name__ == "function" and not _method.__doc__ and hasattr(SquidMesh, _name):
        _method.__doc__ = getattr(SquidMesh, _name).__doc__
