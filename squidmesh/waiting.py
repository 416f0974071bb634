"""Waiting for runs to end: one listener for all who wait in this process, whether in threads or in event loops."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING, Any
from uuid import UUID

from squidmesh.store.listener import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self._waiting: dict[UUID, list[Callable[[], object]]] = defaultdict(list)
        self._listener: Listener | None = None

    def add(self, run_id: UUID, wake: Callable[[], object]) -> Callable[[], None]:
        """Call ``wake`` whenever the run may have ended; return the function that ends this.

        ``wake`` is called on the listener's thread and must not block.
        """
        with self._lock:
            self._waiting[run_id].append(wake)
            if self._listener is None and self._connect is not None:
                self._listener = Listener(self._connect, self._channel, self._hear)
                self._listener.start()

        def remove() -> None:
            with self._lock:
                self._waiting[run_id].remove(wake)
                if not self._waiting[run_id]:
                    del self._waiting[run_id]

        return remove

    def close(self) -> None:
        """Stop listening."""
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()

    def _hear(self, payload: str | None) -> None:
        kind, _, name = (payload or "").partition(":")
        with self._lock:
            if payload is None:
                told = [wake for wakes in self._waiting.values() for wake in wakes]
            else:
                told = list(self._waiting.get(UUID(name), ())) if kind == "run" else []
        for wake in told:
            wake()
