"""Time-outs: the attempt has failed when its time is up; what its body comes to later is worth nothing."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import Constant, Context, DefinitionError, Retry, RunStatus, Workflow
from squidmesh.worker.watchdog import Expired, Watchdog
from tests.invariants import check
from tests.lab import Ear, Gate, Lab, until_status
from tests.runtime.apps import Bodies, single
from tests.waiting import until

if TYPE_CHECKING:
    from squidmesh.worker.ticket import Ticket

SOON = 0.05
TWICE = Retry(max_attempts=2, backoff=Constant(0))


def test_a_sync_step_fails_in_time_is_told_and_its_late_result_is_refused(lab: Lab) -> None:
    """Its next attempt is run meanwhile, in another slot; nothing is recorded of what the first one returns."""
    gate, told = Gate(), threading.Event()

    def work(ctx: Context) -> dict[str, int]:
        if ctx.attempt == 1:
            until(lambda: ctx.cancelled, what="the flag")
            told.set()
            gate.pass_()
        return {"attempt": ctx.attempt}

    mesh = lab.mesh(single(work, timeout=SOON, retry=TWICE))
    ear = Ear(mesh, "step.discarded", "step.failed")
    lab.worker(mesh, 2)
    run = mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert told.is_set()
    assert run.status is RunStatus.COMPLETED
    assert run.context == {"attempt": 2}
    gate.open()
    until(lambda: ear.heard("step.discarded"), what="the late result")
    (failed,) = ear.heard("step.failed")
    assert failed.metadata["error"] == {
        "type": "TimedOut",
        "message": "the step did not end within 0.05 s",
        "retryable": True,
    }
    assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed")]
    check(lab)


def test_the_slot_is_occupied_until_the_thread_returns(lab: Lab) -> None:
    """A worker with one slot starts nothing while a body that timed out still runs in it."""
    gate, bodies = Gate(), Bodies()

    def work(ctx: Context) -> None:
        bodies.note(ctx)
        if ctx.attempt == 1:
            gate.pass_()

    mesh = lab.mesh(single(work, timeout=timedelta(seconds=SOON), retry=TWICE))
    worker = lab.worker(mesh, 1)
    run = mesh.start_run("single")
    until(lambda: lab.attempts(run) == [("work", 1, "failed")], what="the time-out")
    until(lambda: worker._engine.desk.lost, what="the settled ticket")
    assert lab.jobs() == {"ready": 1}
    assert len(worker.running) == 1
    assert bodies.total() == 1
    gate.open()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


def test_an_async_step_is_cancelled_for_real(lab: Lab) -> None:
    ended: list[str] = []

    async def work(ctx: Context) -> None:
        try:
            if ctx.attempt == 1:
                await asyncio.sleep(60)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    mesh = lab.mesh(single(work, timeout=SOON, retry=TWICE))
    lab.worker(mesh, 1)
    run = mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert run.status is RunStatus.COMPLETED
    assert ended == ["cancelled"]
    assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed")]
    check(lab)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_transactional_step_that_timed_out_is_undone_and_holds_no_lock(lab: Lab, kind: str) -> None:
    """Its query is cancelled; the second attempt writes the very row that the first one had locked."""
    lab.rows("CREATE TABLE squidmesh.account (n int)")
    lab.rows("INSERT INTO squidmesh.account VALUES (0)")
    update = f"UPDATE {lab.schema}.account SET n = n + 1"
    errors: list[type[BaseException]] = []

    def sync_step(ctx: Context) -> None:
        ctx.connection.execute(update)
        if ctx.attempt == 1:
            try:
                ctx.connection.execute("SELECT pg_sleep(60)")
            except psycopg.Error as error:
                errors.append(type(error))

    async def async_step(ctx: Context) -> None:
        await ctx.connection.execute(update)
        if ctx.attempt == 1:
            try:
                await ctx.connection.execute("SELECT pg_sleep(60)")
            except asyncio.CancelledError as error:  # one that does not want to hear of it
                errors.append(type(error))

    work = sync_step if kind == "sync" else async_step
    mesh = lab.mesh(single(work, transaction=True, timeout=0.2, retry=TWICE))
    lab.worker(mesh, 1)
    run = mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert run.status is RunStatus.COMPLETED
    assert errors == [psycopg.errors.QueryCanceled if kind == "sync" else asyncio.CancelledError]
    assert lab.rows("SELECT n FROM squidmesh.account") == [(1,)]
    assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed")]
    check(lab)


def test_a_transactional_step_that_computes_for_ever_releases_its_locks(lab: Lab) -> None:
    """Nothing of it runs on the server that could be cancelled: its session is ended, and it cannot commit."""
    lab.rows("CREATE TABLE squidmesh.account (n int)")
    lab.rows("INSERT INTO squidmesh.account VALUES (0)")
    gate = Gate()

    def work(ctx: Context) -> None:
        ctx.connection.execute(f"UPDATE {lab.schema}.account SET n = n + 1")
        if ctx.attempt == 1:
            gate.pass_()

    mesh = lab.mesh(single(work, transaction=True, timeout=0.2, retry=TWICE))
    ear = Ear(mesh, "step.discarded")
    lab.worker(mesh, 2)
    run = mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert run.status is RunStatus.COMPLETED
    gate.open()
    until(lambda: ear.heard("step.discarded"), what="the late result")
    assert lab.rows("SELECT n FROM squidmesh.account") == [(1,)]
    check(lab)


def test_a_body_that_comes_to_an_end_after_its_time_commits_nothing(lab: Lab) -> None:
    """Though the time-out cannot be saved yet, because somebody holds the run: the worker itself refuses the result."""

    async def work(ctx: Context) -> dict[str, int]:
        if ctx.attempt == 1:
            with suppress(asyncio.CancelledError):  # one that does not want to hear of it
                await asyncio.sleep(60)
        return {"attempt": ctx.attempt}

    mesh = lab.mesh(single(work, transaction=True, timeout=SOON, retry=TWICE))
    run = mesh.start_run("single")
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs FOR NO KEY UPDATE"))
    worker = lab.worker(mesh)
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"

    def refused_or_saving() -> bool:
        return any(not ticket.busy for ticket in worker._engine.desk.tickets()) or lab.value(waits) > 0

    until(refused_or_saving, what="the end of the body")
    holder.rollback()
    assert mesh.wait_for_run(run.id, 20).context == {"attempt": 2}
    assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed")]
    check(lab)


@pytest.mark.parametrize("transaction", [False, True])
def test_an_irreversible_step_that_timed_out_asks_a_human(lab: Lab, transaction: bool) -> None:
    """Nobody knows whether it did its work; but for a transactional one, which surely did not."""
    gate, bodies = Gate(), Bodies()

    def work(ctx: Context) -> None:
        bodies.note(ctx)
        if ctx.attempt == 1:
            gate.pass_()

    mesh = lab.mesh(single(work, timeout=SOON, retry=TWICE, irreversible=True, transaction=transaction))
    lab.worker(mesh, 2)
    run = mesh.start_run("single")
    if transaction:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
        assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed")]
    else:
        assert until_status(mesh, run, RunStatus.PAUSED).attention == "interrupted"
        assert lab.attempts(run) == [("work", 1, "abandoned")]
        assert bodies.total() == 1
    gate.open()
    check(lab)


@pytest.mark.parametrize(
    "retry", [None, Retry(5, give_up_on=(TimeoutError,)), Retry(5, on=(KeyError,))], ids=["none", "give_up_on", "on"]
)
def test_a_time_out_is_retried_as_a_timeout_error_would_be(lab: Lab, retry: Retry | None) -> None:
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_, timeout=SOON, retry=retry))
    lab.worker(mesh)
    run = mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert run.status is RunStatus.FAILED
    assert (run.error or {})["type"] == "TimedOut"
    assert lab.attempts(run) == [("work", 1, "failed")]
    gate.open()


def test_steps_that_end_in_time_are_not_disturbed(lab: Lab) -> None:
    """Thousands of them leave nothing behind in the watchdog."""
    mesh = lab.mesh(single(lambda: None, timeout=3600))
    worker = lab.worker(mesh)
    runs = mesh.start_runs("single", [None] * 1000)
    for run in runs:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert len(worker._watchdog._heap) < 100
    check(lab)


def test_a_run_that_was_cancelled_records_the_time_out_and_ends(lab: Lab) -> None:
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_, timeout=0.3, retry=TWICE))
    lab.worker(mesh)
    run = mesh.start_run("single")
    gate.until_come()
    mesh.cancel_run(run.id)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert lab.attempts(run) == [("work", 1, "failed")]
    gate.open()
    check(lab)


def test_a_worker_stops_though_a_body_that_timed_out_never_ends(lab: Lab) -> None:
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_, timeout=SOON))
    worker = lab.worker(mesh)
    run = mesh.start_run("single")
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.FAILED
    worker.stop(grace=20.0)
    assert not [t for t in threading.enumerate() if t.name == "squidmesh-watchdog"]
    gate.open()
    check(lab, workers_left=False)


@pytest.mark.parametrize("bad", [0, -1, True, "3", float("nan"), float("inf")])
def test_what_cannot_be_a_timeout_is_refused_where_it_is_declared(bad: Any) -> None:
    workflow = Workflow("wrong")
    workflow.step(name="work", timeout=bad, transaction="yes")(lambda: None)  # type: ignore[call-overload]
    with pytest.raises(DefinitionError) as caught:
        workflow.check()
    first, second = caught.value.problems
    assert "transaction='yes' must be True or False" in first
    assert "timeout=" in second


def test_a_watchdog_barks_in_order_and_never_for_who_was_forgotten() -> None:
    """With time that a test makes pass."""
    now = 0.0
    barked: list[Expired] = []
    dog = Watchdog(barked.append, lambda: now)
    names: list[Ticket] = ["late", "early", "gone"]  # type: ignore[list-item]
    for name, seconds in zip(names, (20.0, 10.0, 5.0), strict=True):
        dog.watch(name, seconds)
    dog.forget(names[2])
    now = 30.0
    dog.watch("now", 0.0)  # type: ignore[arg-type]
    until(lambda: len(barked) == 3, what="three barks")
    assert [str(expired.ticket) for expired in barked] == ["early", "late", "now"]
    dog.stop()
