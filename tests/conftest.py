"""Fixtures for all tests: a real Postgres, started only when a test asks for one.

Each test process has a server of its own (half a second), so a chaos test that restarts it disturbs nobody. With
``SQUIDMESH_DATABASE_URL`` or ``DATABASE_URL`` set, the tests use that server and make their databases in it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier

from squidmesh.embedded import EmbeddedPostgres, given_dsn
from tests.effort import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator

# No deadline and no complaint about slowness: a busy machine is not a failure. In CI every run tries the same examples.
settings.register_profile(
    "squidmesh",
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("squidmesh")

# A killed server process loses nothing with these; only a machine that loses its power would. Commits stay commits.
SERVER_SETTINGS = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}


@dataclass(frozen=True, slots=True)
class TestServer:
    """The server that the tests use: ``embedded`` is None where the user gave a database of their own."""

    __test__ = False

    dsn: str
    embedded: EmbeddedPostgres | None = None

    def dsn_for(self, database: str) -> str:
        return make_conninfo(self.dsn, dbname=database)

    def create_database(self) -> str:
        """Make an empty database and return its name."""
        name = f"squidmesh_test_{uuid4().hex[:12]}"
        # Copying files needs a checkpoint: three times faster on our own server, a nuisance on somebody else's.
        how = SQL(" STRATEGY FILE_COPY") if self.embedded else SQL("")
        self._execute(SQL("CREATE DATABASE {}").format(Identifier(name)) + how)
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is still connected to it."""
        self._execute(SQL("DROP DATABASE {} WITH (FORCE)").format(Identifier(name)))

    def _execute(self, statement: psycopg.sql.Composed) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres() -> Iterator[TestServer]:
    """The server of this test process."""
    if given := given_dsn(os.environ):
        yield TestServer(given)
        return
    with EmbeddedPostgres(settings=SERVER_SETTINGS, tcp=True) as embedded:
        yield TestServer(embedded.dsn, embedded)


@pytest.fixture(scope="session")
def dsn(postgres: TestServer) -> Iterator[str]:
    """The address of a database that this test process has for itself."""
    name = postgres.create_database()
    yield postgres.dsn_for(name)
    postgres.drop_database(name)


@pytest.fixture
def fresh_database(postgres: TestServer) -> Iterator[str]:
    """The address of an empty database that this test has for itself; it costs 30 ms, so few tests should ask."""
    name = postgres.create_database()
    yield postgres.dsn_for(name)
    postgres.drop_database(name)
