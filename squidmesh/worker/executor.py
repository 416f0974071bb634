"""Executor threads: they run user code and never talk to the database, but for transactional steps.

Each queue has slots of its own: as many threads as are needed, up to the queue's concurrency.

(A ``ThreadPoolExecutor`` halves the speed, and joins stuck steps when the process exits.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.worker.slots import Slots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from squidmesh.worker.eventloop import EventLoopThread
    from squidmesh.worker.settings import WorkerSettings
    from squidmesh.worker.slots import Standing
    from squidmesh.worker.ticket import Ticket
    from squidmesh.worker.transactions import Transactions
    from squidmesh.worker.watchdog import Watchdog


class Executor:
    """Runs tickets, each queue with its own concurrency.

    Args:
        settings: The queues, and how many steps of each may run at once.
        loop: Runs the async ones.
        watchdog: Told of steps with a time-out.
        finish: Called with each ticket whose step has ended, on whatever thread it ran.
        monotonic: The clock that durations are measured with.
    """

    transactions: Transactions
    """Runs transactional steps; the worker sets it when there is an engine."""

    def __init__(
        self,
        settings: WorkerSettings,
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
        self._slots = {queue: Slots(self, queue, count, settings) for queue, count in settings.queues.items()}

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Run these tickets as soon as there is a free slot."""
        by_queue: dict[str, list[Ticket]] = {}
        for ticket in tickets:
            by_queue.setdefault(ticket.job.queue, []).append(ticket)
        for queue, found in by_queue.items():
            self._slots[queue].submit(found)

    def slots(self, queue: str) -> Slots:
        """The slots of a queue."""
        return self._slots[queue]

    def standing(self, queue: str) -> Standing:
        """How the slots of a queue stand right now."""
        return self._slots[queue].standing()

    @property
    def waits(self) -> bool:
        """Whether any ticket waits for a slot."""
        return any(slots.waits for slots in self._slots.values())

    def tell_to_stop(self, ticket: Ticket) -> None:
        """A body is not wanted any more: raise its flag, and cancel it for real if it is async."""
        ticket.cancellation.raised = True
        if ticket.function is not None and ticket.function.is_async:
            self.loop.cancel(ticket)

    def withdraw(self) -> list[Ticket]:
        """Take back the tickets that were not started."""
        return [ticket for slots in self._slots.values() for ticket in slots.withdraw()]

    def withdraw_stale(self) -> list[Ticket]:
        """Take back the tickets that wait for too long behind bodies that run for long."""
        return [ticket for slots in self._slots.values() for ticket in slots.withdraw_stale()]

    def running(self) -> list[Ticket]:
        """The tickets whose step runs."""
        return [ticket for slots in self._slots.values() for ticket in slots.running()]

    def stop(self) -> None:
        """Start nothing more and let idle threads end; those that still run user code end with the process."""
        self.stopped = True
        for slots in self._slots.values():
            slots.release_threads()
