"""Pauses and approvals: each rule as a story of one run."""

from __future__ import annotations

from typing import Final

import pytest

from squidmesh.definition import Step, StepKind
from squidmesh.errors import AlreadyVoted, IllegalMove, InvalidOption, NotWaiting
from squidmesh.planner.outcome import Abandoned, Broken, Elapsed, Failed, Output
from squidmesh.states import JobState, ParkedReason, RunStatus
from tests.property.simulator import NOW, Simulator
from tests.property.strategies import flow

FAILED: Final = Failed({"type": "Error", "message": "it broke"}, retryable=False)
CRASHED: Final = Abandoned({"type": "WorkerLost", "message": "gone"})
STOP: Final = Step(name="stop", kind=StepKind.PAUSE)


def status_of(sim: Simulator) -> RunStatus:
    return sim.run.status


def vote(name: str = "vote", *, output: str | None = None, **settings: float) -> Step:
    return Step(name=name, kind=StepKind.APPROVAL, output=output, settings=settings)


def late() -> Simulator:
    """A run at an approval whose time is over."""
    sim = Simulator(flow("vote -> b", "vote -timeout-> c", steps=(vote(deadline=60.0),)))
    sim.start("vote")
    return sim


def output_of(sim: Simulator) -> dict[str, object]:
    found = sim.attempts[-1].output
    assert found is not None
    return found.value


def test_a_pause_holds_the_run_up_until_it_is_unblocked() -> None:
    sim = Simulator(flow("a -> stop", "stop -> b", steps=(STOP,)))
    sim.end("a")
    assert (sim.run.status, sim.run.attention, sim.job("stop").reason) == (RunStatus.PAUSED, "paused", "pause")
    sim.unblock()
    assert (sim.run.status, sim.run.attention, sim.live) == (RunStatus.RUNNING, None, ["b"])
    assert sim.audited == [("paused", "stop"), ("resumed", "stop")]
    assert sim.recorded[-1] == ("stop", 1, 1, "completed")


def test_a_run_that_begins_with_a_gate_is_paused_and_says_so_at_once() -> None:
    sim = Simulator(flow("stop -> b", steps=(STOP,)))
    assert (sim.run.status, sim.run.attention, sim.audited) == (RunStatus.PAUSED, "paused", [("paused", "stop")])


def test_beside_a_gate_the_run_goes_on_and_still_wants_attention() -> None:
    sim = Simulator(flow("stop -> END", "a -> b", start="stop a", steps=(STOP,)))
    assert (sim.run.status, sim.run.attention) == (RunStatus.PENDING, "paused")
    sim.end("a")
    assert (sim.run.status, sim.run.attention) == (RunStatus.RUNNING, "paused")
    sim.end("b")
    assert status_of(sim) is RunStatus.PAUSED


def test_what_was_decided_is_the_output() -> None:
    sim = Simulator(flow("vote -> b", steps=(vote(output="review"),)))
    sim.review(actor={"id": 7})
    assert output_of(sim) == {"review": {"decision": "approved", "actor": {"id": 7}, "decided_at": NOW.isoformat()}}
    assert (sim.live, sim.audited[-1]) == (["b"], ("approved", "vote"))


@pytest.mark.parametrize(("edge", "live"), [("rejected", ["x"]), ("error", ["x"]), (None, [])])
def test_a_rejection_goes_its_own_way_or_that_of_errors_or_fails_the_run(edge: str | None, live: list[str]) -> None:
    edges = [f"vote -{edge}-> x"] if edge else []
    sim = Simulator(flow("vote -> b", *edges, steps=(vote(),)))
    sim.review(approve=False, actor="ada")
    assert (sim.live, sim.attempts[0].outcome) == (live, "rejected")
    if not live:
        assert sim.run.status is RunStatus.FAILED
        assert sim.run.error is not None
        assert (sim.run.error["type"], sim.run.error["actor"]) == ("Rejected", "ada")


def test_a_rejected_step_spoils_the_join_that_waits_for_it() -> None:
    sim = Simulator(flow("vote -rejected-> END", "vote, a => j", start="vote a", steps=(vote(),)))
    sim.end("a")
    sim.review(approve=False)
    assert (status_of(sim), sim.audited[-1]) == (RunStatus.COMPLETED, ("skipped", "j"))


def test_so_many_different_people_must_approve() -> None:
    sim = Simulator(flow("vote -> b", steps=(vote(approvers=2),)))
    sim.review(actor="ada")
    assert (sim.live, sim.audited[-1]) == (["vote"], ("voted", "vote"))
    with pytest.raises(AlreadyVoted, match="1 of 2"):
        sim.review(actor="ada")
    sim.review(actor={"name": "ada"})
    assert sim.live == ["b"]
    assert output_of(sim)["approvers"] == ["ada", {"name": "ada"}]


def test_one_rejection_is_enough_and_who_approved_may_change_their_mind() -> None:
    sim = Simulator(flow("vote -> b", "vote -rejected-> c", steps=(vote(approvers=3),)))
    sim.review(actor="ada")
    sim.review(actor="ada", approve=False)
    assert (sim.live, output_of(sim)["approvers"]) == (["c"], ["ada"])


def test_votes_count_for_their_visit_only() -> None:
    sim = Simulator(flow("vote -> a", "a -> vote", start="vote", steps=(vote(approvers=2),)))
    for actor in ("ada", "bob"):
        sim.review(actor=actor)
    sim.end("a")
    sim.review(actor="ada")
    assert (sim.live, sim.job("vote").visit) == (["vote"], 2)


