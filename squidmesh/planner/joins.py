"""The join rule: when a step with ``after=`` runs, and when it is skipped.

A dependency is *settled* when it is neither live nor reachable from anything live. A join is decided once each of its
dependencies is marked (it completed) or settled:

- it **runs** if at least one is marked and none of the others ended badly (their branches were not taken);
- it is **skipped** if one of the others failed, was rejected, was skipped, or took another outcome than ``ok``.

Running or skipping clears its marks, so a loop may reach it again. A skipped join counts as ended badly for the joins
that list it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.planner.graph import Graph, StepSet
    from squidmesh.planner.progress import Progress


def mark(graph: Graph, progress: Progress, step: str) -> None:
    """Note for the joins that list ``step`` that it completed."""
    for join in graph.joined_by[step]:
        progress.marked[join] = progress.marked.get(join, 0) | graph.bit[step]


def spoil(graph: Graph, progress: Progress, step: str) -> None:
    """Note for the joins that list ``step`` that it ended in another way than ``ok``."""
    for join in graph.joined_by[step]:
        progress.spoiled[join] = progress.spoiled.get(join, 0) | graph.bit[step]


def next_decided(graph: Graph, progress: Progress) -> tuple[str, bool] | None:
    """The next join that can be decided, and whether it runs; its marks are cleared. None when none can.

    Call it until it returns None, scheduling each join that runs in between: that changes what is live.
    """
    decidable = list(_decidable(graph, progress))
    if not decidable:
        return None
    join = _first(graph, decidable)
    marked, spoiled = progress.marked.pop(join, 0), progress.spoiled.pop(join, 0)
    runs = bool(marked) and not spoiled & ~marked
    if not runs:
        spoil(graph, progress, join)
    return join, runs


def _decidable(graph: Graph, progress: Progress) -> Iterator[str]:
    """The joins that something was noted for, and whose other dependencies are all settled."""
    reached: StepSet | None = None
    for join in sorted(progress.marked.keys() | progress.spoiled.keys()):
        missing = graph.joins[join] & ~progress.marked.get(join, 0)
        if missing & progress.live:
            continue
        if missing and progress.live:
            # Walked at most once, and only when no cheaper look has answered.
            reached = graph.reachable(progress.live) if reached is None else reached
            if missing & reached:
                continue
        yield join


def _first(graph: Graph, joins: list[str]) -> str:
    """One that no other of them can still lead to, so that a join is not decided before one that it waits for."""
    for join in joins:
        ahead = graph.joins[join]
        others = graph.set_of(tuple(other for other in joins if other != join))
        if not others & ahead and not graph.reachable(others) & ahead:
            return join
    # They wait for one another in a circle: somebody has to go first, or the run would never end.
    return joins[0]
