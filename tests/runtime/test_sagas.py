"""Undoing what a run did, with real workers: order, input, other workers, other code, failures, force, deadlines."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import Constant, Context, Fail, IllegalMove, Retry, RunStatus, Workflow
from tests.invariants import check
from tests.lab import Ear, Gate, Lab, until_status
from tests.runtime.races import audits
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh import Run


class Trip:
    """A trip: car and hotel are booked and can be undone, the plane cannot be had; and what was called, in order."""

    def __init__(self, *, plane: Callable[[], object] | None = None, undo_hotel: Callable[[], object] = int) -> None:
        self.undone: list[tuple[str, dict[str, Any], Any, str, bool]] = []
        self.workflow = Workflow("trip")

        def undo_car(ctx: Context, car: str) -> None:
            self._note(ctx, car=car)

        def cancel_hotel(ctx: Context, hotel: str, car: str) -> str:
            undo_hotel()
            self._note(ctx, hotel=hotel, car=car)
            return "gone"

        @self.workflow.step(compensate=undo_car, output="car")
        def car(ctx: Context) -> str:
            return ctx.idempotency_key

        @self.workflow.step(
            compensate=cancel_hotel, compensate_retry=Retry(max_attempts=2, backoff=Constant(0.01)), output="hotel"
        )
        def hotel() -> str:
            return "h1"

        @self.workflow.step(output="car")
        def plane_() -> str:
            (plane or self._full)()
            return "overwritten"

        stop = self.workflow.pause("stop")
        self.workflow.sequence(car, hotel, plane_, stop)

    def _full(self) -> None:
        raise Fail("full", seats=0)

    def _note(self, ctx: Context, **given: Any) -> None:
        self.undone.append((ctx.step, given, ctx.failure, ctx.idempotency_key, ctx.compensating))


def compensations(lab: Lab, run: Run) -> list[tuple[str, int, str]]:
    query = """SELECT step, attempt, status FROM squidmesh.attempts
                WHERE run_id = %s AND kind = 'compensation' ORDER BY seq"""
    return lab.rows(query, run.id)


def test_what_was_done_is_undone_with_what_there_was_then(lab: Lab) -> None:
    trip = Trip()
    mesh = lab.mesh(trip.workflow)
    ear = Ear(mesh, "compensation.started", "compensation.completed", "run.transition")
    lab.worker(mesh)
    run = mesh.start_run("trip")
    ended = mesh.wait_for_run(run.id, 20)
    assert (ended.status, ended.attention) == (RunStatus.FAILED, "failed")
    key = f"{run.id}:car:1"
    assert [(step, given) for step, given, *_ in trip.undone] == [
        ("hotel", {"hotel": "h1", "car": key}),
        ("car", {"car": key}),
    ]
    _, _, failure, undo_key, compensating = trip.undone[1]
    assert (failure["message"], failure["step"], failure["details"]) == ("full", "plane_", {"seats": 0})
    assert (undo_key, compensating) == (f"{key}:compensation", True)
    assert compensations(lab, run) == [("hotel", 1, "completed"), ("car", 1, "completed")]
    assert ended.context == {"car": key, "hotel": "h1"}, "what compensations return is not the run's"
    assert audits(lab, run) == ["compensating", "compensated"]
    assert [e.name for e in ear.heard("compensation.completed", 2)] == ["compensation.completed"] * 2
    moves = [e.metadata["to_status"] for e in ear.heard("run.transition", 3)]
    assert moves == ["running", "compensating", "failed"]
    shown = mesh.inspect_run(run.id, include_history=True).history
    assert shown is not None
    assert {s.step: s.status for s in shown.steps}["car"] == "compensated"
    check(lab)


def test_another_worker_undoes_what_the_first_one_did(lab: Lab) -> None:
    first, second = Trip(plane=int), Trip()
    mesh = lab.mesh(first.workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run("trip")
    until_status(mesh, run, "paused")
    worker.stop()
    other = lab.mesh(second.workflow)
    lab.worker(other)
    other.cancel_run(run.id, compensate=True)
    assert other.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert (first.undone, [step for step, *_ in second.undone]) == ([], ["hotel", "car"])
    assert second.undone[0][2] is None, "nothing failed"
    assert second.undone[0][1]["car"].endswith(":car:1"), "not what was overwritten later"
    check(lab)


def test_a_compensation_that_live_code_does_not_have_waits_for_a_worker_that_has_it(lab: Lab) -> None:
    trip, bare = Trip(), Workflow("trip")
    for name in ("car", "hotel", "plane_"):
        bare.step(name=name)(Trip()._full if name == "plane_" else _nothing)
    bare.sequence("car", "hotel", "plane_")
    client = lab.mesh(trip.workflow)
    lab.worker(lab.mesh(bare), lease=600.0)
    run = client.start_run("trip")
    until(lambda: lab.rows("SELECT kind FROM squidmesh.jobs WHERE reason = 'unknown_step'") == [("compensation",)])
    assert client.inspect_run(run.id).status is RunStatus.COMPENSATING
    lab.worker(lab.mesh(_forgiving()), lease=600.0)
    assert client.wait_for_run(run.id, 20).status is RunStatus.FAILED
    assert [status for *_, status in compensations(lab, run)] == ["completed"] * 2
    check(lab)


def _nothing() -> None: ...


def _forgiving() -> Workflow:
    """The trip with compensations that need nothing."""
    workflow = Workflow("trip")
    steps = [workflow.step(name=name, compensate=_nothing)(_nothing) for name in ("car", "hotel")]
    workflow.sequence(*steps)
    return workflow


def test_one_that_fails_for_good_is_told_and_the_others_are_undone(lab: Lab) -> None:
    def broken() -> None:
        raise RuntimeError("the hotel does not answer")

    trip = Trip(undo_hotel=broken)
    mesh = lab.mesh(trip.workflow)
    ear = Ear(mesh, "compensation.failed")
    lab.worker(mesh)
    run = mesh.start_run("trip")
    ended = mesh.wait_for_run(run.id, 20)
    assert compensations(lab, run) == [("hotel", 1, "failed"), ("hotel", 2, "failed"), ("car", 1, "completed")]
    assert ended.error is not None
    (told,) = ended.error["compensation_failures"]
    assert (told["step"], told["message"]) == ("hotel", "the hotel does not answer")
    assert len(ear.heard("compensation.failed", 2)) == 2
    check(lab)


def test_it_waits_for_what_executes_unless_it_is_forced(lab: Lab) -> None:
    """A thread that never returns: cancelled with force, the run ends; what the thread says then is worth nothing."""
    gate = Gate()
    trip = Trip(plane=gate.pass_)
    mesh = lab.mesh(trip.workflow)
    ear = Ear(mesh, "step.discarded")
    lab.worker(mesh)
    run = mesh.start_run("trip")
    gate.until_come()
    assert mesh.cancel_run(run.id, compensate=True).status is RunStatus.CANCELLING
    assert trip.undone == []
    assert mesh.cancel_run(run.id, force=True).status is RunStatus.COMPENSATING
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert [step for step, *_ in trip.undone] == ["hotel", "car"]
    assert lab.attempts(run)[-1] == ("plane_", 1, "abandoned")
    gate.open()
    until(lambda: ear.heard("step.discarded"), what="the late result")
    assert lab.attempts(run)[-1] == ("plane_", 1, "abandoned")
    check(lab)


def test_asking_twice_is_no_error(lab: Lab) -> None:
    """Nor while it is undone; but a run that was cancelled as it was cannot be undone later."""
    gate = Gate()
    trip = Trip(plane=int, undo_hotel=gate.pass_)
    mesh = lab.mesh(trip.workflow)
    lab.worker(mesh)
    run, plain = mesh.start_run("trip"), mesh.start_run("trip")
    for each in (run, plain):
        until_status(mesh, each, "paused")
    for _ in range(2):
        assert mesh.cancel_run(run.id, compensate=True).status is RunStatus.COMPENSATING
    gate.open()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.CANCELLED
    assert mesh.cancel_run(run.id, compensate=True).status is RunStatus.CANCELLED
    assert mesh.cancel_run(plain.id).status is RunStatus.CANCELLED
    with pytest.raises(IllegalMove):
        mesh.cancel_run(plain.id, compensate=True)
    check(lab)


def test_at_the_deadline_a_step_that_executes_is_told_and_its_result_is_undone_too(lab: Lab) -> None:
    begun, undone = threading.Event(), threading.Event()
    workflow = Workflow("slow", deadline=0.3)

    @workflow.step(compensate=undone.set)
    def work(ctx: Context) -> None:
        begun.set()
        until(lambda: ctx.cancelled)

    mesh = lab.mesh(workflow)
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = mesh.start_run(workflow)
    ended = mesh.wait_for_run(run.id, 20)
    assert begun.is_set()
    assert undone.is_set()
    assert ended.error is not None
    assert (ended.status, ended.error["type"]) == (RunStatus.FAILED, "DeadlineExceeded")
    assert lab.attempts(run) == [("work", 1, "completed")]
    check(lab)


def test_a_run_that_waits_for_people_fails_at_its_deadline_also_where_no_function_works(lab: Lab) -> None:
    workflow = Workflow("idle", deadline=0.1)
    workflow.pause("stop")
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.start_run(workflow)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.FAILED
    assert lab.jobs() == {}
    check(lab)
