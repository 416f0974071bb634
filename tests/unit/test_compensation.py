"""Undoing what a run did: each rule as a story of one run."""

from __future__ import annotations

from typing import Final

import pytest

from squidmesh.definition import Options, Step, StepKind
from squidmesh.errors import IllegalMove, InvalidOption
from squidmesh.planner.outcome import Abandoned, Broken, Completed, Deferred, Failed, Output, Returned, Unknown
from squidmesh.planner.plan import NewAttempt
from squidmesh.planner.planner import CRASH_BUDGET
from squidmesh.retry import NEVER, Retry
from squidmesh.states import JobState, ParkedReason, RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

FAILED: Final = Failed({"type": "Error", "message": "it broke"}, retryable=False)
BROKEN: Final = Failed({"type": "Error", "message": "it broke", "retryable": True})
CRASHED: Final = Abandoned({"type": "WorkerLost", "message": "gone"})


def status_of(sim: Simulator) -> RunStatus:
    return sim.run.status


def undoable(name: str, retry: Retry = NEVER) -> Step:
    return Step(name=name, compensate=f"undo_{name}", options=Options(compensate_retry=retry))


def undone(sim: Simulator) -> list[tuple[str, int, str]]:
    rows = [row for row in sim.history if isinstance(row, NewAttempt) and row.kind == "compensation"]
    return [(row.step, row.visit, str(row.status)) for row in rows]


def booked(*extra: str) -> Simulator:
    """A trip of which two things are booked, and the third fails."""
    sim = Simulator(flow("car -> hotel", "hotel -> plane", *extra, steps=(undoable("car"), undoable("hotel"))))
    sim.end("car", Completed(Output('{"car": 1}', {"car": 1})))
    sim.end("hotel")
    sim.end("plane", FAILED)
    return sim


def test_what_completed_is_undone_one_at_a_time_the_newest_first() -> None:
    sim = booked()
    assert (sim.run.status, sim.run.attention, sim.live) == (RunStatus.COMPENSATING, "failed", ["hotel"])
    assert sim.job("hotel").kind == "compensation"
    sim.end("hotel")
    assert sim.live == ["car"]
    sim.end("car")
    assert (sim.run.status, sim.run.attention) == (RunStatus.FAILED, "failed")
    assert undone(sim) == [("hotel", 1, "completed"), ("car", 1, "completed")]
    assert sim.audited == [("compensating", None), ("compensated", None)]
    assert sim.audits[-1].metadata == {"undone": 2, "left": 0}
    assert sim.run.error is not None
    assert sim.run.error["step"] == "plane", "the reason stands"


def test_a_compensation_sees_what_was_there_once_its_visit_had_completed() -> None:
    sim = booked()
    completed = {a.step: a.seq for a in sim.attempts}
    assert sim.job("hotel").saw == completed["hotel"] + 1
    sim.end("hotel")
    assert sim.job("car").saw == completed["car"] + 1


def test_each_visit_is_undone() -> None:
    sim = Simulator(flow("a -again-> a", "a -> bad", start="a", steps=(undoable("a"),)))
    sim.end("a", Completed(outcome="again"))
    sim.end("a")
    sim.end("bad", FAILED)
    sim.end("a")
    sim.end("a")
    assert undone(sim) == [("a", 2, "completed"), ("a", 1, "completed")]
    assert sim.run.status is RunStatus.FAILED


def test_it_waits_for_what_executes_and_undoes_that_too() -> None:
    sim = Simulator(flow("bad -> END", "slow -> END", start="bad slow", steps=(undoable("slow"),)))
    sim.start("slow")
    sim.end("bad", FAILED)
    assert status_of(sim) is RunStatus.FAILING
    sim.end("slow")
    assert (status_of(sim), sim.live) == (RunStatus.COMPENSATING, ["slow"])


def test_what_did_not_complete_is_not_undone() -> None:
    steps = tuple(undoable(name) for name in ("cut", "taken"))
    sim = Simulator(flow("bad -> END", start="bad cut taken", steps=steps))
    sim.start("cut")
    sim.end("bad", FAILED)
    sim.end("cut", CRASHED)
    assert (status_of(sim), undone(sim)) == (RunStatus.FAILED, [])


def test_a_compensation_is_tried_as_often_as_it_says() -> None:
    sim = Simulator(flow("a -> bad", steps=(undoable("a", Retry(max_attempts=2)),)))
    sim.end("a")
    sim.end("bad", FAILED)
    sim.end("a", BROKEN)
    assert (status_of(sim), sim.job("a").attempt) == (RunStatus.COMPENSATING, 2)
    sim.end("a", Deferred(5.0, "later"))
    sim.end("a")
    assert undone(sim) == [("a", 1, "failed"), ("a", 1, "completed")]


def test_one_that_fails_for_good_is_told_and_the_others_go_on() -> None:
    sim = booked()
    sim.end("hotel", FAILED)
    assert sim.live == ["car"]
    sim.end("car")
    assert sim.audits[-1].metadata == {"undone": 1, "left": 1}
    assert sim.run.error is not None
    (told,) = sim.run.error["compensation_failures"]
    assert (told["step"], told["visit"], told["message"]) == ("hotel", 1, "it broke")


