"""The permit of a transactional step: whether what it wrote may still be committed."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

if TYPE_CHECKING:
    from squidmesh.planner.plan import Plan

    Connection: TypeAlias = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]

CANCEL_PATIENCE: Final = 5.0
"""Seconds for the server to hear that a query is to be cancelled."""

LAST_WORD: Final = 1.0
"""Seconds for a body to hear that its query was cancelled, before its session ends."""


class Permit:
    """Lends a connection to a step's body, and can be revoked until the saving of its result begins.

    After that only the database decides: the saving is short, and checks the fence under the run's lock.

    Attributes:
        connection: What the body was lent, while it has it.
        revoked: Whether the worker gave up on the body: its transaction must not be committed.
        saving: Whether its result is being saved.
        saved: The plan that was committed with the step's writes.
        in_doubt: Whether the answer to its COMMIT was lost.
    """

    __slots__ = ("_lock", "connection", "in_doubt", "revoked", "saved", "saving")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.connection: Connection | None = None
        self.revoked = self.saving = self.in_doubt = False
        self.saved: Plan | None = None

    def lend(self, connection: Connection) -> None:
        """A new transaction begins on this connection."""
        with self._lock:
            self.connection, self.saving = connection, False

    def begin_saving(self) -> bool:
        """Whether the result may be saved; from now on nothing interrupts that."""
        with self._lock:
            self.saving = not self.revoked
            return self.saving

    def take_back(self) -> None:
        """The transaction has ended; waits for who is about to cancel its query."""
        with self._lock:
            self.connection = None

    def revoke(self) -> bool:
        """Make sure that nothing is committed; return whether there is a session to ``sever`` for that."""
        if self.revoked:
            return False
        with self._lock:
            self.revoked = not self.saving
            return self.revoked and isinstance(self.connection, psycopg.Connection)

    def sever(self) -> None:
        """Cancel the query of a sync step whose permit was revoked, and end its session, with all its locks.

        The body may still be at it, and finds its connection broken. An async step is cancelled by other means. This
        may take a while, so it is called on a thread that has time.
        """
        with self._lock:
            connection = self.connection
            if not isinstance(connection, psycopg.Connection) or connection.closed:
                return
            with suppress(psycopg.Error):
                connection.cancel_safe(timeout=CANCEL_PATIENCE)
                _await_answer(connection)
            # A body between two queries holds its locks for as long as it likes, and the next attempt would wait.
            with suppress(psycopg.Error, OSError), socket.socket(fileno=_duplicate(connection)) as twin:
                twin.shutdown(socket.SHUT_RDWR)


def _await_answer(connection: psycopg.Connection[Any]) -> None:
    # The server has been told, but its answer to the body may still be on its way: the shutdown would overtake it.
    deadline = time.monotonic() + LAST_WORD
    while connection.info.transaction_status is TransactionStatus.ACTIVE and time.monotonic() < deadline:
        time.sleep(0.001)


def _duplicate(connection: psycopg.Connection[Any]) -> int:
    return socket.dup(connection.fileno())
