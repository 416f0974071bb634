"""Where the server's time goes: calls, planning, execution, buffers and WAL of each statement, by the name of its file.

    python -m tests.benchmarks.hot_statements DSN chain 4000

It needs a server with ``shared_preload_libraries = pg_stat_statements`` and ``pg_stat_statements.track_planning = on``,
which the embedded one does not have, and an account that may create databases and that extension there.
"""

from __future__ import annotations

import argparse
import re
import time
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from squidmesh import SquidMesh
from squidmesh.store.statements import sql_folder, sql_of
from tests.benchmarks.board import new_board
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import chain, ping, single

if TYPE_CHECKING:
    from collections.abc import Iterator

    Connection = psycopg.Connection[Any]

DRAINS: Final = {"chain": (chain, 5), "single": (single, 1)}
"""What is drained, and of how many steps its runs are."""

CONCURRENCY: Final = 500
WARM: Final = 20
"""Starts before it counts: by then every statement is prepared."""

PAUSE: Final = 0.05
COSTS: Final = """
SELECT query, calls, total_plan_time * 1000, total_exec_time * 1000, shared_blks_hit + shared_blks_read, wal_bytes
  FROM pg_stat_statements JOIN pg_database ON pg_database.oid = dbid
 WHERE datname = current_database()
 ORDER BY total_plan_time + total_exec_time DESC
"""
CONSTANT: Final = re.compile(r"%\(\w+\)s|\$\d+|'(?:[^']|'')*'|\b\d+\b|\b(?:true|false|null)\b", re.IGNORECASE)
"""What the extension replaces in the text of a statement."""


def main() -> None:
    """Run a workload, and print what its statements cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn", help="a database of that server")
    parser.add_argument("workload", choices=(*DRAINS, "start", "latency"))
    parser.add_argument("count", type=int, help="runs, or starts")
    asked = parser.parse_args()
    name = f"hot_{uuid4().hex[:8]}"
    with psycopg.connect(asked.dsn, autocommit=True) as server:
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            dsn = make_conninfo(asked.dsn, dbname=name)
            with psycopg.connect(dsn, autocommit=True) as admin:
                admin.execute("CREATE EXTENSION pg_stat_statements")
                units = _run(admin, dsn, asked.workload, asked.count)
                _report(admin, units)
        finally:
            server.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _run(admin: Connection, dsn: str, workload: str, count: int) -> int:
    """Do the work; by how many steps, or starts, its cost is divided."""
    if workload in DRAINS:
        return _drain(admin, dsn, workload, count)
    workflow = single() if workload == "start" else ping()
    with SquidMesh(dsn, workflows=[workflow]) as mesh, new_board() as board:
        mesh.migrate()
        _start(mesh, workflow.name, WARM, 0.0)
        admin.execute("VACUUM (ANALYZE)")
        if workload == "start":
            _begin_to_count(admin)
            _start(mesh, workflow.name, count, 0.0)
        else:
            with WorkerProcess(dsn, "ping", board) as worker:
                worker.start()
                _start(mesh, workflow.name, WARM, PAUSE)
                _begin_to_count(admin)
                _start(mesh, workflow.name, count, PAUSE)
    return count


def _drain(admin: Connection, dsn: str, workload: str, runs: int) -> int:
    make, steps = DRAINS[workload]
    workflow = make()
    with SquidMesh(dsn, workflows=[workflow]) as mesh:
        mesh.migrate()
        mesh.start_runs(workflow, [{"number": number} for number in range(runs)])
    admin.execute("VACUUM (ANALYZE)")
    with new_board() as board, WorkerProcess(dsn, workload, board, CONCURRENCY) as worker:
        _begin_to_count(admin)
        worker.start()
        while admin.execute("SELECT FROM squidmesh.jobs LIMIT 1").fetchall():
            worker.check()
            time.sleep(PAUSE)
    return runs * steps


def _start(mesh: SquidMesh, workflow: str, count: int, pause: float) -> None:
    for number in range(count):
        mesh.start_run(workflow, {"number": number})
        time.sleep(pause)


def _begin_to_count(admin: Connection) -> None:
    admin.execute("SELECT pg_stat_statements_reset()")


def _report(admin: Connection, units: int) -> None:
    known = dict(_files())
    print("calls/unit  plan us  execute us  us/unit  buffers  WAL bytes  statement (of the columns between: per call)")
    for query, calls, plan, execute, buffers, wal in admin.execute(COSTS.encode()):
        name = known.get(_skeleton(query))
        if name is not None:
            said = f"{calls / units:10.4f} {plan / calls:8.1f} {execute / calls:11.1f} {(plan + execute) / units:8.2f}"
            print(f"{said} {buffers / calls:8.1f} {float(wal) / calls:10.0f}  {name}")


def _files() -> Iterator[tuple[str, str]]:
    for path in sorted((sql_folder() / "statements").glob("*.sql")):
        yield _skeleton(sql_of(path.stem)), path.stem


def _skeleton(query: str) -> str:
    return " ".join(CONSTANT.sub("?", query).split())


if __name__ == "__main__":
    main()
