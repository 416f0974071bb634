"""``diff_runs``: where real runs part."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from squidmesh import AsyncSquidMesh, InvalidRunId, Retry, RunDiff, RunNotFound, StepDifference, Workflow
from squidmesh.states import StepStatus
from tests.waiting import TIMEOUT

if TYPE_CHECKING:
    from tests.lab import Lab


def counting(good_from: int) -> Workflow:
    """A loop of visits, then a step that fails until it was called so often."""
    workflow = Workflow("counting")
    calls = 0

    @workflow.step(output="seen")
    def see() -> str:
        return "always"

    @workflow.step(output="answer", retry=Retry(max_attempts=2))
    def ask() -> int:
        nonlocal calls
        calls += 1
        if calls < good_from:
            raise ValueError("not yet")
        return calls

    @workflow.step(output="told")
    def tell(answer: int) -> bool:
        return answer > 0

    workflow.sequence(see, ask, tell)
    return workflow


def test_a_replay_parts_from_its_run_where_it_did_better(lab: Lab) -> None:
    """The first fails both attempts; the replay takes one. Both twins and both orders say so."""
    mesh = lab.mesh(counting(good_from=3))
    lab.worker(mesh)
    failed = mesh.wait_for_run(mesh.start_run("counting").id, TIMEOUT)
    replay = mesh.wait_for_run(mesh.replay_run(failed.id).id, TIMEOUT)

    found = mesh.diff_runs(failed.id, str(replay.id))

    assert (found.workflow, found.graph, found.trigger, found.payload_keys) == (None, None, None, ())
    assert found.status == ("failed", "completed")
    assert found.steps == (
        StepDifference(
            step="ask",
            visit=1,
            status=(StepStatus.FAILED, StepStatus.COMPLETED),
            outcome=(None, "ok"),
            output_keys=("answer",),
            attempts=(2, 1),
            error_type=("ValueError", None),
        ),
        StepDifference(
            step="tell",
            visit=1,
            status=(None, StepStatus.COMPLETED),
            outcome=(None, "ok"),
            output_keys=("told",),
            attempts=(0, 1),
        ),
    )
    assert found.parted_at == found.steps[0]
    assert mesh.diff_runs(failed.id, failed.id).same

    async def twin() -> RunDiff:
        async with AsyncSquidMesh(lab.dsn, workflows=[counting(1)], schema=lab.schema) as other:
            return await other.diff_runs(failed.id, replay.id)

    assert asyncio.run(twin()) == found


def test_long_histories_are_read_to_their_end(lab: Lab) -> None:
    """More attempts than a page has; they part at the last one. A run of another code's graph can be compared, too."""
    mesh = lab.mesh(counting(1))
    first, second = mesh.start_runs("counting", [{}, {}])
    fill = """
        INSERT INTO squidmesh.attempts (run_id, finished_at, seq, visit, attempt, saw, kind, status, step, outcome, output)
        SELECT %s, squidmesh.clock(), n, n, 1, 1, 'step', 'completed', 'see', 'ok',
               CASE WHEN n = 2000 THEN jsonb_build_object('last', %s::text) END
          FROM generate_series(1, 2000) n"""
    for run in (first, second):
        lab.rows(fill, run.id, str(run.id))
    found = lab.mesh().diff_runs(first.id, second.id)
    assert found.steps == (StepDifference(step="see", visit=2000, output_keys=("last",)),)


def test_a_run_that_is_not_there_is_not_compared(lab: Lab) -> None:
    mesh = lab.mesh(counting(1))
    run = mesh.start_run("counting")
    with pytest.raises(RunNotFound):
        mesh.diff_runs(run.id, uuid4())
    with pytest.raises(InvalidRunId):
        mesh.diff_runs("x", run.id)
