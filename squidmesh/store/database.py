"""The two drivers: they run statements and flows on a connection, sync and async.

A flow of several batches is one transaction: BEGIN travels with its first batch and COMMIT with its last, and each
batch is one round trip (libpq's pipeline mode), together with those that were sent ahead of it. A flow of one batch
with one statement is that statement alone, in autocommit. On a caller's connection (``connection=``) everything takes
part in the caller's own transaction.
"""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from contextlib import ExitStack, nullcontext
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, TypeVar

import psycopg
from psycopg import pq
from psycopg.rows import tuple_row

from squidmesh.errors import CommitUnknown, ConnectionUnusable
from squidmesh.store.statements import DEFAULT_SCHEMA, Batch, Flow, Statement, ask, check_schema_name, sql_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import LiteralString

    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from squidmesh.store.statements import Rows

T = TypeVar("T")
SqlText: TypeAlias = "Callable[[str, str], LiteralString]"


class Database:
    """Runs flows on a pool of sync connections.

    Args:
        pool: The pool; its connections are in autocommit mode.
        schema: The schema that squidmesh lives in.
    """

    def __init__(self, pool: ConnectionPool[psycopg.Connection[Any]], schema: str = DEFAULT_SCHEMA) -> None:
        self.pool = pool
        self.schema = check_schema_name(schema)

    def run(self, operation: Flow[T] | Statement[T], connection: psycopg.Connection[Any] | None = None) -> T:
        """Run an operation, in a transaction of its own or in the caller's.

        Raises:
            ConnectionUnusable: The caller's connection cannot take part.
        """
        if connection is None:
            # Not ``pool.connection()``: that commits once more, and ``drive`` leaves nothing open.
            pooled = self.pool.getconn()
            try:
                return drive(pooled, operation, self.schema)
            finally:
                self.pool.putconn(pooled)
        return take_part(connection, operation, self.schema)


class AsyncDatabase:
    """Runs flows on a pool of async connections; the twin of ``Database``."""

    def __init__(self, pool: AsyncConnectionPool[psycopg.AsyncConnection[Any]], schema: str = DEFAULT_SCHEMA) -> None:
        self.pool = pool
        self.schema = check_schema_name(schema)

    async def run(self, operation: Flow[T] | Statement[T], connection: psycopg.AsyncConnection[Any] | None = None) -> T:
        """Run an operation, in a transaction of its own or in the caller's."""
        if connection is None:
            pooled = await self.pool.getconn()
            try:
                return await drive_async(pooled, operation, self.schema)
            finally:
                await self.pool.putconn(pooled)
        return await take_part_async(connection, operation, self.schema)


def take_part(connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T], schema: str) -> T:
    """Run an operation in the transaction of a caller's connection, or in one of its own if none is open there.

    Raises:
        ConnectionUnusable: The connection cannot take part.
    """
    own = begins_our_own(connection, psycopg.Connection)
    return drive(connection, _guarded(operation), schema, own_transaction=own, pipeline=False)


async def take_part_async(
    connection: psycopg.AsyncConnection[Any], operation: Flow[T] | Statement[T], schema: str
) -> T:
    """The twin of ``take_part``."""
    own = begins_our_own(connection, psycopg.AsyncConnection)
    return await drive_async(connection, _guarded(operation), schema, own_transaction=own, pipeline=False)


class _Command(NamedTuple):
    """One command of a round trip; a statement has a ``decode``, BEGIN and COMMIT have none."""

    sql: LiteralString
    params: Mapping[str, object] | None = None
    decode: Callable[[Rows], Any] | None = None
    commits: bool = False


_BEGIN: Final = _Command("BEGIN")
_COMMIT: Final = _Command("COMMIT", commits=True)


class _Script:
    """Turns the batches of a flow into commands: what both drivers share."""

    def __init__(self, schema: str, *, own_transaction: bool, text: SqlText = sql_of) -> None:
        self.schema = schema
        self.own_transaction = own_transaction
        self.text = text
        self.begun = False

    def commands(self, batch: Batch) -> list[_Command]:
        """The batch, with BEGIN before the first and COMMIT after the last."""
        alone = self.own_transaction and batch.last and not self.begun and len(batch.statements) == 1
        said = [
            _Command(self.text(s.name, self.schema), s.params, s.decode, alone and s.commits) for s in batch.statements
        ]
        if self.own_transaction and not alone:
            said = [*([] if self.begun else [_BEGIN]), *said, *([_COMMIT] if batch.last else [])]
        self.begun = True
        return said


