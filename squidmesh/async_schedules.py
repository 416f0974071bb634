"""``AsyncSchedules``: the thin twin of ``Schedules`` for async code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from squidmesh.schedule_flows import ScheduleFlows, paused_one, policy_of, resumed_one
from squidmesh.schedules import Schedules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    import psycopg

    from squidmesh.planner.graph import Graph
    from squidmesh.records import JSON, Run
    from squidmesh.retry import Seconds
    from squidmesh.schedule_flows import Listing, Times
    from squidmesh.schedules import Runs
    from squidmesh.scheduling import Prepared
    from squidmesh.store.statements import Flow
    from squidmesh.timetable import CatchUp, OverlapName, Schedule
    from squidmesh.workflow import Workflow

T = TypeVar("T")


class AsyncAsk(Protocol):
    """The twin of ``Ask``."""

    def __call__(self, flow: Flow[T], connection: psycopg.AsyncConnection[Any] | None = None, /) -> Awaitable[T]:
        """Run it."""
        ...


class AsyncSchedules:
    """The twin of ``Schedules`` for async code: the same methods, awaited. Its documentation is there."""

    def __init__(
        self,
        flows: ScheduleFlows,
        ask: AsyncAsk,
        register: Callable[[Graph], Awaitable[None]],
        tell: Callable[[Runs], None],
    ) -> None:
        self._flows = flows
        self._ask = ask
        self._register = register
        self._tell = tell

    async def list(self, *, workflow: Workflow | str | None = None) -> Listing:
        return await self._ask(self._flows.list(workflow))

    async def get(self, name: str) -> Schedule:
        return await self._ask(self._flows.get(name))

    async def next_times(self, name: str, count: int = 5) -> Times:
        return await self._ask(self._flows.next_times(name, count))

    async def create(
        self,
        name: str,
        workflow: Workflow | str,
        expression: str,
        *,
        trigger: str | None = None,
        timezone: str = "UTC",
        payload: Mapping[str, JSON] | None = None,
        catch_up: CatchUp | Seconds | None = None,
        overlap: OverlapName = "allow",
        jitter: Seconds = 0,
        paused: bool = False,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Schedule:
        wanted = self._flows.wanted(
            name,
            workflow,
            expression,
            trigger=trigger,
            timezone=timezone,
            payload=payload,
            policy=policy_of(catch_up, overlap, jitter),
            paused=paused,
        )
        return await self._ask(self._flows.create(wanted), connection)

    async def change(
        self,
        name: str,
        *,
        expression: str | None = None,
        timezone: str | None = None,
        payload: Mapping[str, JSON] | None = None,
        catch_up: CatchUp | Seconds | None = None,
        overlap: OverlapName | None = None,
        jitter: Seconds | None = None,
        connection: psycopg.AsyncConnection[Any] | None = None,
    ) -> Schedule:
        changed = self._flows.changer(
            expression=expression,
            timezone=timezone,
            payload=payload,
            catch_up=catch_up,
            overlap=overlap,
            jitter=jitter,
        )
        return await self._ask(self._flows.change(name, changed), connection)

    async def pause(self, name: str, *, connection: psycopg.AsyncConnection[Any] | None = None) -> Schedule:
        return await self._ask(self._flows.change(name, paused_one), connection)

    async def resume(self, name: str, *, connection: psycopg.AsyncConnection[Any] | None = None) -> Schedule:
        return await self._ask(self._flows.change(name, resumed_one), connection)

    async def delete(self, name: str, *, connection: psycopg.AsyncConnection[Any] | None = None) -> None:
        await self._ask(self._flows.delete(name), connection)

    async def trigger_now(self, name: str, *, connection: psycopg.AsyncConnection[Any] | None = None) -> Run:
        return (await self._start(self._flows.prepare_now(name), connection))[0]

    async def backfill(
        self, name: str, start: datetime, end: datetime, *, connection: psycopg.AsyncConnection[Any] | None = None
    ) -> Runs:
        return await self._start(self._flows.prepare_backfill(name, start, end), connection)

    async def _start(self, flow: Flow[Prepared | None], connection: psycopg.AsyncConnection[Any] | None) -> Runs:
        prepared = await self._ask(flow, connection)
        if prepared is None:
            return []
        await self._register(prepared.graph)
        runs = await self._ask(self._flows.scheduling.start(prepared, always_notify=connection is not None), connection)
        if connection is None:
            self._tell(runs)
        return runs


for _name, _method in vars(AsyncSchedules).items():
    if _method.__class__.__name__ == "function" and not _method.__doc__ and hasattr(Schedules, _name):
        _method.__doc__ = getattr(Schedules, _name).__doc__
