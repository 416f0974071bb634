"""The harness: what a test holds. ``Harness`` for sync tests, ``AsyncHarness`` for those that are coroutines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Self, TypeVar

from squidmesh.async_client import AsyncSquidMesh
from squidmesh.client import SquidMesh
from squidmesh.errors import HarnessError
from squidmesh.store.statements import DEFAULT_SCHEMA
from squidmesh.testing.bench import Bench
from squidmesh.testing.driver import DEFAULT_LIMIT
from squidmesh.testing.setup import Setup, checked_instant
from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    import psycopg

    from squidmesh.authoring.reading import Reference
    from squidmesh.mesh import Mesh
    from squidmesh.planner.outcome import Happening
    from squidmesh.records import Run
    from squidmesh.retry import Seconds
    from squidmesh.states import RunStatus
    from squidmesh.testing.driver import Journey, Ran
    from squidmesh.testing.faults import Dress
    from squidmesh.worker.permit import Permit
    from squidmesh.worker.ticket import Ticket
    from squidmesh.workflow import Workflow

T = TypeVar("T")


class Harness(Bench):
    """Runs workflows in a test, in the thread that asks for it, on time of its own. Made by ``harness``.

    Time stands still but for ``travel`` and its like, for everything that is stored; ``datetime.now()`` in a step is
    the machine's. Between two calls nothing is in a worker's hands.

    Attributes:
        mesh: An ordinary client.
        schema: The schema that the test works in.
        registry: The workflows.
    """

    mesh: SquidMesh

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self.mesh = SquidMesh(
            workflows=self._setup.workflows, schema=self._setup.schema, queue_limits=self._setup.queue_limits
        )
        self._open(self.mesh, self._wait_here, self._wait_in_a_loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.close()
        self._undo.close()

    def drain(self, *, limit: int = DEFAULT_LIMIT) -> list[Ran]:
        """Run what is ready until nothing is. Time stands still.

        Args:
            limit: Steps to run at most.

        Returns:
            What was run, in order.

        Raises:
            HarnessError: More is ready after ``limit`` steps, or somebody holds a run.
        """
        return self._drive(self._driver.drain(limit))

    def run_until(
        self,
        run: Run | UUID | str,
        *,
        status: RunStatus | str | None = None,
        step: Reference | None = None,
        when: Callable[[Run], bool] | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Run:
        """Run steps, and travel to the next timer when none is ready, until something holds; by default: until the end.

        Args:
            run: The run, or its id. Others run as well.
            status: Until it has this status.
            step: Until this step has completed.
            when: Until this says so of the run, which has its context and history.
            limit: Steps to run at most.

        Returns:
            The run as it then stands.

        Raises:
            HarnessError: It has ended otherwise, or nothing can happen any more; with where runs stand.
        """
        return self._drive(self._until(run, status, step, when, limit))

    def travel(
        self,
        by: Seconds = 0,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        limit: int = DEFAULT_LIMIT,
    ) -> list[Ran]:
        """Let time pass. What becomes due on the way is run when it does, and all that is ready before that.

        Args:
            by: Seconds, or a timedelta.
            days: And so many days,
            hours: hours,
            minutes: minutes,
            seconds: and seconds.
            limit: Steps to run at most.

        Returns:
            What was run, in order.

        Raises:
            InvalidOption: Time would go back.
            HarnessError: More is ready after ``limit`` steps.
        """
        parts = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return self._drive(self._driver.travel(self._arrival(by, parts), limit))

    def travel_to(self, instant: datetime, *, limit: int = DEFAULT_LIMIT) -> list[Ran]:
        """Let time pass until an instant; as ``travel``.

        Args:
            instant: An aware datetime.
            limit: Steps to run at most.
        """
        return self._drive(self._driver.travel(checked_instant("instant", instant), limit))

    def _wait_here(self, run_id: UUID, seconds: float) -> Run:
        return self._drive(self._wait(run_id, seconds))

    async def _wait_in_a_loop(self, run_id: UUID, seconds: float) -> Run:
        return self._wait_here(run_id, seconds)

    def _drive(self, journey: Journey[T]) -> T:
        with self._at_work():
            try:
                while True:
                    self._perform(*next(journey))
            except StopIteration as stop:
                result: T = stop.value
                return result

    def _perform(self, ticket: Ticket, dress: Dress) -> None:
        """Run a step's body, in this thread; an async one on a loop of the harness."""
        with self._session.around_body():
            worker = self._driver.worker
            started = ticket.started = worker.monotonic()
            if ticket.function is not None and ticket.function.is_async:
                happening: Happening = self._loop().run(worker.run_async(ticket, dress.dies))
            else:
                happening = worker.run(ticket, dress.dies)
            body.note_time(ticket, happening, started, worker.monotonic)
        if dress.escaped is not None:
            raise dress.escaped

    def _loop(self) -> asyncio.Runner:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            return self._runner
        raise HarnessError(
            "an async step cannot be run here, where an event loop runs already: "
            "in an async test use `async with squidmesh.testing.async_harness(...)`"
        )


