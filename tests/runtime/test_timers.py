"""Timers: whoever sets one, the worker that sleeps fires it at its time, and not at the next heartbeat.

The workers here beat every five minutes: what they do within seconds, they do because they knew when.
"""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
import pytest

from squidmesh import Constant, Context, Defer, Retry, RunStatus, Workflow
from squidmesh.clock import SystemClock
from squidmesh.worker.vigil import Look
from tests.clockwork import Clockwork
from tests.invariants import check
from tests.lab import Ear, Gate
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from squidmesh import Run, SquidMesh
    from squidmesh.worker.worker import Worker
    from tests.lab import Lab

SELDOM: Final[dict[str, Any]] = {"lease": 600.0, "beat": 300.0}
SOON: Final = 0.4
"""Seconds; enough to go to sleep before."""

LATE: Final = 5.0
"""Seconds that a busy machine may take. Whoever did not know would come in five minutes."""


def asleep(*workers: Worker) -> None:
    """Wait until workers have said that they sleep, and have looked for the last time."""
    for worker in workers:
        engine = worker._engine
        vigil = engine._vigil

        def sleeps(engine: Any = engine, vigil: Any = vigil) -> bool:
            quiet = engine.desk.empty and engine.busy_since is None and engine.inbox.empty()
            return quiet and vigil.idle_said and vigil.look is Look.NOTHING and vigil._look_again is None

        until(sleeps, what="a worker that sleeps")


def single(inside: Callable[[], object] = lambda: None, **options: Any) -> Workflow:
    workflow = Workflow("single")

    @workflow.step(**options)
    def work() -> None:
        inside()

    return workflow


def started_with_delay(mesh: SquidMesh, lab: Lab, _: Run) -> None:
    del lab
    mesh.start_run("single", delay=SOON)


def started_at_an_instant(mesh: SquidMesh, lab: Lab, _: Run) -> None:
    now: datetime = lab.value("SELECT squidmesh.clock()")
    mesh.start_run("single", run_at=now + timedelta(seconds=SOON))


def started_in_bulk(mesh: SquidMesh, lab: Lab, _: Run) -> None:
    del lab
    mesh.start_runs("single", [None], delay=SOON)


def started_by_key(mesh: SquidMesh, lab: Lab, _: Run) -> None:
    del lab
    mesh.start_run("single", key="k", delay=SOON)


def started_within_a_transaction(mesh: SquidMesh, lab: Lab, _: Run) -> None:
    with lab.session(autocommit=False) as host:
        mesh.start_run("single", delay=SOON, connection=host)


def approved(mesh: SquidMesh, lab: Lab, run: Run) -> None:
    del lab
    mesh.approve_run(run.id, actor="ada")


def approved_within_a_transaction(mesh: SquidMesh, lab: Lab, run: Run) -> None:
    with lab.session(autocommit=False) as host:
        mesh.approve_run(run.id, actor="ada", connection=host)


def signalled(mesh: SquidMesh, lab: Lab, run: Run) -> None:
    del lab
    mesh.send_signal(run.id, "go")


def unblocked(mesh: SquidMesh, lab: Lab, run: Run) -> None:
    del lab
    mesh.unblock_run(run.id)


def waiting_after(gate: str) -> Workflow:
    """What somebody lets go on leads to a short wait."""
    workflow = Workflow("waiting")
    failures = iter([True])

    @workflow.step
    def first() -> None: ...

    rest = workflow.wait("rest", seconds=SOON)
    match gate:
        case "approve":
            held = workflow.approval("held")
        case "signal":
            held = workflow.wait_for("go", name="held")
        case "pause":
            held = workflow.pause("held")
        case _:

            @workflow.step
            def held() -> None:
                if next(failures, False):
                    raise ValueError("once")

    workflow.sequence(first, held, rest)
    return workflow


@pytest.mark.parametrize(
    ("gate", "set_timer"),
    [
        ("approve", started_with_delay),
        ("approve", started_at_an_instant),
        ("approve", started_in_bulk),
        ("approve", started_by_key),
        ("approve", started_within_a_transaction),
        ("approve", approved),
        ("approve", approved_within_a_transaction),
        ("signal", signalled),
        ("pause", unblocked),
    ],
)
def test_a_timer_that_another_process_sets_is_kept_by_a_worker_that_sleeps(
    lab: Lab, gate: str, set_timer: Callable[[SquidMesh, Lab, Run], None]
) -> None:
    """It knows of a later one only, until it is told."""
    workflows = [single(), waiting_after(gate)]
    worker = lab.worker(lab.mesh(*workflows), **SELDOM)
    client = lab.mesh(*workflows)
    run = client.start_run("waiting")
    client.start_run("single", delay=timedelta(days=1))
    until(lambda: "held" in client.inspect_run(run.id).current_steps and lab.jobs().get("ready", 0) == 0)
    asleep(worker)
    set_timer(client, lab, run)
    lab.until_ended(1, LATE)