def test_votes_stand_when_the_run_is_retried() -> None:
    sim = Simulator(flow("vote -> b", "a -> END", start="vote a", steps=(vote(approvers=2),)))
    sim.review(actor="ada")
    sim.end("a", FAILED)
    sim.retry()
    with pytest.raises(AlreadyVoted):
        sim.review(actor="ada")
    sim.review(actor="bob")
    assert "b" in sim.live


def test_what_was_rejected_is_decided_anew_when_the_run_is_retried() -> None:
    sim = Simulator(flow("vote -> b", steps=(vote(approvers=2),)))
    sim.review(actor="ada")
    sim.review(actor="bob", approve=False)
    sim.retry()
    assert (status_of(sim), sim.job("vote").visit) == (RunStatus.PAUSED, 2)
    sim.review(actor="ada")
    sim.review(actor="bob")
    assert sim.live == ["b"]


def test_nobody_decided_in_time() -> None:
    sim = Simulator(flow("vote -> b", "vote -timeout-> c", steps=(vote(deadline=60.0, output="review"),)))
    assert (sim.job("vote").state, status_of(sim)) == (JobState.SLEEPING, RunStatus.PAUSED)
    sim.end("vote", Elapsed())
    assert (sim.live, sim.attempts[-1].outcome) == (["c"], "timeout")
    assert output_of(sim) == {"review": {"decision": "timeout"}}
    with pytest.raises(NotWaiting):
        sim.review()


def test_a_decision_before_the_worker_has_told_that_time_is_over_counts() -> None:
    sim = late()
    told = sim.finding(sim.slot_of("vote"), Elapsed())
    sim.review()
    assert sim.live == ["b"]
    plan = sim.save(told)
    assert (plan.discarded, plan.changes) == ([told], False)


def test_a_deadline_without_a_way_on_fails_the_run() -> None:
    sim = Simulator(flow("vote -> b", steps=(vote(deadline=60.0),)))
    sim.end("vote", Elapsed())
    assert sim.run.error is not None
    assert (status_of(sim), sim.run.error["type"]) == (RunStatus.FAILED, "TimedOut")


def test_several_that_wait_must_be_told_apart() -> None:
    sim = Simulator(flow("v -> END", "w -> END", start="v w", steps=(vote("v"), vote("w"))))
    with pytest.raises(InvalidOption, match=r"\(v, w\); say which"):
        sim.review()
    with pytest.raises(InvalidOption, match="no step 'x'"):
        sim.review("x")
    sim.review("w")
    sim.review()
    assert status_of(sim) is RunStatus.COMPLETED


def test_what_does_not_wait_cannot_be_decided() -> None:
    sim = Simulator(flow("a -> vote", "vote -> stop", steps=(vote(), STOP)))
    with pytest.raises(NotWaiting):
        sim.review()
    sim.end("a")
    with pytest.raises(NotWaiting):
        sim.unblock()
    sim.review()
    with pytest.raises(NotWaiting):
        sim.review("vote")
    with pytest.raises(InvalidOption, match="only goes on"):
        sim.unblock(resolution="completed")
    sim.unblock()
    for ask in (sim.review, sim.unblock):
        with pytest.raises(IllegalMove):
            ask()


# -- something went wrong with a step ----------------------------------------------------------------------------------


def troubled() -> Simulator:
    """A run with one step that was quarantined and one that was interrupted, in this order."""
    pay = Step(name="pay", irreversible=True)
    sim = Simulator(flow("a -> b", "pay -> c", start="a pay", steps=(pay,)))
    sim.end("a", Broken({"message": "odd"}))
    sim.end("pay", CRASHED)
    return sim


def test_attention_is_that_of_a_trouble_that_is_left() -> None:
    sim = troubled()
    assert sim.run.attention == "interrupted"
    sim.unblock("pay", "rerun")
    assert sim.run.attention == "quarantined"
    sim.unblock("a")
    assert sim.run.attention is None


def test_what_became_of_an_interrupted_step_only_a_person_can_say() -> None:
    sim = troubled()
    with pytest.raises(InvalidOption, match="say which"):
        sim.unblock()
    with pytest.raises(InvalidOption, match="say what is to become of it"):
        sim.unblock("pay")
    with pytest.raises(InvalidOption, match="belongs to resolution='completed'"):
        sim.unblock("pay", "failed", Output("{}", {}))
    sim.unblock("pay", "completed", Output('{"paid": 1}', {"paid": 1}))
    assert (sim.live, output_of(sim)) == (["a", "c"], {"paid": 1})
    sim.unblock("a", "failed")
    assert sim.run.error is not None
    assert (status_of(sim), sim.run.error["type"]) == (RunStatus.FAILED, "ResolvedAsFailed")


def test_a_step_that_runs_again_has_its_crash_budget_again_and_starts_alone_if_it_must() -> None:
    sim = troubled()
    sim.unblock("pay", "rerun")
    job = sim.job("pay")
    assert (job.state, job.crashes, job.lane, job.attempt, job.reason) == (JobState.READY, 0, 1, 1, None)


def test_an_approval_that_was_quarantined_is_not_approved_by_unblocking() -> None:
    """Its time-out could not be decided; run again, it is timed out, and it can still be decided by those who may."""
    sim = late()
    sim.end("vote", Broken({"message": "odd"}))
    assert (sim.job("vote").reason, sim.run.attention) == (ParkedReason.QUARANTINED, "quarantined")
    other = sim.fork()
    sim.unblock()
    assert (sim.live, sim.job("vote").reason, sim.run.attention) == (["vote"], ParkedReason.APPROVAL, "paused")
    sim.end("vote", Elapsed())
    assert sim.live == ["c"]
    other.review()
    assert (other.live, other.run.attention) == (["b"], None)
