"""A result on its way to the database: it is kept, refused or replaced, and never harms anybody else's."""

from __future__ import annotations

import threading
from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from squidmesh import Constant, Context, Defer, Limit, Outcome, Retry, RunStatus, Workflow
from squidmesh.records import Job
from squidmesh.retry import LONGEST_DELAY
from squidmesh.store.codec import Encoded, encode
from squidmesh.store.database import drive
from squidmesh.store.jobs import list_claimed
from squidmesh.worker import body, isolation, turn
from tests.invariants import check
from tests.lab import NOON, Ear, Gate, Lab, standing_still
from tests.runtime.apps import Bodies, chain_of, single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

# -- what a turn decides by ---------------------------------------------------------------------------------------------

HELD: Final = (
    "one",
    "kept",
    "tried_again",
    "deferred",
    "come_back",
    "limited",
    "irreversible",
    "urgent",
    "in_transaction",
)


def held(name: str, gate: Gate) -> Workflow:
    """A workflow whose last body stands at a gate, after what its name says has happened to it."""
    if name in ("kept", "come_back"):
        workflow = Workflow(name)

        @workflow.step(start=True)
        def before(ctx: Context) -> Outcome | None:
            return Outcome("again") if name == "come_back" and ctx.visit == 1 else None

        @workflow.step
        def after() -> None:
            gate.pass_()

        workflow.transition(before, to=after)
        if name == "come_back":
            workflow.transition(before, on="again", to=before)
        return workflow

    seen: list[Context] = []

    def work(ctx: Context) -> None:
        seen.append(ctx)
        if name == "tried_again" and ctx.attempt == 1:
            raise RuntimeError
        if name == "deferred" and len(seen) == 1:
            raise Defer(0, reason="not yet")
        gate.pass_()

    options: dict[str, dict[str, object]] = {
        "tried_again": {"retry": Retry(max_attempts=2, backoff=Constant(0))},
        "limited": {"limit": Limit(3)},
        "irreversible": {"irreversible": True},
        "urgent": {"priority": -3},
        "in_transaction": {"transaction": True},
    }
    return single(work, name, **options.get(name, {}))


def test_what_a_worker_has_in_hand_is_what_the_database_has(lab: Lab) -> None:
    """A turn decides by the job as it was handed out, without reading it again, if its fence holds."""
    gate = Gate()
    mesh = lab.mesh(*(held(name, gate) for name in HELD))
    worker = lab.worker(mesh)
    for name in HELD:
        mesh.start_run(name)
    gate.until_come(len(HELD))
    stored = drive(lab.session(), list_claimed(worker.id), lab.schema)
    assert len(stored) == len(HELD)
    names = [field.name for field in fields(Job) if field.compare and field.name != "run_id"]
    for job in stored:
        ticket = worker._engine.desk.find(job.run_id, job.slot)
        assert ticket is not None
        assert {name: getattr(ticket.job, name) for name in names} == {name: getattr(job, name) for name in names}
    gate.open()
    lab.until_ended(len(HELD))
    check(lab)


# -- a run that somebody else holds ------------------------------------------------------------------------------------


def test_a_run_that_somebody_holds_keeps_nobody_waiting(lab: Lab) -> None:
    """While a session holds one run's row, the worker's other runs are completed; then the held result is saved."""
    bodies, gate = Bodies(), Gate()
    slow = Workflow("slow")

    @slow.step
    def work(ctx: Context) -> dict[str, int]:
        bodies.note(ctx)
        gate.pass_()
        return {"done": 1}

    mesh = lab.mesh(slow, chain_of(bodies))
    lab.worker(mesh)
    held = mesh.start_run(slow)
    gate.until_come()
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs WHERE id = %s FOR UPDATE"), [held.id])
    gate.open()
    others = mesh.start_runs("chain", [None] * 20)
    lab.until_ended(len(others))
    assert lab.attempts(held) == []
    holder.rollback()

    assert mesh.wait_for_run(held.id, 20).context == {"done": 1}
    assert bodies.of(held.id) == {"work": 1}
    check(lab)


def test_a_held_run_does_not_keep_the_worker_from_stopping_in_good_order(lab: Lab) -> None:
    """A result that waits for a held run is saved when the run is let go within the grace period."""
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_, name="slow"))
    worker = lab.worker(mesh, lease=30.0)
    run = mesh.start_run("slow")
    gate.until_come()
    holder = lab.session(autocommit=False)
    holder.execute(lab.sql("SELECT FROM squidmesh.runs WHERE id = %s FOR UPDATE"), [run.id])
    gate.open()
    stopping = threading.Thread(target=worker.stop, args=(20.0,))
    stopping.start()
    until(lambda: worker._engine.stopping)
    holder.rollback()
    stopping.join(20)
    assert mesh.inspect_run(run.id).status is RunStatus.COMPLETED
    check(lab, workers_left=False)


