"""Decide for many locked runs at once: what the engine does for its results and the caretaker for those of the dead."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from squidmesh.deciding import Locked, read_more
from squidmesh.planner.facts import NeedsMore
from squidmesh.planner.outcome import Broken
from squidmesh.planner.planner import plan_findings
from squidmesh.registry import strange_graph
from squidmesh.worker.body import describe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.outcome import Finding
    from squidmesh.planner.plan import Plan
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow

logger = logging.getLogger("squidmesh.planner")


@dataclass(slots=True, kw_only=True)
class Case(Locked):
    """One run to decide for.

    Args:
        findings: What happened to its jobs, which were read: at least these.
        may_snapshot: Whether the caller has its context at hand.
        broken: Whether what happened could not be decided, and the findings say so now.
    """

    findings: list[Finding] = field(default_factory=list["Finding"])
    may_snapshot: bool = False
    broken: bool = False


def decide(registry: Registry, cases: Sequence[Case]) -> Flow[list[Plan]]:
    """Plan what follows from findings, for runs that are locked; the plans are in the order of the cases.

    What a decision needs more (all jobs of a run that fails, say) is read, and it is made again. An exception in the
    planner parks that run with the evidence, and never harms the others.
    """
    decided = [_plan(registry, case) for case in cases]
    while asked := [(place, needs) for place, needs in enumerate(decided) if isinstance(needs, NeedsMore)]:
        yield from read_more([(_graph(registry, cases[place]), cases[place], needs) for place, needs in asked])
        for place, _ in asked:
            decided[place] = _plan(registry, cases[place])
    return [plan for plan in decided if not isinstance(plan, NeedsMore)]


def _plan(registry: Registry, case: Case) -> Plan | NeedsMore:
    """The plan, or what it takes to make it."""
    try:
        graph = _graph(registry, case)
        return plan_findings(graph, case.run, case.jobs, case.findings, case.facts, may_snapshot=case.may_snapshot)
    except NeedsMore as needs:
        return needs
    except Exception as error:
        if case.broken:
            raise
        logger.exception("run %s cannot be decided; it is quarantined", case.run.id)
        # What the findings speak of is parked for a human, which may take more reading as well.
        broken = Broken(describe(error, retryable=False))
        case.findings = [replace(found, happening=broken) for found in case.findings]
        case.broken, case.may_snapshot = True, False
        return _plan(registry, case)


def _graph(registry: Registry, case: Case) -> Graph:
    # One whose format is newer than this code knows: whoever gets here only parks or gives back.
    return registry.graph(case.run.fingerprint) or strange_graph(case.run.workflow, case.jobs.values())
