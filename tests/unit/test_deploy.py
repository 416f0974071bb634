"""What would strand: graphs of live runs against the code at hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squidmesh import Workflow
from squidmesh.definition import Parameter, Step
from squidmesh.planner.deploy import LiveRuns, NewNeed, new_needs, strandings
from squidmesh.planner.graph import Graph
from squidmesh.records import StrandingReason
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.planner.deploy import Code
    from squidmesh.records import Stranding


def orders(**outputs: str) -> Graph:
    """Two branches, a join, and an undo that only an error leads to."""
    workflow = Workflow("orders")
    steps = {
        name: workflow.step(name=name, start=name != "undo", output=outputs.get(name, f"{name}_done"))(lambda: 1)
        for name in ("pay", "pack", "undo")
    }
    workflow.transition(steps["pay"], on="error", to=steps["undo"])
    rest = workflow.wait("rest", seconds=5, after=[steps["pay"], steps["pack"]])
    send = workflow.step(name="send", output="sent")(lambda: 1)
    workflow.sequence(rest, send)
    return Graph(workflow.check())


GRAPH = orders()
PRINT = GRAPH.definition.fingerprint


def live(*steps: str, count: int = 1) -> LiveRuns:
    return LiveRuns("orders", PRINT, tuple(sorted(steps)), count)


def code(*steps: str, **takes: tuple[str, ...]) -> Code:
    return {"orders": {name: [Parameter(p, required=True) for p in takes.get(name, ())] for name in steps}}


ALL = ("pack", "pay", "send", "undo")


def told(found: list[Stranding]) -> set[tuple[str | None, str, int, int]]:
    return {(f.step, str(f.reason), f.runs_now, f.runs_later) for f in found}


def test_runs_are_counted_where_they_are_and_where_they_can_get_to() -> None:
    """Each once at a step, however many of its branches lead there; what lies behind is of no interest."""
    groups = [live("pack", "pay", count=5), live("rest", count=3), live("send", count=2), live("undo")]
    found = strandings(groups, {PRINT: GRAPH}, code("pack"), {}, {})
    assert told(found) == {
        ("pay", "step_gone", 5, 0),
        ("undo", "step_gone", 1, 5),
        ("send", "step_gone", 2, 8),
    }
    assert not strandings([live("rest")], {PRINT: GRAPH}, code("send"), {}, {})


def test_a_wait_needs_no_function() -> None:
    assert told(strandings([live("rest")], {PRINT: GRAPH}, code(), {}, {})) == {("send", "step_gone", 0, 1)}


def test_a_workflow_that_is_gone_is_said_to_be() -> None:
    assert told(strandings([live("send")], {PRINT: GRAPH}, {}, {}, {})) == {("send", "workflow_gone", 1, 0)}


def test_a_graph_that_cannot_be_read_strands_all_its_runs() -> None:
    groups = [live("pay", count=2), live("send"), LiveRuns("others", "f2", ("x",), 4)]
    found = strandings(groups, {PRINT: None, "f2": None}, {}, {}, {})
    assert told(found) == {(None, "newer_graph", 3, 0), (None, "newer_graph", 4, 0)}


@pytest.mark.parametrize(
    ("step", "key", "graph", "certain"),
    [
        ("send", "weight", GRAPH, True),
        ("send", "pay_done", GRAPH, False),
        ("pay", "pay_done", GRAPH, True),
        ("pay", "pack_done", GRAPH, False),
        ("undo", "sent", GRAPH, False),
        ("send", "sent", GRAPH, True),
        ("send", "weight", orders(pack="weight"), False),
    ],
)
def test_a_new_parameter_is_looked_up_in_payloads_only_if_no_step_before_can_give_it(
    step: str, key: str, graph: Graph, certain: bool
) -> None:
    """A concurrent step may end first; the step itself has not run yet."""
    name = graph.definition.fingerprint
    groups = [LiveRuns("orders", name, ("pay",), 1)]
    found = new_needs(groups, {name: graph}, code(*ALL, **{step: (key,)}))
    assert found == ([NewNeed(name, step, key)] if certain else [])


def test_a_step_that_merges_what_it_returns_may_give_anything() -> None:
    workflow = Workflow("orders")

    @workflow.step
    def pay() -> dict[str, int]:
        return {"weight": 1}

    workflow.sequence(pay, workflow.step(name="send", output="sent")(lambda: 1))
    graph = Graph(workflow.check())
    name = graph.definition.fingerprint
    groups = [LiveRuns("orders", name, ("pay",), 1)]
    wanting = code("pay", "send", pay=("weight",), send=("weight",))
    assert new_needs(groups, {name: graph}, wanting) == [NewNeed(name, "pay", "weight")]


def test_what_was_required_before_is_no_new_need() -> None:
    workflow = Workflow("orders")

    @workflow.step(output="sent")
    def send(weight: int = 0, size: int = 0) -> int:
        return weight + size

    graph = Graph(workflow.check())
    name = graph.definition.fingerprint
    groups = [LiveRuns("orders", name, ("send",), 1)]
    assert new_needs(groups, {name: graph}, code("send", send=("size",))) == [NewNeed(name, "send", "size")]
    assert new_needs(groups, {name: graph}, {"orders": {"send": send.takes}}) == []


def test_a_missing_key_strands_the_runs_whose_payload_lacks_it() -> None:
    need = NewNeed(PRINT, "send", "weight")
    found = strandings(
        [live("pay", count=9)], {PRINT: GRAPH}, code(*ALL), {need: [live("send"), live("pay", count=2)]}, {}
    )
    assert told(found) == {("send", "parameter_missing", 1, 2)}
    assert [f.key for f in found] == ["weight"]


def test_a_step_without_the_compensation_that_its_graph_names_may_strand_each_run_that_fails() -> None:
    graph = Graph(flow("pay -> send", steps=(Step(name="pay", compensate="refund"),)))
    functions = {"orders": {"pay": (), "send": ()}}
    live_runs = [LiveRuns("orders", PRINT, ("send",), 3)]
    (found,) = strandings(live_runs, {PRINT: graph}, functions, {}, {"orders": ["send"]})
    assert (found.step, found.reason, found.runs_later) == ("pay", StrandingReason.COMPENSATION_GONE, 3)
    assert strandings(live_runs, {PRINT: graph}, functions, {}, {"orders": ["pay"]}) == []
