"""What follows when things go wrong: workers that die, runs that fail, people who cancel, each as a story of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from squidmesh.definition import Options, Step, StepKind
from squidmesh.errors import IllegalMove
from squidmesh.planner.outcome import Abandoned, Broken, Completed, Deferred, Failed, Returned, TimedOut, Unknown
from squidmesh.planner.planner import CRASH_BUDGET, plan_findings
from squidmesh.records import Lane
from squidmesh.registry import strange_graph
from squidmesh.retry import Constant, Retry
from squidmesh.states import AttemptStatus, JobState, ParkedReason, RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.planner.outcome import Happening

ERROR: Final = {"type": "Error", "message": "it broke"}
FAILED: Final = Failed(ERROR, retryable=False)
CRASHED: Final = Abandoned({"type": "WorkerLost", "message": "host-1 was last heard of a minute ago"})
CUT_OFF: Final = replace(CRASHED, cut_off=True)


def status_of(sim: Simulator) -> RunStatus:
    """Where the run stands now; a type checker believes that an attribute stays what it was compared with."""
    return sim.run.status


def retried(name: str, retry: Retry) -> Step:
    return Step(name=name, options=Options(retry=retry))


# -- workers that die --------------------------------------------------------------------------------------------------


def test_a_step_that_its_worker_died_with_runs_again_more_carefully() -> None:
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=2)),)))
    sim.end("a", CRASHED)
    job = sim.job("a")
    assert (job.state, job.lane, job.attempt) == (JobState.READY, Lane.SUSPECT, 1)
    assert sim.recorded == [("a", 1, 1, "abandoned")]
    sim.end("a", Failed(ERROR))
    assert (sim.job("a").attempt, sim.job("a").lane) == (2, Lane.SUSPECT), (
        "all its attempts are left, and it is suspect"
    )


def test_the_crash_budget_ends_in_quarantine() -> None:
    """The first crash is free, since nobody can prove that the body had started; then three count."""
    sim = Simulator(flow("a -> b"))
    sim.end("a", CRASHED)
    for crashes in range(1, CRASH_BUDGET):
        sim.end("a", CRASHED)
        assert (sim.job("a").state, sim.job("a").crashes) == (JobState.READY, crashes)
    sim.end("a", CRASHED)
    assert (sim.job("a").state, sim.job("a").reason) == (JobState.PARKED, ParkedReason.QUARANTINED)
    assert (sim.run.status, sim.run.attention) == (RunStatus.PAUSED, "quarantined")
    assert sim.recorded == [("a", 1, 1, "abandoned")] * 4
    assert sim.audited == [("paused", "a")]
    assert sim.audits[0].metadata == {"visit": 1, "reason": "quarantined"}


def test_the_crash_budget_is_one_for_all_attempts_at_a_visit() -> None:
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=2)),)))
    for ending in (CRASHED, CRASHED, Deferred(1.0, "later"), CRASHED, Failed(ERROR), CRASHED):
        assert sim.job("a").state is not JobState.PARKED
        sim.end("a", ending)
    assert sim.job("a").reason == ParkedReason.QUARANTINED


def test_a_step_that_was_cut_off_in_good_order_is_not_charged() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", CRASHED)
    for _ in range(10):
        sim.end("a", CUT_OFF)
    assert (sim.job("a").state, sim.job("a").crashes, sim.job("a").lane) == (JobState.READY, 0, Lane.SUSPECT)


def test_a_cut_off_makes_no_suspect() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", CUT_OFF)
    assert sim.job("a").lane is Lane.AHEAD


@pytest.mark.parametrize("interruption", [CRASHED, CUT_OFF, TimedOut(ERROR)], ids=["crash", "cut off", "time-out"])
def test_an_interrupted_irreversible_step_waits_for_a_human(interruption: Abandoned | TimedOut) -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", irreversible=True),)))
    sim.end("a", interruption)
    assert (sim.job("a").state, sim.job("a").reason) == (JobState.PARKED, ParkedReason.INTERRUPTED)
    assert (sim.run.status, sim.run.attention) == (RunStatus.PAUSED, "interrupted")
    assert [attempt.status for attempt in sim.attempts] == [AttemptStatus.ABANDONED]


def test_any_other_step_whose_time_was_up_has_failed() -> None:
    """It is retried after its back-off, jitter included, as long as it has attempts; then the run fails with it."""
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=2, backoff=Constant(10), jitter=1.0)),)))
    (job,) = sim.end("a", TimedOut(ERROR, chance=0.5)).moved
    assert (job.delay, job.attempt) == (15.0, 2)
    sim.end("a", TimedOut(ERROR))
    assert (sim.run.status, sim.run.error) == (RunStatus.FAILED, {**ERROR, "step": "a"})
    assert [attempt.status for attempt in sim.attempts] == [AttemptStatus.FAILED] * 2


def test_a_retry_that_waits_for_a_human_pauses_the_run() -> None:
    careful = Step(name="a", irreversible=True, options=Options(retry=Retry(max_attempts=2)))
    sim = Simulator(flow("a -> b", start="a", steps=(careful,)))
    sim.end("a", Failed(ERROR))
    assert status_of(sim) is RunStatus.RETRYING
    sim.end("a", CRASHED)
    assert status_of(sim) is RunStatus.PAUSED, "nothing but a human's decision lets it go on"


def test_a_run_is_not_paused_while_anything_else_is_live() -> None:
    careful = Step(name="a", irreversible=True, options=Options(retry=Retry(max_attempts=2)))
    sim = Simulator(flow("a -> END", "b -> END", start="a b", steps=(careful, retried("b", Retry(max_attempts=2)))))
    sim.end("a", Failed(ERROR))
    sim.end("a", CRASHED)
    assert (sim.run.status, sim.run.attention) == (RunStatus.RUNNING, "interrupted")
    sim.end("b", Failed(ERROR))
    assert status_of(sim) is RunStatus.RETRYING
    sim.end("b")
    assert status_of(sim) is RunStatus.PAUSED


def test_what_cannot_be_decided_or_stored_is_quarantined() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Broken({"type": "DataError"}))
    assert sim.run.attention == "quarantined"
    assert sim.recorded == [("a", 1, 1, "abandoned")]


def test_a_step_that_the_worker_does_not_know_waits_for_one_that_does() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Unknown())
    assert (sim.job("a").state, sim.job("a").reason) == (JobState.PARKED, ParkedReason.UNKNOWN_STEP)
    assert (sim.run.status, sim.run.attention, sim.recorded) == (RunStatus.PENDING, None, [])
    sim.end("a")
    assert sim.live == ["b"]


def test_a_run_of_which_nothing_was_started_is_still_pending() -> None:
    sim = Simulator(flow("a -> b"))
    plan = sim.end("a", Returned())
    assert plan.changes
    assert (sim.run.status, sim.job("a").state, sim.recorded) == (RunStatus.PENDING, JobState.READY, [])


# -- failing -----------------------------------------------------------------------------------------------------------


def test_a_failing_run_takes_away_what_waits_and_waits_for_what_executes() -> None:
    parallel = "ready sleeping gated executing"
    steps = (
        Step(name="gated", irreversible=True),
        Step(name="sleeping", kind=StepKind.WAIT, settings={"seconds": 60.0}),
    )
    sim = Simulator(flow("bad -> END", "executing -> next", *(f"{s} -> END" for s in parallel.split()[:3]), start=f"bad {parallel}", steps=steps))  # fmt: skip
    sim.end("gated", CRASHED)
    sim.start("executing")
    plan = sim.end("bad", FAILED)
    assert plan.flag, "what executes is told"
    assert (sim.run.status, sim.run.attention, sim.live) == (RunStatus.FAILING, "failed", ["executing"])
    taken = {a.step for a in sim.attempts if a.status is AttemptStatus.CANCELLED}
    assert taken == {"ready", "sleeping", "gated"}
    plan = sim.end("executing")
    assert not plan.flag
    assert (sim.run.status, sim.live) == (RunStatus.FAILED, [])
    assert sim.recorded[-1] == ("executing", 1, 1, "completed"), "its result is recorded and starts nothing"
    assert sim.run.error == {**ERROR, "step": "bad"}


def test_the_first_reason_stands() -> None:
    sim = Simulator(flow("a -> END", "b -> END", start="a b"))
    sim.start("b")
    sim.end("a", FAILED)
    sim.end("b", Failed({"type": "Other"}))
    assert sim.run.error == {**ERROR, "step": "a"}
    assert sim.recorded == [("a", 1, 1, "failed"), ("b", 1, 1, "failed")]


def test_a_failing_run_tells_what_executes_once_and_asks_for_no_other_jobs() -> None:
    sim = Simulator(flow("a -> END", start="a b c"))
    for step in ("b", "c"):
        sim.start(step)
    assert sim.end("a", FAILED).flag
    slot = sim.slot_of("b")
    plan = plan_findings(sim.graph, sim.run, {slot: sim.jobs[slot]}, [sim.finding(slot, FAILED)])
    assert (plan.status, plan.flag, plan.removed) == (RunStatus.FAILING, False, [slot])


def test_a_run_that_fails_at_a_join_decides_no_further_join() -> None:
    """Not even one that could be decided at the same moment."""
    sim = Simulator(flow("a => j", "a => k", "a => l", "a -> a", start="a", steps=(Step(name="k", visit_limit=1),)))
    sim.end("a")
    assert sim.live == ["a", "j", "k", "l"]
    sim.end("a")
    assert status_of(sim) is RunStatus.FAILED
    assert sim.run.error is not None
    assert sim.run.error["step"] == "k"
    assert {(a.step, a.visit) for a in sim.attempts} == {
        ("a", 1),
        ("a", 2),
        ("a", 3),
        ("j", 1),
        ("j", 2),
        ("k", 1),
        ("l", 1),
    }


def test_a_failing_run_tries_nothing_again() -> None:
    endings: dict[str, Happening] = {
        "b": Failed(ERROR),
        "c": Deferred(5.0, "later"),
        "d": CRASHED,
        "e": Returned(),
        "f": Unknown(),
    }
    steps = tuple(retried(name, Retry(max_attempts=9)) for name in endings)
    sim = Simulator(flow("a -> END", start="a b c d e f", steps=steps))
    for step in endings:
        sim.start(step)
    sim.end("a", FAILED)
    for step, ending in endings.items():
        assert status_of(sim) is RunStatus.FAILING
        sim.end(step, ending)
    assert status_of(sim) is RunStatus.FAILED
    assert [status for *_, status in sim.recorded] == ["failed", "failed", "cancelled", "abandoned"] + ["cancelled"] * 2


def test_what_was_scheduled_earlier_in_the_same_batch_is_taken_away_and_recorded() -> None:
    """A batch tells the same as one by one: the successor and the second attempt were live, and were cancelled."""
    definition = flow("a -> next", "b -> END", "c -> END", start="a b c", steps=(retried("b", Retry(max_attempts=2)),))
    sim = Simulator(definition)
    sim.end_all({"a": Completed(), "b": Failed(ERROR), "c": FAILED})
    assert (sim.run.status, sim.live) == (RunStatus.FAILED, [])
    assert sim.recorded[:3] == [("a", 1, 1, "completed"), ("b", 1, 1, "failed"), ("c", 1, 1, "failed")]
    assert sorted(sim.recorded[3:]) == [("b", 1, 2, "cancelled"), ("next", 1, 1, "cancelled")]
    assert {a.step: a.saw for a in sim.attempts}["next"] == 1, "it would have seen what a returned"


# -- cancelling --------------------------------------------------------------------------------------------------------


def test_cancelling_is_immediate_while_nothing_executes() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", kind=StepKind.WAIT, settings={"seconds": 60.0}),)))
    plan = sim.cancel("ada", "not needed")
    assert plan is not None
    assert (plan.finished, plan.flag) == (True, False)
    assert (sim.run.status, sim.run.attention, sim.live) == (RunStatus.CANCELLED, None, [])
    assert sim.recorded == [("a", 1, 1, "cancelled")]
    (audit,) = sim.audits
    assert (audit.type, audit.actor, audit.comment) == ("cancelled", "ada", "not needed")


def test_cancelling_waits_for_what_executes() -> None:
    sim = Simulator(flow("a -> b", "c -> d", start="a c"))
    sim.start("a")
    plan = sim.cancel()
    assert plan is not None
    assert plan.flag
    assert (sim.run.status, sim.live) == (RunStatus.CANCELLING, ["a"])
    sim.end("a")
    assert (sim.run.status, sim.live) == (RunStatus.CANCELLED, [])
    assert sim.recorded == [("c", 1, 1, "cancelled"), ("a", 1, 1, "completed")]


def test_a_run_that_is_cancelled_while_its_first_step_executes_was_running() -> None:
    """The stored status is pending until something is saved: nobody is told of a move from there."""
    sim = Simulator(flow("a -> b"))
    sim.start("a")
    plan = sim.cancel()
    assert plan is not None
    assert plan.shown_move == (RunStatus.RUNNING, RunStatus.CANCELLING)


def test_cancelling_a_paused_run_ends_the_pause() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", irreversible=True),)))
    sim.end("a", CRASHED)
    sim.cancel()
    assert (sim.run.status, sim.run.attention, sim.run.progress.gates) == (RunStatus.CANCELLED, None, 0)


def test_cancelling_twice_changes_nothing() -> None:
    sim = Simulator(flow("a -> b"))
    sim.start("a")
    assert sim.cancel() is not None
    assert sim.cancel() is None, "while it waits"
    sim.end("a")
    assert sim.cancel() is None, "and after its end"
    assert sim.audited == [("cancelled", None)]


def test_only_a_run_that_goes_on_can_be_cancelled() -> None:
    completed, failing = Simulator(flow("a -> END")), Simulator(flow("a -> END", "b -> END", start="a b"))
    completed.end("a")
    failing.start("b")
    failing.end("a", FAILED)
    for sim, status in ((completed, "completed"), (failing, "failing")):
        with pytest.raises(IllegalMove, match=rf"cannot cancel run {sim.run.id}: it is {status}") as raised:
            sim.cancel()
        assert raised.value.allowed == ("pending", "running", "retrying", "paused")


# -- graphs that only newer code can read ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [False, True])
def test_a_job_of_a_graph_that_cannot_be_read_is_left_to_others(ending: bool) -> None:
    """Its bits mean nothing here: whatever the run's status, the job is parked, and the run's progress stays as it is."""
    sim = Simulator(flow("a -> b", "c -> d", start="a c"))
    a, c = (sim.claim(sim.job(name).slot) for name in ("a", "c"))
    if ending:
        sim.cancel()
    jobs = {job.slot: job for job in sim.jobs.values()}
    unreadable = strange_graph("w", jobs.values())
    finding = sim.finding(a.slot, Unknown())

    plan = plan_findings(unreadable, sim.run, jobs, [finding])

    assert [(job.slot, job.state, job.reason) for job in plan.moved] == [
        (a.slot, JobState.PARKED, ParkedReason.UNKNOWN_STEP)
    ]
    assert (plan.removed, plan.added, plan.attempts) == ([], [], [])
    assert plan.progress == sim.run.progress
    assert plan.status.ending is ending
    assert c.slot not in {job.slot for job in plan.moved}
