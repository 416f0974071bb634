"""Growth: what a worker or a client says for a run is served by the index that its file names, however full tables are.

Each statement is explained, and carried out, at two sizes, the second ten times the first: in sessions that planned it
while the tables were empty, which is what a busy installation has in its first minutes, and in ones that planned it when
they were full, before and after somebody analysed them; with the plans pinned, as in an engine's transaction, and not, as
in a client's. It may use those indexes only, scan no table whole that grows, sort no more than it was asked for, and
touch about as many pages at the one size as at the other.
"""

from __future__ import annotations

import json
import re
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID, uuid4

import psycopg
import pytest

from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.outcome import Output
from squidmesh.planner.plan import ConsumedSignal, NewAudit, NewSignal
from squidmesh.records import Lane
from squidmesh.store import jobs, meters, runs, schedules, sight, workers
from squidmesh.store.jobs import Room
from squidmesh.store.migrations import migrate
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import sql_folder, sql_of
from tests.store.kit import CHANNEL, attempt, entry, new_runs, plan
from tests.store.test_plans import SCHEMA, execute, locked_run, nodes, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.store.statements import Statement


WORKER: Final = UUID(int=2**100)
"""Has as many jobs at either size."""
MINE: Final = 100
QUEUES: Final = [f"q{n}" for n in range(5)]

SMALL, LARGE = 1, 10
"""Sizes, in 20,000 finished runs, 10,000 sleeping jobs, 5,000 ready and as many that wait for people, 1,000 claimed."""

FILL_MINE = """
INSERT INTO {0}.workers (id, lease, pid, host, version, queues, knows)
SELECT CASE n WHEN 0 THEN '{1}' ELSE ('f' || lpad(to_hex(n), 31, '0'))::uuid END, {0}.clock() + interval '1 hour', 1, 'h', '0',
       ARRAY['q0'], ARRAY['w/step/s']
  FROM generate_series(0, 20) n;
INSERT INTO {0}.runs (id, created_at, seq, workflow, fingerprint, trigger, key, status, state, payload)
SELECT ('03' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), 6, 'w', 'f', 't', 'k' || n, 'running', '{{}}', '{{}}'
  FROM generate_series(1, {2}) n;
INSERT INTO {0}.jobs (run_id, since, ready_at, worker, claim, slot, visit, attempt, saw, priority, lane, state, kind, step, queue)
SELECT ('03' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), {0}.clock(), '{1}', 1, 0, 1, 1, 6, 0, 0, 'claimed', 'step', 's', 'q0'
  FROM generate_series(1, {2}) n;
INSERT INTO {0}.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, output)
SELECT ('03' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), s, s, 1, s, CASE WHEN s = 3 THEN 'snapshot' ELSE 'step' END,
       'completed', 's', '{{"due": 1}}'
  FROM generate_series(1, {2}) n, generate_series(1, 5) s;
"""

