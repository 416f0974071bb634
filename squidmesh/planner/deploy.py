"""What would strand: live runs, each on the graph it started with, against the code at hand.

A run finishes on its own graph, but with the functions of whatever code is deployed. A step of the graph that has no
function any more parks the run for a worker that has one; here is who would come to that.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from squidmesh.definition import StepKind
from squidmesh.records import Stranding, StrandingReason

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from squidmesh.definition import Parameter
    from squidmesh.planner.graph import Graph, StepSet

Code: TypeAlias = "Mapping[str, Mapping[str, Sequence[Parameter]]]"
"""The code at hand: by workflow, the parameters of each step that has a function."""

Graphs: TypeAlias = "Mapping[str, Graph | None]"
"""The graphs of live runs by fingerprint; None where this code cannot read it."""


@dataclass(frozen=True, slots=True)
class LiveRuns:
    """Unfinished runs that stand at the same steps of the same graph.

    Args:
        workflow: Their workflow.
        fingerprint: Names their graph.
        steps: The steps that are live in each of them.
        count: How many they are.
    """

    workflow: str
    fingerprint: str
    steps: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class NewNeed:
    """A parameter that the function at hand needs, that the one before did not, and that no step of the graph gives.

    Args:
        fingerprint: The graph.
        step: The step.
        key: The parameter.
    """

    fingerprint: str
    step: str
    key: str


def new_needs(live: Iterable[LiveRuns], graphs: Graphs, code: Code) -> list[NewNeed]:
    """What only the payload could give: whether it does has to be looked up, run by run.

    A step that merges what it returns could give anything; where one may run before, nothing is claimed.
    """
    found: list[NewNeed] = []
    for workflow, fingerprint in sorted({(runs.workflow, runs.fingerprint) for runs in live}):
        graph = graphs.get(fingerprint)
        if graph is None:
            continue
        for name, parameters in sorted(code.get(workflow, {}).items()):
            if name in graph.steps and graph.steps[name].kind is StepKind.FUNCTION:
                needed = {parameter.name for parameter in graph.steps[name].takes if parameter.required}
                asked = sorted({p.name for p in parameters if p.required} - needed)
                found += [NewNeed(fingerprint, name, key) for key in asked if not _may_give(graph, name, key)]
    return found


def strandings(
    live: Sequence[LiveRuns],
    graphs: Graphs,
    code: Code,
    lacking: Mapping[NewNeed, Sequence[LiveRuns]],
    undone: Mapping[str, Collection[str]],
) -> list[Stranding]:
    """Who would strand, and where.

    Args:
        live: All unfinished runs that may still start a step.
        graphs: Their graphs.
        code: The code at hand.
        lacking: For each of the ``new_needs``, the runs whose payload has no such key.
        undone: By workflow, the steps for which the code has a compensation.
    """
    groups: defaultdict[tuple[str, str], list[LiveRuns]] = defaultdict(list)
    for runs in live:
        groups[runs.workflow, runs.fingerprint].append(runs)
    found: list[Stranding] = []
    for (workflow, fingerprint), group in sorted(groups.items()):
        graph = graphs.get(fingerprint)
        if graph is None:
            found.append(_unreadable(group))
            continue
        functions = code.get(workflow)
        reason = StrandingReason.WORKFLOW_GONE if functions is None else StrandingReason.STEP_GONE
        for step in graph.definition.steps:
            if step.kind is StepKind.FUNCTION and step.name not in (functions or ()):
                found += _affected(graph, group, step.name, reason)
            elif step.compensate and step.name not in undone.get(workflow, ()):
                # It is needed only if a run fails, but by each of them.
                found.append(_without_compensation(group, step.name))
        for need, runs_without in lacking.items():
            if need.fingerprint == fingerprint:
                found += _affected(graph, runs_without, need.step, StrandingReason.PARAMETER_MISSING, need.key)
    return found


def _unreadable(group: Sequence[LiveRuns]) -> Stranding:
    return Stranding(
        workflow=group[0].workflow,
        fingerprint=group[0].fingerprint,
        step=None,
        reason=StrandingReason.NEWER_GRAPH,
        runs_now=sum(runs.count for runs in group),
        runs_later=0,
    )


def _without_compensation(group: Sequence[LiveRuns], step: str) -> Stranding:
    return Stranding(
        workflow=group[0].workflow,
        fingerprint=group[0].fingerprint,
        step=step,
        reason=StrandingReason.COMPENSATION_GONE,
        runs_now=0,
        runs_later=sum(runs.count for runs in group),
    )


def _affected(
    graph: Graph, group: Sequence[LiveRuns], step: str, reason: StrandingReason, key: str | None = None
) -> list[Stranding]:
    """The stranding at a step, if some of the runs are there or can still get there."""
    bit, now, later = graph.bit[step], 0, 0
    for runs in group:
        here = graph.set_of(name for name in runs.steps if name in graph.bit)
        if here & bit:
            now += runs.count
        elif graph.reachable(here) & bit:
            later += runs.count
    if not now and not later:
        return []
    return [
        Stranding(
            workflow=group[0].workflow,
            fingerprint=group[0].fingerprint,
            step=step,
            reason=reason,
            key=key,
            runs_now=now,
            runs_later=later,
        )
    ]


def _may_give(graph: Graph, step: str, key: str) -> bool:
    """Whether a step that may run before ``step`` could return the key."""
    for name in graph.members(_before(graph, step)):
        other = graph.steps[name]
        gives = other.kind in (StepKind.FUNCTION, StepKind.APPROVAL, StepKind.SIGNAL)
        if gives and other.output in (None, key):
            return True
    return False


def _before(graph: Graph, step: str) -> StepSet:
    """The steps that may have run when ``step`` is handed out: those that can be reached around it; in a loop, all."""
    bit = graph.bit[step]
    if graph.reachable(bit) & bit:
        return (1 << len(graph.names)) - 1
    reached = fresh = graph.set_of(entry.name for entry in graph.definition.entries) & ~bit
    while fresh:
        ahead: StepSet = 0
        for name in graph.members(fresh):
            ahead |= graph.successors[graph.bit[name].bit_length() - 1]
        fresh = ahead & ~reached & ~bit
        reached |= fresh
    return reached
