"""Transactional steps: what a step writes, its result and its successor are one commit, or nothing."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from squidmesh import Constant, Context, Defer, Fail, Outcome, Retry, RetryAfter, RunStatus, TransactionError, Workflow
from squidmesh.store.database import drive
from squidmesh.worker import transactions
from tests.invariants import check
from tests.lab import Ear, Gate, Lab
from tests.proxy import Proxy
from tests.runtime.apps import Bodies, single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh import Run
    from squidmesh.worker.ticket import Ticket

INSERT = "INSERT INTO {}.ledger VALUES (%s, %s, %s)"


@pytest.fixture
def ledger(lab: Lab) -> Callable[[], list[tuple[str, int]]]:
    """A table of the host's, as (step, attempt)."""
    lab.rows("CREATE TABLE squidmesh.ledger (run_id uuid, step text, attempt int)")
    return lambda: lab.rows("SELECT step, attempt FROM squidmesh.ledger ORDER BY 1, 2")


def write(lab: Lab, ctx: Context) -> None:
    ctx.connection.execute(INSERT.format(lab.schema), [ctx.run_id, ctx.step, ctx.attempt])


async def awrite(lab: Lab, ctx: Context) -> None:
    await ctx.connection.execute(INSERT.format(lab.schema), [ctx.run_id, ctx.step, ctx.attempt])


def transactional(lab: Lab, inside: Callable[[Context], object], kind: str = "sync", **options: Any) -> Workflow:
    """A workflow of one transactional step that writes a row and then does ``inside``, and of one that follows."""
    workflow = Workflow("ledger")

    def plain(ctx: Context) -> object:
        write(lab, ctx)
        return inside(ctx)

    async def coroutine(ctx: Context) -> object:
        await awrite(lab, ctx)
        return inside(ctx)

    step = workflow.step(name="work", transaction=True, **options)(plain if kind == "sync" else coroutine)

    @workflow.step
    def after() -> dict[str, int]:
        return {"after": 1}

    workflow.sequence(step, after)
    return workflow


def ended(lab: Lab, workflow: Workflow) -> Run:
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    return mesh.wait_for_run(mesh.start_run(workflow).id, 20)


both = pytest.mark.parametrize("kind", ["sync", "async"])


# -- together or not at all --------------------------------------------------------------------------------------------


@both
def test_writes_result_and_successor_are_one_commit(lab: Lab, ledger: Callable[[], object], kind: str) -> None:
    """All three rows have the same transaction id; events tell of it once; the successor is run without a poll."""
    workflow = transactional(lab, lambda ctx: {"sum": ctx.attempt}, kind)
    mesh = lab.mesh(workflow)
    ear = Ear(mesh)
    lab.worker(mesh, lease=60.0, beat=50.0)
    run = mesh.wait_for_run(mesh.start_run(workflow).id, 20)

    assert run.status is RunStatus.COMPLETED, run.error
    assert run.context == {"sum": 1, "after": 1}
    assert ledger() == [("work", 1)]
    assert lab.value(
        "SELECT l.xmin = a.xmin FROM squidmesh.ledger l, squidmesh.attempts a WHERE a.step = 'work' AND a.run_id = %s",
        run.id,
    )
    assert len(ear.heard("step.completed", 2)) == 2
    assert len(ear.heard("run.transition", 2)) == 2
    assert ear.heard("step.discarded") == []
    check(lab)


@both
def test_what_a_body_that_raises_has_written_is_rolled_back(lab: Lab, ledger: Callable[[], object], kind: str) -> None:
    """And its failure takes the ordinary way: it is recorded, and retried as its Retry says."""

    def inside(ctx: Context) -> None:
        if ctx.attempt < 3:
            raise RuntimeError("not yet")

    run = ended(lab, transactional(lab, inside, kind, retry=Retry(max_attempts=3, backoff=Constant(0))))
    assert run.status is RunStatus.COMPLETED
    assert ledger() == [("work", 3)]
    assert lab.attempts(run)[:3] == [("work", 1, "failed"), ("work", 2, "failed"), ("work", 3, "completed")]
    check(lab)


