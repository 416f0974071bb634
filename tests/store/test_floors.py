"""Claims and looks for timers that begin at a floor: what they cost while nothing can be vacuumed, and what they miss.

An open transaction that is older than all this keeps the index entries of whatever has passed. Only what the database
counts is compared, pages and rows; the monotonic time is made up.
"""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID, uuid4

import psycopg
import pytest

from squidmesh.records import Lane
from squidmesh.store.jobs import Room, claim_jobs, pin_plans, wake_jobs
from squidmesh.store.runs import start_runs
from squidmesh.store.statements import sql_of
from squidmesh.worker.floors import MARGIN, Floors
from tests.store.kit import CHANNEL, SCHEMA, Session, entry, in_schema, new_runs, start

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squidmesh.records import Job
    from squidmesh.store.statements import Statement
    from tests.store.conftest import Connect

ROOM: Final = Room("default", Lane.AHEAD, 50)
HOUR: Final = 3600.0

PASS = """
WITH passing AS (
    INSERT INTO squidmesh.jobs (run_id, since, ready_at, run_at, slot, visit, attempt, saw, priority, lane, state,
                                kind, step, queue)
    SELECT gen_random_uuid(), squidmesh.clock(), at, at, 0, 1, 1, 1, n %% 2 * 5, 0, %s, 'step', 's', 'default'
      FROM generate_series(1, %s) n, LATERAL (SELECT squidmesh.clock() - make_interval(secs => 3000 - n * 0.01) AS at) t
    RETURNING 1)
SELECT count(*) FROM passing
"""


@pytest.fixture
def old(connect: Connect) -> Iterator[Session]:
    """A session with a transaction that might still look at all that is there from now on."""
    session = connect()
    session.connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    session.rows("SELECT count(*) FROM squidmesh.jobs")
    yield session
    session.connection.execute("ROLLBACK")


def pass_through(session: Session, state: str, count: int) -> None:
    """So many jobs of two priorities were ready, or asleep, and are gone."""
    session.rows(PASS, state, count)
    session.connection.execute(in_schema("DELETE FROM squidmesh.jobs"))
    # It would clean up what nobody can see any more: the old transaction must be what keeps it.
    session.connection.execute(in_schema("VACUUM squidmesh.jobs"))


