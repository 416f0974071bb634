"""Transactional steps in a harness: what they write is there with their result and their successor, or not at all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row, tuple_row

from squidmesh import ConnectionUnusable, Constant, Context, Retry, Workflow, testing
from tests.lab import NOON, Ear, Lab, laboratory, standing_still

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def lab(dsn: str) -> Iterator[Lab]:
    with laboratory(dsn) as opened:
        opened.rows("CREATE TABLE squidmesh.ledger (line text)")
        yield opened


@pytest.fixture
def written(lab: Lab) -> Callable[[], list[str]]:
    return lambda: [line for (line,) in lab.rows("SELECT line FROM squidmesh.ledger ORDER BY ctid")]


def paying(lab: Lab, kind: str = "sync", **options: Any) -> Workflow:
    """A step that writes on its connection, and one that follows."""
    workflow, insert = Workflow("paying"), lab.sql("INSERT INTO squidmesh.ledger VALUES (%s)")

    def plain(ctx: Context) -> dict[str, int]:
        ((one,),) = ctx.connection.execute("SELECT 1").fetchall()
        ctx.connection.execute(insert, [f"pay {ctx.attempt}"])
        return {"paid": one}

    async def coroutine(ctx: Context) -> dict[str, int]:
        await ctx.connection.execute(insert, [f"pay {ctx.attempt}"])
        return {"paid": 1}

    retry = Retry(max_attempts=3, backoff=Constant(60))
    pay = workflow.step(name="pay", transaction=True, retry=retry, timeout=30, **options)(
        plain if kind == "sync" else coroutine
    )

    @workflow.step
    def thank(paid: int) -> None: ...

    workflow.sequence(pay, thank)
    return workflow


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_writes_and_result_are_there_and_the_chain_goes_on(
    lab: Lab, written: Callable[[], list[str]], kind: str
) -> None:
    with standing_still(lab.dsn, paying(lab, kind)) as h:
        ear = Ear(h.mesh, "step.completed")
        run = h.mesh.start_run("paying")
        assert [(ran.step, ran.result) for ran in h.drain()] == [("pay", "completed"), ("thank", "completed")]
        assert h.assert_status(run, "completed").context == {"paid": 1}
        assert len(ear.heard("step.completed")) == 2
    assert written() == ["pay 1"]


@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize(
    ("when", "attempts"),
    [
        ("in_body", ["abandoned", "completed"]),
        ("before_commit", ["abandoned", "completed"]),
        ("after_commit", ["completed"]),
    ],
)
def test_a_worker_that_dies_at_any_moment_leaves_the_writes_once(
    lab: Lab, written: Callable[[], list[str]], kind: str, when: Any, attempts: list[str]
) -> None:
    with standing_still(lab.dsn, paying(lab, kind)) as h:
        run = h.mesh.start_run("paying")
        crash = h.crash("pay", when)
        seen: list[list[str]] = []
        h.replace("thank", lambda: seen.append(written()))
        results = [(ran.step, ran.result) for ran in h.drain()]
        assert results[0] == ("pay", "crashed")
        assert results[1:] == [("pay", "completed")] * (len(attempts) - 1) + [("thank", "completed")]
        h.assert_status(run, "completed")
        assert [str(each.status) for each in h.attempts(run) if each.step == "pay"] == attempts
        assert (crash.count, seen) == (1, [["pay 1"]])


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_an_attempt_that_fails_or_takes_too_long_leaves_nothing(
    lab: Lab, written: Callable[[], list[str]], kind: str
) -> None:
    def write(ctx: Context) -> None:
        ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('fake')"))
        raise ConnectionError

    with standing_still(lab.dsn, paying(lab, kind)) as h:
        run = h.mesh.start_run("paying")
        h.time_out("pay", attempts=[2])
        with h.replace("pay", write) as fake:
            assert [ran.result for ran in h.drain()] == ["failed"]
        assert len(fake.calls) == 1
        assert [(ran.step, ran.result) for ran in h.travel(120)] == [
            ("pay", "timed_out"),
            ("pay", "completed"),
            ("thank", "completed"),
        ]
        assert [(each.error or {}).get("type") for each in h.attempts(run)][:2] == ["ConnectionError", "TimedOut"]
    assert written() == ["pay 3"]


def test_a_conflict_is_run_again_without_an_attempt(lab: Lab, written: Callable[[], list[str]]) -> None:
    tries: list[int] = []

    def clash(ctx: Context) -> dict[str, int]:
        ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('clash')"))
        tries.append(1)
        if len(tries) < 3:
            raise psycopg.errors.DeadlockDetected
        return {"paid": 1}

    with standing_still(lab.dsn, paying(lab)) as h:
        run = h.mesh.start_run("paying")
        h.replace("pay", clash)
        h.drain()
        h.assert_step(run, "pay", status="completed", attempts=1)
    assert written() == ["clash"]


def test_a_run_that_the_step_itself_had_ended_rolls_its_writes_back(lab: Lab, written: Callable[[], list[str]]) -> None:
    def end(ctx: Context) -> None:
        ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('lost')"))
        h.mesh.cancel_run(ctx.run_id, force=True)

    with standing_still(lab.dsn, paying(lab)) as h:
        run = h.mesh.start_run("paying")
        h.replace("pay", end)
        assert [ran.result for ran in h.drain()] == ["discarded"]
        h.assert_status(run, "cancelled")
    assert written() == []


def test_what_is_meant_for_the_test_reaches_it_and_leaves_nothing(lab: Lab, written: Callable[[], list[str]]) -> None:
    def give_up(ctx: Context) -> None:
        ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('lost')"))
        pytest.fail("not this")

    with standing_still(lab.dsn, paying(lab)) as h:
        run = h.mesh.start_run("paying")
        with h.replace("pay", give_up), pytest.raises(pytest.fail.Exception):
            h.drain()
        assert written() == []
        h.run_until(run, status="completed")


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_the_async_twin_runs_them_on_the_tests_loop_or_in_a_thread(
    lab: Lab, written: Callable[[], list[str]], kind: str
) -> None:
    async def test() -> None:
        async with testing.async_harness(lab.dsn, workflows=[paying(lab, kind)], at=NOON) as h:
            run = await h.mesh.start_run("paying")
            h.crash("pay", "before_commit")
            assert [ran.result for ran in await h.drain()] == ["crashed", "completed", "completed"]
            h.assert_status(run, "completed")

    asyncio.run(test())
    assert written() == ["pay 1"]


def test_an_async_test_whose_time_is_up_leaves_nothing_of_its_step(lab: Lab, written: Callable[[], list[str]]) -> None:
    async def test() -> None:
        workflow, began = Workflow("endless"), asyncio.Event()

        @workflow.step(transaction=True)
        async def hang(ctx: Context) -> None:
            await ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('lost')"))
            began.set()
            await asyncio.Event().wait()

        async with testing.async_harness(lab.dsn, workflows=[workflow]) as h:
            run = await h.mesh.start_run(workflow)
            draining = asyncio.create_task(h.drain())
            await began.wait()
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
            assert [str(attempt.status) for attempt in h.attempts(run)] == ["abandoned"]
            h.replace(hang, lambda: None)
            await h.run_until(run, status="completed")

    asyncio.run(test())
    assert written() == []


# -- within the caller's own transaction ----------------------------------------------------------------------------


def ledger_of(connection: psycopg.Connection[Any], lab: Lab) -> list[str]:
    cursor = psycopg.Cursor(connection, row_factory=tuple_row)
    return [line for (line,) in cursor.execute(lab.sql("SELECT line FROM squidmesh.ledger ORDER BY ctid")).fetchall()]


@pytest.mark.parametrize("when", ["in_body", "before_commit", "after_commit"])
def test_in_a_savepoint_of_the_caller_writes_result_and_successor_are_there_together_or_not_at_all(
    lab: Lab, written: Callable[[], list[str]], when: Any
) -> None:
    with lab.session(autocommit=False, row_factory=dict_row) as connection:
        workflow = paying(lab)
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow], at=NOON) as h:
            limits = connection.execute("SELECT current_setting('lock_timeout')").fetchall()
            run = h.mesh.start_run(workflow, connection=connection)
            h.crash("pay", when)
            seen: list[tuple[list[str], list[str]]] = []
            h.replace("thank", lambda: seen.append((ledger_of(connection, lab), h.steps(run))))
            h.drain()
            h.assert_status(run, "completed")
            assert seen == [(["pay 1"], ["pay"])]

            def write(ctx: Context) -> None:
                ctx.connection.execute(lab.sql("INSERT INTO squidmesh.ledger VALUES ('half')"))
                ctx.connection.execute("SELECT 1 / 0")

            with h.replace("pay", write):
                again = h.mesh.start_run(workflow)
                h.drain()
            h.assert_status(again, "retrying")
            assert ledger_of(connection, lab) == ["pay 1"]
            assert connection.row_factory is dict_row
            assert connection.execute("SELECT current_setting('lock_timeout')").fetchall() == limits
            assert written() == []
        connection.rollback()
    assert written() == []
    assert lab.value("SELECT count(*) FROM squidmesh.runs") == 0


def test_a_step_that_ends_the_callers_transaction_is_told_of(lab: Lab) -> None:
    with lab.session(autocommit=False) as connection:
        workflow = paying(lab)
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow]) as h:
            h.mesh.start_run(workflow)
            h.replace("pay", lambda ctx: ctx.connection.execute("ROLLBACK") and None)
            with pytest.raises(ConnectionUnusable, match="has ended it"):
                h.drain()


def test_an_async_one_cannot_take_part_in_it_but_a_replacement_can(lab: Lab) -> None:
    with lab.session(autocommit=False) as connection:
        workflow = paying(lab, "async")
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow]) as h:
            run = h.mesh.start_run(workflow)
            with pytest.raises(testing.HarnessError, match="does not see the transaction"):
                h.drain()
            h.replace("pay", lambda ctx: ctx.connection.execute("SELECT 1") and {"paid": 2})
            assert h.run_until(run, status="completed").context == {"paid": 2}
        connection.rollback()
