"""The state in the run row: counts that are right, and that stay small."""

from __future__ import annotations

import json

from squidmesh.definition import Definition, Step
from squidmesh.planner.graph import Graph
from squidmesh.planner.outcome import Completed
from squidmesh.planner.progress import Progress
from tests.property.simulator import Simulator, stored
from tests.property.strategies import flow

GRAPH = Graph(flow("a -> b", "b -> a", "a, b => c", start="a"))


def size(progress: Progress) -> int:
    return len(json.dumps(progress.to_json()))


def test_visits_are_numbered_and_jobs_counted_in_and_out() -> None:
    progress = Progress()
    assert [progress.enter(GRAPH, "a") for _ in range(3)] == [1, 2, 3]
    assert progress.enter(GRAPH, "b") == 1
    for live_count in (3, 2, 1):
        progress.leave(GRAPH, "a")
        assert progress.live_count == live_count
    assert list(GRAPH.members(progress.live)) == ["b"]
    assert progress.enter(GRAPH, "a") == 4, "a visit keeps its number when it is over"


def test_a_copy_is_changed_alone() -> None:
    progress = Progress()
    for _ in range(2):
        progress.enter(GRAPH, "a")
    progress.marked["c"] = progress.spoiled["c"] = 1
    before = stored(progress)
    copy = progress.copy()
    assert copy == before
    for _ in range(2):
        copy.leave(GRAPH, "a")
    copy.enter(GRAPH, "a")
    copy.marked.clear()
    copy.spoiled["c"] = 2
    assert progress == before


def test_it_survives_storage() -> None:
    progress = Progress(slots=7, retrying=2, gates=1, weight=10, snapshot=20, watched=True)
    for name in ("a", "a", "b"):
        progress.enter(GRAPH, name)
    progress.marked["c"], progress.spoiled["c"] = GRAPH.bit["a"], GRAPH.bit["b"]
    assert stored(progress) == progress
    assert stored(Progress()) == Progress()


def test_what_is_empty_is_not_stored() -> None:
    progress = Progress()
    progress.enter(GRAPH, "b")
    assert progress.to_json() == {"live": "2", "seen": "2"}


def test_it_stays_small_however_wide_the_run_is() -> None:
    """With 2,000 branches live, or all but one of them ended: no entry per branch, four branches a character."""
    branches = tuple(f"branch{i}" for i in range(2000))
    steps = (Step(name="a"), *(Step(name=b, after=("a",)) for b in branches), Step(name="z", after=branches))
    sim = Simulator(Definition("wide", steps, ()))
    sim.end("a")
    assert sim.run.progress.live_count == 2000
    assert size(sim.run.progress) < 1200
    for slot in list(sim.jobs):
        sim.claim(slot)
    happened = [sim.finding(slot, Completed()) for slot in sim.jobs]
    sim.save(*happened[1:])
    assert sim.run.progress.live_count == 1
    assert size(sim.run.progress) < 1200
    sim.save(happened[0])
    assert sim.live == ["z"]


def test_it_stays_small_however_long_the_run_is() -> None:
    sim = Simulator(flow("a -> b", "b -> a", start="a"))
    for _ in range(900):
        sim.end(sim.live[0])
    assert size(sim.run.progress) < 100
