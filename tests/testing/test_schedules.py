"""Schedules in a harness: they fire when time comes to them, as in production, and between everything else that waits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import CatchUp, Constant, Context, Retry, SquidMesh, Workflow, testing
from tests.lab import NOON, Ear, Lab, laboratory, standing_still

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh import Run

THREE = timedelta(hours=15)
"""From noon until three in the morning."""


@dataclass
class Report:
    city: str = "Berlin"


def report(wait: float | None = None, **policy: Any) -> Workflow:
    """A workflow that a schedule starts; its run takes so many seconds."""
    workflow = Workflow("report")
    workflow.cron("daily", "0 3 * * *", payload=Report, **policy)

    @workflow.step(retry=Retry(max_attempts=3, backoff=Constant(3600)))
    def send(ctx: Context) -> None: ...

    if wait is not None:
        workflow.sequence(workflow.wait("collect", seconds=wait), send)
    return workflow


def nominal(runs: list[Run]) -> list[datetime]:
    return [run.schedule.nominal_at for run in runs if run.schedule]


def day(number: int, hour: int = 3, minute: int = 0) -> datetime:
    return datetime(2031, 2, number, hour, minute, tzinfo=UTC)


@pytest.fixture
def lab(dsn: str) -> Iterator[Lab]:
    with laboratory(dsn) as opened:
        yield opened


def test_days_pass_with_a_run_for_each_among_waits_retries_and_runs_of_others(dsn: str) -> None:
    workflow, other = report(wait=7200), Workflow("other")
    nap = other.wait("nap", seconds=THREE + timedelta(hours=1))

    @other.step
    def wake() -> None: ...

    other.sequence(nap, wake)
    with standing_still(dsn, workflow, other) as h:
        ear = Ear(h.mesh, "run.created")
        h.mesh.start_run(other)
        h.fail("send", ConnectionError, first=1)
        assert h.next_timer == NOON + THREE
        seen: list[tuple[str, datetime]] = []
        with (
            h.replace("send", lambda: seen.append(("send", h.now))),
            h.replace("wake", lambda: seen.append(("wake", h.now))),
        ):
            h.travel(days=3)
        runs = h.assert_started(workflow, 3, city="Berlin")
        assert nominal(runs) == [run.created_at for run in runs] == [day(4), day(5), day(6)]
        assert seen == [("wake", day(4, 4)), *(("send", day(n, 6)) for n in (4, 5, 6))]
        assert [str(run.status) for run in runs] == ["completed"] * 3
        assert len(ear.heard("run.created")) == 4
        assert h.next_timer == day(7)
        assert h.mesh.schedules.get("report/daily").last_run == runs[-1].id


def test_run_until_goes_on_to_what_a_schedule_starts(dsn: str) -> None:
    with standing_still(dsn, report()) as h:
        assert h.drain() == []
        h.travel_to(day(4))
        (run,) = h.assert_started("report")
        assert h.run_until(run).finished_at == day(4)


@pytest.mark.parametrize(
    ("overlap", "expected"),
    [
        ("allow", {day(4): day(4), day(5): day(5), day(6): day(6)}),
        ("skip", {day(4): day(4), day(6): day(6)}),
        ("queue", {day(4): day(4), day(5): day(5, 15)}),
    ],
)
def test_a_run_that_is_still_there_is_left_beside_stood_aside_for_or_waited_for(
    dsn: str, overlap: Any, expected: dict[datetime, datetime]
) -> None:
    with standing_still(dsn, report(wait=36 * 3600, overlap=overlap)) as h:
        h.travel_to(day(6, 4))
        runs = h.assert_started("report", None)
        assert {run.schedule.nominal_at: run.created_at for run in runs if run.schedule} == expected


def test_jitter_lets_a_run_begin_later(dsn: str) -> None:
    with standing_still(dsn, report(jitter=3600)) as h:
        h.travel_to(day(4))
        (run,) = h.assert_started("report")
        began = h.next_timer
        assert began is not None
        assert day(4) < began < day(4, 4)
        assert h.run_until(run).finished_at == began


@pytest.mark.parametrize(
    ("catch_up", "caught"),
    [
        (None, [day(7)]),
        (timedelta(days=2), [day(7)]),
        (CatchUp(timedelta(days=2), "all"), [day(6), day(7)]),
        (3600, []),
    ],
)
def test_what_an_outage_missed_is_caught_up_as_the_policy_says(dsn: str, catch_up: Any, caught: list[datetime]) -> None:
    with standing_still(dsn, report(catch_up=catch_up)) as h:
        overdue = h.mesh.start_run("report", trigger="daily")
        h.outage(days=4)
        assert (h.run(overdue).status, len(h.runs()), h.now) == ("pending", 1, NOON + timedelta(days=4))
        h.drain()
        assert h.assert_status(overdue, "completed").finished_at == h.now
        assert nominal(h.runs()) == caught
        h.travel_to(day(8))
        assert nominal(h.runs()) == [*caught, day(8)]


def test_the_schedules_of_the_apps_own_mesh_are_those_of_the_harness(dsn: str) -> None:
    app = SquidMesh("postgresql://nowhere.invalid/none", workflows=[report()])
    with testing.harness(dsn, mesh=app, at=NOON) as h:
        app.schedules.create("hourly", "report", "0 * * * *", payload={"city": "Bonn"})
        assert [schedule.name for schedule in app.schedules.list()] == ["hourly", "report/daily"]
        assert app.schedules.next_times("hourly", 2) == [day(3, 13), day(3, 14)]
        h.travel(hours=2)
        assert nominal(h.assert_started("report", 2, city="Bonn")) == [day(3, 13), day(3, 14)]
        app.schedules.pause("hourly")
        h.travel(hours=2)
        assert len(h.runs()) == 2
        app.schedules.resume("hourly")
        now = app.schedules.trigger_now("report/daily")
        assert (now.created_at, now.payload) == (h.now, {"city": "Berlin"})
        assert nominal(app.schedules.backfill("hourly", day(3, 15), h.now)) == [day(3, 15)]
        h.travel(hours=1)
        assert nominal(h.assert_started("report", 4, city="Bonn"))[-1] == day(3, 17)
        app.schedules.delete("hourly")
        assert h.next_timer == day(4)


def test_the_async_twin_fires_as_well(dsn: str) -> None:
    async def test() -> None:
        async with testing.async_harness(dsn, workflows=[report()], at=NOON) as h:
            await h.travel(days=1)
            (run,) = h.assert_started("report")
            assert (await h.mesh.schedules.get("report/daily")).last_run == run.id

    asyncio.run(test())


def test_a_schedule_that_somebody_else_holds_is_told_of(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("squidmesh.testing.calendar.LOOKS", 2)
    with standing_still(dsn, report()) as h:
        with psycopg.connect(dsn) as other:
            other.execute(f"SELECT FROM {h.schema}.schedules FOR UPDATE".encode())
            with pytest.raises(testing.HarnessError, match="holds a schedule that is due"):
                h.travel(days=1)
            other.rollback()
        h.drain()
        assert nominal(h.runs()) == [day(4)]


def test_in_a_transaction_schedules_fire_and_nothing_is_left_of_it(lab: Lab) -> None:
    with lab.session(autocommit=False) as connection:
        limits = "SELECT current_setting('idle_in_transaction_session_timeout'), current_setting('lock_timeout')"
        before = connection.execute(limits).fetchall()
        with testing.harness(connection=connection, schema=lab.schema, workflows=[report()], at=NOON) as h:
            h.mesh.schedules.create("hourly", "report", "0 * * * *", connection=connection)
            h.travel(days=1)
            assert len(h.assert_started("report", 25)) == 25
            assert connection.execute(limits).fetchall() == before
        connection.rollback()
    assert lab.value("SELECT count(*) FROM squidmesh.schedules") == 0
