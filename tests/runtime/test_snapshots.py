"""Snapshots of a run's context: nobody can tell whether there was one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import COMPLETE, Context, Outcome, RunStatus, Workflow
from squidmesh.planner import draft
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab

ODD = {"large": 1e16, "zeta": [1.0, 1e22, {"bb": 1, "a": 2}], "a": "ü", "null": None, "whole": 2**70}
"""Values that jsonb would give back otherwise if they were sent carelessly, under keys that it would put in another order."""


def heavy(seen: list[str], visits: int) -> Workflow:
    """A loop whose outputs are heavy, under keys that change; ``seen`` is told what each visit saw, to the letter."""
    workflow = Workflow("heavy")

    @workflow.step(start=True)
    def begin() -> dict[str, Any]:
        return dict(ODD)

    @workflow.step(visit_limit=visits)
    def grow(ctx: Context) -> Outcome:
        seen.append(json.dumps({k: v if not isinstance(v, str) else len(v) for k, v in ctx.state.items()}))
        seen.append(json.dumps(ctx.state))
        return Outcome(
            "enough" if ctx.visit == visits else "ok", {f"key{ctx.visit % 4}": "x" * 9000, "visit": ctx.visit}
        )

    workflow.sequence(begin, grow)
    workflow.transition(grow, to=grow)
    workflow.transition(grow, on="enough", to=COMPLETE)
    return workflow


def snapshots(lab: Lab) -> int:
    """How many there are."""
    return int(lab.value("SELECT count(*) FROM squidmesh.attempts WHERE kind = 'snapshot'"))


@pytest.mark.parametrize("keep", [1000.0, 0.0], ids=["kept by one worker", "read again for each step"])
def test_contexts_are_the_same_with_and_without(lab: Lab, monkeypatch: pytest.MonkeyPatch, keep: float) -> None:
    """Keys, order, types: the same for each visit, whether the worker remembers or reads."""
    results: list[list[str]] = []
    for floor in (10**9, draft.SNAPSHOT_FLOOR):
        monkeypatch.setattr(draft, "SNAPSHOT_FLOOR", floor)
        seen: list[str] = []
        mesh = lab.mesh(heavy(seen, 40))
        worker = lab.worker(mesh, 1, keep=keep, lease=60.0, beat=5.0)
        run = mesh.wait_for_run(mesh.start_run("heavy").id, 20)
        worker.stop()
        assert run.status is RunStatus.COMPLETED, run.error
        assert run.context is not None
        assert {key: run.context[key] for key in ODD} == ODD
        assert {key: type(run.context[key]) for key in ODD} == {key: type(value) for key, value in ODD.items()}
        results.append([json.dumps(json.loads(text), sort_keys=True) for text in seen])
    assert snapshots(lab) >= 2
    assert results[0] == results[1]
    check(lab)


def test_a_worker_that_reads_sees_what_one_that_remembers_would(lab: Lab) -> None:
    """To the letter, the order of keys included: a run goes on after a restart as it would have without."""
    texts: list[list[str]] = []
    for keep in (1000.0, 0.0):
        seen: list[str] = []
        mesh = lab.mesh(heavy(seen, 40))
        worker = lab.worker(mesh, 1, keep=keep, lease=60.0, beat=5.0)
        assert mesh.wait_for_run(mesh.start_run("heavy").id, 20).status is RunStatus.COMPLETED
        worker.stop()
        texts.append(seen)
    assert snapshots(lab) >= 4
    assert texts[0] == texts[1]


def test_a_worker_that_is_replaced_midway_changes_nothing(lab: Lab) -> None:
    """The second half of the run is done by another worker, from the snapshot on."""
    seen: list[str] = []
    mesh = lab.mesh(heavy(seen, 60))
    run = mesh.start_run("heavy")
    first = lab.worker(mesh, 1)
    until(lambda: snapshots(lab) >= 1, what="a snapshot")
    first.stop()
    lab.worker(lab.mesh(heavy(seen, 60)), 1)
    ended = mesh.wait_for_run(run.id, 20)
    assert ended.status is RunStatus.COMPLETED
    assert ended.context is not None
    assert ended.context["visit"] == 60
    assert [json.loads(text).get("visit") for text in seen[1::2]] == [None, *range(1, 60)]
    history = mesh.inspect_run(run.id, include_history=True).history
    assert history is not None
    assert "" not in {step.step for step in history.step_runs}
    check(lab)
