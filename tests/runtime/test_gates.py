"""Pauses and approvals in a real database: who is first, who is told, what a refused call leaves behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import (
    AlreadyVoted,
    AsyncSquidMesh,
    IllegalMove,
    InvalidOption,
    NotWaiting,
    RunNotFound,
    RunStatus,
    SquidMeshError,
    Workflow,
)
from squidmesh.clock import new_id
from tests.invariants import check
from tests.lab import Ear, Lab
from tests.runtime.races import at_once, audits, context_of, rows_of
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh import Run, SquidMesh


def gated(**options: Any) -> Workflow:
    """An approval, a pause, and an end; a rejection or a time-out goes elsewhere."""
    workflow = Workflow("gated")
    vote = workflow.approval("vote", output="review", **options)
    stop = workflow.pause("stop")

    @workflow.step
    def done(review: dict[str, object]) -> dict[str, object]:
        return {"decision": review["decision"]}

    @workflow.step
    def otherwise(review: dict[str, object]) -> dict[str, object]:
        return {"decision": review["decision"]}

    workflow.sequence(vote, stop, done)
    workflow.transition(vote, on="error", to=otherwise)
    return workflow


def waiting(lab: Lab, **options: Any) -> tuple[SquidMesh, Run]:
    mesh = lab.mesh(gated(**options))
    return mesh, mesh.start_run("gated")


def test_a_run_waits_for_people_and_goes_on_when_they_have_decided(lab: Lab) -> None:
    """And says so, in listings, in its history and in events."""
    mesh = lab.mesh(gated())
    ear = Ear(mesh, "gate.opened", "gate.decided")
    lab.worker(mesh)
    run = mesh.start_run("gated")
    assert (run.status, run.attention, run.current_steps) == (RunStatus.PAUSED, "paused", ("vote",))
    assert [found.id for found in mesh.list_runs(status="paused")] == [run.id]
    run = mesh.approve_run(run.id, actor={"id": 7}, comment="fine", metadata={"ticket": 1})
    assert (run.status, run.current_steps) == (RunStatus.PAUSED, ("stop",))
    mesh.unblock_run(run.id, actor="ada")
    ended = mesh.wait_for_run(run.id, 20)
    assert (ended.status, context_of(ended)["decision"]) == (RunStatus.COMPLETED, "approved")
    review = context_of(ended)["review"]
    assert (review["actor"], review["comment"], review["metadata"]) == ({"id": 7}, "fine", {"ticket": 1})
    assert audits(lab, run) == ["paused", "approved", "paused", "resumed"]
    assert [(e.name, e.metadata["step"]) for e in ear.events if e.name == "gate.decided"] == [
        ("gate.decided", "vote"),
        ("gate.decided", "stop"),
    ]
    assert "stop" in [e.metadata["step"] for e in ear.heard("gate.opened")]
    check(lab)


def test_of_two_decisions_at_once_one_counts(lab: Lab) -> None:
    mesh, run = waiting(lab)
    results = at_once(
        lab,
        run,
        lambda: mesh.approve_run(run.id, actor="ada"),
        lambda: mesh.reject_run(run.id, actor="bob"),
        lambda: mesh.approve_run(run.id, actor="eve"),
    )
    refused = [result for result in results if isinstance(result, NotWaiting)]
    assert len(refused) == 2
    assert refused[0].details["step"] is None
    decided = [type_ for type_ in audits(lab, run) if type_ in ("approved", "rejected")]
    assert len(decided) == 1
    check(lab, at_rest=False)


def test_two_approvers_at_once_are_two_and_one_who_asks_twice_is_one(lab: Lab) -> None:
    mesh, run = waiting(lab, approvers=2)
    results = at_once(lab, run, *[lambda: mesh.approve_run(run.id, actor="ada")] * 2)
    assert [type(result) for result in results if isinstance(result, Exception)] == [AlreadyVoted]
    other = mesh.start_run("gated")
    results = at_once(lab, other, *[lambda a=actor: mesh.approve_run(other.id, actor=a) for actor in ("ada", "bob")])
    assert not [result for result in results if isinstance(result, Exception)]
    assert audits(lab, other) == ["paused", "voted", "approved", "paused"]
    assert context_of(mesh.inspect_run(other.id))["review"]["approvers"] in (["ada", "bob"], ["bob", "ada"])
    check(lab)


def test_a_decision_and_a_cancellation_at_once_leave_a_run_that_is_cancelled(lab: Lab) -> None:
    mesh, run = waiting(lab)
    decided, cancelled = at_once(
        lab, run, lambda: mesh.approve_run(run.id, actor="ada"), lambda: mesh.cancel_run(run.id)
    )
    assert cancelled.status is RunStatus.CANCELLED
    assert isinstance(decided, IllegalMove) == ("approved" not in audits(lab, run))
    assert lab.jobs() == {}
    check(lab)


@pytest.mark.parametrize("commits", [True, False])
def test_a_decision_that_is_made_before_the_deadline_and_committed_after_it_counts(lab: Lab, commits: bool) -> None:
    """While somebody holds the run, the worker cannot end the gate; what is rolled back never was."""
    mesh, run = waiting(lab, deadline=0.2)
    host = lab.session(autocommit=False)
    mesh.approve_run(run.id, actor="ada", connection=host)
    lab.worker(mesh)
    until(lambda: lab.value("SELECT run_at < squidmesh.clock() FROM squidmesh.jobs"), what="the deadline")
    host.commit() if commits else host.rollback()
    if commits:
        mesh.unblock_run(run.id)
    ended = mesh.wait_for_run(run.id, 20)
    assert (ended.status, context_of(ended)["decision"]) == (RunStatus.COMPLETED, "approved" if commits else "timeout")
    check(lab)


def test_workers_that_sleep_are_told_when_the_host_commits(lab: Lab) -> None:
    workflow = Workflow("told")

    @workflow.step
    def done() -> None: ...

    workflow.sequence(workflow.approval("vote"), done)
    mesh, client = lab.mesh(workflow), lab.mesh(workflow)
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = client.start_run(workflow)
    until(lambda: lab.value("SELECT idle FROM squidmesh.workers"), what="a worker that sleeps")
    host = lab.session(autocommit=False)
    assert client.approve_run(run.id, actor="ada", connection=host).status is RunStatus.RUNNING
    assert client.inspect_run(run.id).status is RunStatus.PAUSED
    host.commit()
    assert client.wait_for_run(run.id, 20).status is RunStatus.COMPLETED


BAD_CALLS: dict[str, Callable[[Any, Any], object]] = {
    "approve: nobody": lambda mesh, run: mesh.approve_run(run, actor=None),
    "approve: blank": lambda mesh, run: mesh.approve_run(run, actor=" "),
    "approve: a number": lambda mesh, run: mesh.approve_run(run, actor=5),
    "approve: an empty object": lambda mesh, run: mesh.approve_run(run, actor={}),
    "approve: not JSON": lambda mesh, run: mesh.approve_run(run, actor={"a": object()}),
    "approve: NUL": lambda mesh, run: mesh.approve_run(run, actor="a\0"),
    "approve: strange step": lambda mesh, run: mesh.approve_run(run, actor="ada", step="nope"),
    "approve: step of a list": lambda mesh, run: mesh.approve_run(run, actor="ada", step=["vote"]),
    "approve: blank comment": lambda mesh, run: mesh.approve_run(run, actor="ada", comment=""),
    "approve: NUL comment": lambda mesh, run: mesh.approve_run(run, actor="ada", comment="\0"),
    "approve: metadata of a list": lambda mesh, run: mesh.approve_run(run, actor="ada", metadata=[]),
    "reject: nobody": lambda mesh, run: mesh.reject_run(run, actor=None),
    "reject: surrogate": lambda mesh, run: mesh.reject_run(run, actor="\ud800"),
    "unblock: strange resolution": lambda mesh, run: mesh.unblock_run(run, step="stop", resolution="mend"),
    "unblock: output of a list": lambda mesh, run: mesh.unblock_run(run, output=[1]),
    "unblock: output of NaN": lambda mesh, run: mesh.unblock_run(run, output={"a": float("nan")}),
    "unblock: step of a number": lambda mesh, run: mesh.unblock_run(run, step=5),
    "signal: no such": lambda mesh, run: mesh.send_signal(run, "nope"),
    "signal: NUL": lambda mesh, run: mesh.send_signal(run, "\0"),
    "signal: no name": lambda mesh, run: mesh.send_signal(run, None),
    "signal: name of a list": lambda mesh, run: mesh.send_signal(run, ["go"]),
    "signal: blank key": lambda mesh, run: mesh.send_signal(run, "go", key=" "),
    "signal: long key": lambda mesh, run: mesh.send_signal(run, "go", key="x" * 201),
    "signal: key of a number": lambda mesh, run: mesh.send_signal(run, "go", key=5),
    "cancel: flag of text": lambda mesh, run: mesh.cancel_run(run, compensate="no"),
    "cancel: force of a number": lambda mesh, run: mesh.cancel_run(run, force=1),
    "cancel: actor of a number": lambda mesh, run: mesh.cancel_run(run, actor=1),
    "retry: running": lambda mesh, run: mesh.retry_run(run),
    "retry: comment of a number": lambda mesh, run: mesh.retry_run(run, comment=1),
    "replay: running": lambda mesh, run: mesh.replay_run(run),
    "replay: step of a list": lambda mesh, run: mesh.replay_run(run, from_step=[]),
}


@pytest.mark.parametrize("case", BAD_CALLS)
def test_a_call_that_is_refused_changes_nothing(lab: Lab, case: str) -> None:
    """Neither by itself, nor in a host's transaction, which can go on."""
    mesh, run = waiting(lab)
    before = rows_of(lab, run)
    with pytest.raises(SquidMeshError):
        BAD_CALLS[case](mesh, run.id)
    assert rows_of(lab, run) == before


