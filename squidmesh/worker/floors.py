"""Floors: where a worker's claims begin, so that what has passed through a queue is not read again by each of them.

A job that is claimed leaves the index of what is ready, but its entry stays until vacuum removes it, and vacuum removes
nothing that an open transaction might still see: beside a dump that takes an hour, a claim would read every job of that
hour before it comes to one that is ready. So the worker remembers for each queue, lane and priority from when on jobs
may be ready: what became ready earlier was taken already. A floor is a hint. It may hide a job for a moment (its start
took long to commit, somebody held it, a clock was set), but every second one look goes below them (``vigil``).

All times are monotonic, and the database is told how long ago they are: no clock is asked what time it is.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from squidmesh.records import Job, Lane
    from squidmesh.store.jobs import Room

MARGIN: Final = 2.0
"""Seconds within which a transaction that makes jobs ready has committed; those of one that takes longer are found by
the next look below the floors."""

MOST_PRIORITIES: Final = 16
"""Each costs a claim a descent of the index; of a queue that has more of them nothing is remembered."""


class Floors:
    """Remembers what is not worth looking at again."""

    def __init__(self) -> None:
        self._ready: dict[tuple[str, Lane], dict[int, float]] = {}
        self._due: dict[str, float] = {}

    def forget(self) -> None:
        """Look at everything next time."""
        self._ready.clear()
        self._due.clear()

    # -- ready jobs ----------------------------------------------------------------------------------------------

    def under(self, rooms: Iterable[Room], now: float) -> list[Room]:
        """The same rooms, with what is known of where to begin."""
        return [replace(room, floors=self._of(room, now)) for room in rooms]

    def _of(self, room: Room, now: float) -> tuple[tuple[int, float], ...]:
        known = self._ready.get((room.queue, room.lane))
        return tuple((priority, now - known[priority] + MARGIN) for priority in sorted(known)) if known else ()

    def note_claimed(self, rooms: Iterable[Room], jobs: Sequence[Job], asked: float) -> None:
        """A claim has committed.

        Args:
            rooms: What was asked for.
            jobs: What came of it.
            asked: The time before it was asked for.
        """
        caught: dict[tuple[str, Lane], list[Job]] = {}
        for job in jobs:
            caught.setdefault((job.queue, job.lane), []).append(job)
        for room in rooms:
            found = caught.get((room.queue, room.lane), [])
            known = self._ready.setdefault((room.queue, room.lane), {})
            known.update({job.priority: asked for job in found})
            if len(found) < room.limit:
                known.update({priority: asked for priority in known if priority <= room.worst})
            else:
                # They come in order: of better priorities than the last one's, whatever was ready came.
                last, since = max((job.priority, asked - max(job.waited, 0.0)) for job in found)
                known.update({priority: asked for priority in known if priority < last})
                known[last] = since
            if len(known) > MOST_PRIORITIES:
                known.clear()

    # -- sleeping jobs -------------------------------------------------------------------------------------------

    def due(self, now: float) -> dict[str, float]:
        """Of each queue, how many seconds ago what is of interest has become due."""
        return {queue: now - at + MARGIN for queue, at in self._due.items()}

    def note_woken(self, queues: Iterable[str], dues: Mapping[str, float], asked: float) -> None:
        """A look for sleeping jobs has committed.

        Args:
            queues: Where it looked.
            dues: Seconds until the next one of each queue; 0 if some are due still.
            asked: The time before it looked.
        """
        for queue in queues:
            if dues.get(queue, 1.0) > 0:
                self._due[queue] = asked
