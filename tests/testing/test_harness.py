"""The harness: virtual time, driving, questions and assertions, in a throw-away schema."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import (
    COMPLETE,
    ConfigurationError,
    Constant,
    Context,
    Defer,
    InvalidOption,
    Retry,
    RunTimeout,
    SquidMesh,
    Workflow,
    WorkflowWarning,
    testing,
    today,
)
from squidmesh.testing import HarnessError
from tests.lab import NOON, laboratory, standing_still

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Due:
    amount: int


@dataclass
class Dated:
    day: date = field(default_factory=today)


@dataclass
class Numbered:
    number: int


def dunning() -> Workflow:
    """A month's patience, then a charge that may be tried again each day."""
    workflow = Workflow("dunning", payload=Due)
    remind = workflow.log("remind", "pay, please")
    patience = workflow.wait("patience", seconds=timedelta(days=30))

    @workflow.step(retry=Retry(max_attempts=4, backoff=Constant(86400)))
    def charge(ctx: Context, amount: int) -> dict[str, Any]:
        if ctx.attempt < 3:
            raise ConnectionError("no answer")
        return {"paid": amount}

    workflow.sequence(remind, patience, charge)
    return workflow


def napping(name: str, seconds: float, seen: list[str]) -> Workflow:
    workflow = Workflow(name)
    nap = workflow.wait("nap", seconds=seconds)

    @workflow.step
    def wake() -> None:
        seen.append(name)

    workflow.sequence(nap, wake)
    return workflow


@pytest.fixture
def h(dsn: str) -> Iterator[testing.Harness]:
    with standing_still(dsn, dunning()) as harness:
        yield harness


def test_a_month_with_retries_takes_no_time_and_leaves_exact_times(h: testing.Harness) -> None:
    began = time.monotonic()
    run = h.mesh.start_run("dunning", {"amount": 12})
    ran = h.travel(days=32)
    assert time.monotonic() - began < 5  # of 32 days
    assert [(each.step, each.attempt, each.result) for each in ran] == [
        ("remind", 1, "completed"),
        ("charge", 1, "failed"),
        ("charge", 2, "failed"),
        ("charge", 3, "completed"),
    ]
    ended = h.assert_status(run, "completed")
    assert (ended.created_at, ended.finished_at, h.now) == (NOON, NOON + timedelta(days=32), NOON + timedelta(days=32))
    assert [attempt.started_at for attempt in h.attempts(run)] == [
        NOON,
        NOON,
        *(NOON + timedelta(days=30 + n) for n in range(3)),
    ]
    assert h.steps(run) == ["remind", "patience", "charge", "charge", "charge"]


def test_timers_of_several_runs_fire_in_order_each_at_its_time(dsn: str) -> None:
    seen: list[str] = []
    flows = [napping(name, seconds, seen) for name, seconds in (("c", 30), ("a", 10), ("b", 20))]
    with testing.harness(dsn, workflows=flows, at=NOON) as h:
        runs = {flow.name: h.mesh.start_run(flow) for flow in flows}
        late = h.mesh.start_run(flows[0], delay=5)
        assert h.next_timer == NOON + timedelta(seconds=10)
        h.travel(25)
        assert seen == ["a", "b"]
        h.travel(minutes=1)
        assert seen == ["a", "b", "c", "c"]
        assert [h.run(run).finished_at for run in (*runs.values(), late)] == [
            NOON + timedelta(seconds=seconds) for seconds in (30, 10, 20, 35)
        ]
        assert h.next_timer is None


def test_draining_lets_no_time_pass_and_stops_before_a_timer(h: testing.Harness) -> None:
    run = h.mesh.start_run("dunning", {"amount": 1})
    assert [each.step for each in h.drain()] == ["remind"]
    assert h.drain() == []
    assert h.now == NOON
    h.assert_step(run, "patience", status="sleeping")


def test_running_until_a_step_a_status_or_a_wish(h: testing.Harness) -> None:
    run = h.mesh.start_run("dunning", {"amount": 5})
    assert h.run_until(run, status="retrying").status == "retrying"
    assert h.now == NOON + timedelta(days=30)
    assert h.run_until(run, when=lambda shown: len(h.attempts(shown)) == 4).status == "retrying"
    assert h.run_until(run, step="charge").context == {"paid": 5}
    assert h.run_until(run).status == "completed"
    with pytest.raises(HarnessError, match="has ended, and not in status 'failed'"):
        h.run_until(run, status="failed")
    with pytest.raises(InvalidOption, match="'settle' is no step of 'dunning'; it has remind, patience, charge"):
        h.run_until(run, step="settle")
    with pytest.raises(InvalidOption, match="one of"):
        h.run_until(run, step="charge", status="failed")


