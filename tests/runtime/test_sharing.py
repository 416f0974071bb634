"""What a worker claims ahead is for others, too: long bodies, steps that are claimed alone, urgent jobs, heavy ones."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import RunStatus, SquidMesh, Workflow
from squidmesh.clock import SystemClock
from squidmesh.worker.engine import Call
from tests.invariants import check
from tests.lab import Gate, Lab
from tests.proxy import Proxy
from tests.runtime.apps import single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from squidmesh.worker.worker import Worker

QUIET: dict[str, Any] = {"lease": 600.0, "beat": 300.0}
"""Nobody looks for anything of itself: a worker that sleeps has to be told."""


class Watch(SystemClock):
    """A clock that a test puts forward."""

    def __init__(self) -> None:
        self._ahead = 0.0

    def monotonic(self) -> float:
        """Seconds."""
        return super().monotonic() + self._ahead

    def put_forward(self, seconds: float, worker: Worker) -> None:
        """Let so much time pass, and wake a worker that waits for it by the real clock."""
        self._ahead += seconds
        worker._engine.inbox.put(Call.WORK)


LONG_SIGHTED: dict[str, Any] = {"look_ahead": 30.0, "longest_ahead": 60.0, "keep": 3600.0}
"""Bodies may stand still while a test looks: nothing counts as long, nor is given back, until a clock is put forward."""


def practised(lab: Lab, mesh: SquidMesh, concurrency: int = 1, **settings: Any) -> Worker:
    """A worker that has found the workflow ``quick`` to be quick, so that it claims ahead."""
    worker = lab.worker(mesh, concurrency, **QUIET, **settings)
    mesh.start_runs("quick", [None] * 100)
    lab.until_ended(100)
    return worker


def until_waiting(worker: Worker, count: int) -> None:
    """Wait until so many tickets wait for a slot."""
    slots = worker._executor.slots("default")
    until(lambda: sum(found for _, found in slots.standing().waiting) == count, what=f"a hoard of {count}")


def sleeping(lab: Lab, mesh: SquidMesh) -> Worker:
    """Another worker, which found nothing and went to sleep."""
    worker = lab.worker(mesh, **QUIET)
    query = "SELECT idle FROM squidmesh.workers WHERE id = %s"
    until(lambda: lab.value(query, worker.id), what="a worker that sleeps")
    return worker


# -- long bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_what_waits_behind_long_bodies_goes_to_a_worker_that_sleeps(lab: Lab, kind: str) -> None:
    """Steps were quick, so all were claimed by the first worker; but then two of them took its slots for long."""
    gate, watch = Gate(), Watch()
    long = Workflow("long")
    if kind == "sync":
        long.step(name="work")(gate.pass_)
    else:

        @long.step(name="work")
        async def async_work() -> None:
            await asyncio.to_thread(gate.pass_)

    mesh = lab.mesh(long, single(_nothing, "quick"))
    worker = practised(lab, mesh, 2, clock=watch, **LONG_SIGHTED)
    mesh.start_runs("long", [None] * 2)
    gate.until_come(2)
    mesh.start_runs("quick", [None] * 300)
    until_waiting(worker, 300)
    sleeping(lab, lab.mesh(single(_nothing, "quick")))
    watch.put_forward(100, worker)
    lab.until_ended(400)
    assert lab.jobs() == {"claimed": 2}
    gate.open()
    lab.until_ended(402)
    check(lab)


def test_what_is_taken_to_last_too_long_is_given_back(lab: Lab) -> None:
    """No single body is long, but all take longer than those before: as much as can be done soon is kept."""
    gate, watch = Gate(), Watch()
    mesh = lab.mesh(single(gate.pass_, "slower"), single(_nothing, "quick"))
    worker = practised(lab, mesh, clock=watch, **{**LONG_SIGHTED, "longest_ahead": 20.0})
    mesh.start_runs("slower", [None] * 300)
    until_waiting(worker, 299)
    worker._executor.slots("default").average = 6.0
    watch.put_forward(25, worker)
    until(lambda: lab.jobs() == {"claimed": 1 + 5, "ready": 294}, what="a moment's work, and the rest for others")
    gate.open()
    lab.until_ended(400)
    check(lab)


def test_a_successor_that_waits_behind_a_long_body_is_given_back(lab: Lab) -> None:
    """A chain's next step was kept, but another run's step took the slot first."""
    gate, door, watch = Gate(), Gate(), Watch()
    chain = Workflow("chain")

    @chain.step
    def first() -> None:
        door.pass_()

    @chain.step(after=[first])
    def second() -> None: ...

    mesh = lab.mesh(chain, single(gate.pass_, "long"), single(_nothing, "quick"))
    worker = practised(lab, mesh, clock=watch, **LONG_SIGHTED)
    run = mesh.start_run(chain)
    door.until_come()
    mesh.start_run("long")
    until_waiting(worker, 1)
    door.open()
    gate.until_come()
    until_waiting(worker, 1)
    sleeping(lab, lab.mesh(chain, single(_nothing, "quick")))
    watch.put_forward(100, worker)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    gate.open()
    lab.until_ended(102)
    check(lab)


def test_a_long_body_does_not_keep_the_other_slots_from_claiming_ahead(lab: Lab) -> None:
    """It counts out its own slot, and no other."""
    gate, watch = Gate(), Watch()
    mesh = lab.mesh(single(gate.pass_, "long"), single(_nothing, "quick"))
    worker = practised(lab, mesh, 2, clock=watch, **LONG_SIGHTED)
    slots = worker._executor.slots("default")
    mesh.start_run("long")
    gate.until_come()
    before = slots.standing()
    watch.put_forward(100, worker)
    assert (before.quick, slots.standing().quick) == (2, 1)
    assert slots.standing().ahead == 1000
    mesh.start_runs("quick", [None] * 300)
    lab.until_ended(400)
    gate.open()
    lab.until_ended(401)
    check(lab)


# -- steps that are claimed alone, and urgent ones ---------------------------------------------------------------------


def test_an_irreversible_step_is_not_starved_by_a_backlog(lab: Lab) -> None:
    """All that is claimed ahead of a backlog which does not end leaves it no free slot, and yet it goes next."""
    order: list[str] = []
    gate = Gate()
    backlog = single(noting(order, "ordinary", gate), "ordinary")
    mesh = lab.mesh(backlog, single(_nothing, "quick"), single(noting(order, "once"), "once", irreversible=True))
    slots = practised(lab, mesh, **LONG_SIGHTED)._executor.slots("default")
    mesh.start_runs("ordinary", [None] * 1500)
    until(lambda: lab.jobs() == {"claimed": 1001, "ready": 499}, what="a backlog in memory, and more of it")
    gate.until_come()
    mesh.start_run("once")
    until(lambda: slots.standing().alone == 1, what="the irreversible step")
    gate.open()
    lab.until_ended(1601)
    assert order[:2] == ["ordinary", "once"]
    check(lab)


@pytest.mark.parametrize("irreversible", [False, True])
def test_an_urgent_job_gets_in_before_what_was_claimed_ahead(lab: Lab, *, irreversible: bool) -> None:
    """It is claimed beyond what there is room for, and runs before what is in memory already."""
    order: list[str] = []
    gate = Gate()
    backlog = single(noting(order, "ordinary", gate), "ordinary")
    urgent = single(noting(order, "urgent"), "urgent", priority=-5, irreversible=irreversible)
    mesh = lab.mesh(backlog, urgent, single(_nothing, "less", priority=1), single(_nothing, "quick"))
    slots = practised(lab, mesh, **LONG_SIGHTED)._executor.slots("default")
    mesh.start_runs("ordinary", [None] * 1500)
    until(lambda: lab.jobs() == {"claimed": 1001, "ready": 499}, what="a backlog in memory, and more of it")
    gate.until_come()
    mesh.start_run("less")
    mesh.start_run("urgent")
    until(
        lambda: slots.standing().alone if irreversible else (-5, 1) in slots.standing().waiting, what="the urgent job"
    )
    assert lab.jobs() == {"claimed": 1002, "ready": 500}
    gate.open()
    lab.until_ended(1602)
    assert order[:2] == ["ordinary", "urgent"]
    check(lab)


@pytest.mark.parametrize("irreversible", [False, True])
def test_an_urgent_job_gets_in_before_a_chain_that_is_kept(lab: Lab, *, irreversible: bool) -> None:
    """The chain gives its slot back at once, though it might keep it for long."""
    order: list[str] = []
    gate = Gate()
    chain = Workflow("chain")

    @chain.step
    def first() -> None:
        gate.pass_()

    @chain.step(after=[first])
    def second() -> None:
        order.append("second")

    urgent = single(noting(order, "urgent"), "urgent", priority=-5, irreversible=irreversible)
    mesh = lab.mesh(chain, urgent)
    lab.worker(mesh, 1, **LONG_SIGHTED)
    mesh.start_run(chain)
    gate.until_come()
    mesh.start_run("urgent")
    gate.open()
    lab.until_ended(2)
    assert order == ["urgent", "second"]
    check(lab)


# -- what memory has room for ------------------------------------------------------------------------------------------


def test_a_database_that_stands_still_stops_the_claims_before_memory_is_full(lab: Lab) -> None:
    """Steps go on while it stands still, but only those in hand, and these are few because they return much."""
    text = "x" * 10_000
    large = single(lambda: {"text": text}, "large")
    with Proxy(lab.dsn) as proxy:
        mesh = lab.mesh(large)
        worker = lab.worker(lab.mesh(large, dsn=proxy.dsn), 4, **QUIET, memory_bytes=200_000)
        mesh.start_runs("large", [None] * 200)
        lab.until_ended(200)
        assert worker._executor.slots("default").standing().ahead > 200, "it would claim far more"
        mesh.start_runs("large", [None] * 300)
        until(lambda: lab.value("SELECT count(*) FROM squidmesh.attempts") > 220, what="the worker at work")
        proxy.freeze()
        until(lambda: not (worker.running or worker._executor.waits), what="a worker that has run dry")
        held = lab.jobs()["claimed"]
        proxy.thaw()
        lab.until_ended(500)
        worker.stop()  # while it can hear that its last commit was one
    assert held <= 20 + 4
    check(lab)


def test_few_heavy_contexts_are_in_hand_at_once(lab: Lab) -> None:
    """Steps are quick, but two contexts weigh more than there may be: the other runs wait in the database."""
    text, in_hand = "x" * 10_000, list[int]()
    chain = Workflow("chain")

    @chain.step
    def first() -> dict[str, str]:
        return {"text": text}

    @chain.step(after=[first])
    def second(text: str) -> None:
        assert len(text) == 10_000
        in_hand.append(len(worker._engine.desk.runs))

    mesh = lab.mesh(chain)
    worker = lab.worker(mesh, 4, **QUIET, memory_bytes=20_000)
    mesh.start_runs(chain, [None] * 200)
    lab.until_ended(200)
    assert max(in_hand[50:]) <= 12, "what was claimed before it was known how heavy runs become is gone by then"
    assert lab.value("SELECT count(*) FROM squidmesh.runs WHERE status = 'completed'") == 200
    check(lab)


def noting(order: list[str], name: str, gate: Gate | None = None) -> Callable[[], None]:
    """A body that notes that it ran, and then comes to a gate."""

    def body() -> None:
        order.append(name)
        if gate is not None:
            gate.pass_()

    return body


def _nothing() -> None: ...
