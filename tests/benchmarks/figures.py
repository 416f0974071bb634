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
        latency_settle_seconds: How long a worker that was started is left alone before it is pinged.
        idle_seconds: How long an idle worker is watched.
        settle_seconds: How long a worker that was started is left alone before it counts as idle. A session may keep
            its counts to itself for ten seconds.
        history: Finished runs, and sleeping jobs, beside which the chain is drained.
        branches: Of a wide run.
        wide_runs: Such runs.
        long_steps: Of a long chain.
        long_runs: Such runs.
        visits: Of a loop.
        loop_runs: Such runs.
        context_bytes: Of a large context.
        context_visits: Small steps beside it.
        context_runs: Such runs.
        memory_runs: Runs of ten steps that a worker's memory is watched over.
        backlog: Runs that keep a worker busy while others are started.
        contention_seconds: How long they are started.
        bloat_seconds: How long the load is constant.
        bloat_every: Seconds between two looks.
        bloat_rate: Runs of five steps per second.
        peer_chain_runs: Runs of five steps that a peer drains.
        peer_single_runs: Runs of one step that a peer drains, if it is not one of the fast ones.
        peer_starts: Runs that a peer starts one by one.
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
    latency_settle_seconds: float = 3.0
    history: int = 1_000_000
    branches: int = 10_000
    wide_runs: int = 4
    long_steps: int = 1_000
    long_runs: int = 50
    visits: int = 10_000
    loop_runs: int = 10
    context_bytes: int = 1_000_000
    context_visits: int = 400
    context_runs: int = 10
    memory_runs: int = 10_000
    backlog: int = 60_000
    contention_seconds: int = 5
    bloat_seconds: float = 60.0
    bloat_every: float = 0.5
    bloat_rate: float = 400.0
    peer_chain_runs: int = 400
    peer_single_runs: int = 1_500
    peer_starts: int = 1_000


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
    latency_settle_seconds=0.3,
    history=1_000,
    branches=100,
    wide_runs=2,
    long_steps=30,
    long_runs=5,
    visits=100,
    loop_runs=2,
    context_bytes=20_000,
    context_visits=20,
    context_runs=2,
    memory_runs=100,
    backlog=2_000,
    contention_seconds=1,
    bloat_seconds=1.0,
    bloat_every=0.2,
    bloat_rate=100.0,
    peer_chain_runs=20,
    peer_single_runs=50,
    peer_starts=20,
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
