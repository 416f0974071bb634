"""Schedules in workers and clients: who fires, what a run is told, the policies, registration, and calls at run time."""

from __future__ import annotations

import asyncio
import inspect
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from squidmesh import (
    AsyncSchedules,
    AsyncSquidMesh,
    CatchUp,
    Context,
    DefinitionError,
    InvalidOption,
    InvalidPayload,
    RunStatus,
    ScheduleExists,
    ScheduleNotFound,
    Schedules,
    Tick,
    TriggerNotFound,
    Workflow,
    WorkflowNotFound,
    today,
)
from squidmesh.clock import SystemClock
from squidmesh.cron import CronError
from squidmesh.store.database import drive
from tests.clockwork import Clockwork
from tests.lab import Ear, Gate, standing_still
from tests.waiting import until

if TYPE_CHECKING:
    from squidmesh import SquidMesh
    from tests.lab import Lab

START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)


def at(minute: int, hour: int = 12) -> datetime:
    return datetime(2026, 3, 2, hour, minute, tzinfo=UTC)


@dataclass
class Digest:
    city: str = "Berlin"
    day: date = today()  # noqa: RUF009


def digest(
    name: str = "digest",
    expression: str | None = "* * * * *",
    gate: Gate | None = None,
    wait: float | None = None,
    **policy: Any,
) -> Workflow:
    workflow = Workflow(name)
    workflow.manual("by_hand", payload=Digest)
    if expression is not None:
        workflow.cron("often", expression, payload=Digest, **policy)

    @workflow.step
    def send(ctx: Context, schedule: dict[str, Any] | None = None) -> dict[str, Any]:
        if gate is not None:
            gate.pass_()
        return {"told": ctx.schedule.nominal_at.isoformat() if ctx.schedule else None, "parameter": schedule}

    if wait is not None:
        workflow.sequence(workflow.wait("wait", seconds=wait), send)
    return workflow


def ticks(mesh: SquidMesh, name: str = "digest/often") -> list[datetime]:
    """The nominal times that runs were started for, in order."""
    runs = mesh.list_runs(limit=1000)
    return sorted(run.schedule.nominal_at for run in runs if run.schedule and run.schedule.name == name)


def until_registered(mesh: SquidMesh, name: str = "digest/often") -> None:
    until(lambda: [s for s in mesh.schedules.list() if s.name == name and not s.retired], what="the schedule")


def until_next(mesh: SquidMesh, when: datetime, name: str = "digest/often") -> None:
    """Wait until everything before a nominal time is decided."""
    until(lambda: mesh.schedules.get(name).next_at == when, what=f"a schedule that is at {when}")


# -- firing ---------------------------------------------------------------------------------------------------------