FILL = """
INSERT INTO {0}.runs (id, created_at, finished_at, seq, workflow, fingerprint, trigger, key, status, state, payload)
SELECT ('01' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), {0}.clock(), 3, 'w' || n % 7, 'f', 't',
       CASE WHEN n % 10 = 0 THEN 'k' || n END, 'completed', '{{}}', '{{}}'
  FROM generate_series({1} * 20000 + 1, {2} * 20000) n;
INSERT INTO {0}.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, output)
SELECT ('01' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), s, 1, 1, s, 'step', 'completed', 's', '{{}}'
  FROM generate_series({1} * 20000 + 1, {2} * 20000) n, generate_series(1, 2) s;
INSERT INTO {0}.audit_events (run_id, at, seq, type, metadata)
SELECT ('01' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), 1, 'voted', '{{}}' FROM generate_series({1} * 2000 + 1, {2} * 2000) n;
INSERT INTO {0}.signals (run_id, sent_at, seq, name, key, payload)
SELECT ('01' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), 1, 'paid', '1', '{{}}' FROM generate_series({1} * 2000 + 1, {2} * 2000) n;
INSERT INTO {0}.runs (id, created_at, seq, workflow, fingerprint, trigger, status, state, payload)
SELECT ('02' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), 3, 'w', 'f', 't', 'running', '{{}}', '{{}}'
  FROM generate_series({1} * 21000 + 1, {2} * 21000) n;
INSERT INTO {0}.jobs (run_id, since, ready_at, run_at, worker, slot, visit, attempt, saw, priority, lane, state, kind, step,
                      queue, reason)
SELECT ('02' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), {0}.clock() - make_interval(secs => n),
       CASE state WHEN 'sleeping' THEN {0}.clock() + make_interval(secs => (n - {1} * 21000 - 300) * 60) END,
       CASE state WHEN 'claimed' THEN ('f' || lpad(to_hex(n % 20 + 1), 31, '0'))::uuid END, 0, 1, 1, 3, n % 3,
       CASE state WHEN 'sleeping' THEN 3 ELSE n % 2 END, state, 'step', 's', 'q' || n % 5,
       CASE state WHEN 'parked' THEN 'approval' END
  FROM generate_series({1} * 21000 + 1, {2} * 21000) n,
       LATERAL (SELECT CASE WHEN n % 21 < 10 THEN 'sleeping' WHEN n % 21 < 15 THEN 'ready' WHEN n % 21 < 20 THEN 'parked'
                            ELSE 'claimed' END AS state) s;
"""

FILL_METERED = """
INSERT INTO {0}.jobs (run_id, since, ready_at, worker, slot, visit, attempt, saw, priority, lane, state, kind, step, queue, meters)
SELECT ('04' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), {0}.clock() - make_interval(secs => n),
       CASE WHEN n % 20 < 2 AND n <= 2000 THEN ('f' || lpad(to_hex(n % 20 + 1), 31, '0'))::uuid END, 0, 1, 1, 3, n % 3, 4,
       CASE WHEN n % 20 < 2 AND n <= 2000 THEN 'claimed' ELSE 'ready' END, 'step', 's', 'metered',
       format(E'w/limited:key=%s\nw/rated:key=%s\n@metered', n / 20 % ({2} * 100), n / 20)
  FROM generate_series({1} * 2000 + 1, {2} * 2000) n;
INSERT INTO {0}.jobs (run_id, since, ready_at, worker, slot, visit, attempt, saw, priority, lane, state, kind, step, queue, meters)
SELECT ('05' || lpad(to_hex(n), 30, '0'))::uuid, {0}.clock(), {0}.clock(), ('f' || lpad(to_hex(n % 20 + 1), 31, '0'))::uuid,
       0, 1, 1, 3, 0, 4, 'claimed', 'step', 's', 'elsewhere', format(E'w/other:key=%s\n\n@elsewhere', n)
  FROM generate_series({1} * 2000 + 1, {2} * 2000) n;
INSERT INTO {0}.meters (name, tokens, refilled_at, idle_at)
SELECT 'w/rated:key=' || n, 1, {0}.clock(), {0}.clock() FROM generate_series({1} * 2000, {2} * 2000 - 1) n;
"""
"""Jobs that share limits and rates: ten times as many keys, and not more of each, so that as many hold one of them; and
those of another queue."""

KNOWN: Final = MeterTable(
    {"w/limited:key": 50, "@metered": 10_000}, {"w/rated:key": Rate(100, per=1)}, {"metered": "@metered"}
)

LOCKED: Final = [{"queue": "metered", "meters": f"w/limited:key={n}\nw/rated:key={n}\n@metered"} for n in range(1, 11)]
"""What ``lock_meters`` has found for ``claim_metered``."""

# -- what is said ------------------------------------------------------------------------------------------------------


