"""Rescue: what a dead worker had goes back to the others, through the same lock, decide, save as everything else."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from squidmesh.planner.outcome import WORKER_DIED, Abandoned, Finding
from squidmesh.registry import learn_graphs
from squidmesh.store.jobs import check_fences, list_claimed, notify_idle, pin_plans
from squidmesh.store.runs import lock_runs
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import Batch
from squidmesh.worker.deciding import Case, decide

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from squidmesh.planner.plan import Plan
    from squidmesh.records import Job
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow
    from squidmesh.store.workers import LateWorker

RESCUE_BATCH: Final = 100
"""Runs that are rescued in one transaction."""


@dataclass(slots=True)
class Lookout:
    """Judges who is dead: late on the database's clock, *and* without a beat between two of our looks.

    The second is measured on our own monotonic clock, so that a database clock that was set forward kills nobody. After
    one that was set back it is all there is: then a worker is dead that is silent for as long as its lease was.

    Args:
        between: Seconds that must lie between the two looks.
    """

    between: float
    _seen: dict[UUID, tuple[int, float]] = field(default_factory=dict["UUID", "tuple[int, float]"])

    def judge(self, late: Sequence[LateWorker], now: float) -> list[LateWorker]:
        """Those of the late workers that are dead.

        Args:
            late: The workers that are late now.
            now: The monotonic time of this look.
        """
        seen, self._seen = self._seen, {}
        dead: list[LateWorker] = []
        for worker in late:
            beats, since = seen.get(worker.id, (worker.beats, now))
            if beats != worker.beats:
                since = now
            self._seen[worker.id] = (worker.beats, since)
            if worker.dead or now - since >= max(self.between, worker.silence):
                dead.append(worker)
        return dead


def list_rescuable(worker: UUID) -> Flow[list[Job]]:
    """What a dead worker still has."""
    _, jobs = yield Batch((pin_plans(), list_claimed(worker)), last=True)
    return list(jobs)


def rescue(registry: Registry, worker: LateWorker, jobs: Sequence[Job], channel: str) -> Flow[list[Plan]]:
    """Give a dead worker's jobs back: as abandoned, so that they are run again, more carefully, or a human is asked.

    Args:
        registry: Knows the graphs.
        worker: Who died; for the evidence.
        jobs: Some of its jobs; those whose run somebody holds are left for the next time.
        channel: Where workers listen.
    """
    run_ids = sorted({job.run_id for job in jobs})[:RESCUE_BATCH]
    chosen = set(run_ids)
    listed = [(job.run_id, job) for job in jobs if job.run_id in chosen]
    current: list[tuple[UUID, Job]]
    _, runs, current = yield Batch((pin_plans(), lock_runs(run_ids), check_fences(worker.id, listed)))
    yield from learn_graphs(registry, [run.fingerprint for run in runs])
    # What a newer squidmesh stored is left for a worker that can read it: only it knows what must not be run again.
    runs = [run for run in runs if registry.graph(run.fingerprint) is not None]
    error = {
        "type": WORKER_DIED,
        "message": f"worker {worker.id} on {worker.host or 'an unknown host'} was declared dead",
        "worker": str(worker.id),
        "host": worker.host,
        "pid": worker.pid,
        "late_seconds": round(worker.overdue, 1),
    }
    cases = {run.id: Case(run=run) for run in runs}
    for run_id, job in current:
        if (case := cases.get(run_id)) is not None:
            case.jobs[job.slot] = job
            case.findings.append(Finding(job.slot, worker.id, job.claim, Abandoned(error)))
    plans = yield from decide(registry, list(cases.values()))
    queues = sorted({job.queue for plan in plans for job in plan.jobs})
    yield Batch((*save_plans(plans, channel), notify_idle(channel, queues)), last=True)
    return plans
