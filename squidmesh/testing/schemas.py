"""Throw-away schemas: made and migrated once for a process, emptied for each test, dropped when the process ends."""

from __future__ import annotations

import atexit
import os
from collections import defaultdict
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
from psycopg.sql import SQL, Identifier

from squidmesh.embedded import EmbeddedPostgres, given_dsn
from squidmesh.store.migrations import migrate

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

KEPT: Final = ("meta", "virtual_time")
"""The tables that are not emptied."""

SERVER_SETTINGS: Final[Mapping[str, str]] = {"fsync": "off", "full_page_writes": "off"}
"""A test's data need not outlive a loss of power."""

LOCK_PATIENCE: Final = "1s"
"""How long to wait for rows of a test that should be over."""

_MAKE_CLOCK: Final = """
CREATE TABLE {schema}.virtual_time (now timestamptz NOT NULL);
INSERT INTO {schema}.virtual_time VALUES (statement_timestamp());
CREATE OR REPLACE FUNCTION {schema}.clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE
    RETURN (SELECT now FROM {schema}.virtual_time);
"""
"""From now on the schema's time is what this table says, for every connection."""

_free: Final[defaultdict[tuple[int, str], list[str]]] = defaultdict(list)
"""The schemas that no test uses, by process (a forked child has none of its parent's) and address."""


def found_dsn(dsn: str | None) -> str:
    """The address to test on: the given one, the environment's, or that of a Postgres of this process."""
    return dsn or given_dsn(os.environ) or _own_server(os.getpid()).dsn


@contextmanager
def throw_away(connection: psycopg.Connection[Any], dsn: str, *, fresh: bool) -> Generator[str]:
    """The name of a migrated, empty schema with virtual time.

    Args:
        connection: In autocommit mode.
        dsn: Where it leads to.
        fresh: Whether to make a new schema and to drop it afterwards.
    """
    if fresh:
        schema = _make(connection)
        try:
            yield schema
        finally:
            _drop(connection, schema)
        return
    free = _free[os.getpid(), dsn]
    schema = _used_before(connection, free) or ""
    if not schema:
        schema = _make(connection)
        atexit.register(_drop_later, os.getpid(), dsn, schema)
    try:
        yield schema
    finally:
        free.append(schema)


def _make(connection: psycopg.Connection[Any]) -> str:
    schema = f"squidmesh_test_{uuid4().hex[:12]}"
    migrate(connection, schema)
    connection.execute(SQL(_MAKE_CLOCK).format(schema=Identifier(schema)))
    return schema


def _used_before(connection: psycopg.Connection[Any], free: list[str]) -> str | None:
    while free:
        schema = free.pop()
        try:
            _empty(connection, schema)
        except psycopg.errors.LockNotAvailable:
            continue  # something that a test left open holds rows there
        return schema
    return None


def _empty(connection: psycopg.Connection[Any], schema: str) -> None:
    found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", [schema])
    tables = [Identifier(schema, name) for (name,) in found if name not in KEPT]
    # Not TRUNCATE: for a few rows that is ten times slower.
    with connection.transaction():
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [LOCK_PATIENCE])
        connection.execute(SQL("; ").join(SQL("DELETE FROM {}").format(table) for table in tables))


def _drop(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute("SET client_min_messages = warning")
    connection.execute(SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(Identifier(schema)))


def _drop_later(pid: int, dsn: str, schema: str) -> None:
    # The server, or the whole database, may be gone already.
    if pid == os.getpid():
        with suppress(psycopg.OperationalError), psycopg.connect(dsn, autocommit=True) as connection:
            _drop(connection, schema)


@cache
def _own_server(pid: int) -> EmbeddedPostgres:
    del pid  # a forked child starts its own
    return EmbeddedPostgres(settings=SERVER_SETTINGS).start()
