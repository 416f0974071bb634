"""Many sleeping jobs, and many that wait for people, cost those who claim, wake and look nothing.

Everything is planned while the tables are empty, and nobody analyses them afterwards: see ``test_plans``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
import pytest

from squidmesh.records import Lane
from squidmesh.store.jobs import Room, adopt_jobs, claim_jobs, find_work, wake_jobs
from squidmesh.store.migrations import migrate
from squidmesh.store.runs import read_values
from squidmesh.store.statements import Statement, sql_of
from tests.store.kit import CHANNEL
from tests.store.test_plans import EMPTY, execute, nodes, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA: Final = "plan_tests"
SLEEPERS: Final = 100_000
PARKED: Final = 50_000
WORKER: Final = UUID(int=2)

RUNS = """
INSERT INTO {0}.runs (id, created_at, seq, workflow, fingerprint, trigger, status, state, payload)
SELECT lpad(to_hex(n), 32, '0')::uuid, {0}.clock(), 6, 'w', 'f', 't', 'running', '{{}}', '{{"due": "x"}}'
  FROM generate_series(1, 1000) n;
INSERT INTO {0}.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, output)
SELECT lpad('1', 32, '0')::uuid, {0}.clock(), s, 1, 1, s, CASE WHEN s = 4990 THEN 'snapshot' ELSE 'step' END, 'completed', 's', '{{"n": 1}}'
  FROM generate_series(1, 5000) s;
"""

JOBS = """
INSERT INTO {0}.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state, kind, step,
                      queue, reason)
SELECT lpad(to_hex(n), 32, '0')::uuid, {0}.clock(), {0}.clock(), {0}.clock() + make_interval(secs => {1}), 0, 1, 1, 1,
       0, {2}, '{3}', '{4}', 's', 'default', {5}
  FROM generate_series({6}, {7}) n;
"""


def jobs(
    first: int, count: int, state: str, *, kind: str = "wait", lane: int = 3, due: str = "n", reason: str = "NULL"
) -> str:
    return JOBS.format(SCHEMA, due, lane, state, kind, reason, first, first + count - 1)


def statements() -> dict[str, Statement[Any]]:
    """What is said to claim, to wake, and to look."""
    rooms = [Room("default", lane, 10) for lane in (Lane.CLOCK, Lane.AHEAD, Lane.ALONE, Lane.SUSPECT)]
    said: list[Statement[Any]] = [
        wake_jobs({"default": 10}, CHANNEL, WORKER, 50),
        claim_jobs(WORKER, 1, rooms),
        adopt_jobs(WORKER, 1, rooms[-2:-1], ["w/step/s"]),
        find_work(["default"], WORKER),
        read_values([(UUID(int=1), "due"), (UUID(int=2), "due")]),
    ]
    return {statement.name: statement for statement in said}


INDEXES = {
    "wake_jobs": {"jobs_sleeping", "jobs_pkey"},
    "claim_jobs": {"jobs_ready", "jobs_pkey"},
    "adopt_jobs": {"jobs_unknown", "jobs_pkey", "runs_pkey"},
    "find_work": {"jobs_claimed", "jobs_ready", "jobs_unknown", "jobs_sleeping"},
    "read_values": {"runs_pkey", "attempts_pkey"},
}
MOST_BUFFERS: Final = {"wake_jobs": 1500, "claim_jobs": 400, "adopt_jobs": 20, "find_work": 40, "read_values": 80}
"""Pages that each may touch; those that write 50 or 10 rows, with their indexes, some for each."""


@pytest.fixture(scope="module")
def crowded(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """100,000 sleep, 50,000 wait for people or signals, 1,000 are ready, 200 are due; all that in one queue."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, SCHEMA)
        connection.execute(EMPTY.format(SCHEMA).encode())
        with connection.transaction():
            pin(connection)
            for name, statement in statements().items():
                connection.execute(prepare(name))
                connection.execute(execute(connection, statement, "EXPLAIN "))
        for text in (
            RUNS.format(SCHEMA),
            jobs(1, 1000, "ready", kind="step", lane=0),
            jobs(1001, 200, "sleeping", due="-n"),
            jobs(2001, SLEEPERS, "sleeping", due="3600 + n"),
            jobs(200_001, PARKED // 2, "parked", kind="gate", reason="'approval'"),
            jobs(300_001, PARKED // 2, "parked", kind="signal", reason="'signal'"),
        ):
            connection.execute(text.encode())
        yield connection
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE".encode())


def pin(connection: psycopg.Connection[Any]) -> None:
    connection.execute(sql_of("pin_plans", SCHEMA))
    connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")


def explained(connection: psycopg.Connection[Any], name: str) -> dict[str, Any]:
    """What a statement did; it is undone."""
    with connection.transaction(force_rollback=True):
        pin(connection)
        how = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "
        row = connection.execute(execute(connection, statements()[name], how)).fetchone()
    assert row is not None
    plan: dict[str, Any] = row[0][0]["Plan"]
    return plan


@pytest.mark.parametrize("name", INDEXES)
def test_whoever_claims_wakes_or_looks_sees_no_more_than_it_takes(crowded: psycopg.Connection[Any], name: str) -> None:
    plan = explained(crowded, name)
    found = list(nodes(plan))
    assert {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"} <= {"workers"}
    assert {node["Index Name"] for node in found if "Index Name" in node} == INDEXES[name]
    read = [node for node in found if "Index Name" in node]
    touched = sum((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"] for node in read)
    assert touched <= 250, json.dumps(plan, indent=1)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] <= MOST_BUFFERS[name], json.dumps(plan, indent=1)


def test_what_waits_for_people_or_signals_is_in_no_index_but_that_of_its_key(crowded: psycopg.Connection[Any]) -> None:
    """Whatever is claimed, woken or looked for is found through the others."""
    query = """
        SELECT i.relname, greatest(i.reltuples, 0)::int FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid
         WHERE x.indrelid = '{0}.jobs'::regclass AND NOT x.indisprimary
    """
    crowded.execute(f"REINDEX TABLE {SCHEMA}.jobs".encode())  # which counts
    entries = dict(crowded.execute(query.format(SCHEMA).encode()).fetchall())
    there = {"jobs_ready": 1000, "jobs_sleeping": SLEEPERS + 200}
    assert entries == {**dict.fromkeys(entries, 0), **there}
