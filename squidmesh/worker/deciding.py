"""Decide for many locked runs at once: what the engine does for its results and the caretaker for those of the dead."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from squidmesh.planner.draft import NeedsAllJobs
from squidmesh.planner.outcome import Broken
from squidmesh.planner.planner import plan_findings
from squidmesh.registry import strange_graph
from squidmesh.store.jobs import lock_jobs
from squidmesh.store.statements import ask
from squidmesh.worker.body import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding
    from squidmesh.planner.plan import LockedRun, Plan
    from squidmesh.records import Job, JSONObject
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow

INCONSISTENT: Final[JSONObject] = {
    "type": "InconsistentRun",
    "message": "the run's jobs are not those that its state counts; was one removed by hand?",
}

logger = logging.getLogger("squidmesh.planner")


@dataclass(slots=True)
class Case:
    """One run to decide for.

    Args:
        run: The run, locked.
        findings: What happened to its jobs.
        jobs: Its jobs by slot: at least those that the findings speak of.
        may_snapshot: Whether the caller has its context at hand.
    """

    run: LockedRun
    findings: list[Finding]
    jobs: dict[int, Job] = field(default_factory=dict[int, "Job"])
    may_snapshot: bool = False


def decide(registry: Registry, cases: Sequence[Case]) -> Flow[list[Plan]]:
    """Plan what follows from findings, for runs that are locked; the plans are in the order of the cases.

    A run whose decision concerns all of its jobs (it fails) has them locked and read first. An exception in the planner
    parks that run with the evidence, and never harms the others.
    """
    plans = [_plan(registry, case) for case in cases]
    unsure = {case.run.id: case for case, plan in zip(cases, plans, strict=True) if plan is None}
    if unsure:
        for job in (yield from ask(lock_jobs(list(unsure)))):
            unsure[job.run_id].jobs[job.slot] = job
    return [plan or _plan(registry, case) or _broken(registry, case) for case, plan in zip(cases, plans, strict=True)]


def _plan(registry: Registry, case: Case) -> Plan | None:
    """The plan, or None if it takes all jobs of the run."""
    try:
        graph = _graph(registry, case)
        return plan_findings(graph, case.run, case.jobs, case.findings, may_snapshot=case.may_snapshot)
    except NeedsAllJobs:
        return None
    except Exception as error:
        logger.exception("run %s cannot be decided; it is quarantined", case.run.id)
        return _broken(registry, case, describe(error, retryable=False))


def _broken(registry: Registry, case: Case, error: JSONObject = INCONSISTENT) -> Plan:
    """The plan that parks what the findings speak of, for a human."""
    findings = [replace(found, happening=Broken(error)) for found in case.findings]
    return plan_findings(_graph(registry, case), case.run, case.jobs, findings)


def _graph(registry: Registry, case: Case) -> Graph:
    # One whose format is newer than this code knows: whoever gets here only parks or gives back.
    return registry.graph(case.run.fingerprint) or strange_graph(case.run.workflow, case.jobs.values())
