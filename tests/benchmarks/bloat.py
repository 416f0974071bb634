"""Bloat: under a constant load, do the hot tables and what a claim reads of them stay as they are?"""

from __future__ import annotations

import threading
import time
from statistics import mean
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from squidmesh import SquidMesh
from squidmesh.records import Lane
from squidmesh.store.jobs import Room, claim_jobs
from tests.benchmarks.board import new_board
from tests.benchmarks.figures import Figures
from tests.benchmarks.timing import pages
from tests.benchmarks.worker_process import WorkerProcess
from tests.benchmarks.workflows import chain

if TYPE_CHECKING:
    import psycopg

    from squidmesh.store.statements import Statement
    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

BATCH: Final = 0.1
"""Seconds between two starts; each starts as many runs as are due."""

SIZES: Final = """
SELECT pg_relation_size('squidmesh.jobs') / 1024.0, pg_indexes_size('squidmesh.jobs') / 1024.0,
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'squidmesh.jobs'::regclass),
       (SELECT n_dead_tup FROM pg_stat_user_tables WHERE relid = 'squidmesh.runs'::regclass),
       pg_total_relation_size('squidmesh.runs') + pg_total_relation_size('squidmesh.attempts')
"""
NAMES: Final = ("jobs kB", "indexes of jobs kB", "dead jobs", "dead runs", "history bytes")


def measure_bloat(server: BenchServer, scale: Scale) -> Figures:
    """Pages that a claim reads in the last quarter of a constant load, over those in the first one."""
    with server.fresh_database() as database, SquidMesh(server.dsn(database), workflows=[chain()]) as mesh:
        mesh.migrate()
        mesh.start_run("bench_chain", {"number": 0})
        server.settle(database)
        load = _Load(mesh, scale.bloat_rate)
        with new_board() as board, WorkerProcess(server.dsn(database), "chain", board, 500) as worker:
            worker.start()
            load.start()
            samples = []
            with server.connect(database) as admin:
                for _ in range(max(int(scale.bloat_seconds / scale.bloat_every), 4)):
                    time.sleep(scale.bloat_every)
                    worker.check()
                    samples.append(_sample(admin))
            started = load.stop()
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    details: dict[str, float] = {"runs": started, "late starts": load.late}
    for name in samples[0]:
        details[f"{name}, first quarter"] = mean(sample[name] for sample in first)
        details[f"{name}, last quarter"] = mean(sample[name] for sample in last)
    details["most jobs kB"] = max(sample["jobs kB"] + sample["indexes of jobs kB"] for sample in samples)
    details["most claim pages"] = max(sample["claim pages"] for sample in samples)
    details["history bytes/run"] = samples[-1]["history bytes"] / started
    return Figures(details["claim pages, last quarter"] / details["claim pages, first quarter"], details)


def _sample(admin: psycopg.Connection[Any]) -> dict[str, float]:
    row = admin.execute(SIZES).fetchone()
    assert row is not None
    claim: Statement[Any] = claim_jobs(uuid4(), 1, [Room("default", Lane.AHEAD, 10)])
    return {**dict(zip(NAMES, map(float, row), strict=True)), "claim pages": pages(admin, claim)}


class _Load(threading.Thread):
    """Starts runs at a constant rate.

    Args:
        mesh: Where.
        rate: Runs per second.

    Attributes:
        late: How many batches began more than a batch too late: then the load was not constant.
    """

    def __init__(self, mesh: SquidMesh, rate: float) -> None:
        super().__init__(daemon=True)
        self._mesh = mesh
        self._rate = rate
        self._stop_asked = threading.Event()
        self._runs = 0
        self.late = 0

    def run(self) -> None:
        began = due = time.monotonic()
        while not self._stop_asked.wait(max(due - time.monotonic(), 0)):
            self.late += time.monotonic() - due > BATCH
            count = int((time.monotonic() - began) * self._rate) - self._runs
            if count:
                self._mesh.start_runs("bench_chain", [{"number": n} for n in range(count)])
            self._runs += count
            due += BATCH

    def stop(self) -> int:
        """Stop; how many runs were started."""
        self._stop_asked.set()
        self.join()
        return self._runs
