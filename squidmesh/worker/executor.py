"""Executor threads: they run user code and never talk to the database, but for transactional steps.

Each queue has a lane of its own: tickets that wait, and as many threads as are needed, up to the queue's concurrency.
A thread that finishes a step takes the next ticket itself; it is woken, or made, only when there is more to do than
threads that are busy. Async steps count against the same concurrency and run on the event loop's thread.

(A ``ThreadPoolExecutor`` halves the speed, and joins stuck steps when the process exits.)
"""

from __future__ import annotations

import threading
from collections import deque
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final

from squidmesh.records import Lane
from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from squidmesh.worker.eventloop import EventLoopThread
    from squidmesh.worker.ticket import Ticket
    from squidmesh.worker.transactions import Transactions
    from squidmesh.worker.watchdog import Watchdog

PACE_WEIGHT: Final = 0.05
"""How much the latest step counts in the average duration."""


class _QueueLane:
    """The tickets and threads of one queue."""

    def __init__(self, executor: Executor, queue: str, concurrency: int) -> None:
        self.executor = executor
        self.queue = queue
        self.concurrency = concurrency
        self.average = 0.0
        """Seconds that a step of this queue takes, averaged; 0 until one has ended."""
        self._waiting: deque[Ticket] = deque()
        self._lock = threading.Lock()
        self._running: set[Ticket] = set()
        self._threads = 0
        self._idle = 0
        self._rousing = False
        """Whether a thread was woken, or made, and has not come to look for a ticket yet."""
        self._wakes: SimpleQueue[bool] = SimpleQueue()

    def submit(self, tickets: Iterable[Ticket]) -> None:
        with self._lock:
            for ticket in tickets:
                # What is marked as started must start: it does not queue behind what was claimed ahead.
                (self._waiting.append if ticket.lane is Lane.AHEAD else self._waiting.appendleft)(ticket)
        self.rouse()

    def rouse(self) -> None:
        """Wake or make one thread, if there is something for it to do; it rouses the next one itself.

        One at a time: until it comes, those that are busy may have done with what there is.
        """
        with self._lock:
            if self._rousing or not self._waiting or len(self._running) >= self.concurrency:
                return
            if self._idle:
                self._idle -= 1
                self._rousing = True
                self._wakes.put(True)
                return
            if self._threads >= self.concurrency:
                return
            self._threads += 1
            self._rousing = True
        name = f"squidmesh-{self.queue}-{self._threads}"
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def _work(self) -> None:
        while True:
            ticket = self._take(roused=True)
            while ticket is not None:
                self._perform(ticket)
                ticket = self._take()
            if self.executor.stopped or not self._wakes.get():
                return

    def _take(self, *, roused: bool = False) -> Ticket | None:
        with self._lock:
            if roused:
                self._rousing = False
            if not self._waiting or len(self._running) >= self.concurrency or self.executor.stopped:
                self._idle += 1
                return None
            ticket = self._waiting.popleft()
            self._running.add(ticket)
            more = not self._rousing and bool(self._waiting) and len(self._running) < self.concurrency
        if more:
            self.rouse()
        return ticket

    def _perform(self, ticket: Ticket) -> None:
        if ticket.function is not None and ticket.function.is_async:
            self.executor.loop.submit(ticket, self.done)
            return
        started = ticket.started = self.executor.monotonic()
        if ticket.permit is not None:
            happening = self.executor.transactions.run(ticket, ticket.permit)
        else:
            if ticket.function is not None and ticket.function.timeout is not None:
                self.executor.watchdog.watch(ticket, ticket.function.timeout)
            happening = body.run(ticket)
        self.done(body.note_time(ticket, happening, started, self.executor.monotonic))

    def done(self, ticket: Ticket) -> None:
        """A step has ended: hand over its result, and go on."""
        with self._lock:
            self._running.discard(ticket)
            seconds = ticket.finished - (ticket.started or ticket.finished)
            self.average += (seconds - self.average) * (PACE_WEIGHT if self.average else 1.0)
        if ticket.function is not None and ticket.function.timeout is not None:
            self.executor.watchdog.forget(ticket)
        self.executor.finish(ticket)
        if ticket.function is not None and ticket.function.is_async:
            self.rouse()

    def withdraw(self) -> list[Ticket]:
        with self._lock:
            tickets = list(self._waiting)
            self._waiting.clear()
        return tickets

    def running(self) -> list[Ticket]:
        with self._lock:
            return list(self._running)

    def release_threads(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._wakes.put(False)


class Executor:
    """Runs tickets, each queue with its own concurrency.

    Args:
        concurrency: How many steps of each queue may run at once.
        loop: Runs the async ones.
        watchdog: Told of steps with a time-out.
        finish: Called with each ticket whose step has ended, on whatever thread it ran.
        monotonic: The clock that durations are measured with.
    """

    transactions: Transactions
    """Runs transactional steps; the worker sets it when there is an engine."""

    def __init__(
        self,
        concurrency: Mapping[str, int],
        loop: EventLoopThread,
        watchdog: Watchdog,
        finish: Callable[[Ticket], None],
        monotonic: Callable[[], float],
    ) -> None:
        self.loop = loop
        self.watchdog = watchdog
        self.finish = finish
        self.monotonic = monotonic
        self.stopped = False
        self._lanes = {queue: _QueueLane(self, queue, count) for queue, count in concurrency.items()}

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Run these tickets as soon as there is a free slot."""
        by_queue: dict[str, list[Ticket]] = {}
        for ticket in tickets:
            by_queue.setdefault(ticket.queue, []).append(ticket)
        for queue, found in by_queue.items():
            self._lanes[queue].submit(found)

    def average_seconds(self, queue: str) -> float:
        """How long a step of this queue takes, on average; 0 until one has ended."""
        return self._lanes[queue].average

    def withdraw(self) -> list[Ticket]:
        """Take back the tickets that were not started."""
        return [ticket for lane in self._lanes.values() for ticket in lane.withdraw()]

    def running(self) -> list[Ticket]:
        """The tickets whose step runs."""
        return [ticket for lane in self._lanes.values() for ticket in lane.running()]

    def stop(self) -> None:
        """Start nothing more and let idle threads end; those that still run user code end with the process."""
        self.stopped = True
        for lane in self._lanes.values():
            lane.release_threads()
