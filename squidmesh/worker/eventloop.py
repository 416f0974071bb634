"""The event loop thread: async steps run here, many at once, on one loop.

A step that blocks it delays other async steps, and nothing else: claims, saves and heartbeats have their own threads.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from typing import TYPE_CHECKING, Final

from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.planner.outcome import Happening
    from squidmesh.worker.pools import Pools
    from squidmesh.worker.ticket import Ticket
    from squidmesh.worker.transactions import Transactions
    from squidmesh.worker.watchdog import Watchdog

LAST_MOMENT: Final = 1.0
"""Seconds that cancelled steps have to clean up when the worker has stopped."""

logger = logging.getLogger("squidmesh.worker")


class EventLoopThread:
    """One event loop on one thread, started when the first async step arrives.

    Args:
        watchdog: Told of steps with a time-out.
        monotonic: The clock that durations are measured with.
    """

    transactions: Transactions
    """Runs transactional steps; the worker sets it when there is an engine."""

    pools: Pools
    """Where their connections come from; it is closed on this loop."""

    def __init__(self, watchdog: Watchdog, monotonic: Callable[[], float]) -> None:
        self._watchdog = watchdog
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: list[tuple[Ticket, Callable[[Ticket], None]]] = []
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}
        self._cancelled: set[Ticket] = set()

    def submit(self, ticket: Ticket, done: Callable[[Ticket], None]) -> None:
        """Run an async step; ``done`` is called on the loop's thread when it has ended."""
        with self._lock:
            loop = self._loop or self._start()
            self._arrived.append((ticket, done))
            # One call for all that arrive before the loop gets to it.
            first = len(self._arrived) == 1
        if first:
            loop.call_soon_threadsafe(self._begin)

    def cancel(self, ticket: Ticket) -> None:
        """Cancel a step that runs, for real: CancelledError is raised in it, however often this is said."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._cancel, ticket)

    def stop(self) -> None:
        """Cancel what runs and end the thread."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._end, loop)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(loop,), name="squidmesh-eventloop", daemon=True).start()
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            while self._loop is loop:
                _run_until_stopped(loop)
            for ticket in self._tasks:
                self._cancel_once(ticket)
            # The pool's own tasks are needed until the steps have given their connections back.
            _wait_for(loop, set(self._tasks.values()))
            loop.run_until_complete(self.pools.close_of_loop())
            rest = asyncio.all_tasks(loop)
            for task in rest:
                task.cancel()
            _wait_for(loop, rest)
        finally:
            loop.close()

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        # On the loop itself: were it said from elsewhere, the loop could take it for the end before it is told to stop,
        # and be stopped while it waits for its steps to clean up.
        self._loop = None
        loop.stop()

    def _begin(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for ticket, done in arrived:
            self._tasks[ticket] = asyncio.ensure_future(self._perform(ticket, done))

    def _cancel(self, ticket: Ticket) -> None:
        # A task that is cancelled before its first step never runs, so nobody would hear that it has ended; what has
        # not begun sees that it is not wanted when it does.
        if ticket.started is not None and not (ticket.permit is not None and ticket.permit.saving):
            self._cancel_once(ticket)

    def _cancel_once(self, ticket: Ticket) -> None:
        # Each heartbeat says again what is not wanted, and so does the end of the worker: a second CancelledError would
        # hit the step while it cleans up after the first.
        if ticket in self._tasks and ticket not in self._cancelled:
            self._cancelled.add(ticket)
            self._tasks[ticket].cancel()

    async def _perform(self, ticket: Ticket, done: Callable[[Ticket], None]) -> None:
        started = ticket.started = self._monotonic()
        try:
            happening = await self._run_body(ticket)
        except BaseException as error:  # noqa: BLE001 - GeneratorExit gets past what a coroutine awaits
            happening = body.failure(error, ticket)
        self._tasks.pop(ticket, None)
        self._cancelled.discard(ticket)
        done(body.note_time(ticket, happening, started, self._monotonic))

    async def _run_body(self, ticket: Ticket) -> Happening:
        if ticket.permit is not None:
            return await self.transactions.run_async(ticket, ticket.permit)
        if ticket.function is not None and ticket.function.timeout is not None:
            self._watchdog.watch(ticket, ticket.function.timeout)
        return await body.run_async(ticket)


def _wait_for(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[None]]) -> None:
    if tasks:
        loop.run_until_complete(asyncio.wait(tasks, timeout=LAST_MOMENT))


def _run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    try:
        loop.run_forever()
    except (SystemExit, KeyboardInterrupt) as error:
        # asyncio lets these through from any task, such as one that a step made; its other steps go on.
        logger.warning("a task of an async step raised %r; the loop goes on", error)