def drive(
    connection: psycopg.Connection[Any],
    operation: Flow[T] | Statement[T],
    schema: str = DEFAULT_SCHEMA,
    *,
    own_transaction: bool = True,
    pipeline: bool = True,
    text: SqlText = sql_of,
) -> T:
    """Run a flow on a sync connection.

    Args:
        connection: Where to; in autocommit mode if the transaction is ours.
        operation: The flow, or a single statement.
        schema: The schema that squidmesh lives in.
        own_transaction: Whether to begin and commit; otherwise the caller does.
        pipeline: Whether a batch may travel as one round trip.
        text: Gives a statement's text for a schema.

    Raises:
        CommitUnknown: The connection was lost while the commit was on its way.
    """
    flow, script = as_flow(operation), _Script(schema, own_transaction=own_transaction, text=text)
    wire = _Wire(connection, pipeline=pipeline)
    try:
        try:
            batch = next(flow)
            while True:
                batch = flow.send(wire.send(script.commands(batch), ahead=batch.ahead))
        except StopIteration as stop:
            if own_transaction and _in_transaction(connection):
                wire.send([_COMMIT])  # the flow read, and found nothing to save
            wire.settle()
            result: T = stop.value
            return result
    except BaseException:
        wire.hang_up()
        if own_transaction and _in_transaction(connection):
            connection.rollback()
        raise


async def drive_async(
    connection: psycopg.AsyncConnection[Any],
    operation: Flow[T] | Statement[T],
    schema: str = DEFAULT_SCHEMA,
    *,
    own_transaction: bool = True,
    pipeline: bool = True,
) -> T:
    """Run a flow on an async connection; the twin of ``drive``."""
    flow, script = as_flow(operation), _Script(schema, own_transaction=own_transaction)
    try:
        batch = next(flow)
        while True:
            found = await _send_async(connection, script.commands(batch), pipeline=pipeline)
            batch = flow.send([] if batch.ahead else found)
    except StopIteration as stop:
        if own_transaction and _in_transaction(connection):
            await _send_async(connection, [_COMMIT], pipeline=False)
        result: T = stop.value
        return result
    except BaseException:
        if own_transaction and _in_transaction(connection):
            await connection.rollback()
        raise


class _Wire:
    """Sends commands on a sync connection, if allowed in one round trip with those that were sent ahead of them."""

    __slots__ = ("_begun", "_connection", "_pipeline")

    def __init__(self, connection: psycopg.Connection[Any], *, pipeline: bool) -> None:
        self._connection = connection
        self._pipeline = pipeline and psycopg.Pipeline.is_supported()
        self._begun: ExitStack | None = None
        """The round trip under way."""

    def send(self, commands: list[_Command], *, ahead: bool = False) -> list[Any]:
        """Send commands and decode what comes back; or only send them, ``ahead`` of others."""
        # Cursors of our own class and row factory: a host may have changed those of its connection.
        cursors = [psycopg.Cursor(self._connection, row_factory=tuple_row) for _ in commands]
        if self._pipeline and self._begun is None and (ahead or len(commands) > 1):
            self._begun = ExitStack()
            self._begun.enter_context(self._connection.pipeline())
        try:
            for cursor, command in zip(cursors, commands, strict=True):
                cursor.execute(command.sql, command.params)
            if ahead:
                return []
            self.settle()
            rows = [cursor.fetchall() if _has_rows(cursor) else [] for cursor in cursors]
        except psycopg.OperationalError as error:
            self.hang_up()  # after which it is known whether the connection broke
            raise _lost(self._connection, commands, error) from error
        return [command.decode(found) for command, found in zip(commands, rows, strict=True) if command.decode]

    def settle(self) -> None:
        """Wait until the server has done all that was sent."""
        if self._begun is not None:
            self._begun.close()
            self._begun = None

    def hang_up(self) -> None:
        """Within the handler of an error: end the round trip under way, whatever comes of it."""
        begun, self._begun = self._begun, None
        if begun is not None:
            begun.__exit__(*sys.exc_info())