def test_defer_retry_after_outcome_and_fail_work_as_elsewhere(lab: Lab, ledger: Callable[[], object]) -> None:
    """The first three come back and commit what is written then; Fail commits nothing."""
    workflow = Workflow("words")
    deferred: list[int] = []

    @workflow.step(transaction=True, retry=Retry(max_attempts=2))
    def work(ctx: Context) -> Outcome:
        write(lab, ctx)
        if not deferred:
            deferred.append(1)
            raise Defer(0)
        if ctx.attempt == 1:
            raise RetryAfter(0)
        return Outcome("review", {"work": ctx.attempt})

    @workflow.step(transaction=True)
    def last(ctx: Context) -> None:
        write(lab, ctx)
        raise Fail("no", code=7)

    workflow.transition(work, on="review", to=last)
    run = ended(lab, workflow)
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["details"] == {"code": 7}
    assert lab.attempts(run) == [("work", 1, "failed"), ("work", 2, "completed"), ("last", 1, "failed")]
    assert ledger() == [("work", 2)]
    check(lab)


@both
@pytest.mark.parametrize("bad", [float("nan"), "nul \0", object()])
def test_a_result_that_cannot_be_stored_fails_its_run_only(
    lab: Lab, ledger: Callable[[], object], kind: str, bad: object
) -> None:
    run = ended(lab, transactional(lab, lambda _: {"x": bad}, kind))
    assert run.status is RunStatus.FAILED
    assert ledger() == []
    assert lab.attempts(run) == [("work", 1, "failed")]
    check(lab)


def test_a_join_of_transactional_branches_runs_once(lab: Lab, ledger: Callable[[], list[tuple[str, int]]]) -> None:
    """Branches commit by themselves, at once, sync and async; each waits for the run, and none is lost."""
    workflow = Workflow("fork")

    @workflow.step
    def first() -> None: ...

    async def coroutine(ctx: Context) -> dict[str, int]:
        await awrite(lab, ctx)
        return {ctx.step: 1}

    def plain(ctx: Context) -> dict[str, int]:
        write(lab, ctx)
        return {ctx.step: 1}

    names = [f"b{n}" for n in range(8)]
    for n, name in enumerate(names):
        workflow.step(name=name, after=[first], transaction=True)(coroutine if n % 2 else plain)

    @workflow.step(after=names)
    def last(**state: int) -> dict[str, int]:
        return {"sum": sum(state.values())}

    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    lab.worker(mesh)
    runs = mesh.start_runs(workflow, [None] * 10)
    for run in runs:
        ended_run = mesh.wait_for_run(run.id, 20)
        assert (ended_run.context or {})["sum"] == 8, ended_run
    assert len(ledger()) == 80
    check(lab)


def test_a_long_loop_of_transactional_steps_writes_snapshots(lab: Lab) -> None:
    """What follows reads the fold from there, and it is the same."""
    workflow = Workflow("loop")

    @workflow.step(transaction=True, start=True)
    def turn(ctx: Context, n: int = 0) -> Outcome:
        return Outcome("more" if n < 12 else "ok", {"n": n + 1, f"k{n}": "x" * 10_000})

    @workflow.step
    def last(**state: Any) -> dict[str, int]:
        return {"keys": len(state)}

    workflow.transition(turn, on="more", to=turn)
    workflow.sequence(turn, last)
    run = ended(lab, workflow)
    assert run.status is RunStatus.COMPLETED, run.error
    assert (run.context or {})["keys"] == 14
    assert lab.value("SELECT count(*) FROM squidmesh.attempts WHERE kind = 'snapshot'") > 0
    check(lab)


# -- the transaction is ours -------------------------------------------------------------------------------------------


@both
def test_commit_and_rollback_are_refused_by_the_connection(lab: Lab, ledger: Callable[[], object], kind: str) -> None:
    async def coroutine(ctx: Context) -> None:
        await ctx.connection.commit()

    def plain(ctx: Context) -> None:
        ctx.connection.rollback()

    run = ended(lab, single(plain if kind == "sync" else coroutine, transaction=True))
    assert run.status is RunStatus.FAILED
    assert "forbidden within a Transaction context" in str(run.error)


