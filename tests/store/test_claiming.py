"""``claim_jobs`` and ``read_claimed``: who gets which job, and that its run is read as new as the job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID, uuid4

import pytest

from squidmesh.records import JobKind, Lane
from squidmesh.states import AttemptStatus, JobState
from squidmesh.store.jobs import (
    Room,
    adopt_jobs,
    check_fences,
    claim_jobs,
    list_claimed,
    lock_jobs,
    pin_plans,
    read_claimed,
)
from squidmesh.store.runs import lock_runs
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import sql_of
from tests.store.kit import (
    CHANNEL,
    SCHEMA,
    Session,
    attempt,
    claim,
    entry,
    in_schema,
    kept,
    locked,
    plan,
    rooms,
    save,
    start,
    until_blocked,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from squidmesh.records import Job
    from squidmesh.store.jobs import Material
    from tests.store.conftest import Connect

T = TypeVar("T")


def test_a_claimed_job_is_handed_out_under_the_fence(store: Session) -> None:
    (run_id,) = start(store, 1, entry("pay", queue="money", priority=4, kind=JobKind.WAIT), seq=3)
    worker = uuid4()

    (job,) = store.run(claim_jobs(worker, 77, rooms(10, "money")))

    assert (job.run_id, job.slot, job.state, job.kind) == (run_id, 0, JobState.CLAIMED, JobKind.WAIT)
    assert (job.step, job.visit, job.attempt, job.saw) == ("pay", 1, 1, 3)
    assert (job.queue, job.priority, job.lane) == ("money", 4, Lane.AHEAD)
    assert (job.worker, job.claim, job.started) == (worker, 77, False)
    assert (job.crashes, job.defers, job.reason) == (0, 0, None)
    assert store.run(list_claimed(worker)) == [job]
    assert store.run(list_claimed(uuid4())) == []


def test_a_fence_holds_for_the_very_hand_out(store: Session) -> None:
    """Not for another worker or claim number, nor for what was given back, handed out again, or is gone."""
    runs = start(store, 6)
    worker, other = uuid4(), uuid4()
    jobs = {job.run_id: job for job in store.run(claim_jobs(worker, 7, rooms(10)))}
    handed_out = list(jobs.items())
    found = store.run(check_fences(worker, handed_out))
    assert sorted(found, key=handed_out.index) == handed_out
    changes = ("cancelled = true", "claim = 8", f"worker = '{other}'", "state = 'ready', worker = NULL", "slot = 1")
    for run_id, change in zip(runs[1:], changes, strict=True):
        store.rows(f"UPDATE squidmesh.jobs SET {change} WHERE run_id = %s RETURNING 1", run_id)
    assert {run_id for run_id, _ in store.run(check_fences(worker, handed_out))} == set(runs[:2])
    assert store.run(check_fences(other, handed_out)) == [(runs[3], jobs[runs[3]])]
    assert store.run(check_fences(worker, [])) == []


def test_a_kind_of_job_that_only_newer_code_knows_is_left_to_it(store: Session) -> None:
    """An old worker beside a new one neither claims it nor stumbles over it where it reads it."""
    run_id, other = start(store, 1, entry("future")) + start(store, 1, entry("known"))
    store.rows("UPDATE squidmesh.jobs SET kind = 'message' WHERE run_id = %s RETURNING 1", run_id)

    (job,) = claim(store)

    assert (job.run_id, job.step) == (other, "known")
    (unknown,) = store.run(lock_jobs([run_id]))
    assert (unknown.kind, unknown.state) == ("message", JobState.READY)


def test_better_priority_first_then_whoever_is_ready_for_longer(store: Session) -> None:
    for step, priority in (("late", 5), ("first of two", 0), ("urgent", -1), ("second of two", 0)):
        start(store, 1, entry(step, priority=priority))

    assert [claim(store, 1)[0].step for _ in range(4)] == ["urgent", "first of two", "second of two", "late"]
    assert claim(store, 1) == []


def test_only_urgent_ones_where_only_these_are_wanted(store: Session) -> None:
    """What a worker without a free slot claims: jobs that go before those it has."""
    for step, priority in (("late", 5), ("normal", 0), ("urgent", -1), ("most urgent", -(2**15) + 1)):
        start(store, 1, entry(step, priority=priority))

    def claimed(worst: int) -> list[str]:
        return [job.step for job in store.run(claim_jobs(uuid4(), 1, [Room("default", Lane.AHEAD, 9, worst=worst)]))]

    assert claimed(-(2**15) - 1) == []
    assert sorted(claimed(-1)) == ["most urgent", "urgent"]
    assert claimed(-1) == []
    assert sorted(claimed(5)) == ["late", "normal"]


def test_a_job_that_becomes_ready_again_queues_at_the_end(store: Session) -> None:
    (again, waiting) = start(store, 2)
    (job,) = claim(store, 1)
    assert job.run_id == again
    save(store, plan(locked(store, again), moved=[entry("again", same_visit=True, attempt=2)]))

    assert [claim(store, 1)[0].run_id for _ in range(2)] == [waiting, again]


def test_what_is_given_back_keeps_its_place(store: Session) -> None:
    """It waited in the worker that had it, and must not begin to wait anew behind a backlog."""
    first, second = (*start(store), *start(store))
    (job,) = claim(store, 1)
    assert job.run_id == first
    save(store, plan(locked(store, first), moved=[entry(same_visit=True)]))

    assert [claim(store, 1)[0].run_id for _ in range(2)] == [first, second]


def test_a_limit_holds_for_each_queue_and_lane(store: Session) -> None:
    for queue in ("a", "b", "c"):
        for lane in Lane:
            start(store, 3, entry(f"{queue}{lane:d}", queue=queue, lane=lane))
    room = [Room("a", Lane.AHEAD, 2), Room("a", Lane.ALONE, 1), Room("b", Lane.AHEAD, 5), Room("b", Lane.SUSPECT, 0)]

    claimed = store.run(claim_jobs(uuid4(), 1, room))

    assert sorted(job.step for job in claimed) == ["a0", "a0", "a1", "b0", "b0", "b0"]


@pytest.mark.parametrize(("lane", "started"), [(Lane.AHEAD, False), (Lane.ALONE, True), (Lane.SUSPECT, True)])
def test_what_must_not_be_charged_wrongly_is_claimed_as_started(store: Session, lane: Lane, *, started: bool) -> None:
    start(store, 1, entry(lane=lane))
    (job,) = store.run(claim_jobs(uuid4(), 1, rooms(1, lane=lane)))
    assert job.started is started


def test_only_ready_jobs_are_claimed(store: Session) -> None:
    start(store, 1, entry("sleeping", delay=60))
    for changed in (
        entry("parked", state=JobState.PARKED, reason="quarantined"),
        entry("claimed", state=JobState.CLAIMED, worker=uuid4(), claim=1),
    ):
        (run_id,) = start(store)
        save(store, plan(locked(store, run_id), moved=[changed]))

    assert claim(store) == []


def test_two_sessions_never_get_the_same_job_and_never_wait(store: Session, other: Session) -> None:
    run_ids = set(start(store, 6))
    other.connection.execute("SET lock_timeout = '1ms'")
    with store.transaction(), other.transaction():
        mine = {job.run_id for job in store.within(claim_jobs(uuid4(), 1, rooms(4)))}
        theirs = {job.run_id for job in other.within(claim_jobs(uuid4(), 1, rooms(4)))}
    assert (len(mine), len(theirs)) == (4, 2)
    assert mine | theirs == run_ids


def test_a_claim_that_is_rolled_back_leaves_the_job_ready(store: Session, other: Session) -> None:
    start(store)
    store.connection.execute("BEGIN")
    assert len(store.within(claim_jobs(uuid4(), 1, rooms(1)))) == 1
    store.connection.execute("ROLLBACK")
    assert len(claim(other)) == 1


# -- reading what was claimed --------------------------------------------------------------------------------------


def claim_and_read(
    session: Session, limit: int = 100, keys: tuple[tuple[UUID, int], ...] = ()
) -> tuple[list[Job], dict[UUID, Material]]:
    """A turn's claim: the two statements in one transaction."""
    with session.transaction():
        jobs = session.within(claim_jobs(uuid4(), 1, rooms(limit)))
        found = session.within(read_claimed(keys))
    assert len({material.run_id for material in found}) == len(found)
    return jobs, {material.run_id: material for material in found}