def test_a_dead_end_says_where_each_run_stands(dsn: str) -> None:
    workflow = Workflow("stuck")

    @workflow.step(irreversible=True)
    def pay() -> None: ...

    with testing.harness(dsn, workflows=[workflow]) as h:
        h.crash(pay, "in_body")
        run, other = h.mesh.start_run(workflow), h.mesh.start_run(workflow)
        with pytest.raises(HarnessError, match="nothing can happen any more") as raised:
            h.run_until(run)
        assert f"run {run.id} of 'stuck': paused\n  needs attention: interrupted" in str(raised.value)
        assert "pay: parked (interrupted), WorkerDied" in str(raised.value)
        assert str(other.id) not in str(raised.value)  # it has ended


def test_a_loop_without_an_end_is_stopped(dsn: str) -> None:
    workflow = Workflow("dizzy")

    @workflow.step(start=True)
    def turn() -> None: ...

    workflow.transition(turn, to=turn)
    workflow.transition(turn, on="stop", to=COMPLETE)
    with testing.harness(dsn, workflows=[workflow]) as h:
        run = h.mesh.start_run(workflow)
        with pytest.raises(HarnessError, match="20 steps were run and more are ready, the latest being dizzy/turn"):
            h.drain(limit=20)
        assert len(h.steps(run)) == 20
        assert h.run(run).current_steps == ("turn",)
        assert h.mesh.cancel_run(run.id).status == "cancelled"  # nothing was left in a worker's hands


def test_waits_that_follow_each_other_without_an_end_are_stopped(dsn: str) -> None:
    workflow = Workflow("yawning")
    nap = workflow.wait("nap", seconds=60, start=True)
    again = workflow.wait("again", seconds=60)
    workflow.transition(nap, to=again)
    workflow.transition(again, to=nap)

    with pytest.warns(WorkflowWarning, match="no way out"):
        workflow.check()
    with standing_still(dsn, workflow) as h:
        h.mesh.start_run(workflow)
        with pytest.raises(HarnessError, match="time has come to 20 timers"):
            h.travel(days=1, limit=20)
        assert h.now == NOON + timedelta(minutes=20)


def test_defaults_of_payloads_are_of_the_harness_s_time(dsn: str) -> None:
    workflow = Workflow("dated", payload=Dated)

    @workflow.step
    def work() -> None: ...

    with standing_still(dsn, workflow, at=NOON + timedelta(days=1)) as h:
        assert h.run_until(h.mesh.start_run("dated")).payload == {"day": "2031-02-04"}


def test_a_step_that_comes_back_later_is_run_when_it_does(dsn: str) -> None:
    workflow = Workflow("patient")

    @workflow.step
    def look(ctx: Context) -> None:
        if harness.now < NOON + timedelta(hours=2):
            raise Defer(3600, reason="not there yet")

    with testing.harness(dsn, workflows=[workflow], at=NOON) as harness:
        run = harness.mesh.start_run(workflow)
        assert [each.result for each in harness.travel(hours=3)] == ["deferred", "deferred", "completed"]
        harness.assert_step(run, look, status="completed", attempts=1)


def test_assertions_list_what_there_is(h: testing.Harness) -> None:
    first, second = h.mesh.start_runs("dunning", [{"amount": 1}, {"amount": 2}])
    assert h.assert_started("dunning", amount=2) == [h.mesh.list_runs()[0]] == h.runs()[1:]
    h.assert_started("dunning", 2)
    h.assert_started("dunning", count=None)
    with pytest.raises(
        AssertionError, match=r"expected 1 run\(s\) of 'dunning' with \{'amount': 3\}, found 0"
    ) as error:
        h.assert_started("dunning", amount=3)
    assert "dunning {'amount': 1} pending" in str(error.value)
    h.travel(days=30)
    with pytest.raises(AssertionError, match=r"expected completed, but: run .* of 'dunning': retrying\n") as error:
        h.assert_status(first, "completed")
    assert "charge: retrying, due at 2031-03-06 12:00:00+00:00, ConnectionError: no answer" in str(error.value)
    h.travel(days=2)
    step = h.assert_step(second, "charge", status="completed", attempts=3, output={"paid": 2})
    assert step.visits == 1
    with pytest.raises(AssertionError, match=r"status 'failed', not 'completed'; 1 attempt\(s\), not 3; output None"):
        h.assert_step(second, "charge", status="failed", attempts=1, output=None)


def test_time_does_not_go_back(h: testing.Harness) -> None:
    h.travel_to(NOON + timedelta(hours=1))
    with pytest.raises(InvalidOption, match="only goes forward"):
        h.travel_to(NOON)
    with pytest.raises(InvalidOption, match="not negative"):
        h.travel(hours=-1)
    with pytest.raises(InvalidOption, match="aware"):
        h.travel_to(datetime(2040, 1, 1))  # noqa: DTZ001
    with pytest.raises(InvalidOption, match="aware"):
        testing.harness(at=datetime(2040, 1, 1))  # noqa: DTZ001