CALLS: dict[str, tuple[str, Callable[[Any, Any, Any], Any]]] = {
    "approve": ("vote", lambda mesh, run, host: mesh.approve_run(run, actor="ada", connection=host)),
    "reject": ("vote", lambda mesh, run, host: mesh.reject_run(run, actor="ada", connection=host)),
    "unblock": ("stop", lambda mesh, run, host: mesh.unblock_run(run, connection=host)),
    "signal": ("go", lambda mesh, run, host: mesh.send_signal(run, "go", {"a": 1}, connection=host)),
    "cancel": ("vote", lambda mesh, run, host: mesh.cancel_run(run, compensate=True, force=True, connection=host)),
    "retry": ("failed", lambda mesh, run, host: mesh.retry_run(run, actor="ada", connection=host)),
}


def situation(lab: Lab, first: str) -> tuple[Workflow, Run]:
    """A run that waits at its first step, or has failed."""
    workflow = Workflow("situation")
    begun = {
        "vote": lambda: workflow.approval("vote"),
        "stop": lambda: workflow.pause("stop"),
        "go": lambda: workflow.wait_for("go"),
        "failed": lambda: workflow.approval("failed"),
    }[first]()

    @workflow.step
    def last() -> None: ...

    workflow.sequence(begun, last)
    mesh = lab.mesh(workflow)
    run = mesh.start_run(workflow)
    return workflow, mesh.reject_run(run.id, actor="bob") if first == "failed" else run


