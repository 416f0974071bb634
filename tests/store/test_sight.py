"""What is seen of a run in order to explain it: one statement, of one instant."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from squidmesh.clock import new_id
from squidmesh.meters import MeterTable, Rate
from squidmesh.planner.decisions import Vote
from squidmesh.planner.plan import NewAudit
from squidmesh.planner.progress import Progress
from squidmesh.planner.sight import MOST_JOBS, Sight
from squidmesh.records import JobKind, Lane
from squidmesh.states import AttemptStatus, JobState, RunStatus
from squidmesh.store.meters import pause_meters
from squidmesh.store.runs import lock_run
from squidmesh.store.sight import read_explanation
from squidmesh.store.workers import declare_dead
from tests.store.kit import Session, attempt, claim, entry, in_schema, locked, plan, register, save, start
from tests.store.test_meters import taking

if TYPE_CHECKING:
    from typing import Any


def look(session: Session, run_id: UUID, **options: Any) -> Sight:
    found = session.run(read_explanation(run_id, **options))
    assert found is not None
    return found


def test_there_is_nothing_to_see_of_a_run_that_was_not_started(store: Session) -> None:
    assert store.run(read_explanation(new_id())) is None


def test_a_run_that_has_just_been_started(store: Session) -> None:
    (run_id,) = start(store)
    seen = look(store, run_id)
    assert seen.run == locked(store, run_id)
    assert seen.now >= seen.created_at
    (job,) = seen.jobs
    assert (job.job.state, job.job.step, job.ahead, job.servers, job.worker, job.last) == (
        JobState.READY,
        "first",
        0,
        0,
        None,
        None,
    )
    assert job.since == job.ready_at == seen.created_at
    assert (seen.workers, seen.failed, seen.done, seen.votes, seen.cancelled) == (0, None, (), {}, None)


def test_the_jobs_before_a_ready_one_are_those_of_its_queue_and_lane_that_a_claim_takes_first(store: Session) -> None:
    for job in (entry(), entry(), entry(priority=-1), entry(queue="other"), entry(lane=Lane.SUSPECT)):
        start(store, 1, job)
    (mine,) = start(store, 1, entry())
    start(store, 1, entry())
    start(store, 1, entry(priority=1))
    assert look(store, mine).jobs[0].ahead == 3
    assert look(store, mine, most_ahead=2).jobs[0].ahead == 2, "it is not counted further than is asked for"
    claim(store, 3)
    assert look(store, mine).jobs[0].ahead == 0


def filed(session: Session, meters: str, **changes: Any) -> UUID:
    (run_id,) = start(session, 1, entry(**{"lane": Lane.METERED, **changes}))
    session.connection.execute(in_schema("UPDATE squidmesh.jobs SET meters = %s WHERE run_id = %s"), [meters, run_id])
    return run_id


def test_what_a_ready_job_shares_is_seen_with_who_holds_it_and_those_before_it_are_those_that_share_it(
    store: Session,
) -> None:
    charge = "w/charge:account=a\nw/charge:account=a\n@default"
    limits, rates = {"w/charge:account": 2, "@default": 9}, {"w/charge:account": Rate(3, per=60)}
    known = MeterTable(limits, rates, {"default": "@default"})
    first = [filed(store, charge) for _ in range(4)]
    other, others = filed(store, "\n\n@default"), filed(store, charge, queue="other")
    start(store, 5, entry())
    _, claimed, _ = store.run(taking(known, {"default": 1}))
    assert len(claimed.jobs) == 1
    store.run(pause_meters([("@default", 60.0, None)]))

    (job,) = look(store, first[3]).jobs
    assert job.ahead == 2
    limit, rate, queue = job.meters
    assert (limit.kind, limit.name, limit.held, limit.tokens) == ("limit", "w/charge:account=a", 1, 2.0)
    assert (rate.kind, rate.held, rate.tokens) == ("rate", 0, 2.0)
    assert rate.refilled_ago is not None
    assert 0 <= rate.refilled_ago < 60
    assert (queue.kind, queue.name, queue.held, queue.tokens) == ("queue", "@default", 1, None)
    assert queue.paused_until is not None
    assert queue.paused_until > look(store, first[3]).now
    assert look(store, first[3], most_ahead=1).jobs[0].ahead == 1
    assert [meter.kind for meter in look(store, other).jobs[0].meters] == ["queue"]
    assert look(store, others).jobs[0].ahead == 0
    (held,) = look(store, first[0]).jobs
    assert (held.job.state, held.meters) == (JobState.CLAIMED, ())


def test_a_worker_counts_while_it_lives_and_serves_the_queue_and_knows_the_step(store: Session) -> None:
    (run_id,) = start(store, workflow="w")
    knowing = register(store, knows=["w/step/first"])
    register(store, knows=["w/wait/first", "v/step/first"])
    register(store, "other", knows=["w/step/first"])
    register(store, lease=-1.0, knows=["w/step/first"])
    (job,) = look(store, run_id).jobs
    assert (look(store, run_id).workers, job.servers, job.knowing) == (3, 2, 1)
    store.run(declare_dead(knowing, 0))
    (job,) = look(store, run_id).jobs
    assert (look(store, run_id).workers, job.servers, job.knowing) == (2, 1, 0)


@pytest.mark.parametrize(("lease", "alive"), [(60.0, True), (-60.0, False)])
def test_who_has_a_job_is_seen_with_their_lease(store: Session, lease: float, alive: bool) -> None:
    (run_id,) = start(store)
    worker = register(store, lease=lease)
    claim(store, worker=worker)
    held = look(store, run_id).jobs[0].worker
    assert held is not None
    assert (held.id, held.host, held.pid, held.alive) == (worker, "here", 1, alive)
    assert held.late is not None
    assert (held.late > 0) is not alive


def test_a_worker_whose_row_is_gone_is_not_alive(store: Session) -> None:
    (run_id,) = start(store)
    gone = uuid4()
    claim(store, worker=gone)
    held = look(store, run_id).jobs[0].worker
    assert held is not None
    assert (held.id, held.host, held.alive, held.late) == (gone, "", False, None)


def test_the_latest_attempt_is_that_of_the_live_visit_and_of_its_kind(store: Session) -> None:
    (run_id,) = start(store)
    before = attempt(1, {"large": "x" * 1000}, step="loop", status=AttemptStatus.COMPLETED)
    failed = attempt(2, step="loop", visit=2, status=AttemptStatus.FAILED, error={"n": 1}, started_ago=2.0)
    again = attempt(3, step="loop", visit=2, attempt=2, status=AttemptStatus.ABANDONED, error={"n": 2})
    undone = attempt(4, step="loop", visit=2, status=AttemptStatus.FAILED, kind="compensation")
    jobs = [
        entry("loop", visit=2, saw=2, state=JobState.SLEEPING, delay=60.0, same_visit=True),
        entry("loop", slot=1, visit=1, saw=2, kind=JobKind.COMPENSATION),
    ]
    changes = plan(locked(store, run_id), seq=5, attempts=[before, failed, again, undone], moved=jobs[:1])
    save(store, changes)
    (job,) = look(store, run_id).jobs
    assert job.last is not None
    assert (job.last.seq, job.last.error, job.last.output) == (3, {"n": 2}, None)
    assert job.run_at is not None
    assert timedelta(seconds=50) < job.run_at - look(store, run_id).now <= timedelta(seconds=60)
    save(store, plan(locked(store, run_id), seq=6, added=jobs[1:]))
    assert look(store, run_id).jobs[1].last is None, "it is another visit, and another thing that is done"


def test_what_waits_for_people_is_seen_however_many_jobs_there_are(store: Session) -> None:
    jobs = [entry(slot=slot) for slot in range(MOST_JOBS + 10)]
    jobs[-1] = entry("gate", slot=MOST_JOBS + 10, kind=JobKind.GATE, reason="pause")
    (run_id,) = start(store, 1, *jobs)
    seen = look(store, run_id)
    assert (len(seen.jobs), seen.jobs[-1].job.step) == (MOST_JOBS, "gate")


def test_why_a_run_has_failed_and_what_it_has_done(store: Session) -> None:
    (run_id,) = start(store)
    attempts = [
        attempt(1, step="done"),
        attempt(2, step="lost", status=AttemptStatus.ABANDONED),
        attempt(3, step="bad", status=AttemptStatus.FAILED, error={"type": "E"}),
    ]
    failing = plan(locked(store, run_id), seq=4, attempts=attempts, status=RunStatus.FAILING)
    failing.progress = Progress(failed_at=3)
    save(store, failing)
    seen = look(store, run_id)
    assert seen.failed is not None
    assert (seen.failed.step, seen.failed.error, seen.can_go_on, seen.done) == ("bad", {"type": "E"}, True, ())

    ended = plan(locked(store, run_id), status=RunStatus.FAILED, removed=[0])
    save(store, ended)
    assert look(store, run_id).done == ("done", "lost")
    assert look(store, run_id).finished_at is not None
    ended = plan(locked(store, run_id), status=RunStatus.FAILED)
    ended.progress = Progress(failed_at=4)
    save(store, ended)
    assert (look(store, run_id).failed, look(store, run_id).can_go_on) == (None, False)


def test_votes_and_who_cancelled_are_read_with_what_they_said(store: Session) -> None:
    (run_id,) = start(store)
    audits = [
        NewAudit(seq=1, type="voted", step="gate", actor={"name": "é"}, metadata={"visit": 2}),
        NewAudit(seq=2, type="voted", step="gate", actor="bob", metadata={"visit": 2}),
        NewAudit(seq=3, type="cancelled", actor="ann", comment="no"),
    ]
    save(store, plan(locked(store, run_id), seq=4, audits=audits, status=RunStatus.CANCELLING))
    seen = look(store, run_id)
    assert seen.votes == {"gate": [Vote(2, {"name": "é"}), Vote(2, "bob")]}
    assert seen.cancelled is not None
    assert (seen.cancelled.actor, seen.cancelled.comment, seen.cancelled.seq) == ("ann", "no", 3)


def test_looking_waits_for_nobody(store: Session, other: Session) -> None:
    (run_id,) = start(store)
    with other.transaction():
        other.within(lock_run(run_id))
        other.connection.execute(in_schema("UPDATE squidmesh.jobs SET step = 'changed'"))
        assert store.later(lambda: look(store, run_id)).result(10).jobs[0].job.step == "first"


def test_instants_are_read_whatever_time_zone_a_session_has(store: Session) -> None:
    (run_id,) = start(store)
    usual = look(store, run_id).jobs[0].since
    store.connection.execute("SET TimeZone = 'Asia/Kathmandu'")
    assert look(store, run_id).jobs[0].since == usual