async def _send_async(
    connection: psycopg.AsyncConnection[Any], commands: list[_Command], *, pipeline: bool
) -> list[Any]:
    """The twin of ``_send``."""
    cursors = [psycopg.AsyncCursor(connection, row_factory=tuple_row) for _ in commands]
    together = pipeline and len(commands) > 1 and psycopg.AsyncPipeline.is_supported()
    try:
        async with connection.pipeline() if together else nullcontext():
            for cursor, command in zip(cursors, commands, strict=True):
                await cursor.execute(command.sql, command.params)
        rows = [await cursor.fetchall() if _has_rows(cursor) else [] for cursor in cursors]
    except psycopg.OperationalError as error:
        raise _lost(connection, commands, error) from error
    return [command.decode(found) for command, found in zip(commands, rows, strict=True) if command.decode]


def _has_rows(cursor: psycopg.Cursor[Any] | psycopg.AsyncCursor[Any]) -> bool:
    """Whether a statement gives rows; ``description`` would say so too, but it describes each column for that."""
    return cursor.pgresult is not None and cursor.pgresult.nfields > 0


def _lost(connection: _AnyConnection, commands: list[_Command], error: psycopg.OperationalError) -> Exception:
    """The error to raise: a commit whose answer was lost is a thing of its own."""
    if commands[-1].commits and connection.broken:
        return CommitUnknown(f"the connection was lost while a commit was on its way; it may have happened: {error}")
    return error


def as_flow(operation: Flow[T] | Statement[T]) -> Flow[T]:
    """An operation as a flow: a single statement is one of a single batch."""
    return ask(operation, last=True) if isinstance(operation, Statement) else operation


def _guarded(operation: Flow[T] | Statement[T]) -> Flow[T]:
    """The operation, after a look at the isolation level of the transaction that it takes part in."""
    level = yield from ask(Statement("read_isolation", {}, lambda rows: str(rows[0][0])))
    if level not in ("read committed", "read uncommitted"):
        raise ConnectionUnusable(f"connection= is in isolation level {level!r}; squidmesh needs READ COMMITTED")
    return (yield from as_flow(operation))


def check_pooled(connection: _AnyConnection) -> None:
    """Look, without asking the server, whether it has ended a connection that lay in a pool; for the pool's ``check``.

    Raises:
        psycopg.OperationalError: It has: the pool takes another one.
    """
    for _ in range(2):  # first its last words, then the end
        connection.pgconn.consume_input()


async def check_pooled_async(connection: psycopg.AsyncConnection[Any]) -> None:
    """The twin of ``check_pooled``."""
    check_pooled(connection)


def close_at_exit(pool: ConnectionPool[psycopg.Connection[Any]]) -> None:
    """Close a pool when the interpreter ends, if nobody has until then.

    A pool that is thrown away waits for its threads, and from Python 3.13 on these stand still by then: a script that
    does not close its mesh would take 20 seconds to end.
    """
    _OPEN_POOLS.add(pool)


_OPEN_POOLS: Final[weakref.WeakSet[ConnectionPool[psycopg.Connection[Any]]]] = weakref.WeakSet()


@atexit.register
def _close_open_pools() -> None:
    for pool in list(_OPEN_POOLS):
        pool.close()


if hasattr(os, "register_at_fork"):  # what the parent has open is not the child's to close
    os.register_at_fork(after_in_child=_OPEN_POOLS.clear)


def begins_our_own(connection: _AnyConnection, kind: type[_AnyConnection]) -> bool:
    """Whether the transaction on a caller's connection is ours to begin and commit: nobody else began one.

    Raises:
        ConnectionUnusable: It is none of this kind, closed, in a failed transaction, or in pipeline mode.
    """
    if not isinstance(connection, kind):
        raise ConnectionUnusable(f"connection= takes a psycopg.{kind.__name__}, not {type(connection).__name__}")
    if connection.closed:
        raise ConnectionUnusable("the connection given as connection= is closed")
    if connection.info.pipeline_status is not pq.PipelineStatus.OFF:
        raise ConnectionUnusable("the connection given as connection= is in pipeline mode; leave the pipeline first")
    status = connection.info.transaction_status
    if status is pq.TransactionStatus.INERROR:
        raise ConnectionUnusable("the transaction of connection= has failed; roll it back first")
    return bool(connection.autocommit) and status is pq.TransactionStatus.IDLE


def _in_transaction(connection: _AnyConnection) -> bool:
    # By the plain number, as it is asked after each operation; of a closed connection it is another one, UNKNOWN.
    return connection.pgconn.transaction_status in _BEGUN


_BEGUN: Final = (pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INTRANS, pq.TransactionStatus.INERROR)

_AnyConnection = psycopg.Connection[Any] | psycopg.AsyncConnection[Any]
