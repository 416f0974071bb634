"""The graph in the terminal: each shape drawn, and invariants for random graphs."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squidmesh import COMPLETE, Workflow
from squidmesh.cli.drawing import MOST_LANES, MOST_STEPS, Line, draw
from squidmesh.definition import Definition, Step, Transition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squidmesh.authoring.functions import StepFunction


def nothing() -> None: ...


def workflow(*steps: str) -> tuple[Workflow, dict[str, StepFunction[[], None]]]:
    """A workflow of steps such as "a", or "c<a,b" for a join."""
    made = Workflow("drawn")
    references: dict[str, StepFunction[[], None]] = {}
    for step in steps:
        name, _, after = step.partition("<")
        joined = [references[other] for other in after.split(",")] if after else None
        references[name] = made.step(name=name, after=joined)(nothing)
    return made, references


def picture(definition: Definition, *, unicode: bool = True) -> list[str]:
    lines = draw(definition, unicode=unicode)
    width = max(line.lanes_width for line in lines)
    return [shown(line, width) for line in lines]


def shown(line: Line, width: int) -> str:
    lanes = line.before + ("o" if line.step else "") + line.after
    return f"{lanes.ljust(width)} {line.step or ''} {line.note}".rstrip()


def test_a_chain_is_a_column() -> None:
    made, steps = workflow("a", "b")
    made.sequence(*steps.values())
    assert picture(made.check()) == [
        "o a",
        "│",
        "o b",
    ]


def test_branches_that_run_together_are_joined_again() -> None:
    made, _ = workflow("a", "b<a", "c<a", "d<b,c", "e<d")
    assert picture(made.check()) == [
        "o   a",
        "├─╮",
        "│ o b",
        "│ │",
        "o │ c",
        "├─╯",
        "o   d",
        "│",
        "o   e",
    ]


def test_without_box_characters_it_is_drawn_in_ascii() -> None:
    made, _ = workflow("a", "b<a", "c<a", "d<b,c")
    drawn = picture(made.check(), unicode=False)
    assert drawn == ["o   a", "+-+", "| o b", "| |", "o | c", "+-+", "o   d"]


def test_other_outcomes_leave_to_the_right_under_their_names() -> None:
    made, steps = workflow("load", "charge", "ship", "apologise", "refund")
    made.sequence(steps["load"], steps["charge"], steps["ship"])
    made.transition(steps["charge"], on="error", to=steps["apologise"])
    made.transition(steps["ship"], on="error", to=steps["refund"])
    made.transition(steps["ship"], on="later", to=COMPLETE)
    made.sequence(steps["refund"], steps["apologise"])
    assert picture(made.check()) == [
        "o     load",
        "│",
        "o     charge",
        "├─╮    error",
        "o │   ship",
        "├╴│    later → end",
        "╰─┼─╮  error",
        "  │ o refund",
        "  ├─╯",
        "  o   apologise",
    ]


def test_ways_back_are_said_not_drawn() -> None:
    made = Workflow("loop")
    fetch = made.step(name="fetch", start=True)(nothing)
    check = made.step(name="check")(nothing)
    done = made.step(name="done")(nothing)
    made.sequence(fetch, check, done)
    made.transition(check, on="again", to=check)
    made.transition(done, on="more", to=fetch)
    assert picture(made.check()) == [
        "o  fetch",
        "│",
        "o  check",
        "├╴  again → itself",
        "│",
        "o  done",
        "╰╴  more → back to fetch",
    ]


def test_the_error_edge_of_a_gate_says_which_outcomes_take_it() -> None:
    made = Workflow("gates")
    boss = made.approval("boss", deadline=60)
    tax = made.approval("tax")
    paid = made.wait_for("paid", timeout=60)
    made.sequence(boss, tax, paid)
    made.transition(boss, on="timeout", to=COMPLETE)
    for gate in (boss, tax, paid):
        made.transition(gate, on="error", to="sorry")
    made.step(name="sorry")(nothing)
    assert [line.note for line in draw(made.check()) if line.note] == [
        "timeout → end",
        "rejected",
        "rejected",
        "timeout",
    ]


def test_two_outcomes_that_lead_to_one_step_are_one_lane() -> None:
    made, steps = workflow("a", "b")
    made.sequence(steps["a"], steps["b"])
    made.transition(steps["a"], on="error", to=steps["b"])
    assert picture(made.check()) == ["o   a", "╰─╮  error, ok", "  o b"]


def test_several_entries_stand_beside_each_other() -> None:
    made = Workflow("entries")
    a = made.step(name="a", start=True)(nothing)
    b = made.step(name="b", start=True)(nothing)
    made.step(name="c", after=[a, b])(nothing)
    assert picture(made.check()) == ["o   a", "│", "│ o b", "├─╯", "o   c"]


def test_a_graph_with_too_many_lanes_is_listed() -> None:
    sides = [f"b{number}" for number in range(MOST_LANES + 1)]
    made, _ = workflow("a", *(f"{side}<a" for side in sides), f"c<{','.join(sides)}")
    drawn = picture(made.check())
    assert drawn[0] == f"o a → {', '.join(sides)}"
    assert drawn[1] == "o b0 → c"
    assert len(drawn) == len(sides) + 2


def test_a_graph_with_too_many_steps_is_listed_with_its_outcomes() -> None:
    made, steps = workflow(*(f"s{number}" for number in range(MOST_STEPS + 1)))
    made.sequence(*steps.values())
    made.transition(steps["s0"], on="error", to=COMPLETE)
    assert picture(made.check(), unicode=False)[0] == "o s0 error -> end; -> s1"


@st.composite
def definitions(draw_from: st.DrawFn) -> Definition:
    """Any graph in which every step can be reached: branches, joins, loops, ends."""
    count = draw_from(st.integers(1, 14))
    names = [f"s{number}" for number in range(count)]
    steps: list[Step] = [Step(name=names[0], start=True)]
    edges: dict[tuple[str, str], Transition] = {}
    for number in range(1, count):
        if number > 1 and draw_from(st.booleans()):
            after = draw_from(st.lists(st.sampled_from(names[:number]), min_size=1, max_size=3, unique=True))
            steps.append(Step(name=names[number], after=tuple(after)))
            continue
        steps.append(Step(name=names[number]))
        free = [(source, outcome) for source in names[:number] for outcome in ("ok", "error", "x")]
        source, outcome = draw_from(st.sampled_from([key for key in free if key not in edges]))
        edges[source, outcome] = Transition(source, outcome, names[number])
    plain = [step.name for step in steps if not step.after]
    for source in draw_from(st.lists(st.sampled_from(names), max_size=5)):
        target = draw_from(st.sampled_from([*plain, COMPLETE]))
        edges.setdefault((source, "y"), Transition(source, "y", target))
    return Definition("random", tuple(steps), tuple(edges.values()))


@given(definitions(), st.booleans())
def test_every_graph_is_drawn_with_every_step_once(definition: Definition, unicode: bool) -> None:
    """Each step has one line; edges that are drawn downwards lead downwards; nothing is outside of the lanes."""
    lines = draw(definition, unicode=unicode)
    order = [line.step for line in lines if line.step]
    assert sorted(order) == sorted(step.name for step in definition.steps)
    assert max(line.lanes_width for line in lines) <= 2 * MOST_LANES
    if not unicode:
        assert all((line.before + line.after).isascii() for line in lines)
    assert_lanes_meet(lines)


@given(definitions())
def test_a_step_stands_below_all_that_lead_to_it_loops_aside(definition: Definition) -> None:
    order = [line.step for line in draw(definition) if line.step]
    place = {step: number for number, step in enumerate(order)}
    edges = {(edge.source, edge.target) for edge in definition.transitions if edge.target != COMPLETE}
    edges |= {(dependency, step.name) for step in definition.steps for dependency in step.after}
    for source, target in edges:
        assert place[source] < place[target] or source in reachable(target, edges)


def reachable(start: str, edges: set[tuple[str, str]]) -> set[str]:
    found = {start}
    while more := {target for source, target in edges if source in found} - found:
        found |= more
    return found


def assert_lanes_meet(lines: Sequence[Line]) -> None:
    """What a line lets down, the next one takes up, and the other way round."""
    downwards, upwards = set("│├┤┬┼╭╮╷"), set("│├┤┴┼╰╯╵")
    texts = [line.before + ("o" if line.step else "") + line.after for line in lines]
    if any("→" in line.note for line in lines if line.step) or any(set(text) & set("+-|") for text in texts):
        return
    for above, below in pairwise(texts):
        for column in range(0, max(len(above), len(below)), 2):
            a, b = above[column : column + 1] or " ", below[column : column + 1] or " "
            if "o" not in (a, b):
                assert (a in downwards) == (b in upwards), "\n".join(texts)


def test_the_invariant_can_fail() -> None:
    with pytest.raises(AssertionError):
        assert_lanes_meet([Line("", "a"), Line("│ │"), Line("├─┼─╮"), Line("│")])
