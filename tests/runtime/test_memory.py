"""What a worker remembers does not grow with what it has done: tables and objects are counted, not bytes."""

from __future__ import annotations

import gc
from collections import Counter
from typing import TYPE_CHECKING

from squidmesh import Context, Outcome, Retry, Workflow
from squidmesh.worker.watchdog import FORGOTTEN
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from squidmesh.worker.worker import Worker
    from tests.lab import Lab

OURS = ("squidmesh.worker", "squidmesh.planner", "squidmesh.records", "squidmesh.store", "squidmesh.context")


def everything() -> Workflow:
    """A loop, a fork, a wait, an async step, a time-out and a retry."""
    workflow = Workflow("everything")

    @workflow.step(start=True, timeout=60)
    def again(ctx: Context) -> Outcome | None:
        return None if ctx.visit < 4 else Outcome("enough")

    @workflow.step(retry=Retry(max_attempts=2))
    def fails_once(ctx: Context) -> dict[str, int]:
        if ctx.attempt == 1:
            raise ValueError(ctx.attempt)
        return {"attempts": ctx.attempt}

    settle = workflow.wait("settle", seconds=0.001)

    @workflow.step
    async def last() -> dict[str, str]:
        return {"text": "x" * 100}

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=fails_once)
    workflow.sequence(fails_once, settle, last)
    return workflow


def tables(worker: Worker) -> dict[str, int]:
    """How many entries the tables of a worker have that has nothing to do."""
    engine, executor = worker._engine, worker._executor
    slots = executor.slots("default")
    return {
        "runs": len(engine.desk.runs),
        "lost": len(engine.desk.lost),
        "in hand": sum(engine.desk._in_hand.values()) + engine.desk._elapsing + engine.desk._suspects,
        "results": len(engine.results.runs),
        "waiting": len(slots._waiting),
        "running": len(slots.running()),
        "tasks": len(executor.loop._tasks),
        "arrived": len(executor.loop._arrived),
        "watched": len(executor.watchdog._watched),
        "graphs": len(engine.registry._graphs),
        "timers": len(engine._vigil._timers),
    }


def objects() -> Counter[str]:
    """How many objects there are of each of our types."""
    gc.collect()
    found = Counter(type(thing) for thing in gc.get_objects())
    ours = {kind.__name__: count for kind, count in found.items() if str(kind.__module__).startswith(OURS)}
    del ours["_Entry"]  # of the watchdog, which sweeps them now and then
    return Counter(ours)


def test_a_worker_that_has_done_much_remembers_no_more_than_one_that_has_done_little(lab: Lab) -> None:
    """Neither in its tables, nor in objects that something else still holds."""
    mesh = lab.mesh(everything())
    worker = lab.worker(mesh, 20)
    seen: list[tuple[dict[str, int], Counter[str]]] = []
    for round_ in range(1, 4):
        mesh.start_runs("everything", [None] * 150)
        lab.until_ended(150 * round_)
        until(lambda: worker._engine.quiet and not worker.running, what="a worker that has nothing to do")
        until(lambda: not tables(worker)["timers"], what="a look that finds no timers")
        seen.append((tables(worker), objects()))
    assert seen[1][0] == seen[2][0]
    grown = {kind: count for kind, count in (seen[2][1] - seen[1][1]).items() if count > 30}
    assert grown == {}, "objects that were left behind: a round has 150 runs, and many more steps"
    assert len(worker._executor.watchdog._heap) <= 2 * FORGOTTEN
    check(lab)
