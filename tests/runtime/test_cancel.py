"""Runs that are cancelled or fail while some of their steps wait, and others run."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest

from squidmesh import Constant, Context, IllegalMove, Retry, RunStatus, Workflow
from tests.invariants import check
from tests.lab import NOON, Ear, Gate, Lab, standing_still, until_status
from tests.runtime.apps import Bodies, single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh import SquidMesh


def audits(mesh: SquidMesh, run_id: object) -> list[str]:
    """The types of a run's audit events."""
    history = mesh.inspect_run(str(run_id), include_history=True).history
    assert history is not None
    return [event.type for event in history.audit_events]


def sleeping() -> Workflow:
    """Its runs wait for time."""
    workflow = Workflow("w")
    wait = workflow.wait("wait", seconds=3600)

    @workflow.step
    def after() -> None: ...

    workflow.sequence(wait, after)
    return workflow


def retrying() -> Workflow:
    """The step of its runs waits for its next attempt."""

    def fail() -> None:
        raise RuntimeError

    return single(fail, "w", retry=Retry(max_attempts=2, backoff=Constant(3600)))


def ready() -> Workflow:
    """It has a step that does nothing."""
    return single(lambda: None, "w")


@pytest.mark.parametrize(
    ("situation", "drain", "shown"),
    [
        (sleeping, True, RunStatus.PENDING),
        (retrying, True, RunStatus.RETRYING),
        (ready, False, RunStatus.PENDING),
    ],
)
def test_what_does_not_execute_is_cancelled_at_once(
    dsn: str, situation: Callable[[], Workflow], shown: RunStatus, *, drain: bool
) -> None:
    """Its jobs go in the same commit; a second call returns the run; no worker is needed."""
    with standing_still(dsn, situation()) as h:
        run = h.mesh.start_run("w")
        if drain:
            h.drain()
        h.assert_status(run, shown)
        cancelled = h.mesh.cancel_run(run.id, actor="me", comment="enough")
        assert (cancelled.status, cancelled.finished_at) == (RunStatus.CANCELLED, NOON)
        assert (h.run(run).current_steps, h.next_timer, h.drain()) == ((), None, [])
        assert h.mesh.cancel_run(str(run.id)).status is RunStatus.CANCELLED
        assert audits(h.mesh, run.id) == ["cancelled"]
        assert h.attempts(run)[-1].status == "cancelled"


def test_a_running_step_is_told_promptly_and_its_result_starts_nothing(lab: Lab) -> None:
    """Told by a notification to its worker, not by the next heartbeat; the run is cancelling until the step ends."""
    seen, begun, go_on = threading.Event(), threading.Event(), threading.Event()
    workflow = Workflow("w")

    @workflow.step
    def work(ctx: Context) -> dict[str, bool]:
        begun.set()
        until(lambda: ctx.cancelled)
        seen.set()
        assert go_on.wait(20)
        return {"saw": True}

    @workflow.step(after=[work])
    def never() -> None:
        raise AssertionError

    mesh, client = lab.mesh(workflow), lab.mesh(workflow)
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = mesh.start_run(workflow)
    assert begun.wait(20)
    assert client.cancel_run(run.id).status is RunStatus.CANCELLING
    assert seen.wait(20)
    assert client.inspect_run(run.id).status is RunStatus.CANCELLING
    assert client.cancel_run(run.id).status is RunStatus.CANCELLING
    go_on.set()
    ended = client.wait_for_run(run.id, 20)
    assert ended.status is RunStatus.CANCELLED
    assert ended.context == {"saw": True}
    assert lab.attempts(run) == [("work", 1, "completed")]
    check(lab)


def test_a_running_async_step_is_cancelled_for_real(lab: Lab) -> None:
    """It gets CancelledError where it waits."""
    begun, got = threading.Event(), threading.Event()

    async def work() -> None:
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            got.set()
            raise

    mesh = lab.mesh(single(work, "w", retry=Retry(max_attempts=3)))
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = mesh.start_run("w")
    assert begun.wait(20)
    mesh.cancel_run(run.id)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert got.is_set()
    check(lab)


def test_an_async_step_that_cleans_up_is_not_cancelled_again(lab: Lab) -> None:
    """Each heartbeat finds the flag on its job; a second CancelledError would hit its cleaning up."""
    begun, cleaning = threading.Event(), threading.Event()
    go_on = asyncio.Event()
    loops: list[asyncio.AbstractEventLoop] = []

    async def work() -> dict[str, bool]:
        loops.append(asyncio.get_running_loop())
        begun.set()
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cleaning.set()
            await go_on.wait()
        return {"clean": True}

    mesh = lab.mesh(single(work, "w"))
    lab.worker(mesh, beat=0.05)
    run = mesh.start_run("w")
    assert begun.wait(20)
    mesh.cancel_run(run.id)
    assert cleaning.wait(20)
    ((beats,),) = lab.rows("SELECT beats FROM squidmesh.workers")
    until(lambda: lab.rows("SELECT beats FROM squidmesh.workers")[0][0] > beats + 3, what="heartbeats")
    loops[0].call_soon_threadsafe(go_on.set)
    ended = mesh.wait_for_run(run.id, 20)
    assert (ended.status, ended.context) == (RunStatus.CANCELLED, {"clean": True})
    check(lab)