def test_a_claim_reads_the_facts_and_the_outputs_that_its_jobs_saw(store: Session) -> None:
    (run_id,) = start(store, 1, payloads=['{"order": 1}'])
    run = locked(store, run_id)
    steps = [attempt(1, {"a": 1}), attempt(2, None, status=AttemptStatus.FAILED), attempt(3, {"b": 2})]
    save(store, plan(run, seq=5, attempts=[*steps, attempt(4, {"unseen": 1})], moved=[entry("next", saw=4)]))

    (job,), found = claim_and_read(store)

    material = found[run_id]
    assert (material.workflow, material.trigger, material.fingerprint) == ("orders", "manual", "f1")
    assert (material.status, material.payload) == ("running", {"order": 1})
    assert job.saw == 4
    assert material.outputs == ((1, {"a": 1}), (3, {"b": 2}))


def test_outputs_begin_at_the_last_snapshot_that_all_jobs_of_the_run_saw(store: Session) -> None:
    (run_id,) = start(store)
    snapshots = [attempt(n, {"until": n}, kind="snapshot", step="", visit=0, attempt=0) for n in (2, 5, 8)]
    others = [attempt(n, {"n": n}) for n in (1, 3, 4, 6, 7, 9)]
    jobs = entry("early", slot=0, saw=6), entry("late", slot=1, saw=10)
    save(store, plan(locked(store, run_id), seq=10, attempts=[*snapshots, *others], moved=[jobs[0]], added=[jobs[1]]))

    claimed, found = claim_and_read(store)

    assert sorted(job.saw for job in claimed) == [6, 10]
    # From 5, which the early one saw, to 9, which only the late one saw; the 8 does no harm.
    assert [seq for seq, _ in found[run_id].outputs] == [5, 6, 7, 8, 9]