def test_a_run_that_is_retried_into_a_wait_goes_on_in_time(lab: Lab) -> None:
    workflow = Workflow("retried")

    @workflow.step
    def fails() -> None:
        raise ValueError("always")

    workflow.transition(fails, on="error", to=workflow.wait("rest", seconds=SOON))

    @workflow.step
    def works() -> None:
        if lab.value("SELECT count(*) FROM squidmesh.attempts WHERE step = 'works'") == 0:
            raise ValueError("once")

    workflow.transition("rest", to=works)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh, **SELDOM)
    run = lab.mesh(workflow).start_run(workflow)
    assert mesh.wait_for_run(run.id, LATE).status is RunStatus.FAILED
    asleep(worker)
    lab.mesh(workflow).retry_run(run.id)
    assert mesh.wait_for_run(run.id, LATE).status is RunStatus.COMPLETED


@pytest.mark.parametrize("kind", ["retry", "wait", "defer"])
def test_a_timer_that_a_dead_worker_has_set_is_kept_by_another_one(lab: Lab, kind: str) -> None:
    """The one whose step led to it dies before it is due; the other one slept all the while."""
    gate, deferred = Gate(), iter([True])
    workflow = Workflow("timed")

    @workflow.step(retry=Retry(max_attempts=2, backoff=Constant(1.0)))
    def first(ctx: Context) -> None:
        gate.pass_()
        if kind == "retry" and ctx.attempt == 1:
            raise ValueError("once")
        if kind == "defer" and next(deferred, False):
            raise Defer(1.0)

    workflow.sequence(first, workflow.wait("rest", seconds=1.0 if kind == "wait" else 0.01))
    mine, theirs = lab.mesh(workflow), lab.mesh(workflow)
    dying = lab.worker(mine, **SELDOM)
    run = mine.start_run(workflow)
    gate.until_come()
    other = lab.worker(theirs, **SELDOM)
    asleep(other)
    ask = dying._engine._link.ask

    def dies_after_saving(operation: Any) -> Any:
        found = ask(operation)
        if lab.jobs()["sleeping"]:
            dying._engine._link.ask = gone  # type: ignore[method-assign]
        return found

    def gone(operation: Any) -> Any:
        raise psycopg.OperationalError("gone")

    dying._engine._link.ask = dies_after_saving  # type: ignore[method-assign]
    gate.open()
    try:
        assert theirs.wait_for_run(run.id, LATE).status is RunStatus.COMPLETED
    finally:
        dying._engine._link.ask = ask  # type: ignore[method-assign] # so that it can be stopped


def test_what_a_full_worker_wakes_is_begun_by_one_that_has_room(lab: Lab) -> None:
    """Both wake at the same instant; one of them makes the job ready, and may be the one that cannot begin it."""
    gate = Gate()
    workflow, blocking = single(), Workflow("blocking")

    @blocking.step
    def block() -> None:
        gate.pass_()

    mesh = lab.mesh(workflow, blocking)
    full = lab.worker(mesh, concurrency=1, **SELDOM)
    mesh.start_run(blocking)
    gate.until_come()
    free = lab.worker(lab.mesh(workflow, blocking), **SELDOM)
    asleep(free)
    until(lambda: full._engine._vigil.idle_said, what="a worker that only runs a body")
    for number in range(20):
        mesh.start_run(workflow, delay=SOON + number / 50)
    lab.until_ended(20, LATE)
    gate.open()
    check(lab)


def test_a_due_job_whose_row_somebody_holds_fires_when_they_let_go(lab: Lab) -> None:
    """A host's transaction has locked the run's jobs when the time comes, and is rolled back in the end."""
    mesh = lab.mesh(single())
    worker = lab.worker(mesh, **SELDOM)
    mesh.start_run("single", delay=SOON)
    with lab.session(autocommit=False) as host:
        host.execute(lab.sql("SELECT FROM squidmesh.jobs FOR UPDATE"))
        before = worker._engine.number
        until(lambda: lab.value("SELECT run_at < squidmesh.clock() FROM squidmesh.jobs"))
        until(lambda: worker._engine.number > before + 2, what="some looks in vain")
        assert lab.jobs() == {"sleeping": 1}
        host.rollback()
    lab.until_ended(1, LATE)


