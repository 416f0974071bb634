"""``sql/schema.sql``, what a DBA reads, is what the migrations make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh.store.migrations import migrate
from squidmesh.store.statements import sql_folder
from tests.programs import dump, run_program

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import TestServer

SCHEMA = "made_by_migrations"
TEXT = (sql_folder() / "schema.sql").read_text(encoding="utf-8")


@pytest.fixture
def both(postgres: TestServer, fresh_database: str) -> Iterator[psycopg.Connection[Any]]:
    """A database that has the schema twice: as it is written, and as the migrations make it."""
    run_program(postgres, "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", fresh_database, stdin=TEXT)
    with psycopg.connect(fresh_database, autocommit=True) as connection:
        migrate(connection, SCHEMA)
        yield connection


def test_the_written_schema_is_what_the_migrations_make(
    postgres: TestServer, fresh_database: str, both: psycopg.Connection[Any]
) -> None:
    written, made = (dump(postgres, fresh_database, schema) for schema in ("squidmesh", SCHEMA))
    assert len(written) > 100
    assert written == made
    meta = "SELECT * FROM {}.meta"
    rows = [both.execute(meta.format(schema).encode()).fetchall() for schema in ("squidmesh", SCHEMA)]
    assert rows[0] == rows[1]


def test_every_table_view_and_index_is_explained() -> None:
    blocks = re.split(r"\n\n+", TEXT)
    for block in blocks:
        if re.search(r"^CREATE (?:TABLE|VIEW|FUNCTION)", block, re.MULTILINE):
            name = re.search(r"squidmesh\.(\w+)", block[block.index("CREATE") :])
            assert name is not None
            assert block.startswith(f"-- {name[1]}"), (
                f"{name[1]} is not introduced by a comment that begins with its name"
            )
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if line.startswith("CREATE INDEX"):
            assert lines[number - 1].startswith("-- "), f"no reason is given above {line!r}"


def test_the_views_for_people_show_the_facts(both: psycopg.Connection[Any]) -> None:
    both.execute(
        """
        INSERT INTO squidmesh.runs (id, created_at, seq, workflow, fingerprint, trigger, status, state, payload)
        SELECT gen_random_uuid(), now(), 9, 'w', 'f', 't', 'running', '{}', '{"a": 0, "p": 0}' FROM generate_series(1, 2);
        INSERT INTO squidmesh.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, output)
        SELECT id, now(), new.* FROM (SELECT id FROM squidmesh.runs LIMIT 1) run, (VALUES
            (1, 1, 1, 1, 'step', 'completed', 'one', '{"a": 1, "b": 1}'::jsonb),
            (2, 1, 1, 1, 'step', 'failed', 'two', NULL),
            (3, 0, 0, 3, 'snapshot', 'completed', '', '{"a": 99}'),
            (4, 1, 2, 1, 'step', 'completed', 'two', '{"b": {"c": 2}}'),
            (5, 2, 1, 1, 'step', 'abandoned', 'one', NULL)) new
        """
    )
    contexts = both.execute("SELECT context FROM squidmesh.run_context ORDER BY context ? 'b' DESC").fetchall()
    assert contexts == [({"a": 1, "b": {"c": 2}, "p": 0},), ({"a": 0, "p": 0},)]
    steps = both.execute(
        "SELECT step, visit, attempts, status FROM squidmesh.step_runs ORDER BY step, visit"
    ).fetchall()
    assert steps == [("one", 1, 1, "completed"), ("one", 2, 1, "abandoned"), ("two", 1, 2, "completed")]