def hot_statements(number: int = 0) -> dict[str, Statement[Any]]:
    """What is said for each step, start, beat, and change to a run: of ten runs, or of one.

    Each time of others: what was tried before is undone, but has left its traces.
    """
    ids = [UUID(f"03{10 * number + n:030x}") for n in range(1, 11)]
    first, anybody = ids[0], uuid4()
    saved = [
        plan(
            replace(locked_run(), id=run_id, seq=6),
            attempts=[attempt(6, {})],
            audits=[NewAudit(seq=7, type="routed")],
            moved=[entry(same_visit=True)],
            added=[entry(slot=1)],
            removed=[2],
            flag=True,
            signals=[NewSignal(name="paid", key="1", payload=Output.of({}), seq=8, consumed_by=None)],
            consumed=[ConsumedSignal(name="paid", key="0", consumed_by=6)],
        )
        for run_id in ids
    ]
    floors = ((0, 3600.0), (1, 3600.0))
    rooms = [Room(queue, lane, 10, floors) for queue in QUEUES for lane in (Lane.AHEAD, Lane.ALONE)]
    rooms.append(Room("q0", Lane.SUSPECT, 10, floors, worst=-1))
    new = new_runs(10)
    said: list[Statement[Any]] = [
        jobs.list_claimed(WORKER),
        jobs.list_flagged(WORKER),
        jobs.check_fences(WORKER, [(run_id, entry()) for run_id in ids]),
        jobs.lock_jobs(ids),
        jobs.claim_jobs(anybody, 1, rooms),
        jobs.adopt_jobs(anybody, 1, rooms, ["w/step/s"]),
        jobs.read_claimed([(run_id, 6) for run_id in ids]),
        jobs.wake_jobs(dict.fromkeys(QUEUES, 1), CHANNEL, WORKER, 10),
        jobs.find_work(QUEUES, anybody),
        meters.lock_meters({"metered": ""}, KNOWN, 10),
        meters.claim_metered(anybody, 1, {"metered": 10}, KNOWN, suspect=True),
        meters.pause_meters([(f"w/rated:key={10 * number + n}", 1.0, None) for n in range(10)]),
        meters.delete_idle_meters(10),
        jobs.notify_idle(CHANNEL, QUEUES, WORKER),
        runs.lock_runs(ids),
        runs.lock_run(first),
        runs.start_runs(new, CHANNEL, always_notify=False),
        runs.start_keyed(new_runs(1), f"new {number}", CHANNEL, always_notify=False),
        runs.read_run(first),
        runs.read_keyed("w", f"k{10 * number + 1}"),
        runs.read_history(first, 0, 100),
        runs.read_outputs(first),
        runs.read_audits(first, 0, None),
        runs.read_step_states(first),
        runs.read_votes(first),
        runs.list_done_steps(first),
        runs.find_signal(first, "paid", "1"),
        runs.read_signals(ids),
        runs.read_values([(run_id, "due") for run_id in ids]),
        runs.read_completions([(run_id, 5, ["s"]) for run_id in ids]),
        runs.read_definitions(["f"]),
        sight.read_explanation(first, most_ahead=100),
        schedules.list_live_runs(ids),
        workers.renew_worker(WORKER, 1.0),
        workers.list_late_workers(WORKER),
        workers.declare_dead(WORKER, 0),
        workers.remove_worker(WORKER),
        workers.set_idle(WORKER, idle=True),
        *save_plans(saved, CHANNEL),
    ]
    return {statement.name: statement for statement in said}


HOT: Final = hot_statements()