def test_a_worker_that_dies_with_a_compensation_is_survived_also_of_what_is_irreversible_nowhere_else() -> None:
    sim = booked()
    for _ in range(CRASH_BUDGET):
        sim.end("hotel", CRASHED)
        assert sim.job("hotel").state is JobState.READY
    sim.end("hotel", CRASHED)
    assert (sim.run.status, sim.run.attention) == (RunStatus.COMPENSATING, "quarantined")
    sim.unblock("hotel")
    assert (sim.job("hotel").crashes, sim.run.attention) == (0, "failed")
    sim.end("hotel", Returned())
    sim.end("hotel")
    assert sim.live == ["car"]


@pytest.mark.parametrize(("resolution", "left"), [("completed", 0), ("failed", 1)])
def test_a_person_may_say_what_became_of_one(resolution: str, left: int) -> None:
    sim = booked()
    sim.end("hotel", Broken({"message": "odd"}))
    sim.unblock(resolution=resolution)
    assert sim.live == ["car"]
    sim.end("car")
    assert sim.audits[-1].metadata == {"undone": 2 - left, "left": left}


def test_one_that_no_worker_knows_waits_for_one_that_does() -> None:
    sim = booked()
    sim.end("hotel", Unknown())
    assert (sim.job("hotel").reason, sim.run.status) == (ParkedReason.UNKNOWN_STEP, RunStatus.COMPENSATING)
    sim.claim(sim.slot_of("hotel"))
    sim.end("hotel")
    assert sim.live == ["car"]


def test_a_failure_with_a_way_on_undoes_nothing() -> None:
    assert booked("plane -error-> train").live == ["train"]


# -- cancelling --------------------------------------------------------------------------------------------------------


def half_booked() -> Simulator:
    sim = Simulator(flow("car -> hotel", "hotel -> plane", steps=(undoable("car"), undoable("hotel"))))
    sim.end("car")
    return sim


def test_cancelling_undoes_only_if_that_is_asked_for() -> None:
    plain, undoing = half_booked(), half_booked()
    plain.cancel()
    assert status_of(plain) is RunStatus.CANCELLED
    undoing.cancel(compensate=True)
    assert (undoing.run.status, undoing.run.attention, undoing.live) == (RunStatus.COMPENSATING, None, ["car"])
    undoing.end("car")
    assert (undoing.run.status, undoing.run.attention, undoing.run.error) == (RunStatus.CANCELLED, None, None)


def test_a_cancelled_run_that_could_not_be_undone_wants_attention() -> None:
    sim = half_booked()
    sim.cancel(compensate=True)
    sim.end("car", FAILED)
    assert (status_of(sim), sim.run.attention) == (RunStatus.CANCELLED, "not_compensated")
    assert sim.run.error is not None
    assert sim.run.error["type"] == "CompensationFailed"


def test_cancelling_again_is_no_error_while_it_is_undone_and_after() -> None:
    sim = half_booked()
    sim.cancel(compensate=True)
    assert sim.cancel(compensate=True) is None
    sim.end("car")
    assert sim.cancel(compensate=True) is None
    assert sim.cancel() is None
    assert [type_ for type_, _ in sim.audited].count("cancelled") == 1


def test_a_run_that_is_being_cancelled_can_still_be_undone() -> None:
    sim = half_booked()
    sim.start("hotel")
    sim.cancel()
    sim.cancel(compensate=True)
    assert status_of(sim) is RunStatus.CANCELLING
    sim.end("hotel")
    assert (status_of(sim), sim.live) == (RunStatus.COMPENSATING, ["hotel"])


def test_a_run_that_was_cancelled_as_it_was_cannot_be_undone_any_more() -> None:
    sim = half_booked()
    sim.cancel()
    with pytest.raises(IllegalMove):
        sim.cancel(compensate=True)


def test_a_run_that_fails_and_is_undone_cannot_be_cancelled() -> None:
    sim = booked()
    for force in (False, True):
        with pytest.raises(IllegalMove):
            sim.cancel(force=force)


def test_with_force_nothing_is_waited_for() -> None:
    sim = half_booked()
    late = sim.finding(sim.start("hotel").slot, Completed())
    sim.cancel(compensate=True, force=True)
    assert (status_of(sim), sim.live, sim.recorded[-1]) == (
        RunStatus.COMPENSATING,
        ["car"],
        ("hotel", 1, 1, "abandoned"),
    )
    assert sim.save(late).discarded == [late]
    assert sim.audits[0].metadata == {"compensate": True, "force": True}


@pytest.mark.parametrize("how", ["failing", "cancelling"])
def test_force_helps_where_a_step_never_returns(how: str) -> None:
    sim = Simulator(flow("bad -> END", "stuck -> END", start="bad stuck"))
    sim.start("stuck")
    if how == "failing":
        sim.end("bad", FAILED)
    else:
        sim.cancel()
    assert status_of(sim) == how
    sim.cancel(force=True)
    assert (status_of(sim), sim.jobs) == (RunStatus.FAILED if how == "failing" else RunStatus.CANCELLED, {})


def test_nothing_but_the_undoing_can_be_decided_meanwhile() -> None:
    sim = Simulator(flow("a -> stop", steps=(undoable("a"), Step(name="stop", kind=StepKind.PAUSE))))
    sim.end("a")
    sim.cancel(compensate=True)
    with pytest.raises(IllegalMove):
        sim.review()
    with pytest.raises(InvalidOption, match="no step"):
        sim.unblock("x")
