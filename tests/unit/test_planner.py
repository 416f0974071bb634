"""What follows when a step ends: each rule as a story of one run.

How runs end badly has its stories in ``test_planner_endings.py``, joins have theirs in ``test_joins.py``; what holds for
every story is in ``tests/property``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from squidmesh.definition import Options, Step, StepKind
from squidmesh.planner.draft import SNAPSHOT_FACTOR, SNAPSHOT_FLOOR
from squidmesh.planner.facts import Facts, NeedsMore
from squidmesh.planner.outcome import Abandoned, Completed, Deferred, Failed, Output, Returned
from squidmesh.planner.planner import plan_cancel, plan_start, plan_watch
from squidmesh.records import JobKind, Lane
from squidmesh.retry import Constant, Exponential, Retry
from squidmesh.states import JobState, RunStatus
from tests.property.simulator import OTHER_WORKER, WORKER, Simulator
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.planner.plan import Plan

ERROR: Final = {"type": "Error", "message": "it broke"}
FAILED: Final = Failed(ERROR, retryable=False)
CRASHED: Final = Abandoned({"type": "WorkerLost", "message": "host-1 was last heard of a minute ago"})
CUT_OFF: Final = replace(CRASHED, cut_off=True)


def status_of(sim: Simulator) -> RunStatus:
    """Where the run stands now; a type checker believes that an attribute stays what it was compared with."""
    return sim.run.status


def retried(name: str, retry: Retry) -> Step:
    return Step(name=name, options=Options(retry=retry))


def delay_of(plan: Plan) -> float:
    (job,) = plan.moved
    return job.delay


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_run_begins_with_its_entry_steps() -> None:
    sim = Simulator(flow("a -> b", "c -> b", start="a c"))
    assert sim.live == ["a", "c"]
    assert status_of(sim) is RunStatus.PENDING
    assert all(job.state is JobState.READY and (job.visit, job.attempt) == (1, 1) for job in sim.jobs.values())


def test_a_job_says_what_its_step_declares() -> None:
    careful = Step(name="careful", irreversible=True, options=Options(queue="slow", priority=7))
    wait = Step(name="wait", kind=StepKind.WAIT, settings={"seconds": 90.0})
    definition = flow(
        "careful -> END", "wait -> END", "plain -> END", start="careful wait plain", steps=(careful, wait)
    )
    sim = Simulator(definition)
    first = {job.step: job for job in plan_start(sim.graph, sim.run).jobs}
    assert (first["careful"].queue, first["careful"].priority, first["careful"].lane) == ("slow", 7, Lane.ALONE)
    assert (first["wait"].kind, first["wait"].state, first["wait"].delay) == (JobKind.WAIT, JobState.SLEEPING, 90.0)
    plain = first["plain"]
    assert (plain.kind, plain.state, plain.lane, plain.delay) == (JobKind.STEP, JobState.READY, Lane.AHEAD, 0.0)


def test_what_goes_on_stays_what_and_where_it_is() -> None:
    """Given back, deferred or tried again, a job keeps its kind, its place among others, and what it remembers."""
    elsewhere = Options(retry=Retry(max_attempts=2), queue="slow", priority=7)
    wait = Step(name="wait", kind=StepKind.WAIT, settings={"seconds": 1.0})
    sim = Simulator(flow("a -> END", "wait -> END", start="a wait", steps=(Step(name="a", options=elsewhere), wait)))
    sim.end("wait", Returned())
    assert sim.job("wait").kind is JobKind.WAIT
    for ending in (Deferred(1.0, "later"), Returned(), Failed(ERROR)):
        sim.end("a", ending)
        job = sim.job("a")
        assert (job.queue, job.priority, job.defers, job.kind) == ("slow", 7, 1, JobKind.STEP)


# -- edges -------------------------------------------------------------------------------------------------------------


def test_a_chain_keeps_its_slot() -> None:
    sim = Simulator(flow("a -> b", "b -> c"))
    for step in ("a", "b"):
        plan = sim.end(step)
        assert not plan.added
        assert not plan.removed
    sim.end("c")
    assert status_of(sim) is RunStatus.COMPLETED
    assert sim.recorded == [(step, 1, 1, "completed") for step in "abc"]


def test_a_named_outcome_takes_its_transition_and_no_other() -> None:
    sim = Simulator(flow("a -> b", "a -review-> c", "a -error-> d"))
    sim.end("a", Completed(outcome="review"))
    assert sim.live == ["c"]
    assert sim.attempts[0].outcome == "review"


def test_a_named_outcome_without_a_transition_fails_the_run_and_says_what_to_declare() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Completed(outcome="surprise"))
    assert status_of(sim) is RunStatus.FAILED
    assert sim.run.error is not None
    assert sim.run.error["type"] == "NoTransition"
    assert "transition(a, on='surprise', to=...)" in sim.run.error["message"]
    assert sim.recorded == [("a", 1, 1, "completed")], "the step itself did complete"


def test_ok_without_a_transition_ends_the_path() -> None:
    sim = Simulator(flow("a -error-> b"))
    sim.end("a")
    assert status_of(sim) is RunStatus.COMPLETED


def test_complete_ends_that_path_only() -> None:
    sim = Simulator(flow("a -> END", "b -> c", start="a b"))
    sim.end("a")
    assert (sim.run.status, sim.live) == (RunStatus.RUNNING, ["b"])
    sim.end("b")
    sim.end("c")
    assert status_of(sim) is RunStatus.COMPLETED


def test_a_failure_takes_the_error_route() -> None:
    sim = Simulator(flow("a -> b", "a -error-> mend"))
    sim.end("a", FAILED)
    assert sim.live == ["mend"]
    assert (sim.run.status, sim.run.error) == (RunStatus.RUNNING, None)
    assert sim.attempts[0].error == ERROR
    assert sim.audited == []


def test_a_recovery_is_audited() -> None:
    definition = flow("a -error-> mend")
    (edge,) = definition.transitions
    sim = Simulator(replace(definition, transitions=(replace(edge, recovery="compensation"),)))
    sim.end("a", FAILED)
    assert sim.audited == [("routed", "a")]
    assert sim.audits[0].metadata == {"target": "mend", "recovery": "compensation"}


def test_two_branches_into_one_step_run_it_once_each() -> None:
    sim = Simulator(flow("a -> s", "b -> s", "s -> t", start="a b"))
    sim.end("a")
    sim.end("b")
    assert sim.live == ["s", "s"]
    sim.end("s")
    sim.end("s")
    assert sim.recorded[2:] == [("s", 1, 1, "completed"), ("s", 2, 1, "completed")]
    assert sim.live == ["t", "t"]


def test_a_step_that_is_reached_too_often_fails_the_run_and_says_what_to_raise() -> None:
    sim = Simulator(flow("a -> a", start="a", steps=(Step(name="a", visit_limit=3),)))
    for _ in range(3):
        sim.end("a")
    assert status_of(sim) is RunStatus.FAILED
    assert sim.run.error is not None
    assert (sim.run.error["type"], sim.run.error["step"]) == ("VisitLimitReached", "a")
    assert "more than 3 times; raise its visit_limit=" in sim.run.error["message"]
    assert [visit for _, visit, _, _ in sim.recorded] == [1, 2, 3]


# -- retries -----------------------------------------------------------------------------------------------------------


def test_a_failure_is_tried_again_as_the_policy_says_until_it_is_exhausted() -> None:
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=3, backoff=Exponential(min=2, max=60))),)))
    assert delay_of(sim.end("a", Failed(ERROR))) == 2.0
    assert sim.job("a").state is JobState.SLEEPING
    assert status_of(sim) is RunStatus.RETRYING
    assert delay_of(sim.end("a", Failed(ERROR))) == 4.0
    sim.end("a", Failed(ERROR))
    assert status_of(sim) is RunStatus.FAILED
    assert sim.run.error == {**ERROR, "step": "a"}
    assert sim.recorded == [("a", 1, n, "failed") for n in (1, 2, 3)]


def test_a_retry_may_complete() -> None:
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=2)),)))
    sim.end("a", Failed(ERROR))
    assert sim.job("a").state is JobState.READY, "without a delay it is ready at once"
    sim.end("a")
    assert (sim.live, sim.run.status) == (["b"], RunStatus.RUNNING)
    assert sim.recorded == [("a", 1, 1, "failed"), ("a", 1, 2, "completed")]


def test_an_exhausted_retry_takes_the_error_route() -> None:
    sim = Simulator(flow("a -error-> mend", steps=(retried("a", Retry(max_attempts=2)),)))
    sim.end("a", Failed(ERROR))
    assert sim.live == ["a"]
    sim.end("a", Failed(ERROR))
    assert sim.live == ["mend"]


def test_what_is_not_retryable_is_not_tried_again() -> None:
    sim = Simulator(flow("a -> b", steps=(retried("a", Retry(max_attempts=5)),)))
    sim.end("a", FAILED)
    assert status_of(sim) is RunStatus.FAILED


def test_the_jitter_is_what_chance_makes_of_it() -> None:
    policy = Retry(max_attempts=2, backoff=Constant(10), jitter=0.5)
    sim = Simulator(flow("a -> b", steps=(retried("a", policy),)))
    assert delay_of(sim.end("a", Failed(ERROR, chance=0.5))) == 12.5


def test_retry_after_chooses_the_delay_and_uses_an_attempt() -> None:
    policy = Retry(max_attempts=2, backoff=Constant(10))
    sim = Simulator(flow("a -> b", steps=(retried("a", policy),)))
    assert delay_of(sim.end("a", Failed(ERROR, retry_after=99.0))) == 99.0
    sim.end("a", Failed(ERROR, retry_after=99.0))
    assert status_of(sim) is RunStatus.FAILED


def test_retry_after_without_a_policy_fails_with_a_hint() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Failed(ERROR, retry_after=5.0))
    assert status_of(sim) is RunStatus.FAILED
    assert sim.run.error is not None
    assert "add retry=Retry(" in sim.run.error["hint"]
    assert sim.attempts[0].error == {**ERROR, "hint": sim.run.error["hint"]}


def test_a_deferred_step_comes_back_without_using_an_attempt() -> None:
    sim = Simulator(flow("a -> b"))
    for times in (1, 2):
        plan = sim.end("a", Deferred(30.0, "the file is not there yet"))
        job = sim.job("a")
        assert delay_of(plan) == 30.0
        assert (job.state, job.attempt, job.defers) == (JobState.SLEEPING, 1, times)
        assert job.reason == "the file is not there yet"
    assert sim.recorded == []
    assert status_of(sim) is RunStatus.RUNNING


# -- the fence ---------------------------------------------------------------------------------------------------------


def test_a_result_is_not_recorded_after_its_job_was_rescued() -> None:
    sim = Simulator(flow("a -> b"))
    sim.start("a", WORKER)
    late = sim.finding(0, Completed())
    sim.save(sim.finding(0, CRASHED))
    for _ in ("ready again", "claimed by another"):
        plan = sim.save(late)
        assert (plan.discarded, plan.changes) == ([late], False)
        if sim.job("a").state is JobState.READY:
            sim.start("a", OTHER_WORKER)
    assert sim.recorded == [("a", 1, 1, "abandoned")]


def test_a_late_result_does_not_wake_a_run_that_has_ended() -> None:
    """Not even where a completed dependency is still noted for a join that never ran."""
    sim = Simulator(flow("a, b, c => j", start="a b c"))
    for step in ("a", "b", "c"):
        sim.start(step)
    late = sim.finding(sim.slot_of("a"), Completed())
    sim.end("a")
    sim.end("b", FAILED)
    sim.end("c")
    assert status_of(sim) is RunStatus.FAILED
    plan = sim.save(late)
    assert (plan.changes, plan.status, plan.attention) == (False, RunStatus.FAILED, "failed")
    assert sim.jobs == {}


# -- snapshots, watchers -----------------------------------------------------------------------------------------------


def output(weight: int) -> Output:
    return Output("x" * weight, {})


def test_a_snapshot_is_due_when_outputs_outweigh_the_last_one() -> None:
    sim = Simulator(flow("a -> a", start="a"), may_snapshot=True)
    part = SNAPSHOT_FLOOR
    for _ in range(SNAPSHOT_FACTOR - 1):
        assert sim.end("a", Completed(output(part))).snapshot_seq is None
    plan = sim.end("a", Completed(output(part)))
    assert plan.snapshot_seq == SNAPSHOT_FACTOR, "after the attempt it takes in"
    assert sim.job("a").saw == sim.run.seq == SNAPSHOT_FACTOR + 1, "so that the next visit can start from it"
    assert sim.end("a", Completed(output(part))).snapshot_seq is None, "it counts from the snapshot on"


def test_one_large_output_is_not_written_a_second_time() -> None:
    """A snapshot of it alone would spare no reader anything; small ones after it do not change that."""
    sim = Simulator(flow("a -> a", start="a"), may_snapshot=True)
    large = 10 * SNAPSHOT_FACTOR * SNAPSHOT_FLOOR
    assert sim.end("a", Completed(output(large))).snapshot_seq is None
    for _ in range(20):
        assert sim.end("a", Completed(output(100))).snapshot_seq is None
    written = 1
    while sim.end("a", Completed(output(large))).snapshot_seq is None:
        written += 1
    assert written == SNAPSHOT_FACTOR - 1


def test_a_snapshot_waits_for_somebody_who_has_the_context() -> None:
    sim = Simulator(flow("a -> a", start="a"))
    heavy = Completed(output(SNAPSHOT_FLOOR))
    for _ in range(SNAPSHOT_FACTOR):
        assert sim.end("a", heavy).snapshot_seq is None
    sim.may_snapshot = True
    assert sim.end("a").snapshot_seq is not None


def test_a_run_that_has_ended_needs_no_snapshot() -> None:
    sim = Simulator(flow("a -> END"), may_snapshot=True)
    assert sim.end("a", Completed(output(SNAPSHOT_FACTOR * SNAPSHOT_FLOOR))).snapshot_seq is None


def test_watching_a_run_changes_nothing_else() -> None:
    sim = Simulator(flow("a -> b"))
    plan = plan_watch(sim.graph, sim.run)
    assert plan is not None
    assert plan.changes
    sim.apply(plan)
    assert sim.run.progress.watched
    assert (sim.run.status, sim.run.seq, sim.live) == (RunStatus.PENDING, 0, ["a"])
    assert plan_watch(sim.graph, sim.run) is None, "once is enough"
    sim.end("a")
    assert sim.run.progress.watched


def test_a_run_that_has_ended_cannot_be_watched() -> None:
    sim = Simulator(flow("a -> END"))
    sim.end("a")
    assert plan_watch(sim.graph, sim.run) is None


def test_a_cancellation_is_decided_from_all_jobs() -> None:
    sim = Simulator(flow("a -> END", "b -> END", start="a b"))
    with pytest.raises(NeedsMore):
        plan_cancel(sim.graph, sim.run, {0: sim.jobs[0]}, Facts(), actor=None, comment=None)
