"""A chain is cheap: its steps update the run's row and the job's row in place, without touching an index (HOT)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from squidmesh.states import JobState
from tests.store.kit import SCHEMA, Session, attempt, claim, entry, kept, locked, plan, save, start

if TYPE_CHECKING:
    from tests.store.conftest import Connect

RUNS, STEPS = 20, 10


class Updates(NamedTuple):
    """How many rows of a table were updated so far, and how many of them in place."""

    all: int
    in_place: int


def updates(session: Session, observer: Session, table: str) -> Updates:
    """What the statistics say once the session has handed in its own."""
    session.connection.execute("SELECT pg_stat_force_next_flush()")
    query = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE schemaname = %s AND relname = %s"
    (row,) = observer.rows(query, SCHEMA, table)
    return Updates(*row)


def test_the_save_of_a_kept_chain_updates_rows_in_place(store: Session, connect: Connect) -> None:
    observer = connect()
    start(store, RUNS)
    jobs = claim(store, RUNS)
    before = {table: updates(store, observer, table) for table in ("runs", "jobs")}

    for number in range(2, STEPS + 2):
        runs = [locked(store, job.run_id) for job in jobs]
        plans = [
            plan(run, attempts=[attempt(run.seq, {"n": number})], moved=[kept(job, f"s{number}", number)])
            for run, job in zip(runs, jobs, strict=True)
        ]
        save(store, *plans)

    for table, old in before.items():
        new = updates(store, observer, table)
        assert new.all - old.all == RUNS * STEPS
        # Where a page was full for a moment, a row had to go elsewhere.
        assert new.in_place - old.in_place >= 0.9 * RUNS * STEPS


def test_what_this_measures_would_notice_an_index(store: Session, connect: Connect) -> None:
    """The control: jobs that are put to sleep go from one index to another, and none is updated in place."""
    observer = connect()
    start(store, RUNS)
    jobs = claim(store, RUNS)
    before = updates(store, observer, "jobs")

    save(store, *(plan(locked(store, job.run_id), moved=[entry(state=JobState.SLEEPING, delay=60)]) for job in jobs))

    assert updates(store, observer, "jobs") == (before.all + RUNS, before.in_place)
