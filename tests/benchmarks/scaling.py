"""Scaling: is a step of something ten times as large as cheap? Wide joins, long chains, loops, large contexts.

The same number of runs is drained at a tenth of the size and at the whole size, one right after the other. The
headline is what a step cost at the whole size over what it cost at the tenth, in CPU time of worker and server
together, because that repeats; the same ratio of everything else stands in the details.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.benchmarks.drain import Drain, drain
from tests.benchmarks.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.benchmarks.figures import Scale
    from tests.benchmarks.server import BenchServer

COMPARED = {
    "CPU": ("client CPU us/step", "server CPU us/step"),
    "worker CPU": ("client CPU us/step",),
    "server CPU": ("server CPU us/step",),
    "WAL": ("WAL bytes/step without pages",),
    "buffers": ("buffers/step",),
    "rows": ("rows/step",),
}
"""What is compared, and the details that add up to it."""


def measure_wide(server: BenchServer, scale: Scale) -> Figures:
    """Cost per step of a join of 10,000 branches over one of 1,000."""
    little, much = scale.branches // 10, scale.branches
    runs = scale.wide_runs
    return _scaled(
        drain(server, Drain(workflow=f"wide:{little}", runs=runs, steps=little + 2)),
        drain(server, Drain(workflow=f"wide:{much}", runs=runs, steps=much + 2)),
    )


def measure_long(server: BenchServer, scale: Scale) -> Figures:
    """Cost per step of a chain of 1,000 steps, each tenth a wait, over one of 100."""
    little, much = scale.long_steps // 10, scale.long_steps
    runs = scale.long_runs
    return _scaled(
        drain(server, Drain(workflow=f"long:{little}", runs=runs, steps=little, concurrency=100)),
        drain(server, Drain(workflow=f"long:{much}", runs=runs, steps=much, concurrency=100)),
    )


def measure_loop(server: BenchServer, scale: Scale) -> Figures:
    """Cost per step of a loop of 10,000 visits over one of 1,000."""
    little, much = scale.visits // 10, scale.visits
    runs = scale.loop_runs
    return _scaled(
        drain(server, Drain(workflow=f"loop:{little}", runs=runs, steps=little, concurrency=100)),
        drain(server, Drain(workflow=f"loop:{much}", runs=runs, steps=much, concurrency=100)),
    )


def measure_context(server: BenchServer, scale: Scale) -> Figures:
    """Cost per step beside a context of 1 MB over that beside one of 100 kB; its one writing is part of both."""
    little, much, visits = scale.context_bytes // 10, scale.context_bytes, scale.context_visits

    def drained(size: int, takes: int) -> Figures:
        workflow = f"context:{size}:{visits}:{takes}"
        return drain(server, Drain(workflow=workflow, runs=scale.context_runs, steps=visits + 1, concurrency=100))

    beside = _scaled(drained(little, 0), much_beside := drained(much, 0))
    taken = _scaled(drained(little, 1), drained(much, 1))
    # What is written once is written once: the rest of the WAL is what small steps write anyway, unless it is rewritten.
    once = much / (visits + 1)
    return Figures(
        beside.value,
        {
            **beside.details,
            "WAL bytes/step of context, written once": once,
            "WAL bytes/step beyond it": much_beside.details["WAL bytes/step without pages"] - once,
            "CPU ratio where steps take it": taken.value,
        },
    )


def _scaled(little: Figures, much: Figures) -> Figures:
    ratios = cost_ratios(little.details, much.details)
    details = {f"{name} ratio": ratio for name, ratio in ratios.items()}
    details["wall ratio"] = little.value / much.value
    for name in ("client CPU us/step", "server CPU us/step", "WAL bytes/step without pages", "buffers/step"):
        details[f"{name}, at a tenth"], details[name] = little.details[name], much.details[name]
    return Figures(ratios["CPU"], details)


def cost_ratios(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What a step cost in one drain over what it cost in another one.

    Args:
        before: The details of the one to compare with.
        after: Those of the other.
    """
    return {
        name: sum(after[detail] for detail in details) / sum(before[detail] for detail in details)
        for name, details in COMPARED.items()
    }
