"""The difference of two runs, for histories of every kind: none of a run with itself, and the same from both sides."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from squidmesh.planner.diff import diff
from squidmesh.records import Attempt, Run, RunDiff, StepDifference, StepRun
from squidmesh.states import AttemptStatus, RunStatus, StepStatus

START = datetime(2026, 3, 1, tzinfo=UTC)

VALUES = st.sampled_from([None, True, 1, 1.0, "1", [1], {"a": True}, {"a": 1}])
"""Some of which Python takes to be equal."""

OBJECTS = st.dictionaries(st.sampled_from("xyz"), VALUES, max_size=2)


def runs() -> st.SearchStrategy[Run]:
    return st.builds(
        Run,
        id=st.just(UUID(int=1)),
        workflow=st.sampled_from(["w", "v"]),
        trigger=st.sampled_from(["manual", "other"]),
        key=st.none(),
        status=st.sampled_from(RunStatus),
        attention=st.none(),
        payload=OBJECTS,
        context=st.none(),
        current_steps=st.just(()),
        error=st.none(),
        fingerprint=st.sampled_from(["f", "g"]),
        replayed_from=st.none(),
        created_at=st.just(START),
        finished_at=st.none(),
        history=st.none(),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[StepRun, ...]:
    visits = draw(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 2)), unique=True))
    return tuple(visit(*key, draw) for key in visits)


def visit(step: str, number: int, draw: st.DrawFn) -> StepRun:
    outcome = draw(st.sampled_from(["ok", "review", None]))
    made = [attempt(step, number, n, outcome) for n in range(draw(st.integers(0, 2)))]
    return StepRun(
        step=step,
        visit=number,
        status=draw(st.sampled_from(StepStatus)),
        input={},
        output=draw(st.none() | OBJECTS),
        error=draw(st.none() | st.fixed_dictionaries({"type": st.sampled_from(["ValueError", "Fail"])})),
        attempts=tuple(made),
    )


def attempt(step: str, number: int, seq: int, outcome: str | None, **changes: Any) -> Attempt:
    made = Attempt(
        seq=seq,
        step=step,
        visit=number,
        attempt=seq,
        status=AttemptStatus.COMPLETED,
        outcome=outcome,
        output=None,
        error=None,
        worker=None,
        saw=1,
        takes=None,
        started_at=None,
        finished_at=START,
    )
    return replace(made, **changes)


@given(runs(), histories(), st.randoms(use_true_random=False))
def test_a_run_does_not_differ_from_one_that_did_the_same(run: Run, steps: tuple[StepRun, ...], random: Any) -> None:
    """At another time, by another worker, its branches in another order."""
    later = datetime(2027, 1, 1, tzinfo=UTC)
    twin = replace(run, id=UUID(int=2), created_at=later)
    others = [
        replace(s, attempts=tuple(replace(a, seq=a.seq + 7, worker=UUID(int=3), finished_at=later) for a in s.attempts))
        for s in steps
    ]
    random.shuffle(others)
    found = diff(run, twin, steps, others)
    assert found.same
    assert found.parted_at is None


@given(runs(), runs(), histories(), histories())
def test_from_the_other_side_it_is_the_same_difference(
    a: Run, b: Run, steps_a: tuple[StepRun, ...], steps_b: tuple[StepRun, ...]
) -> None:
    assert mirrored(diff(a, b, steps_a, steps_b)) == diff(b, a, steps_b, steps_a)


def mirrored(found: RunDiff) -> RunDiff:
    return replace(
        found,
        a=found.b,
        b=found.a,
        workflow=turned(found.workflow),
        graph=turned(found.graph),
        trigger=turned(found.trigger),
        status=turned(found.status),
        steps=tuple(mirrored_step(step) for step in found.steps),
    )


def mirrored_step(found: StepDifference) -> StepDifference:
    return replace(
        found,
        status=turned(found.status),
        outcome=turned(found.outcome),
        attempts=turned(found.attempts),
        error_type=turned(found.error_type),
    )


def turned(pair: Any) -> Any:
    return pair and pair[::-1]


@given(runs(), histories(), st.data())
def test_each_change_is_found_where_it_was_made_and_nowhere_else(
    run: Run, steps: tuple[StepRun, ...], data: st.DataObject
) -> None:
    if not steps:
        return
    place = data.draw(st.integers(0, len(steps) - 1))
    old = steps[place]
    what = data.draw(st.sampled_from(["gone", "output", "attempt", "error"]))
    changed = list(steps)
    if what == "gone":
        del changed[place]
    elif what == "output":
        changed[place] = replace(old, output={**(old.output or {}), "new": 1})
    elif what == "attempt":
        changed[place] = replace(old, attempts=(attempt(old.step, old.visit, 0, None), *old.attempts))
    else:
        changed[place] = replace(old, error={"type": "Strange"})
    found = diff(run, run, steps, changed)
    assert [(step.step, step.visit) for step in found.steps] == [(old.step, old.visit)]
    (step,) = found.steps
    assert found.parted_at == step
    if what == "gone":
        assert step.status == (old.status, None)
    elif what == "output":
        assert step == StepDifference(step=old.step, visit=old.visit, output_keys=("new",))
    elif what == "attempt":
        assert step.attempts == (len(old.attempts), len(old.attempts) + 1)
    else:
        assert step.error_type == ((old.error or {}).get("type"), "Strange")
