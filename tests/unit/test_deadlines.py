"""The deadline of a run: each rule as a story of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from squidmesh.definition import Step, StepKind
from squidmesh.planner.outcome import Abandoned, Broken, Completed, Elapsed, Failed, Returned, Unknown
from squidmesh.records import DEADLINE_SLOT
from squidmesh.states import JobState, ParkedReason, RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

FAILED: Final = Failed({"type": "Error", "message": "it broke"}, retryable=False)


def status_of(sim: Simulator) -> RunStatus:
    return sim.run.status


def limited(*edges: str, steps: tuple[Step, ...] = (), start: str = "") -> Simulator:
    return Simulator(replace(flow(*edges, steps=steps, start=start), deadline=60.0))


def test_the_deadline_is_a_job_of_no_step_that_sleeps() -> None:
    sim = limited("a -> b")
    job = sim.jobs[DEADLINE_SLOT]
    assert (job.kind, job.step, job.state) == ("timer", "", JobState.SLEEPING)
    assert (sim.run.status, sim.run.progress.live_count) == (RunStatus.PENDING, 1)


def test_it_goes_with_the_run_whatever_its_end() -> None:
    for how in ("completed", "failed", "cancelled"):
        sim = limited("a -> END")
        if how == "cancelled":
            sim.cancel()
        else:
            sim.end("a", Completed() if how == "completed" else FAILED)
        assert (status_of(sim), sim.jobs, sim.run.progress.deadline) == (how, {}, False)


def test_at_the_deadline_what_waits_is_taken_away_and_what_executes_is_told() -> None:
    stop = Step(name="stop", kind=StepKind.PAUSE)
    sim = limited("a -> b", "stop -> c", start="a stop", steps=(stop,))
    sim.start("a")
    plan = sim.end("", Elapsed())
    assert plan.flag
    assert (status_of(sim), sim.live) == (RunStatus.FAILING, ["a"])
    assert sim.run.error is not None
    assert sim.run.error["type"] == "DeadlineExceeded"
    sim.end("a")
    assert (status_of(sim), sim.jobs) == (RunStatus.FAILED, {})


def test_a_run_of_which_nothing_ever_began_fails_at_its_deadline() -> None:
    sim = limited("a -> b")
    sim.end("", Elapsed())
    assert (status_of(sim), sim.recorded) == (RunStatus.FAILED, [("a", 1, 1, "cancelled")])


def test_what_ends_in_the_same_batch_counts_before_the_deadline_if_it_came_first() -> None:
    sim = limited("a -> END")
    for step in ("a", ""):
        sim.start(step)
    done, over = (
        sim.finding(sim.slot_of(step), happening) for step, happening in (("a", Completed()), ("", Elapsed()))
    )
    other = sim.fork()
    sim.save(over, done)
    assert status_of(sim) is RunStatus.FAILED
    other.save(done)
    assert status_of(other) is RunStatus.COMPLETED
    assert other.save(over).discarded == [over]


def test_a_run_that_is_undone_has_no_deadline() -> None:
    sim = limited("a -> b", steps=(Step(name="a", compensate="undo"),))
    sim.end("a")
    sim.end("", Elapsed())
    assert (status_of(sim), sim.live, sim.run.progress.deadline) == (RunStatus.COMPENSATING, ["a"], False)


def test_a_deadline_survives_the_worker_that_had_it() -> None:
    sim = limited("a -> b")
    for ending in (Abandoned({"message": "gone"}), Returned()):
        sim.end("", ending)
        assert sim.jobs[DEADLINE_SLOT].state is JobState.READY
    sim.end("", Unknown())
    assert (sim.jobs[DEADLINE_SLOT].reason, sim.run.progress.gates) == (ParkedReason.UNKNOWN_STEP, 0)
    sim.claim(DEADLINE_SLOT)
    sim.end("", Elapsed())
    assert status_of(sim) is RunStatus.FAILED


def test_a_deadline_that_could_not_be_decided_comes_again() -> None:
    """It needs nobody: no one could name it, and a run without its deadline would be one that nobody asked for."""
    sim = limited("a -> b")
    sim.end("", Broken({"message": "odd"}))
    assert (sim.jobs[DEADLINE_SLOT].state, sim.run.attention) == (JobState.SLEEPING, None)
    sim.end("", Elapsed())
    assert status_of(sim) is RunStatus.FAILED


def test_a_replay_has_a_deadline_of_its_own() -> None:
    sim = limited("a -> b")
    sim.end("a")
    sim.end("b", FAILED)
    again, _ = sim.replay("b")
    assert again.live == ["", "b"]
