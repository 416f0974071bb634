"""What ``flow`` says of graphs of every shape, compared with the slow way of telling it: trying everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.authoring.flow import Flow, components, postorder
from squidmesh.definition import Step, StepKind, Transition
from tests.effort import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

EDGES = st.integers(1, 8).flatmap(
    lambda n: st.lists(st.lists(st.integers(0, n - 1), max_size=3, unique=True), min_size=n, max_size=n)
)


def reach(successors: Sequence[Sequence[int]], starts: Sequence[int]) -> set[int]:
    """Everything that these lead to; they themselves only where something leads to them."""
    found: set[int] = set()
    todo = list(starts)
    while todo:
        fresh = set(successors[todo.pop()]) - found
        found |= fresh
        todo += fresh
    return found


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(EDGES)
def test_components_are_the_steps_that_reach_each_other_and_come_in_order(successors: list[list[int]]) -> None:
    found = components(successors)
    after = [reach(successors, [number]) for number in range(len(successors))]
    assert sorted(number for group in found for number in group) == list(range(len(successors)))
    for at, group in enumerate(found):
        for number in group:
            assert all(other in after[number] for other in group if other != number)
            assert not any(number in after[later] for following in found[at + 1 :] for later in following)


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(EDGES)
def test_in_postorder_a_step_comes_after_all_it_leads_to_unless_that_leads_back(successors: list[list[int]]) -> None:
    order = postorder(successors, [0])
    assert set(order) == {0} | reach(successors, [0])
    for at, number in enumerate(order):
        for target in successors[number]:
            assert order.index(target) < at or number in {target} | reach(successors, [target])


# -- graphs with joins -------------------------------------------------------------------------------------------

OUTCOMES = ("ok", "error", "review")


@st.composite
def graphs(draw: st.DrawFn, *, loops: bool = True) -> tuple[list[Step], list[Transition]]:
    """Up to six steps, each led to by something earlier or an entry; with ``loops``, some lead back."""
    names = "abcdef"[: draw(st.integers(1, 6))]
    steps = [Step(name="a", start=True)]
    led: dict[tuple[str, str], str] = {}
    for number, name in enumerate(names[1:], start=1):
        earlier = st.sampled_from(names[:number])
        after = draw(st.lists(earlier, max_size=3, unique=True)) if draw(st.booleans()) else []
        source = (draw(earlier), draw(st.sampled_from(OUTCOMES)))
        if not after and source not in led:
            led[source] = name
        wait = draw(st.integers(0, 4)) == 0
        steps.append(
            Step(
                name=name,
                kind=StepKind.WAIT if wait else StepKind.FUNCTION,
                after=tuple(after),
                start=not after and name not in led.values(),
            )
        )
    free = [step.name for step in steps if not step.after]
    for number, name in enumerate(names):
        for outcome in OUTCOMES:
            targets = [target for target in free if loops or names.index(target) > number]
            if targets and (name, outcome) not in led and draw(st.integers(0, 3)) == 0:
                led[name, outcome] = draw(st.sampled_from(targets))
    waits = {step.name for step in steps if step.kind is StepKind.WAIT}
    edges = [
        Transition(*source, target) for source, target in led.items() if source[0] not in waits or source[1] == "ok"
    ]
    reached = {edge.target for edge in edges}
    steps = [step if step.after or step.name in reached else _entry(step) for step in steps]
    return steps, edges


def _entry(step: Step) -> Step:
    return Step(name=step.name, kind=step.kind, start=True)


def flow_of(steps: Sequence[Step], edges: Sequence[Transition]) -> Flow:
    return Flow.of(steps, edges, [step.name for step in steps if step.start])


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(graphs())
def test_an_output_can_be_there_only_for_what_a_good_end_leads_to(graph: Any) -> None:
    flow = flow_of(*graph)
    looping = {number for loop in flow.loops for number in loop}
    for number in range(len(flow.names)):
        ways = [*flow.together[number], *(t for t in flow.otherwise[number] if (number, t) not in flow.failing)]
        told = set(ways) | reach(flow.successors, ways)
        claimed = {other for other, before in enumerate(flow.stored_before) if before >> number & 1}
        assert told <= claimed
        assert number in looping or told == claimed


@settings(max_examples=5 * EXAMPLES, deadline=None)
@given(graphs())
def test_what_a_step_leads_to_without_going_round_is_part_of_what_it_leads_to(graph: Any) -> None:
    flow = flow_of(*graph)
    for number in flow.reachable:
        told = {number} | reach(flow.successors, [number])
        claimed = {other for other in range(len(flow.names)) if flow.leads_to[number] >> other & 1}
        assert claimed <= told
        assert flow.loops or claimed == told


class Run:
    """A run of a graph without loops, by the rule of the design: who is live, and how what joins list has ended."""

    def __init__(self, live: tuple[str, ...], ended: Mapping[str, str]) -> None:
        self.live = live
        self.ended = ended

    @property
    def state(self) -> object:
        return tuple(sorted(self.live)), frozenset(self.ended.items())


class Runs:
    """All runs of a graph without loops."""

    def __init__(self, steps: Sequence[Step], edges: Sequence[Transition]) -> None:
        self.steps = {step.name: step for step in steps}
        self.joins = {step.name: step.after for step in steps if step.after}
        self.edges = {(edge.source, edge.outcome): edge.target for edge in edges}
        flow = flow_of(steps, edges)
        self.ahead = {name: {flow.names[n] for n in reach(flow.successors, [i])} for i, name in enumerate(flow.names)}

    def pairs(self) -> set[tuple[str, str]]:
        """Every two steps that are live together in one of them."""
        found: set[tuple[str, str]] = set()
        seen: set[object] = set()
        todo = [Run(tuple(name for name, step in self.steps.items() if step.start), {})]
        while todo:
            run = todo.pop()
            if run.state in seen:
                continue
            seen.add(run.state)
            found |= {(one, two) for one in run.live for two in run.live if one != two}
            todo += self.following(run)
        return found

    def following(self, run: Run) -> Iterator[Run]:
        """What may happen next: a live step ends, with any outcome that has a way on."""
        for at, name in enumerate(run.live):
            others = (*run.live[:at], *run.live[at + 1 :])
            for outcome in OUTCOMES:
                target = self.edges.get((name, outcome))
                if outcome == "ok" or target is not None:
                    live = others if target is None else (*others, target)
                    yield self.with_joins(Run(live, {**run.ended, name: self.better(run, name, outcome)}))

    def better(self, run: Run, name: str, outcome: str) -> str:
        """How a step that may have been visited before has ended: well, if it did once."""
        return "ok" if "ok" in (outcome, run.ended.get(name)) else "badly"

    def with_joins(self, run: Run) -> Run:
        """The run once each join that can be decided is decided; a decided one has ended or is live."""
        live, ended = run.live, dict(run.ended)
        for name, after in self.joins.items():  # each after all that it waits for
            coming = set(live).union(*(self.ahead[other] for other in live))
            touched = any(other in ended for other in after)
            done = f"decided {name}" in ended
            if done or not touched or any(ended.get(other) != "ok" and other in coming for other in after):
                continue
            ended[f"decided {name}"] = "ok"
            if any(ended.get(other) == "badly" for other in after):
                ended[name] = "badly"
            else:
                live = (*live, name)
        return Run(live, ended)


@settings(max_examples=3 * EXAMPLES, deadline=None)
@given(graphs(loops=False))
def test_what_is_said_to_be_live_at_once_is_so_in_some_run(graph: Any) -> None:
    steps, edges = graph
    flow = flow_of(steps, edges)
    everything = (1 << len(steps)) - 1
    claimed = {
        (name, flow.names[rival]) for number, name in enumerate(flow.names) for rival in flow.rivals(number, everything)
    }
    assert claimed - Runs(steps, edges).pairs() == set()
