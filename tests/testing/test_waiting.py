"""What waits for people, signals and deadlines, and what is undone, in a harness: all of these are jobs."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from squidmesh import Constant, Context, Fail, Retry, Workflow, testing
from squidmesh.testing import HarnessError
from tests.lab import NOON, standing_still

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY = timedelta(days=1)

trip = Workflow("trip", deadline=DAY * 4)


def cancel_flight(flight: str) -> None: ...


def cancel_hotel(ctx: Context) -> None: ...


@trip.step(output="flight", compensate=cancel_flight, compensate_retry=Retry(max_attempts=2, backoff=Constant(60)))
def book_flight() -> str:
    return "f-1"


@trip.step(output="hotel", compensate=cancel_hotel, transaction=True)
def book_hotel() -> str:
    return "h-1"


consent = trip.approval("consent", output="consent", deadline=DAY * 2)
paid = trip.wait_for("payment", name="paid", output="paid", timeout=DAY * 3)


@trip.step(retry=Retry(max_attempts=9, backoff=Constant(86400)))
def send_tickets(flight: str, hotel: str) -> None: ...


trip.sequence(book_flight, book_hotel, consent, paid, send_tickets)

BOOKED = ["book_flight", "book_hotel"]
UNDONE = ["book_hotel", "book_flight"]


@pytest.fixture
def h(dsn: str) -> Iterator[testing.Harness]:
    with standing_still(dsn, trip) as harness:
        yield harness


def test_people_and_signals_are_waited_for_and_come_between_drains(h: testing.Harness) -> None:
    run = h.mesh.start_run(trip)
    assert h.run_until(run, status="paused").attention == "paused"
    assert h.next_timer == NOON + DAY * 2
    h.travel(DAY)
    h.mesh.approve_run(run.id, actor="ada")
    assert h.drain() == []
    h.assert_step(run, consent, status="completed")
    assert h.next_timer == NOON + DAY * 4
    h.mesh.send_signal(run.id, "payment", {"cents": 900})
    ended = h.run_until(run, status="completed")
    assert ((ended.context or {})["paid"], ended.finished_at) == ({"cents": 900}, NOON + DAY)
    assert h.steps(run) == [*BOOKED, "consent", "paid", "send_tickets"]
    assert h.undone(run) == []
    assert h.next_timer is None


def test_a_step_decides_for_another_run_which_goes_on_in_the_same_drain(dsn: str) -> None:
    clerk = Workflow("clerk")

    @clerk.step
    def decide() -> None:
        for run in office.runs(trip):
            office.mesh.approve_run(run.id, actor="clerk")
            office.mesh.send_signal(run.id, "payment")

    with standing_still(dsn, trip, clerk) as office:
        run = office.mesh.start_run(trip)
        office.run_until(run, status="paused")
        office.mesh.start_run(clerk)
        assert [ran.step for ran in office.drain()] == ["decide", "send_tickets"]
        office.assert_status(run, "completed")


@pytest.mark.parametrize(("approve", "days", "gate"), [(False, 2, "consent"), (True, 3, "paid")])
def test_what_nobody_answers_in_time_fails_the_run_when_it_is_due(
    h: testing.Harness, *, approve: bool, days: int, gate: str
) -> None:
    run = h.mesh.start_run(trip)
    h.drain()
    if approve:
        h.mesh.approve_run(run.id, actor="ada")
    h.travel(DAY * days - timedelta(seconds=1))
    h.assert_step(run, gate, status="parked")
    h.travel(1)
    ended = h.assert_status(run, "failed")
    assert (ended.error or {})["type"] == "TimedOut"
    assert (h.undone(run), ended.finished_at) == (UNDONE, NOON + DAY * days)


def test_the_deadline_of_a_run_is_come_to_between_attempts(h: testing.Harness) -> None:
    run = h.mesh.start_run(trip)
    h.drain()
    h.travel(DAY + timedelta(hours=12))
    h.mesh.approve_run(run.id, actor="ada")
    h.mesh.send_signal(run.id, "payment")
    h.fail(send_tickets, ConnectionError, first=9)
    h.travel(DAY * 10)
    ended = h.assert_status(run, "failed")
    assert ended.finished_at == NOON + DAY * 4
    h.assert_step(run, send_tickets, attempts=3)
    assert h.undone(run) == UNDONE


def test_what_undoes_a_step_fails_is_replaced_and_crashes_on_its_own_account(h: testing.Harness) -> None:
    h.fail(send_tickets, Fail("no"))
    flight = h.fail(cancel_flight, ConnectionError, first=1)
    hotel = h.crash("cancel_hotel", "before_commit")
    with h.replace("trip/cancel_hotel", lambda ctx: {"told": ctx.idempotency_key}) as fake:
        run = h.mesh.start_run(trip)
        h.drain()
        h.mesh.approve_run(run.id, actor="ada")
        h.mesh.send_signal(run.id, "payment")
        ran = h.drain()
    assert [(each.step, each.kind, each.result) for each in ran] == [
        ("send_tickets", "step", "failed"),
        ("book_hotel", "compensation", "crashed"),
        ("book_hotel", "compensation", "completed"),
        ("book_flight", "compensation", "failed"),
    ]
    h.assert_status(run, "compensating")
    h.travel(60)
    h.assert_status(run, "failed")
    assert (h.undone(run), flight.count, hotel.count) == (UNDONE, 1, 1)
    assert [call.context.idempotency_key for call in fake.calls] == [f"{run.id}:book_hotel:1:compensation"] * 2
    assert fake.calls[0].context.failure == h.run(run).error
    assert h.steps(run) == [*BOOKED, "consent", "paid", "send_tickets"]
    h.assert_step(run, book_hotel, attempts=1, output={"hotel": "h-1"}, status="compensated")


def test_a_failed_run_goes_on_where_it_failed_and_a_replay_where_it_is_told(dsn: str) -> None:
    workflow, outage = Workflow("delivery"), [True]
    pack = workflow.log("pack", "packed")

    @workflow.step
    def deliver() -> dict[str, str]:
        if outage:
            raise Fail("closed")
        return {"to": "Ada"}

    @workflow.step
    def thank(to: str) -> None: ...

    workflow.sequence(pack, deliver, thank)
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.run_until(run, status="failed")
        h.outage(days=1)
        outage.clear()
        h.mesh.retry_run(run.id, actor="ada")
        assert h.run_until(run, status="completed").finished_at == NOON + DAY
        assert h.steps(run) == ["pack", "deliver", "deliver", "thank"]
        again = h.mesh.replay_run(run.id, from_step="thank")
        h.drain()
        h.assert_status(again, "completed")
        assert h.steps(again) == ["thank"]
        h.assert_step(again, deliver, status="completed", output={"to": "Ada"})


def test_a_wait_until_an_instant_is_over_at_that_instant(dsn: str) -> None:
    workflow = Workflow("launch")

    @workflow.step
    def plan() -> dict[str, str]:
        return {"at": (NOON + DAY * 30).isoformat()}

    countdown = workflow.wait("countdown", until="at")
    workflow.sequence(plan, countdown)
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.drain()
        assert h.next_timer == NOON + DAY * 30
        assert h.run_until(run).finished_at == NOON + DAY * 30


def test_a_dead_end_says_what_each_run_waits_for_and_what_can_be_done(dsn: str) -> None:
    workflow = Workflow("office")
    ask = workflow.approval("ask")
    hear = workflow.wait_for("answer")
    stop = workflow.pause("stop")
    workflow.sequence(ask, hear, stop)
    with standing_still(dsn, workflow) as h:
        approved, asked, stopped = (h.mesh.start_run(workflow) for _ in range(3))
        for run in (approved, stopped):
            h.run_until(run, status="paused")
            h.mesh.approve_run(run.id, actor="ada")
        h.mesh.send_signal(stopped.id, "answer")
        with pytest.raises(HarnessError, match="nothing can happen any more by itself, and not ended") as raised:
            h.run_until(approved)
    said = _by_run(str(raised.value))
    assert "Step 'ask' waits for approval since 2031-02-03 12:00:00 UTC" in said[asked.id]
    assert "What can be done: approve_run, reject_run" in said[asked.id]
    assert "Step 'answer' waits since 2031-02-03 12:00:00 UTC for the signal 'answer'" in said[approved.id]
    assert "send_signal" in said[approved.id]
    assert "unblock_run" in said[stopped.id]


def test_a_run_that_waits_while_schedules_go_on_for_ever_is_told_of(dsn: str) -> None:
    workflow = Workflow("asked")
    workflow.manual("by_hand")
    workflow.cron("hourly", "0 * * * *")
    workflow.approval("ask")
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        with pytest.raises(HarnessError, match="time has come to 5 timers") as raised:
            h.run_until(run, limit=5)
    assert f"It is not ended: run {run.id} of 'asked': paused" in str(raised.value)
    assert "What can be done: approve_run, reject_run" in str(raised.value)


def _by_run(said: str) -> dict[UUID, str]:
    parts = said.split("\nrun ")[1:]
    return {UUID(part.split()[0]): part for part in parts}
