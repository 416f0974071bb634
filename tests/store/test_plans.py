"""Plans: what is on the path of every step stays an index scan, also if it was planned while its table was empty.

A generic plan is made once and kept as long as the session; nobody analyses the tables in between here, as nobody may
have in the first minutes of a busy installation.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from squidmesh.planner.plan import LockedRun
from squidmesh.planner.progress import Progress
from squidmesh.records import Lane
from squidmesh.states import RunStatus
from squidmesh.store import saving
from squidmesh.store.database import drive
from squidmesh.store.jobs import (
    Room,
    adopt_jobs,
    claim_jobs,
    list_claimed,
    list_flagged,
    lock_jobs,
    read_claimed,
    read_jobs,
    wake_jobs,
)
from squidmesh.store.migrations import migrate
from squidmesh.store.runs import RunFilter, list_runs, lock_run, lock_runs, read_keyed, start_keyed, start_runs
from squidmesh.store.sight import read_explanation
from squidmesh.store.statements import Statement, sql_of
from tests.store.kit import CHANNEL, attempt, entry, new_runs, plan

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA = "plan_tests"
RUN, WORKER = UUID(int=1), UUID(int=2)

EMPTY = "VACUUM (ANALYZE) {0}.runs, {0}.jobs, {0}.attempts, {0}.workers"

FILL = """
INSERT INTO {0}.runs (id, created_at, seq, workflow, fingerprint, trigger, key, status, state, payload)
SELECT lpad(to_hex(n), 32, '0')::uuid, '2026-01-01Z'::timestamptz + make_interval(hours => n), 6, 'w', 'f', 't', 'k' || n, 'running', '{{}}', '{{}}'
  FROM generate_series(1, 20000) n;

INSERT INTO {0}.jobs (run_id, since, ready_at, run_at, worker, slot, visit, attempt, saw, priority, lane, state, kind, step,
                      queue, reason)
SELECT lpad(to_hex(n), 32, '0')::uuid, {0}.clock(), {0}.clock() - make_interval(secs => n), {0}.clock(),
       CASE WHEN n % 4 = 0 THEN gen_random_uuid() END, 0, 1, 1, 1, n % 3, 0,
       (ARRAY['claimed', 'ready', 'sleeping', 'parked'])[n % 4 + 1], 'step', 's', 'q' || n % 5, 'unknown_step'
  FROM generate_series(1, 20000) n;

INSERT INTO {0}.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, output)
SELECT lpad(to_hex(n), 32, '0')::uuid, {0}.clock(), s, 1, 1, s, CASE WHEN s = 3 THEN 'snapshot' ELSE 'step' END,
       'completed', 's', '{{}}'
  FROM generate_series(1, 20000) n, generate_series(1, 5) s;
"""


def hot_statements() -> dict[str, Statement[Any]]:
    """What a worker says on its way through every turn, and a client for every change."""
    keys, ids = [(RUN, 0)], [RUN]
    room = [Room(f"q{n}", Lane.AHEAD, 10) for n in range(5)] + [Room(f"q{n}", Lane.AHEAD, 10, -1) for n in range(5)]
    run = locked_run()
    written = saving.save_plans(
        [plan(run, attempts=[attempt(100, {})], moved=[entry()], added=[entry(slot=1)], removed=[2], flag=True)],
        CHANNEL,
    )
    said: list[Statement[Any]] = [
        lock_runs(ids),
        lock_run(RUN),
        read_jobs(keys),
        lock_jobs(ids),
        claim_jobs(WORKER, 1, room),
        read_claimed(keys),
        wake_jobs({f"q{n}": 1 for n in range(5)}, CHANNEL, WORKER, 10),
        adopt_jobs(WORKER, 1, room, ["w/step/s"]),
        list_claimed(WORKER),
        list_flagged(WORKER),
        *written,
    ]
    return {statement.name: statement for statement in said}


def locked_run() -> LockedRun:
    return LockedRun(
        id=RUN,
        workflow="w",
        trigger="t",
        fingerprint="f",
        status=RunStatus.RUNNING,
        attention=None,
        seq=1,
        progress=Progress(),
        error=None,
    )


INDEXES = {
    "lock_runs": {"runs_pkey"},
    "lock_run": {"runs_pkey"},
    "read_jobs": {"jobs_pkey"},
    "lock_jobs": {"jobs_pkey"},
    "claim_jobs": {"jobs_ready", "jobs_pkey"},
    "read_claimed": {"runs_pkey", "attempts_pkey"},
    "wake_jobs": {"jobs_sleeping", "jobs_pkey"},
    "adopt_jobs": {"jobs_unknown", "jobs_pkey", "runs_pkey"},
    "list_claimed": {"jobs_claimed"},
    "list_flagged": {"jobs_claimed"},
    "save_runs": {"runs_pkey"},
    "insert_attempts": set[str](),
    "move_jobs": {"jobs_pkey"},
    "insert_jobs": set[str](),
    "delete_jobs": {"jobs_pkey"},
    "flag_jobs": {"jobs_pkey"},
}


@pytest.fixture(scope="module")
def prepared(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session that planned every hot statement while the tables were empty; now they are full."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, SCHEMA)
        connection.execute(EMPTY.format(SCHEMA).encode())
        with connection.transaction():
            connection.execute(sql_of("pin_plans", SCHEMA))
            connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
            for name, statement in {**hot_statements(), "read_keyed": read_keyed("w", "k7")}.items():
                connection.execute(prepare(name))
                connection.execute(execute(connection, statement, "EXPLAIN "))
        connection.execute(FILL.format(SCHEMA).encode())
        yield connection
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE".encode())


def prepare(name: str) -> bytes:
    """PREPARE with the types that the placeholders are cast to, as the driver leaves it to the server to find them."""
    text, places = sql_of(name, SCHEMA), list[str]()
    types: dict[str, str] = dict(re.findall(r"%\((\w+)\)s::(\w+(?:\[\])?)", text))
    for parameter in types:
        places.append(parameter)
        text = text.replace(f"%({parameter})s", f"${len(places)}")
    declared = f" ({', '.join(types.values())})" if types else ""
    return f"PREPARE {name}{declared} AS {text}".encode()


def execute(connection: psycopg.Connection[Any], statement: Statement[Any], how: str) -> bytes:
    """EXECUTE with a statement's parameters, in the order of ``prepare``."""
    order = dict.fromkeys(re.findall(r"%\((\w+)\)s", sql_of(statement.name, SCHEMA)))
    values = [psycopg.sql.Literal(statement.params[name]).as_string(connection) for name in order]
    return f"{how}EXECUTE {statement.name}{f' ({chr(44).join(values)})' if values else ''}".encode()


