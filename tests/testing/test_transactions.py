"""A harness inside the caller's own transaction: everything is there while it is open, and nothing when it is over."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row

from squidmesh import ConnectionUnusable, Constant, InvalidOption, Retry, Workflow, testing
from tests.lab import Lab, laboratory

if TYPE_CHECKING:
    from collections.abc import Iterator

NOON = datetime(2031, 2, 3, 12, tzinfo=UTC)


@pytest.fixture
def lab(dsn: str) -> Iterator[Lab]:
    with laboratory(dsn) as opened:
        yield opened


def booking(connection: psycopg.Connection[Any], table: str) -> Workflow:
    """A wait, a step that writes to a table of the app on the test's connection, and fails there twice."""
    workflow = Workflow("booking")
    nap = workflow.wait("nap", seconds=timedelta(days=3))
    attempts: list[int] = []

    @workflow.step(retry=Retry(max_attempts=3, backoff=Constant(3600)))
    def book() -> dict[str, Any]:
        attempts.append(1)
        connection.execute(f"INSERT INTO {table} VALUES (%s)".encode(), [len(attempts)])
        if len(attempts) < 3:
            connection.execute("SELECT 1 / 0")
        return {"booked": len(attempts)}

    workflow.sequence(nap, book)
    return workflow


def test_a_rolled_back_test_leaves_nothing_and_disturbs_nobody(lab: Lab) -> None:
    lab.rows("CREATE TABLE squidmesh.bookings (number int)")
    before = lab.value("SELECT squidmesh.clock()")
    for _ in range(2):  # a connection may be used for one test after the other
        with lab.session(autocommit=False, row_factory=dict_row) as connection:
            for at in (NOON, None):
                workflow = booking(connection, f"{lab.schema}.bookings")
                with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow], at=at) as h:
                    began = h.now
                    run = h.mesh.start_run(workflow, connection=connection)
                    h.crash("book", times=1)
                    h.travel(days=4)
                    ended = h.assert_status(run, "completed")
                    assert ended.created_at == began
                    assert h.now == began + timedelta(days=4)
                    assert h.attempts(run)[-1].finished_at == began + timedelta(days=3, hours=1)
                    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 0  # nobody else sees any of it
                    assert lab.value("SELECT squidmesh.clock()") > before
                    told = connection.execute(f"SELECT number FROM {lab.schema}.bookings".encode()).fetchall()
                    (planner,) = connection.execute("SHOW enable_seqscan").fetchall()
                    assert planner == {"enable_seqscan": "on"}
                    assert [row["number"] for row in told] == [3]  # two had failed
                    connection.rollback()
    for table in ("runs", "jobs", "attempts", "definitions", "workers", "audit_events", "bookings"):
        assert lab.value(f"SELECT count(*) FROM squidmesh.{table}") == 0


def test_a_savepoint_that_is_rolled_back_takes_its_runs_with_it_but_not_time(lab: Lab) -> None:
    with lab.session(autocommit=False) as connection:
        workflow = booking(connection, f"{lab.schema}.nowhere")
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow], at=NOON) as h:
            with connection.transaction(force_rollback=True):
                h.mesh.start_run(workflow)
                h.travel(days=1)
            assert h.runs() == []
            assert h.mesh.start_run(workflow).created_at == NOON + timedelta(days=1)
        connection.rollback()


def test_a_connection_that_cannot_be_used_is_refused(lab: Lab) -> None:
    flows = [booking(lab.session(), "nowhere")]
    idle, strict = lab.session(), lab.session(autocommit=False)
    strict.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    for connection, message in ((idle, "none is open on this connection"), (strict, "needs READ COMMITTED")):
        with (
            pytest.raises(ConnectionUnusable, match=message),
            testing.harness(connection=connection, schema=lab.schema, workflows=flows),
        ):
            pass
    with pytest.raises(InvalidOption, match="leave dsn= and fresh= out"):
        testing.harness(lab.dsn, connection=idle)


def test_a_transaction_that_ends_in_the_middle_is_told_of_and_never_begun_anew(lab: Lab) -> None:
    with lab.session(autocommit=False) as connection:
        workflow = Workflow("rude")
        workflow.step(name="work")(connection.rollback)
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow]) as h:
            h.mesh.start_run(workflow)
            with pytest.raises(ConnectionUnusable, match=re.escape("(IDLE): the step that just ran has ended it")):
                h.drain()
            with pytest.raises(ConnectionUnusable, match="not open any more"):
                h.mesh.start_run(workflow)
            with pytest.raises(ConnectionUnusable, match="does not see its transaction"):
                h.mesh.start_run(workflow, connection=lab.session())
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 0
