"""What is called when a run is undone, in which order, and with what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh import Context, Fail, RunStatus, Workflow

if TYPE_CHECKING:
    from tests.lab import Lab


def test_compensations_are_called_newest_first_and_no_step_is_called_again(lab: Lab) -> None:
    workflow = Workflow("undone")
    called: list[object] = []

    def take_back(ctx: Context, first: int, second: int = 0) -> None:
        called.append((ctx.step, ctx.compensating, first, second, (ctx.failure or {}).get("message")))

    @workflow.step(start=True, compensate=take_back, output="first", timeout=30)
    def plain() -> int:
        called.append("plain")
        return 1

    @workflow.step(compensate=take_back, output="second", transaction=True)
    def transactional(ctx: Context) -> int:
        called.append("transactional")
        return 2

    @workflow.step(compensate=take_back, output="second")
    async def asynchronous() -> int:
        called.append("asynchronous")
        return 3

    @workflow.step
    def fail() -> None:
        raise Fail("so")

    workflow.sequence(plain, transactional, asynchronous, fail)
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    assert mesh.wait_for_run(mesh.start_run(workflow).id, 20).status is RunStatus.FAILED
    assert called == [
        "plain",
        "transactional",
        "asynchronous",
        ("asynchronous", True, 1, 3, "so"),
        ("transactional", True, 1, 2, "so"),
        ("plain", True, 1, 0, "so"),
    ]
