"""Where a harness's operations go: a throw-away schema, or the open transaction of the caller's connection.

Either has a clock that stands still until it is set.
"""

from __future__ import annotations

import threading
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row
from psycopg.sql import SQL, Identifier

from squidmesh.errors import ConnectionUnusable, HarnessError
from squidmesh.store.database import as_flow, begins_our_own, drive, take_part, take_part_async
from squidmesh.store.migrations import ensure_schema
from squidmesh.store.statements import Statement, check_schema_name, sql_of
from squidmesh.testing.schemas import found_dsn, throw_away

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from typing import LiteralString

    from squidmesh.store.statements import Flow

T = TypeVar("T")

_MAKE_CLOCK: Final = """
CREATE OR REPLACE FUNCTION pg_temp.squidmesh_clock() RETURNS timestamptz LANGUAGE sql STABLE
    RETURN current_setting('squidmesh.now')::timestamptz
"""
CLOCK: Final = "pg_temp.squidmesh_clock()"
"""A clock that only this session has, and only until its transaction is rolled back: it disturbs nobody beside it."""

UNSAID: Final = ("pin_plans", "limit_wait", "limit_idleness")
"""Statements about a transaction, this session's being the test's: they would change how its own queries are planned,
and how long it may wait and think."""

NAME: Final = "squidmesh.testing"


