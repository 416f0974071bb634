"""Timers: how late an idle worker is for what is due, what sleepers cost, and what a burst of them does to others."""

from __future__ import annotations

import random
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg

from squidmesh import SquidMesh
from squidmesh.records import Lane
from squidmesh.store.database import drive
from squidmesh.store.jobs import Room, claim_jobs, pin_plans, wake_jobs
from squidmesh.store.statements import Batch, sql_of
from tests.benchmarks.board import MOST_RUNS, new_board
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.gauges import Counters
from tests.benchmarks.idling import ping_once
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import burst, ping, timed

if TYPE_CHECKING:
    from squidmesh.store.statements import Flow, Statement
    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

MOST_SECONDS: Final = 120.0

NOTE_DUES: Final = """
CREATE TABLE dues (run_id uuid, kind text, step text, attempt int, at timestamptz);
CREATE FUNCTION note_due() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO dues VALUES (NEW.run_id, NEW.kind, NEW.step, NEW.attempt, NEW.run_at);
    RETURN NULL;
END $$;
CREATE TRIGGER note_due AFTER INSERT OR UPDATE ON squidmesh.jobs
    FOR EACH ROW WHEN (NEW.state = 'sleeping') EXECUTE FUNCTION note_due();
"""
"""A job's row forgets when it was due as soon as it is woken."""

LATENESS: Final = """
SELECT CASE WHEN d.kind <> 'step' THEN d.kind WHEN d.attempt = 1 THEN 'start' ELSE 'retry' END,
       extract(epoch FROM CASE d.kind WHEN 'step' THEN a.started_at WHEN 'timer' THEN r.finished_at ELSE a.finished_at END
               - d.at)::float8 * 1000
  FROM dues d
  JOIN squidmesh.runs r ON r.id = d.run_id
  LEFT JOIN squidmesh.attempts a ON a.run_id = d.run_id AND a.step = d.step AND a.attempt = d.attempt
"""
KINDS: Final = ("start", "retry", "wait", "gate", "timer")
"""Delayed starts, retries, waits, deadlines of gates, and of runs."""


def measure_lateness(server: BenchServer, scale: Scale) -> Figures:
    """From when it is due to when it happens: delayed starts, retries, waits, deadlines; an idle worker, all timers."""
    dice = random.Random(5)
    with server.fresh_database() as database, new_board() as board:
        workflow = timed()
        with SquidMesh(server.dsn(database), workflows=[workflow]) as mesh, server.connect(database) as admin:
            mesh.migrate()
            admin.execute(NOTE_DUES)
            with WorkerProcess(server.dsn(database), "timed", board) as worker:
                worker.start()
                time.sleep(scale.settle_seconds)
                before = Counters.read(admin, database)
                for number in range(scale.timers):
                    delay = timedelta(seconds=dice.uniform(1.0, 1.0 + scale.timer_seconds))
                    mesh.start_run(workflow, {"number": number}, delay=delay)
                _until(admin, "SELECT count(*) FROM squidmesh.runs WHERE finished_at IS NOT NULL", scale.timers, worker)
                cost = Counters.read(admin, database) - before
            found: dict[str, list[float]] = {kind: [] for kind in KINDS}
            for kind, late in admin.execute(LATENESS.encode()):
                found[kind].append(late)
    assert all(len(late) == scale.timers for late in found.values()), {kind: len(late) for kind, late in found.items()}
    every = [late for kind in KINDS for late in found[kind]]
    assert min(every) >= 0, "too early"
    details = {"p99 ms": percentile(every, 0.99), "worst ms": max(every)}
    for kind in KINDS:
        details[f"{kind} p50 ms"], details[f"{kind} p99 ms"] = (
            percentile(found[kind], 0.5),
            percentile(found[kind], 0.99),
        )
    return Figures(percentile(every, 0.5), {**details, "transactions/timer": cost.commits / len(every)})


SLEEP: Final = """
INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state, kind,
                            step, queue)
SELECT gen_random_uuid(), squidmesh.clock(), squidmesh.clock(), squidmesh.clock() + make_interval(secs => {due}), 0, 1, 1, 1, 0, 0,
       '{state}', 'step', 's', 'default'
  FROM generate_series(1, {count}) n
"""


