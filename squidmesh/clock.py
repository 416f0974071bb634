"""The only place where the package asks what time it is, and where randomness comes in.

Times that are stored come from the database (``squidmesh.clock()`` in SQL). The clock here measures durations, and
stamps ids and defaults of payloads.
"""

from __future__ import annotations

import os
import random
import threading
import time
from datetime import UTC, datetime
from typing import Final, Protocol
from uuid import UUID

_COUNTER_BITS: Final = 42
_RANDOM_BITS: Final = 32


class Clock(Protocol):
    """What the runtime asks of time; tests bring their own."""

    def monotonic(self) -> float:
        """Seconds on a clock that never goes back; only differences mean anything."""
        ...

    def now(self) -> datetime:
        """The current instant, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Seconds on the machine's monotonic clock."""
        return time.monotonic()

    def now(self) -> datetime:
        """The machine's idea of the current instant."""
        return datetime.now(UTC)


class UuidFactory:
    """Makes UUIDs of version 7 (RFC 9562, method 1 of section 6.2): time, a counter, and randomness.

    Ids of one process sort in the order they were made. They are unguessable enough to be ids, not to be secrets.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = 0
        self._last_ms = 0
        self._counter = 0

    def __call__(self) -> UUID:
        """A new id."""
        ms = time.time_ns() // 1_000_000
        with self._lock:
            # A forked child must not go on with its parent's counter.
            if ms > self._last_ms or os.getpid() != self._pid:
                self._pid = os.getpid()
                self._last_ms = max(ms, self._last_ms)
                self._counter = random.getrandbits(_COUNTER_BITS - 1)
            else:
                self._counter += 1
            ms, counter = self._last_ms, self._counter
        return _compose(ms, counter, random.getrandbits(_RANDOM_BITS))

    def many(self, count: int) -> list[UUID]:
        """``count`` new ids, in order."""
        return [self() for _ in range(count)]


def _compose(ms: int, counter: int, low: int) -> UUID:
    """Lay out a version 7 UUID: 48 bits of time, 42 of counter around version and variant, 32 random ones."""
    high_counter, low_counter = counter >> 30, counter & ((1 << 30) - 1)
    value = (ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76 | high_counter << 64
    value |= 0b10 << 62 | low_counter << 32 | low
    return UUID(int=value)


new_id: Final = UuidFactory()
"""Makes the ids of this process."""
