"""Migrations: the schema's history as files, and the runner that brings a database up to date.

A migration is a file, ``sql/migrations/NNNN_name.sql``. Its header says which is the oldest code that the schema still
serves after it (``-- squidmesh: serves N``), and, in the first line, whether it cannot run in a transaction
(``-- squidmesh: autocommit``). Whatever runs here can be read beforehand: ``script`` gives the same text for a DBA.

Nothing migrates by itself. Clients and workers only look (``ensure_schema``) and say which command to run: a deploy of
new code must not lock the tables of a live system by surprise.
"""

from __future__ import annotations

import re
import time
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import psycopg
from psycopg import errors, pq

from squidmesh.errors import ConfigurationError, ConnectionUnusable, SchemaError
from squidmesh.store.database import drive
from squidmesh.store.statements import DEFAULT_SCHEMA, SCHEMA_MARK, Statement, ask, check_schema_name, sql_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from squidmesh.store.statements import Flow, Rows

SCHEMA_VERSION: Final = 1
"""The schema that this code needs: the version of its newest migration."""

OLDEST_POSTGRES: Final = 15

_ASK_AGAIN: Final = 0.05
"""Seconds between two tries to lock the schema while somebody else migrates it."""

_AUTOCOMMIT: Final = "-- squidmesh: autocommit"

_CREATE_SCHEMA: Final = """\
DO $$ BEGIN
    -- CREATE SCHEMA IF NOT EXISTS would ask for the right to create it also where a DBA has made it.
    IF to_regnamespace('{schema}') IS NULL THEN CREATE SCHEMA {schema}; END IF;
END $$;"""

_RECORD: Final = """\
INSERT INTO {meta} (version, serves) VALUES ({version}, {serves})
    ON CONFLICT (only_row) DO UPDATE SET version = excluded.version, serves = excluded.serves;"""


@dataclass(frozen=True, slots=True)
class Migration:
    """One step of the schema's history.

    Args:
        version: The schema's version after it.
        name: Its file's name without the ending: ``0001_initial``.
        serves: The oldest code, by the schema version that it needs, that the schema serves after it.
        autocommit: Whether it runs outside a transaction; then it is a single statement that may be run twice.
        sql: Its statements, for the default schema.
    """

    version: int
    name: str
    serves: int
    autocommit: bool
    sql: str

    def statements(self, schema: str) -> str:
        """Its statements for a schema."""
        text = self.sql.replace(SCHEMA_MARK, f"{check_schema_name(schema)}.").strip()
        return f"{_CREATE_SCHEMA.format(schema=schema)}\n\n{text}" if self.version == 1 else text

    def record(self, schema: str) -> str:
        """The statement that says that it was applied."""
        return _RECORD.format(meta=f"{check_schema_name(schema)}.meta", version=self.version, serves=self.serves)

    def script(self, schema: str) -> str:
        """All that is run, as a person would run it."""
        body = f"{self.statements(schema)}\n\n{self.record(schema)}"
        return body if self.autocommit else f"BEGIN;\n\n{body}\n\nCOMMIT;"


class SchemaVersion(NamedTuple):
    """What a database has: the schema's version (0: nothing), and the oldest code that it serves."""

    version: int
    serves: int


class Status(NamedTuple):
    """What a database has, and what it lacks."""

    current: SchemaVersion
    pending: tuple[Migration, ...]


def known_migrations() -> tuple[Migration, ...]:
    """The migrations of this code, in order."""
    return read_migrations(sql_folder() / "migrations")


@cache
def read_migrations(folder: Path) -> tuple[Migration, ...]:
    """The migrations in a folder, in order.

    Raises:
        ConfigurationError: A file is not named or headed like a migration, or a number is missing.
    """
    found = tuple(_read_migration(path) for path in sorted(folder.glob("*.sql")))
    if [migration.version for migration in found] != list(range(1, len(found) + 1)):
        names = ", ".join(migration.name for migration in found)
        raise ConfigurationError(f"the migrations in {folder} are not numbered from 0001 on without gaps: {names}")
    return found


