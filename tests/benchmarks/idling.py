"""An idle worker with default settings: how soon it runs what another process starts, and what it costs meanwhile."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from squidmesh import SquidMesh
from tests.benchmarks.board import MOST_RUNS, new_board
from tests.benchmarks.figures import Figures, percentile
from tests.benchmarks.gauges import Counters
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import ping

if TYPE_CHECKING:
    from tests.benchmarks.board import Board
    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

MOST_SECONDS: Final = 60.0


def measure_latency(server: BenchServer, scale: Scale) -> Figures:
    """From the call of ``start_run`` to the body, an idle worker in another process; median of the starts."""
    assert scale.pings <= MOST_RUNS
    with server.fresh_database() as database, new_board() as board:
        workflow = ping()
        with SquidMesh(server.dsn(database), workflows=[workflow]) as mesh:
            mesh.migrate()
            server.settle(database)
            with WorkerProcess(server.dsn(database), "ping", board) as worker:
                worker.start()
                time.sleep(scale.latency_settle_seconds)
                waits = [ping_once(mesh, board, number, worker, scale.pause) for number in range(scale.pings)]
    # The first one opens the client's pool.
    waits = waits[1:]
    p99, worst = percentile(waits, 0.99), max(waits)
    return Figures(percentile(waits, 0.5), {"p50 ms": percentile(waits, 0.5), "p99 ms": p99, "worst ms": worst})


def ping_once(mesh: SquidMesh, board: Board, number: int, worker: WorkerProcess, pause: float) -> float:
    """Start a run, and wait: milliseconds from the call to the body."""
    called = time.time_ns()
    mesh.start_run("bench_ping", {"number": number})
    deadline = time.monotonic() + MOST_SECONDS
    time.sleep(pause)  # the worker goes to sleep again; and this process leaves it the CPU
    while not board.entered_at(number):
        worker.check()
        assert time.monotonic() < deadline, f"run {number} was not begun within {MOST_SECONDS:g} seconds"
        time.sleep(0.001)
    return (board.entered_at(number) - called) / 1e6


def measure_idle(server: BenchServer, scale: Scale) -> Figures:
    """Transactions of a worker that has nothing to do."""
    with server.fresh_database() as database, new_board() as board:
        with SquidMesh(server.dsn(database), workflows=[ping()]) as mesh:
            mesh.migrate()
        server.settle(database)
        with WorkerProcess(server.dsn(database), "ping", board) as worker, server.connect() as admin:
            worker.start()
            time.sleep(scale.settle_seconds)
            before, statements = Counters.read(admin, database), board.statements
            server_cpu, worker_cpu = server.cpu_seconds(), worker.cpu_seconds()
            time.sleep(scale.idle_seconds)
            server_cpu, worker_cpu = server.cpu_seconds() - server_cpu, worker.cpu_seconds() - worker_cpu
            statements = board.statements - statements
            cost = Counters.read(admin, database) - before
    return Figures(
        (cost.commits + cost.rollbacks) / scale.idle_seconds,
        {
            "statements/s": statements / scale.idle_seconds,
            "worker CPU %": worker_cpu / scale.idle_seconds * 100,
            "server CPU %": server_cpu / scale.idle_seconds * 100,
        },
    )
