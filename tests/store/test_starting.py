"""``start_runs``: what a start writes, and whom it wakes."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import psycopg
import pytest

from squidmesh.clock import new_id
from squidmesh.records import JobKind, Lane
from squidmesh.states import RunStatus
from squidmesh.store.runs import lock_run, read_run, start_runs
from squidmesh.store.workers import declare_dead, set_idle
from tests.store.kit import CHANNEL, Session, entry, heard, listen, new_runs, register, start

if TYPE_CHECKING:
    from tests.store.conftest import Connect


def test_a_start_writes_the_run_and_its_entry_jobs(store: Session) -> None:
    source = new_id()
    first = entry("first", slot=0, queue="mail", priority=3, lane=Lane.ALONE)
    second = entry("second", slot=1, kind=JobKind.WAIT, priority=-2)
    new = new_runs(
        1, first, second, payloads=['{"order": "ünï\\"1\\""}'], trigger="nightly", replayed_from=source, seq=7
    )

    created = store.run(start_runs(new, CHANNEL, always_notify=False))

    (run_id,) = new.ids
    run = store.run(read_run(run_id))
    assert run is not None
    assert (run.workflow, run.trigger, run.fingerprint, run.status) == ("orders", "nightly", "f1", RunStatus.PENDING)
    assert (run.payload, run.replayed_from, run.created_at) == ({"order": 'ünï"1"'}, source, created)
    assert (run.current_steps, run.error, run.attention, run.finished_at) == (("first", "second"), None, None, None)
    locked = store.run(lock_run(run_id))
    assert locked is not None
    assert (locked.seq, locked.progress) == (7, new.plan.progress)
    jobs = store.rows(
        "SELECT slot, state, kind, step, visit, attempt, saw, queue, priority, lane, worker, claim, started, crashes,"
        " defers, cancelled, reason, run_at, since = %s AND ready_at = since FROM squidmesh.jobs ORDER BY slot",
        created,
    )
    unclaimed = (None, 0, False, 0, 0, False, None, None, True)
    assert jobs == [
        (0, "ready", "step", "first", 1, 1, 7, "mail", 3, 1, *unclaimed),
        (1, "ready", "wait", "second", 1, 1, 7, "default", -2, 0, *unclaimed),
    ]


def test_many_runs_start_with_one_statement(store: Session) -> None:
    new = new_runs(50, entry("a", slot=0), entry("b", slot=1), payloads=[f'{{"n": {n}}}' for n in range(50)])

    store.run(start_runs(new, CHANNEL, always_notify=False))

    found = store.rows("SELECT id, (payload->>'n')::int FROM squidmesh.runs ORDER BY id")
    assert found == list(zip(new.ids, range(50), strict=True))
    jobs = store.rows("SELECT run_id, slot, step FROM squidmesh.jobs ORDER BY run_id, slot")
    assert jobs == [(run_id, slot, step) for run_id in new.ids for slot, step in enumerate("ab")]


HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("delay", "run_at", "wait", "begins"),
    [
        (0.0, None, 0.0, None),
        (0.0, -HOUR, 0.0, None),
        (1800.0, None, 0.0, HOUR / 2),
        (0.0, HOUR, 0.0, HOUR),
        (1800.0, HOUR, 0.0, HOUR),
        (7200.0, HOUR, 0.0, 2 * HOUR),
        (0.0, None, 60.0, timedelta(seconds=60)),
        (1800.0, None, 1800.0, HOUR),
    ],
)
def test_a_start_sleeps_until_the_later_of_delay_and_instant_and_an_entry_wait_adds_to_it(
    store: Session, delay: float, run_at: timedelta | None, wait: float, begins: timedelta | None
) -> None:
    """``run_at`` and what is expected are given from now on, which is one instant within a transaction's statement."""
    now: datetime = store.value("SELECT squidmesh.clock()")
    instant = now + run_at if run_at is not None else None

    start(store, 1, entry(delay=wait), delay=delay, run_at=instant)

    ((state, at, created),) = store.rows("SELECT state, run_at, since FROM squidmesh.jobs")
    if begins is None:
        assert (state, at) == ("ready", None)
    else:
        expected = instant if begins == run_at else created + begins
        assert (state, at) == ("sleeping", expected)


def test_a_start_tells_only_a_queue_that_a_sleeping_worker_serves(store: Session, connect: Connect) -> None:
    listener = listen(connect())
    awake = register(store, "mail")
    starts = entry("a", slot=0, queue="mail"), entry("b", slot=1, queue="mail"), entry("c", slot=2, queue="other")
    start(store, 1, *starts)
    assert heard(listener, store) == []

    store.run(set_idle(awake, idle=True))
    start(store, 1, *starts)
    assert heard(listener, store) == ["queue:mail"]

    store.run(declare_dead(awake, 0))
    start(store, 1, *starts)
    assert heard(listener, store) == []

    asleep = register(store, "other", "third")
    store.run(set_idle(asleep, idle=True))
    start(store, 3, *starts)
    assert heard(listener, store) == ["queue:other"]


def test_a_host_always_notifies_once_and_only_when_it_commits(store: Session, connect: Connect) -> None:
    listener, host = listen(connect()), connect()
    new = new_runs(3, entry("a", slot=0), entry("b", slot=1))

    with host.transaction():
        host.within(start_runs(new, CHANNEL, always_notify=True))
        assert heard(listener, store) == []
        assert store.value("SELECT count(*) FROM squidmesh.runs") == 0

    assert heard(listener, store) == ["queue:default"]


def test_a_host_that_rolls_back_leaves_nothing(store: Session, connect: Connect) -> None:
    listener, host = listen(connect()), connect()

    host.connection.execute("BEGIN")
    host.within(start_runs(new_runs(2), CHANNEL, always_notify=True))
    host.connection.execute("ROLLBACK")

    assert heard(listener, store) == []
    assert store.rows("SELECT 1 FROM squidmesh.runs UNION ALL SELECT 1 FROM squidmesh.jobs") == []


def test_an_id_that_exists_starts_nothing_of_its_batch(store: Session) -> None:
    (known,) = start(store)

    with pytest.raises(psycopg.errors.UniqueViolation):
        store.run(start_runs(new_runs(2, ids=[uuid4(), known]), CHANNEL, always_notify=False))

    assert store.value("SELECT count(*) FROM squidmesh.runs") == 1
    assert store.value("SELECT count(*) FROM squidmesh.jobs") == 1