# -- what executes nothing needs no slot -------------------------------------------------------------------------------


def test_a_deadline_passes_also_when_every_slot_is_taken_by_the_run_itself(lab: Lab) -> None:
    stopped = threading.Event()
    workflow = Workflow("slow", deadline=SOON)

    @workflow.step
    def endless(ctx: Context) -> None:
        until(lambda: ctx.cancelled, what="being told to stop")
        stopped.set()

    mesh = lab.mesh(workflow)
    lab.worker(mesh, concurrency=1, **SELDOM)
    run = mesh.start_run(workflow)
    ended = mesh.wait_for_run(run.id, LATE)
    assert ended.status is RunStatus.FAILED
    assert stopped.is_set()
    check(lab)


def test_waits_and_gates_end_while_every_slot_is_taken(lab: Lab) -> None:
    gate = Gate()
    blocking, waiting, asking = single(gate.pass_), Workflow("waiting"), Workflow("asking")
    waiting.wait("rest", seconds=SOON)
    asking.approval("ask", deadline=SOON)
    mesh = lab.mesh(blocking, waiting, asking)
    lab.worker(mesh, concurrency=1, **SELDOM)
    mesh.start_run(blocking)
    gate.until_come()
    runs = [mesh.start_run(waiting), mesh.start_run(asking)]
    ended = [mesh.wait_for_run(run.id, LATE).status for run in runs]
    assert ended == [RunStatus.COMPLETED, RunStatus.FAILED]
    gate.open()
    check(lab)


def test_a_body_that_follows_a_wait_waits_for_a_slot(lab: Lab) -> None:
    """What the wait did not have it cannot leave to its successor: the worker never runs more than it is meant to."""
    gate, running, most = Gate(), [0], [0]
    workflow = Workflow("after_wait")

    @workflow.step
    def body() -> None:
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.pass_()
        running[0] -= 1

    workflow.sequence(workflow.wait("rest", seconds=0.05), body)
    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh, concurrency=1, **SELDOM)
    mesh.start_runs(workflow, [None] * 5)
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.attempts WHERE step = 'rest'") == 5)
    gate.until_come()
    assert len(worker._executor.running()) == 1
    assert lab.jobs() == {"claimed": 1, "ready": 4}, "the others may be taken by somebody who has room"
    gate.open()
    lab.until_ended(5)
    assert most == [1]
    check(lab)


# -- polling, and clocks -----------------------------------------------------------------------------------------------


def test_a_worker_that_only_polls_keeps_the_timers_that_it_knows(lab: Lab) -> None:
    mesh = lab.mesh(single(), polling_only=True)
    mesh.start_run("single", delay=SOON)
    lab.worker(mesh, poll=300.0, **SELDOM)
    lab.until_ended(1, LATE)


def forms_of_timers() -> list[Workflow]:
    """A wait, a retry, a gate and a run's deadline, all due in half an hour."""
    wait, retry, gate, deadline = (Workflow(name) for name in ("wait", "retry", "gate", "signal"))
    bounded = Workflow("deadline", deadline=1800)
    wait.wait("rest", seconds=1800)

    @retry.step(retry=Retry(max_attempts=2, backoff=Constant(1800)))
    def fails_first(ctx: Context) -> None:
        if ctx.attempt == 1:
            raise ValueError("once")

    gate.approval("ask", deadline=1800)
    deadline.wait_for("go", timeout=1800)
    bounded.pause("hold")
    return [wait, retry, gate, deadline, bounded]


def test_a_clock_that_is_put_forward_fires_each_timer_once_at_the_next_beat(lab: Lab) -> None:
    clock, workflows = Clockwork(lab), forms_of_timers()
    mesh = lab.mesh(*workflows)
    lab.worker(mesh)
    runs = [mesh.start_run(workflow) for workflow in workflows]
    until(lambda: lab.jobs() == {"sleeping": 5, "parked": 1})
    clock.step(hours=1)
    ended = {run.workflow: mesh.wait_for_run(run.id, LATE).status for run in runs}
    assert ended == {
        "wait": RunStatus.COMPLETED,
        "retry": RunStatus.COMPLETED,
        "gate": RunStatus.FAILED,
        "signal": RunStatus.FAILED,
        "deadline": RunStatus.FAILED,
    }
    assert {run.workflow: len(lab.attempts(run)) for run in runs} == {
        "wait": 1,
        "retry": 2,
        "gate": 1,
        "signal": 1,
        "deadline": 1,
    }
    check(lab)


