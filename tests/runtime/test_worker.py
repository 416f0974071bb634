"""What a worker takes on, in which order, and how much: queues, look-ahead, versions, sleep."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import COMPLETE, ConfigurationError, Context, Outcome, RunStatus, StepStatus, Workflow
from squidmesh.store.database import drive
from squidmesh.worker.floors import Floors
from tests.invariants import check
from tests.lab import Gate, Lab
from tests.proxy import Proxy
from tests.runtime.apps import Bodies, chain_of, single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from squidmesh.store.jobs import Room


class Crowd:
    """Counts how many are inside at once."""

    def __init__(self) -> None:
        self.now = self.most = self.total = 0
        self._lock = threading.Lock()

    @contextmanager
    def inside(self) -> Iterator[None]:
        """One more is inside."""
        with self._lock:
            self.now += 1
            self.total += 1
            self.most = max(self.most, self.now)
        try:
            yield
        finally:
            with self._lock:
                self.now -= 1


# -- queues ------------------------------------------------------------------------------------------------------------


def test_each_queue_has_its_own_concurrency(lab: Lab) -> None:
    """Sync and async steps together never exceed it, and under load they reach it."""
    crowds = {"left": Crowd(), "right": Crowd()}
    workflow = Workflow("crowded")
    full = {"left": threading.Event(), "right": threading.Event()}

    def enter(queue: str) -> None:
        crowd = crowds[queue]
        if crowd.now >= (3 if queue == "left" else 5):
            full[queue].set()

    for queue in ("left", "right"):
        for number in range(3):
            if number % 2:

                @workflow.step(name=f"{queue}{number}", queue=queue, start=True)
                async def async_body(ctx: Context) -> None:
                    queue = ctx.step[:-1]
                    with crowds[queue].inside():
                        enter(queue)
                        await asyncio.sleep(0.001)

            else:

                @workflow.step(name=f"{queue}{number}", queue=queue, start=True)
                def body(ctx: Context) -> None:
                    queue = ctx.step[:-1]
                    with crowds[queue].inside():
                        enter(queue)
                        full[queue].wait(5)

    mesh = lab.mesh(workflow)
    lab.worker(mesh, queues={"left": 3, "right": 5})
    runs = mesh.start_runs(workflow, [None] * 60)
    lab.until_ended(len(runs))
    assert {queue: (crowd.most, crowd.total) for queue, crowd in crowds.items()} == {
        "left": (3, 180),
        "right": (5, 180),
    }
    check(lab)


def test_a_queue_that_nobody_serves_waits(lab: Lab) -> None:
    """Its jobs stay ready, the run is running, and a worker that serves it goes on at once."""
    workflow = Workflow("two")

    @workflow.step
    def here() -> None: ...

    @workflow.step(queue="elsewhere", after=[here])
    def there() -> None: ...

    mesh = lab.mesh(workflow)
    lab.worker(mesh, lease=600.0, beat=300.0)
    run = mesh.start_run(workflow)
    until(lambda: mesh.inspect_run(run.id).current_steps == ("there",))
    assert lab.jobs() == {"ready": 1}
    assert mesh.inspect_run(run.id).status is RunStatus.RUNNING
    lab.worker(mesh, queues={"elsewhere": 1}, lease=600.0, beat=300.0)
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


def test_smaller_priorities_go_first(lab: Lab) -> None:
    """Within a queue, whenever they came."""
    order: list[str] = []
    gate = Gate()
    workflows = [single(gate.pass_, "first")]
    for name, priority in (("late", 5), ("normal", 0), ("soon", -5)):
        workflows.append(single(lambda name=name: order.append(name), name, priority=priority))
    mesh = lab.mesh(*workflows)
    lab.worker(mesh, 1, look_ahead=0.0)
    mesh.start_run("first")
    gate.until_come()
    for name in ("late", "normal", "soon"):
        mesh.start_run(name)
    gate.open()
    lab.until_ended(4)
    assert order == ["soon", "normal", "late"]


def test_a_chain_gives_others_their_turn(lab: Lab) -> None:
    """A worker that keeps a long chain lets go of it after a while: a job of somebody else is not starved."""
    workflow = Workflow("endless")
    stop = threading.Event()

    @workflow.step(start=True, visit_limit=1_000_000)
    def again() -> Outcome | None:
        return Outcome("enough") if stop.is_set() else None

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    mesh = lab.mesh(workflow, single(stop.set, "other"))
    lab.worker(mesh, 1, keep=0.05, look_ahead=0.0)
    run = mesh.start_run(workflow)
    until(lambda: len(lab.attempts(run)) > 3)
    mesh.start_run("other")
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


@pytest.mark.parametrize("queues", [{}, {"": 1}, {"q": 0}, {"q": True}, {"q": "3"}])
def test_queues_that_cannot_be_are_refused(lab: Lab, queues: dict[str, int]) -> None:
    """When the worker is made, before anything is opened."""
    with pytest.raises(ConfigurationError, match="queue"):
        lab.mesh().worker(queues=queues)


# -- look-ahead --------------------------------------------------------------------------------------------------------


def test_slow_steps_are_not_hoarded_and_quick_ones_are_claimed_ahead(lab: Lab) -> None:
    """What one worker cannot start soon is there for a second one."""
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_, "slow"), single(lambda: None, "quick"))
    first = lab.worker(mesh, 2, lease=600.0, beat=300.0)
    mesh.start_runs("quick", [None] * 200)
    lab.until_ended(200)
    slots = first._executor.slots("default")
    assert slots.standing().ahead > 2
    # A slow step makes it careful: one is enough.
    slots.average = 1.0
    mesh.start_runs("slow", [None] * 6)
    gate.until_come(2)
    assert lab.jobs() == {"claimed": 2, "ready": 4}
    lab.worker(mesh, 4)
    gate.until_come(6)
    gate.open()
    lab.until_ended(206)
    check(lab)


# -- versions ----------------------------------------------------------------------------------------------------------


def old_version() -> Workflow:
    """As it was yesterday."""
    workflow = Workflow("app")

    @workflow.step
    def first() -> dict[str, str]:
        return {"by": "old"}

    @workflow.step(after=[first])
    def second(by: str) -> dict[str, str]:
        return {"second": by}

    return workflow


def new_version(gate: Gate | None = None) -> Workflow:
    """As it is today: another step in between."""
    workflow = Workflow("app")

    @workflow.step
    def first() -> dict[str, str]:
        if gate:
            gate.pass_()
        return {"by": "new"}

    @workflow.step
    def between() -> dict[str, str]:
        return {"between": "yes"}

    @workflow.step
    def second(by: str, between: str = "no") -> dict[str, str]:
        return {"second": f"{by} {between}"}

    workflow.sequence(first, between, second)
    return workflow


def test_a_step_that_a_worker_does_not_know_waits_for_one_that_does(lab: Lab) -> None:
    """The old version's worker parks it; a worker of the new version runs it as soon as it comes."""
    old, new = lab.mesh(old_version()), lab.mesh(new_version())
    lab.worker(old, lease=600.0, beat=300.0)
    run = new.start_run("app")
    until(lambda: lab.jobs() == {"parked": 1}, what="the unknown step, parked")
    shown = new.inspect_run(run.id, include_history=True)
    assert shown.status is RunStatus.RUNNING
    assert shown.attention is None
    assert shown.history is not None
    assert [(s.step, s.status, s.reason) for s in shown.history.steps if s.status is StepStatus.PARKED] == [
        ("between", StepStatus.PARKED, "unknown_step")
    ]
    lab.worker(new, lease=600.0, beat=300.0)
    ended = new.wait_for_run(run.id, 20)
    assert ended.status is RunStatus.COMPLETED
    assert ended.context is not None
    assert ended.context["second"] == f"{ended.context['by']} yes"
    check(lab)


