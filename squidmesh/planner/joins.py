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

from squidmesh.planner.graph import Reach

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def decisions(graph: Graph, progress: Progress) -> Iterator[tuple[str, bool]]:
    """Each join that can be decided, and whether it runs; its marks are cleared.

    Schedule a join that runs before you ask for the next one: that changes what is live.
    """
    while missing := _decidable(graph, progress):
        ahead = graph.reachable(graph.set_of(missing)) | graph.set_of(missing)
        # None of these leads to what another of them lacks: one that runs keeps none of them waiting.
        independent = [join for join, lacks in missing.items() if not lacks & ahead]
        for join in independent or [_first_of_circle(graph, missing)]:
            yield join, _decide(graph, progress, join)


def _decidable(graph: Graph, progress: Progress) -> dict[str, StepSet]:
    """The joins that something was noted for and whose other dependencies, which go with them, are all settled."""
    found: dict[str, StepSet] = {}
    reach = Reach(graph, progress.live)
    for join in sorted(progress.marked.keys() | progress.spoiled.keys()):
        missing = graph.joins[join] & ~progress.marked.get(join, 0)
        if missing & progress.live:
            continue
        # Walked at most once, and only as far as it takes: many live steps lead to what a wide join lacks.
        if missing and reach.meets(missing):
            continue
        found[join] = missing
    return found


def _first_of_circle(graph: Graph, missing: Mapping[str, StepSet]) -> str:
    """One that waits for those only that wait for it too: somebody has to go first, or the run would never end."""
    leads_to = {join: graph.bit[join] | graph.reachable(graph.bit[join]) for join in missing}
    return next(
        join
        for join, lacks in missing.items()
        if all(missing[other] & leads_to[join] for other in missing if lacks & leads_to[other])
    )


def _decide(graph: Graph, progress: Progress, join: str) -> bool:
    """Whether the join runs; its marks are cleared."""
    marked, spoiled = progress.marked.pop(join, 0), progress.spoiled.pop(join, 0)
    runs = bool(marked) and not spoiled & ~marked
    if not runs:
        spoil(graph, progress, join)
    return runs
