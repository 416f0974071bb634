"""Memory: what a worker holds with a thousand runs in flight, and whether that grows with the steps that it ran."""

from __future__ import annotations

from math import nan
from typing import TYPE_CHECKING, Final

from tests.benchmarks.drain import Drain, drain
from tests.benchmarks.figures import Figures
from tests.benchmarks.gauges import resident_bytes, threads

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer
    from tests.benchmarks.worker_process import ToldProcess

IN_FLIGHT: Final = 1_000
CONTEXT_BYTES: Final = 1_000
VISITS: Final = 9
_MB: Final = 1024 * 1024


def measure_memory(server: BenchServer, scale: Scale) -> Figures:
    """Most resident memory of a worker with 1,000 runs in flight, contexts of 1 kB; runs of ten steps."""
    ledger = _Ledger(scale.memory_runs)
    figures = drain(
        server,
        Drain(
            workflow=f"context:{CONTEXT_BYTES}:{VISITS}",
            runs=scale.memory_runs,
            steps=VISITS + 1,
            concurrency=IN_FLIGHT,
            watch=ledger.note,
        ),
    )
    steps = scale.memory_runs * (VISITS + 1)
    grown = ledger.tenths[-1] - ledger.tenths[1]
    return Figures(
        ledger.most,
        {
            "MB as the worker starts": ledger.first,
            "threads": ledger.threads,
            "MB after a tenth of the runs": ledger.tenths[1],
            "MB after half": ledger.tenths[5],
            "MB at the end": ledger.tenths[-1],
            "bytes grown per step since the tenth": grown * _MB / (steps * 0.9),
            "steps": steps,
            "steps/s": figures.value,
        },
    )


class _Ledger:
    """Resident memory of one worker over time, in MB.

    Args:
        runs: How many it will have run.
    """

    def __init__(self, runs: int) -> None:
        self._runs = runs
        self.first, self.most = nan, 0.0
        self.threads = 0
        self.tenths = [nan] * 11

    def note(self, workers: Sequence[ToldProcess], done: int) -> None:
        (worker,) = workers
        now = resident_bytes(worker.pid) / _MB
        if not self.most:
            self.first = now
        self.threads = max(self.threads, threads(worker.pid))
        self.most = max(now, self.most)  # nan, where there is no /proc, stays
        self.tenths[min(done * 10 // self._runs, 10)] = now
