"""``wait(until=)``: an instant, or the key of the context that has it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import Outcome, SquidMesh, Workflow
from tests.lab import NOON, standing_still
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab


@dataclass
class Reminder:
    """What a run is started with."""

    due: datetime


def at(**later: float) -> datetime:
    return NOON + timedelta(**later)


def waiting(until: datetime | str, payload: type | None = None, output: object = None) -> Workflow:
    """A step, the wait, a step."""
    workflow = Workflow("reminder", payload=payload)

    @workflow.step
    def before() -> Any:
        return output

    @workflow.step
    def after() -> None: ...

    workflow.sequence(before, workflow.wait("rest", until=until), after)
    return workflow


INSTANTS = {
    "soon": (at(hours=3), at(hours=3)),
    "elsewhere": (at(hours=3).astimezone(timezone(timedelta(hours=-7, minutes=-30))), at(hours=3)),
    "past": (at(days=-3), NOON),
    "now": (NOON, NOON),
}


@pytest.mark.parametrize(("given", "expected"), INSTANTS.values(), ids=INSTANTS)
@pytest.mark.parametrize("source", ["declared", "payload", "output"])
def test_it_goes_on_at_the_instant_wherever_that_stands_and_in_whatever_zone(
    dsn: str, source: str, given: datetime, expected: datetime
) -> None:
    """From the declaration, an aware field of the payload, or what the step before returned in the same turn."""
    workflow, payload = waiting(given), None
    if source == "payload":
        workflow, payload = waiting("due", Reminder), Reminder(given)
    elif source == "output":
        workflow = waiting("due", output={"due": given.isoformat()})
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow, payload)
        h.drain()
        if expected > NOON:
            h.assert_step(run, "rest", status="sleeping")
            assert h.next_timer == expected
            h.travel_to(expected - timedelta(microseconds=1))
            h.assert_step(run, "rest", status="sleeping")
            h.travel_to(expected)
        assert h.assert_status(run, "completed").finished_at == expected


def test_the_newest_output_of_an_earlier_step_counts(dsn: str) -> None:
    workflow = Workflow("reminder", payload=Reminder)

    @workflow.step
    def choose() -> dict[str, Any]:
        return {"due": at(hours=2).isoformat()}

    @workflow.step
    def other() -> dict[str, Any]:
        return {"other": 1}

    workflow.sequence(choose, other, workflow.wait("rest", until="due"))
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow, Reminder(at(hours=1)))
        h.drain()
        assert h.next_timer == at(hours=2)
        h.travel(hours=2)
        h.assert_status(run, "completed")


def test_each_visit_of_a_loop_reads_it_anew(dsn: str) -> None:
    workflow, given = Workflow("often"), iter([1, 5, 6])

    @workflow.step(start=True)
    def choose() -> Any:
        hours = next(given, None)
        return Outcome("over") if hours is None else {"due": at(hours=hours).isoformat()}

    workflow.transition(choose, to=workflow.wait("rest", until="due"))
    workflow.transition("rest", to=choose)
    workflow.transition(choose, on="over", to=workflow.log("end", "over"))
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.travel(hours=6)
        h.assert_status(run, "completed")
        slept = [attempt.finished_at for attempt in h.attempts(run) if attempt.step == "rest"]
        assert slept == [at(hours=1), at(hours=5), at(hours=6)]


def test_a_wait_that_joins_waits_until_what_a_branch_has_said(dsn: str) -> None:
    workflow = Workflow("joined")

    @workflow.step(start=True)
    def left() -> dict[str, str]:
        return {"due": at(hours=1).isoformat()}

    @workflow.step(start=True)
    def right() -> dict[str, str]:
        return {"other": "x"}

    workflow.wait("rest", until="due", after=[left, right])
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.drain()
        assert h.next_timer == at(hours=1)
        h.travel(hours=1)
        h.assert_status(run, "completed")


WRONG: dict[str, Any] = {
    "missing": None,
    "null": {"due": None},
    "number": {"due": 1_900_000_000},
    "no instant": {"due": "tomorrow"},
    "no offset": {"due": "2031-02-03T13:00:00"},
    "only a date": {"due": "2031-02-03"},
    "object": {"due": {"at": "2031-02-03T13:00:00Z"}},
}


@pytest.mark.parametrize("output", WRONG.values(), ids=WRONG)
def test_what_is_no_instant_fails_the_run_and_says_what_is_needed(dsn: str, output: object) -> None:
    workflow = waiting("due", output=output)
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.drain()
        error = h.assert_status(run, "failed").error
        assert error is not None
        assert error["type"] == "InvalidInput"
        assert error["step"] == "rest"
        assert (
            "wait 'rest' needs an instant under the key 'due', as ISO 8601 text with an offset such as"
            in error["message"]
        )
        assert h.steps(run) == ["before"]
        assert h.next_timer is None


@pytest.mark.parametrize("offset", ["Z", "+00:00", "+02:00", "-03:30"])
def test_text_with_any_offset_is_an_instant(dsn: str, offset: str) -> None:
    workflow = waiting("due", output={"due": f"2031-02-03T20:15:00{offset}"})
    with standing_still(dsn, workflow) as h:
        run = h.mesh.start_run(workflow)
        h.drain()
        assert h.next_timer == datetime.fromisoformat(f"2031-02-03T20:15:00{offset}").astimezone(UTC)
        h.run_until(run, status="completed")


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_replay_into_a_wait_waits_by_the_databases_clock(
    lab: Lab, hours: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that asks for the replay decides where it goes on; its own clock must not count."""
    now = datetime.now(UTC)
    workflow = waiting("due", output={"due": (now + timedelta(hours=1)).isoformat()})
    monkeypatch.setattr(SquidMesh, "_now", lambda _: now + timedelta(hours=hours))
    mesh = lab.mesh(workflow)
    run = mesh.start_run(workflow)
    with mesh.worker():
        until(lambda: lab.jobs() == {"sleeping": 1})
    mesh.cancel_run(run.id)
    replayed = mesh.replay_run(run.id, from_step="rest")
    query = "SELECT extract(epoch FROM run_at - %s)::float8 FROM squidmesh.jobs WHERE run_id = %s"
    assert lab.value(query, now + timedelta(hours=1), replayed.id) == pytest.approx(0, abs=5)
