"""The event loop thread: async steps run here, many at once, on one loop.

A step that blocks it delays other async steps, and nothing else: claims, saves and heartbeats have their own threads.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.worker.ticket import Ticket


class EventLoopThread:
    """One event loop on one thread, started when the first async step arrives.

    Args:
        monotonic: The clock that durations are measured with.
    """

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._arrived: list[tuple[Ticket, Callable[[Ticket], None]]] = []
        self._tasks: dict[Ticket, asyncio.Task[None]] = {}

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
        """Cancel a step that runs, for real: CancelledError is raised in it."""
        loop = self._loop
        if loop is not None:
            loop.call_soon_threadsafe(self._cancel, ticket)

    def stop(self) -> None:
        """Cancel what runs and end the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(loop.stop)

    def _start(self) -> asyncio.AbstractEventLoop:
        self._loop = loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, args=(loop,), name="squidmesh-eventloop", daemon=True).start()
        return loop

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        finally:
            loop.close()

    def _begin(self) -> None:
        with self._lock:
            arrived, self._arrived = self._arrived, []
        for ticket, done in arrived:
            self._tasks[ticket] = asyncio.ensure_future(self._perform(ticket, done))

    def _cancel(self, ticket: Ticket) -> None:
        task = self._tasks.get(ticket)
        if task is not None:
            task.cancel()

    async def _perform(self, ticket: Ticket, done: Callable[[Ticket], None]) -> None:
        started = self._monotonic()
        happening = await body.run_async(ticket)
        self._tasks.pop(ticket, None)
        done(body.note_time(ticket, happening, started, self._monotonic))
