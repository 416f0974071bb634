"""Why a run is where it is: each reason as a story of one run, with what is said of it and what may be done."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from squidmesh.definition import Options, Step, StepKind
from squidmesh.explanation import Reason
from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.explain import MOST_TOLD, explain
from squidmesh.planner.outcome import Abandoned, Broken, Deferred, Elapsed, Failed, Unknown
from squidmesh.planner.sight import MOST_AHEAD, SeenMeter, SeenWorker
from squidmesh.records import DEADLINE_SLOT, Lane
from squidmesh.retry import NEVER, Constant, Retry
from squidmesh.states import JobState, RunStatus
from tests.docs_kit import DOCS, Page, code_in
from tests.property.sights import explained, sight_of
from tests.property.simulator import NOW, WORKER, Simulator
from tests.property.strategies import flow

if TYPE_CHECKING:
    from squidmesh.explanation import Explanation

ERROR: Final = {"type": "ConnectionError", "message": "the bank is closed."}
FAILED: Final = Failed(ERROR, retryable=False)
DIED: Final = Abandoned({"type": "WorkerDied", "message": "worker 7 on host-1 was declared dead"})

FIVE = Retry(max_attempts=5, backoff=Constant(60))
VOTE = Step(name="vote", kind=StepKind.APPROVAL, settings={"approvers": 2, "deadline": 300.0})
PAUSE = Step(name="look", kind=StepKind.PAUSE)
PAID = Step(name="paid", kind=StepKind.SIGNAL, settings={"signal": "paid", "timeout": 300.0})
PAY = Step(name="pay", irreversible=True)
BOOK = Step(name="book", compensate="unbook", options=Options(compensate_retry=NEVER))


DOCUMENTED: Final = {
    code_in(row[0])[0]: {*code_in(row[-1]), "attempt", "visit", "compensation", "replay", "more"}
    for table in Page(DOCS / "explain.md").tables()
    if table[0] == ["reason", "what it means", "what to do", "details"]
    for row in table[1:]
}
"""For each reason the details that its page has."""


def said(why: Explanation) -> tuple[Reason, str | None]:
    """The main reason and its step; all details and evidence are JSON, and the details are documented."""
    json.dumps([why.details, why.evidence, [a.arguments for a in why.next_actions]])
    json.dumps([[cause.details, cause.evidence] for cause in why.also])
    for cause in why.causes:
        assert set(cause.details) <= DOCUMENTED[cause.reason], cause.reason
    return why.reason, why.step


def actions(why: Explanation) -> list[tuple[str, dict[str, Any]]]:
    return [(action.name, action.arguments) for action in why.next_actions]


# -- it moves by itself ------------------------------------------------------------------------------------------------


def test_pending_dispatch() -> None:
    why = explained(Simulator(flow("a -> b")))
    assert said(why) == (Reason.PENDING_DISPATCH, "a")
    assert why.summary == ("The run was started 2026-03-01 08:00:00 UTC, and step 'a' is next in the queue 'default'.")
    assert (why.status, why.details["workers"]) == (RunStatus.PENDING, 1)
    assert why.evidence["run"]["status"] == "pending"
    assert why.evidence["job"]["state"] == "ready"
    assert actions(why) == [("cancel_run", {})]


@pytest.mark.parametrize(
    ("ahead", "words", "exact"),
    [(1, "behind 1 job of", True), (17, "behind 17 jobs of", True), (MOST_AHEAD, "behind 1000 or more jobs of", False)],
)
def test_queued(ahead: int, words: str, exact: bool) -> None:
    why = explained(Simulator(flow("a -> b")), ahead=ahead)
    assert said(why) == (Reason.QUEUED, "a")
    assert words in why.summary
    assert (why.details["ahead"], why.details["ahead_is_all"]) == (ahead, exact)


CHARGE: Final = "orders/charge:account=a"
LIMITED: Final = MeterTable({"orders/charge:account": 5, "@mail": 20}, {}, {"mail": "@mail"})
RATED: Final = MeterTable({}, {"orders/charge:account": Rate(6, per=60)})


def limited(**changes: Any) -> SeenMeter:
    return SeenMeter(**{"kind": "limit", "name": CHARGE, "held": 5, **changes})


def rated(**changes: Any) -> SeenMeter:
    return SeenMeter(**{"kind": "rate", "name": CHARGE, "tokens": 0.5, "refilled_ago": 1.0, **changes})


def test_waiting_for_limit() -> None:
    why = explained(Simulator(flow("a -> b")), known=LIMITED, meters=(limited(),), ahead=3)
    assert said(why) == (Reason.WAITING_FOR_LIMIT, "a")
    assert why.summary == (
        "Step 'a' is ready, but the limit 'orders/charge:account=a' is taken: 5 of 5 are at work; "
        "behind 3 jobs that share 'orders/charge:account=a'."
    )
    assert (why.details["meter"], why.details["held"], why.details["most"], why.details["ahead"]) == (CHARGE, 5, 5, 3)
    assert why.evidence["meters"] == [
        {"kind": "limit", "name": CHARGE, "held": 5, "most": 5, "paused_until": None},
    ]


def test_waiting_for_the_limit_of_the_queue() -> None:
    crowded = SeenMeter(kind="queue", name="@mail", held=20)
    why = explained(Simulator(flow("a -> b")), known=LIMITED, meters=(limited(held=4), crowded))
    assert said(why) == (Reason.WAITING_FOR_LIMIT, "a")
    assert why.summary == "Step 'a' is ready, but the limit of the queue 'mail' is taken: 20 of 20 are at work."


def test_waiting_for_rate() -> None:
    why = explained(Simulator(flow("a -> b")), known=RATED, meters=(rated(),), ahead=1)
    assert said(why) == (Reason.WAITING_FOR_RATE, "a")
    assert why.summary == (
        "Step 'a' is ready, but the rate 'orders/charge:account=a' has no token: it has the next one at "
        "2026-03-01 09:00:04 UTC (in 4 s); behind 1 job that share 'orders/charge:account=a'."
    )
    assert (why.details["meter"], why.details["due"]) == (CHARGE, "2026-03-01T09:00:04+00:00")
    assert why.evidence["meters"][0]["tokens"] == pytest.approx(0.6)


@pytest.mark.parametrize(
    "meter",
    [rated(tokens=None, refilled_ago=None), rated(refilled_ago=5.0), rated(tokens=1.0, refilled_ago=-60.0)],
    ids=["nobody has taken any", "one has come back", "the clock was set back"],
)
def test_a_rate_that_has_a_token_keeps_nothing_waiting(meter: SeenMeter) -> None:
    why = explained(Simulator(flow("a -> b")), known=RATED, meters=(meter,))
    assert said(why) == (Reason.PENDING_DISPATCH, "a")
    assert why.summary.endswith("step 'a' is next of those that share 'orders/charge:account=a'.")
    assert said(explained(Simulator(flow("a -> b")), known=RATED, meters=(meter,), ahead=9))[0] is Reason.QUEUED


def test_key_paused_whatever_else_keeps_it_and_whether_or_not_the_code_is_here() -> None:
    paused = limited(paused_until=NOW + timedelta(minutes=5))
    later = SeenMeter(kind="queue", name="@mail", paused_until=NOW + timedelta(minutes=2))
    for known in (LIMITED, MeterTable()):
        why = explained(Simulator(flow("a -> b")), known=known, meters=(paused, later))
        assert said(why) == (Reason.KEY_PAUSED, "a")
        assert why.summary.startswith(
            "Step 'a' is ready, but 'orders/charge:account=a' is paused until 2026-03-01 09:05:00 UTC (for 5 min)"
        )
        assert (why.details["meter"], why.details["paused_until"]) == (CHARGE, "2026-03-01T09:05:00+00:00")
    over = limited(paused_until=NOW - timedelta(seconds=1), held=0)
    assert said(explained(Simulator(flow("a -> b")), known=LIMITED, meters=(over,)))[0] is Reason.PENDING_DISPATCH


def test_where_this_process_does_not_know_what_a_limit_allows_nothing_is_guessed() -> None:
    why = explained(Simulator(flow("a -> b")), meters=(limited(held=500), rated(name="api")), ahead=2)
    assert said(why) == (Reason.QUEUED, "a")
    assert why.summary == (
        "Step 'a' is ready, behind 2 jobs that share 'orders/charge:account=a' and 'api'; how much that allows is known "
        "to its code only."
    )
    assert why.details["unknown"] == [CHARGE, "api"]
    assert [(m.get("held"), m.get("most"), m.get("tokens")) for m in why.evidence["meters"]] == [
        (500, None, None),
        (None, None, None),
    ]


def test_what_was_rescued_says_what_it_shares() -> None:
    sim = Simulator(flow("a -> b"))
    sim.start("a")
    sim.end("a", DIED)
    why = explained(sim, known=LIMITED, meters=(limited(),))
    assert said(why) == (Reason.RESCUED, "a")
    assert "the limit 'orders/charge:account=a' is taken: 5 of 5 are at work; next of those that share" in why.summary


def test_step_scheduled() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a")
    why = explained(sim)
    assert said(why) == (Reason.STEP_SCHEDULED, "b")
    assert why.summary == "Step 'b' is ready, next in the queue 'default'."


def test_step_running() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", options=Options(retry=FIVE)),)))
    sim.start("a")
    why = explained(sim)
    assert said(why) == (Reason.STEP_RUNNING, "a")
    assert why.status is RunStatus.RUNNING
    assert "with the worker on host-1 (pid 4711), attempt 1, live since 2026-03-01 08:30:00 UTC" in why.summary
    assert (why.details["worker"], why.details["max_attempts"]) == (str(WORKER), 5)
    assert why.evidence["worker"]["alive"] is True


def test_sleeping() -> None:
    sim = Simulator(flow("rest -> b", steps=(Step(name="rest", kind=StepKind.WAIT, settings={"seconds": 300.0}),)))
    why = explained(sim)
    assert said(why) == (Reason.SLEEPING, "rest")
    assert why.summary == "Step 'rest' waits, and goes on at 2026-03-01 09:05:00 UTC (in 5 min)."
    assert why.details["due"] == "2026-03-01T09:05:00+00:00"


def test_what_sleeps_while_no_worker_is_alive_says_so() -> None:
    sim = Simulator(flow("rest -> b", steps=(Step(name="rest", kind=StepKind.WAIT, settings={"seconds": 300.0}),)))
    assert explained(sim, servers=0).summary.endswith("(in 5 min), and no live worker serves its queue now.")
    assert said(explained(sim, servers=0, run_at=NOW)) == (Reason.NO_WORKER_FOR_QUEUE, "rest"), "its time has come"


def test_delayed_start() -> None:
    sim = Simulator(flow("a -> b"))
    sim.jobs[0] = replace(sim.jobs[0], state=JobState.SLEEPING)
    why = explained(sim)
    assert said(why) == (Reason.DELAYED_START, "a")
    assert why.summary.startswith("The run begins with step 'a' at 2026-03-01 09:05:00 UTC")


def test_deferred() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Deferred(30.0, "the file is not there"))
    why = explained(sim)
    assert said(why) == (Reason.DEFERRED, "a")
    assert "asked to come back later (the file is not there)" in why.summary
    assert (why.details["said"], why.details["defers"]) == ("the file is not there", 1)


def test_waiting_for_dependencies_is_told_beside_what_they_wait_for() -> None:
    sim = Simulator(flow("a, b, c => last", start="a b c"))
    sim.end("a")
    sim.start("b")
    why = explained(sim)
    assert said(why) == (Reason.STEP_RUNNING, "b")
    join = why.also[-1]
    assert (join.reason, join.step, join.summary) == (
        Reason.WAITING_FOR_DEPENDENCIES,
        "last",
        "step 'last' waits for 'b', 'c'",
    )
    assert join.details["dependency_statuses"] == {"a": "completed", "b": "live", "c": "live"}


# -- people and the world outside --------------------------------------------------------------------------------------


def test_waiting_for_signal() -> None:
    sim = Simulator(flow("paid -> b", steps=(PAID,)))
    why = explained(sim)
    assert said(why) == (Reason.WAITING_FOR_SIGNAL, "paid")
    assert why.summary == (
        "Step 'paid' waits since 2026-03-01 08:30:00 UTC for the signal 'paid'; "
        "if it does not come, the run fails at 2026-03-01 09:05:00 UTC (in 5 min)."
    )
    assert (why.details["signal"], why.details["timeout_at"]) == ("paid", "2026-03-01T09:05:00+00:00")
    assert actions(why) == [("send_signal", {"name": "paid"}), ("cancel_run", {})]
    assert actions(explained(sim, registered=False)) == [("cancel_run", {})], "nobody here can judge its payload"


def test_a_time_that_is_up_is_noticed_by_a_worker_only() -> None:
    sim = Simulator(flow("paid -> b", steps=(PAID,)))
    sim.wake(0)
    assert "its time is up, which a worker will notice" in explained(sim).summary
    assert "its time is up, and no live worker serves its queue" in explained(sim, servers=0).summary


def test_paused_for_approval() -> None:
    sim = Simulator(flow("vote -> b", "vote -timeout-> late", steps=(VOTE,)))
    why = explained(sim)
    assert said(why) == (Reason.PAUSED_FOR_APPROVAL, "vote")
    assert "and has 0 of 2; if nobody decides, it goes on to 'late' at 2026-03-01 09:05:00 UTC" in why.summary
    assert (
        why.next_actions[0].why == "approve 'vote': one of 2 approvals that are missing, by somebody who has not voted"
    )
    assert actions(why)[:2] == [("approve_run", {"step": "vote"}), ("reject_run", {"step": "vote"})]
    assert why.next_actions[0].needs == ("actor",)
    assert why.details["targets"] == {"ok": "b", "rejected": None}

    sim.review("vote", {"name": "ann"})
    why = explained(sim)
    assert (why.details["approvals"], why.details["needed"], why.details["approved_by"]) == (1, 2, [{"name": "ann"}])
    assert why.next_actions[0].why.startswith("approve 'vote': the last approval")
    assert why.next_actions[1].why == "reject 'vote': the run fails"


def test_votes_of_an_earlier_visit_do_not_count() -> None:
    sim = Simulator(flow("vote -> a", "a -> vote", "vote -rejected-> a", start="vote", steps=(VOTE,)))
    sim.review("vote", "ann")
    sim.review("vote", "bob", approve=False)
    sim.end("a")
    assert explained(sim).details["approvals"] == 0


def test_paused_for_manual_action() -> None:
    why = explained(Simulator(flow("look -> b", steps=(PAUSE,))))
    assert said(why) == (Reason.PAUSED_FOR_MANUAL_ACTION, "look")
    assert why.status is RunStatus.PAUSED
    assert actions(why) == [("unblock_run", {"step": "look"}), ("cancel_run", {})]


def test_quarantined_by_crashes() -> None:
    sim = Simulator(flow("a -> b"))
    for _ in range(4):
        sim.end("a", DIED)
    why = explained(sim)
    assert said(why) == (Reason.QUARANTINED, "a")
    assert why.summary == (
        "Step 'a' is set aside, because workers died with it (WorkerDied: worker 7 on host-1 was declared dead)."
    )
    assert why.evidence["attempt"]["status"] == "abandoned"
    assert why.details["crashes"] == 3
    assert [a for n, a in actions(why) if n == "unblock_run"] == [
        {"step": "a", "resolution": resolution} for resolution in ("rerun", "completed", "failed")
    ]


def test_quarantined_because_it_could_not_be_stored() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Broken({"type": "DataError", "message": "no"}))
    why = explained(sim)
    assert said(why) == (Reason.QUARANTINED, "a")
    assert "what happened to it could not be decided or stored (DataError: no)" in why.summary


def test_interrupted() -> None:
    sim = Simulator(flow("pay -> b", steps=(PAY,)))
    sim.end("pay", DIED)
    why = explained(sim)
    assert said(why) == (Reason.INTERRUPTED, "pay")
    assert "cannot be undone, and was cut off in the middle (WorkerDied:" in why.summary
    assert why.details["last_error"]["type"] == "WorkerDied"
    assert actions(why)[0] == ("unblock_run", {"step": "pay", "resolution": "rerun"})


# -- nothing will move it by itself ------------------------------------------------------------------------------------


def test_no_worker_for_queue() -> None:
    why = explained(Simulator(flow("a -> b", steps=(Step(name="a", options=Options(queue="mail")),))), servers=0)
    assert said(why) == (Reason.NO_WORKER_FOR_QUEUE, "a")
    assert why.summary == "No live worker serves the queue 'mail' of step 'a': start one."
    assert (why.details["queue"], why.details["workers"], why.details["alive"]) == ("mail", 0, 1)


def test_no_worker_knows_step() -> None:
    sim = Simulator(flow("a -> b"))
    for parked in (False, True):
        if parked:
            sim.end("a", Unknown())
        why = explained(sim, servers=2, knowing=0)
        assert said(why) == (Reason.NO_WORKER_KNOWS_STEP, "a")
        assert why.summary == (
            "2 live workers serve the queue 'default', and none has code for step 'a' of story: deploy one that has."
        )
        assert why.details["knows"] == "story/step/a"
    assert said(explained(sim)) == (Reason.STEP_SCHEDULED, "a"), "it is parked, and somebody knows it by now"


@pytest.mark.parametrize("kind", [StepKind.LOG, StepKind.WAIT])
def test_what_needs_no_code_is_done_by_any_worker(kind: StepKind) -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", kind=kind, settings={"seconds": 0.0}),)))
    assert explained(sim, knowing=0).reason is Reason.PENDING_DISPATCH


# -- trouble -----------------------------------------------------------------------------------------------------------


def test_waiting_for_retry() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", options=Options(retry=FIVE)),)))
    sim.end("a", Failed(ERROR))
    why = explained(sim)
    assert said(why) == (Reason.WAITING_FOR_RETRY, "a")
    assert why.summary == (
        "Step 'a' failed (ConnectionError: the bank is closed); attempt 2 of 5 follows at 2026-03-01 09:05:00 UTC "
        "(in 5 min)."
    )
    assert (why.details["next_attempt"], why.details["max_attempts"], why.details["last_error"]) == (2, 5, ERROR)


def test_a_long_error_is_cut_in_the_sentence_and_whole_in_the_details() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", options=Options(retry=FIVE)),)))
    sim.end("a", Failed({"type": "E", "message": "no\n" * 1000}))
    why = explained(sim)
    assert len(why.summary) < 400
    assert "\n" not in why.summary
    assert len(why.details["last_error"]["message"]) == 3000


def test_rescued() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", DIED)
    why = explained(sim, ahead=2)
    assert said(why) == (Reason.RESCUED, "a")
    assert "is to run again, alone and not beside others: behind 2 jobs" in why.summary
    assert sim.job("a").lane is Lane.SUSPECT
    assert (why.details["crashes"], why.details["last_error"]["type"]) == (0, "WorkerDied")


@pytest.mark.parametrize(
    ("worker", "words"),
    [
        (
            SeenWorker(id=WORKER, host="host-1", pid=1, alive=False, late=90.0),
            "on host-1 that is lost, whose lease ended 90 s",
        ),
        (SeenWorker(id=WORKER, host="", pid=0, alive=False, late=None), "a worker that is lost: another"),
    ],
)
def test_worker_lost(worker: SeenWorker, words: str) -> None:
    sim = Simulator(flow("a -> b"))
    sim.start("a")
    why = explained(sim, worker=worker)
    assert said(why) == (Reason.WORKER_LOST, "a")
    assert words in why.summary
    nobody = explain(sim.graph, replace(sight_of(sim, worker=worker), workers=0), registered=True, known=MeterTable())
    assert nobody.summary.endswith("nobody rescues it, for no worker is alive; start one.")


def test_inconsistent() -> None:
    sim = Simulator(flow("a -> b"))
    sim.jobs.clear()
    why = explained(sim)
    assert said(why) == (Reason.INCONSISTENT, None)
    assert why.summary == "The run's state counts 1 live jobs, and there are 0; somebody has changed rows by hand."


# -- the run is ending -------------------------------------------------------------------------------------------------


def test_failing() -> None:
    sim = Simulator(flow("a -> c", "b -> d", start="a b"))
    sim.start("b")
    sim.end("a", FAILED)
    why = explained(sim)
    assert said(why) == (Reason.FAILING, "a")
    assert why.summary == (
        "The run fails (ConnectionError: the bank is closed) and waits for what still executes: 'b'."
    )
    assert (why.evidence["attempt"]["step"], why.details["waiting_on"]) == ("a", ["b"])
    assert [cause.reason for cause in why.also] == [Reason.STEP_RUNNING]
    assert actions(why) == [("cancel_run", {"force": True})]


def test_cancelling() -> None:
    sim = Simulator(flow("a -> b"))
    sim.start("a")
    sim.cancel({"name": "Ann"}, "by mistake")
    why = explained(sim)
    assert said(why) == (Reason.CANCELLING, None)
    assert why.summary == "The run was cancelled by Ann (by mistake) and waits for what still executes: 'a'."
    assert why.evidence["audit"]["actor"] == {"name": "Ann"}
    assert actions(why) == [("cancel_run", {"force": True})]


def test_compensating() -> None:
    sim = Simulator(flow("book -> ride", "ride -> fail", steps=(BOOK, replace(BOOK, name="ride"))))
    sim.end("book")
    sim.end("ride")
    sim.end("fail", FAILED)
    sim.end("ride")
    sim.start("book")
    why = explained(sim)
    assert said(why) == (Reason.COMPENSATING, "book")
    assert "because it failed (ConnectionError: the bank is closed): 1 step undone, now 'book'" in why.summary
    assert (why.details["undone"], why.details["left"], why.details["now"]) == (1, 0, ["book"])
    assert why.also[0].summary.startswith("undoing of step 'book' is with the worker on host-1")
    assert why.also[0].details["compensation"] is True
    assert actions(why) == []


def test_a_compensation_that_no_worker_knows_comes_before_that_the_run_is_compensating() -> None:
    sim = Simulator(flow("book -> b", steps=(BOOK,)))
    sim.end("book")
    sim.cancel(compensate=True)
    why = explained(sim, knowing=0)
    assert said(why) == (Reason.NO_WORKER_KNOWS_STEP, "book")
    assert why.details["knows"] == "story/compensation/book"
    assert [cause.reason for cause in why.also] == [Reason.COMPENSATING]
    assert "because it was cancelled" in why.also[0].summary


def test_a_compensation_that_kills_workers_may_be_resolved() -> None:
    sim = Simulator(flow("book -> fail", steps=(BOOK,)))
    sim.end("book")
    sim.end("fail", FAILED)
    for _ in range(4):
        sim.end("book", DIED)
    why = explained(sim)
    assert said(why) == (Reason.QUARANTINED, "book")
    assert {name for name, _ in actions(why)} == {"unblock_run"}


# -- it is over --------------------------------------------------------------------------------------------------------


def test_completed() -> None:
    sim = Simulator(flow("a -> END"))
    sim.end("a")
    why = explained(sim)
    assert said(why) == (Reason.COMPLETED, None)
    assert why.summary == "The run completed 2026-03-01 09:00:00 UTC."
    assert actions(why) == [("replay_run", {})]
    assert why.details["replay"] == {"allowed": True}
    assert actions(explained(sim, registered=False)) == []


def test_a_replay_that_repeats_what_cannot_be_undone_must_be_meant() -> None:
    sim = Simulator(flow("pay -> END", steps=(PAY,)))
    sim.end("pay")
    why = explained(sim)
    assert actions(why) == [("replay_run", {"allow_irreversible": True})]
    assert why.next_actions[0].why.endswith("which does again what cannot be undone: pay")
    assert why.details["replay"] == {"allowed": False, "needs": "allow_irreversible", "because_of": ["pay"]}


def test_cancelled() -> None:
    sim = Simulator(flow("book -> b", steps=(BOOK,)))
    sim.end("book")
    assert ("cancel_run", {"compensate": True}) in actions(explained(sim))
    sim.cancel("ann", compensate=True)
    sim.end("book")
    why = explained(sim)
    assert said(why) == (Reason.CANCELLED, None)
    assert why.summary == "The run was cancelled 2026-03-01 09:00:00 UTC by ann; 1 step undone."


def test_step_failed() -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", FAILED)
    why = explained(sim)
    assert said(why) == (Reason.STEP_FAILED, "a")
    assert why.summary == ("The run failed at step 'a' 2026-03-01 09:00:00 UTC: ConnectionError: the bank is closed.")
    assert actions(why) == [("retry_run", {}), ("replay_run", {})]
    assert (why.details["attempt"], why.evidence["attempt"]["status"]) == (1, "failed")


def test_retry_exhausted() -> None:
    sim = Simulator(flow("a -> b", steps=(Step(name="a", options=Options(retry=Retry(max_attempts=2))),)))
    sim.end("a", Failed(ERROR))
    sim.end("a", Failed(ERROR))
    why = explained(sim)
    assert said(why) == (Reason.RETRY_EXHAUSTED, "a")
    assert "2 attempts at step 'a' failed (ConnectionError: the bank is closed)" in why.summary
    assert (why.details["attempt"], why.details["max_attempts"]) == (2, 2)
    sim.retry()
    sim.end("a", Failed(ERROR))
    sim.end("a", Failed({**ERROR, "retryable": False}, retryable=False))
    assert explained(sim).reason is Reason.STEP_FAILED, "it gave up at once, whatever attempts it had made"


def test_rejected() -> None:
    sim = Simulator(flow("vote -> b", steps=(replace(VOTE, settings={}),)))
    sim.review("vote", {"name": "Ann"}, approve=False)
    why = explained(sim)
    assert said(why) == (Reason.REJECTED, "vote")
    assert why.summary == "The run failed 2026-03-01 09:00:00 UTC, because step 'vote' was rejected by Ann."
    assert why.details["actor"] == {"name": "Ann"}


@pytest.mark.parametrize(("step", "words"), [(VOTE, "nobody decided"), (PAID, "the signal 'paid' did not come")])
def test_timed_out(step: Step, words: str) -> None:
    sim = Simulator(flow(f"{step.name} -> b", steps=(step,)))
    sim.end(step.name, Elapsed())
    why = explained(sim)
    assert said(why) == (Reason.TIMED_OUT, step.name)
    assert f"because {words} in time at step '{step.name}'" in why.summary


def test_deadline_exceeded() -> None:
    sim = Simulator(replace(flow("a -> b"), deadline=60.0))
    assert explained(sim).evidence["run"]["deadline"] == "2026-03-01T09:05:00+00:00"
    sim.wake(DEADLINE_SLOT)
    sim.claim(DEADLINE_SLOT)
    sim.save(sim.finding(DEADLINE_SLOT, Elapsed()))
    why = explained(sim)
    assert said(why) == (Reason.DEADLINE_EXCEEDED, None)
    assert "attempt" not in why.evidence, "what was taken away then is not what made it fail"
    assert actions(why)[0] == ("retry_run", {})


@pytest.mark.parametrize("type_", ["DeadlineExceeded", "TimedOut", "Rejected"])
def test_an_exception_of_the_users_is_not_taken_for_ours(type_: str) -> None:
    sim = Simulator(flow("a -> b"))
    sim.end("a", Failed({"type": type_, "message": "no"}))
    assert explained(sim).reason is Reason.STEP_FAILED


def test_not_compensated() -> None:
    sim = Simulator(flow("book -> fail", steps=(BOOK,)))
    sim.end("book")
    sim.end("fail", FAILED)
    sim.end("book", Failed({"type": "E", "message": "sold out"}))
    why = explained(sim)
    assert said(why) == (Reason.NOT_COMPENSATED, "book")
    assert why.summary.endswith("and what 1 step did could not be undone, first 'book': E: sold out.")
    assert (why.details["left"], why.also[0].reason) == (1, Reason.STEP_FAILED)
    assert actions(why) == [("replay_run", {})], "what was undone cannot be retried"


# -- several at once ---------------------------------------------------------------------------------------------------


def test_what_needs_a_person_comes_first_whatever_else_goes_on() -> None:
    sim = Simulator(flow("pay -> x", "look -> y", "a -> z", "b -> z", start="pay look a b", steps=(PAY, PAUSE)))
    sim.start("a")
    sim.end("b", Deferred(1.0, "later"))
    assert [c.reason for c in explained(sim).also][-1] is Reason.DEFERRED
    sim.end("pay", DIED)
    why = explained(sim)
    assert said(why) == (Reason.INTERRUPTED, "pay")
    assert [cause.reason for cause in why.also] == [
        Reason.PAUSED_FOR_MANUAL_ACTION,
        Reason.STEP_RUNNING,
        Reason.DEFERRED,
    ]
    assert {a.get("step") for n, a in actions(why) if n == "unblock_run"} == {"pay", "look"}


def test_of_several_for_one_reason_that_which_waits_longest_comes_first_and_not_all_are_told() -> None:
    names = [f"s{n:02}" for n in range(MOST_TOLD + 5)]
    sim = Simulator(flow(*(f"{name} -> END" for name in names), start=" ".join(names)))
    sight = sight_of(sim)
    sight = replace(
        sight,
        jobs=tuple(replace(seen, since=seen.since - timedelta(minutes=seen.job.step == "s17")) for seen in sight.jobs),
    )
    why = explain(sim.graph, sight, registered=True, known=MeterTable())
    assert (why.step, len(why.also), why.details["more"]) == ("s17", MOST_TOLD, 4)


def test_every_reason_has_a_test() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [reason for reason in Reason if f"Reason.{reason.name}" not in source] == []