def pages(session: Session, statement: Statement[Any]) -> int:
    """How many pages a statement touches; it is undone."""
    query = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + sql_of(statement.name, SCHEMA)
    with session.connection.transaction(force_rollback=True):
        session.within(pin_plans())
        row = psycopg.ClientCursor(session.connection).execute(query.encode(), statement.params).fetchone()
    assert row is not None
    plan = row[0][0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def claim(session: Session, rooms: Sequence[Room]) -> list[Job]:
    return session.run(claim_jobs(uuid4(), 1, rooms))


def noted(session: Session, *rooms: Room, asked: float = 0.0) -> Floors:
    """The floors of a worker that has just claimed."""
    floors = Floors()
    floors.note_claimed(rooms, claim(session, rooms), asked)
    return floors


def test_a_claim_costs_the_same_however_much_has_passed(store: Session, old: Session) -> None:
    costs: list[tuple[int, int]] = []
    for count in (2_000, 20_000):
        pass_through(store, "ready", count)
        for priority in (0, 5):
            start(store, 1, entry(priority=priority))
        floors = noted(store, ROOM)
        for priority in (0, 5):
            start(store, 1, entry(priority=priority))
        whole, under = claim_jobs(uuid4(), 1, [ROOM]), claim_jobs(uuid4(), 1, floors.under([ROOM], 0.0))
        costs.append((pages(store, whole), pages(store, under)))
        assert len(claim(store, floors.under([ROOM], 0.0))) == 2
    (whole_before, before), (whole_after, after) = costs
    assert after <= before + 10
    assert whole_after > 3 * whole_before, "nothing was in the way of the claim without floors: this proves nothing"


def test_a_look_for_timers_costs_the_same_however_many_have_passed(store: Session, old: Session) -> None:
    costs: list[tuple[int, int]] = []
    for count in (2_000, 20_000):
        pass_through(store, "sleeping", count)
        floors = Floors()
        floors.note_woken(["default"], store.run(wake_jobs({"default": 1})).dues, 0.0)
        under = wake_jobs({"default": 1}, floors=floors.due(0.0))
        costs.append((pages(store, wake_jobs({"default": 1})), pages(store, under)))
    (whole_before, before), (whole_after, after) = costs
    assert after <= before + 10
    assert whole_after > 3 * whole_before, "nothing was in the way of the look without floors: this proves nothing"


# -- nothing is lost, and order is kept --------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_claims_under_floors_get_what_claims_without_them_would_get(store: Session, seed: int) -> None:
    """Whatever becomes ready in whatever priority, and however much each of the claims may take."""
    chance = random.Random(seed)
    floors = Floors()
    for _ in range(60):
        for _ in range(chance.choice((0, 0, 1, 3))):
            steps = [entry(f"p{p}", slot=n, priority=p) for n, p in enumerate(chance.choices(range(-2, 3), k=3))]
            start(store, chance.randint(1, 3), *steps)
        rooms = [replace(ROOM, limit=chance.choice((1, 2, 5, 30)))]
        with store.connection.transaction(force_rollback=True):
            expected = store.within(claim_jobs(UUID(int=1), 1, rooms))
        asked = time.monotonic()
        found = claim(store, floors.under(rooms, asked))
        # Of those that became ready in one statement any may come first.
        assert [(job.priority, job.step) for job in found] == [(job.priority, job.step) for job in expected]
        floors.note_claimed(rooms, found, asked)
    assert floors.under([ROOM], time.monotonic()) != [ROOM]


@contextmanager
def margin(seconds: float, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr("squidmesh.worker.floors.MARGIN", seconds)
        yield


def test_a_start_that_commits_late_is_claimed_within_the_margin(
    store: Session, other: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It became ready before what was claimed meanwhile: its statement is older, only its commit is not."""
    with other.transaction():
        late = new_runs(1)
        other.within(start_runs(late, CHANNEL, always_notify=False))
        start(store)
        floors = noted(store, ROOM)
        assert claim(store, floors.under([ROOM], 0.0)) == []
    with margin(HOUR, monkeypatch):
        assert [job.run_id for job in claim(store, floors.under([ROOM], 0.0))] == late.ids


def test_what_commits_later_than_that_is_found_by_a_look_at_everything(
    store: Session, other: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with other.transaction():
        late = new_runs(1)
        other.within(start_runs(late, CHANNEL, always_notify=False))
        start(store)
        floors = noted(store, ROOM)
    with margin(0.0, monkeypatch):
        assert claim(store, floors.under([ROOM], 0.0)) == []
        (job,) = claim(store, [ROOM])
    assert job.run_id == late.ids[0]


def test_what_somebody_held_is_found_by_a_look_at_everything(
    store: Session, other: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_id,) = start(store)
    with other.transaction(), margin(0.0, monkeypatch):
        other.rows("SELECT FROM squidmesh.jobs FOR UPDATE")
        floors = noted(store, ROOM)  # it saw nothing, and knows no priority: there is no floor
        assert floors.under([ROOM], 0.0) == [ROOM]
        start(store)
        floors.note_claimed([ROOM], claim(store, floors.under([ROOM], 0.0)), 0.0)
    with margin(0.0, monkeypatch):
        assert claim(store, floors.under([ROOM], 0.0)) == []
    assert [job.run_id for job in claim(store, [ROOM])] == [run_id]


def test_a_priority_that_was_never_seen_has_no_floor(store: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    start(store)
    floors = noted(store, ROOM)
    for priority in (-3, 2):
        start(store, 1, entry(priority=priority))
    store.rows("UPDATE squidmesh.jobs SET ready_at = ready_at - interval '1 day' WHERE state = 'ready' RETURNING 1")
    with margin(0.0, monkeypatch):
        assert [job.priority for job in claim(store, floors.under([ROOM], 0.0))] == [-3, 2]


def test_better_priorities_come_first_under_floors_too(store: Session) -> None:
    for priority in (7, 0, 3):
        start(store, 2, entry(priority=priority))
    one = [replace(ROOM, limit=1)]
    floors, found = Floors(), list[int]()
    for number in range(8):
        if number == 3:
            start(store, 1, entry(priority=0))
        jobs = claim(store, floors.under(one, 0.0))
        floors.note_claimed(one, jobs, 0.0)
        found += [job.priority for job in jobs]
    assert found == [0, 0, 3, 0, 3, 7, 7]


def test_a_clock_that_is_set_back_hides_nothing(store: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """Floors are told as how long ago they are: they are set back with it."""
    start(store)
    floors = noted(store, ROOM)
    with store.connection.transaction(force_rollback=True), margin(1.0, monkeypatch):
        store.connection.execute(
            in_schema(
                "CREATE OR REPLACE FUNCTION squidmesh.clock() RETURNS timestamptz LANGUAGE sql STABLE PARALLEL SAFE"
                " RETURN statement_timestamp() - interval '1 hour'"
            )
        )
        store.within(start_runs(new_runs(1), CHANNEL, always_notify=False))
        assert len(store.within(claim_jobs(uuid4(), 1, floors.under([ROOM], 0.0)))) == 1


def test_a_job_says_how_long_it_has_been_ready(store: Session) -> None:
    start(store)
    store.rows("UPDATE squidmesh.jobs SET ready_at = ready_at - interval '1 hour' RETURNING 1")
    (job,) = claim(store, [ROOM])
    assert HOUR <= job.waited < 2 * HOUR


def test_timers_that_are_due_and_held_are_not_passed_over(store: Session, other: Session) -> None:
    (run_id,) = start(store, 1, entry(delay=60))
    store.rows("UPDATE squidmesh.jobs SET run_at = squidmesh.clock() - interval '1 hour' RETURNING 1")
    floors = Floors()
    with other.transaction():
        other.rows("SELECT FROM squidmesh.jobs FOR UPDATE")
        floors.note_woken(["default"], store.run(wake_jobs({"default": 1})).dues, 0.0)
    assert store.run(wake_jobs({"default": 1}, floors=floors.due(0.0))).count == 1
    assert [job.run_id for job in claim(store, [ROOM])] == [run_id]


def test_timers_older_than_their_floor_wait_for_a_look_at_everything(store: Session) -> None:
    floors = Floors()
    floors.note_woken(["default"], store.run(wake_jobs({"default": 1})).dues, 0.0)
    start(store, 1, entry(delay=60))
    store.rows("UPDATE squidmesh.jobs SET run_at = squidmesh.clock() - interval '1 hour' RETURNING 1")
    hidden = store.run(wake_jobs({"default": 1}, floors=floors.due(0.0)))
    assert (hidden.count, dict(hidden.dues)) == (0, {})
    assert MARGIN < HOUR
    assert store.run(wake_jobs({"default": 1})).count == 1
