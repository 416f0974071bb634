"""The slots of one queue: the tickets that wait for one, and the threads that run them.

A thread that finishes a step takes the next ticket itself; it is woken, or made, only when there is more to do than
threads that are busy. Async steps count against the same concurrency and run on the event loop's thread.

The slots also know how much work is at hand: how long steps take, which bodies have run for long already, and how long
tickets have been waiting. The engine claims by that, and gives back what waits in vain while others may be idle.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from squidmesh.records import Lane
from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Iterable

    from squidmesh.worker.executor import Executor
    from squidmesh.worker.settings import WorkerSettings
    from squidmesh.worker.ticket import Ticket

WEIGHT: Final = 0.05
"""How much the latest step counts in an average."""

QUICKEST: Final = 50e-6
"""Seconds that a step is taken to need at least: what the worker itself spends on it."""

Level: TypeAlias = "tuple[bool, int]"
"""What goes first: that which is marked as started, then smaller priorities."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How the slots of a queue stand.

    Args:
        quick: The slots that are free, or whose body has not run for long.
        ahead: How many jobs may wait for them: as many as a moment's work will use up.
        alone: How many tickets wait that are marked as started.
        waiting: (priority, count) of the other tickets that wait, the first to go first.
        output: Bytes that a step returns, on average.
    """

    quick: int
    ahead: int = 0
    alone: int = 0
    waiting: tuple[tuple[int, int], ...] = ()
    output: float = 0.0

    @property
    def soon(self) -> int:
        """How many more tickets that are marked as started get a slot within a moment, though none may be free."""
        return min(self.quick, self.ahead) - self.alone


class Slots:
    """The tickets and threads of one queue.

    Args:
        executor: What they are part of.
        queue: The queue.
        concurrency: How many steps may run at once.
        settings: How much is claimed ahead, and how long it may wait.
    """

    def __init__(self, executor: Executor, queue: str, concurrency: int, settings: WorkerSettings) -> None:
        self.executor = executor
        self.queue = queue
        self.concurrency = concurrency
        self.average = 0.0
        """Seconds that a step of this queue takes, averaged; 0 until one has ended."""
        self._settings = settings
        self._output = 0.0
        self._waiting: dict[Level, deque[Ticket]] = {}
        self._lock = threading.Lock()
        self._running: dict[Ticket, None] = {}  # in the order in which they were taken
        self._threads = 0
        self._idle = 0
        self._rousing = False
        """Whether a thread was woken, or made, and has not come to look for a ticket yet."""
        self._wakes: SimpleQueue[bool] = SimpleQueue()

    # -- running -------------------------------------------------------------------------------------------------

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Run these as soon as there is a free slot."""
        now = self.executor.monotonic()
        with self._lock:
            for ticket in tickets:
                ticket.handed = now
                # What is marked as started must start: it does not queue behind what was claimed ahead.
                level = (ticket.job.lane is Lane.AHEAD, ticket.job.priority)
                if level not in self._waiting:
                    self._waiting[level] = deque()
                self._waiting[level].append(ticket)
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
            level = min(self._waiting)
            ticket = self._waiting[level].popleft()
            if not self._waiting[level]:
                del self._waiting[level]
            self._running[ticket] = None
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
        size = ticket.size
        with self._lock:
            self._running.pop(ticket, None)
            seconds = ticket.finished - (ticket.started or ticket.finished)
            self.average += (seconds - self.average) * (WEIGHT if self.average else 1.0)
            self._output += (size - self._output) * WEIGHT
        if ticket.function is not None and ticket.function.timeout is not None:
            self.executor.watchdog.forget(ticket)
        self.executor.finish(ticket)
        if ticket.function is not None and ticket.function.is_async:
            self.rouse()

    def running(self) -> list[Ticket]:
        """The tickets whose step runs."""
        with self._lock:
            return list(self._running)

    def release_threads(self) -> None:
        """Let the threads end that have nothing to do."""
        with self._lock:
            idle, self._idle = self._idle, 0
        for _ in range(idle):
            self._wakes.put(False)

    # -- how much is at hand -------------------------------------------------------------------------------------

    def standing(self) -> Standing:
        """How the slots stand right now."""
        now = self.executor.monotonic()
        with self._lock:
            quick, waiting = self._quick(now), self._waiting.items()
            return Standing(
                quick=quick,
                ahead=self._ahead(quick),
                alone=sum(len(tickets) for (ahead, _), tickets in waiting if not ahead),
                waiting=tuple(sorted((priority, len(tickets)) for (ahead, priority), tickets in waiting if ahead)),
                output=self._output,
            )

    def _quick(self, now: float) -> int:
        """How many slots are free, or may be soon: long bodies are no part of what a queue's work takes on average."""
        long = 0
        for ticket in self._running:
            if now - (ticket.started or ticket.handed) <= self._settings.look_ahead:
                break
            long += 1
        return self.concurrency - long

    def _ahead(self, quick: int) -> int:
        if not self.average:
            return 0
        expected = self._settings.look_ahead * quick / max(self.average, QUICKEST)
        return min(int(expected), self._settings.most_ahead)

    @property
    def waits(self) -> bool:
        """Whether any ticket waits for a slot."""
        return bool(self._waiting)

    def withdraw(self) -> list[Ticket]:
        """Take back the tickets that were not started."""
        with self._lock:
            tickets = [ticket for waiting in self._waiting.values() for ticket in waiting]
            self._waiting.clear()
        return tickets

    def withdraw_stale(self) -> list[Ticket]:
        """If a ticket waits for too long, take back those that would not be claimed any more as things stand."""
        now = self.executor.monotonic()
        with self._lock:
            since = min((tickets[0].handed for tickets in self._waiting.values()), default=now)
            if now - since <= self._settings.longest_ahead:
                return []
            spare = sum(map(len, self._waiting.values())) - self._ahead(self._quick(now))
            return [self._pop_last() for _ in range(spare)]

    def _pop_last(self) -> Ticket:
        level = max(self._waiting)
        ticket = self._waiting[level].pop()
        if not self._waiting[level]:
            del self._waiting[level]
        return ticket
