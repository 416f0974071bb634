"""Fixtures for the store's tests: one schema for all of them, wiped after each."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, TypeAlias

import psycopg
import pytest

from squidmesh.store.migrations import migrate
from tests.store.kit import SCHEMA, TABLES, Session, in_schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Connect: TypeAlias = "Callable[[], Session]"


@pytest.fixture(scope="session")
def store_dsn(dsn: str) -> str:
    """The address of the database in which the schema is ready."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, SCHEMA)
    return dsn


@pytest.fixture
def connect(store_dsn: str) -> Iterator[Connect]:
    """Opens sessions; at the end they are closed and the tables are empty."""
    with ExitStack() as undo:

        def opened() -> Session:
            session = Session(store_dsn)
            undo.callback(session.close)
            return session

        yield opened
    with psycopg.connect(store_dsn, autocommit=True) as connection:
        # Not TRUNCATE: new files for each table and index take a hundred times longer than a few dead rows.
        connection.execute(in_schema("".join(f"DELETE FROM squidmesh.{table};" for table in TABLES)))


@pytest.fixture
def store(connect: Connect) -> Session:
    """A session of the database."""
    return connect()


@pytest.fixture
def other(connect: Connect) -> Session:
    """A second session of the database."""
    return connect()
