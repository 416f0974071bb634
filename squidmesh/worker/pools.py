"""The connections that a worker lends to transactional steps: pools of its own, opened when the first step asks."""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol

import psycopg
from psycopg.rows import tuple_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from squidmesh.store.database import check_pooled, check_pooled_async, close_at_exit

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager

NAME: Final = "squidmesh-steps"
LONGEST_IDLE: Final = 60.0
"""Seconds until a connection that nobody needed is closed."""


class PoolAddress(Protocol):
    """Where the database is, and how connections are set up."""

    def conninfo(self) -> str:
        """The address of the database."""
        ...

    @property
    def kwargs(self) -> dict[str, Any]:
        """How connections are set up, beside what the address itself says."""
        ...


class Lender(Protocol):
    """Where the connections of transactional steps come from; in a worker they are ``Pools``."""

    def lend(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection for a sync step."""
        ...

    def lend_async(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection for an async step."""
        ...


class Pools:
    """One pool for sync steps, one for the event loop of async steps.

    Args:
        address: Where the database is.
        queues: The worker's queues with their concurrency: a step never waits for another's connection.
    """

    def __init__(self, address: PoolAddress, queues: Mapping[str, int]) -> None:
        self._address = address
        self._size = sum(queues.values())
        self._lock = threading.Lock()
        self._sync: ConnectionPool[psycopg.Connection[Any]] | None = None
        self._async: AsyncConnectionPool[psycopg.AsyncConnection[Any]] | None = None

    @contextmanager
    def lend(self) -> Generator[psycopg.Connection[Any]]:
        """A connection for a sync step."""
        pool = self.sync()
        connection = pool.getconn()
        try:
            yield connection
        finally:
            pool.putconn(connection)

    @asynccontextmanager
    async def lend_async(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """A connection for an async step; on their event loop only."""
        pool = await self.of_loop()
        connection = await pool.getconn()
        try:
            yield connection
        finally:
            await pool.putconn(connection)

    def sync(self) -> ConnectionPool[psycopg.Connection[Any]]:
        """The pool of sync steps."""
        with self._lock:
            if self._sync is None:
                self._sync = ConnectionPool(
                    self._address.conninfo(),
                    kwargs=self._address.kwargs,
                    min_size=0,
                    max_size=self._size,
                    max_idle=LONGEST_IDLE,
                    open=True,
                    name=NAME,
                    configure=_configure,
                    check=check_pooled,
                    reset=_reset,
                )
                close_at_exit(self._sync)
            return self._sync

    async def of_loop(self) -> AsyncConnectionPool[psycopg.AsyncConnection[Any]]:
        """The pool of async steps; called on their event loop only."""
        if self._async is None:
            pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]] = AsyncConnectionPool(
                self._address.conninfo(),
                kwargs=self._address.kwargs,
                min_size=0,
                max_size=self._size,
                max_idle=LONGEST_IDLE,
                open=False,
                name=NAME,
                configure=_configure_async,
                check=check_pooled_async,
                reset=_reset_async,
            )
            self._async = pool
            await pool.open()
        return self._async

    def close(self) -> None:
        """Close the sync pool; a connection that is still out is closed when it comes back."""
        with self._lock:
            pool, self._sync = self._sync, None
        if pool is not None:
            pool.close()

    async def close_of_loop(self) -> None:
        """Close the async pool, on its event loop."""
        pool, self._async = self._async, None
        if pool is not None:
            await pool.close()


def _configure(connection: psycopg.Connection[Any]) -> None:
    # Whatever the server's default: the fence is read after the run's lock was waited for, and must be today's.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


async def _configure_async(connection: psycopg.AsyncConnection[Any]) -> None:
    await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)


def _reset(connection: psycopg.Connection[Any]) -> None:
    """What a step changed in Python is not the next one's business; what it SET on the server is its own."""
    connection.row_factory = tuple_row
    connection.cursor_factory = psycopg.Cursor


async def _reset_async(connection: psycopg.AsyncConnection[Any]) -> None:
    connection.row_factory = tuple_row
    connection.cursor_factory = psycopg.AsyncCursor
