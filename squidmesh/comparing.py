"""Two runs with their whole histories, to be compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from squidmesh.errors import RunNotFound
from squidmesh.planner.diff import diff
from squidmesh.planner.history import history_of
from squidmesh.store.runs import read_history, read_run, read_step_states
from squidmesh.store.statements import Batch, ask

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from squidmesh.planner.graph import Graph
    from squidmesh.records import Attempt, Run, RunDiff, StepRun
    from squidmesh.store.statements import Flow

PAGE: Final = 1000
"""Attempts that are read at once."""


def compare(graph_of: Callable[[str], Flow[Graph]], a: UUID, b: UUID) -> Flow[RunDiff]:
    """Read two runs and compare them.

    Args:
        graph_of: Gives a graph by its fingerprint.
        a: A run.
        b: Another one.

    Raises:
        RunNotFound: One of them does not exist.
    """
    run_a, steps_a = yield from _whole(graph_of, a)
    run_b, steps_b = yield from _whole(graph_of, b)
    return diff(run_a, run_b, steps_a, steps_b)


def _whole(graph_of: Callable[[str], Flow[Graph]], run_id: UUID) -> Flow[tuple[Run, tuple[StepRun, ...]]]:
    """A run and all its visits, page by page; what a visit was given is of no interest, so outputs are not folded."""
    run, states = yield Batch((read_run(run_id), read_step_states(run_id)))
    if run is None:
        raise RunNotFound(run_id)
    graph = yield from graph_of(run.fingerprint)
    attempts: list[Attempt] = []
    while len(page := (yield from ask(read_history(run_id, attempts[-1].seq if attempts else 0, PAGE)))) == PAGE:
        attempts += page
    found = history_of(graph, {}, outputs=(), states=states, attempts=[*attempts, *page], audits=(), next_seq=None)
    return run, found.step_runs
