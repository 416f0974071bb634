"""Drains: many runs wait, worker processes run them all. How many durable steps a second, and at what cost?

The clock starts when the first body is entered and stops when the database shows nothing left to do, so neither the
interpreter's start nor the enqueueing is in it. What it cost is counted from the moment before the workers start.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from squidmesh import SquidMesh
from tests.benchmarks.board import Board, new_board
from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import Counters, Machine
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import workflow_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import psycopg

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer
    from tests.benchmarks.worker_process import ToldProcess

MOST_SECONDS: Final = 900.0
_LOOK: Final = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """The library that is measured.

    Args:
        fill: Makes the tables of the database unless they are there, and starts the runs, which nobody serves yet.
        worker: Makes a worker's process.
        left: Whether there is anything left to do: a query that says so.
        completed: How many runs and how many steps of ours have completed, in a row: a query; None asks nothing.
    """

    fill: Callable[[str, Drain], None]
    worker: Callable[[str, Drain, Board], ToldProcess]
    left: str
    completed: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """What is drained, and by whom.

    Args:
        engine: The library.
        workflow: Its name, as ``workflow_of`` takes it.
        runs: How many wait.
        steps: How many steps complete in each.
        concurrency: How many a worker runs at once.
        workers: How many processes share the work.
        template: The database to begin with; an empty one by default.
        watch: Called every few milliseconds until all is done, with the workers and how many runs' last bodies ran.
        look: Called with the database's name after all is done, and after the workers have ended.
        record: A file in which the workers leave the statements that they sent.
    """

    engine: Engine = field(default_factory=lambda: SQUIDMESH)
    workflow: str
    runs: int
    steps: int
    concurrency: int = 500
    workers: int = 1
    template: str | None = None
    watch: Callable[[Sequence[ToldProcess], int], None] | None = None
    look: Callable[[str], None] | None = None
    record: str | None = None


def measure_chain(server: BenchServer, scale: Scale) -> Figures:
    """Durable steps of a five-step chain, all runs waiting, one worker process, 500 at once."""
    return drain(server, Drain(workflow="chain", runs=scale.chain_runs, steps=5))


def measure_chain_of_ten(server: BenchServer, scale: Scale) -> Figures:
    """The same with 10 at once, the default: fewer steps share a commit."""
    return drain(server, Drain(workflow="chain", runs=scale.chain_runs // 2, steps=5, concurrency=10))


def measure_async(server: BenchServer, scale: Scale) -> Figures:
    """The chain with async steps, one worker process, 500 at once."""
    return drain(server, Drain(workflow="async", runs=scale.chain_runs, steps=5))


def measure_single(server: BenchServer, scale: Scale) -> Figures:
    """Runs of a single step, all waiting, one worker process, 500 at once; in steps, which are runs here."""
    return drain(server, Drain(workflow="single", runs=scale.single_runs, steps=1))


def measure_limited(server: BenchServer, scale: Scale) -> Figures:
    """The same with a limit of 50 on the step: it is filed, then claimed as the limit allows."""
    return drain(server, Drain(workflow="limited", runs=scale.single_runs // 2, steps=1))


def measure_keyed(server: BenchServer, scale: Scale) -> Figures:
    """The same with a limit of one for each value of a key, as many as runs."""
    return drain(server, Drain(workflow="keyed", runs=scale.single_runs // 2, steps=1))


def measure_rated(server: BenchServer, scale: Scale) -> Figures:
    """The same with a rate that is never reached."""
    return drain(server, Drain(workflow="rated", runs=scale.single_runs // 2, steps=1))


def drain(server: BenchServer, what: Drain) -> Figures:
    """Drain it: steps per second, and what a step cost.

    Args:
        server: Where.
        what: What, and by whom.
    """
    with server.fresh_database(what.template) as database:
        what.engine.fill(server.dsn(database), what)
        server.settle(database)
        with ExitStack() as stack:
            boards = [stack.enter_context(new_board()) for _ in range(what.workers)]
            figures = _drained(server, database, what, boards)
        if what.look is not None:
            what.look(database)
    return figures


def _drained(server: BenchServer, database: str, what: Drain, boards: Sequence[Board]) -> Figures:
    steps = what.runs * what.steps
    with server.connect() as admin:
        with ExitStack() as stack:
            made = [what.engine.worker(server.dsn(database), what, board) for board in boards]
            workers = [stack.enter_context(worker) for worker in made]
            before, cpu, machine = Counters.read(admin, database), server.cpu_seconds(), Machine.read()
            client_cpu = _cpu(workers)
            for worker in workers:
                worker.start()
            ended, looks = _wait_until_done(server, database, what, workers, boards)
            client_cpu, cpu = _cpu(workers) - client_cpu, server.cpu_seconds() - cpu
            busy = _busy_since(machine)
            statements = sum(board.statements for board in boards)
        _check(server, database, what)
        after = Counters.read(admin, database)
    cost, rows_of_wal = after - before, server.wal_without_pages(before.wal_bytes, after.wal_bytes)
    seconds = (ended - min(board.first_body for board in boards if board.first_body)) / 1e9
    return Figures(
        steps / seconds,
        {
            "seconds": seconds,
            "commits/step": (cost.commits - looks) / steps,
            **({"statements/step": statements / steps} if statements else {}),
            "rows/step": cost.rows / steps,
            "WAL bytes/step": cost.wal_bytes / steps,
            "WAL bytes/step without pages": rows_of_wal / steps,
            "full pages/step": cost.full_pages / steps,
            "buffers/step": cost.buffers / steps,
            "vacuum's buffers/step": cost.vacuum_buffers / steps,
            "client CPU us/step": client_cpu / steps * 1e6,
            "server CPU us/step": cpu / steps * 1e6,
            # Above what client and server used together, somebody else was at work.
            "others' CPUs": busy - (client_cpu + cpu) / seconds,
        },
    )


def enqueue(dsn: str, workflow: str, runs: int) -> None:
    """Make the tables unless they are there, and start so many runs, which nobody serves yet."""
    declared = workflow_of(workflow)
    with SquidMesh(dsn, workflows=[declared]) as mesh:
        mesh.migrate()
        mesh.start_runs(declared, [{"number": number} for number in range(runs)])


def _filled(dsn: str, what: Drain) -> None:
    enqueue(dsn, what.workflow, what.runs)


def _worker(dsn: str, what: Drain, board: Board) -> ToldProcess:
    return WorkerProcess(dsn, what.workflow, board, what.concurrency, record=what.record)


SQUIDMESH: Final[Engine] = Engine(
    fill=_filled,
    worker=_worker,
    left="SELECT EXISTS (SELECT FROM squidmesh.jobs)",
    # What was there before is of no workflow that is measured.
    completed="WITH ours AS (SELECT id FROM squidmesh.runs WHERE workflow LIKE 'bench%' AND status = 'completed')"
    " SELECT ARRAY[(SELECT count(*) FROM ours), (SELECT count(*) FROM squidmesh.attempts"
    " WHERE status = 'completed' AND kind <> 'snapshot' AND run_id IN (SELECT id FROM ours))]",
)


def _cpu(workers: Sequence[ToldProcess]) -> float:
    return sum(worker.cpu_seconds() for worker in workers)


def _wait_until_done(
    server: BenchServer, database: str, what: Drain, workers: Sequence[ToldProcess], boards: Sequence[Board]
) -> tuple[int, int]:
    """When nothing was left to do, and how often the database was asked."""

    def all_entered() -> bool:
        bodies = sum(board.bodies for board in boards)
        if what.watch is not None:
            what.watch(workers, bodies)
        return bodies >= what.runs

    _wait(all_entered, workers)
    with server.connect(database) as connection:
        looks = 0

        def nothing_left() -> bool:
            nonlocal looks
            looks += 1
            return not _value(connection, what.engine.left)

        _wait(nothing_left, workers)
        return time.time_ns(), looks


def _wait(condition: Callable[[], bool], workers: Sequence[ToldProcess]) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while not condition():
        for worker in workers:
            worker.check()
        assert time.monotonic() < deadline, f"not drained within {MOST_SECONDS:g} seconds"
        time.sleep(_LOOK)


def _check(server: BenchServer, database: str, what: Drain) -> None:
    """What was measured must have happened."""
    if what.engine.completed is None:
        return
    with server.connect(database) as connection:
        runs, steps = _value(connection, what.engine.completed)
    assert (runs, steps) == (what.runs, what.runs * what.steps), f"{runs} runs of {what.runs} completed, {steps} steps"


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _busy_since(before: Machine | None) -> float:
    now = Machine.read()
    return now.busy_cpus_since(before) if now is not None and before is not None else 0.0
