"""A worker stops: in good order, by force, or because its engine failed; nothing it had is stranded."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import psycopg
import pytest

from squidmesh import Constant, Context, Retry, RunStatus, SchemaError, SquidMesh, WorkerStopped, Workflow
from squidmesh.worker.turn import Turn
from tests.invariants import check
from tests.lab import Ear, Gate, Lab
from tests.runtime.apps import Bodies, single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable


def ours() -> list[str]:
    """The names of the threads of workers that are still there."""
    pools = ("squidmesh-scheduler", "squidmesh-worker-")
    names = [thread.name for thread in threading.enumerate()]
    return [name for name in names if name.startswith("squidmesh-") and not name.startswith(pools)]


def test_what_was_not_started_is_given_back_and_what_runs_is_finished(lab: Lab) -> None:
    """Claimed-ahead jobs are ready again, at the same attempt; running steps are recorded; the row is gone."""
    gate, bodies = Gate(), Bodies()
    workflow = Workflow("slow")

    @workflow.step(retry=Retry(max_attempts=2))
    def work(ctx: Context, hold: bool = True) -> None:
        bodies.note(ctx)
        if ctx.payload.get("hold", True):
            gate.pass_()

    mesh = lab.mesh(workflow, single(lambda: None, name="quick"))
    worker = lab.worker(mesh, 2, look_ahead=1.0)
    quick = mesh.start_run("quick")
    mesh.wait_for_run(quick.id, 20)  # now it knows that steps are quick, and claims ahead
    runs = mesh.start_runs(workflow, [None] * 20)
    gate.until_come(2)
    until(lambda: lab.jobs()["claimed"] > 2, what="jobs claimed ahead")
    stopping = threading.Thread(target=worker.stop, args=(20.0,))
    stopping.start()
    until(lambda: lab.jobs() == {"ready": 18, "claimed": 2}, what="what was not started")
    assert lab.rows("SELECT DISTINCT attempt, crashes, worker FROM squidmesh.jobs WHERE state = 'ready'") == [
        (1, 0, None)
    ]
    gate.open()
    stopping.join(20)

    assert bodies.total() == 2
    assert lab.rows("SELECT status, count(*) FROM squidmesh.runs WHERE workflow = 'slow' GROUP BY 1 ORDER BY 1") == [
        ("completed", 2),
        ("pending", 18),
    ]
    assert lab.rows("SELECT id FROM squidmesh.workers") == []
    lab.worker(mesh)
    lab.until_ended(len(runs) + 1)
    check(lab)


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_outlives_the_grace_period_is_cut_off_and_not_charged(lab: Lab, kind: str) -> None:
    """The attempt is recorded as abandoned with started_at; it counts neither as an attempt nor as a crash."""
    gate, begun = Gate(), threading.Event()
    workflow = Workflow("slow")

    if kind == "sync":

        @workflow.step(name="work")
        def work(ctx: Context) -> dict[str, int]:
            if not begun.is_set():
                begun.set()
                gate.pass_()
            return {"attempt": ctx.attempt}

    else:

        @workflow.step(name="work")
        async def async_work(ctx: Context) -> dict[str, int]:
            if not begun.is_set():
                begun.set()
                await asyncio.sleep(3600)
            return {"attempt": ctx.attempt}

    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    assert begun.wait(20)
    worker.stop(grace=0.0)
    assert lab.rows(
        "SELECT step, attempt, status, started_at IS NOT NULL, error ->> 'type' FROM squidmesh.attempts"
    ) == [("work", 1, "abandoned", True, "CutOff")]
    assert lab.rows("SELECT state, attempt, crashes, lane FROM squidmesh.jobs") == [("ready", 1, 0, 0)]
    check(lab, at_rest=False, workers_left=False)
    gate.open()
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).context == {"attempt": 1}
    check(lab)


def test_the_grace_period_can_be_ended_early(lab: Lab) -> None:
    """What the second signal does: the worker does not wait for its steps any longer."""
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    worker = lab.worker(mesh)
    mesh.start_run("single")
    gate.until_come()
    stopping = threading.Thread(target=worker.stop, args=(3600.0,))
    stopping.start()
    until(lambda: worker._engine.stopping)
    worker.cut_off()
    stopping.join(20)
    assert not stopping.is_alive()
    assert lab.jobs() == {"ready": 1}
    gate.open()


def test_starting_and_stopping_twice_is_allowed(lab: Lab) -> None:
    """Also stopping what was never started."""
    mesh = lab.mesh(single(lambda: None))
    mesh.worker().stop()
    worker = lab.worker(mesh)
    assert worker.start() is worker
    run = mesh.start_run("single")
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    worker.stop()
    worker.stop()
    assert worker.wait(0)


def test_a_worker_is_a_context_manager(lab: Lab) -> None:
    """Sync and async; when it ends, its threads end."""
    mesh = lab.mesh(single(lambda: None), polling_only=True)
    before = set(ours())
    with mesh.worker(lease=1.0, heartbeat=0.1) as worker:
        assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED
    assert worker.wait(0)

    async def use() -> None:
        async with mesh.worker() as second:
            run = await asyncio.to_thread(mesh.start_run, "single")
            ended = await asyncio.to_thread(mesh.wait_for_run, run.id, 20)
            assert ended.status is RunStatus.COMPLETED
        assert second.wait(0)

    asyncio.run(use())
    until(lambda: set(ours()) <= before, what="no thread is left")
    assert lab.rows("SELECT id FROM squidmesh.workers") == []


@pytest.mark.parametrize("rounds", [0, 1, 2, 3])
def test_async_steps_clean_up_when_the_worker_stops(lab: Lab, rounds: int) -> None:
    """A step that is cut off gets its CancelledError once, and time for its finally."""
    begun, stopped, cleaned = threading.Event(), threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.wait(20)  # the loop is told to stop while the step cleans up
            for _ in range(rounds):
                await asyncio.sleep(0)
            cleaned.set()

    mesh = lab.mesh(single(work))
    worker = lab.worker(mesh)
    mesh.start_run("single")
    assert begun.wait(20)
    worker.stop(grace=0.0)
    stopped.set()
    assert cleaned.wait(20)


def test_an_engine_that_fails_takes_the_worker_down(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """stop() and wait() raise, an event tells, nothing more is started, and what it had is rescued by another."""
    gate, bodies = Gate(), Bodies()
    workflow = Workflow("slow")

    @workflow.step
    def work(ctx: Context) -> None:
        bodies.note(ctx)
        gate.pass_()

    quick = single(lambda: None, "quick")
    mesh, other = lab.mesh(workflow, quick), lab.mesh(workflow, quick)
    ear = Ear(mesh, "worker.failed")
    worker = lab.worker(mesh, 1, look_ahead=1.0)
    old_id = worker.id
    mesh.wait_for_run(mesh.start_run("quick").id, 20)  # now it claims ahead
    runs = mesh.start_runs(workflow, [None] * 3)
    gate.until_come()
    until(lambda: lab.jobs() == {"claimed": 3}, what="jobs claimed ahead")

    def explode(turn: Turn) -> None:
        raise RuntimeError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(Turn, "_last_statements", explode)
        with pytest.raises(WorkerStopped, match="a bug"):
            worker.wait(20)
    assert ear.heard("worker.failed")
    gate.open()
    lab.worker(other)
    for run in runs:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    until(lambda: old_id not in [row[0] for row in lab.rows("SELECT id FROM squidmesh.workers")])
    assert bodies.total() == 4  # one of them twice: that which was in the middle
    with pytest.raises(WorkerStopped):
        worker.stop()
    with pytest.raises(WorkerStopped):
        worker.stop()
    check(lab)


def nowhere(dsn: str) -> SquidMesh:
    return SquidMesh(psycopg.conninfo.make_conninfo(dsn, port=1, host="127.0.0.1"))


def missing(dsn: str) -> SquidMesh:
    return SquidMesh(dsn, schema="there_is_none")


@pytest.mark.parametrize(
    ("where", "error"), [(nowhere, psycopg.OperationalError), (missing, SchemaError)], ids=["no database", "no schema"]
)
def test_a_worker_that_cannot_start_says_why(
    lab: Lab, where: Callable[[str], SquidMesh], error: type[Exception]
) -> None:
    """The error is raised by start(), every time; stopping it afterwards is allowed, and no thread is left."""
    before = set(ours())
    worker = where(lab.dsn).worker()
    for _ in range(2):
        with pytest.raises(error):
            worker.start()
    worker.stop()
    assert set(ours()) <= before


def test_a_missing_schema_is_named_with_the_command_that_makes_it(lab: Lab) -> None:
    """Workers and clients alike."""
    mesh = lab.mesh()
    del mesh
    with missing(lab.dsn) as mesh:
        for attempt in (mesh.worker().start, mesh.list_runs):
            with pytest.raises(SchemaError, match="squidmesh migrate --schema there_is_none"):
                attempt()


def test_a_step_that_asks_the_process_to_exit_does_not(lab: Lab) -> None:
    """SystemExit, KeyboardInterrupt and GeneratorExit are failures like others, sync and async."""
    workflow = Workflow("exits")
    retry = Retry(max_attempts=4, backoff=Constant(0))
    raised: dict[int, BaseException] = {1: SystemExit(3), 2: KeyboardInterrupt(), 3: GeneratorExit()}

    @workflow.step(retry=retry)
    def leave(ctx: Context) -> None:
        if ctx.attempt in raised:
            raise raised[ctx.attempt]

    @workflow.step(retry=retry)
    async def leave_async(ctx: Context) -> None:
        if ctx.attempt in raised:
            raise raised[ctx.attempt]

    @workflow.step(retry=retry)
    async def leave_in_task(ctx: Context) -> None:
        async def inner() -> None:
            if ctx.attempt in raised:
                raise raised[ctx.attempt]

        await asyncio.gather(inner(), asyncio.sleep(0))

    workflow.sequence(leave, leave_async, leave_in_task)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert [status for _, _, status in lab.attempts(run)] == ["failed", "failed", "failed", "completed"] * 3
    worker.stop()
    check(lab, workers_left=False)
