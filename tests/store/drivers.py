"""Both drivers behind one face, so that each test is written once and proves both."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import psycopg
from psycopg.rows import dict_row
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from squidmesh.store.database import AsyncDatabase, Database
from tests.store.kit import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from squidmesh.store.statements import Flow, Statement

T = TypeVar("T")

SETTINGS = {"autocommit": True, "prepare_threshold": None}


class Host(Protocol):
    """A connection that the caller has, and may have changed."""

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation on it."""

    def execute(self, query: str) -> None:
        """What the caller itself does with it."""

    def run_in_pipeline(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation inside the caller's pipeline."""

    def state(self) -> str:
        """Whether it is in a transaction: IDLE, INTRANS, INERROR."""

    def close(self) -> None: ...


class Driver(Protocol):
    """A database, reached through a pool of one connection."""

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a transaction of its own."""

    def host(self, *, autocommit: bool = False, odd: bool = False) -> Host:
        """A caller's connection; an odd one has its own ideas of rows, cursors and JSON."""

    def close(self) -> None: ...


class SyncDriver:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool = ConnectionPool(dsn, min_size=1, max_size=1, kwargs=SETTINGS, open=True)
        self._database = Database(self._pool, SCHEMA)

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        return self._database.run(operation)

    def host(self, *, autocommit: bool = False, odd: bool = False) -> Host:
        connection: psycopg.Connection[Any] = psycopg.connect(self._dsn, autocommit=autocommit)
        if odd:
            connection.row_factory = dict_row
            connection.cursor_factory = psycopg.ClientCursor
            set_json_loads(_refuse, connection)
        return _SyncHost(self._database, connection)

    def close(self) -> None:
        self._pool.close()


class _SyncHost:
    def __init__(self, database: Database, connection: psycopg.Connection[Any]) -> None:
        self._database = database
        self._connection = connection

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        return self._database.run(operation, self._connection)

    def execute(self, query: str) -> None:
        self._connection.execute(query.encode())

    def run_in_pipeline(self, operation: Flow[T] | Statement[T]) -> T:
        with self._connection.pipeline():
            return self.run(operation)

    def state(self) -> str:
        return self._connection.info.transaction_status.name

    def close(self) -> None:
        self._connection.close()


class AsyncDriver:
    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._loop = asyncio.Runner()
        self._pool = AsyncConnectionPool(dsn, min_size=1, max_size=1, kwargs=SETTINGS, open=False)
        self._loop.run(self._pool.open())
        self._database = AsyncDatabase(self._pool, SCHEMA)

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        return self._loop.run(self._database.run(operation))

    def host(self, *, autocommit: bool = False, odd: bool = False) -> Host:
        connection: psycopg.AsyncConnection[Any] = self._loop.run(
            psycopg.AsyncConnection.connect(self._dsn, autocommit=autocommit)
        )
        if odd:
            connection.row_factory = dict_row
            connection.cursor_factory = psycopg.AsyncClientCursor
            set_json_loads(_refuse, connection)
        return _AsyncHost(self._loop.run, self._database, connection)

    def close(self) -> None:
        self._loop.run(self._pool.close())
        self._loop.close()


class _AsyncHost:
    def __init__(
        self,
        wait: Callable[[Coroutine[Any, Any, Any]], Any],
        database: AsyncDatabase,
        connection: psycopg.AsyncConnection[Any],
    ) -> None:
        self._wait = wait
        self._database = database
        self._connection = connection

    def run(self, operation: Flow[T] | Statement[T]) -> T:
        found: T = self._wait(self._database.run(operation, self._connection))
        return found

    def execute(self, query: str) -> None:
        self._wait(self._connection.execute(query.encode()))

    def run_in_pipeline(self, operation: Flow[T] | Statement[T]) -> T:
        async def piped() -> T:
            async with self._connection.pipeline():
                return await self._database.run(operation, self._connection)

        found: T = self._wait(piped())
        return found

    def state(self) -> str:
        return self._connection.info.transaction_status.name

    def close(self) -> None:
        self._wait(self._connection.close())


def _refuse(text: str | bytes) -> Any:
    raise AssertionError("the host's JSON loader was asked")
