"""A worker dies with what it had in hand: another one goes on, and what must not be repeated is not."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from squidmesh import RunStatus
from tests.chaos import apps
from tests.chaos.processes import WorkerProcess, start_workers, traces
from tests.clockwork import Clockwork
from tests.invariants import check
from tests.lab import until_status
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.chaos


def test_another_worker_finishes_what_a_killed_one_had(lab: Lab, tmp_path: Path) -> None:
    """SIGKILL in the middle of a step: it is recorded as abandoned with evidence, does not count, and is run again."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "hold-c2").touch()
    (first,) = start_workers(lab, tmp_path, 1)
    run = mesh.start_run(apps.chain)
    until(lambda: len(traces(tmp_path, "bodies")) == 2, what="the second step")
    first.kill()
    (tmp_path / "hold-c2").unlink()
    start_workers(lab, tmp_path, 1)

    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert lab.attempts(run) == [
        ("c1", 1, "completed"),
        ("c2", 1, "abandoned"),
        ("c2", 1, "completed"),
        ("c3", 1, "completed"),
    ]
    assert [step for _, step, *_ in traces(tmp_path, "bodies")] == ["c1", "c2", "c2", "c3"]
    history = mesh.inspect_run(run.id, include_history=True).history
    assert history is not None
    (abandoned,) = [a for s in history.step_runs for a in s.attempts if a.status == "abandoned"]
    assert abandoned.error is not None
    assert abandoned.error["type"] == "WorkerDied"
    assert abandoned.error["pid"] == first.pid
    check(lab)


def test_a_clock_that_is_set_back_does_not_keep_what_a_killed_worker_had(lab: Lab, tmp_path: Path) -> None:
    """Its lease ends in an hour then; that it is silent is all there is to go by."""
    clock, mesh = Clockwork(lab), lab.mesh(*apps.ALL)
    (tmp_path / "hold-c2").touch()
    (first,) = start_workers(lab, tmp_path, 1)
    run = mesh.start_run(apps.chain)
    until(lambda: len(traces(tmp_path, "bodies")) == 2, what="the second step")
    first.kill()
    clock.step(hours=-1)
    (tmp_path / "hold-c2").unlink()
    start_workers(lab, tmp_path, 1)

    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert ("c2", 1, "abandoned") in lab.attempts(run)
    check(lab)


def test_a_step_that_kills_its_worker_is_quarantined(lab: Lab, tmp_path: Path) -> None:
    """The first death may be somebody else's fault and is free; after three more the run waits for a human."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "die").touch()
    run = mesh.start_run(apps.deadly)
    for _ in range(4):
        (worker,) = start_workers(lab, tmp_path, 1)
        assert worker.wait() == 66
    start_workers(lab, tmp_path, 1)

    shown = until_status(mesh, run, RunStatus.PAUSED)
    assert shown.attention == "quarantined"
    assert lab.attempts(run) == [("die", 1, "abandoned")] * 4
    assert len(traces(tmp_path, "bodies")) == 4
    assert shown.history is not None
    assert [event.type for event in shown.history.audit_events] == ["paused"]
    check(lab)


def test_a_worker_runs_one_suspect_at_a_time(lab: Lab, tmp_path: Path) -> None:
    """Of many runs that a worker died with, only the deadly one is quarantined: the others are not charged."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "hold-c2").touch()
    (first,) = start_workers(lab, tmp_path, 1)
    good = mesh.start_runs(apps.chain, [None] * 6)
    until(lambda: len(traces(tmp_path, "bodies")) == 12, what="all second steps")
    (tmp_path / "die").touch()
    bad = mesh.start_run(apps.deadly)
    assert first.wait() == 66
    (tmp_path / "hold-c2").unlink()
    for _ in range(3):
        (worker,) = start_workers(lab, tmp_path, 1)
        assert worker.wait() == 66
    start_workers(lab, tmp_path, 1)

    for run in good:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    until(lambda: mesh.inspect_run(bad.id).attention == "quarantined")
    # No good run was charged a crash on which it was alone: beside the shared first one, at most one more.
    bodies = Counter((run, step) for run, step, *_ in traces(tmp_path, "bodies"))
    assert all(bodies[str(run.id), "c2"] <= 2 for run in good), bodies
    check(lab)