@both
@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK", "COMMIT; BEGIN", "ROLLBACK; BEGIN", "COMMIT AND CHAIN"])
def test_a_raw_end_of_the_transaction_fails_the_step_for_good(
    lab: Lab, ledger: Callable[[], object], sql: str, kind: str
) -> None:
    """And names the cause: it is not retried, its successor does not run, what it wrote after that is gone."""

    def plain(ctx: Context) -> None:
        ctx.connection.execute(sql)
        write(lab, ctx)

    async def coroutine(ctx: Context) -> None:
        await ctx.connection.execute(sql)
        await awrite(lab, ctx)

    retry = Retry(max_attempts=5)
    run = ended(lab, single(plain if kind == "sync" else coroutine, transaction=True, retry=retry))
    assert run.status is RunStatus.FAILED
    assert run.error is not None
    assert run.error["type"] == "TransactionError"
    assert "COMMIT or ROLLBACK" in run.error["message"]
    assert run.error["retryable"] is False
    # Outside of any transaction a statement stands for itself; within a new one it is rolled back.
    assert ledger() == ([] if "BEGIN" in sql or "CHAIN" in sql else [("work", 1)])
    check(lab)


def test_a_part_may_be_rolled_back_and_an_error_caught_there(lab: Lab, ledger: Callable[[], object]) -> None:
    def inside(ctx: Context) -> None:
        try:
            with ctx.connection.transaction():
                ctx.connection.execute("SELECT 1 / 0")
        except psycopg.errors.DivisionByZero:
            with ctx.connection.transaction():
                write(lab, ctx)
                raise psycopg.Rollback from None

    assert ended(lab, transactional(lab, inside)).status is RunStatus.COMPLETED
    assert ledger() == [("work", 1)]


@pytest.mark.parametrize(
    ("how", "said"),
    [("caught", "caught an error"), ("closed", "closed ctx.connection"), ("Rollback", "Rollback")],
)
def test_a_transaction_that_cannot_be_committed_is_said_to_be(
    lab: Lab, ledger: Callable[[], object], how: str, said: str
) -> None:
    def inside(ctx: Context) -> None:
        if how == "closed":
            ctx.connection.close()
        elif how == "Rollback":
            raise psycopg.Rollback
        else:
            with pytest.raises(psycopg.errors.DivisionByZero):
                ctx.connection.execute("SELECT 1 / 0")

    run = ended(lab, transactional(lab, inside))
    assert run.status is RunStatus.FAILED
    assert said in str(run.error)
    assert ledger() == []


