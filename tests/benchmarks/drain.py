"""Drains: many runs wait, one worker process runs them all. How many durable steps a second, and at what cost?

The clock starts when the first body is entered and stops when the database shows nothing left to do, so neither the
interpreter's start nor the enqueueing is in it. What it cost is counted from the moment before the worker starts.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from squidmesh import SquidMesh
from tests.benchmarks.board import Board, new_board
from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import Counters, Machine
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import WORKFLOWS

if TYPE_CHECKING:
    from collections.abc import Callable

    import psycopg

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

STEPS: Final = {"chain": 5, "single": 1, "limited": 1, "keyed": 1, "rated": 1}
MOST_SECONDS: Final = 300.0
_LOOK: Final = 0.002


def measure_chain(server: BenchServer, scale: Scale) -> Figures:
    """Durable steps of a five-step chain, all runs waiting, one worker process, 500 at once."""
    return _drain(server, "chain", scale.chain_runs, 500)


def measure_chain_of_ten(server: BenchServer, scale: Scale) -> Figures:
    """The same with 10 at once, the default: fewer steps share a commit."""
    return _drain(server, "chain", scale.chain_runs // 2, 10)


def measure_single(server: BenchServer, scale: Scale) -> Figures:
    """Runs of a single step, all waiting, one worker process, 500 at once; in steps, which are runs here."""
    return _drain(server, "single", scale.single_runs, 500)


def measure_limited(server: BenchServer, scale: Scale) -> Figures:
    """The same with a limit of 50 on the step: it is filed, then claimed as the limit allows."""
    return _drain(server, "limited", scale.single_runs // 2, 500)


def measure_keyed(server: BenchServer, scale: Scale) -> Figures:
    """The same with a limit of one for each value of a key, as many as runs."""
    return _drain(server, "keyed", scale.single_runs // 2, 500)


def measure_rated(server: BenchServer, scale: Scale) -> Figures:
    """The same with a rate that is never reached."""
    return _drain(server, "rated", scale.single_runs // 2, 500)


def _drain(server: BenchServer, workflow: str, runs: int, concurrency: int) -> Figures:
    with server.fresh_database() as database:
        _enqueue(server.dsn(database), workflow, runs)
        server.settle(database)
        with new_board() as board, server.connect() as admin:
            with WorkerProcess(server.dsn(database), workflow, board, concurrency) as worker:
                before, cpu, machine = Counters.read(admin, database), server.cpu_seconds(), Machine.read()
                client_cpu = worker.cpu_seconds()
                worker.start()
                ended, looks = _wait_until_done(server, database, worker, board, runs)
                client_cpu, cpu = worker.cpu_seconds() - client_cpu, server.cpu_seconds() - cpu
                busy = _busy_since(machine)
                statements = board.statements
            _check(server, database, runs, runs * STEPS[workflow])
            cost = Counters.read(admin, database) - before
            seconds = (ended - board.first_body) / 1e9
    steps = runs * STEPS[workflow]
    return Figures(
        steps / seconds,
        {
            "seconds": seconds,
            "commits/step": (cost.commits - looks) / steps,
            "statements/step": statements / steps,
            "rows/step": cost.rows / steps,
            "WAL bytes/step": cost.wal_bytes / steps,
            "full pages/step": cost.full_pages / steps,
            "client CPU us/step": client_cpu / steps * 1e6,
            "server CPU us/step": cpu / steps * 1e6,
            # Above what client and server used together, somebody else was at work.
            "others' CPUs": busy - (client_cpu + cpu) / seconds,
        },
    )


def _enqueue(dsn: str, workflow: str, runs: int) -> None:
    declared = WORKFLOWS[workflow]()
    with SquidMesh(dsn, workflows=[declared]) as mesh:
        mesh.migrate()
        mesh.start_runs(declared, [{"number": number} for number in range(runs)])


def _wait_until_done(
    server: BenchServer, database: str, worker: WorkerProcess, board: Board, runs: int
) -> tuple[int, int]:
    """When nothing was left to do, and how often the database was asked."""
    _wait(lambda: board.bodies >= runs, worker)
    with server.connect(database) as connection:
        looks = 0

        def nothing_left() -> bool:
            nonlocal looks
            looks += 1
            return not _value(connection, "SELECT EXISTS (SELECT FROM squidmesh.jobs)")

        _wait(nothing_left, worker)
        return time.time_ns(), looks


def _wait(condition: Callable[[], bool], worker: WorkerProcess) -> None:
    deadline = time.monotonic() + MOST_SECONDS
    while not condition():
        worker.check()
        assert time.monotonic() < deadline, f"not drained within {MOST_SECONDS:g} seconds"
        time.sleep(_LOOK)


def _check(server: BenchServer, database: str, runs: int, steps: int) -> None:
    """What was measured must have happened."""
    with server.connect(database) as connection:
        completed = _value(connection, "SELECT count(*) FROM squidmesh.runs WHERE status = 'completed'")
        attempts = _value(connection, "SELECT count(*) FROM squidmesh.attempts WHERE status = 'completed'")
    assert (completed, attempts) == (runs, steps), f"{completed} of {runs} runs, {attempts} of {steps} steps completed"


def _value(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def _busy_since(before: Machine | None) -> float:
    now = Machine.read()
    return now.busy_cpus_since(before) if now is not None and before is not None else 0.0
