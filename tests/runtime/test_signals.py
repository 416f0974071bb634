"""Signals in a real database: kept, consumed once, sent twice, too late, and in somebody's transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import InvalidPayload, RunStatus, SignalNotFound, Workflow, WorkflowNotFound
from tests.invariants import check
from tests.lab import Ear, Gate, Lab
from tests.runtime.races import at_once, audits, context_of, rows_of
from tests.waiting import until

if TYPE_CHECKING:
    from squidmesh import SquidMesh

KEPT = "SELECT count(*) FROM squidmesh.signals WHERE consumed_by IS NULL"


@dataclass
class Paid:
    amount: int
    currency: str = "EUR"


def ordered(gate: Gate | None = None, **options: Any) -> Workflow:
    """A step, a wait for a payment, and an end."""
    workflow = Workflow("ordered")

    @workflow.step
    def order() -> None:
        if gate:
            gate.pass_()

    paid = workflow.wait_for("paid", **{"payload": Paid, **options})

    @workflow.step
    def ship(amount: int = 0) -> dict[str, int]:
        return {"shipped_for": amount}

    workflow.sequence(order, paid, ship)
    return workflow


def at_the_wait(lab: Lab, **options: Any) -> tuple[SquidMesh, Any]:
    mesh = lab.mesh(ordered(**options))
    lab.worker(mesh)
    run = mesh.start_run("ordered")
    until(lambda: mesh.inspect_run(run.id).current_steps == ("paid",), what="the wait")
    return mesh, run


def test_a_signal_ends_the_wait_with_its_payload(lab: Lab) -> None:
    mesh, run = at_the_wait(lab)
    ear = Ear(mesh, "signal.received")
    assert mesh.inspect_run(run.id).status is RunStatus.RUNNING
    mesh.send_signal(run.id, "paid", {"amount": 5}, actor="bank", key="p1")
    ended = mesh.wait_for_run(run.id, 20)
    assert ended.context == {"amount": 5, "currency": "EUR", "shipped_for": 5}
    (event,) = ear.heard("signal.received")
    assert (event.metadata["signal"], event.metadata["actor"]) == ("paid", "bank")
    check(lab)


def test_a_signal_that_comes_early_is_kept_and_taken_by_the_worker(lab: Lab) -> None:
    gate = Gate()
    mesh = lab.mesh(ordered(gate))
    run = mesh.start_run("ordered")
    mesh.send_signal(run.id, "paid", {"amount": 1})
    lab.worker(mesh)
    gate.until_come()
    mesh.send_signal(run.id, "paid", {"amount": 2})
    assert lab.value(KEPT) == 2
    gate.open()
    assert context_of(mesh.wait_for_run(run.id, 20))["shipped_for"] == 1
    assert lab.value(KEPT) == 1
    consumed = lab.value("SELECT consumed_by FROM squidmesh.signals WHERE consumed_by IS NOT NULL")
    assert lab.value("SELECT step FROM squidmesh.attempts WHERE seq = %s", consumed) == "paid"
    check(lab)


def test_one_delivery_that_is_sent_twice_at_once_is_one(lab: Lab) -> None:
    """And sent again at any time, also after the run has ended, it changes nothing and is no error."""
    mesh, run = at_the_wait(lab)
    send = [lambda: mesh.send_signal(run.id, "paid", {"amount": 5}, key="p1")] * 2
    assert not [result for result in at_once(lab, run, *send) if isinstance(result, Exception)]
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    before = rows_of(lab, run)
    assert mesh.send_signal(run.id, "paid", {"amount": 6}, key="p1").status is RunStatus.COMPLETED
    assert rows_of(lab, run) == before
    assert audits(lab, run) == ["signalled"]
    check(lab)


def test_two_deliveries_at_once_end_one_wait_and_the_other_is_kept(lab: Lab) -> None:
    mesh, run = at_the_wait(lab)
    at_once(lab, run, *[lambda n=n: mesh.send_signal(run.id, "paid", {"amount": n}) for n in (1, 2)])
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert lab.rows("SELECT count(*), count(consumed_by) FROM squidmesh.signals") == [(2, 1)]
    check(lab)


def test_what_the_sender_rolls_back_was_never_sent(lab: Lab) -> None:
    mesh, run = at_the_wait(lab)
    before, host = rows_of(lab, run), lab.session(autocommit=False)
    mesh.send_signal(run.id, "paid", {"amount": 5}, connection=host)
    host.rollback()
    assert rows_of(lab, run) == before
    mesh.send_signal(run.id, "paid", {"amount": 6}, connection=host)
    host.commit()
    assert context_of(mesh.wait_for_run(run.id, 20))["shipped_for"] == 6


@pytest.mark.parametrize("comes", [True, False])
def test_a_signal_and_its_time_out_end_the_wait_once(lab: Lab, comes: bool) -> None:
    """Sent before the time is over and committed after it, it counts; rolled back, the time-out does."""
    mesh = lab.mesh(ordered(timeout=0.3))
    worker = lab.worker(mesh)
    run = mesh.start_run("ordered")
    until(lambda: mesh.inspect_run(run.id).current_steps == ("paid",), what="the wait")
    host = lab.session(autocommit=False)
    mesh.send_signal(run.id, "paid", {"amount": 5}, connection=host)
    until(lambda: lab.value("SELECT run_at < squidmesh.clock() FROM squidmesh.jobs"), what="the time-out")
    host.commit() if comes else host.rollback()
    ended = mesh.wait_for_run(run.id, 20)
    assert ended.status is (RunStatus.COMPLETED if comes else RunStatus.FAILED)
    assert [a for a in lab.attempts(run) if a[0] == "paid"] == [("paid", 1, "completed")]
    worker.stop()
    check(lab, workers_left=False)


def test_a_payload_that_breaks_the_contract_is_refused(lab: Lab) -> None:
    mesh, run = at_the_wait(lab)
    before = rows_of(lab, run)
    for payload in (None, 5, {"amount": "x"}, {"amount": 1, "more": 2}, {"amount": 1, "currency": "\0"}):
        with pytest.raises(InvalidPayload):
            mesh.send_signal(run.id, "paid", payload)
    with pytest.raises(SignalNotFound, match="paid"):
        mesh.send_signal(run.id, "refunded")
    with pytest.raises(WorkflowNotFound):
        lab.mesh(_other()).send_signal(run.id, "paid", {"amount": 1})
    assert rows_of(lab, run) == before


def _other() -> Workflow:
    workflow = Workflow("other")
    workflow.pause("stop")
    return workflow


def test_without_a_contract_what_is_merged_must_be_an_object(lab: Lab) -> None:
    mesh, run = at_the_wait(lab, payload=None)
    with pytest.raises(InvalidPayload, match="declare output="):
        mesh.send_signal(run.id, "paid", [1])
    mesh.send_signal(run.id, "paid")
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