def measure_sleepers(server: BenchServer, scale: Scale) -> Figures:
    """Milliseconds to wake 10 due jobs and to claim 10, with a million that sleep in the same queue."""
    details: dict[str, float] = {}
    there = 0
    with server.fresh_database() as database, server.connect(database) as connection:
        with SquidMesh(server.dsn(database)) as mesh:
            mesh.migrate()
        connection.execute(SLEEP.format(due="NULL", state="ready", count=1000).encode())
        connection.execute(SLEEP.format(due="-n", state="sleeping", count=10).encode())
        for count in (0, scale.sleepers // 10, scale.sleepers):
            connection.execute(SLEEP.format(due="36000 + n * 0.01", state="sleeping", count=count - there).encode())
            there = count
            server.settle(database)
            said: dict[str, Statement[Any]] = {
                "wake": wake_jobs({"default": 10}, "squidmesh", uuid4()),
                "claim": claim_jobs(uuid4(), 1, [Room("default", Lane.AHEAD, 10)]),
            }
            for name, statement in said.items():
                details[f"{name} ms, {count:,}"] = percentile([_timed(connection, statement) for _ in range(50)], 0.5)
                details[f"{name} pages, {count:,}"] = pages(connection, statement)
    return Figures(details[f"wake ms, {there:,}"] + details[f"claim ms, {there:,}"], details)


def _timed(connection: psycopg.Connection[Any], statement: Statement[Any]) -> float:
    """Milliseconds that a statement takes; what it did is undone."""
    with connection.transaction(force_rollback=True):
        drive(connection, _pinned(), "squidmesh", own_transaction=False)
        began = time.perf_counter()
        found = drive(connection, statement, "squidmesh", own_transaction=False)
        took = (time.perf_counter() - began) * 1000
    assert (len(found) if isinstance(found, list) else found.count) == 10
    return took


def pages(connection: psycopg.Connection[Any], statement: Statement[Any]) -> float:
    """Pages that a statement touches."""
    query = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {sql_of(statement.name, 'squidmesh')}"
    with connection.transaction(force_rollback=True):
        drive(connection, _pinned(), "squidmesh", own_transaction=False)
        row = psycopg.ClientCursor(connection).execute(query.encode(), statement.params).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return float(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def _pinned() -> Flow[None]:
    yield Batch((pin_plans(),))


def measure_burst(server: BenchServer, scale: Scale) -> Figures:
    """Many timers due at once in one queue: p50 from `start_run` to the body of single runs in another one meanwhile."""
    with server.fresh_database() as database, new_board() as board:
        workflows = [burst(), ping()]
        with SquidMesh(server.dsn(database), workflows=workflows) as mesh, server.connect(database) as admin:
            mesh.migrate()
            mesh.start_runs(workflows[0], [{"number": number} for number in range(scale.burst)], delay=3600)
            server.settle(database)
            with WorkerProcess(server.dsn(database), "burst ping", board, queues={"bulk": 10, "default": 10}) as worker:
                worker.start()
                time.sleep(scale.settle_seconds)
                mesh.start_run("bench_ping", {"number": 0})  # opens the client's pool
                admin.execute("UPDATE squidmesh.jobs SET run_at = squidmesh.clock()")
                began = time.monotonic()
                admin.execute("NOTIFY squidmesh, 'queue:bulk'")
                waits: list[float] = []
                woken = 0.0
                for number in range(1, MOST_RUNS):
                    waits.append(ping_once(mesh, board, number, worker, scale.pause))
                    if not woken and not _count(admin, "SELECT count(*) FROM squidmesh.jobs WHERE state = 'sleeping'"):
                        woken = time.monotonic() - began
                    if woken and len(waits) >= scale.pings:
                        break
                query = "SELECT count(*) FROM squidmesh.runs WHERE status = 'completed' AND workflow = 'bench_burst'"
                _until(admin, query, scale.burst, worker)
                seconds = time.monotonic() - began
    p99, worst = percentile(waits, 0.99), max(waits)
    details = {"p99 ms": p99, "worst ms": worst, "woken after s": woken, "runs/s": scale.burst / seconds}
    return Figures(percentile(waits, 0.5), details)


def _until(admin: psycopg.Connection[Any], query: str, count: int, worker: WorkerProcess) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while _count(admin, query) < count:
        worker.check()
        assert time.monotonic() < deadline, f"not done within {MOST_SECONDS:g} seconds"
        time.sleep(0.2)


def _count(admin: psycopg.Connection[Any], query: str) -> int:
    row = admin.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])