def test_a_constraint_that_is_checked_at_the_commit_is_the_steps_failure(lab: Lab) -> None:
    lab.rows("CREATE TABLE squidmesh.once (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    sql = f"INSERT INTO {lab.schema}.once VALUES (1), (1)"

    def work(ctx: Context) -> None:
        ctx.connection.execute(sql)

    run = ended(lab, single(work, transaction=True))
    assert run.status is RunStatus.FAILED
    assert (run.error or {})["type"] == "UniqueViolation"
    check(lab)


def test_a_step_without_a_transaction_is_told_how_to_get_one(lab: Lab) -> None:
    def work(ctx: Context) -> None:
        ctx.connection.execute("SELECT 1")

    run = ended(lab, single(work))
    assert (run.error or {})["type"] == "TransactionError"
    assert "step(transaction=True)" in (run.error or {})["message"]


def test_a_step_finds_a_connection_as_psycopg_makes_them(lab: Lab) -> None:
    """Whatever the step before it did to it."""
    seen: list[object] = []

    def work(ctx: Context) -> None:
        seen.append(ctx.connection.execute("SELECT 1 AS x").fetchone())
        ctx.connection.row_factory = psycopg.rows.dict_row

    mesh = lab.mesh(single(work, transaction=True))
    lab.worker(mesh, 1)
    for run in mesh.start_runs("single", [None] * 3):
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert seen == [(1,)] * 3


# -- conflicts ---------------------------------------------------------------------------------------------------------


@both
def test_steps_that_deadlock_are_run_again_without_using_an_attempt(lab: Lab, kind: str) -> None:
    """Two steps lock two rows crosswise; one of them is undone by the server, run again, and succeeds."""
    lab.rows("CREATE TABLE squidmesh.accounts (id int PRIMARY KEY, n int)")
    lab.rows("INSERT INTO squidmesh.accounts VALUES (1, 0), (2, 0)")
    sql = f"UPDATE {lab.schema}.accounts SET n = n + 1 WHERE id = %s"
    bodies, meet = Bodies(), threading.Barrier(2, timeout=20)
    workflow = Workflow("cross")

    def order(ctx: Context) -> tuple[int, int]:
        bodies.note(ctx)
        return (1, 2) if ctx.step == "left" else (2, 1)

    def plain(ctx: Context) -> None:
        first, second = order(ctx)
        ctx.connection.execute(sql, [first])
        if bodies.of(ctx.run_id)[ctx.step] == 1:
            meet.wait()
        ctx.connection.execute(sql, [second])

    async def coroutine(ctx: Context) -> None:
        first, second = order(ctx)
        await ctx.connection.execute(sql, [first])
        if bodies.of(ctx.run_id)[ctx.step] == 1:
            await asyncio.to_thread(meet.wait)
        await ctx.connection.execute(sql, [second])

    for name in ("left", "right"):
        workflow.step(name=name, start=True, transaction=True)(plain if kind == "sync" else coroutine)
    run = ended(lab, workflow)
    assert run.status is RunStatus.COMPLETED, run.error
    assert bodies.total() == 3
    assert sorted(lab.attempts(run)) == [("left", 1, "completed"), ("right", 1, "completed")]
    assert lab.rows("SELECT n FROM squidmesh.accounts") == [(2,), (2,)]


@pytest.mark.parametrize("code", ["40P01", "40001", "55P03"])
def test_a_conflict_that_does_not_end_fails_the_step_as_any_error(lab: Lab, code: str) -> None:
    """After three further runs; also where an ORM has wrapped it."""
    bodies = Bodies()

    def work(ctx: Context) -> None:
        bodies.note(ctx)
        try:
            ctx.connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '{code}'; END $$")
        except psycopg.Error as error:
            raise RuntimeError("wrapped") from error

    run = ended(lab, single(work, transaction=True))
    assert run.status is RunStatus.FAILED
    assert bodies.total() == 4
    assert lab.attempts(run) == [("work", 1, "failed")]


def test_an_error_that_a_step_chose_itself_is_no_conflict(lab: Lab) -> None:
    bodies = Bodies()

    def work(ctx: Context) -> None:
        bodies.note(ctx)
        try:
            ctx.connection.execute("DO $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = '40001'; END $$")
        except psycopg.Error as error:
            raise Fail("enough") from error

    assert ended(lab, single(work, transaction=True)).status is RunStatus.FAILED
    assert bodies.total() == 1


@both
def test_a_run_that_somebody_holds_for_long_is_waited_for_and_never_failed(
    lab: Lab, ledger: Callable[[], object], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The step is run again, then it comes back later, and says why; when the run is free, it commits once."""
    monkeypatch.setattr(transactions, "LONGEST_LOCK_WAIT", 0.01)
    monkeypatch.setattr(transactions, "COME_BACK", 0.01)
    bodies = Bodies()
    workflow = transactional(lab, bodies.note, kind)
    mesh = lab.mesh(workflow)
    holder = lab.session(autocommit=False)
    run = mesh.start_run(workflow)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs FOR UPDATE"))
    lab.worker(mesh)
    until(lambda: bodies.total() == 4, what="four bodies")
    holder.rollback()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert [row[2] for row in lab.attempts(run)] == ["completed", "completed"]
    assert ledger() == [("work", 1)]
    check(lab)


# -- the fence ---------------------------------------------------------------------------------------------------------


@both
def test_what_was_rescued_meanwhile_is_rolled_back(lab: Lab, ledger: Callable[[], object], kind: str) -> None:
    """The worker was declared dead while the body ran: its writes are gone, those of the second body are there once."""
    gate, bodies = Gate(), Bodies()

    async def wait_async(ctx: Context) -> None:
        await awrite(lab, ctx)
        bodies.note(ctx)
        if bodies.total() == 1:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.to_thread(gate.pass_)
            gate.come += 10

    def wait(ctx: Context) -> None:
        write(lab, ctx)
        bodies.note(ctx)
        if bodies.total() == 1:
            gate.pass_()

    workflow = single(wait if kind == "sync" else wait_async, transaction=True)
    mesh = lab.mesh(workflow)
    ear = Ear(mesh, "step.discarded", "step.completed")
    worker = lab.worker(mesh, 1)
    first = worker.id
    run = mesh.start_run(workflow)
    gate.until_come()
    lab.rows("UPDATE squidmesh.workers SET dead = true")
    until(lambda: worker.id != first, what="the new name")
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    gate.open()
    until(lambda: ear.heard("step.discarded"), what="the late result")
    assert len(ear.heard("step.completed", 1)) == 1
    assert ledger() == [("work", 1)]
    assert [row[2] for row in lab.attempts(run)] == ["abandoned", "completed"]
    check(lab)


def test_a_body_that_ends_as_soon_as_it_is_told_to_is_not_committed(
    lab: Lab, ledger: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker was declared dead: before it tells the body, it makes sure that nothing comes of what it returns."""
    bodies = Bodies()

    async def work(ctx: Context) -> None:
        await awrite(lab, ctx)
        bodies.note(ctx)
        if bodies.total() == 1:
            with pytest.raises(asyncio.CancelledError):
                await asyncio.Event().wait()

    workflow = single(work, transaction=True)
    mesh = lab.mesh(workflow)
    ear = Ear(mesh, "step.discarded", "step.completed")
    worker = lab.worker(mesh, 1)
    first, tell = worker.id, worker._executor.tell_to_stop

    def tell_and_wait(ticket: Ticket) -> None:
        tell(ticket)
        until(lambda: not worker.running, what="the end of the body")

    monkeypatch.setattr(worker._executor, "tell_to_stop", tell_and_wait)
    run = mesh.start_run(workflow)
    until(bodies.total, what="the body")
    lab.rows("UPDATE squidmesh.workers SET dead = true")
    until(lambda: worker.id != first, what="the new name")
    until(lambda: ear.heard("step.discarded"), what="the late result")
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert [row[2] for row in lab.attempts(run)] == ["abandoned", "completed"]
    assert ledger() == [("work", 1)]
    check(lab)


@both
def test_a_step_that_does_not_know_of_its_rescue_finds_the_fence(
    lab: Lab, ledger: Callable[[], object], kind: str
) -> None:
    """Nothing has told the worker: the database alone says so, under the run's lock, and all is rolled back."""
    gate = Gate()

    async def wait_async(ctx: Context) -> None:
        await awrite(lab, ctx)
        await asyncio.to_thread(gate.pass_)

    def wait(ctx: Context) -> None:
        write(lab, ctx)
        gate.pass_()

    workflow = single(wait if kind == "sync" else wait_async, transaction=True)
    mesh = lab.mesh(workflow)
    ear = Ear(mesh, "step.discarded")
    lab.worker(mesh, lease=60.0, beat=50.0)
    run = mesh.start_run(workflow)
    gate.until_come()
    lab.rows("UPDATE squidmesh.jobs SET claim = claim + 1000")
    gate.open()
    until(lambda: ear.heard("step.discarded"), what="the late result")
    assert ledger() == []
    assert lab.attempts(run) == []


@both
def test_a_run_that_is_cancelled_meanwhile_keeps_what_the_step_did(
    lab: Lab, ledger: Callable[[], object], kind: str
) -> None:
    """As elsewhere, what executes is told, its result is recorded and starts nothing; an async step is cancelled."""
    gate = Gate()
    told: list[bool] = []

    async def wait_async(ctx: Context) -> None:
        await awrite(lab, ctx)
        gate.come += 1
        await asyncio.sleep(60)

    def wait(ctx: Context) -> None:
        write(lab, ctx)
        gate.pass_()
        told.append(ctx.cancelled)

    workflow = single(wait if kind == "sync" else wait_async, transaction=True)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    gate.until_come()
    mesh.cancel_run(run.id)
    if kind == "sync":
        until(lambda: worker.running[0].cancelled, what="the flag")
        gate.open()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert told == ([True] if kind == "sync" else [])
    assert ledger() == ([("work", 1)] if kind == "sync" else [])
    check(lab)


@both
def test_what_outlives_the_grace_period_can_never_commit(lab: Lab, ledger: Callable[[], object], kind: str) -> None:
    """Its query is cancelled, its locks are released, the attempt is abandoned; another worker's commits once."""
    bodies = Bodies()

    async def work_async(ctx: Context) -> None:
        await awrite(lab, ctx)
        bodies.note(ctx)
        if bodies.total() == 1:
            await ctx.connection.execute("SELECT pg_sleep(60)")

    def work(ctx: Context) -> None:
        write(lab, ctx)
        bodies.note(ctx)
        if bodies.total() == 1:
            ctx.connection.execute("SELECT pg_sleep(60)")

    workflow = single(work if kind == "sync" else work_async, transaction=True)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%%' AND state = 'active'"
    until(lambda: lab.value(sleeping) == 1, what="the query")
    worker.stop(grace=0.0)
    until(lambda: lab.value(sleeping) == 0, what="its end")
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert ledger() == [("work", 1)]
    assert [row[2] for row in lab.attempts(run)] == ["abandoned", "completed"]
    check(lab)


def test_a_graceful_stop_waits_for_the_commit(lab: Lab, ledger: Callable[[], object]) -> None:
    gate = Gate()
    workflow = transactional(lab, lambda _: gate.pass_())
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    gate.until_come()
    stopping = threading.Thread(target=worker.stop, args=(20.0,))
    stopping.start()
    gate.open()
    stopping.join(20)
    assert lab.attempts(run) == [("work", 1, "completed")]
    assert ledger() == [("work", 1)]
    assert lab.jobs() == {"ready": 1}
    check(lab, at_rest=False, workers_left=False)


# -- a commit whose answer is lost -------------------------------------------------------------------------------------


@both
@pytest.mark.parametrize("drop_reply", [True, False], ids=["reply lost", "commit lost"])
def test_a_commit_whose_answer_is_lost_is_settled(
    lab: Lab, ledger: Callable[[], object], kind: str, drop_reply: bool
) -> None:
    """It was applied, and the run goes on; or it was not, and the step is run again: once it is, in either case."""
    bodies = Bodies()
    workflow = transactional(lab, bodies.note, kind)
    mesh = lab.mesh(workflow)

    def at_the_steps_commit(message: bytes) -> bool:
        travels_alone = message.startswith(b"Q") and message.endswith(b"COMMIT\0")  # the engine's travel otherwise
        return bodies.total() > 0 and travels_alone

    with Proxy(lab.dsn) as proxy:
        flaky = lab.mesh(workflow, dsn=proxy.dsn, prepared_statements=False)
        ear = Ear(flaky, "step.discarded")
        done = proxy.cut_when(at_the_steps_commit, drop_reply=drop_reply)
        worker = lab.worker(flaky, lease=60.0, beat=50.0)
        run = mesh.start_run(workflow)
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
        assert done.is_set()
        worker.stop()
        assert ear.names() == []
    assert ledger() == [("work", 1)]
    assert bodies.total() == (1 if drop_reply else 2)
    assert [row[2] for row in lab.attempts(run)].count("completed") == 2
    check(lab, workers_left=False)


@both
def test_a_connection_that_is_lost_in_the_body_costs_no_attempt(
    lab: Lab, ledger: Callable[[], object], kind: str
) -> None:
    bodies = Bodies()

    def inside(ctx: Context) -> None:
        bodies.note(ctx)
        if bodies.total() == 1:
            lab.rows("SELECT pg_terminate_backend(%s)", ctx.connection.info.backend_pid)

    run = ended(lab, transactional(lab, inside, kind))
    assert run.status is RunStatus.COMPLETED
    assert bodies.total() == 2
    assert ledger() == [("work", 1)]
    assert lab.attempts(run) == [("work", 1, "completed"), ("after", 1, "completed")]


# -- what it costs -----------------------------------------------------------------------------------------------------


def test_a_plain_step_costs_what_it_did_and_opens_no_pool(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """No statement, thread or connection of transactions and time-outs exists where no step asks for them."""
    said: list[str] = []

    def listening(connection: Any, operation: Any, *args: Any, **kwargs: Any) -> Any:
        said.append(threading.current_thread().name)
        return drive(connection, operation, *args, **kwargs)

    monkeypatch.setattr(transactions, "drive", listening)
    mesh = lab.mesh(single(lambda: None))
    worker = lab.worker(mesh)
    mesh.wait_for_run(mesh.start_run("single").id, 20)
    assert said == []
    assert worker._pools._sync is None
    assert worker._watchdog._thread is None
    assert not [t.name for t in threading.enumerate() if t.name.startswith(("squidmesh-steps", "squidmesh-watchdog"))]


def test_transaction_is_live_codes_business() -> None:
    """Neither it nor a time-out is in the fingerprint: a run goes on with what the code says today."""

    def flow(**options: Any) -> str:
        return single(lambda: None, **options).check().fingerprint

    assert flow() == flow(transaction=True) == flow(timeout=3)


def test_a_context_in_a_unit_test_may_be_given_a_connection(lab: Lab) -> None:
    connection = lab.session()
    said = {"run_id": None, "workflow": "w", "trigger": "t", "step": "s", "visit": 1, "attempt": 1}
    context = Context(**said, payload={}, state={}, session=connection)  # type: ignore[arg-type]
    assert context.connection is connection
    with pytest.raises(TransactionError, match="transaction=True"):
        _ = Context(**said, payload={}, state={}).connection  # type: ignore[arg-type]
