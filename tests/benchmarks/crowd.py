"""Crowds: two workers on one backlog, and fifty clients that start runs at once. Do they get into each other's way?"""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

import psycopg

from squidmesh import SquidMesh
from squidmesh.store.statements import sql_of
from tests.benchmarks.board import new_board
from tests.benchmarks.drain import Drain, drain, enqueue
from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import WaitSampler
from tests.benchmarks.recorder import noting
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import single

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer
    from tests.benchmarks.worker_process import ToldProcess

CLIENTS: Final = 50
WAYS: Final = ("none", "asked", "always")
"""How a start notifies: not at all; only if an idle worker serves the queue, as it is; whatever the workers do."""
ORDER: Final = ("none", "asked", "asked", "none", "always")
"""In turn, so that a machine whose speed drifts favours neither of the two that are alike."""

ID: Final = "ARRAY[lpad(to_hex((:client_id)::bigint * 1000000000 + (:n)::bigint), 32, '0')::uuid]"
"""A new run's id, of the client's number and how many it has started: pgbench knows no UUIDs."""


def measure_two(server: BenchServer, scale: Scale) -> Figures:
    """The chain with two worker processes, 500 at once each."""
    with server.connect() as connection:
        sampler = WaitSampler(connection)

        def watch(_workers: Sequence[ToldProcess], _done: int) -> None:
            sampler.look()

        figures = drain(server, Drain(workflow="chain", runs=scale.chain_runs, steps=5, workers=2, watch=watch))
    return Figures(figures.value, {**figures.details, **sampler.shares()})


def measure_contention(server: BenchServer, scale: Scale) -> Figures:
    """Commits/s of 50 clients that start runs while a worker is busy: as it is, over that without any NOTIFY."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for way in ORDER:
        found[way].append(_contended(server, scale, way))
    details = {f"{name}, {way}": mean(each[name] for each in found[way]) for way in WAYS for name in found[way][0]}
    details["always over none"] = details["commits/s, always"] / details["commits/s, none"]
    return Figures(details["commits/s, asked"] / details["commits/s, none"], details)


def _contended(server: BenchServer, scale: Scale, way: str) -> dict[str, float]:
    """Commits per second of the clients, and what else there is to know.

    The clients are pgbench's, and send the very statement of ``start_run``: fifty Pythons would be slower than any lock.
    """
    with server.fresh_database() as database, new_board() as board, server.connect() as admin:
        enqueue(server.dsn(database), "single", scale.backlog)
        script = _script(server, database, way)
        server.settle(database)
        sampler = WaitSampler(admin)
        with WorkerProcess(server.dsn(database), "single", board, 500) as worker:
            worker.start()
            while not board.bodies:
                worker.check()
                time.sleep(0.01)
            bodies, began = board.bodies, time.monotonic()
            rate = _pgbench(server, database, script, scale.contention_seconds, sampler)
            bodies, seconds = board.bodies - bodies, time.monotonic() - began
            with server.connect(database) as connection:
                row = connection.execute("SELECT count(*) FILTER (WHERE idle) FROM squidmesh.workers").fetchone()
        assert row is not None
    return {"commits/s": rate, "worker's steps/s": bodies / seconds, "idle workers": row[0], **sampler.shares()}


def _script(server: BenchServer, database: str, way: str) -> str:
    """The statement that ``start_run`` sends, for pgbench, with the given way to notify."""
    sent: dict[str, Mapping[str, Any]] = {}
    with noting(sent.__setitem__), SquidMesh(server.dsn(database), workflows=[single()]) as mesh:
        run = mesh.start_run("bench_single", {"number": 0})
    text = sql_of("start_runs")
    params = {**sent[text], "always": way == "always"}
    text = re.sub(r"--.*", "", text)
    if way == "none":
        text, count = re.subn(r"\(SELECT count\(pg_notify.*\)\s*$", "0", text, flags=re.DOTALL)
        assert count == 1, "start_runs.sql notifies in another way now"
    with server.connect(database) as connection:
        text = psycopg.ClientCursor(connection).mogrify(text.encode(), params)
    text, count = re.subn(rf"'\{{{run.id.hex}\}}'", lambda _: ID, text)
    assert count == 2, "start_runs.sql takes its ids in another way now"
    # ":1" would be a variable of pgbench's.
    return "\\set n :n + 1\n" + text.replace('":', '": ') + ";\n"


def _pgbench(server: BenchServer, database: str, script: str, seconds: int, sampler: WaitSampler) -> float:
    """Transactions per second."""
    with TemporaryDirectory(prefix="squidmesh-bench-") as folder:
        file = Path(folder) / "start.sql"
        file.write_text(script)
        command = [str(server.bin / "pgbench"), "--no-vacuum", "--protocol=prepared", f"--client={CLIENTS}", "--jobs=2"]
        command += [f"--time={seconds}", "--define=n=0", f"--file={file}", server.dsn(database)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                sampler.look()
                time.sleep(0.01)
            said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    found = re.search(r"tps = ([\d.]+)", said)
    if found is None:  # on a busy machine the clients can take all the time to connect
        return _pgbench(server, database, script, seconds * 2, sampler)
    return float(found[1])
