"""``wake_jobs``: sleeping jobs become ready when they are due, and the worker learns how long it may sleep itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squidmesh.store.jobs import lock_jobs, wake_jobs
from squidmesh.store.runs import lock_run
from squidmesh.store.workers import remove_worker, set_idle
from tests.store.kit import CHANNEL, Session, claim, entry, heard, listen, make_due, register, start, wake

if TYPE_CHECKING:
    from tests.store.conftest import Connect


def states(session: Session) -> dict[str, str]:
    """The state of each job by its step."""
    return dict(session.rows("SELECT step, state FROM squidmesh.jobs"))


def test_only_due_jobs_of_the_served_queues_are_woken(store: Session) -> None:
    for step, queue in (("due", "default"), ("too", "mail"), ("not served", "other"), ("later", "default")):
        start(store, 1, entry(step, queue=queue, delay=1000))
    make_due(store, "due", "too", "not served")

    woken, seconds = wake(store, "default", "mail")

    assert woken == 2
    assert states(store) == {"due": "ready", "too": "ready", "not served": "sleeping", "later": "sleeping"}
    assert seconds is not None
    assert 900 < seconds < 1000
    assert wake(store, "default", "mail")[0] == 0


def test_nobody_sleeps_nothing_to_wait_for(store: Session) -> None:
    assert wake(store, "default") == (0, None)
    start(store)
    assert wake(store, "default") == (0, None)
    assert wake(store) == (0, None)


def test_the_next_one_is_the_first_of_all_queues(store: Session) -> None:
    for queue, delay in (("a", 500), ("b", 100), ("a", 300), ("not served", 1)):
        start(store, 1, entry(queue=queue, delay=delay))
    woken, seconds = wake(store, "a", "b")
    assert woken == 0
    assert seconds is not None
    assert 0 < seconds < 100


def test_a_batch_is_bounded_and_says_that_more_are_due(store: Session) -> None:
    for step in ("oldest", "old", "young"):
        start(store, 1, entry(step, delay=1000))
    make_due(store, "oldest", "old", "young")

    woken, seconds = wake(store, "default", most=2)

    assert woken == 2
    assert states(store) == {"oldest": "ready", "old": "ready", "young": "sleeping"}
    assert seconds is not None
    assert seconds <= 0
    assert wake(store, "default", most=2) == (1, None)


def test_a_woken_job_can_be_claimed_and_queues_behind_those_that_were_ready(store: Session) -> None:
    start(store, 1, entry("sleeper", delay=1000))
    start(store, 1, entry("ready"))
    make_due(store, "sleeper")
    wake(store, "default")
    assert [claim(store, 1)[0].step for _ in range(2)] == ["ready", "sleeper"]
    assert store.rows("SELECT run_at FROM squidmesh.jobs") == [(None,), (None,)]


def test_waking_skips_what_another_session_wakes_and_never_waits(store: Session, other: Session) -> None:
    for step in ("a", "b", "c"):
        start(store, 1, entry(step, delay=1000))
    make_due(store, "a", "b", "c")
    other.connection.execute("SET lock_timeout = '1ms'")

    with store.transaction():
        assert wake(store, "default", most=1, within=True)[0] == 1
        assert wake(other, "default") == (2, 0), "one is due still: who holds it may let go of it"
    assert wake(other, "default") == (0, None)

    assert set(states(store).values()) == {"ready"}


def test_a_due_job_that_somebody_holds_is_to_be_looked_for_again(store: Session, other: Session) -> None:
    (run_id,) = start(store, 1, entry(delay=1000))
    make_due(store, "first")
    with store.connection.transaction(force_rollback=True):
        store.within(lock_jobs([run_id]))
        assert wake(other, "default") == (0, 0)
    assert wake(other, "default") == (1, None)


@pytest.mark.parametrize(("due", "free", "told"), [(3, 3, False), (3, 2, True), (3, 0, True), (0, 0, False)])
def test_workers_that_sleep_are_told_of_what_the_waker_cannot_begin(
    store: Session, other: Session, due: int, free: int, told: bool
) -> None:
    """They wake at the same instant, skip what is being woken here, and would find nothing to do."""
    waker, sleeper = (register(store) for _ in range(2))
    for worker in (waker, sleeper):
        store.run(set_idle(worker, idle=True))
    listen(other)
    for step in "abc"[:due]:
        start(store, 1, entry(step, delay=1000))
        make_due(store, step)
    heard(other, store)
    store.run(wake_jobs({"default": free}, CHANNEL, waker))
    assert heard(other, store) == (["queue:default"] if told else [])
    store.run(remove_worker(sleeper))
    start(store, 1, entry("later", delay=1000))
    heard(other, store)
    make_due(store, "later")
    store.run(wake_jobs({"default": 0}, CHANNEL, waker))
    assert heard(other, store) == [], "nobody else sleeps"


def test_each_queue_has_a_batch_of_its_own_and_says_when_it_goes_on(store: Session) -> None:
    for step, queue in (("a", "mail"), ("b", "mail"), ("c", "mail"), ("d", "default"), ("e", "slow")):
        start(store, 1, entry(step, queue=queue, delay=1000))
    make_due(store, "a", "b", "c", "d")
    woken = store.run(wake_jobs({"mail": 1, "default": 1, "slow": 1, "empty": 1}, most=2))
    assert woken.count == 3
    assert woken.dues == {"mail": 0, "slow": pytest.approx(1000, abs=60)}


def test_waking_asks_for_no_lock_of_a_run(store: Session, other: Session, connect: Connect) -> None:
    (run_id,) = start(store, 1, entry(delay=1000))
    make_due(store, "first")
    other.connection.execute("SET lock_timeout = '1ms'")
    with store.transaction():
        store.within(lock_run(run_id))
        assert wake(other, "default")[0] == 1
