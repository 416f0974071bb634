"""Many workers change the same runs at the same instant."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from squidmesh import COMPLETE, Context, Outcome, RunStatus, Workflow
from tests.chaos import apps
from tests.chaos.processes import start_workers, traces
from tests.effort import FULL_CHAOS
from tests.invariants import check
from tests.runtime.apps import Bodies, fork_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab


def test_two_siblings_that_end_at_the_same_instant_join_once(lab: Lab) -> None:
    """Two workers, one sibling each, a barrier as the last thing that both bodies do; a hundred times."""
    barrier = threading.Barrier(2)
    bodies = Bodies()

    def meet(ctx: Context) -> None:
        barrier.wait(20)

    mesh = lab.mesh(fork_of(bodies, 2, meet))
    workers = [lab.worker(mesh, concurrency=1, look_ahead=0.0, lease=30.0) for _ in range(2)]
    runs = mesh.start_runs("fork", [None] * (500 if FULL_CHAOS else 100))
    lab.until_ended(len(runs), timeout=90)
    for worker in workers:
        worker.stop()
    assert {mesh.inspect_run(run.id).status for run in runs[:10]} == {RunStatus.COMPLETED}
    assert lab.rows("SELECT DISTINCT status FROM squidmesh.runs") == [("completed",)]
    assert lab.rows("SELECT step, count(*) FROM squidmesh.attempts GROUP BY 1 ORDER BY 1") == [
        (step, len(runs)) for step in ("b0", "b1", "first", "last")
    ]
    assert set(bodies.started.values()) == {1}
    check(lab, workers_left=False)


def test_eight_siblings_in_three_workers_join_once(lab: Lab) -> None:
    """A hundred runs of eight siblings each, wherever they happen to run; the join sees all of them."""
    bodies = Bodies()
    seen: list[int] = []
    workflow = fork_of(bodies, 8)

    @workflow.step(after=["last"])
    def count(**state: object) -> None:
        seen.append(len([key for key in state if key.startswith("b")]))

    mesh = lab.mesh(workflow)
    runs = mesh.start_runs(workflow, [None] * 100)
    workers = [lab.worker(mesh, concurrency=4, lease=30.0, look_ahead=0.002) for _ in range(3)]
    lab.until_ended(len(runs), timeout=60)
    for worker in workers:
        worker.stop()
    assert seen == [8] * len(runs)
    assert set(bodies.started.values()) == {1}
    check(lab, workers_left=False)


@pytest.mark.chaos
def test_random_graphs_in_three_processes(lab: Lab, tmp_path: Path) -> None:
    """Random graphs with random failures: every run ends, each body is one recorded attempt, nothing is left."""
    mesh = lab.mesh(*apps.ALL)
    workers = start_workers(lab, tmp_path, 3, lease=30.0)
    count = 0
    for workflow in apps.RANDOM:
        count += len(mesh.start_runs(workflow, [None] * (60 if FULL_CHAOS else 12)))
    lab.until_ended(count, timeout=90)
    assert [worker.stop() for worker in workers] == [0, 0, 0]
    recorded = lab.rows(
        """SELECT run_id::text, step, visit::text, attempt::text, count(*) FROM squidmesh.attempts
            WHERE worker IS NOT NULL AND kind = 'step' AND status IN ('completed', 'failed') AND started_at IS NOT NULL
            GROUP BY 1, 2, 3, 4"""
    )
    assert {row[4] for row in recorded} == {1}
    assert sorted(tuple(line[:4]) for line in traces(tmp_path, "bodies")) == sorted(row[:4] for row in recorded)
    check(lab, workers_left=False)


def test_a_claim_reads_what_another_worker_has_just_saved(lab: Lab) -> None:
    """Two steps hand each other the turn between two queues, each served by one worker: each sees the newest output."""
    workflow = Workflow("ping")
    seen: list[tuple[int, int]] = []

    @workflow.step(queue="left", start=True, visit_limit=200)
    def ping(ctx: Context, ball: int = 0) -> dict[str, int]:
        seen.append((ctx.visit, ball))
        return {"ball": ball + 1}

    @workflow.step(queue="right", visit_limit=200)
    def pong(ctx: Context, ball: int) -> object:
        seen.append((ctx.visit, ball))
        return Outcome("over" if ctx.visit == 100 else "ok", {"ball": ball + 1})

    workflow.sequence(ping, pong)
    workflow.transition(pong, to=ping)
    workflow.transition(pong, to=COMPLETE, on="over")
    mesh = lab.mesh(workflow)
    for queue in ("left", "right"):
        lab.worker(mesh, queues={queue: 2}, lease=30.0)
    run = mesh.start_run(workflow)
    ended = mesh.wait_for_run(run.id, 30)
    assert ended.status is RunStatus.COMPLETED, ended.error
    assert [ball for _, ball in seen] == list(range(200))
    assert ended.context == {"ball": 200}
    check(lab)
