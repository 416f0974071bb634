"""All benchmarks, in the order in which they are run and shown."""

from __future__ import annotations

from typing import Final

from tests.benchmarks.bloat import measure_bloat
from tests.benchmarks.crowd import measure_contention, measure_two
from tests.benchmarks.drain import (
    measure_async,
    measure_chain,
    measure_chain_of_ten,
    measure_keyed,
    measure_limited,
    measure_rated,
    measure_single,
)
from tests.benchmarks.figures import Benchmark
from tests.benchmarks.growth import measure_growth
from tests.benchmarks.idling import measure_idle, measure_latency
from tests.benchmarks.limit import measure_limit
from tests.benchmarks.memory import measure_memory
from tests.benchmarks.rivals import rivals_of
from tests.benchmarks.scaling import measure_context, measure_long, measure_loop, measure_wide
from tests.benchmarks.starting import measure_bulk, measure_insert, measure_start
from tests.benchmarks.timing import measure_burst, measure_lateness, measure_sleepers

BENCHMARKS: Final = (
    Benchmark(name="limit", unit="steps/s", measure=measure_limit),
    Benchmark(name="chain", unit="steps/s", measure=measure_chain, reference="limit"),
    Benchmark(name="chain10", unit="steps/s", measure=measure_chain_of_ten, reference="limit"),
    Benchmark(name="single", unit="steps/s", measure=measure_single, reference="limit"),
    Benchmark(name="async", unit="steps/s", measure=measure_async, reference="limit"),
    Benchmark(name="two", unit="steps/s", measure=measure_two, reference="chain"),
    Benchmark(name="limited", unit="steps/s", measure=measure_limited, reference="single"),
    Benchmark(name="keyed", unit="steps/s", measure=measure_keyed, reference="single"),
    Benchmark(name="rated", unit="steps/s", measure=measure_rated, reference="single"),
    Benchmark(name="insert", unit="rows/s", measure=measure_insert),
    Benchmark(name="start", unit="runs/s", measure=measure_start, reference="insert"),
    Benchmark(name="bulk", unit="runs/s", measure=measure_bulk),
    Benchmark(name="latency", unit="ms p50", measure=measure_latency),
    Benchmark(name="idle", unit="transactions/s", measure=measure_idle),
    Benchmark(name="timers", unit="ms late p50", measure=measure_lateness),
    Benchmark(name="sleepers", unit="ms", measure=measure_sleepers),
    Benchmark(name="burst", unit="ms p50", measure=measure_burst),
    Benchmark(name="growth", unit="x empty", measure=measure_growth),
    Benchmark(name="wide", unit="x a tenth", measure=measure_wide),
    Benchmark(name="long", unit="x a tenth", measure=measure_long),
    Benchmark(name="loop", unit="x a tenth", measure=measure_loop),
    Benchmark(name="context", unit="x a tenth", measure=measure_context),
    Benchmark(name="memory", unit="MB", measure=measure_memory),
    Benchmark(name="contention", unit="x no NOTIFY", measure=measure_contention),
    Benchmark(name="bloat", unit="x first quarter", measure=measure_bloat),
)
RIVALS: Final = {benchmark.name: tuple(rivals_of(benchmark.name)) for benchmark in BENCHMARKS}
"""The peers beside each."""
BY_NAME: Final = {each.name: each for ours in BENCHMARKS for each in (ours, *RIVALS[ours.name])}
