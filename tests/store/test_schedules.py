"""The statements about schedules: what they write, whom they wait for, and whom they pass over."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from squidmesh.clock import new_id
from squidmesh.planner.firing import Firing, Skip, SkipReason
from squidmesh.records import Tick
from squidmesh.store import schedules as store_of
from squidmesh.store.runs import read_run
from squidmesh.timetable import Overlap, Policy, Schedule
from tests.store.kit import (
    CHANNEL,
    Session,
    entry,
    heard,
    in_schema,
    listen,
    register,
    start,
    start_plan,
    until_blocked,
)

if TYPE_CHECKING:
    from tests.store.conftest import Connect

PAST = datetime(2026, 1, 1, tzinfo=UTC)
FUTURE = datetime(2126, 1, 1, tzinfo=UTC)


def schedule(name: str = "s", **changes: Any) -> Schedule:
    said = {
        "name": name,
        "workflow": "orders",
        "trigger": "nightly",
        "source": "api",
        "expression": "* * * * *",
        "timezone": "UTC",
        "policy": Policy(window=60.0, every=True, overlap=Overlap.SKIP, jitter=1.5),
        "payload": {"a": "ünï"},
        "next_at": PAST,
    }
    return Schedule(**{**said, **changes})


def add(session: Session, *schedules: Schedule) -> None:
    session.run(store_of.insert_schedules(schedules))


def due(session: Session, *triggers: str, most: int = 100) -> list[str]:
    found = session.run(store_of.lock_due_schedules(triggers or ["orders/nightly"], most))
    return [] if found is None else [s.name for s in found.schedules]


def test_a_schedule_is_read_as_it_was_written(store: Session) -> None:
    wanted = schedule(paused=True)
    assert store.run(store_of.insert_schedules([wanted, schedule("t", next_at=None)])) == {"s", "t"}
    assert store.run(store_of.insert_schedules([schedule(expression="0 0 * * *")])) == set(), "the name is taken"
    assert store.run(store_of.read_schedules("s")).schedules == [wanted]
    changed = replace(wanted, expression="0 1 * * *", paused=False, retired=True, policy=Policy(), payload={})
    store.run(store_of.update_schedules([changed]))
    assert store.run(store_of.read_schedules(None, "orders")).schedules == [changed, schedule("t", next_at=None)]
    assert store.run(store_of.read_schedules(None, "none")).schedules == []
    store.run(store_of.delete_schedule("s"))
    assert store.run(store_of.read_schedules("s")).schedules == []


def test_what_is_due_is_locked_the_longest_due_first_and_nothing_else(store: Session) -> None:
    add(
        store,
        schedule("second", next_at=PAST + timedelta(1)),
        schedule("first"),
        schedule("later", next_at=FUTURE),
        schedule("never", next_at=None),
        schedule("paused", paused=True),
        schedule("retired", retired=True),
        schedule("of others", workflow="others"),
    )
    assert due(store) == ["first", "second"]
    assert due(store, most=1) == ["first"]
    assert due(store, "others/nightly") == ["of others"]
    known, seconds, awaited = store.run(store_of.read_agenda(["orders/nightly"]))
    assert (known, awaited) == (5, frozenset())
    assert seconds is not None
    assert seconds < 0


def test_nobody_waits_for_what_another_fires(store: Session, other: Session) -> None:
    add(store, schedule("a"), schedule("b"))
    with store.transaction():
        first = store.within(store_of.lock_due_schedules(["orders/nightly"], 1))
        assert first is not None
        assert due(other) == ["b"]
        store.within(store_of.save_schedules([(first.schedules[0], Firing((), (), FUTURE), [])]))
    assert due(other) == ["b"]


def test_a_change_waits_for_the_one_who_fires(connect: Connect) -> None:
    one, two, observer = connect(), connect(), connect()
    add(one, schedule())
    with one.transaction():
        one.within(store_of.lock_due_schedules(["orders/nightly"], 1))
        changing = two.later(lambda: two.run(store_of.lock_schedules(["s"])))
        until_blocked(observer, two)
        one.within(store_of.save_schedules([(schedule(), Firing((), (), FUTURE), [])]))
    found = changing.result(10)
    assert found is not None
    assert found.schedules[0].next_at == FUTURE, "it sees what was fired"


def test_one_that_waits_for_its_run_is_not_due_until_that_has_ended(store: Session) -> None:
    (run_id,) = start(store)
    waiting = schedule(policy=Policy(overlap=Overlap.QUEUE))
    add(store, waiting)
    store.run(store_of.save_schedules([(waiting, Firing((PAST,), (), PAST), [run_id])]))
    assert due(store) == []
    assert store.run(store_of.read_agenda(["orders/nightly"])) == (1, None, frozenset({run_id}))
    assert store.run(store_of.list_live_runs([run_id, new_id()])) == {run_id}
    store.connection.execute(in_schema("UPDATE squidmesh.runs SET finished_at = squidmesh.clock()"))
    assert due(store) == ["s"]
    assert store.run(store_of.list_live_runs([run_id])) == set()


def test_what_was_decided_is_written_and_counted(store: Session) -> None:
    (run_id,) = start(store)
    add(store, schedule())
    skip = Skip(SkipReason.MISSED, 3, PAST, PAST + timedelta(2))
    firing = Firing((PAST + timedelta(3),), (skip,), FUTURE)
    for _ in range(2):
        store.run(store_of.save_schedules([(schedule(), firing, [run_id])]))
    store.run(store_of.save_schedules([(schedule(), Firing((), (), FUTURE), [])]))
    store.run(store_of.save_schedules([(schedule(), firing, [new_id()])]))  # a run that is not there
    (found,) = store.run(store_of.read_schedules("s")).schedules
    assert (found.next_at, found.last_at, found.last_run) == (FUTURE, PAST + timedelta(3), run_id)
    assert (found.skipped, found.last_skipped, found.skip_reason) == (9, PAST + timedelta(2), "missed")


def scheduled(*keys: str | None, run_at: datetime = PAST) -> store_of.ScheduledRuns:
    tick = Tick(
        name="s",
        workflow="orders",
        trigger_name="nightly",
        cron_expression="* * * * *",
        timezone="UTC",
        nominal_at=PAST,
        window_start=PAST,
        window_end=PAST + timedelta(minutes=1),
        signal_id="sha256:x",
        received_at=PAST,
    )
    return store_of.ScheduledRuns(
        ids=new_id.many(len(keys)),
        payloads=["{}"] * len(keys),
        keys=keys,
        ticks=[tick] * len(keys),
        run_ats=[run_at] * len(keys),
        workflow="orders",
        fingerprint="f1",
        trigger="nightly",
        plan=start_plan(entry("first"), entry("second", slot=1, delay=60.0)),
    )


def test_a_run_of_a_schedule_is_started_once_for_its_key(store: Session, other: Session) -> None:
    worker = register(other)
    other.connection.execute(in_schema("UPDATE squidmesh.workers SET idle = true WHERE id = %s"), [worker])
    listen(other)
    new = scheduled("k1", "k2", None, None)
    created, started = store.run(store_of.start_scheduled_runs(new, CHANNEL, always_notify=False))
    assert started == set(new.ids)
    assert heard(other, store) == ["queue:default"]
    run = store.run(read_run(new.ids[0]))
    assert run is not None
    assert (run.schedule, run.created_at, run.trigger) == (new.ticks[0], created, "nightly")
    again = scheduled("k1", "k3")
    assert store.run(store_of.start_scheduled_runs(again, CHANNEL, always_notify=False))[1] == {again.ids[1]}
    assert heard(other, store) == ["queue:default"]
    assert store.run(store_of.start_scheduled_runs(scheduled("k1"), CHANNEL, always_notify=True))[1] == set()
    assert heard(other, store) == [], "nothing was started"
    jobs = store.rows("SELECT state, step, run_at IS NULL, count(*) FROM squidmesh.jobs GROUP BY 1, 2, 3 ORDER BY 2")
    assert jobs == [("ready", "first", True, 5), ("sleeping", "second", False, 5)]


def test_runs_may_begin_later_than_their_nominal_time(store: Session) -> None:
    store.run(store_of.start_scheduled_runs(scheduled("k", run_at=FUTURE), CHANNEL, always_notify=False))
    rows = store.rows("SELECT state, run_at FROM squidmesh.jobs ORDER BY slot")
    assert rows == [("sleeping", FUTURE), ("sleeping", FUTURE + timedelta(seconds=60))]


def test_the_code_of_the_worker_that_began_last_is_the_newest_while_it_lives(store: Session) -> None:
    early, late = register(store), register(store)
    code = schedule("orders/nightly", source="code")

    def newer_and_followed(worker: object) -> tuple[bool, bool]:
        _, ((_, newer, followed),) = store.run(store_of.read_declared(worker, ["orders"]))  # type: ignore[arg-type]
        return newer, followed

    store.run(store_of.insert_schedules([code], late))
    assert newer_and_followed(early) == (True, False)
    assert newer_and_followed(late) == (False, True)
    store.connection.execute(in_schema("UPDATE squidmesh.workers SET dead = true WHERE id = %s"), [late])
    assert newer_and_followed(early) == (False, False)
    store.run(store_of.update_schedules([code], early))
    assert newer_and_followed(early) == (False, True)
    assert newer_and_followed(late) == (False, False)
    now, none = store.run(store_of.read_declared(early, ["others"]))
    assert none == []
    assert now.tzinfo is UTC


def test_due_schedules_are_found_by_their_index(store: Session) -> None:
    """Also in a table with many that are not due, under a plan that was made while it was empty."""
    add(store, *(schedule(f"s{n}", next_at=FUTURE) for n in range(3000)))
    store.connection.execute(in_schema("ANALYZE squidmesh.schedules"))
    plan = "\n".join(
        line
        for (line,) in store.rows(
            "EXPLAIN SELECT name FROM squidmesh.schedules s WHERE s.next_at <= squidmesh.clock() AND NOT s.paused"
            " AND NOT s.retired ORDER BY s.next_at LIMIT 10 FOR UPDATE OF s SKIP LOCKED"
        )
    )
    assert "schedules_due" in plan
