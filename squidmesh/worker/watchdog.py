"""The watchdog: one thread that knows when the time of running steps is up. Steps without a time-out never meet it."""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.worker.ticket import Ticket

FORGOTTEN: Final = 64
"""Entries of steps that have ended are swept when there are more of them than this, and than others."""


@dataclass(frozen=True, slots=True)
class Expired:
    """The time of a step is up."""

    ticket: Ticket


@dataclass(slots=True, order=True)
class _Entry:
    """When which body is to have ended; ``number`` tells apart what is due at once."""

    at: float
    number: int
    ticket: Ticket | None = field(compare=False)


class Watchdog:
    """Says when the time of a step is up; its thread starts with the first step that has a time-out.

    Args:
        bark: Called on the watchdog's thread with what expired.
        monotonic: The clock that durations are measured with.
    """

    def __init__(self, bark: Callable[[Expired], None], monotonic: Callable[[], float]) -> None:
        self._bark = bark
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._numbers = itertools.count()
        self._heap: list[_Entry] = []
        self._watched: dict[Ticket, _Entry] = {}
        self._thread: threading.Thread | None = None
        self._stopped = False

    def watch(self, ticket: Ticket, seconds: float) -> None:
        """The body begins now, and has so many seconds; one that is run again has what is left."""
        with self._changed:
            if ticket in self._watched:
                return
            entry = self._watched[ticket] = _Entry(self._monotonic() + seconds, next(self._numbers), ticket)
            heapq.heappush(self._heap, entry)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="squidmesh-watchdog", daemon=True)
                self._thread.start()
            elif self._heap[0] is entry:
                self._changed.notify()

    def forget(self, ticket: Ticket) -> None:
        """The body has ended."""
        with self._changed:
            entry = self._watched.pop(ticket, None)
            if entry is not None:
                entry.ticket = None  # and with it what its run weighs
            if len(self._heap) > 2 * len(self._watched) + FORGOTTEN:
                self._heap = list(self._watched.values())
                heapq.heapify(self._heap)

    def stop(self) -> None:
        """End the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        with self._changed:
            while not self._stopped:
                left = self._heap[0].at - self._monotonic() if self._heap else None
                if left is not None and left <= 0:
                    ticket = heapq.heappop(self._heap).ticket
                    if ticket is not None:
                        del self._watched[ticket]
                        self._bark(Expired(ticket))
                else:
                    self._changed.wait(left)
