"""What a benchmark is, and what one run of it gives: the words that all modules of this package share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.benchmarks.server import BenchServer


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much is measured.

    Args:
        chain_runs: Runs of five steps that are drained.
        single_runs: Runs of one step that are drained.
        starts: Runs that are started one by one.
        bulk_runs: Runs that are started together.
        pings: Runs that are started on an idle worker.
        pause: Seconds between two of these.
        limit_seconds: How long pgbench runs.
        timers: Runs whose timers are measured; each has five.
        timer_seconds: They begin within so many seconds.
        sleepers: Jobs that sleep while others are woken and claimed.
        burst: Jobs that are due at once.
        idle_seconds: How long an idle worker is watched.
        settle_seconds: How long a worker that was started is left alone before it counts as idle. A session may keep
            its counts to itself for ten seconds.
    """

    chain_runs: int = 4_000
    single_runs: int = 12_000
    starts: int = 3_000
    bulk_runs: int = 40_000
    pings: int = 200
    pause: float = 0.05
    limit_seconds: int = 4
    timers: int = 200
    timer_seconds: float = 20.0
    sleepers: int = 1_000_000
    burst: int = 100_000
    idle_seconds: float = 30.0
    settle_seconds: float = 12.0


QUICK = Scale(
    chain_runs=100,
    single_runs=300,
    starts=100,
    bulk_runs=1_000,
    pings=10,
    pause=0.01,
    limit_seconds=1,
    timers=5,
    timer_seconds=0.5,
    sleepers=1_000,
    burst=500,
    idle_seconds=1.0,
    settle_seconds=0.3,
)
"""Enough to see that everything works; the figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run of a benchmark gave.

    Args:
        value: The headline, in the benchmark's unit.
        details: What explains it, by name; the name ends in its unit.
    """

    value: float
    details: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """One thing that is measured.

    Args:
        name: What it is asked for by.
        unit: Of its headline.
        measure: Measures it once, on a server that nobody else uses meanwhile.
        reference: The name of the benchmark that is run right before it, each time, and that it is compared with.
    """

    name: str
    unit: str
    measure: Callable[[BenchServer, Scale], Figures]
    reference: str | None = None

    @property
    def about(self) -> str:
        """What it measures, in a line."""
        return (self.measure.__doc__ or "").partition("\n")[0]


def percentile(values: list[float], share: float) -> float:
    """The smallest of ``values`` that at least ``share`` of them do not exceed."""
    ordered = sorted(values)
    rank = -int(-share * len(ordered) // 1)
    return ordered[min(max(rank, 1), len(ordered)) - 1]
