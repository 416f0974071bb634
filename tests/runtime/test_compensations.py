"""Compensations in the hands of a worker: what undoes a step is its own function, with its own options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from squidmesh import Context, Fail, Workflow

if TYPE_CHECKING:
    from tests.lab import Lab


def test_what_undoes_a_step_is_called_and_not_the_step_itself(lab: Lab) -> None:
    workflow, called = Workflow("saga"), list[Any]()

    def release(ctx: Context, place: int) -> None:
        called.append(("release", place, ctx.compensating, (ctx.failure or {})["message"]))

    async def refund(ctx: Context, paid: int) -> None:
        called.append(("refund", paid, ctx.step, ctx.attempt))

    @workflow.step(compensate=release, timeout=60)
    def reserve() -> dict[str, int]:
        called.append("reserve")
        return {"place": 7}

    @workflow.step(compensate=refund, transaction=True)
    def charge(ctx: Context) -> dict[str, int]:
        called.append("charge")
        return {"paid": 20}

    @workflow.step
    def ship() -> None:
        raise Fail("no stock")

    workflow.sequence(reserve, charge, ship)
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    assert mesh.wait_for_run(mesh.start_run(workflow).id, 30).status == "failed"
    assert called == ["reserve", "charge", ("refund", 20, "charge", 1), ("release", 7, True, "no stock")]