def test_an_interrupted_irreversible_step_waits_for_a_human(lab: Lab, tmp_path: Path) -> None:
    """Only a human can know what it did: its body is not started again."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "hold-pay").touch()
    (first,) = start_workers(lab, tmp_path, 1)
    run = mesh.start_run(apps.careful)
    until(lambda: traces(tmp_path, "bodies"), what="the body")
    first.kill()
    (second,) = start_workers(lab, tmp_path, 1)

    shown = until_status(mesh, run, RunStatus.PAUSED)
    assert shown.attention == "interrupted"
    other = mesh.start_run(apps.chain)
    assert mesh.wait_for_run(other.id, 20).status is RunStatus.COMPLETED
    assert second.stop() == 0
    assert len([t for t in traces(tmp_path, "bodies") if t[1] == "pay"]) == 1
    assert lab.attempts(run) == [("pay", 1, "abandoned")]
    check(lab)


def test_claims_of_a_worker_whose_row_is_gone_are_rescued(lab: Lab, tmp_path: Path) -> None:
    """Whoever deletes a worker's row by hand strands nothing."""
    mesh = lab.mesh(*apps.ALL)
    (tmp_path / "hold-c2").touch()
    (first,) = start_workers(lab, tmp_path, 1)
    run = mesh.start_run(apps.chain)
    until(lambda: len(traces(tmp_path, "bodies")) == 2, what="the second step")
    first.kill()
    lab.rows("DELETE FROM squidmesh.workers")
    (tmp_path / "hold-c2").unlink()
    start_workers(lab, tmp_path, 1)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


@pytest.mark.parametrize("branches_held", [True, False], ids=["in the steps", "anywhere"])
def test_workers_killed_again_and_again_lose_nothing(lab: Lab, tmp_path: Path, branches_held: bool) -> None:
    """Of three workers, one after the other is killed while forks, joins, retries and waits are under way."""
    mesh = lab.mesh(*apps.ALL)
    if branches_held:
        (tmp_path / "hold-fork").touch()
    runs = mesh.start_runs(apps.fork, [None] * 20) + mesh.start_runs(apps.shaky, [None] * 20)
    victims = start_workers(lab, tmp_path, 3)
    for number, victim in enumerate(victims):
        # Few: what one of them had claimed ahead is run one at a time after its death, and held up here.
        until(lambda n=number: len(traces(tmp_path, "bodies")) > 4 * (n + 1), what="some bodies")  # type: ignore[misc]
        victim.kill()
        WorkerProcess(lab, tmp_path)
    (tmp_path / "hold-fork").unlink(missing_ok=True)
    for run in runs:
        assert mesh.wait_for_run(run.id, 30).status is RunStatus.COMPLETED
    check(lab)


def test_a_worker_killed_at_each_compensation_undoes_everything_once(lab: Lab, tmp_path: Path) -> None:
    """Recorded exactly once, the newest first; executed at least once, under the same attempt: twice where it was killed."""
    mesh = lab.mesh(*apps.ALL)
    for step in "abc":
        (tmp_path / f"hold-undo-{step}").touch()
    (worker,) = start_workers(lab, tmp_path, 1)
    run = mesh.start_run(apps.saga)
    bodies = 3
    for step in "cba":
        until(lambda n=bodies: len(traces(tmp_path, "bodies")) > n, what=f"the undoing of {step}")  # type: ignore[misc]
        worker.kill()
        (tmp_path / f"hold-undo-{step}").unlink()
        (worker,) = start_workers(lab, tmp_path, 1)
        bodies += 2
    ended = mesh.wait_for_run(run.id, 30)
    assert ended.status is RunStatus.FAILED
    assert [line[1] for line in traces(tmp_path, "bodies")] == ["a", "b", "c", "c", "c", "b", "b", "a", "a"]
    query = "SELECT step, attempt, status FROM squidmesh.attempts WHERE kind = 'compensation' ORDER BY seq"
    recorded = [(step, 1, status) for step in "cba" for status in ("abandoned", "completed")]
    assert lab.rows(query) == recorded
    check(lab)
