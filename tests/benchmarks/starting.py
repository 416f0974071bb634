"""Starts: how fast a client stores new runs, one by one and in bulk, while no worker is there."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import psycopg

from squidmesh import SquidMesh
from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import Counters
from tests.benchmarks.workflows import single

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer


def measure_insert(server: BenchServer, scale: Scale) -> Figures:
    """A bare insert of one small row through psycopg, one commit each: what any start must at least do."""
    with server.fresh_database() as database:
        with server.connect(database) as connection:
            connection.execute("CREATE TABLE started (id bigint PRIMARY KEY, payload jsonb NOT NULL)")
        server.settle(database)
        with psycopg.connect(server.dsn(database), autocommit=True) as connection:

            def insert_all() -> None:
                for number in range(scale.starts):
                    payload = f'{{"number": {number}}}'
                    connection.execute("INSERT INTO started (id, payload) VALUES (%s, %s)", (number, payload))

            return _timed(server, database, scale.starts, insert_all)


def measure_start(server: BenchServer, scale: Scale) -> Figures:
    """``start_run`` by one client, one commit each."""
    with server.fresh_database() as database:
        workflow = single()
        with SquidMesh(server.dsn(database), workflows=[workflow]) as mesh:
            mesh.migrate()
            mesh.start_run(workflow, {"number": 0})  # opens the pool and registers the graph
            server.settle(database)

            def start_all() -> None:
                for number in range(scale.starts):
                    mesh.start_run(workflow, {"number": number})

            return _timed(server, database, scale.starts, start_all)


def measure_bulk(server: BenchServer, scale: Scale) -> Figures:
    """``start_runs`` with all runs at once, one commit."""
    with server.fresh_database() as database:
        workflow = single()
        with SquidMesh(server.dsn(database), workflows=[workflow]) as mesh:
            mesh.migrate()
            mesh.start_run(workflow, {"number": 0})
            server.settle(database)
            payloads = [{"number": number} for number in range(scale.bulk_runs)]
            return _timed(server, database, scale.bulk_runs, lambda: mesh.start_runs(workflow, payloads))


def _timed(server: BenchServer, database: str, count: int, work: Callable[[], object]) -> Figures:
    with server.connect() as admin:
        wal, server_cpu = Counters.read(admin, database).wal_bytes, server.cpu_seconds()
        began, client_cpu = time.perf_counter(), time.process_time()
        work()
        seconds, client_cpu = time.perf_counter() - began, time.process_time() - client_cpu
        wal, server_cpu = Counters.read(admin, database).wal_bytes - wal, server.cpu_seconds() - server_cpu
    return Figures(
        count / seconds,
        {
            "seconds": seconds,
            "WAL bytes/run": wal / count,
            "client CPU us/run": client_cpu / count * 1e6,
            "server CPU us/run": server_cpu / count * 1e6,
        },
    )