def nodes(explained: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield explained
    for part in explained.get("Plans", ()):
        yield from nodes(part)


@pytest.mark.parametrize("name", INDEXES)
def test_a_statement_that_was_planned_on_empty_tables_scans_no_full_one(
    prepared: psycopg.Connection[Any], name: str
) -> None:
    statement = hot_statements()[name]
    with prepared.transaction(force_rollback=True):
        prepared.execute(sql_of("pin_plans", SCHEMA))
        prepared.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        row = prepared.execute(execute(prepared, statement, "EXPLAIN (ANALYZE, FORMAT JSON) ")).fetchone()
    assert row is not None
    assert_reads_little(row[0], INDEXES[name])


def assert_reads_little(explained: list[dict[str, Any]], indexes: set[str]) -> None:
    """A plan uses these indexes, and looks at few rows through them."""
    found = list(nodes(explained[0]["Plan"]))
    scanned = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    assert scanned <= {"workers"}, "a sequential scan"
    assert {node["Index Name"] for node in found if "Index Name" in node} == indexes
    read = [node for node in found if "Index Name" in node]
    touched = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in read)
    assert touched <= 500, f"it looked at {touched} rows to find a few:\n{json.dumps(explained, indent=1)}"


def test_every_statement_of_a_turn_is_tried() -> None:
    assert hot_statements().keys() == INDEXES.keys()


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (RunFilter(), "runs_by_time"),
        (RunFilter(before=(datetime(2026, 6, 1, tzinfo=UTC), RUN)), "runs_by_time"),
        (RunFilter(since=datetime(2026, 6, 1, tzinfo=UTC)), "runs_by_time"),
        (RunFilter(workflow="w"), "runs_by_workflow"),
        (RunFilter(workflow="w", before=(datetime(2026, 6, 1, tzinfo=UTC), RUN)), "runs_by_workflow"),
        (RunFilter(workflow="w", key="k7"), "runs_by_key"),
    ],
)
def test_a_page_of_a_list_reads_little_more_than_the_page(
    prepared: psycopg.Connection[Any], wanted: RunFilter, index: str
) -> None:
    statement = list_runs(wanted)
    query = b"EXPLAIN (ANALYZE, FORMAT JSON) " + sql_of("list_runs", SCHEMA).encode()
    with prepared.transaction(force_rollback=True):
        row = psycopg.ClientCursor(prepared).execute(query, statement.params).fetchone()
    assert row is not None
    assert_reads_little(row[0], {index, "jobs_pkey"})


def test_a_key_is_looked_up_also_with_a_plan_made_on_an_empty_table(prepared: psycopg.Connection[Any]) -> None:
    with prepared.transaction(force_rollback=True):
        prepared.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        query = execute(prepared, read_keyed("w", "k7"), "EXPLAIN (ANALYZE, FORMAT JSON) ")
        row = prepared.execute(query).fetchone()
    assert row is not None
    assert_reads_little(row[0], {"runs_by_key", "jobs_pkey"})


@pytest.mark.parametrize("keyed", [False, True])
def test_starts_are_not_planned_anew_each_time(dsn: str, keyed: bool) -> None:
    """Nobody may ever analyse a table of three workers; a plan for each start would cost more than the start."""
    schema = f"{SCHEMA}_starts"
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, schema)
        try:
            for number in range(30):
                new = new_runs(1)
                one = start_keyed(new, f"{number}", CHANNEL, always_notify=False)
                statement: Statement[Any] = one if keyed else start_runs(new, CHANNEL, always_notify=False)
                drive(connection, statement, schema)
            query = "SELECT generic_plans FROM pg_prepared_statements WHERE statement LIKE '%pg_notify%'"
            ((generic,),) = connection.execute(query).fetchall()
            assert generic > 10
        finally:
            connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


def test_explaining_a_run_reads_little_of_a_full_database(prepared: psycopg.Connection[Any]) -> None:
    """Five thousand jobs are ready, a thousand of them in its queue; how many come before it is counted to 100."""
    statement = read_explanation(RUN, most_ahead=100)
    query = b"EXPLAIN (ANALYZE, FORMAT JSON) " + sql_of("read_explanation", SCHEMA).encode()
    with prepared.transaction(force_rollback=True):
        row = psycopg.ClientCursor(prepared).execute(query, statement.params).fetchone()
    assert row is not None
    read = {node["Index Name"] for node in nodes(row[0][0]["Plan"]) if "Index Name" in node}
    assert_reads_little(row[0], read)
    assert {"runs_pkey", "jobs_pkey", "jobs_ready", "attempts_pkey"} <= read
