"""Planning: what is said again and again is planned once, and a start looks at nothing that it does not need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest

from squidmesh.records import Lane
from squidmesh.store.database import drive
from squidmesh.store.jobs import (
    Room,
    adopt_jobs,
    check_fences,
    claim_jobs,
    list_claimed,
    pin_plans,
    read_claimed,
    wake_jobs,
)
from squidmesh.store.migrations import migrate
from squidmesh.store.runs import lock_runs, start_runs
from tests.store.kit import CHANNEL, entry, new_runs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.store.statements import Statement

SCHEMA = "planning_tests"
RUN, WORKER = UUID(int=1), UUID(int=2)


@pytest.fixture
def session(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """A session of a schema in which there is nothing, which the server knows."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        migrate(connection, SCHEMA)
        connection.execute(f"VACUUM (ANALYZE) {SCHEMA}.runs, {SCHEMA}.jobs, {SCHEMA}.attempts".encode())
        yield connection
        connection.execute(f"DROP SCHEMA {SCHEMA} CASCADE".encode())


def test_what_a_turn_says_is_planned_once_and_never_compiled(session: psycopg.Connection[Any]) -> None:
    """For arrays of one element the server holds a plan made for them to be cheaper, and makes it each time anew."""
    rooms = [Room("default", Lane.AHEAD, 10)]
    said: list[Statement[Any]] = [
        pin_plans(),
        lock_runs([RUN]),
        check_fences(WORKER, [(RUN, entry())]),
        list_claimed(WORKER),
        wake_jobs({"default": 1}, CHANNEL, WORKER, 10),
        adopt_jobs(WORKER, 1, rooms, ["orders/step/first"]),
        claim_jobs(WORKER, 1, rooms),
        read_claimed([(RUN, 0)]),
    ]
    for _ in range(15):
        with session.transaction():
            for statement in said:
                drive(session, statement, SCHEMA, own_transaction=False)
            assert session.execute("SHOW jit").fetchall() == [("off",)]

    plans = session.execute("SELECT generic_plans, custom_plans FROM pg_prepared_statements").fetchall()
    assert len(plans) >= len(said)
    assert all(generic > 0 and not custom for generic, custom in plans)


def test_a_start_reads_no_runs(session: psycopg.Connection[Any]) -> None:
    """A plan made while there were none walks all of them, to find that none has the id of no run."""
    asked = b"SELECT seq_scan, idx_scan FROM pg_stat_xact_user_tables WHERE schemaname = %s AND relname = 'runs'"
    for _ in range(15):
        with session.transaction():
            before = session.execute(asked, [SCHEMA]).fetchall()
            drive(session, start_runs(new_runs(1), CHANNEL, always_notify=False), SCHEMA, own_transaction=False)
            assert session.execute(asked, [SCHEMA]).fetchall() == before
