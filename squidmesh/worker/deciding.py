"""Decide for many locked runs at once: what the engine does for its results and the caretaker for those of the dead."""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import TYPE_CHECKING

from squidmesh.planner.draft import NeedsAllJobs
from squidmesh.planner.outcome import Broken
from squidmesh.planner.planner import plan_findings
from squidmesh.registry import strange_graph
from squidmesh.store.jobs import lock_jobs
from squidmesh.store.statements import ask
from squidmesh.worker.body import describe

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence
    from uuid import UUID

    from squidmesh.planner.outcome import Finding
    from squidmesh.planner.plan import LockedRun, Plan
    from squidmesh.records import Job
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow

logger = logging.getLogger("squidmesh.planner")


def decide(
    registry: Registry,
    runs: Sequence[LockedRun],
    jobs: Iterable[Job],
    findings: Mapping[UUID, Sequence[Finding]],
    may_snapshot: Container[UUID] = (),
) -> Flow[list[Plan]]:
    """Plan what follows from findings, for runs that are locked.

    A run whose decision concerns all of its jobs (it fails) has them locked and read first. An exception in the planner
    parks that run with the evidence, and never harms the others.

    Args:
        registry: Knows the graphs.
        runs: The locked runs.
        jobs: Their jobs: at least those that the findings speak of.
        findings: What happened, by run.
        may_snapshot: The runs whose context the caller has at hand.
    """
    known: dict[UUID, dict[int, Job]] = defaultdict(dict)
    for job in jobs:
        known[job.run_id][job.slot] = job
    plans, again = [], []
    for run in runs:
        try:
            plans.append(_plan(registry, run, known[run.id], findings[run.id], snapshot=run.id in may_snapshot))
        except NeedsAllJobs:
            again.append(run)
    if again:
        every: dict[UUID, dict[int, Job]] = defaultdict(dict)
        for job in (yield from ask(lock_jobs([run.id for run in again]))):
            every[job.run_id][job.slot] = job
        plans += [_plan(registry, run, every[run.id], findings[run.id], snapshot=False) for run in again]
    return plans


def _plan(
    registry: Registry, run: LockedRun, jobs: Mapping[int, Job], findings: Sequence[Finding], *, snapshot: bool
) -> Plan:
    graph = registry.graph(run.fingerprint)
    if graph is None:
        # Its format is newer than this code knows; whoever gets here only parks or gives back.
        graph = strange_graph(run.workflow, jobs[findings[0].slot])
    try:
        return plan_findings(graph, run, jobs, findings, may_snapshot=snapshot)
    except NeedsAllJobs:
        raise
    except Exception as error:
        logger.exception("run %s cannot be decided; it is quarantined", run.id)
        broken = Broken(describe(error, retryable=False))
        return plan_findings(graph, run, jobs, [_replaced(finding, broken) for finding in findings])


def _replaced(finding: Finding, broken: Broken) -> Finding:
    return type(finding)(
        slot=finding.slot,
        worker=finding.worker,
        claim=finding.claim,
        happening=broken,
        started_ago=finding.started_ago,
        finished_ago=finding.finished_ago,
    )
