"""``wake_jobs``: sleeping jobs become ready when they are due, and the worker learns how long it may sleep itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh.store.jobs import wake_jobs
from squidmesh.store.runs import lock_run
from tests.store.kit import Session, claim, entry, make_due, start

if TYPE_CHECKING:
    from tests.store.conftest import Connect


def states(session: Session) -> dict[str, str]:
    """The state of each job by its step."""
    return dict(session.rows("SELECT step, state FROM squidmesh.jobs"))


def test_only_due_jobs_of_the_served_queues_are_woken(store: Session) -> None:
    for step, queue in (("due", "default"), ("too", "mail"), ("not served", "other"), ("later", "default")):
        start(store, 1, entry(step, queue=queue, delay=1000))
    make_due(store, "due", "too", "not served")

    woken, seconds = store.run(wake_jobs(["default", "mail"]))

    assert woken == 2
    assert states(store) == {"due": "ready", "too": "ready", "not served": "sleeping", "later": "sleeping"}
    assert seconds is not None
    assert 900 < seconds < 1000
    assert store.run(wake_jobs(["default", "mail"]))[0] == 0


def test_nobody_sleeps_nothing_to_wait_for(store: Session) -> None:
    assert store.run(wake_jobs(["default"])) == (0, None)
    start(store)
    assert store.run(wake_jobs(["default"])) == (0, None)
    assert store.run(wake_jobs([])) == (0, None)


def test_the_next_one_is_the_first_of_all_queues(store: Session) -> None:
    for queue, delay in (("a", 500), ("b", 100), ("a", 300), ("not served", 1)):
        start(store, 1, entry(queue=queue, delay=delay))
    woken, seconds = store.run(wake_jobs(["a", "b"]))
    assert woken == 0
    assert seconds is not None
    assert 0 < seconds < 100


def test_a_batch_is_bounded_and_says_that_more_are_due(store: Session) -> None:
    for step in ("oldest", "old", "young"):
        start(store, 1, entry(step, delay=1000))
    make_due(store, "oldest", "old", "young")

    woken, seconds = store.run(wake_jobs(["default"], 2))

    assert woken == 2
    assert states(store) == {"oldest": "ready", "old": "ready", "young": "sleeping"}
    assert seconds is not None
    assert seconds <= 0
    assert store.run(wake_jobs(["default"], 2)) == (1, None)


def test_a_woken_job_can_be_claimed_and_queues_behind_those_that_were_ready(store: Session) -> None:
    start(store, 1, entry("sleeper", delay=1000))
    start(store, 1, entry("ready"))
    make_due(store, "sleeper")
    store.run(wake_jobs(["default"]))
    assert [claim(store, 1)[0].step for _ in range(2)] == ["ready", "sleeper"]
    assert store.rows("SELECT run_at FROM squidmesh.jobs") == [(None,), (None,)]


def test_waking_skips_what_another_session_wakes_and_never_waits(store: Session, other: Session) -> None:
    for step in ("a", "b", "c"):
        start(store, 1, entry(step, delay=1000))
    make_due(store, "a", "b", "c")
    other.connection.execute("SET lock_timeout = '1ms'")

    with store.transaction():
        assert store.within(wake_jobs(["default"], 1))[0] == 1
        assert other.run(wake_jobs(["default"])) == (2, None)

    assert set(states(store).values()) == {"ready"}


def test_waking_asks_for_no_lock_of_a_run(store: Session, other: Session, connect: Connect) -> None:
    (run_id,) = start(store, 1, entry(delay=1000))
    make_due(store, "first")
    other.connection.execute("SET lock_timeout = '1ms'")
    with store.transaction():
        store.within(lock_run(run_id))
        assert other.run(wake_jobs(["default"]))[0] == 1
