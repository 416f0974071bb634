"""Why a run is where it is, asked of a real database: with workers that come, go and die; and whether it may be done."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

import pytest

from squidmesh import (
    AsyncSquidMesh,
    Constant,
    Context,
    Defer,
    Fail,
    InvalidRunId,
    Limit,
    Outcome,
    Rate,
    Reason,
    Retry,
    RunNotFound,
    SquidMeshError,
    Workflow,
    testing,
)
from squidmesh.clock import new_id
from squidmesh.planner.decisions import RESOLUTIONS
from squidmesh.planner.planner import CRASH_BUDGET
from tests.lab import Gate, Lab, standing_still
from tests.runtime.apps import single
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squidmesh import Explanation, Run, SquidMesh
    from squidmesh.records import JSONObject

FILED: Final = "SELECT count(*) FROM squidmesh.jobs WHERE meters IS NOT NULL"

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


def test_a_delayed_start_and_a_retry_say_when(dsn: str) -> None:
    def fail() -> None:
        raise ConnectionError("closed")

    with standing_still(dsn, single(fail, retry=Retry(max_attempts=2, backoff=Constant(3600)))) as h:
        later, now = h.mesh.start_run("single", delay=3600), h.mesh.start_run("single")
        h.drain()
        why = h.mesh.explain_run(now.id)
        assert (why.reason, why.status, why.details["next_attempt"]) == (Reason.WAITING_FOR_RETRY, "retrying", 2)
        assert why.details["last_error"]["type"] == "ConnectionError"
        assert h.mesh.explain_run(later.id).reason is Reason.DELAYED_START


# -- what is shared ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("knows", [True, False], ids=["with the code", "without"])
def test_that_a_limit_is_taken_is_said_with_how_many_hold_it(lab: Lab, knows: bool) -> None:
    gate = Gate()
    workflow = single(gate.pass_, limit=Limit(2))
    mesh = lab.mesh(workflow)
    lab.worker(mesh, concurrency=5, lease=60.0, beat=0.5)
    runs = [_filed(lab, mesh, number) for number in range(1, 6)]
    asked = mesh if knows else lab.mesh()
    whys = [asked.explain_run(run.id) for run in runs]
    waiting = [why for why in whys if why.reason is not Reason.STEP_RUNNING]
    assert len(waiting) == 3
    assert sorted(why.details["ahead"] for why in waiting) == [0, 1, 2]
    if knows:
        assert {(why.reason, why.details["held"], why.details["most"]) for why in waiting} == {
            (Reason.WAITING_FOR_LIMIT, 2, 2)
        }
    else:
        assert all(why.details["unknown"] == ["single/work"] for why in waiting)
        assert {why.evidence["meters"][0]["held"] for why in waiting} == {2}
    gate.open()
    lab.until_ended(5)


def _filed(lab: Lab, mesh: SquidMesh, number: int) -> Run:
    """A run whose job is filed after those before it."""
    run = mesh.start_run("single")
    until(lambda: lab.value(FILED) == number, what=f"{number} filed jobs")
    return run


def test_that_a_rate_has_no_token_is_said_with_when_it_has_one(dsn: str) -> None:
    workflow = single(lambda: None, rate=Rate(2, per=3600))
    with standing_still(dsn, workflow) as h:
        runs = h.mesh.start_runs("single", [{}] * 4)
        h.drain()
        whys = [why for why in (h.mesh.explain_run(run.id) for run in runs) if why.reason is not Reason.COMPLETED]
        assert [why.reason for why in whys] == [Reason.WAITING_FOR_RATE] * 2
        assert {why.details["due"] for why in whys} == {(h.now + timedelta(minutes=30)).isoformat()}
        h.travel(hours=1)


def test_that_a_key_is_paused_is_said_of_those_that_share_it(dsn: str) -> None:
    def work(ctx: Context) -> None:
        if not asked:
            asked.append(ctx.run_id)
            raise Defer(600, pause=True)

    asked: list[UUID] = []
    with standing_still(dsn, single(work, rate=Rate(100, per=1))) as h:
        runs = h.mesh.start_runs("single", [{}] * 2)
        h.drain()
        whys = {run.id: h.mesh.explain_run(run.id) for run in runs}
        assert whys.pop(asked[0]).reason is Reason.DEFERRED
        (why,) = whys.values()
        assert (why.reason, why.details["meter"]) == (Reason.KEY_PAUSED, "single/work")
        assert why.details["paused_until"] == (h.now + timedelta(minutes=10)).isoformat()
        h.travel(minutes=10)


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


class Ways:
    """Brings new runs into a situation, and does what is offered there."""

    def __init__(self, harness: testing.Harness) -> None:
        self.harness = harness
        self.mesh = harness.mesh

    def to(self, situation: str) -> Explanation:
        h, mesh = self.harness, self.mesh
        h.drain()  # what became of those before
        if situation in ("interrupted", "quarantined"):
            workflow = "hand" if situation == "interrupted" else "heavy"
            run = mesh.start_run(workflow)
            with h.crash(f"{workflow}/work", "in_body", times=CRASH_BUDGET + 1):
                h.drain()
        elif situation == "later":
            run = mesh.start_run("trip", Way("book"), delay=3600)
        else:
            run = mesh.start_run("trip", Way(situation))
            h.drain()
        why = mesh.explain_run(run.id)
        assert why.reason is SITUATIONS[situation]
        return why

    def do(self, run_id: UUID, name: str, arguments: JSONObject, needs: Sequence[str] = ()) -> Run:
        given = {"actor": "ann", "payload": {"sum": 1}}
        done: Run = getattr(self.mesh, name)(run_id, **arguments, **{what: given[what] for what in needs})
        return done


@pytest.fixture
def ways(dsn: str) -> Iterator[Ways]:
    hand = single(nothing, "hand", irreversible=True)
    with standing_still(dsn, trip(), hand, single(nothing, "heavy")) as harness:
        yield Ways(harness)
        harness.drain()


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_offered_is_accepted(ways: Ways, situation: str) -> None:
    """Each action on a run of its own that was brought there."""
    offered = ways.to(situation).next_actions
    assert offered
    for action in offered:
        why = ways.to(situation)
        assert why.next_actions == offered
        done = ways.do(why.run_id, action.name, action.arguments, action.needs)
        now = ways.mesh.explain_run(done.id)
        assert (now.run_id, now.reason, now.details, now.also) != (why.run_id, why.reason, why.details, why.also)


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_not_offered_is_refused(ways: Ways, situation: str) -> None:
    why = ways.to(situation)
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
                ways.do(why.run_id, name, arguments)
    now = ways.mesh.explain_run(why.run_id)
    assert replace(now, at=why.at, summary=why.summary) == why, "nothing was changed"