def test_a_clock_that_is_put_back_loses_no_timer_and_has_nobody_spin(lab: Lab) -> None:
    clock, mesh = Clockwork(lab), lab.mesh(single())
    worker = lab.worker(mesh, **SELDOM)
    run = mesh.start_run("single", delay=SOON)
    clock.step(hours=-1)
    asleep(worker)
    before = worker._engine.number
    threading.Event().wait(2 * SOON)  # there is nothing to wait for: nothing must happen
    assert worker._engine.number - before <= 3
    assert lab.jobs() == {"sleeping": 1}
    clock.step(hours=1)
    lab.rows("SELECT pg_notify(%s, 'queue:default')", lab.schema)
    assert mesh.wait_for_run(run.id, LATE).status is RunStatus.COMPLETED
    assert len(lab.attempts(run)) == 1


class Wrong(SystemClock):
    """A machine whose clock is hours off; how fast time passes it knows."""

    def __init__(self, hours: float) -> None:
        self._off = timedelta(hours=hours)

    def now(self) -> datetime:
        return super().now() + self._off


@pytest.mark.parametrize("hours", [-7, 7])
def test_a_worker_whose_clock_is_hours_off_fires_at_the_databases_time(lab: Lab, hours: float) -> None:
    """Nothing that sleeps is fired early or late, and nothing that is later is touched."""
    workflow = Workflow("timed")

    @workflow.step(retry=Retry(max_attempts=2, backoff=Constant(SOON)))
    def fails_first(ctx: Context) -> dict[str, str]:
        if ctx.attempt == 1:
            raise ValueError("once")
        return {"due": (database_now() + timedelta(seconds=SOON)).isoformat()}

    def database_now() -> datetime:
        now: datetime = lab.value("SELECT squidmesh.clock()")
        return now

    workflow.sequence(
        fails_first, workflow.wait("rest", seconds=SOON / 4), workflow.wait("until", until="due"), workflow.pause("end")
    )
    mesh = lab.mesh(workflow)
    lab.worker(mesh, clock=Wrong(hours), **SELDOM)
    later = mesh.start_run(workflow, delay=3600)
    run = mesh.start_run(workflow, delay=SOON)
    until(lambda: mesh.inspect_run(run.id).attention == "paused", LATE)
    query = """
        SELECT bool_and(a.started_at >= r.created_at + make_interval(secs => %s)), max(a.finished_at) - r.created_at
          FROM squidmesh.runs r JOIN squidmesh.attempts a ON a.run_id = r.id WHERE r.id = %s GROUP BY r.created_at
    """
    ((in_order, took),) = lab.rows(query, SOON, run.id)
    assert in_order
    assert timedelta(seconds=3 * SOON) <= took < timedelta(seconds=3 * SOON + LATE)
    assert lab.attempts(later) == []


def test_what_nobody_announced_is_found_at_the_next_beat_and_nothing_costs_but_the_beat(lab: Lab) -> None:
    """The heartbeat asks in its own transaction whether there is anything to do; only every third has a turn anyway."""
    mesh = lab.mesh(single())
    worker = lab.worker(mesh)
    asleep(worker)
    turns, beats = worker._engine.number, lab.value("SELECT beats FROM squidmesh.workers")
    until(lambda: lab.value("SELECT beats FROM squidmesh.workers") >= beats + 9, what="nine beats")
    assert worker._engine.number - turns <= 4
    for count, delay in enumerate((0.0, 0.2), start=1):
        lab.rows("UPDATE squidmesh.workers SET idle = false")  # so that the start does not notify it
        mesh.start_run("single", delay=delay)
        lab.until_ended(count, LATE)


def test_an_idle_worker_does_not_look_before_its_beat(lab: Lab) -> None:
    mesh = lab.mesh(single())
    worker = lab.worker(mesh, **SELDOM)
    ear = Ear(mesh)
    asleep(worker)
    before = worker._engine.number
    threading.Event().wait(1.0)  # nothing must happen
    assert worker._engine.number == before
    assert "step.started" not in ear.names()