SCHEDULES: Final = "it reads and writes schedules, of which there are few, and runs by id"
COLD: Final = {
    "count_lacking": "asked before a deploy, and reads all unfinished runs",
    "count_live": "asked before a deploy, and reads all unfinished runs",
    "list_runs": "has many forms: see test_plans",
    "find_schema": "reads no table of ours",
    "list_broken_indexes": "reads no table of ours",
    "limit_idleness": "reads no table",
    "limit_wait": "reads no table",
    "lock_schema": "reads no table",
    "notify": "reads no table",
    "list_meters": "somebody asks, and it counts all that shares something",
    "resume_meters": "somebody asks, and is heard by all workers",
    "pin_plans": "reads no table",
    "read_isolation": "reads no table",
    "read_transaction": "reads no table",
    "read_schema": "reads one row, at a process's start",
    "register_definition": "inserts one row, at a process's start",
    "register_worker": "inserts one row, at a process's start",
    "delete_schedule": SCHEDULES,
    "insert_schedules": SCHEDULES,
    "lock_due_schedules": SCHEDULES,
    "lock_schedules": SCHEDULES,
    "read_agenda": SCHEDULES,
    "read_declared": SCHEDULES,
    "read_schedules": SCHEDULES,
    "save_schedules": SCHEDULES,
    "start_scheduled_runs": SCHEDULES,
    "update_schedules": SCHEDULES,
}
"""What is not tried here, and why that does no harm."""


def test_each_statement_is_tried_here_or_there_is_a_reason() -> None:
    assert not HOT.keys() & COLD.keys()
    assert HOT.keys() | COLD.keys() == {path.stem for path in (sql_folder() / "statements").glob("*.sql")}


# -- what comes of it --------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    """In what circumstances a statement was carried out."""

    size: int
    planned: str
    """While the tables were empty, full, or full and analysed."""
    pinned: bool


SESSIONS: Final = [("empty", True), ("full", True), ("full", False), ("analysed", True), ("analysed", False)]
UNPINNED: Final = {
    name
    for name in HOT
    if name.startswith(("start_", "read_", "save_", "insert_", "move_", "delete_jobs", "find_signal"))
} | {"lock_run", "lock_jobs", "list_done_steps", "list_live_runs", "flag_jobs", "consume_signals", "notify_idle"}
"""What clients say, too, who pin no plan."""


@contextmanager
def circumstances(connection: psycopg.Connection[Any], *, pinned: bool) -> Iterator[None]:
    with connection.transaction(force_rollback=True):
        connection.execute(sql_of("pin_plans", SCHEMA) if pinned else "SET LOCAL plan_cache_mode = force_generic_plan")
        connection.execute("SELECT set_config(%s, %s, true)", [f"{SCHEMA}.locked_meters", json.dumps(LOCKED)])
        yield


