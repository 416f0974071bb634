"""Waiting for runs to end: one listener for all who wait in this process, whether in threads or in event loops."""

from __future__ import annotations

import threading
from collections import defaultdict
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from squidmesh.store.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    import psycopg


class Waiters:
    """Who waits for which run. The listener starts with the first of them and stays.

    Args:
        connect: Opens a connection for LISTEN; None if there is none, then everybody polls.
        channel: Where ends of runs are announced.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]] | None, channel: str) -> None:
        self._connect = connect
        self._channel = channel
        self._lock = threading.Lock()
        self._waiting: dict[str, list[Callable[[], object]]] = defaultdict(list)
        """What to call, by what is said when the run ends."""
        self._listener: Listener | None = None

    @property
    def listening(self) -> bool:
        """Whether ends of runs are heard of right now."""
        listener = self._listener
        return listener is not None and listener.connected.is_set()

    def add(self, run_id: UUID, wake: Callable[[], object]) -> Callable[[], None]:
        """Call ``wake`` whenever the run may have ended; return the function that ends this.

        ``wake`` is called on the listener's thread and must not block.
        """
        said = f"run:{run_id}"
        with self._lock:
            self._waiting[said].append(wake)
            if self._listener is None and self._connect is not None:
                self._listener = Listener(self._connect, self._channel, self._hear)
                self._listener.start()

        def remove() -> None:
            with self._lock:
                self._waiting[said].remove(wake)
                if not self._waiting[said]:
                    del self._waiting[said]

        return remove

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def _hear(self, payload: str | None) -> None:
        with self._lock:
            if payload is None:
                told = [wake for wakes in self._waiting.values() for wake in wakes]
            else:
                told = list(self._waiting.get(payload, ()))
        for wake in told:
            with suppress(RuntimeError):  # an event loop that was closed meanwhile
                wake()