class AsyncHarness(Bench):
    """The twin of ``Harness`` for async tests: what runs steps is awaited; its documentation is there.

    Async steps run on the test's own event loop, so they may use what belongs to it; sync ones in a thread.

    Attributes:
        mesh: An ordinary async client.
        schema: The schema that the test works in.
        registry: The workflows.
    """

    mesh: AsyncSquidMesh

    async def __aenter__(self) -> Self:
        self.mesh = AsyncSquidMesh(
            workflows=self._setup.workflows, schema=self._setup.schema, queue_limits=self._setup.queue_limits
        )
        self._open(self.mesh, self._wait_in_a_thread, self._wait_here)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    async def drain(self, *, limit: int = DEFAULT_LIMIT) -> list[Ran]:
        """As ``Harness.drain``."""
        return await self._drive(self._driver.drain(limit))

    async def run_until(
        self,
        run: Run | UUID | str,
        *,
        status: RunStatus | str | None = None,
        step: Reference | None = None,
        when: Callable[[Run], bool] | None = None,
        limit: int = DEFAULT_LIMIT,
    ) -> Run:
        """As ``Harness.run_until``."""
        return await self._drive(self._until(run, status, step, when, limit))

    async def travel(
        self,
        by: Seconds = 0,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        seconds: float = 0,
        limit: int = DEFAULT_LIMIT,
    ) -> list[Ran]:
        """As ``Harness.travel``."""
        parts = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        return await self._drive(self._driver.travel(self._arrival(by, parts), limit))

    async def travel_to(self, instant: datetime, *, limit: int = DEFAULT_LIMIT) -> list[Ran]:
        """As ``Harness.travel_to``."""
        return await self._drive(self._driver.travel(checked_instant("instant", instant), limit))

    async def _wait_here(self, run_id: UUID, seconds: float) -> Run:
        return await self._drive(self._wait(run_id, seconds))

    def _wait_in_a_thread(self, run_id: UUID, seconds: float) -> Run:
        raise HarnessError(
            f"a SquidMesh cannot wait {seconds:g} s for run {run_id} while an AsyncHarness runs the steps: "
            "it would hold up the event loop; await the harness's run_until, or an AsyncSquidMesh"
        )

    async def _drive(self, journey: Journey[T]) -> T:
        with self._at_work():
            try:
                while True:
                    await self._perform(*next(journey))
            except StopIteration as stop:
                result: T = stop.value
                return result

    async def _perform(self, ticket: Ticket, dress: Dress) -> None:
        with self._session.around_body():
            worker = self._driver.worker
            started = ticket.started = worker.monotonic()
            if ticket.function is not None and ticket.function.is_async:
                happening = await _in_a_task(worker.run_async(ticket, dress.dies), ticket.permit)
            else:
                happening = await asyncio.to_thread(worker.run, ticket, dress.dies)
            body.note_time(ticket, happening, started, worker.monotonic)
        if dress.escaped is not None:
            raise dress.escaped


async def _in_a_task(running: Coroutine[Any, Any, Happening], permit: Permit | None) -> Happening:
    """Run an async step; when the test is cancelled, or its time is up, so is the step, and nothing is recorded."""
    task = asyncio.ensure_future(running)
    try:
        await asyncio.wait({task})
    finally:
        if permit is None or not permit.saving:
            task.cancel()
    return task.result()


def harness(
    dsn: str | None = None,
    *,
    workflows: Iterable[Workflow] = (),
    mesh: Mesh | Iterable[Mesh] = (),
    connection: psycopg.Connection[Any] | None = None,
    schema: str = DEFAULT_SCHEMA,
    at: datetime | None = None,
    fresh: bool = False,
) -> Harness:
    """Make a harness for a test, as in ``with squidmesh.testing.harness(workflows=[orders]) as h: ...``.

    It works in a throw-away schema of a database, which this process makes once and empties for each test; or, given a
    ``connection``, inside the transaction that is open on it, which the caller rolls back.

    Args:
        dsn: The database; by default SQUIDMESH_DATABASE_URL or DATABASE_URL, else an embedded Postgres of this process.
        workflows: The workflows.
        mesh: The app's own mesh, or several: with their workflows and limits of queues. While the harness is open they
            work on its database and its time, whatever their own address is.
        connection: A connection with an open transaction, on a migrated database.
        schema: The schema to work in with ``connection``.
        at: The instant that the test begins at; by default the current one.
        fresh: Make a schema for this test alone, and drop it afterwards.

    Raises:
        InvalidOption: Options contradict each other, or ``at`` is not aware.
        DefinitionError: A workflow is declared wrongly.
        ConnectionUnusable: No transaction is open on ``connection``, or it cannot be used; when the harness opens.
    """
    return Harness(Setup.of(dsn, workflows, mesh, connection=connection, schema=schema, at=at, fresh=fresh))


def async_harness(
    dsn: str | None = None,
    *,
    workflows: Iterable[Workflow] = (),
    mesh: Mesh | Iterable[Mesh] = (),
    connection: psycopg.Connection[Any] | None = None,
    schema: str = DEFAULT_SCHEMA,
    at: datetime | None = None,
    fresh: bool = False,
) -> AsyncHarness:
    """Make a harness for an async test, to be opened with ``async with``; everything else is as with its twin."""
    return AsyncHarness(Setup.of(dsn, workflows, mesh, connection=connection, schema=schema, at=at, fresh=fresh))
