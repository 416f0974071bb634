"""What is seen of a simulated run, as the database would show it to whoever asks why the run is where it is."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from squidmesh.errors import SquidMeshError
from squidmesh.meters import MeterTable
from squidmesh.planner.decisions import Vote
from squidmesh.planner.explain import explain
from squidmesh.planner.sight import SeenJob, SeenWorker, Sight
from squidmesh.records import AuditEvent, JobKind
from squidmesh.states import AttemptStatus, JobState
from tests.property.simulator import NOW, Simulator, ended

if TYPE_CHECKING:
    from squidmesh.explanation import Explanation
    from squidmesh.planner.plan import NewAttempt
    from squidmesh.records import Attempt, Job


def sight_of(sim: Simulator, **of_jobs: Any) -> Sight:
    """The run as it is seen: a worker is alive, serves every queue and knows every step, if nothing else is said.

    Args:
        sim: The run.
        of_jobs: What is to be seen of each of its jobs instead.
    """
    run, rows = sim.run, [row for row in sim.history if hasattr(row, "status")]
    attempts: list[NewAttempt] = [row for row in rows if row.kind != "snapshot"]  # type: ignore[union-attr,misc]
    votes: dict[str, list[Vote]] = {}
    for audit in sim.audits:
        if audit.type == "voted":
            votes.setdefault(str(audit.step), []).append(Vote(audit.metadata["visit"], audit.actor))
    cancelled = [a for a in sim.audits if a.type == "cancelled"]
    over = run.status.terminal
    return Sight(
        now=NOW,
        run=run,
        created_at=NOW - timedelta(hours=1),
        finished_at=NOW if over else None,
        jobs=tuple(_seen(sim, job, attempts, of_jobs) for job in sim.jobs.values()),
        workers=1,
        failed=next((ended(a) for a in attempts if a.seq == run.progress.failed_at), None) if run.error else None,
        can_go_on=_may_retry(sim),
        done=tuple(sorted({a.step for a in attempts if a.status in (AttemptStatus.COMPLETED, AttemptStatus.ABANDONED)}))
        if over
        else (),
        votes=votes,
        cancelled=AuditEvent(
            seq=cancelled[-1].seq,
            type="cancelled",
            step=None,
            actor=cancelled[-1].actor,
            comment=cancelled[-1].comment,
            metadata=cancelled[-1].metadata,
            at=NOW,
        )
        if cancelled
        else None,
    )


def explained(
    sim: Simulator, *, registered: bool = True, known: MeterTable | None = None, **of_jobs: Any
) -> Explanation:
    """Why a simulated run is where it is."""
    return explain(sim.graph, sight_of(sim, **of_jobs), registered=registered, known=known or MeterTable())


def _seen(sim: Simulator, job: Job, attempts: list[NewAttempt], changes: dict[str, Any]) -> SeenJob:
    undoes = job.kind == JobKind.COMPENSATION
    last: list[Attempt] = [
        ended(a)
        for a in attempts
        if (a.step, a.visit, a.kind == "compensation") == (job.step, job.visit, undoes) and a.seq >= job.saw
    ]
    holder = SeenWorker(id=job.worker, host="host-1", pid=4711, alive=True, late=-20.0) if job.worker else None
    seen = SeenJob(
        job=job,
        since=NOW - timedelta(minutes=30),
        ready_at=NOW - timedelta(minutes=10),
        run_at=NOW + timedelta(minutes=5) if job.state is JobState.SLEEPING else None,
        servers=1,
        knowing=1,
        worker=holder,
        last=last[-1] if last else None,
    )
    return replace(seen, **changes)


def _may_retry(sim: Simulator) -> bool:
    try:
        sim.fork().retry()
    except SquidMeshError:
        return False
    return True
