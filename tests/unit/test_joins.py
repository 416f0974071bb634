"""When a step with ``after=`` runs, when it is skipped, and for what it waits."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import pytest

from squidmesh.definition import Definition, Options, Step
from squidmesh.planner import joins
from squidmesh.planner.graph import Graph
from squidmesh.planner.outcome import Abandoned, Completed, Failed
from squidmesh.planner.progress import Progress
from squidmesh.retry import Retry
from squidmesh.states import RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

Note: TypeAlias = Callable[[Graph, Progress, str], None]

FAILED = Failed({"type": "Error"}, retryable=False)
REVIEW = Completed(outcome="review")


def skipped(sim: Simulator) -> list[str | None]:
    return [audit.step for audit in sim.audits if audit.type == "skipped"]


# -- it runs -----------------------------------------------------------------------------------------------------------


def test_a_join_runs_once_when_each_dependency_has_completed() -> None:
    sim = Simulator(flow("a, b, c => j", start="a b c"))
    sim.end("b")
    sim.end("a")
    assert sim.live == ["c"]
    sim.end("c")
    assert sim.live == ["j"]
    sim.end("j")
    assert sim.run.status is RunStatus.COMPLETED
    assert [attempt.step for attempt in sim.attempts] == ["b", "a", "c", "j"]


def test_a_join_runs_once_when_its_dependencies_complete_in_one_batch() -> None:
    sim = Simulator(flow("a, b => j", start="a b"))
    sim.end_all({"a": Completed(), "b": Completed()})
    assert sim.live == ["j"]


def test_a_branch_that_was_not_taken_lets_the_join_run() -> None:
    sim = Simulator(flow("a -> b", "a -review-> x", "b, x => j"))
    sim.end("a")
    sim.end("b")
    assert sim.live == ["j"]


def test_a_join_waits_for_a_branch_that_may_still_be_taken() -> None:
    sim = Simulator(flow("a, x => j", "b -> x", "b -review-> END", start="a b"))
    sim.end("a")
    assert sim.live == ["b"], "b leads to x"
    sim.end("b", REVIEW)
    assert sim.live == ["j"], "now nothing leads to x any more"


def test_a_dependency_that_is_tried_again_or_waits_for_a_human_is_not_settled() -> None:
    retried = Step(name="a", options=Options(retry=Retry(max_attempts=2)))
    careful = Step(name="b", irreversible=True)
    sim = Simulator(flow("a, b, c => j", start="a b c", steps=(retried, careful)))
    sim.end("c")
    sim.end("b", Abandoned({}))
    sim.end("a", Failed({}))
    assert sim.live == ["a", "b"]
    assert skipped(sim) == []


def test_a_failure_that_was_made_good_does_not_count() -> None:
    sim = Simulator(flow("a, b => j", "a -error-> mend", "mend -> a", start="a b"))
    sim.end("a", FAILED)
    sim.end("mend")
    sim.end("a")
    sim.end("b")
    assert sim.live == ["j"]


def test_a_join_does_not_wait_for_another_round_of_what_completed() -> None:
    sim = Simulator(flow("a, b => j", "a -> a", start="a b"))
    sim.end("a")
    sim.end("b")
    assert sim.live == ["a", "j"]


def test_a_loop_fires_a_join_again() -> None:
    sim = Simulator(flow("a, b => j", "j -again-> a", start="a b"))
    sim.end("a")
    sim.end("b")
    sim.end("j", Completed(outcome="again"))
    assert sim.live == ["a"]
    sim.end("a")
    assert (sim.live, sim.job("j").visit) == (["j"], 2), "b was not reached in the second round"
    sim.end("j")
    assert sim.run.status is RunStatus.COMPLETED


def test_visits_that_end_in_one_batch_are_one_round() -> None:
    """The one thing that batches change: a dependency that ends twice in one is noted once."""
    definition = flow("a -> s", "b -> s", "s => j", start="a b")
    batched, one_by_one = Simulator(definition), Simulator(definition)
    for sim in (batched, one_by_one):
        sim.end_all({"a": Completed(), "b": Completed()})
        assert sim.live == ["s", "s"]
    slots = [batched.claim(slot).slot for slot in list(batched.jobs)]
    batched.save(*(batched.finding(slot, Completed()) for slot in slots))
    assert batched.live == ["j"]
    one_by_one.end("s")
    one_by_one.end("s")
    assert one_by_one.live == ["j", "j"]


# -- it is skipped -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("outcome", "ending"), [("error", FAILED), ("review", REVIEW)])
def test_a_dependency_that_ended_otherwise_skips_the_join(outcome: str, ending: Completed | Failed) -> None:
    sim = Simulator(flow("a, b => j", f"a -{outcome}-> other", "j -> last", start="a b"))
    sim.end("a", ending)
    sim.end("b")
    assert sim.live == ["other"]
    assert skipped(sim) == ["j"]
    sim.end("other")
    assert sim.run.status is RunStatus.COMPLETED


def test_a_join_is_not_skipped_before_each_dependency_is_settled() -> None:
    sim = Simulator(flow("a, b => j", "a -error-> END", start="a b"))
    sim.end("a", FAILED)
    assert skipped(sim) == []
    sim.end("b")
    assert skipped(sim) == ["j"]


def test_a_skip_propagates_to_the_joins_that_list_the_join() -> None:
    sim = Simulator(flow("a, b => y", "y, c => k", "k => l", "a -error-> END", start="a b c"))
    sim.end("a", FAILED)
    sim.end("c")
    sim.end("b")
    assert skipped(sim) == ["y", "k", "l"]
    assert sim.run.status is RunStatus.COMPLETED


def test_a_join_that_nothing_led_to_is_not_even_skipped() -> None:
    sim = Simulator(flow("a -> b", "a -review-> x", "x => j"))
    sim.end("a")
    sim.end("b")
    assert sim.run.status is RunStatus.COMPLETED
    assert skipped(sim) == []


# -- which is first ----------------------------------------------------------------------------------------------------


def test_a_join_waits_for_a_join_that_leads_to_what_it_lacks() -> None:
    """Also when both could be decided at the same moment, and whatever their names."""
    sim = Simulator(flow("a => z", "z -> x", "x, c => k", start="a c"))
    sim.end_all({"a": Completed(), "c": Completed()})
    assert sim.live == ["z"]
    sim.end("z")
    sim.end("x")
    assert sim.live == ["k"]


def test_a_join_whose_dependencies_all_completed_waits_for_nobody() -> None:
    sim = Simulator(flow("a, b => z", "z -> d", "c, d => k", "k -> a", start="a b c"))
    sim.end_all({"a": Completed(), "b": Completed(), "c": Completed()})
    assert sim.live == ["z"], "k leads to a, but a completed; z leads to d, which k lacks"


def test_of_joins_that_wait_for_each_other_one_goes_first() -> None:
    sim = Simulator(flow("a, y => p", "p -> x", "b, x => q", "q -> y", start="a b"))
    sim.end_all({"a": Completed(), "b": Completed()})
    assert sim.live == ["p"]
    sim.end("p")
    sim.end("x")
    assert sim.live == ["q"]


def test_a_join_that_waits_for_a_circle_is_not_the_one_that_goes_first() -> None:
    sim = Simulator(flow("a, y => p", "p -> x", "b, x => q", "q -> y", "p, c => first", start="a b c"))
    sim.end_all({"a": Completed(), "b": Completed(), "c": Completed()})
    assert sim.live == ["p"]


class Counting(tuple[int, ...]):
    """The successors of all steps; it counts how often those of one are looked up."""

    __slots__ = ()
    looks: ClassVar[int] = 0

    def __getitem__(self, place: Any) -> Any:
        Counting.looks += 1
        return super().__getitem__(place)


class CountingGraph(Graph):
    """A graph that counts how many steps were walked over."""

    @cached_property
    def successors(self) -> tuple[int, ...]:
        Counting.looks = 0
        return Counting(super().successors)


@pytest.mark.parametrize("note", [joins.mark, joins.spoil])
def test_a_wide_fan_out_is_decided_in_one_walk(note: Note) -> None:
    """A walk for each join would take seconds in one turn: it would be quadratic in the width of the graph."""
    wide = [f"branch{i}" for i in range(200)]
    steps = (Step(name="a"), *(Step(name=name, after=("a",)) for name in wide))
    graph, progress = CountingGraph(Definition("wide", steps, ())), Progress()
    note(graph, progress, "a")
    decided = list(joins.decisions(graph, progress))
    assert decided == [(name, note is joins.mark) for name in sorted(wide)]
    assert Counting.looks <= 200


def test_a_wide_join_is_not_walked_to_its_end_with_each_branch() -> None:
    """What it lacks is not live yet, and yet any branch that is leads to some of it: one look is enough."""
    firsts = [Step(name=f"a{i}") for i in range(200)]
    seconds = [Step(name=f"b{i}", after=(f"a{i}",)) for i in range(200)]
    last = Step(name="last", after=tuple(step.name for step in seconds))
    graph, progress = CountingGraph(Definition("wide", (*firsts, *seconds, last), ())), Progress()
    for step in firsts[1:]:
        progress.enter(graph, step.name)
    joins.mark(graph, progress, "b0")
    assert list(joins.decisions(graph, progress)) == []
    assert Counting.looks == 1
