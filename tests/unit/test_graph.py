"""A definition's edges, indexed: the sets that the planner computes with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from squidmesh.definition import Step, StepKind
from squidmesh.planner.graph import Graph
from tests.property.strategies import flow


def reachable(graph: Graph, *names: str) -> list[str]:
    return list(graph.members(graph.reachable(graph.set_of(names))))


def test_the_order_of_declaration_changes_no_set() -> None:
    """What is stored in the run row is read by workers whose code declares the same steps in another order."""
    definition = flow("c -> a", "a, c => b")
    other = replace(definition, steps=definition.steps[::-1])
    assert Graph(definition).bit == Graph(other).bit
    assert Graph(definition).joins == Graph(other).joins
    assert Graph(definition).successors == Graph(other).successors


def test_a_set_has_the_members_it_was_made_of() -> None:
    graph = Graph(flow("a -> b", "b -> c", "c -> d"))
    assert list(graph.members(graph.set_of(("d", "b")))) == ["b", "d"]
    assert list(graph.members(0)) == []


def test_a_step_knows_the_joins_that_list_it() -> None:
    graph = Graph(flow("a, b => d", "a => c", start="a b"))
    assert graph.joined_by == {"a": ("c", "d"), "b": ("d",), "c": (), "d": ()}


@pytest.mark.parametrize(
    ("edges", "start", "ahead"),
    [
        (["a -> b", "b -> c"], "a", ["b", "c"]),
        (["a -> b", "a -error-> c", "a -review-> d"], "a", ["b", "c", "d"]),
        (["a -> b", "b, c => d", "d -> e"], "a", ["b", "d", "e"]),
        (["a -> b", "b -> a"], "a", ["a", "b"]),
        (["a -> b", "b -> b"], "a", ["b"]),
        (["a -> END", "b -> a"], "a", []),
    ],
    ids=["chain", "any outcome", "through a join", "itself, by a loop", "a loop elsewhere", "the end of a path"],
)
def test_what_may_still_run_because_a_step_is_live(edges: list[str], start: str, ahead: list[str]) -> None:
    assert reachable(Graph(flow(*edges)), start) == ahead


def test_what_several_steps_lead_to_is_what_each_of_them_leads_to() -> None:
    graph = Graph(flow("a -> b", "c -> d", "d -> e", start="a c"))
    assert reachable(graph, "a", "c") == ["b", "d", "e"]
    assert reachable(graph) == []


def test_what_people_did_not_do_goes_the_way_of_errors_where_it_has_none_of_its_own() -> None:
    vote = Step(name="vote", kind=StepKind.APPROVAL, settings={"deadline": 5.0})
    graph = Graph(
        flow("a -> vote", "vote -> b", "vote -rejected-> c", "vote -error-> d", "b -error-> d", steps=(vote,))
    )
    ways = {(step, outcome): graph.way(step, outcome) for step in ("vote", "b") for outcome in ("rejected", "timeout")}
    assert {key: edge.target if edge else None for key, edge in ways.items()} == {
        ("vote", "rejected"): "c",
        ("vote", "timeout"): "d",
        ("b", "rejected"): None,
        ("b", "timeout"): None,
    }