def test_a_worker_starts_a_run_for_a_nominal_time_and_tells_its_steps(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(digest())
    ear = Ear(mesh, "run.created")
    lab.worker(mesh)
    until_registered(mesh)
    assert mesh.list_runs() == [], "it does not fire for what was before it was there"

    clock.step_and_tell(seconds=30)
    lab.until_ended(1)

    (listed,) = mesh.list_runs()
    run = mesh.inspect_run(listed.id, include_history=True)
    tick = run.schedule
    assert tick is not None
    assert listed.schedule == tick
    assert (tick.name, tick.workflow, tick.trigger_name, tick.timezone) == ("digest/often", "digest", "often", "UTC")
    assert (tick.nominal_at, tick.window_start, tick.window_end) == (at(1), at(1), at(2))
    assert (run.trigger, run.payload) == ("often", {"city": "Berlin", "day": "2026-03-02"})
    assert run.context == {"told": at(1).isoformat(), "parameter": tick.to_json()}
    assert run.history is not None
    assert run.history.step_runs[0].input == {"schedule": tick.to_json()}, "the history knows what the parameter was"
    assert lab.value("SELECT context->'schedule' FROM squidmesh.run_context") == tick.to_json()
    assert [event.run_id for event in ear.heard("run.created", 1)] == [run.id]
    schedule = mesh.schedules.get("digest/often")
    assert (schedule.next_at, schedule.last_at, schedule.last_run, schedule.skipped) == (at(2), at(1), run.id, 0)


def test_a_replay_keeps_the_tick_and_an_ordinary_run_has_none(dsn: str) -> None:
    with standing_still(dsn, digest(), at=START) as h:
        h.travel(seconds=30)
        (run,) = h.assert_started("digest")
        replayed = h.mesh.replay_run(run.id)
        assert replayed.schedule == run.schedule is not None
        assert h.run_until(replayed).context == h.run(run).context
        ordinary = h.run_until(h.mesh.start_run("digest"))
        assert (ordinary.schedule, ordinary.context) == (None, {"told": None, "parameter": None})


def test_it_fires_by_itself_when_the_time_comes(lab: Lab) -> None:
    """Nobody tells the scheduler: it sleeps until then, and is not late."""
    clock, mesh = Clockwork(lab, datetime(2026, 3, 2, 12, 0, 58, tzinfo=UTC)), lab.mesh(digest())
    lab.worker(mesh)
    lab.until_ended(1)
    (run,) = mesh.list_runs()
    assert clock.now() < at(2)
    assert timedelta() <= run.created_at - at(1) < timedelta(seconds=1)


def test_a_worker_with_a_wrong_clock_harms_nothing(lab: Lab) -> None:
    """Two clocks are hours off, in both directions: the database's alone counts."""

    class Wrong(SystemClock):
        def __init__(self, hours: float) -> None:
            self._off = timedelta(hours=hours)

        def now(self) -> datetime:
            return datetime.now(UTC) + self._off

    clock, mesh = Clockwork(lab), lab.mesh(digest(catch_up=CatchUp(3600, "all")))
    for hours in (-30, 30):
        lab.worker(lab.mesh(digest(catch_up=CatchUp(3600, "all"))), clock=Wrong(hours))
    until_registered(mesh)
    for minute in range(2, 6):
        clock.step_and_tell(minutes=1)
        until_next(mesh, at(minute))
    lab.until_ended(4)
    assert ticks(mesh) == [at(1), at(2), at(3), at(4)]
    assert {run.payload["day"] for run in mesh.list_runs()} == {"2026-03-02"}, "also today() is the nominal time's"


def test_the_clock_of_the_database_goes_back_and_forth(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(digest(catch_up=CatchUp(86400, "all")))
    lab.worker(mesh)
    until_registered(mesh)
    for minutes, following in ((3, 4), (-60, 4), (-600, 4), (659, 4), (3, 6), (-2, 6), (4, 8)):
        clock.step_and_tell(minutes=minutes)
        until_next(mesh, at(following))
        assert lab.value("SELECT count(*) FROM squidmesh.runs") == following - 1
    assert ticks(mesh) == [at(minute) for minute in range(1, 8)]


# -- policies -------------------------------------------------------------------------------------------------------


def test_of_what_was_missed_the_latest_gets_a_run_and_the_others_are_counted(dsn: str) -> None:
    with standing_still(dsn, digest(catch_up=600), at=START) as h:
        ear = Ear(h.mesh, "schedule.skipped")
        h.outage(minutes=30)
        h.drain()
        assert ticks(h.mesh) == [at(30)]
        schedule = h.mesh.schedules.get("digest/often")
        assert (schedule.skipped, schedule.last_skipped, schedule.skip_reason) == (29, at(29), "superseded")
        assert schedule.next_at == at(31)
        assert [(e.metadata["reason"], e.metadata["count"]) for e in ear.heard("schedule.skipped")] == [
            ("missed", 20),
            ("superseded", 9),
        ]


def test_a_nominal_time_during_the_run_before_is_skipped_if_the_policy_says_so(dsn: str) -> None:
    with standing_still(dsn, digest(wait=90, overlap="skip"), at=START) as h:
        h.travel_to(at(2))
        assert ticks(h.mesh) == [at(1)]
        schedule = h.mesh.schedules.get("digest/often")
        assert (schedule.skip_reason, schedule.next_at) == ("overlap", at(3))
        h.travel_to(at(3))
        assert ticks(h.mesh) == [at(1), at(3)]


@pytest.mark.parametrize(("mode", "expected"), [("latest", [1, 4]), ("all", [1, 2, 3, 4])])
def test_nominal_times_wait_for_the_run_before_and_its_end_wakes_the_scheduler(
    lab: Lab, mode: Any, expected: list[int]
) -> None:
    gate = Gate()
    clock, mesh = Clockwork(lab), lab.mesh(digest(gate=gate, overlap="queue", catch_up=CatchUp(600, mode)))
    lab.worker(mesh)
    until_registered(mesh)
    clock.step_and_tell(minutes=1)
    gate.until_come(1)
    clock.step_and_tell(minutes=3)
    assert mesh.schedules.get("digest/often").next_at == at(2)
    gate.open()
    lab.until_ended(len(expected))  # within half a minute nobody else would look
    until_next(mesh, at(5))
    assert ticks(mesh) == [at(minute) for minute in expected]
    ends = lab.rows("SELECT created_at, finished_at FROM squidmesh.runs ORDER BY created_at")
    assert all(ended <= began for (_, ended), (began, _) in pairwise(ends))


def test_jitter_delays_the_run_and_not_its_nominal_time(dsn: str) -> None:
    with standing_still(dsn, digest(expression="0 * * * *", jitter=1800), at=START) as h:
        h.travel_to(at(0, 13))
        (run,) = h.assert_started("digest")
        assert run.schedule is not None
        assert run.schedule.nominal_at == at(0, 13)
        began = h.run_until(run).finished_at
        assert began is not None
        assert timedelta(seconds=30) < began - at(0, 13) < timedelta(minutes=30)


# -- registering ----------------------------------------------------------------------------------------------------


def test_ten_workers_that_start_at_once_register_one_schedule(lab: Lab) -> None:
    Clockwork(lab)
    meshes = [lab.mesh(digest(expression="0 1 * * *")) for _ in range(10)]
    with ThreadPoolExecutor(10) as threads:
        flows = [mesh._schedules.scheduling for mesh in meshes]
        sessions = [lab.session() for _ in meshes]
        list(
            threads.map(
                lambda pair: drive(pair[1], pair[0].register(uuid4()), lab.schema), zip(flows, sessions, strict=True)
            )
        )
    ((name, next_at),) = lab.rows("SELECT name, next_at FROM squidmesh.schedules")
    assert (name, next_at) == ("digest/often", datetime(2026, 3, 3, 1, tzinfo=UTC))


def test_a_deploy_changes_and_retires_what_code_declares(lab: Lab) -> None:
    Clockwork(lab)
    one = lab.mesh(digest(expression="0 1 * * *"))
    worker = lab.worker(one)
    until_registered(one)
    one.schedules.pause("digest/often")
    worker.stop()

    two = lab.mesh(digest(expression="0 2 * * *", overlap="skip"))
    worker = lab.worker(two)
    until(lambda: two.schedules.get("digest/often").expression == "0 2 * * *", what="the new expression")
    schedule = two.schedules.get("digest/often")
    assert (schedule.paused, schedule.policy.overlap) == (True, "skip")
    assert schedule.next_at == datetime(2026, 3, 3, 2, tzinfo=UTC)
    worker.stop()

    worker = lab.worker(lab.mesh(digest(expression=None)))
    until(lambda: two.schedules.get("digest/often").retired, what="a retired schedule")
    worker.stop()
    lab.worker(one)
    until(lambda: not one.schedules.get("digest/often").retired, what="a schedule that is back")


def test_old_workers_do_not_fight_new_ones(lab: Lab) -> None:
    """While both are there, the code of the one that began last holds; what the old one says then is not heard."""
    Clockwork(lab)
    old, new = lab.mesh(digest(expression="0 1 * * *")), lab.mesh(digest(expression="0 2 * * *"))
    early = lab.worker(old)
    until_registered(old)
    late = lab.worker(new)
    until(lambda: new.schedules.get("digest/often").expression == "0 2 * * *", what="the new expression")
    session = lab.session()
    assert drive(session, old._schedules.scheduling.register(early.id), lab.schema) == 0
    late.stop()
    assert drive(session, old._schedules.scheduling.register(early.id), lab.schema) == 1, "a roll-back"
    assert new.schedules.get("digest/often").expression == "0 1 * * *"


def test_a_worker_leaves_alone_what_it_does_not_know(lab: Lab) -> None:
    clock, mesh, other = Clockwork(lab), lab.mesh(digest()), lab.mesh(digest("other", None))
    worker = lab.worker(mesh)
    until_registered(mesh)
    worker.stop()
    other.schedules.create("mine", "other", "* * * * *")
    lab.worker(other)
    clock.step_and_tell(minutes=1)
    until_next(mesh, at(2), "mine")
    assert mesh.schedules.get("digest/often").next_at == at(1)
    assert not mesh.schedules.get("digest/often").retired


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ({"catch_up": 0}, "catch_up= has a window of 0"),
        ({"catch_up": CatchUp(60, "none")}, "'latest' or 'all'"),  # type: ignore[arg-type]
        ({"overlap": "wait"}, "overlap= must be one of 'allow', 'skip', 'queue'"),
        ({"jitter": -1}, "jitter= must be seconds"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_with_the_workflow(option: dict[str, Any], problem: str) -> None:
    with pytest.raises(DefinitionError, match=problem):
        digest(**option).check()


# -- at run time ----------------------------------------------------------------------------------------------------


def test_a_schedule_is_created_changed_paused_resumed_and_deleted(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(digest(expression=None))
    lab.worker(mesh)
    created = mesh.schedules.create("munich", "digest", "* * * * *", payload={"city": "Munich"}, overlap="skip")
    assert (created.next_at, created.source, created.trigger) == (at(1), "api", "by_hand")
    assert mesh.schedules.get("munich") == created
    with pytest.raises(ScheduleExists, match="munich"):
        mesh.schedules.create("munich", "digest", "* * * * *")
    assert mesh.schedules.next_times("munich", 2) == [at(1), at(2)]

    clock.step_and_tell(minutes=1)  # a worker that had no schedules when it started was told
    lab.until_ended(1)
    assert mesh.list_runs()[0].payload == {"city": "Munich", "day": "2026-03-02"}

    assert mesh.schedules.pause("munich").paused
    clock.step_and_tell(minutes=10)
    changed = mesh.schedules.change("munich", expression="*/5 * * * *", payload={"city": "Rome"}, catch_up=600)
    assert (changed.paused, changed.policy.window, changed.policy.overlap) == (True, 600.0, "skip")
    resumed = mesh.schedules.resume("munich")
    assert (resumed.next_at, resumed.payload) == (at(15), {"city": "Rome"})
    clock.step_and_tell(minutes=5)
    lab.until_ended(2)
    assert ticks(mesh, "munich") == [at(1), at(15)]

    mesh.schedules.delete("munich")
    assert mesh.schedules.list() == []
    for call in (mesh.schedules.get, mesh.schedules.pause, mesh.schedules.delete, mesh.schedules.trigger_now):
        with pytest.raises(ScheduleNotFound, match="munich"):
            call("munich")


def test_what_cannot_be_scheduled_is_refused_before_anything_is_stored(lab: Lab) -> None:
    mesh = lab.mesh(digest())
    create = mesh.schedules.create
    refused: list[tuple[type[Exception], Any]] = [
        (InvalidOption, lambda: create("a/b", "digest", "* * * * *")),
        (WorkflowNotFound, lambda: create("a", "none", "* * * * *")),
        (TriggerNotFound, lambda: create("a", "digest", "* * * * *", trigger="none")),
        (CronError, lambda: create("a", "digest", "61 * * * *")),
        (CronError, lambda: create("a", "digest", "* * * * *", timezone="Nowhere")),
        (InvalidPayload, lambda: create("a", "digest", "* * * * *", payload={"town": "Rome"})),
        (InvalidPayload, lambda: create("a", "digest", "* * * * *", payload={"city": "\0"})),
        (InvalidOption, lambda: create("a", "digest", "* * * * *", payload=7)),  # type: ignore[arg-type]
        (InvalidOption, lambda: create("a", "digest", "* * * * *", overlap="wait")),  # type: ignore[arg-type]
        (InvalidOption, lambda: create("a", "digest", "* * * * *", catch_up=0)),
        (InvalidOption, lambda: mesh.schedules.backfill("a", datetime(2026, 1, 1), at(1))),  # noqa: DTZ001
        (InvalidOption, lambda: mesh.schedules.next_times("a", 0)),
    ]
    for error, call in refused:
        with pytest.raises(error):
            call()
    assert mesh.schedules.list() == []


def test_what_code_declares_is_changed_in_code(dsn: str) -> None:
    with standing_still(dsn, digest()) as h:
        with pytest.raises(InvalidOption, match="declared in code"):
            h.mesh.schedules.change("digest/often", jitter=1)
        with pytest.raises(InvalidOption, match="declared in code"):
            h.mesh.schedules.delete("digest/often")


def test_a_backfill_starts_each_nominal_time_once_whoever_starts_it(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(digest())
    lab.worker(mesh)
    until_registered(mesh)
    clock.step_and_tell(seconds=30)
    lab.until_ended(1)
    runs = mesh.schedules.backfill("digest/often", at(57, 11), at(5))
    assert [run.schedule.nominal_at for run in runs if run.schedule] == [at(57, 11), at(58, 11), at(59, 11), at(0)]
    assert {run.schedule.received_at for run in runs if run.schedule} == {clock.now().replace(microsecond=0)}
    assert mesh.schedules.backfill("digest/often", at(57, 11), at(5)) == []
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda _: mesh.schedules.backfill("digest/often", at(0, 11), at(5)), range(4)))
    assert sum(map(len, found)) == 57
    lab.until_ended(62)
    assert len(ticks(mesh)) == len(set(ticks(mesh))) == 62
    with pytest.raises(InvalidOption, match="more than 1000"):
        mesh.schedules.backfill("digest/often", at(0) - timedelta(days=2), at(5))


def test_a_run_that_a_backfill_started_before_is_not_started_by_the_schedule(dsn: str) -> None:
    with standing_still(dsn, digest(), at=START) as h:
        h.outage(minutes=1)
        (early,) = h.mesh.schedules.backfill("digest/often", at(1), at(2))
        h.drain()
        assert [run.id for run in h.runs()] == [early.id]
        schedule = h.mesh.schedules.get("digest/often")
        assert (schedule.last_run, schedule.next_at) == (None, at(2))


def test_a_run_may_be_triggered_at_any_time_and_in_the_caller_s_transaction(lab: Lab) -> None:
    Clockwork(lab)
    mesh = lab.mesh(digest(expression="0 1 * * *"))
    lab.worker(mesh)
    until_registered(mesh)
    mesh.schedules.pause("digest/often")
    with lab.session(autocommit=False) as connection:
        mesh.schedules.trigger_now("digest/often", connection=connection)
        connection.rollback()
        runs = [mesh.schedules.trigger_now("digest/often", connection=connection) for _ in range(2)]
    ended = [mesh.wait_for_run(run.id, 20) for run in runs]
    assert [run.status for run in ended] == [RunStatus.COMPLETED] * 2
    assert all(isinstance(run.schedule, Tick) and run.schedule.window_end for run in ended)
    assert len(mesh.list_runs()) == 2


def test_a_payload_that_a_new_contract_refuses_does_not_hold_up_other_schedules(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(digest(expression=None))
    mesh.schedules.create("bad", "digest", "* * * * *", payload={"city": "Rome"})
    mesh.schedules.create("good", "digest", "* * * * *")
    lab.rows("""UPDATE squidmesh.schedules SET payload = '{"town": 1}' WHERE name = 'bad'""")
    lab.worker(mesh)
    clock.step_and_tell(minutes=1)
    until_next(mesh, at(2), "bad")
    until_next(mesh, at(2), "good")
    assert mesh.schedules.get("bad").skip_reason == "payload"
    assert [run.payload["city"] for run in mesh.list_runs()] == ["Berlin"]


def test_the_twin_does_the_same(lab: Lab) -> None:
    Clockwork(lab)

    async def main() -> None:
        async with AsyncSquidMesh(lab.dsn, workflows=[digest(expression=None)], schema=lab.schema) as mesh:
            schedules = mesh.schedules
            created = await schedules.create("mine", "digest", "* * * * *", jitter=timedelta(seconds=1))
            assert await schedules.list(workflow="digest") == [created]
            assert (await schedules.pause("mine")).paused
            assert not (await schedules.resume("mine")).paused
            assert (await schedules.change("mine", overlap="queue")).policy.overlap == "queue"
            assert await schedules.next_times("mine", 1) == [at(1)]
            assert (await schedules.trigger_now("mine")).schedule is not None
            assert len(await schedules.backfill("mine", at(58, 11), at(1))) == 3
            await schedules.delete("mine")
            with pytest.raises(ScheduleNotFound):
                await schedules.get("mine")

    asyncio.run(main())


def test_the_twins_have_the_same_methods() -> None:
    methods = [name for name in vars(Schedules) if not name.startswith("_")]
    assert methods == [name for name in vars(AsyncSchedules) if not name.startswith("_")]
    for name in methods:
        sync, asynchronous = getattr(Schedules, name), getattr(AsyncSchedules, name)
        assert inspect.getdoc(sync) == inspect.getdoc(asynchronous)
        named = [[(p.name, p.default) for p in inspect.signature(m).parameters.values()] for m in (sync, asynchronous)]
        assert named[0] == named[1]
