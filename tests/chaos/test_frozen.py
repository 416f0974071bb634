"""A worker is stopped for longer than its lease, its jobs are done elsewhere, and then it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from squidmesh import RunStatus
from tests.chaos import apps
from tests.chaos.processes import start_workers, traces
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.chaos


def events(folder: Path, name: str, pid: int) -> list[list[str]]:
    """The events of a name that a process told of."""
    return [line for line in traces(folder, "events") if line[0] == f"[{pid}," and line[1] == f'"{name}",']


def test_a_frozen_worker_drops_what_was_done_elsewhere(lab: Lab, tmp_path: Path) -> None:
    """Its result comes too late: it is refused and told of; the worker goes on under a new id, and is of use."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "hold-c2").touch()
    (frozen,) = start_workers(lab, tmp_path, 1)
    old_id = lab.value("SELECT id FROM squidmesh.workers")
    run = mesh.start_run(apps.chain)
    until(lambda: len(traces(tmp_path, "bodies")) == 2, what="the second step")
    frozen.freeze()
    (tmp_path / "hold-c2").unlink()
    (second,) = start_workers(lab, tmp_path, 1)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    before = lab.attempts(run)
    frozen.thaw()

    until(lambda: events(tmp_path, "step.discarded", frozen.pid), what="the late result")
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.workers WHERE NOT dead") == 2, what="the new name")
    assert old_id not in [row[0] for row in lab.rows("SELECT id FROM squidmesh.workers")]
    assert lab.attempts(run) == before
    assert before == [("c1", 1, "completed"), ("c2", 1, "abandoned"), ("c2", 1, "completed"), ("c3", 1, "completed")]

    assert second.stop() == 0
    again = mesh.start_run(apps.chain)
    assert mesh.wait_for_run(again.id, 20).status is RunStatus.COMPLETED
    assert frozen.stop() == 0
    check(lab, workers_left=False)


def test_workers_frozen_in_turn_record_nothing_twice(lab: Lab, tmp_path: Path) -> None:
    """Two workers under load are frozen and thawed in turn, each beyond its lease."""
    mesh = lab.mesh(*apps.ALL)
    workers = start_workers(lab, tmp_path, 2)
    runs = mesh.start_runs(apps.fork, [None] * 30) + mesh.start_runs(apps.shaky, [None] * 30)
    lives = "SELECT count(*) FROM squidmesh.workers WHERE NOT dead AND lease > squidmesh.clock()"
    for number, worker in enumerate(workers):
        until(lambda n=number: len(traces(tmp_path, "bodies")) > 20 * (n + 1), what="some bodies")  # type: ignore[misc]
        worker.freeze()
        until(lambda: lab.value(lives) < 2, what="a dead worker")
        worker.thaw()
    for run in runs:
        assert mesh.wait_for_run(run.id, 30).status is RunStatus.COMPLETED
    assert [worker.stop() for worker in workers] == [0, 0]
    check(lab, workers_left=False)