def test_claimed_ahead_jobs_of_a_cancelled_run_are_not_started(lab: Lab) -> None:
    """They are in a worker's hands, but their bodies have not begun: they never do."""
    gate, bodies = Gate(), Bodies()
    workflow = Workflow("w")

    @workflow.step
    def work(ctx: Context) -> None:
        bodies.note(ctx)
        gate.pass_()

    mesh = lab.mesh(workflow, single(lambda: None, "quick"))
    worker = lab.worker(mesh, 1, look_ahead=1.0)
    mesh.wait_for_run(mesh.start_run("quick").id, 20)
    runs = mesh.start_runs(workflow, [None] * 5)
    gate.until_come()
    until(lambda: lab.jobs()["claimed"] == 5, what="jobs claimed ahead")
    (first,) = {run_id for run_id, *_ in bodies.started}
    others = [run for run in runs if run.id != first]
    for run in others:
        assert mesh.cancel_run(run.id).status is RunStatus.CANCELLING
    told = [ticket.cancellation for ticket in worker._engine.desk.tickets() if ticket.run.run_id != first]
    until(lambda: all(flag.raised for flag in told), what="the worker, told")
    gate.open()
    for run in others:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
        assert lab.attempts(run) == [("work", 1, "cancelled")]
    assert mesh.wait_for_run(first, 20).status is RunStatus.COMPLETED
    assert bodies.total() == 1
    check(lab)


@pytest.mark.parametrize("status", ["completed", "failed"])
def test_what_has_ended_cannot_be_cancelled(lab: Lab, status: str) -> None:
    """The error says which status it has and what would be possible; nothing changes."""

    def work() -> None:
        if status == "failed":
            raise RuntimeError

    mesh = lab.mesh(single(work, "w"))
    lab.worker(mesh)
    run = mesh.start_run("w")
    assert mesh.wait_for_run(run.id, 20).status == status
    with pytest.raises(IllegalMove) as caught:
        mesh.cancel_run(run.id)
    assert caught.value.details["status"] == status
    assert caught.value.details["run_id"] == str(run.id)
    assert audits(mesh, run.id) == []


def test_a_failing_branch_withdraws_what_waits_and_waits_for_what_runs(lab: Lab) -> None:
    """The run is failing until its executing sibling has ended; that one's result is recorded."""
    gate, fail = Gate(), threading.Event()
    workflow = Workflow("w")

    @workflow.step(start=True)
    def fails() -> None:
        gate.until_come()
        fail.wait(20)
        raise RuntimeError("final")

    @workflow.step(start=True)
    def runs(ctx: Context) -> dict[str, bool]:
        gate.pass_()
        return {"told": ctx.cancelled}

    @workflow.step(start=True, queue="nobody")
    def waits_for_a_worker() -> None: ...

    asleep = workflow.wait("asleep", seconds=3600, start=True)

    @workflow.step(after=[fails, runs, waits_for_a_worker, asleep])
    def never() -> None: ...

    mesh = lab.mesh(workflow)
    ear = Ear(mesh, "run.transition")
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = mesh.start_run(workflow)
    gate.until_come()
    fail.set()
    failing = until_status(mesh, run, RunStatus.FAILING)
    assert failing.error is not None
    assert failing.error["message"] == "final"
    assert failing.error["step"] == "fails"
    assert lab.jobs() == {"claimed": 1}
    with pytest.raises(IllegalMove):
        mesh.cancel_run(run.id)
    gate.open()
    ended = mesh.wait_for_run(run.id, 20)
    assert ended.status is RunStatus.FAILED
    assert ended.attention == "failed"
    assert sorted(lab.attempts(run)) == [
        ("asleep", 1, "cancelled"),
        ("fails", 1, "failed"),
        ("runs", 1, "completed"),
        ("waits_for_a_worker", 1, "cancelled"),
    ]
    assert [e.metadata["to_status"] for e in ear.heard("run.transition", 3)] == ["running", "failing", "failed"]
    check(lab)


def test_a_run_that_a_host_holds_can_be_cancelled_by_it_alone(lab: Lab) -> None:
    """Cancelling in the host's transaction happens if and when that commits; a rollback leaves all as it was."""
    mesh = lab.mesh(ready())
    run = mesh.start_run("w")
    host = lab.session(autocommit=False)
    assert mesh.cancel_run(run.id, connection=host).status is RunStatus.CANCELLED
    host.rollback()
    assert mesh.inspect_run(run.id).status is RunStatus.PENDING
    lab.worker(mesh)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)
