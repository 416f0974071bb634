"""Statements about workers: a lease is renewed until somebody declares the worker dead, and then never again."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from squidmesh.states import JobState
from squidmesh.store.jobs import list_flagged, notify_idle
from squidmesh.store.workers import (
    LateWorker,
    declare_dead,
    list_late_workers,
    remove_worker,
    renew_worker,
    set_idle,
)
from tests.store.kit import CHANNEL, Session, claim, heard, in_schema, listen, locked, plan, register, save, start

if TYPE_CHECKING:
    from uuid import UUID

    from tests.store.conftest import Connect


def late(session: Session, asking: UUID | None = None) -> list[LateWorker]:
    return session.run(list_late_workers(asking or uuid4()))


def test_a_worker_announces_itself(store: Session) -> None:
    worker = register(store, "mail", 'odd "{queue}"', knows=["orders/pay", "orders/ünï, NULL"], lease=30)
    (row,) = store.rows(
        "SELECT id, pid, host, version, queues, knows, beats, idle, dead, extract(epoch FROM lease - started_at)::int"
        " FROM squidmesh.workers"
    )
    queues, knows = ["mail", 'odd "{queue}"'], ["orders/pay", "orders/ünï, NULL"]
    assert row == (worker, 1, "here", "0", queues, knows, 0, False, False, 30)


def test_a_lease_that_is_renewed_is_not_late(store: Session) -> None:
    worker = register(store, lease=-5)
    (found,) = late(store)
    assert (found.id, found.beats, found.dead, found.host, found.pid) == (worker, 0, False, "here", 1)
    assert 5 <= found.late < 60
    assert late(store, worker) == [], "a worker does not look at itself"

    assert store.run(renew_worker(worker, 60))
    assert late(store) == []
    assert store.value("SELECT beats FROM squidmesh.workers") == 1


def test_a_lease_that_a_clock_set_back_has_made_long_is_told_with_how_long_it_was(store: Session) -> None:
    """Its end may be hours away, and a dead worker would be waited for until then."""
    worker = register(store, lease=30)
    forward = (
        "UPDATE squidmesh.workers SET lease = lease + interval '1 hour', renewed_at = renewed_at + interval '1 hour'"
    )
    store.connection.execute(in_schema(forward))

    (found,) = late(store)

    assert (found.id, found.dead) == (worker, False)
    assert found.late < -3600
    assert 29 < found.silence <= 31
    assert store.run(renew_worker(worker, 30))
    assert late(store) == [], "who beats has a lease that says something again"


def test_a_worker_that_has_beaten_between_two_looks_is_not_declared_dead(store: Session) -> None:
    worker = register(store, lease=-5)
    (found,) = late(store)
    assert store.run(renew_worker(worker, -1))
    assert not store.run(declare_dead(worker, found.beats))
    assert store.run(renew_worker(worker, 60))


def test_a_dead_worker_stays_dead(store: Session) -> None:
    worker = register(store, lease=-5)
    (found,) = late(store)
    assert store.run(declare_dead(worker, found.beats))
    assert not store.run(renew_worker(worker, 60))
    assert [w.dead for w in late(store)] == [True]
    assert store.run(declare_dead(worker, found.beats)), "another observer may go on with the rescue"
    store.run(remove_worker(worker))
    assert late(store) == []
    assert not store.run(renew_worker(worker, 60))
    assert not store.run(declare_dead(worker, 0))


def test_a_worker_of_which_nothing_but_its_jobs_is_left_is_late_too(store: Session) -> None:
    """Its row was taken away, by hand or by a rescue that a last claim overtook."""
    start(store, 3)
    gone, here = uuid4(), register(store)
    claim(store, 2, worker=gone)
    claim(store, 1, worker=here)
    (found,) = late(store)
    assert (found.id, found.dead) == (gone, True)


def test_sleeping_workers_are_told_of_ready_jobs(store: Session, connect: Connect) -> None:
    listener = listen(connect())
    worker = register(store, "a", "b")
    store.run(notify_idle(CHANNEL, ["a"]))
    store.run(set_idle(worker, idle=True))
    store.run(notify_idle(CHANNEL, ["a", "b", "c"]))
    store.run(set_idle(worker, idle=False))
    store.run(notify_idle(CHANNEL, ["b"]))
    assert sorted(heard(listener, store)) == ["queue:a", "queue:b"]


def test_workers_are_told_which_of_their_steps_are_to_stop(store: Session, connect: Connect) -> None:
    listener = listen(connect())
    mine, theirs, ready = start(store, 3)
    worker, other_worker = uuid4(), uuid4()
    (job,) = claim(store, 1, worker=worker, number=3)
    claim(store, 1, worker=other_worker)
    assert job.run_id == mine

    save(store, *(plan(locked(store, run_id), flag=True) for run_id in (mine, theirs, ready)))

    assert sorted(heard(listener, store)) == sorted([f"worker:{worker}", f"worker:{other_worker}"])
    assert store.run(list_flagged(worker)) == [(mine, 0, 3)]
    flagged = store.rows("SELECT run_id, state FROM squidmesh.jobs WHERE cancelled ORDER BY run_id")
    assert flagged == [(mine, JobState.CLAIMED), (theirs, JobState.CLAIMED)]