def test_the_apps_own_mesh_works_on_the_harness_and_gets_its_own_database_back(dsn: str) -> None:
    workflow = dunning()
    with laboratory(dsn) as lab:
        app = lab.mesh(workflow)
        live = app.start_run(workflow, {"amount": 1})
        _use_in_a_harness(app, workflow, dsn)
        assert [run.id for run in app.list_runs()] == [live.id]
        assert lab.jobs() == {"ready": 1}


def _use_in_a_harness(app: SquidMesh, workflow: Workflow, dsn: str) -> None:
    heard: list[str] = []
    app.subscribe(lambda event: heard.append(event.name), "run.created", "step.completed")
    with testing.harness(dsn, mesh=app, at=NOON) as h:
        run = app.start_run(workflow, {"amount": 7})  # as the code under test does
        h.drain()
        assert heard == ["run.created", "step.completed"]
        assert app.wait_for_run(run.id).context == {"paid": 7}
        assert h.now == NOON + timedelta(days=32)
        app.migrate()
        with pytest.raises(ConfigurationError, match="drain"):
            app.worker()
        with pytest.raises(ConfigurationError, match="another test harness"), testing.harness(dsn, mesh=app):
            pass


def test_waiting_for_a_run_lets_time_pass_but_no_more_than_it_was_given(h: testing.Harness) -> None:
    run = h.mesh.start_run("dunning", {"amount": 7})
    with pytest.raises(RunTimeout):
        h.mesh.wait_for_run(run.id, timeout=timedelta(days=1))
    assert h.now == NOON + timedelta(days=1)


def test_a_step_cannot_run_others(dsn: str) -> None:
    workflow = Workflow("greedy")

    @workflow.step
    def work() -> None:
        harness.drain()

    with testing.harness(dsn, workflows=[workflow]) as harness:
        run = harness.mesh.start_run(workflow)
        harness.drain()
        assert (harness.run(run).error or {})["type"] == "HarnessError"


def test_a_step_that_cancels_another_run_keeps_it_from_running(dsn: str) -> None:
    workflow, seen = Workflow("pair", payload=Numbered), list[int]()

    @workflow.step
    def work(number: int) -> None:
        seen.append(number)
        for run in runs:
            if run.payload["number"] != number:
                harness.mesh.cancel_run(run.id)

    with testing.harness(dsn, workflows=[workflow]) as harness:
        runs = harness.mesh.start_runs(workflow, [{"number": n} for n in range(3)])
        harness.drain()
        assert len(seen) == 1
        assert sorted(harness.run(run).status for run in runs) == ["cancelled", "cancelled", "completed"]


def test_a_run_that_somebody_else_holds_is_told_of(
    h: testing.Harness, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("squidmesh.testing.inline.LOOKS", 2)
    run = h.mesh.start_run("dunning", {"amount": 7})
    with psycopg.connect(dsn) as other:
        other.execute(f"SELECT FROM {h.schema}.runs FOR UPDATE".encode())
        with pytest.raises(HarnessError, match=f"another transaction holds run {run.id}"):
            h.drain()
        other.rollback()
    h.run_until(run, status="completed")


def test_starting_in_a_transaction_of_ones_own(h: testing.Harness, dsn: str) -> None:
    with psycopg.connect(dsn) as host:
        h.mesh.start_run("dunning", {"amount": 7}, connection=host)
        assert h.drain() == []
        host.commit()
    assert [each.step for each in h.drain()] == ["remind"]
    assert h.assert_started("dunning")[0].created_at == NOON


def test_a_schema_is_emptied_and_used_again_or_dropped_if_that_is_asked(dsn: str) -> None:
    flows = [dunning()]
    with testing.harness(dsn, workflows=flows) as h:
        h.mesh.start_run("dunning", {"amount": 7})
        first = h.schema
    with testing.harness(dsn, workflows=flows) as h, testing.harness(dsn, workflows=flows) as beside:
        assert (h.schema, h.runs()) == (first, [])
        assert beside.schema != first
    with testing.harness(dsn, workflows=flows, fresh=True) as h:
        fresh = h.schema
    with psycopg.connect(dsn) as connection:
        names = {name for (name,) in connection.execute("SELECT nspname FROM pg_namespace")}
    assert first in names
    assert fresh not in names


def test_what_a_test_left_open_does_not_hold_up_the_next_one(dsn: str) -> None:
    flows = [dunning()]
    with psycopg.connect(dsn) as left:
        with testing.harness(dsn, workflows=flows) as h:
            h.mesh.start_run("dunning", {"amount": 7})
            left.execute(f"SELECT FROM {h.schema}.runs FOR UPDATE".encode())
            first = h.schema
        with testing.harness(dsn, workflows=flows) as h:
            assert h.schema != first


def test_log_steps_and_events_are_told_before_a_call_returns(
    h: testing.Harness, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []
    h.mesh.subscribe(lambda event: heard.append(event.name))
    h.mesh.start_run("dunning", {"amount": 1})
    with caplog.at_level(logging.INFO, "squidmesh.steps"):
        h.drain()
    assert caplog.messages == ["pay, please"]
    assert heard[-2:] == ["step.completed", "run.dispatched"]
