"""Signals: what is sent to a run from outside. Each rule as a story of one run."""

from __future__ import annotations

from typing import Final

import pytest

from squidmesh.definition import Step, StepKind
from squidmesh.errors import IllegalMove, SignalNotFound
from squidmesh.planner.outcome import Broken, Elapsed, Failed
from squidmesh.states import JobState, RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

FAILED: Final = Failed({"type": "Error", "message": "it broke"}, retryable=False)


def status_of(sim: Simulator) -> RunStatus:
    return sim.run.status


def wait_for(signal: str = "go", name: str = "go", *, output: str | None = None, **settings: float) -> Step:
    return Step(name=name, kind=StepKind.SIGNAL, output=output, settings={"signal": signal, **settings})


def outputs(sim: Simulator) -> list[tuple[str, object]]:
    return [(a.step, a.output.value if a.output else None) for a in sim.attempts]


def test_a_run_that_waits_for_a_signal_is_running_and_wants_no_attention() -> None:
    sim = Simulator(flow("go -> b", steps=(wait_for(),)))
    assert (sim.run.status, sim.run.attention, sim.audited) == (RunStatus.RUNNING, None, [])
    sim.signal("go", {"x": 1})
    assert (sim.live, outputs(sim)) == (["b"], [("go", {"x": 1})])
    assert sim.audits[0].metadata == {"signal": "go", "key": "1"}


@pytest.mark.parametrize(("payload", "stored"), [({}, None), (None, None), ({"a": 1}, {"a": 1})])
def test_without_a_key_the_payload_is_merged(payload: object, stored: object) -> None:
    sim = Simulator(flow("go -> b", steps=(wait_for(),)))
    sim.signal("go", payload)
    assert outputs(sim) == [("go", stored)]


def test_with_a_key_any_value_is_stored_under_it() -> None:
    sim = Simulator(flow("go -> b", steps=(wait_for(output="said"),)))
    sim.signal("go", [1])
    assert outputs(sim) == [("go", {"said": [1]})]


def test_what_comes_early_is_kept_and_consumed_in_order_of_arrival() -> None:
    sim = Simulator(flow("a -> go", "go -> b", "b -> go", start="a", steps=(wait_for(output="n"),)))
    for number in (1, 2):
        sim.signal("go", number, key=str(number))
    assert (sim.run.status, sim.run.progress.signals) == (RunStatus.PENDING, {"go": 2})
    plan = sim.end("a")
    assert (outputs(sim)[-1], [s.key for s in plan.consumed]) == (("go", {"n": 1}), ["1"])
    sim.end("b")
    assert (outputs(sim)[-1], sim.kept, sim.run.progress.signals) == (("go", {"n": 2}), [], {})
    sim.end("b")
    assert (sim.live, sim.job("go").state) == (["go"], JobState.PARKED)


def test_a_signal_ends_the_oldest_wait_for_it() -> None:
    """Older in the history, whatever their slots."""
    steps = (wait_for(name="first"), wait_for(name="second"))
    sim = Simulator(flow("a -> second", "b -> first", start="a b", steps=steps))
    sim.end("b")
    sim.end("a")
    sim.signal("go", key="1")
    assert sim.live == ["second"]
    sim.signal("go", key="2")
    assert status_of(sim) is RunStatus.COMPLETED


def test_two_waits_that_begin_at_once_take_one_kept_signal_each() -> None:
    steps = (wait_for(name="x", output="x"), wait_for(name="y", output="y"))
    sim = Simulator(flow("a => x", "a => y", steps=steps))
    sim.signal("go", 1, key="1")
    one = sim.fork()
    sim.signal("go", 2, key="2")
    sim.end("a")
    assert (status_of(sim), outputs(sim)[1:]) == (RunStatus.COMPLETED, [("x", {"x": 1}), ("y", {"y": 2})])
    one.end("a")
    assert (one.live, one.kept) == (["y"], [])


def test_a_chain_of_waits_takes_what_is_kept_in_one_go() -> None:
    sim = Simulator(flow("a -> x", "x -> y", "y -> b", steps=(wait_for("x", "x"), wait_for("y", "y"))))
    for name in ("y", "x"):
        sim.signal(name)
    sim.end("a")
    assert (sim.live, sim.kept) == (["b"], [])
    saws = [(a.saw, a.seq) for a in sim.attempts]
    assert all(saw <= seq for saw, seq in saws)


def test_a_signal_that_does_not_come_in_time() -> None:
    sim = Simulator(flow("go -> b", "go -timeout-> c", steps=(wait_for(timeout=60.0),)))
    assert (sim.job("go").state, status_of(sim)) == (JobState.SLEEPING, RunStatus.RUNNING)
    late = sim.fork()
    late.start("go")
    told = late.finding(late.slot_of("go"), Elapsed())
    late.signal("go")
    assert (late.live, late.save(told).discarded) == (["b"], [told]), "it came before the worker told"
    sim.end("go", Elapsed())
    assert (sim.live, sim.attempts[-1].outcome) == (["c"], "timeout")
    sim.signal("go")
    assert sim.run.progress.signals == {"go": 1}


def test_without_a_way_on_the_time_out_fails_the_run() -> None:
    sim = Simulator(flow("go -> b", steps=(wait_for(timeout=60.0),)))
    sim.end("go", Elapsed())
    assert sim.run.error is not None
    assert (status_of(sim), sim.run.error["type"]) == (RunStatus.FAILED, "TimedOut")


def test_a_time_out_that_could_not_be_decided_waits_for_the_signal_or_a_person() -> None:
    sim = Simulator(flow("go -> b", "go -timeout-> c", steps=(wait_for(timeout=60.0),)))
    sim.end("go", Broken({"message": "odd"}))
    assert (sim.run.attention, sim.run.progress.gates) == ("quarantined", 1)
    other = sim.fork()
    sim.signal("go")
    assert (sim.live, sim.run.attention, sim.run.progress.gates) == (["b"], None, 0)
    other.unblock()
    assert (other.run.status, other.run.progress.gates, other.job("go").reason) == (RunStatus.RUNNING, 0, "signal")
    other.end("go", Elapsed())
    assert other.live == ["c"]


def test_what_nobody_waits_for_and_what_comes_too_late_is_refused() -> None:
    sim = Simulator(flow("a -> go", steps=(wait_for(),)))
    with pytest.raises(SignalNotFound, match="stop"):
        sim.signal("stop")
    sim.start("a")
    sim.cancel()
    with pytest.raises(IllegalMove):
        sim.signal("go")
    assert sim.kept == []


def test_a_wait_that_is_retried_takes_what_was_kept() -> None:
    sim = Simulator(flow("a -> END", "b -> go", "go -> c", start="a b", steps=(wait_for(),)))
    sim.signal("go")
    sim.start("b")
    sim.end("a", FAILED)
    sim.end("b")
    assert (status_of(sim), sim.run.progress.signals) == (RunStatus.FAILED, {"go": 1})
    sim.retry()
    assert (sim.live, sim.kept, sim.run.progress.signals) == (["a", "c"], [], {})


def test_a_wait_that_was_taken_away_waits_again() -> None:
    sim = Simulator(flow("a -> END", "go -> c", start="a go", steps=(wait_for(),)))
    sim.end("a", FAILED)
    sim.retry()
    sim.signal("go")
    assert sim.live == ["a", "c"]
    assert [(a.step, a.visit, str(a.status)) for a in sim.attempts if a.step == "go"] == [
        ("go", 1, "cancelled"),
        ("go", 1, "completed"),
    ]