def test_runs_of_kept_jobs_are_read_beside_those_just_claimed(store: Session) -> None:
    mine, ready, foreign = start(store, 3)
    for run_id, output in ((mine, {"m": 1}), (ready, {"r": 1}), (foreign, {"f": 1})):
        save(store, plan(locked(store, run_id), seq=2, attempts=[attempt(1, output)], moved=[entry("next", saw=2)]))

    _, found = claim_and_read(store, 0, ((mine, 2),))
    assert {run_id: material.outputs for run_id, material in found.items()} == {mine: ((1, {"m": 1}),)}

    (job,), found = claim_and_read(store, 1, ((foreign, 2),))
    assert job.run_id == mine
    assert {run_id: material.outputs for run_id, material in found.items()} == {
        mine: ((1, {"m": 1}),),
        foreign: ((1, {"f": 1}),),
    }


def test_what_one_transaction_claimed_the_next_one_does_not_read(store: Session) -> None:
    start(store, 3)
    assert len(claim_and_read(store)[1]) == 3
    assert claim_and_read(store) == ([], {})
    assert store.run(read_claimed()) == []


def test_only_the_last_claim_of_a_transaction_is_noted(store: Session) -> None:
    """Whoever claims twice names the jobs of the first claim, as those that it kept."""
    start(store)
    with store.transaction():
        store.within(claim_jobs(uuid4(), 1, rooms(1)))
        assert store.within(claim_jobs(uuid4(), 1, rooms(1))) == []
        assert store.within(read_claimed()) == []


# -- the hazard: a claim in flight while the run moves on ------------------------------------------------------------

GATE = 4711


@pytest.fixture
def gate(connect: Connect) -> Iterator[Session]:
    """A claim that gets a job of the step ``pause`` stands still until this session opens its gate."""
    keeper = connect()
    keeper.connection.execute(
        in_schema(
            "CREATE FUNCTION squidmesh.pause() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f"    PERFORM pg_advisory_xact_lock({GATE}); RETURN NEW; END $$;"
            "CREATE TRIGGER pause BEFORE UPDATE ON squidmesh.jobs FOR EACH ROW WHEN (NEW.step = 'pause')"
            "    EXECUTE FUNCTION squidmesh.pause()"
        )
    )
    keeper.connection.execute(f"SELECT pg_advisory_lock({GATE})")
    yield keeper
    keeper.connection.execute("SELECT pg_advisory_unlock_all()")
    keeper.connection.execute(in_schema("DROP FUNCTION squidmesh.pause CASCADE"))


def race(store: Session, other: Session, gate: Session, how: Callable[[], T]) -> tuple[UUID, T]:
    """While ``other`` claims and its snapshot grows old, a worker runs a run's first step and the next gets ready."""
    start(store, 1, entry("pause", queue="slow"))
    (run_id,) = start(store)
    claiming = other.later(how)
    until_blocked(gate, other)

    with store.transaction():
        (job,) = store.within(claim_jobs(uuid4(), 1, rooms(1)))
        assert job.run_id == run_id
        (run,) = store.within(lock_runs([run_id]))
        changes = plan(run, seq=2, attempts=[attempt(1, {"fresh": True})], moved=[entry("second", saw=2)])
        for statement in save_plans([changes], CHANNEL):
            store.within(statement)

    gate.connection.execute(f"SELECT pg_advisory_unlock({GATE})")
    return run_id, claiming.result(20)