def _read_migration(path: Path) -> Migration:
    text = path.read_text(encoding="utf-8")
    number = re.fullmatch(r"(\d{4})_[a-z0-9_]+", path.stem)
    serves = re.search(r"^-- squidmesh: serves (\d+)$", text, re.MULTILINE)
    if number is None or serves is None:
        raise ConfigurationError(f"{path}: a migration is named NNNN_name.sql and has a line '-- squidmesh: serves N'")
    return Migration(int(number[1]), path.stem, int(serves[1]), text.startswith(_AUTOCOMMIT), text)


def check_schema(version: int, serves: int, schema: str = DEFAULT_SCHEMA) -> None:
    """Check that this code can work with a schema.

    Args:
        version: The schema's version, 0 if there is none.
        serves: The oldest code that it serves.
        schema: Its name.

    Raises:
        SchemaError: It lacks migrations, or is too new.
    """
    if version < SCHEMA_VERSION:
        found = f"is at version {version}" if version else "does not exist"
        raise SchemaError(
            f"the schema {schema!r} {found}, and this squidmesh needs version {SCHEMA_VERSION}; run: {_command(schema)}"
        )
    _check_not_newer(serves, schema)


def ensure_schema(schema: str = DEFAULT_SCHEMA) -> Flow[None]:
    """Look whether the schema is there and serves this code: what clients and workers do before anything else.

    Raises:
        SchemaError: It is missing, too old, too new, or closed to us.
    """
    found = yield from read_version(schema)
    check_schema(*found, schema)


def read_version(schema: str = DEFAULT_SCHEMA) -> Flow[SchemaVersion]:
    """What the database has.

    Raises:
        SchemaError: It is there, but we may not read it.
    """
    readable, role = yield from ask(Statement("find_schema", {}, lambda rows: rows[0]))
    if readable is None:
        return SchemaVersion(0, 0)
    if not readable:
        raise SchemaError(
            f"the role {role!r} may not read the schema {schema!r}; have its owner run: GRANT USAGE ON SCHEMA {schema} "
            f"TO {role}; GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {role}"
        )
    return (yield from ask(Statement("read_schema", {}, _version_of), last=True))


def check_connection_schema(connection: psycopg.Connection[Any], schema: str = DEFAULT_SCHEMA) -> None:
    """Do what ``ensure_schema`` does, on a connection in autocommit mode."""
    drive(connection, ensure_schema(schema), schema)


def status(
    connection: psycopg.Connection[Any],
    schema: str = DEFAULT_SCHEMA,
    *,
    migrations: Sequence[Migration] | None = None,
) -> Status:
    """What a database has, and what ``migrate`` would apply; changes nothing.

    Args:
        connection: In autocommit mode, outside a transaction.
        schema: The schema that squidmesh lives in.
        migrations: Those to compare with; None: those of this code.
    """
    _check_usable(connection)
    wanted = known_migrations() if migrations is None else migrations
    current = drive(connection, read_version(schema), schema)
    return Status(current, tuple(migration for migration in wanted if migration.version > current.version))


def script(
    schema: str = DEFAULT_SCHEMA,
    after: int = 0,
    to: int | None = None,
    *,
    migrations: Sequence[Migration] | None = None,
) -> str:
    """The text of what ``migrate`` would run, for ``psql`` and for people who read first.

    Args:
        schema: The schema that squidmesh lives in.
        after: The version that the database has.
        to: The version that it shall have; None: the newest.
        migrations: Those to choose from; None: those of this code.
    """
    wanted = known_migrations() if migrations is None else migrations
    chosen = [m for m in wanted if after < m.version and (to is None or m.version <= to)]
    title = f"-- squidmesh, schema {check_schema_name(schema)}:"
    if not chosen:
        return f"{title} nothing to apply after version {after}.\n"
    parts = [f"{title} from version {after} to {chosen[-1].version}. Run it with psql -v ON_ERROR_STOP=1."]
    parts += [migration.script(schema) for migration in chosen]
    return "\n\n".join(parts) + "\n"


