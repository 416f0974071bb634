"""Why a run is where it is, asked of a real database: with workers that come, go and die; and whether it may be done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest

from squidmesh import (
    AsyncSquidMesh,
    Constant,
    Fail,
    InvalidRunId,
    Outcome,
    Reason,
    Retry,
    RunNotFound,
    SquidMeshError,
    Workflow,
)
from squidmesh.clock import new_id
from squidmesh.planner.decisions import RESOLUTIONS
from squidmesh.planner.planner import CRASH_BUDGET
from tests.lab import Gate, Lab
from tests.runtime.apps import single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from squidmesh import Explanation, Run, SquidMesh
    from squidmesh.records import JSONObject

ORPHAN: Final = """
UPDATE squidmesh.jobs
   SET state = 'claimed', started = true, run_at = NULL, crashes = %s, worker = %s
 WHERE run_id = %s
"""
"""Leave the job of a run with a worker that died with it, not for the first time."""


def until_reason(mesh: SquidMesh, run: Run, reason: Reason) -> Explanation:
    """Wait until a run is explained so."""

    def explained() -> list[Explanation]:
        why = mesh.explain_run(run.id)
        return [why] if why.reason is reason else []

    return until(explained, what=f"a run that is explained by {reason}")[0]


# -- workers -----------------------------------------------------------------------------------------------------------


def test_that_no_worker_serves_the_queue_is_said_until_one_does(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None, queue="mail"))
    run = mesh.start_run("single")
    lab.worker(mesh)
    why = until_reason(mesh, run, Reason.NO_WORKER_FOR_QUEUE)
    assert (why.step, why.details["queue"], why.details["workers"]) == ("work", "mail", 0)
    lab.worker(mesh, queues={"mail": 1})
    until_reason(mesh, run, Reason.COMPLETED)


def test_that_no_worker_knows_the_step_is_said_until_one_does(lab: Lab) -> None:
    mesh, other = lab.mesh(single(lambda: None)), lab.mesh(single(lambda: None, "other"))
    run = mesh.start_run("single")
    lab.worker(other)
    until(lambda: lab.jobs()["parked"] == 1, what="a parked job")
    why = mesh.explain_run(run.id)
    assert (why.reason, why.details["knows"], why.details["workers"]) == (
        Reason.NO_WORKER_KNOWS_STEP,
        "single/step/work",
        1,
    )
    lab.worker(mesh)
    until_reason(mesh, run, Reason.COMPLETED)


def test_a_run_is_queued_behind_those_that_go_first_while_another_runs(lab: Lab) -> None:
    gate = Gate()
    mesh = lab.mesh(single(gate.pass_))
    lab.worker(mesh, concurrency=1, most_ahead=0)
    first = mesh.start_run("single")
    gate.until_come()
    second, third = mesh.start_run("single"), mesh.start_run("single")
    running, queued = mesh.explain_run(first.id), mesh.explain_run(third.id)
    assert (running.reason, running.status) == (Reason.STEP_RUNNING, "running")
    assert running.evidence["worker"]["pid"] > 0
    assert running.details["host"]
    assert (mesh.explain_run(second.id).reason, queued.reason) == (Reason.PENDING_DISPATCH, Reason.QUEUED)
    assert (queued.details["ahead"], queued.details["ahead_is_all"]) == (1, True)
    gate.open()


def test_a_step_whose_worker_died_is_lost_then_rescued(lab: Lab) -> None:
    mesh = lab.mesh(single(lambda: None, queue="mail"))
    run = mesh.start_run("single")
    dead = uuid4()
    lab.rows(ORPHAN, 0, dead, run.id)
    lost = mesh.explain_run(run.id)
    assert (lost.reason, lost.details["alive"]) == (Reason.WORKER_LOST, 0)
    lab.worker(mesh)  # it serves another queue, and rescues all the same
    until(lambda: lab.attempts(run) == [("work", 1, "abandoned")], what="a rescue")
    why = mesh.explain_run(run.id)
    assert why.reason is Reason.NO_WORKER_FOR_QUEUE
    lab.rows("UPDATE squidmesh.workers SET queues = '{default,mail}'")
    why = mesh.explain_run(run.id)
    assert why.reason is Reason.RESCUED
    assert (why.details["last_error"]["worker"], why.evidence["attempt"]["worker"]) == (str(dead), str(dead))


def test_a_delayed_start_and_a_retry_say_when(lab: Lab) -> None:
    def fail() -> None:
        raise ConnectionError("closed")

    mesh = lab.mesh(single(fail, retry=Retry(max_attempts=2, backoff=Constant(3600))))
    later, now = mesh.start_run("single", delay=3600), mesh.start_run("single")
    lab.worker(mesh)
    why = until_reason(mesh, now, Reason.WAITING_FOR_RETRY)
    assert (why.status, why.details["next_attempt"], why.details["last_error"]["type"]) == (
        "retrying",
        2,
        "ConnectionError",
    )
    assert mesh.explain_run(later.id).reason is Reason.DELAYED_START


# -- how it is asked ---------------------------------------------------------------------------------------------------


def test_asking_waits_for_nobody_and_sees_one_instant(lab: Lab) -> None:
    """Somebody has changed the run and its job, and not committed: neither is seen."""
    mesh = lab.mesh(single(lambda: None))
    run = mesh.start_run("single")
    session = lab.session(autocommit=False)
    session.execute(
        lab.sql("UPDATE squidmesh.runs SET status = 'completed', finished_at = now() WHERE id = %s"), [run.id]
    )
    session.execute(lab.sql("DELETE FROM squidmesh.jobs"))
    assert mesh.explain_run(run.id).status == "pending"
    session.commit()
    assert mesh.explain_run(run.id).reason is Reason.COMPLETED


def test_a_process_without_the_code_can_ask(lab: Lab) -> None:
    gated = Workflow("gated")
    gated.wait_for("paid", name="paid")
    run = lab.mesh(gated).start_run("gated")
    why = lab.mesh().explain_run(str(run.id))
    assert (why.reason, [action.name for action in why.next_actions]) == (Reason.WAITING_FOR_SIGNAL, ["cancel_run"])


def test_it_refuses_as_inspect_run_does(lab: Lab) -> None:
    mesh = lab.mesh()
    with pytest.raises(RunNotFound):
        mesh.explain_run(new_id())
    with pytest.raises(InvalidRunId):
        mesh.explain_run("no")


def test_the_twin_explains_alike(lab: Lab) -> None:
    workflow = single(lambda: None)
    mesh = lab.mesh(workflow)
    run = mesh.start_run("single")

    async def ask() -> Explanation:
        async with AsyncSquidMesh(lab.dsn, workflows=[workflow], schema=lab.schema) as twin:
            return await twin.explain_run(run.id)

    mine, other = mesh.explain_run(run.id), asyncio.run(ask())
    assert replace(mine, at=other.at) == other


# -- what is offered may be done ---------------------------------------------------------------------------------------


@dataclass
class Way:
    way: str


def where(way: str) -> Outcome:
    return Outcome(way)


def fail() -> None:
    raise Fail("no")


def nothing() -> None: ...


def trip() -> Workflow:
    """A workflow whose payload says where a run goes: to a gate, a signal, a failure, an end."""
    made = Workflow("trip", payload=Way)
    fork = made.step(start=True)(where)
    book = made.step(name="book", compensate=nothing)(nothing)
    vote = made.approval("vote", approvers=2)
    targets = {
        "fail": made.step(fail),
        "pay": made.step(name="pay", irreversible=True)(nothing),
        "book": book,
        "look": made.pause("look"),
        "paid": made.wait_for("paid", name="paid", output="paid"),
    }
    for outcome, target in targets.items():
        made.transition(fork, on=outcome, to=target)
    made.transition(book, to=vote)
    return made


SITUATIONS: Final[dict[str, Reason]] = {
    "book": Reason.PAUSED_FOR_APPROVAL,
    "look": Reason.PAUSED_FOR_MANUAL_ACTION,
    "paid": Reason.WAITING_FOR_SIGNAL,
    "fail": Reason.STEP_FAILED,
    "pay": Reason.COMPLETED,
    "later": Reason.DELAYED_START,
    "interrupted": Reason.INTERRUPTED,
    "quarantined": Reason.QUARANTINED,
}
"""How to bring a run there, and what is said of it then."""


class Travel:
    """Brings new runs into a situation, and does what is offered there."""

    def __init__(self, lab: Lab) -> None:
        hand = single(nothing, "hand", irreversible=True)
        self.lab = lab
        self.mesh = lab.mesh(trip(), hand, single(nothing, "heavy"))
        lab.worker(self.mesh)

    def to(self, situation: str) -> Explanation:
        mesh = self.mesh
        if situation in ("interrupted", "quarantined"):
            run = mesh.start_run("hand" if situation == "interrupted" else "heavy", delay=3600)
            self.lab.rows(ORPHAN, CRASH_BUDGET - 1, uuid4(), run.id)
        elif situation == "later":
            run = mesh.start_run("trip", Way("book"), delay=3600)
        else:
            run = mesh.start_run("trip", Way(situation))
        return until_reason(mesh, run, SITUATIONS[situation])

    def do(self, run_id: UUID, name: str, arguments: JSONObject, needs: Sequence[str] = ()) -> Run:
        given = {"actor": "ann", "payload": {"sum": 1}}
        done: Run = getattr(self.mesh, name)(run_id, **arguments, **{what: given[what] for what in needs})
        return done


@pytest.fixture
def travel(lab: Lab) -> Travel:
    return Travel(lab)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_offered_is_accepted(travel: Travel, situation: str) -> None:
    """Each action on a run of its own that was brought there."""
    offered = travel.to(situation).next_actions
    assert offered
    for action in offered:
        why = travel.to(situation)
        assert why.next_actions == offered
        done = travel.do(why.run_id, action.name, action.arguments, action.needs)
        now = travel.mesh.explain_run(done.id)
        assert (now.run_id, now.reason, now.details, now.also) != (why.run_id, why.reason, why.details, why.also)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_not_offered_is_refused(travel: Travel, situation: str) -> None:
    why = travel.to(situation)
    offered = {action.name for action in why.next_actions}
    everything: dict[str, tuple[JSONObject, ...]] = {
        "approve_run": ({"actor": "ann"},),
        "reject_run": ({"actor": "ann"},),
        "unblock_run": ({}, *({"resolution": resolution} for resolution in RESOLUTIONS)),
        "retry_run": ({},),
        "replay_run": ({}, {"allow_irreversible": True}),
        "cancel_run": ({}, {"compensate": True}, {"force": True}),
    }
    for name, forms in everything.items():
        for arguments in () if name in offered else forms:
            with pytest.raises(SquidMeshError):
                travel.do(why.run_id, name, arguments)
    now = travel.mesh.explain_run(why.run_id)
    assert replace(now, at=why.at, summary=why.summary) == why, "nothing was changed"