@pytest.mark.parametrize("call", CALLS)
def test_every_call_takes_part_in_the_hosts_transaction(lab: Lab, call: str) -> None:
    first, ask = CALLS[call]
    workflow, run = situation(lab, first)
    mesh, before, host = lab.mesh(workflow), rows_of(lab, run), lab.session(autocommit=False)
    seen = ask(mesh, run.id, host)
    assert seen.status is not run.status or call == "signal"
    assert rows_of(lab, run) == before, "nobody else sees it yet"
    host.rollback()
    assert rows_of(lab, run) == before
    with pytest.raises(RunNotFound):
        ask(mesh, new_id(), host)
    ask(mesh, run.id, host)
    host.commit()
    assert mesh.inspect_run(run.id).status is seen.status
    check(lab, at_rest=False)


@pytest.mark.parametrize("call", CALLS)
def test_the_async_twin_does_the_same(lab: Lab, call: str) -> None:
    first, ask = CALLS[call]
    workflow, run = situation(lab, first)
    twin_of = lab.mesh(workflow).start_run(workflow) if first != "failed" else None
    plain = ask(lab.mesh(workflow), twin_of.id, None).status if twin_of else None

    async def twin() -> Run:
        async with AsyncSquidMesh(lab.dsn, workflows=[workflow], schema=lab.schema) as mesh:
            with pytest.raises(RunNotFound):
                await ask(mesh, new_id(), None)
            found: Run = await ask(mesh, run.id, None)
            return found

    status = asyncio.run(twin()).status
    assert status is (plain or RunStatus.PAUSED)
    check(lab, at_rest=False)


def test_a_pause_is_no_trouble(lab: Lab) -> None:
    mesh, run = waiting(lab)
    mesh.approve_run(run.id, actor="ada")
    before = rows_of(lab, run)
    with pytest.raises(InvalidOption, match="only goes on"):
        mesh.unblock_run(run.id, resolution="rerun")
    assert rows_of(lab, run) == before
