"""A connection that one thread keeps for itself, and opens again when it broke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from squidmesh.store.database import drive

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from squidmesh.store.statements import Flow, Statement

T = TypeVar("T")


class Link:
    """One connection to the database.

    Args:
        connect: Opens a connection in autocommit mode.
        schema: The schema that squidmesh lives in.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], schema: str) -> None:
        self.schema = schema
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None

    @property
    def lost(self) -> bool:
        """Whether there is no connection that could be used."""
        return self._connection is None or self._connection.closed or self._connection.broken

    def ask(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a transaction of its own, on a new connection if need be."""
        if self._connection is None or self.lost:
            self.close()
            self._connection = self._connect()
        return drive(self._connection, operation, self.schema)

    def close(self) -> None:
        """Close the connection. The next question opens another one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