# -- results that come too late ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("beat", [0.1, 30.0], ids=["after the rebirth", "before the worker knows"])
def test_a_result_of_a_rescued_job_is_refused(lab: Lab, beat: float) -> None:
    """Worker A is declared dead while its body runs, B runs the step again: A's result is discarded, and told of."""
    gates = [Gate(), Gate()]
    started: list[int] = []

    def work() -> dict[str, int]:
        started.append(len(started))
        mine = started[-1]
        gates[mine].pass_()
        return {"by": mine}

    workflow = single(work)
    mesh, other = lab.mesh(workflow), lab.mesh(workflow)
    ear = Ear(mesh, "step.discarded")
    first = lab.worker(mesh, 1, lease=60.0, beat=beat)
    old_id = first.id
    run = mesh.start_run(workflow)
    gates[0].until_come()
    lab.rows("UPDATE squidmesh.workers SET dead = true")
    if beat < 1:
        until(lambda: first.id != old_id, what="the new id")
    lab.worker(other, 1)
    gates[1].until_come()
    gates[0].open()
    (discarded,) = until(lambda: ear.heard("step.discarded"), what="the late result")
    assert discarded.run_id == run.id
    gates[1].open()

    assert mesh.wait_for_run(run.id, 20).context == {"by": 1}
    assert lab.attempts(run) == [
        ("work", 1, "abandoned"),
        ("work", 1, "completed"),
    ]
    check(lab)


def test_a_reborn_worker_starts_nothing_that_is_not_its_own(lab: Lab) -> None:
    """What it had claimed ahead is not started after it was declared dead, and its occupied slots are not filled."""
    gate, bodies = Gate(), Bodies()
    workflow = Workflow("two")

    @workflow.step(retry=Retry(max_attempts=3))
    def work(ctx: Context) -> None:
        bodies.note(ctx)
        gate.pass_()

    mesh = lab.mesh(workflow)
    worker = lab.worker(mesh, 2)
    old_id = worker.id
    runs = mesh.start_runs(workflow, [None] * 2)
    gate.until_come(2)
    lab.rows("UPDATE squidmesh.workers SET dead = true")
    until(lambda: worker.id != old_id, what="the new id")
    until(lambda: lab.jobs()["ready"] == 2, what="both jobs, given back")
    # Only then: the new name is known before it is in the table, and the old one leaves the table last.
    until(lambda: lab.value("SELECT count(*) FROM squidmesh.workers") == 1, what="the end of the old name")
    # Its two slots are still occupied: what it cannot start it does not claim, least of all marked as started.
    beats = lab.value("SELECT beats FROM squidmesh.workers")
    until(lambda: lab.value("SELECT beats FROM squidmesh.workers") > beats + 2, what="two more looks")
    assert lab.jobs() == {"ready": 2}
    assert bodies.total() == 2
    gate.open()
    for run in runs:
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
    check(lab)


# -- values that cannot be stored --------------------------------------------------------------------------------------


def poisoned(value: object, **options: Any) -> Encoded:
    """As ``encode``, but what it says of the poisonous value is no JSON."""
    found = encode(value, **options)
    return Encoded('{"no": json', found.size, found.value) if "poison" in found.text else found


@pytest.mark.parametrize("part", [turn.PART, 7])
def test_one_poisonous_output_in_a_batch_of_200(lab: Lab, monkeypatch: pytest.MonkeyPatch, part: int) -> None:
    """The others are saved; its run gets a plain failure. Also if the batch is sent in parts, ahead of each other."""
    monkeypatch.setattr(body, "encode", poisoned)
    monkeypatch.setattr(turn, "PART", part)
    barrier = threading.Barrier(200)
    workflow = Workflow("many")

    @workflow.step(retry=Retry(max_attempts=3))
    def work(ctx: Context) -> dict[str, str]:
        barrier.wait(20)
        return {"output": "poison" if ctx.run_id == chosen else "well"}

    mesh = lab.mesh(workflow)
    runs = mesh.start_runs(workflow, [None] * 200)
    chosen = runs[77].id
    lab.worker(mesh, 200)
    lab.until_ended(200)
    assert lab.rows("SELECT status, count(*) FROM squidmesh.runs GROUP BY 1 ORDER BY 1") == [
        ("completed", 199),
        ("failed", 1),
    ]
    ill = mesh.inspect_run(chosen)
    assert ill.status is RunStatus.FAILED
    assert ill.error is not None
    assert ill.error["type"] == "InvalidTextRepresentation"
    check(lab)


