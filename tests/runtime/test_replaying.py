"""Replays from a step: what a run begins with whose first steps were done by another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squidmesh import RunStatus, Workflow
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab


def test_a_replay_that_begins_at_a_wait_for_a_signal_is_running_like_any_other(lab: Lab) -> None:
    """Not pending, which would say that a worker has yet to begin with it."""
    workflow = Workflow("from_a_signal")

    @workflow.step(start=True)
    def first() -> None: ...

    workflow.sequence(first, workflow.wait_for("word"))
    mesh = lab.mesh(workflow)
    lab.worker(mesh)
    source = mesh.start_run(workflow)
    until(lambda: mesh.inspect_run(source.id).current_steps == ("word",), what="the wait")
    mesh.cancel_run(source.id)
    new = mesh.replay_run(source.id, from_step="word")
    assert (new.status, new.current_steps) == (RunStatus.RUNNING, ("word",))
    mesh.send_signal(new.id, "word")
    assert mesh.wait_for_run(new.id, 20).status is RunStatus.COMPLETED


def test_a_replay_that_begins_at_a_step_is_pending_until_a_worker_has_it(lab: Lab) -> None:
    workflow = Workflow("from_a_step")
    heard = workflow.wait_for("word", start=True)

    @workflow.step
    def second() -> None: ...

    workflow.sequence(heard, second)
    mesh = lab.mesh(workflow)
    source = mesh.start_run(workflow)
    mesh.send_signal(source.id, "word", {"n": 1})
    mesh.cancel_run(source.id)
    new = mesh.replay_run(source.id, from_step="second")
    assert (new.status, new.current_steps) == (RunStatus.PENDING, ("second",))
    lab.worker(mesh)
    assert mesh.wait_for_run(new.id, 20).context == {"n": 1}