def migrate(
    connection: psycopg.Connection[Any],
    schema: str = DEFAULT_SCHEMA,
    *,
    migrations: Sequence[Migration] | None = None,
) -> list[Migration]:
    """Apply what is pending, each migration in a transaction of its own; any number of processes may try at once.

    Args:
        connection: In autocommit mode, outside a transaction.
        schema: The schema that squidmesh lives in; it is made if it does not exist.
        migrations: Those to apply; None: those of this code.

    Returns:
        What this call applied.

    Raises:
        ConnectionUnusable: The connection is not in autocommit mode, or in a transaction.
        SchemaError: It cannot be done; the message says what to do.
    """
    check_server_version(connection.info.server_version)
    applied: list[Migration] = []
    while (found := status(connection, schema, migrations=migrations)).pending:
        migration = found.pending[0]
        with _explained(migration, schema), _keeper(connection, migration) as keeper, _locked(keeper, schema):
            if drive(connection, read_version(schema), schema, own_transaction=False).version < migration.version:
                _apply(connection, migration, schema)
                applied.append(migration)
    _check_not_newer(found.current.serves, schema)
    return applied


def check_server_version(number: int) -> None:
    """Check that the server is new enough.

    Args:
        number: As libpq gives it: 150004 is 15.4.

    Raises:
        SchemaError: It is too old.
    """
    major, minor = divmod(number, 10000)
    if major < OLDEST_POSTGRES:
        raise SchemaError(f"squidmesh needs Postgres {OLDEST_POSTGRES} or newer, and this is {major}.{minor}")


def _apply(connection: psycopg.Connection[Any], migration: Migration, schema: str) -> None:
    connection.execute(migration.statements(schema).encode())
    look = Statement("list_broken_indexes", {}, lambda rows: [f"{schema}.{name}" for (name,) in rows])
    if migration.autocommit and (broken := drive(connection, look, schema)):
        raise SchemaError(
            f"migration {migration.name} found what an interrupted one left behind; "
            f"run: DROP INDEX CONCURRENTLY {', '.join(broken)}; then: {_command(schema)}"
        )
    connection.execute(migration.record(schema).encode())


def _version_of(rows: Rows) -> SchemaVersion:
    return SchemaVersion(*rows[0]) if rows else SchemaVersion(0, 0)


def _command(schema: str) -> str:
    return "python -m squidmesh migrate" + ("" if schema == DEFAULT_SCHEMA else f" --schema {schema}")


def _check_not_newer(serves: int, schema: str) -> None:
    if serves > SCHEMA_VERSION:
        raise SchemaError(
            f"the schema {schema!r} serves only code that needs version {serves} or newer, and this squidmesh needs "
            f"{SCHEMA_VERSION}; upgrade squidmesh"
        )


def _check_usable(connection: psycopg.Connection[Any]) -> None:
    if not connection.autocommit or connection.info.transaction_status is not pq.TransactionStatus.IDLE:
        raise ConnectionUnusable("migrating needs a connection in autocommit mode, outside a transaction")


@contextmanager
def _keeper(connection: psycopg.Connection[Any], migration: Migration) -> Generator[psycopg.Connection[Any]]:
    """The connection whose transaction keeps the lock: a second one while the first may not be in a transaction."""
    if not migration.autocommit:
        yield connection
        return
    with psycopg.connect(connection.info.dsn, password=connection.info.password or None, autocommit=True) as second:
        yield second


@contextmanager
def _locked(keeper: psycopg.Connection[Any], schema: str) -> Generator[None]:
    """Keep the schema locked in a transaction of ``keeper``."""
    lock = Statement("lock_schema", {}, lambda rows: bool(rows[0][0]))
    while True:
        with keeper.transaction():
            # Isolated higher it would see an old version, and hold a snapshot: see lock_schema.sql.
            keeper.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            keeper.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            if drive(keeper, lock, schema, own_transaction=False):
                yield
                return
        time.sleep(_ASK_AGAIN)


@contextmanager
def _explained(migration: Migration, schema: str) -> Generator[None]:
    """Say what to do about an error of the database; a lost connection is left as it is."""
    try:
        yield
    except errors.InsufficientPrivilege as error:
        raise SchemaError(
            f"migration {migration.name}: {error.diag.message_primary}; run it as a role that owns the schema "
            f"{schema!r} or may create it, or have a DBA run what this prints: {_command(schema)} --sql"
        ) from error
    except (errors.ReservedName, errors.SyntaxError) as error:
        raise SchemaError(
            f"migration {migration.name}: {error.diag.message_primary}; is the schema's name {schema!r} reserved? "
            "Then choose another"
        ) from error
    except psycopg.Error as error:
        if error.sqlstate is None:
            raise
        raise SchemaError(
            f"migration {migration.name} failed: {error.diag.message_primary}; mend that, then: {_command(schema)}"
        ) from error
