"""Going on from where a run failed: in place, and in a new run that knows results. Each rule as a story of one run."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import pytest

from squidmesh.definition import Definition, Options, Step, StepKind, Transition
from squidmesh.errors import IllegalMove, InvalidOption, NotRetryable
from squidmesh.planner.outcome import Abandoned, Completed, Elapsed, Failed, Output
from squidmesh.retry import Retry
from squidmesh.states import JobState, ParkedReason, RunStatus
from tests.property.simulator import Simulator
from tests.property.strategies import flow

FAILED: Final = Failed({"type": "Error", "message": "it broke"}, retryable=False)
BROKEN: Final = Failed({"type": "Error", "message": "it broke", "retryable": True})
CRASHED: Final = Abandoned({"type": "WorkerLost", "message": "gone"})


def status_of(sim: Simulator) -> RunStatus:
    return sim.run.status


def careful(name: str) -> Step:
    return Step(name=name, irreversible=True)


def twice(name: str) -> Step:
    return Step(name=name, options=Options(retry=Retry(max_attempts=2)))


# -- retry_run: what comes back ----------------------------------------------------------------------------------------


def test_what_failed_is_tried_again_with_what_it_saw() -> None:
    sim = Simulator(flow("a -> b", "b -> c"))
    sim.end("a")
    saw = sim.job("b").saw
    sim.end("b", FAILED)
    assert status_of(sim) is RunStatus.FAILED
    sim.retry()
    job = sim.job("b")
    assert (sim.run.status, sim.run.error, sim.run.attention) == (RunStatus.RETRYING, None, None)
    assert (job.visit, job.attempt, job.saw) == (1, 2, saw)
    sim.end("b")
    sim.end("c")
    assert status_of(sim) is RunStatus.COMPLETED
    assert sim.audited == [("retried", None)]
    assert sim.audits[0].metadata == {"steps": ["b"]}


def test_what_was_taken_away_comes_back_and_what_completed_late_leads_on() -> None:
    sim = Simulator(flow("late -> next", "bad, ready => both", start="bad late ready"))
    sim.start("late")
    sim.end("bad", FAILED)
    sim.end("late")
    sim.retry()
    assert sim.live == ["bad", "next", "ready"]
    sim.end("bad")
    sim.end("ready")
    assert sim.live == ["both", "next"], "the failure that is forgotten does not spoil the join"


def test_an_error_without_a_way_on_is_forgotten_also_where_the_step_completed() -> None:
    """An outcome that has no transition: the step runs anew, and may choose another."""
    sim = Simulator(flow("a, b => j", start="a b"))
    sim.end("b")
    sim.end("a", Completed(outcome="strange"))
    assert status_of(sim) is RunStatus.FAILED
    sim.retry()
    assert (sim.live, sim.job("a").visit) == (["a"], 2)
    sim.end("a")
    assert sim.live == ["j"]


def test_all_attempts_that_a_retry_allows_are_there_again() -> None:
    sim = Simulator(flow("a -> b", steps=(twice("a"),)))
    sim.end("a", BROKEN)
    sim.end("a", BROKEN)
    sim.retry()
    sim.end("a", BROKEN)
    assert (sim.run.status, sim.job("a").attempt) == (RunStatus.RETRYING, 4)
    sim.end("a", BROKEN)
    assert status_of(sim) is RunStatus.FAILED


def test_attempts_before_a_retry_count_for_that_visit_only() -> None:
    """The next visit of a loop has the attempts that its Retry allows, and no more."""
    sim = Simulator(flow("a -again-> a", start="a", steps=(twice("a"),)))
    sim.end("a", BROKEN)
    sim.end("a", BROKEN)
    sim.retry()
    sim.end("a", Completed(outcome="again"))
    assert sim.run.progress.retried == {}
    sim.end("a", BROKEN)
    sim.end("a", BROKEN)
    assert status_of(sim) is RunStatus.FAILED


def test_a_run_that_goes_on_has_its_deadline_again() -> None:
    """Also where nothing is live until its joins are decided: what executed at the deadline completed late."""
    sim = Simulator(replace(flow("a => j"), deadline=60.0))
    sim.start("a")
    sim.end("", Elapsed())
    sim.end("a")
    assert (sim.run.status, sim.jobs) == (RunStatus.FAILED, {})
    sim.retry()
    assert sim.live == ["", "j"]
    assert sim.run.progress.deadline


def test_a_run_that_completes_by_being_retried_leaves_no_deadline() -> None:
    """What executed at the deadline leads to a wait for a signal that came already, and so to the end."""
    sim = Simulator(replace(flow("a -> go", steps=(go(),)), deadline=60.0))
    sim.start("a")
    sim.signal("go")
    sim.end("", Elapsed())
    sim.end("a")
    sim.retry()
    assert (sim.run.status, sim.jobs, sim.run.progress.deadline) == (RunStatus.COMPLETED, {}, False)


def go(**settings: float) -> Step:
    return Step(name="go", kind=StepKind.SIGNAL, settings={"signal": "go", **settings})


# -- retry_run: what nobody can know -----------------------------------------------------------------------------------


def test_an_irreversible_step_that_was_cut_off_while_the_run_failed_asks_a_person() -> None:
    sim = Simulator(flow("bad -> END", "pay -> END", start="bad pay", steps=(careful("pay"),)))
    sim.start("pay")
    sim.end("bad", FAILED)
    sim.end("pay", CRASHED)
    sim.retry()
    assert (sim.job("pay").state, sim.job("pay").reason) == (JobState.PARKED, ParkedReason.INTERRUPTED)
    assert sim.run.attention == "interrupted"


def test_an_interrupted_step_that_was_taken_away_asks_a_person_again() -> None:
    """It waited for one when a sibling failed; being taken away does not make it known what it did."""
    sim = Simulator(flow("bad -> END", "pay -> END", start="bad pay", steps=(careful("pay"),)))
    sim.end("pay", CRASHED)
    sim.end("bad", FAILED)
    for _ in range(2):
        sim.retry()
        assert (sim.job("pay").state, sim.job("pay").reason) == (JobState.PARKED, ParkedReason.INTERRUPTED)
        sim.end("bad", FAILED)
    sim.retry()
    sim.unblock("pay", "completed")
    sim.end("bad")
    assert status_of(sim) is RunStatus.COMPLETED


def test_a_quarantined_step_that_was_taken_away_is_quarantined_again() -> None:
    """Whoever retries the run does not ask for another worker to die."""
    sim = Simulator(flow("bad -> END", "kills -> END", start="bad kills"))
    while sim.job("kills").state is not JobState.PARKED:
        sim.end("kills", CRASHED)
    sim.end("bad", FAILED)
    sim.retry()
    assert (sim.job("kills").reason, sim.run.attention) == (ParkedReason.QUARANTINED, "quarantined")


def test_an_irreversible_step_that_was_not_waited_for_asks_a_person() -> None:
    """Cancelled with force while the run was failing, it may have done anything, and may be at it still."""
    sim = Simulator(flow("bad -> END", "pay -> END", start="bad pay", steps=(careful("pay"),)))
    sim.start("pay")
    sim.end("bad", FAILED)
    sim.cancel(force=True)
    assert sim.recorded[-1] == ("pay", 1, 1, "abandoned")
    assert status_of(sim) is RunStatus.FAILED
    sim.retry()
    assert sim.job("pay").reason == ParkedReason.INTERRUPTED


# -- retry_run: what cannot go on --------------------------------------------------------------------------------------


def test_only_a_failed_run_can_be_retried() -> None:
    sim = Simulator(flow("a -> b"))
    with pytest.raises(IllegalMove):
        sim.retry()
    sim.cancel()
    with pytest.raises(IllegalMove):
        sim.retry()


def test_a_run_whose_steps_were_undone_cannot_be_retried() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", compensate="undo"),)))
    sim.end("a")
    sim.end("b", FAILED)
    sim.end("a")
    assert status_of(sim) is RunStatus.FAILED
    with pytest.raises(NotRetryable, match="undone"):
        sim.retry()


def test_a_run_that_reached_a_step_too_often_cannot_be_retried() -> None:
    sim = Simulator(flow("a -> a", start="a", steps=(Step(name="a", visit_limit=1),)))
    sim.end("a")
    with pytest.raises(NotRetryable, match="another visit"):
        sim.retry()


def test_a_run_that_would_fail_at_once_again_is_not_retried() -> None:
    """What a wait until an instant looks for is not there, and will not be; nothing is changed."""
    until = Step(name="until", kind=StepKind.WAIT, settings={"until": "at", "key": 1})
    sim = Simulator(flow("a -> until", "b -> END", start="a b", steps=(until,)))
    sim.end("a")
    before = sim.run, dict(sim.jobs)
    assert status_of(sim) is RunStatus.FAILED
    with pytest.raises(NotRetryable, match="at once"):
        sim.retry()
    assert (sim.run, sim.jobs) == before


# -- replay_run(from_step=) --------------------------------------------------------------------------------------------


def chain() -> Simulator:
    sim = Simulator(flow("a -> b", "b -> c", "side -> after", start="a side", steps=(careful("c"),)))
    for step in ("a", "b", "side", "c"):
        sim.end(step, Completed(Output(f'{{"{step}": 1}}', {step: 1})))
    sim.end("after", FAILED)
    return sim


def test_what_was_done_before_a_step_and_beside_it_is_taken_over() -> None:
    source = chain()
    sim, replay = source.replay("b")
    assert (sim.live, replay.copied) == (["after", "b"], ("a", "side"))
    assert [a.kind for a in sim.history if hasattr(a, "kind")] == ["copied", "copied"]
    assert (sim.run.status, sim.audited) == (RunStatus.PENDING, [("replayed", "b")])
    assert sim.job("b").saw == sim.run.seq, "it sees what was taken over"
    for step in ("b", "c", "after"):
        sim.end(step)
    assert status_of(sim) is RunStatus.COMPLETED


def test_what_would_be_done_twice_is_said() -> None:
    assert chain().replay("b")[1].repeated == ("b", "c")
    assert chain().replay("after")[1].repeated == ()


def test_what_was_interrupted_may_be_done_twice_though_it_was_taken_away_then() -> None:
    sim = Simulator(flow("a -> b", "a -> b", "pay -> END", start="a pay", steps=(careful("pay"),)))
    sim.end("a")
    sim.end("pay", CRASHED)
    sim.end("b", FAILED)
    assert sim.recorded[-1] == ("pay", 1, 1, "cancelled")
    assert sim.replay("b")[1].repeated == ("pay",)


def test_a_step_that_the_source_did_not_reach_cannot_be_gone_on_from() -> None:
    with pytest.raises(InvalidOption, match="no step 'nowhere'"):
        chain().replay("nowhere")
    sim = Simulator(flow("a -> b", "b -> c"))
    sim.end("a", FAILED)
    with pytest.raises(InvalidOption, match="begins with: a"):
        sim.replay("c")


def test_what_was_undone_cannot_be_taken_over() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", compensate="undo"),)))
    sim.end("a")
    sim.end("b", FAILED)
    sim.end("a")
    with pytest.raises(InvalidOption, match="undone"):
        sim.replay("b")
    assert sim.replay("a")[0].live == ["a"]


def test_a_loop_goes_on_at_its_latest_round() -> None:
    sim = Simulator(flow("a -> b", "b -again-> a", start="a"))
    for step, outcome in (("a", "ok"), ("b", "again"), ("a", "ok")):
        sim.end(step, Completed(outcome=outcome))
    sim.end("b", FAILED)
    again, replay = sim.replay("b")
    assert (again.live, again.job("b").visit, replay.copied) == (["b"], 2, ("a", "b"))


def test_a_failure_that_was_dealt_with_is_taken_over() -> None:
    sim = Simulator(flow("a -error-> mend", "mend -> c"))
    for step, ending in (("a", FAILED), ("mend", Completed()), ("c", FAILED)):
        sim.end(step, ending)
    again, replay = sim.replay("c")
    assert (again.live, replay.copied) == (["c"], ("a", "mend"))


def test_todays_graph_decides() -> None:
    source = Simulator(flow("a -> b", "b -> c"))
    source.end("a")
    source.end("b", FAILED)
    today = Definition("story", (Step(name="a"), Step(name="new")), (Transition("a", "ok", "new"),))
    assert source.replay("new", today)[0].live == ["new"]
