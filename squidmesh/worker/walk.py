"""A worker's walk through what ready jobs share: how far it has looked, and when it looks again.

What is metered waits in the database, in as many rows of the queue as there are accounts, say. A turn looks at some of
them; the next one goes on after those. When nothing more can be claimed, the worker looks again when a rate has a token
again or a pause is over. Who ends a job that holds a limit claims the next one in the same transaction.
"""

from __future__ import annotations

from math import inf
from random import uniform
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.store.meters import Metered, Walked

BUSY_PAUSE: Final = (0.002, 0.01)
"""Seconds, from and to, until a look at meters that another worker had locked: so long takes a commit."""


SHARED: Final = 2
"""So many looks in vain in a row say that other workers take the tokens of a rate as they come."""

SHORTEST_REST, LONGEST_REST = 0.02, 1.0
"""Seconds, from and to, that a worker rests then: not all of them need to wake for every token."""


class MeterWalk:
    """How far a worker has looked, and when it looks again.

    Attributes:
        again: When to look again, on the worker's monotonic clock; infinity if somebody will say so, or a slot will be
            free first.
    """

    def __init__(self) -> None:
        self.again = inf
        self._after: dict[str, str] = {}
        self._vain = 0
        self._asked: frozenset[str] = frozenset()
        self._soonest = inf
        """When there is something for it on the pages of this round that it has seen."""
        self._once_more = False
        """Whether there may be something for it now on a page of this round that it has seen already."""

    def begin(self, rooms: Mapping[str, int], *, news: bool) -> dict[str, str]:
        """A turn looks: after which meters of each queue it goes on.

        Args:
            rooms: The queues that have free slots.
            news: Whether something has become ready, or a place free, since the last look: that may be on any page.
        """
        self.again, self._asked = inf, frozenset(rooms)
        self._once_more |= news and bool(self._after)
        return {queue: self._after.get(queue, "") for queue in rooms}

    def end(self, now: float, walked: Mapping[str, Walked], metered: Metered) -> None:
        """The turn has looked.

        Args:
            now: The monotonic time.
            walked: How far, of the queues in which there was something.
            metered: What was claimed.
        """
        # A queue without a free slot keeps its place until it has one.
        places = {queue: found.last for queue, found in walked.items() if found.more}
        self._after = {queue: after for queue, after in self._after.items() if queue not in self._asked} | places
        self._once_more |= bool(metered.jobs)  # what took the last free slot has left others
        times = [self._soonest]
        if any(found.busy for found in walked.values()):
            times.append(now + uniform(*BUSY_PAUSE))  # noqa: S311 - jitter, not a secret
        if metered.jobs:
            self._vain = 0
        elif metered.opens is not None:
            self._vain += 1
        if metered.opens is not None:
            times.append(now + max(metered.opens, self._rest()))
        self._soonest = min(times)
        if places:
            self.again = now
            return
        self.again = now if self._once_more else self._soonest
        self._once_more, self._soonest = False, inf

    def _rest(self) -> float:
        if self._vain <= SHARED:
            return 0.0
        return min(SHORTEST_REST * 2.0 ** min(self._vain - SHARED, 16), LONGEST_REST) * uniform(0.5, 1.0)  # noqa: S311