@contextmanager
def planning(dsn: str, *, pinned: bool) -> Iterator[psycopg.Connection[Any]]:
    """A session that plans everything now."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        with circumstances(connection, pinned=pinned):
            for name, statement in HOT.items():
                connection.execute(prepare(name))
                connection.execute(execute(connection, statement, "EXPLAIN "))
        yield connection


def carried_out(connection: psycopg.Connection[Any], number: int, *, pinned: bool) -> dict[str, dict[str, Any]]:
    """What each statement did; it is undone."""
    found: dict[str, dict[str, Any]] = {}
    for name, statement in hot_statements(number).items():
        with circumstances(connection, pinned=pinned):
            how = "EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) "
            row = connection.execute(execute(connection, statement, how)).fetchone()
        assert row is not None
        found[name] = row[0][0]["Plan"]
    return found


@pytest.fixture(scope="module")
def explained(dsn: str) -> Iterator[dict[Way, dict[str, dict[str, Any]]]]:
    """Everything in all circumstances."""
    found: dict[Way, dict[str, dict[str, Any]]] = {}
    with psycopg.connect(dsn, autocommit=True) as filler, ExitStack() as undo:
        migrate(filler, SCHEMA)
        undo.callback(filler.execute, f"DROP SCHEMA {SCHEMA} CASCADE".encode())
        tables = [row[0] for row in filler.execute("SELECT relname FROM pg_class WHERE relnamespace = %s::regnamespace AND relkind = 'r'", [SCHEMA])]  # fmt: skip
        for table in tables:
            # Whether somebody has analysed it is said here. It is also cleaned up by nobody, which changes nothing:
            # what is tried is undone, and then the table is as it was but for a few dead rows.
            filler.execute(f"ALTER TABLE {SCHEMA}.{table} SET (autovacuum_enabled = false)".encode())
            filler.execute(f"VACUUM (ANALYZE) {SCHEMA}.{table}".encode())
        early = undo.enter_context(planning(dsn, pinned=True))
        filler.execute(FILL_MINE.format(SCHEMA, WORKER, MINE).encode())
        filler.execute(FILL.format(SCHEMA, 0, SMALL).encode())
        filler.execute(FILL_METERED.format(SCHEMA, 0, SMALL).encode())
        for size, sessions in ((SMALL, SESSIONS[:3]), (LARGE, SESSIONS)):
            if size == LARGE:
                filler.execute(FILL.format(SCHEMA, SMALL, LARGE).encode())
                filler.execute(FILL_METERED.format(SCHEMA, SMALL, LARGE).encode())
            for planned, pinned in sessions:
                if (planned, pinned) == ("analysed", True):
                    filler.execute(b"ANALYZE")
                session = early if planned == "empty" else undo.enter_context(planning(dsn, pinned=pinned))
                found[Way(size, planned, pinned)] = carried_out(session, len(found), pinned=pinned)
        yield found


def sums(done: dict[str, Any], *counters: str) -> int:
    """Of the statement, and of what it writes once more: where nothing reads that, it is not in the sum of the whole."""
    parts = [done, *(node for node in nodes(done) if node["Node Type"] == "ModifyTable" and node is not done)]
    return sum(part[counter] for part in parts for counter in counters)


def pages(done: dict[str, Any]) -> int:
    return sums(done, "Shared Hit Blocks", "Shared Read Blocks")


def indexes_of(done: dict[str, Any]) -> set[str]:
    return {node["Index Name"] for node in nodes(done) if "Index Name" in node}


@pytest.mark.parametrize(
    ("name", "planned", "pinned"),
    [(name, *session) for name in HOT for session in SESSIONS if session[1] or name in UNPINNED],
)
def test_no_statement_costs_more_in_full_tables(
    explained: dict[Way, dict[str, dict[str, Any]]], name: str, planned: str, *, pinned: bool
) -> None:
    small = explained[Way(SMALL, "full" if planned == "analysed" else planned, pinned)][name]
    large = explained[Way(LARGE, planned, pinned)][name]
    shown = json.dumps(large, indent=1)
    found = list(nodes(large))
    text = (sql_folder() / "statements" / f"{name}.sql").read_text(encoding="utf-8")
    header = "".join(line for line in text.splitlines() if line.startswith("--"))
    named = set(re.findall(r"\b(?:runs|jobs|attempts|workers|signals|definitions|audit_events|meters)_\w+\b", header))
    used = indexes_of(large)
    assert used <= named | {"workers_pkey"}, shown
    if not name.startswith(("insert_", "start_", "pause_")):  # of whose indexes a plan says nothing
        assert named <= used | {"workers_pkey", "definitions_pkey"}, shown
    whole = {node["Relation Name"] for node in found if node["Node Type"] == "Seq Scan"}
    assert whole <= {"workers", "definitions"}, shown
    assert max((node["Actual Rows"] for node in found if node["Node Type"] == "Sort"), default=0) <= 100, shown
    # An index may have grown by a level, which each descent of it reads; and what was tried before has left its traces.
    assert pages(large) <= pages(small) * 2 + 10, f"{pages(small)} pages, then {pages(large)}: {shown}"
    # Whoever reads may clean a page of what was tried before, and whoever inserts may have to split one.
    before, after = sums(small, "WAL Bytes"), sums(large, "WAL Bytes")
    assert after <= before * 1.25 + 8192, f"{before} bytes of WAL, then {after}: {shown}"
