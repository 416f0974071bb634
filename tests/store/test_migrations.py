"""Migrations: applied once whoever tries, readable beforehand, and refused with a word on what to do."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Barrier
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg
import pytest

from squidmesh.errors import ConfigurationError, ConnectionUnusable, SchemaError
from squidmesh.store import migrations
from squidmesh.store.database import drive
from squidmesh.store.migrations import (
    SCHEMA_VERSION,
    Migration,
    check_connection_schema,
    check_schema,
    check_server_version,
    ensure_schema,
    known_migrations,
    migrate,
    read_migrations,
    script,
    status,
)
from tests.programs import dump, run_program

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from tests.conftest import TestServer

INDEX = "CREATE INDEX CONCURRENTLY IF NOT EXISTS runs_by_trigger ON squidmesh.runs (trigger);"

LATER = {
    "0002_colour": "-- squidmesh: serves 1\nALTER TABLE squidmesh.runs ADD COLUMN colour text;",
    "0003_index": f"-- squidmesh: autocommit\n-- squidmesh: serves 1\n{INDEX}",
    "0004_comment": "-- squidmesh: serves 1\nCOMMENT ON TABLE squidmesh.runs IS '100% of them';",
}


def later(folder: Path, **changed: str) -> tuple[Migration, ...]:
    """The migrations of this code, and some that may come later, the third outside a transaction."""
    texts = {m.name: m.sql for m in known_migrations()} | LATER
    for name, text in texts.items():
        (folder / f"{name}.sql").write_text(changed.get(name, text))
    return read_migrations.__wrapped__(folder)


@pytest.fixture
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


@pytest.fixture
def schema(dsn: str) -> Iterator[str]:
    """The name of a schema that does not exist yet."""
    name = f"m_{uuid4().hex[:12]}"
    yield name
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE".encode())


def meta(connection: psycopg.Connection[Any], schema: str) -> list[Any]:
    return connection.execute(f"SELECT version, serves FROM {schema}.meta".encode()).fetchall()


# -- applying --------------------------------------------------------------------------------------------------------


def test_an_empty_database_gets_everything_and_then_nothing_more(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    assert status(connection, schema) == ((0, 0), known_migrations())

    assert tuple(migrate(connection, schema)) == known_migrations()

    assert migrate(connection, schema) == []
    newest = known_migrations()[-1]
    assert status(connection, schema) == ((newest.version, newest.serves), ())
    assert meta(connection, schema) == [(newest.version, newest.serves)]
    check_connection_schema(connection, schema)


def test_this_code_needs_its_newest_migration() -> None:
    assert known_migrations()[-1].version == SCHEMA_VERSION
    assert known_migrations()[-1].serves <= SCHEMA_VERSION


def test_what_is_there_already_is_not_applied_again(
    connection: psycopg.Connection[Any], schema: str, tmp_path: Path
) -> None:
    migrate(connection, schema)
    connection.execute(f"INSERT INTO {schema}.definitions VALUES ('f', 'w', '{{}}')".encode())

    applied = migrate(connection, schema, migrations=later(tmp_path))

    assert [m.name for m in applied] == list(LATER)
    assert meta(connection, schema) == [(4, 1)]
    assert connection.execute(f"SELECT count(*) FROM {schema}.definitions".encode()).fetchall() == [(1,)]
    check_connection_schema(connection, schema)


@pytest.mark.parametrize("isolation", ["read committed", "serializable"])
def test_ten_at_once_apply_each_migration_once(dsn: str, schema: str, tmp_path: Path, isolation: str) -> None:
    """Also the one that cannot run in a transaction, and that would deadlock with whoever waits in the database."""
    wanted, together = later(tmp_path), Barrier(10)
    options = f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}"

    def one() -> list[Migration]:
        with psycopg.connect(dsn, autocommit=True, options=options) as connection:
            together.wait()
            return migrate(connection, schema, migrations=wanted)

    with ThreadPoolExecutor(10) as pool:
        applied = [future.result() for future in [pool.submit(one) for _ in range(10)]]

    assert sorted(m.name for some in applied for m in some) == [m.name for m in wanted]
    with psycopg.connect(dsn, autocommit=True) as connection:
        assert meta(connection, schema) == [(4, 1)]


def test_schemas_live_side_by_side(connection: psycopg.Connection[Any], schema: str) -> None:
    """Nothing of one is in the other: a name that is not replaced would be found here."""
    names = schema, f"{schema}_b"
    try:
        for name in names:
            migrate(connection, name)
        tables = "SELECT relname, relkind FROM pg_class WHERE relnamespace = %s::regnamespace ORDER BY relname"
        first, second = (connection.execute(tables, [name]).fetchall() for name in names)
        assert first == second
        assert ("runs", "r") in first
    finally:
        connection.execute(f"DROP SCHEMA {schema}_b CASCADE".encode())


# -- reading beforehand ----------------------------------------------------------------------------------------------


def test_a_script_for_psql_does_what_migrate_does(
    postgres: TestServer, dsn: str, connection: psycopg.Connection[Any], schema: str, tmp_path: Path
) -> None:
    wanted, by_hand = later(tmp_path), f"{schema}_b"
    try:
        text = script(by_hand, migrations=wanted)
        assert status(connection, by_hand).current.version == 0, "a script runs nothing by itself"
        run_program(postgres, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", dsn, stdin=text)
        migrate(connection, schema, migrations=wanted)

        assert dump(postgres, dsn, by_hand) == dump(postgres, dsn, schema)
        assert meta(connection, by_hand) == meta(connection, schema)
        assert migrate(connection, by_hand, migrations=wanted) == []
    finally:
        connection.execute(f"DROP SCHEMA IF EXISTS {by_hand} CASCADE".encode())


def test_a_script_has_what_was_asked_for_and_nothing_else(tmp_path: Path) -> None:
    wanted = later(tmp_path)
    middle = script("x", 1, 3, migrations=wanted)
    assert "ADD COLUMN colour" in middle
    assert "CREATE TABLE" not in middle
    assert "CREATE SCHEMA" not in middle
    assert "100%" not in middle
    assert middle.count("BEGIN;") == middle.count("COMMIT;") == 1
    assert middle.index("COMMIT;") < middle.index("CREATE INDEX CONCURRENTLY")
    assert "squidmesh." not in middle
    assert "CREATE SCHEMA x;" in script("x")
    assert script("x", SCHEMA_VERSION).startswith("-- squidmesh, schema x: nothing to apply")


# -- checking --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needs", "version", "serves", "said"),
    [
        (1, 0, 0, r"'squidmesh' does not exist.*needs version 1; run: python -m squidmesh migrate$"),
        (3, 2, 1, r"is at version 2.*needs version 3; run: python -m squidmesh migrate$"),
        (3, 3, 2, None),
        (3, 5, 3, None),
        (3, 5, 4, r"serves only code that needs version 4 or newer.*upgrade squidmesh$"),
    ],
)
def test_code_works_with_its_schema_and_with_newer_ones_that_serve_it(
    monkeypatch: pytest.MonkeyPatch, needs: int, version: int, serves: int, said: str | None
) -> None:
    monkeypatch.setattr(migrations, "SCHEMA_VERSION", needs)
    if said is None:
        check_schema(version, serves)
        return
    with pytest.raises(SchemaError, match=said):
        check_schema(version, serves)


def test_a_missing_schema_is_told_with_the_command_and_harms_no_transaction(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    with connection.transaction():
        with pytest.raises(SchemaError, match=f"run: python -m squidmesh migrate --schema {schema}$"):
            drive(connection, ensure_schema(schema), schema, own_transaction=False)
        assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_a_schema_that_is_too_new_is_left_alone(connection: psycopg.Connection[Any], schema: str) -> None:
    migrate(connection, schema)
    connection.execute(f"UPDATE {schema}.meta SET version = 9, serves = 9".encode())
    for look in (check_connection_schema, migrate):
        with pytest.raises(SchemaError, match=r"upgrade squidmesh$"):
            look(connection, schema)
    assert meta(connection, schema) == [(9, 9)]


# -- refusals --------------------------------------------------------------------------------------------------------


@contextmanager
def role(connection: psycopg.Connection[Any]) -> Generator[str]:
    """Be somebody who may do nothing but connect."""
    name = f"role_{uuid4().hex[:12]}"
    connection.execute(f"CREATE ROLE {name}".encode())
    try:
        yield name
    finally:
        connection.execute("RESET ROLE")
        connection.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_who_may_not_create_the_schema_is_told_what_to_do(connection: psycopg.Connection[Any], schema: str) -> None:
    with role(connection) as name:
        connection.execute(f"SET ROLE {name}".encode())
        with pytest.raises(SchemaError, match=rf"permission denied for database.*migrate --schema {schema} --sql$"):
            migrate(connection, schema)
        assert status(connection, schema).current.version == 0


def test_a_schema_that_a_dba_has_made_needs_no_right_to_create_one(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    with role(connection) as name:
        connection.execute(f"CREATE SCHEMA {schema} AUTHORIZATION {name}; SET ROLE {name}".encode())
        migrate(connection, schema)
        check_connection_schema(connection, schema)


def test_who_may_not_read_the_schema_is_told_which_rights_to_ask_for(
    connection: psycopg.Connection[Any], schema: str
) -> None:
    migrate(connection, schema)
    with role(connection) as name:
        connection.execute(f"SET ROLE {name}".encode())
        with pytest.raises(SchemaError, match=f"GRANT USAGE ON SCHEMA {schema} TO {name}") as refused:
            check_connection_schema(connection, schema)

        connection.execute("RESET ROLE")
        grants = str(refused.value).partition("run: ")[2]
        connection.execute(grants.encode())
        connection.execute(f"SET ROLE {name}".encode())
        check_connection_schema(connection, schema)


@pytest.mark.parametrize("name", ["order", "user", "pg_mesh"])
def test_a_reserved_name_is_told_as_such(connection: psycopg.Connection[Any], name: str) -> None:
    with pytest.raises(SchemaError, match=f"'{name}' reserved"):
        migrate(connection, name)


def test_a_migration_that_fails_leaves_nothing_and_can_be_repeated(
    connection: psycopg.Connection[Any], schema: str, tmp_path: Path
) -> None:
    wanted = later(tmp_path)
    migrate(connection, schema)
    connection.execute(
        f"CREATE VIEW {schema}.foreign_view AS SELECT; ALTER TABLE {schema}.runs ADD colour int".encode()
    )
    with pytest.raises(SchemaError, match='0002_colour failed: column "colour" of relation "runs" already exists'):
        migrate(connection, schema, migrations=wanted)
    assert meta(connection, schema) == [(1, 1)]

    connection.execute(f"ALTER TABLE {schema}.runs DROP colour".encode())
    assert len(migrate(connection, schema, migrations=wanted)) == 3


def test_somebody_elses_tables_are_not_touched(connection: psycopg.Connection[Any], schema: str) -> None:
    connection.execute(f"CREATE SCHEMA {schema} CREATE TABLE runs (id int)".encode())
    with pytest.raises(SchemaError, match='relation "runs" already exists'):
        migrate(connection, schema)
    assert status(connection, schema).current.version == 0


def test_an_index_that_was_left_half_built_is_found(
    connection: psycopg.Connection[Any], schema: str, tmp_path: Path
) -> None:
    unique = (
        LATER["0003_index"].replace("INDEX", "UNIQUE INDEX").replace("runs (", "workers (").replace("trigger)", "pid)")
    )
    wanted = later(tmp_path, **{"0003_index": unique})
    migrate(connection, schema)
    values = "gen_random_uuid(), now(), 1, '', '', '{}', '{}'"
    columns = "id, lease, pid, host, version, queues, knows"
    connection.execute(f"INSERT INTO {schema}.workers ({columns}) VALUES ({values}), ({values})".encode())

    with pytest.raises(SchemaError, match="0003_index failed: could not create unique index"):
        migrate(connection, schema, migrations=wanted)
    connection.execute(f"DELETE FROM {schema}.workers".encode())
    with pytest.raises(
        SchemaError, match=rf"DROP INDEX CONCURRENTLY {schema}\.runs_by_trigger; then: python -m"
    ) as told:
        migrate(connection, schema, migrations=wanted)
    assert meta(connection, schema) == [(2, 1)]

    connection.execute(str(told.value).partition("run: ")[2].partition(";")[0].encode())
    assert [m.name for m in migrate(connection, schema, migrations=wanted)] == ["0003_index", "0004_comment"]


def test_a_connection_must_be_in_autocommit_mode_and_outside_a_transaction(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn) as connection, pytest.raises(ConnectionUnusable, match="autocommit mode"):
        migrate(connection, schema)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("BEGIN")
        with pytest.raises(ConnectionUnusable, match="outside a transaction"):
            migrate(connection, schema)


def test_a_server_that_is_too_old_is_told_as_such() -> None:
    check_server_version(150000)
    with pytest.raises(SchemaError, match=r"needs Postgres 15 or newer, and this is 14\.11"):
        check_server_version(140011)


@pytest.mark.parametrize(
    "files",
    [
        {"0002_second": "-- squidmesh: serves 1"},
        {"0001_first": "-- squidmesh: serves 1", "0001_again": "-- squidmesh: serves 1"},
        {"0001_first": "-- Serves 1"},
        {"first": "-- squidmesh: serves 1"},
    ],
)
def test_files_that_are_no_migrations_are_refused(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / f"{name}.sql").write_text(text)
    with pytest.raises(ConfigurationError):
        read_migrations(tmp_path)