def test_a_turn_saves_at_most_half_of_what_is_in_hand(lab: Lab) -> None:
    """What else has ended waits for the next turn, while the bodies run that this one hands out."""
    barrier = threading.Barrier(200)

    def work() -> None:
        barrier.wait(20)

    workflow = single(work)
    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [None] * 200)
    lab.worker(mesh, 200)
    lab.until_ended(200)
    turns = [count for (count,) in lab.rows("SELECT count(*) FROM squidmesh.attempts GROUP BY xmin::text")]
    assert max(turns) <= 100
    assert sum(turns) == 200
    check(lab)


def test_what_cannot_even_fail_is_quarantined(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the plain failure cannot be stored either, the run waits for a human, and the worker goes on."""
    monkeypatch.setattr(body, "encode", poisoned)
    monkeypatch.setattr(isolation, "describe", lambda *_, **__: {"type": "Evil", "message": "\0"})
    mesh = lab.mesh(single(lambda: {"output": "poison"}, name="ill"), single(lambda: {"a": 1}, name="well"))
    lab.worker(mesh)
    ill = mesh.start_run("ill")
    until(lambda: mesh.inspect_run(ill.id).attention == "quarantined")
    assert mesh.wait_for_run(mesh.start_run("well").id, 20).status is RunStatus.COMPLETED
    check(lab)


def defer_with_nul() -> None:
    raise Defer(3600, "a\0b \ud800")


def named_with_nul() -> Outcome:
    return Outcome("a\0b")


def named_with_surrogate() -> Outcome:
    return Outcome("a\ud800b")


def named_with_number() -> Outcome:
    return Outcome(5)  # type: ignore[arg-type]


def named_endlessly() -> Outcome:
    return Outcome("x" * 10_000_000)


class Mute(Exception):
    """Cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no words")


def fail_mutely() -> None:
    raise Mute


def fail_with_everything() -> None:
    raise RuntimeError("NUL \0, half a pair \ud800, " + "and much more " * 100_000)


@pytest.mark.parametrize(
    "step",
    [named_with_nul, named_with_surrogate, named_with_number, named_endlessly, fail_mutely, fail_with_everything],
)
def test_no_word_of_a_step_harms_the_worker(lab: Lab, step: Callable[[], object]) -> None:
    """Whatever text a step produces, its run fails with a clean error and the worker goes on."""
    mesh = lab.mesh(single(step, name="ill"), single(lambda: {"a": 1}, name="well"))
    worker = lab.worker(mesh)
    ill = mesh.start_run("ill")
    failed = mesh.wait_for_run(ill.id, 20)
    assert failed.status is RunStatus.FAILED
    assert failed.error is not None
    assert len(str(failed.error)) < 20_000
    assert mesh.wait_for_run(mesh.start_run("well").id, 20).status is RunStatus.COMPLETED
    worker.stop()
    check(lab, workers_left=False)


def test_an_unstorable_reason_of_a_defer_is_cleaned(lab: Lab) -> None:
    """The job sleeps, with a reason that can be read."""
    mesh = lab.mesh(single(defer_with_nul, name="ill"))
    lab.worker(mesh)
    mesh.start_run("ill")
    until(lambda: lab.jobs()["sleeping"] == 1)
    assert "a\N{REPLACEMENT CHARACTER}b" in lab.value("SELECT reason FROM squidmesh.jobs")


@pytest.mark.parametrize("delay", [float("nan"), float("inf"), -5.0, 1e300])
def test_a_strange_delay_is_brought_within_limits(dsn: str, delay: float) -> None:
    """NaN and negative delays are none; endless ones are the longest that is allowed."""
    come: list[int] = []

    def work(ctx: Context) -> None:
        come.append(1)
        if len(come) == 1:
            raise Defer(delay)

    with standing_still(dsn, single(work)) as h:
        run = h.mesh.start_run("single")
        ended = h.run_until(run, status="completed").finished_at
        assert ended == NOON + timedelta(seconds=LONGEST_DELAY if delay > 0 else 0)


# -- runs that cannot be decided ---------------------------------------------------------------------------------------


def test_a_run_whose_jobs_are_not_those_it_counts_harms_nobody_else(lab: Lab) -> None:
    """A run that was damaged by hand is quarantined when it cannot be decided; the worker goes on."""
    gate = Gate()
    workflow = Workflow("damaged")

    @workflow.step(start=True)
    def fails() -> None:
        gate.pass_()
        raise RuntimeError("so that all jobs are looked at")

    @workflow.step(start=True, queue="nobody")
    def waits() -> None: ...

    mesh = lab.mesh(workflow, single(lambda: {"a": 1}, name="well"))
    lab.worker(mesh)
    run = mesh.start_run(workflow)
    gate.until_come()
    lab.rows("DELETE FROM squidmesh.jobs WHERE step = 'waits'")
    gate.open()
    until(lambda: mesh.inspect_run(run.id).attention == "quarantined")
    assert mesh.wait_for_run(mesh.start_run("well").id, 20).status is RunStatus.COMPLETED