class Session(Protocol):
    """Runs operations, and owns the clock that they see."""

    schema: str
    now: datetime

    def ask(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a transaction of its own, or what stands for one."""
        ...

    def run(self, operation: Flow[T], connection: psycopg.Connection[Any] | None) -> T:
        """Run an operation of a mesh, which may have been given a connection to take part on."""
        ...

    async def run_async(self, operation: Flow[T], connection: psycopg.AsyncConnection[Any] | None) -> T:
        """The same for the async twin."""
        ...

    def set_clock(self, now: datetime) -> None:
        """Set the clock."""
        ...

    def around_body(self) -> AbstractContextManager[None]:
        """What a step's body runs in."""
        ...

    def lend(self) -> AbstractContextManager[psycopg.Connection[Any]]:
        """A connection for a transactional step."""
        ...

    def lend_async(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """A connection for one that is async.

        Raises:
            HarnessError: There can be none.
        """
        ...

    def ask_within(self, connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T]) -> T:
        """Run an operation within the transaction of a connection that was lent."""
        ...


class SchemaSession:
    """A session on a throw-away schema, with a connection of its own.

    Args:
        connection: In autocommit mode.
        dsn: Where it leads to.
        schema: The schema.
        at: The instant that time begins at; by default the current one.
    """

    def __init__(self, connection: psycopg.Connection[Any], dsn: str, schema: str, at: datetime | None) -> None:
        self.schema = schema
        self._dsn = dsn
        self._connection = connection
        self._lent: psycopg.Connection[Any] | None = None
        self._lock = threading.RLock()
        self._table = Identifier(schema, "virtual_time")
        self.set_clock(at or datetime.now(UTC))

    def close(self) -> None:
        """Close what was opened beside the session's own connection."""
        if self._lent is not None:
            self._lent.close()

    def ask(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a transaction of its own."""
        with self._lock:  # code under test may have threads
            return drive(self._connection, operation, self.schema)

    def run(self, operation: Flow[T], connection: psycopg.Connection[Any] | None) -> T:
        """Run an operation of a mesh."""
        return self.ask(operation) if connection is None else take_part(connection, operation, self.schema)

    async def run_async(self, operation: Flow[T], connection: psycopg.AsyncConnection[Any] | None) -> T:
        """Run an operation of an async mesh."""
        return self.ask(operation) if connection is None else await take_part_async(connection, operation, self.schema)

    def set_clock(self, now: datetime) -> None:
        """Set the clock, for whoever uses the schema."""
        self.now = now
        with self._lock:
            self._connection.execute(SQL("UPDATE {} SET now = %s").format(self._table), [now])

    def around_body(self) -> AbstractContextManager[None]:
        """Nothing: a body has its own connections."""
        return nullcontext()

    @contextmanager
    def lend(self) -> Generator[psycopg.Connection[Any]]:
        """A connection beside the session's own, as a worker's pool has one; opened when the first step asks."""
        lent = self._lent
        if lent is None or lent.info.transaction_status is not pq.TransactionStatus.IDLE:  # closed, or left in disorder
            self.close()
            lent = self._lent = psycopg.connect(self._dsn, autocommit=True, application_name=NAME)
            lent.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        lent.row_factory, lent.cursor_factory = tuple_row, psycopg.Cursor
        yield lent

    @asynccontextmanager
    async def lend_async(self) -> AsyncGenerator[psycopg.AsyncConnection[Any]]:
        """The same on the loop that the step runs on."""
        connection = await psycopg.AsyncConnection.connect(self._dsn, autocommit=True, application_name=NAME)
        try:
            await connection.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
            yield connection
        finally:
            await connection.close()

    def ask_within(self, connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T]) -> T:
        """Run an operation within a step's transaction."""
        return drive(connection, operation, self.schema, own_transaction=False)


class TransactionSession:
    """A session inside the transaction that is open on a caller's connection. It never begins and never commits.

    Args:
        connection: The caller's.
        schema: The schema, migrated.

    Raises:
        ConnectionUnusable: No transaction is open there, or it cannot be used.
    """

    def __init__(self, connection: psycopg.Connection[Any], schema: str, at: datetime | None) -> None:
        self.schema = check_schema_name(schema)
        self._connection = connection
        self._lock = threading.RLock()
        if begins_our_own(connection, psycopg.Connection):
            raise ConnectionUnusable(
                "harness(connection=) works inside a transaction that you roll back at the end, "
                "and none is open on this connection; begin one first"
            )
        with psycopg.Cursor(connection, row_factory=tuple_row) as cursor:
            # Begins the transaction, if the connection is one that does so by itself and nothing was said yet.
            cursor.execute(_MAKE_CLOCK)
            cursor.execute("SELECT current_setting('transaction_isolation'), statement_timestamp()")
            (level, real), *_ = cursor.fetchall()
        if level != "read committed":
            raise ConnectionUnusable(f"connection= is in isolation level {level!r}; squidmesh needs READ COMMITTED")
        self.now = at or real.astimezone(UTC)
        self.ask(ensure_schema(self.schema))

    def ask(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation in a savepoint."""
        with self._lock:
            self._check("something has ended it")
            with self._connection.transaction():
                return self.ask_within(self._connection, operation)

    def ask_within(self, connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T]) -> T:
        """Run an operation, in no savepoint of its own."""
        return drive(
            connection, self._on_time(operation), self.schema, own_transaction=False, pipeline=False, text=_text
        )

    def run(self, operation: Flow[T], connection: psycopg.Connection[Any] | None) -> T:
        """Run an operation of a mesh."""
        if connection is not None and connection is not self._connection:
            raise ConnectionUnusable("connection= must be the harness's own: another one does not see its transaction")
        return self.ask(operation)

    async def run_async(self, operation: Flow[T], connection: psycopg.AsyncConnection[Any] | None) -> T:
        """Run an operation of an async mesh."""
        if connection is not None:
            raise ConnectionUnusable(
                "connection= cannot be an async one here: it does not see the harness's transaction"
            )
        return self.ask(operation)

    def set_clock(self, now: datetime) -> None:
        """Set the clock, for this transaction."""
        self.now = now

    @contextmanager
    def around_body(self) -> Generator[None]:
        """A savepoint: a body that uses the connection, and fails in it, must not spoil the whole test."""
        self._execute("SAVEPOINT squidmesh_body")
        try:
            yield
        finally:
            if self._connection.info.transaction_status is pq.TransactionStatus.INERROR:
                self._execute("ROLLBACK TO SAVEPOINT squidmesh_body")
            self._check("the step that just ran has ended it")
            self._execute("RELEASE SAVEPOINT squidmesh_body")

    @contextmanager
    def lend(self) -> Generator[psycopg.Connection[Any]]:
        """The caller's own connection, as a step expects one: its transaction is a savepoint of theirs."""
        mine = self._connection
        factories, mine.row_factory, mine.cursor_factory = (
            (mine.row_factory, mine.cursor_factory),
            tuple_row,
            psycopg.Cursor,
        )
        try:
            yield mine
        finally:
            mine.row_factory, mine.cursor_factory = factories

    def lend_async(self) -> AbstractAsyncContextManager[psycopg.AsyncConnection[Any]]:
        """None: it would not see the harness's transaction.

        Raises:
            HarnessError: Always.
        """
        raise HarnessError(
            "an async step with transaction=True needs an AsyncConnection, which does not see the transaction that "
            "this harness works in; leave connection= out, or replace the step with a function that is not async"
        )

    def _on_time(self, operation: Flow[T] | Statement[T]) -> Flow[T]:
        # Said each time: a savepoint that is rolled back takes the setting with it, and must not take time back.
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute("SELECT set_config('squidmesh.now', %s, true)", [self.now.isoformat()])
        return as_flow(operation)

    def _execute(self, command: LiteralString) -> None:
        with psycopg.Cursor(self._connection) as cursor:
            cursor.execute(command)

    def _check(self, blame: str) -> None:
        status = self._connection.info.transaction_status
        if self._connection.closed or status is not pq.TransactionStatus.INTRANS:
            raise ConnectionUnusable(f"the harness's transaction is not open any more ({status.name}): {blame}")


@cache
def _text(name: str, schema: str) -> LiteralString:
    """A statement's text, with the clock of this session in place of the schema's."""
    if name in UNSAID:
        return "SELECT 1"
    text = sql_of(name, schema)
    return text.replace(f"{schema}.clock()", CLOCK)  # pyright: ignore[reportReturnType] - as in sql_of


@contextmanager
def open_session(
    dsn: str | None, connection: psycopg.Connection[Any] | None, schema: str, at: datetime | None, *, fresh: bool
) -> Generator[Session]:
    """A session for one test."""
    if connection is not None:
        yield TransactionSession(connection, schema, at)
        return
    dsn = found_dsn(dsn)
    with (
        psycopg.connect(dsn, autocommit=True, application_name=NAME) as own,
        throw_away(own, dsn, fresh=fresh) as made,
        closing(SchemaSession(own, dsn, made, at)) as session,
    ):
        yield session