def test_an_old_run_finishes_on_its_graph_after_a_deploy(lab: Lab) -> None:
    """Started yesterday, half done, finished by today's code on yesterday's graph."""
    old = lab.mesh(old_version())
    run = old.start_run("app")
    new = lab.mesh(new_version())
    lab.worker(new)
    ended = new.wait_for_run(run.id, 20)
    assert ended.context == {"by": "new", "second": "new no"}
    assert [step for step, _, _ in lab.attempts(run)] == ["first", "second"]
    assert new.wait_for_run(new.replay_run(run.id).id, 20).context == {
        "by": "new",
        "between": "yes",
        "second": "new yes",
    }
    check(lab)


def test_a_graph_of_a_newer_format_is_left_to_a_newer_worker(lab: Lab) -> None:
    """A worker that cannot read it starts nothing of it, and goes on with what it can read."""
    bodies = Bodies()
    newer = lab.mesh(chain_of(bodies, 3))
    run = newer.start_run("chain")
    lab.rows("UPDATE squidmesh.definitions SET definition = jsonb_set(definition, '{format}', '99')")
    older = lab.mesh(chain_of(bodies, 2), single(lambda: None))
    worker = lab.worker(older)
    until(lambda: lab.jobs() == {"parked": 1}, what="the step, parked")
    assert older.wait_for_run(older.start_run("single").id, 20).status is RunStatus.COMPLETED
    assert bodies.total() == 0
    worker.stop()
    lab.worker(newer)
    assert newer.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    assert bodies.total() == 3
    check(lab)


# -- sleep -------------------------------------------------------------------------------------------------------------


def until_idle(lab: Lab) -> None:
    """Wait until the only worker has said that it sleeps."""
    until(lambda: lab.rows("SELECT id FROM squidmesh.workers WHERE idle"), what="an idle worker")


def test_an_idle_worker_is_told_of_a_start(lab: Lab) -> None:
    """With heartbeats minutes apart nothing but the notification can tell it."""
    mesh = lab.mesh(single(lambda: None))
    worker = lab.worker(mesh, lease=600.0, beat=300.0)
    for _ in range(5):
        until_idle(lab)
        until(lambda: (worker._engine._patience() or 300) > 1, what="its sleep")
        assert mesh.wait_for_run(mesh.start_run("single").id, 20).status is RunStatus.COMPLETED


