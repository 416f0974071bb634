"""Locks: runs by id, then jobs; a turn never waits for a run, and nothing that waits for a claim can be waited for."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from squidmesh.clock import new_id
from squidmesh.states import JobState, RunStatus
from squidmesh.store.jobs import claim_jobs, lock_jobs
from squidmesh.store.runs import lock_run, lock_runs
from squidmesh.store.saving import save_plans
from tests.store.kit import (
    CHANNEL,
    Session,
    claim,
    entry,
    locked,
    plan,
    rooms,
    save,
    start,
    together,
    until_blocked,
)

if TYPE_CHECKING:
    from squidmesh.planner.plan import Plan
    from tests.store.conftest import Connect

NEVER_WAIT = "SET lock_timeout = '1ms'"
"""Whoever waits for a lock all the same gets an error."""


def ids_of(session: Session, *run_ids: UUID) -> list[UUID]:
    """The ids of the runs that could be locked without waiting."""
    return [run.id for run in session.within(lock_runs(run_ids))]


def test_lock_runs_leaves_out_what_another_session_holds_and_never_waits(store: Session, other: Session) -> None:
    held, free, later = start(store, 3)
    other.connection.execute(NEVER_WAIT)

    with store.transaction():
        assert ids_of(store, held) == [held]
        with other.transaction():
            assert ids_of(other, later, held, free) == [free, later]

    with other.transaction():
        assert ids_of(other, held, uuid4()) == [held]


def test_lock_runs_gives_the_run_as_planning_needs_it(store: Session) -> None:
    (run_id,) = start(store)
    run = locked(store, run_id)
    save(store, plan(run, status=RunStatus.FAILING, attention="failed", error={"type": "é"}, seq=5))

    with store.transaction():
        (found,) = store.within(lock_runs([run_id]))

    assert (found.id, found.workflow, found.trigger, found.fingerprint) == (run_id, "orders", "manual", "f1")
    assert (found.status, found.attention, found.seq) == (RunStatus.FAILING, "failed", 5)
    assert (found.progress, found.error) == (run.progress, {"type": "é"})
    assert found == locked(store, run_id)


def test_lock_run_waits_for_whoever_holds_the_run_and_then_sees_what_they_wrote(
    store: Session, other: Session, connect: Connect
) -> None:
    (run_id,) = start(store)
    with store.transaction():
        (run,) = store.within(lock_runs([run_id]))
        waiting = other.later(lambda: other.run(lock_run(run_id)))
        until_blocked(connect(), other)
        for statement in save_plans([plan(run, seq=9)], CHANNEL):
            store.within(statement)

    found = waiting.result(20)
    assert found is not None
    assert found.seq == 9


def test_lock_run_finds_no_run_that_does_not_exist(store: Session) -> None:
    assert store.run(lock_run(new_id())) is None


def test_a_long_transaction_on_one_run_stalls_no_turn_that_has_others_at_hand(store: Session, other: Session) -> None:
    """An approval that takes minutes: the turn saves its other runs and gets new work, without waiting anywhere."""
    approved, mine, waiting = start(store, 3)
    with store.transaction():
        store.within(lock_run(approved))
        store.within(lock_jobs([approved]))
        other.connection.execute(NEVER_WAIT)
        with other.transaction():
            assert ids_of(other, approved, mine) == [mine]
            (run,) = other.within(lock_runs([mine]))
            for statement in save_plans([plan(run, moved=[entry("next")])], CHANNEL):
                other.within(statement)
            claimed = other.within(claim_jobs(uuid4(), 1, rooms(10)))
        assert {job.run_id for job in claimed} == {mine, waiting}


@pytest.mark.parametrize("how", ["deleted", "moved", "locked"])
def test_changing_a_job_waits_for_the_claim_in_flight_and_nobody_deadlocks(
    store: Session, other: Session, connect: Connect, how: str
) -> None:
    """Two turns, each with a run's lock and then claiming a job of the other's run: the claim comes last, so both end."""
    mine, theirs = start(store, 2)
    worker = uuid4()
    observer = connect()
    for session in (store, other):
        # Only the deadlock detector would end a real one; it shall look at once.
        session.connection.execute("SET deadlock_timeout = '10ms'")

    with other.transaction():
        assert ids_of(other, theirs) == [theirs]
        claimed = other.within(claim_jobs(worker, 5, rooms(10)))
        assert {job.run_id for job in claimed} == {mine, theirs}

        change = store.later(lambda: _change(store, mine, how))
        until_blocked(observer, store)

    change.result(20)
    (still,) = store.run(lock_jobs([theirs]))
    assert (still.state, still.worker, still.claim) == (JobState.CLAIMED, worker, 5)
    left = [(job.state, job.step, job.worker) for job in store.run(lock_jobs([mine]))]
    assert (
        left
        == {
            "deleted": [],
            "moved": [(JobState.READY, "next", None)],
            "locked": [(JobState.CLAIMED, "first", worker)],
        }[how]
    )


def _change(session: Session, run_id: UUID, how: str) -> None:
    with session.transaction():
        (run,) = session.within(lock_runs([run_id]))
        if how == "locked":
            (job,) = session.within(lock_jobs([run_id]))
            assert job.state is JobState.CLAIMED
            return
        changes: Plan = plan(run, removed=[0]) if how == "deleted" else plan(run, moved=[entry("next")])
        for statement in save_plans([changes], CHANNEL):
            session.within(statement)


def test_lock_jobs_keeps_jobs_from_being_claimed_or_woken(store: Session, other: Session) -> None:
    (run_id,) = start(store, 1, entry("a", slot=0), entry("b", slot=1))

    with store.transaction():
        store.within(lock_run(run_id))
        jobs = store.within(lock_jobs([run_id]))
        assert [(job.slot, job.step) for job in jobs] == [(0, "a"), (1, "b")]
        assert claim(other) == []

    assert len(claim(other)) == 2


def test_two_sessions_that_want_the_same_runs_share_them(store: Session, other: Session) -> None:
    """Whatever order they are asked for: nobody waits, nobody deadlocks, nobody gets the other's."""
    run_ids = start(store, 6)
    with store.transaction(), other.transaction():
        assert ids_of(store, *run_ids[::2]) == sorted(run_ids[::2])
        assert ids_of(other, *reversed(run_ids)) == sorted(run_ids[1::2])
        assert ids_of(store, *reversed(run_ids)) == sorted(run_ids[::2])


def test_a_batch_is_one_transaction(store: Session, other: Session) -> None:
    """What a flow locks, it holds until its last batch is committed, and no longer."""
    (run_id,) = start(store)
    found, _ = store.run(together(lock_runs([run_id]), lock_jobs([run_id])))
    assert [run.id for run in found] == [run_id]
    with other.transaction():
        assert ids_of(other, run_id) == [run_id]