def test_a_claim_reads_a_run_as_new_as_the_job_that_it_got(store: Session, other: Session, gate: Session) -> None:
    def claim_both() -> tuple[list[Job], list[Material]]:
        with other.transaction():
            other.within(pin_plans())
            jobs = other.within(claim_jobs(uuid4(), 9, rooms(1, "slow", "default")))
            return jobs, other.within(read_claimed())

    run_id, (jobs, found) = race(store, other, gate, claim_both)

    (job,) = (job for job in jobs if job.run_id == run_id)
    assert (job.step, job.saw) == ("second", 2), "the claim did not get the newest job: nothing was proven"
    (material,) = (material for material in found if material.run_id == run_id)
    assert material.outputs == ((1, {"fresh": True}),)
    assert material.status == "running"


def test_one_statement_would_read_an_older_run_than_the_job_that_it_got(
    store: Session, other: Session, gate: Session
) -> None:
    """Why ``read_claimed`` is a statement of its own; should this ever fail, the two can be joined."""
    last = "SELECT claimed.* FROM"
    text = sql_of("claim_jobs", SCHEMA)
    assert last in text
    naive = text.replace(
        last,
        "SELECT claimed.step, claimed.saw, ARRAY(SELECT a.seq FROM squidmesh.attempts a WHERE a.run_id = claimed.run_id)"
        " FROM",
    )

    def claim_naively() -> list[Any]:
        params = claim_jobs(uuid4(), 9, rooms(1, "slow", "default")).params
        with other.transaction():
            other.within(pin_plans())
            return other.connection.execute(in_schema(naive), params).fetchall()

    _, rows = race(store, other, gate, claim_naively)

    assert ("second", 2, []) in rows


# -- adopting ------------------------------------------------------------------------------------------------------


def park(session: Session, step: str, reason: str = "unknown_step", **changes: Any) -> UUID:
    """A run whose only job is parked."""
    (run_id,) = start(session, workflow=changes.pop("workflow", "orders"))
    job = entry(step, state=JobState.PARKED, reason=reason, **changes)
    save(session, plan(locked(session, run_id), moved=[job]))
    return run_id


def test_only_jobs_of_known_steps_are_adopted(store: Session) -> None:
    known = park(store, "pay", visit=2, attempt=3, crashes=1, saw=1, same_visit=True)
    park(store, "pay", workflow="refunds")
    park(store, "ship")
    park(store, "pay", "quarantined")
    park(store, "pay", queue="elsewhere")
    start(store, 1, entry("pay"))
    worker = uuid4()

    (job,) = store.run(adopt_jobs(worker, 6, rooms(10), ["orders/step/pay", "refunds/step/ship", "pay"]))

    assert (job.run_id, job.state, job.worker, job.claim) == (known, JobState.CLAIMED, worker, 6)
    assert (job.step, job.visit, job.attempt, job.crashes, job.saw, job.reason) == ("pay", 2, 3, 1, 1, None)


def test_a_job_of_a_graph_that_cannot_be_read_is_not_adopted(store: Session) -> None:
    """Its worker would only park it again, tell itself of it, and adopt it again."""
    start(store, 1, entry("pay"))
    store.rows("UPDATE squidmesh.jobs SET state = 'parked', reason = 'unknown_step' RETURNING 1")

    assert store.run(adopt_jobs(uuid4(), 1, rooms(10), ["orders/step/pay"], {"f1", "f2"})) == []
    assert len(store.run(adopt_jobs(uuid4(), 1, rooms(10), ["orders/step/pay"], {"f2"}))) == 1


def test_adopting_keeps_to_limits_marks_what_is_started_and_skips_what_is_held(store: Session, other: Session) -> None:
    for lane in (Lane.AHEAD, Lane.ALONE, Lane.AHEAD):
        park(store, f"s{lane:d}", lane=lane)
    knows = ["orders/step/s0", "orders/step/s1"]
    other.connection.execute("SET lock_timeout = '1ms'")

    with store.transaction():
        held = store.within(adopt_jobs(uuid4(), 1, rooms(2), knows))
        theirs = other.run(adopt_jobs(uuid4(), 1, rooms(2), knows))

    assert (len(held), len(theirs)) == (2, 1)
    assert all(job.started == (job.lane is not Lane.AHEAD) for job in (*held, *theirs))


def test_the_note_of_a_claim_does_not_hold_up_a_kept_chain(store: Session) -> None:
    """A kept job is not among those noted: its worker names it, or has its run in memory."""
    (run_id,) = start(store)
    (job,) = claim(store)
    save(store, plan(locked(store, run_id), seq=2, attempts=[attempt(1, {"a": 1})], moved=[kept(job, "next", 2)]))
    assert claim_and_read(store) == ([], {})
