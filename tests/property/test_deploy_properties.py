"""Deploy checks, for graphs of every shape: they agree with walking each run through its graph, step by step."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from squidmesh.definition import COMPLETE, Definition, StepKind
from squidmesh.planner.deploy import LiveRuns, new_needs, strandings
from squidmesh.planner.graph import Graph
from tests.property.driver import Driver
from tests.property.simulator import Simulator
from tests.property.strategies import choices, definitions

if TYPE_CHECKING:
    from tests.property.strategies import Choices


def walked(definition: Definition, start: frozenset[str]) -> set[str]:
    """Where a run can get to from some live steps, by following names."""
    reached: set[str] = set()
    todo = set(start)
    while todo:
        here = todo.pop()
        ahead = {e.target for e in definition.transitions if e.source == here and e.target != COMPLETE}
        ahead |= {step.name for step in definition.steps if here in step.after}
        todo |= ahead - reached
        reached |= ahead
    return reached


@given(definitions(), st.data())
def test_the_counts_are_those_of_walking_each_run(definition: Definition, data: st.DataObject) -> None:
    names = sorted(definition.by_name)
    places = data.draw(st.lists(st.frozensets(st.sampled_from(names), min_size=1), min_size=1, max_size=4, unique=True))
    known = data.draw(st.frozensets(st.sampled_from(names)))
    fingerprint = definition.fingerprint
    live = [LiveRuns(definition.workflow, fingerprint, tuple(sorted(place)), 1) for place in places]
    code = {definition.workflow: dict.fromkeys(known, ())}

    found = strandings(live, {fingerprint: Graph(definition)}, code, {}, {})

    expected: dict[str, tuple[int, int]] = {}
    for name, step in definition.by_name.items():
        if step.kind is StepKind.FUNCTION and name not in known:
            now = sum(name in place for place in places)
            later = sum(name not in place and name in walked(definition, place) for place in places)
            if now or later:
                expected[name] = (now, later)
    assert {f.step: (f.runs_now, f.runs_later) for f in found} == expected


@given(definitions())
def test_the_code_that_a_graph_came_from_strands_nobody(definition: Definition) -> None:
    fingerprint = definition.fingerprint
    graphs = {fingerprint: Graph(definition)}
    live = [LiveRuns(definition.workflow, fingerprint, (name,), 1) for name in definition.by_name]
    code = {definition.workflow: {step.name: step.takes for step in definition.steps}}
    assert new_needs(live, graphs, code) == []
    assert strandings(live, graphs, code, {}, {}) == []


@given(definitions(), choices())
def test_no_run_ever_comes_to_a_step_that_was_not_said(definition: Definition, chosen: Choices) -> None:
    """Wherever a run stood on its way: without any code, the strandings are all that it could have come to."""
    sim = Simulator(definition)
    stood = [{job.step for job in sim.jobs.values()}]
    stood += [{job.step for job in sim.jobs.values()} for _ in Driver(sim, chosen).turns()]
    fingerprint = definition.fingerprint
    for number, place in enumerate(stood):
        live = [LiveRuns(definition.workflow, fingerprint, tuple(sorted(place)), 1)]
        found = strandings(live, {fingerprint: sim.graph}, {}, {}, {})
        later = {name for others in stood[number:] for name in others}
        assert {n for n in later if definition.by_name[n].kind is StepKind.FUNCTION} <= {f.step for f in found}