def test_a_start_is_not_missed_while_the_worker_goes_to_sleep(lab: Lab) -> None:
    """It commits after the worker has looked for the last time, and before the worker's idle flag can be seen."""
    mesh = lab.mesh(single(lambda: None))
    goes_to_sleep, started = threading.Event(), threading.Event()
    seen: list[bytes] = []

    def before_the_commit(message: bytes) -> bool:
        if message.startswith(b"P"):
            seen.append(message)
            if b"COMMIT" in message and any(b"SET idle" in said for said in seen):
                goes_to_sleep.set()
                assert started.wait(20)
            if b"COMMIT" in message:
                seen.clear()
        return False

    with Proxy(lab.dsn) as proxy:
        proxy.cut_when(before_the_commit)
        flaky = lab.mesh(*mesh.registry.workflows.values(), dsn=proxy.dsn, prepared_statements=False)
        worker = lab.worker(flaky, lease=600.0, beat=300.0)
        assert goes_to_sleep.wait(20)
        run = mesh.start_run("single")
        assert lab.rows("SELECT idle FROM squidmesh.workers") == [(False,)]
        started.set()
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
        worker.stop()  # while the database is still there
        flaky.close()


def test_a_busy_worker_says_so_and_an_idle_one_too(lab: Lab) -> None:
    """Starts notify only those who sleep: the flag follows what the worker does."""
    workflow = Workflow("busy")
    stop = threading.Event()

    @workflow.step(start=True, visit_limit=1_000_000)
    def again() -> Outcome | None:
        return Outcome("enough") if stop.is_set() else None

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    mesh = lab.mesh(workflow)
    lab.worker(mesh, 1)
    until_idle(lab)
    run = mesh.start_run(workflow)
    until(lambda: lab.rows("SELECT id FROM squidmesh.workers WHERE NOT idle"), what="a busy worker")
    stop.set()
    assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    until_idle(lab)


def test_an_idle_worker_is_quiet(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three transactions at most for each heartbeat."""
    transactions: list[int] = []

    def counted(*args: Any, **kwargs: Any) -> Any:
        transactions.append(1)
        return drive(*args, **kwargs)

    monkeypatch.setattr("squidmesh.worker.link.drive", counted)
    mesh = lab.mesh(single(lambda: None))
    lab.worker(mesh, beat=0.1, lease=60.0)
    until_idle(lab)
    beats = "SELECT beats FROM squidmesh.workers"
    first = lab.value(beats)
    until(lambda: lab.value(beats) > first + 3)
    before, begun = len(transactions), lab.value(beats)
    until(lambda: lab.value(beats) >= begun + 10)
    assert (len(transactions) - before) / 10 <= 3


# -- timers ------------------------------------------------------------------------------------------------------------


def test_a_delayed_start_wakes_a_worker_that_is_busy_all_the_time(lab: Lab) -> None:
    """Timers that clients set are not forgotten while a worker has no moment to nap; heartbeats are minutes apart."""
    workflow = Workflow("busy")
    stop = threading.Event()

    @workflow.step(start=True, visit_limit=1_000_000)
    def again() -> Outcome | None:
        return Outcome("enough") if stop.is_set() else None

    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    mesh = lab.mesh(workflow, single(lambda: None))
    busy = mesh.start_run(workflow)
    lab.worker(mesh, 2, lease=600.0, beat=300.0, nap=3600.0)
    until(lambda: lab.attempts(busy), what="a busy worker")
    run = mesh.start_run("single", delay=0.1)
    assert mesh.wait_for_run(run.id, 15).status is RunStatus.COMPLETED
    stop.set()
    assert mesh.wait_for_run(busy.id, 20).status is RunStatus.COMPLETED


def test_a_busy_worker_finds_what_became_ready_before_what_it_has_claimed(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its claims begin at a floor, and this run is below: as if its start had taken an hour to commit."""
    workflow = Workflow("busy")
    stop, floored = threading.Event(), threading.Event()

    @workflow.step(start=True, visit_limit=1_000_000)
    def again() -> Outcome | None:
        return Outcome("enough") if stop.is_set() else None

    def under(self: Floors, rooms: Iterable[Room], now: float) -> list[Room]:
        found = real(self, rooms, now)
        if any(room.floors for room in found):
            floored.set()
        return found

    real = Floors.under
    monkeypatch.setattr(Floors, "under", under)
    workflow.transition(again, to=again)
    workflow.transition(again, on="enough", to=COMPLETE)
    mesh = lab.mesh(workflow, single(lambda: None))
    busy = mesh.start_run(workflow)
    lab.worker(mesh, 2, lease=600.0, beat=300.0, nap=3600.0)
    until(floored.is_set, what="a worker that knows where to begin")
    run = mesh.start_run("single", delay=3600)
    lab.rows(
        "UPDATE squidmesh.jobs SET state = 'ready', run_at = NULL, ready_at = squidmesh.clock() - interval '1 hour'"
        " WHERE run_id = %s RETURNING 1",
        run.id,
    )
    assert mesh.wait_for_run(run.id, 15).status is RunStatus.COMPLETED
    stop.set()
    assert mesh.wait_for_run(busy.id, 20).status is RunStatus.COMPLETED
