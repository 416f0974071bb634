"""Going on after something went wrong: retry_run, replay_run(from_step=), unblock_run, with real workers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import (
    Constant,
    Context,
    IllegalMove,
    InvalidOption,
    NotRetryable,
    Retry,
    RunStatus,
    UnsafeReplay,
    Workflow,
)
from tests.invariants import check
from tests.lab import Gate, Lab, until_status
from tests.runtime.races import at_once, audits, rows_of

if TYPE_CHECKING:
    from uuid import UUID

    from squidmesh import Run, SquidMesh


class Shop:
    """Three steps; the second fails as long as ``broken``, and remembers what it was called with."""

    def __init__(self, **options: Any) -> None:
        self.broken = True
        self.seen: list[tuple[str, int, int]] = []
        self.workflow = Workflow("shop")

        @self.workflow.step(irreversible=True)
        def order() -> dict[str, int]:
            return {"order": 1}

        @self.workflow.step(**options)
        def pay(ctx: Context, order: int) -> dict[str, int]:
            self.seen.append((ctx.idempotency_key, ctx.attempt, order))
            if self.broken:
                raise RuntimeError("no answer")
            return {"paid": order}

        @self.workflow.step
        def ship(paid: int) -> dict[str, int]:
            return {"shipped": paid}

        self.workflow.sequence(order, pay, ship)


def failed(lab: Lab, **options: Any) -> tuple[Shop, SquidMesh, Run]:
    shop = Shop(**options)
    mesh = lab.mesh(shop.workflow)
    lab.worker(mesh)
    run = mesh.wait_for_run(mesh.start_run("shop").id, 20)
    assert run.status is RunStatus.FAILED
    return shop, mesh, run


def test_a_failed_run_goes_on_where_it_failed(lab: Lab) -> None:
    shop, mesh, run = failed(lab)
    shop.broken = False
    again = mesh.retry_run(run.id, actor="ada", comment="it answers again")
    assert (again.id, again.finished_at, again.error, again.current_steps) == (run.id, None, None, ("pay",))
    ended = mesh.wait_for_run(run.id, 20)
    assert (ended.status, ended.context) == (RunStatus.COMPLETED, {"order": 1, "paid": 1, "shipped": 1})
    key = f"{run.id}:pay:1"
    assert shop.seen == [(key, 1, 1), (key, 2, 1)]
    assert lab.attempts(run) == [("order", 1, "completed"), ("pay", 1, "failed"), ("pay", 2, "completed"), ("ship", 1, "completed")]  # fmt: skip
    assert audits(lab, run) == ["retried"]
    check(lab)


def test_of_two_retries_at_once_one_counts(lab: Lab) -> None:
    shop, mesh, run = failed(lab)
    shop.broken = False
    results = at_once(lab, run, *[lambda: mesh.retry_run(run.id)] * 2)
    # The other one finds it running, or run to its end.
    assert [type(result) for result in results if isinstance(result, Exception)] == [IllegalMove]
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert audits(lab, run) == ["retried"]
    check(lab)


def test_it_has_all_its_attempts_again_and_may_be_retried_again(lab: Lab) -> None:
    shop, mesh, run = failed(lab, retry=Retry(max_attempts=2, backoff=Constant(0.01)))
    mesh.retry_run(run.id)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.FAILED
    assert [attempt for _, attempt, _ in shop.seen] == [1, 2, 3, 4]
    shop.broken = False
    mesh.retry_run(run.id)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


def test_a_run_that_was_undone_is_not_retried(lab: Lab) -> None:
    workflow = Workflow("undone")

    @workflow.step(compensate=lambda: None)
    def done() -> None: ...

    @workflow.step
    def bad() -> None:
        raise RuntimeError

    workflow.sequence(done, bad)
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.wait_for_run(mesh.start_run(workflow).id, 20)
    before = rows_of(lab, run)
    with pytest.raises(NotRetryable, match="undone"):
        mesh.retry_run(run.id)
    assert rows_of(lab, run) == before


def test_a_replay_from_a_step_takes_over_what_was_done_before_it(lab: Lab) -> None:
    shop, mesh, run = failed(lab)
    shop.broken = False
    with pytest.raises(UnsafeReplay, match="order"):
        mesh.replay_run(run.id)
    again = mesh.replay_run(run.id, from_step="pay")
    assert (again.replayed_from, again.current_steps, again.context) == (run.id, ("pay",), {"order": 1})
    ended = mesh.wait_for_run(again.id, 20)
    assert (ended.status, ended.context) == (RunStatus.COMPLETED, {"order": 1, "paid": 1, "shipped": 1})
    assert shop.seen[-1] == (f"{again.id}:pay:1", 1, 1), "a new key: it is another run"
    kinds = lab.rows("SELECT step, kind FROM squidmesh.attempts WHERE run_id = %s ORDER BY seq", again.id)
    assert kinds == [("order", "copied"), ("pay", "step"), ("ship", "step")]
    with pytest.raises(UnsafeReplay, match="order"):
        mesh.replay_run(again.id)
    with pytest.raises(InvalidOption, match="begins with"):
        mesh.replay_run(run.id, from_step="ship")
    check(lab)


def interrupted(lab: Lab) -> tuple[Gate, list[int], SquidMesh, Run]:
    """A run whose irreversible step was cut off by a worker that stopped."""
    gate, calls, workflow = Gate(), list[int](), Workflow("careful")

    @workflow.step(irreversible=True)
    def pay(ctx: Context) -> dict[str, int]:
        calls.append(ctx.attempt)
        gate.pass_()
        return {"paid": 1}

    @workflow.step
    def ship(paid: int) -> dict[str, int]:
        return {"shipped": paid}

    workflow.sequence(pay, ship)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh)
    run = mesh.start_run(workflow)
    gate.until_come()
    worker.stop(grace=0)
    until_status(mesh, run, "interrupted")
    gate.open()
    lab.worker(mesh)
    return gate, calls, mesh, run


@pytest.mark.parametrize("resolution", ["rerun", "completed", "failed"])
def test_what_became_of_an_interrupted_step_a_person_says(lab: Lab, resolution: str) -> None:
    _, calls, mesh, run = interrupted(lab)
    before = rows_of(lab, run)
    for options in ({}, {"resolution": "failed", "output": {"a": 1}}):
        with pytest.raises(InvalidOption):
            mesh.unblock_run(run.id, **options)  # type: ignore[arg-type]
    assert rows_of(lab, run) == before
    output = {"paid": 2} if resolution == "completed" else None
    mesh.unblock_run(run.id, resolution=resolution, output=output, actor="ada", comment="I looked")
    ended = mesh.wait_for_run(run.id, 20)
    expected = {
        "rerun": (RunStatus.COMPLETED, 1),
        "completed": (RunStatus.COMPLETED, 2),
        "failed": (RunStatus.FAILED, None),
    }
    assert ended.context is not None
    assert (ended.status, ended.context.get("shipped")) == expected[resolution]
    assert calls == [1] * (2 if resolution == "rerun" else 1)
    assert audits(lab, run) == ["paused", "resolved"]
    check(lab)


def test_of_two_people_who_say_different_things_at_once_one_counts(lab: Lab) -> None:
    _, calls, mesh, run = interrupted(lab)
    asked = [lambda r=resolution: mesh.unblock_run(run.id, resolution=r) for resolution in ("rerun", "completed")]
    results = at_once(lab, run, *asked)
    assert len([result for result in results if isinstance(result, Exception)]) == 1
    mesh.wait_for_run(run.id, 20)
    assert audits(lab, run) == ["paused", "resolved"]
    assert len(calls) <= 2
    check(lab)


def test_what_was_not_waited_for_is_not_replayed_unasked(lab: Lab) -> None:
    """Cancelled with force while it executes, an irreversible step may have done what it does."""
    gate, workflow = Gate(), Workflow("forced")

    @workflow.step(irreversible=True)
    def pay() -> None:
        gate.pass_()

    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    run = mesh.start_run(workflow)
    gate.until_come()
    assert mesh.cancel_run(run.id, force=True).status is RunStatus.CANCELLED
    with pytest.raises(UnsafeReplay, match="pay"):
        mesh.replay_run(run.id)
    gate.open()
    check(lab)


def test_a_step_that_was_quarantined_runs_again_when_somebody_says_so(lab: Lab) -> None:
    shop = Shop()
    shop.broken = False
    mesh = lab.mesh(shop.workflow)
    run = mesh.start_run("shop")
    _quarantine(lab, run.id)
    with pytest.raises(InvalidOption, match="belongs to"):
        mesh.unblock_run(run.id, output={"a": 1})
    lab.worker(mesh)
    assert mesh.unblock_run(run.id).attention is None
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


def _quarantine(lab: Lab, run_id: UUID) -> None:
    """As a worker would that cannot store what happened."""
    lab.rows("UPDATE squidmesh.jobs SET state = 'parked', reason = 'quarantined' WHERE run_id = %s", run_id)
    lab.rows(
        """UPDATE squidmesh.runs SET status = 'paused', attention = 'quarantined',
                  state = state || '{"gates": 1, "troubles": 1}' WHERE id = %s""",
        run_id,
    )
