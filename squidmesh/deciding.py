"""Deciding about a locked run: ask the planner, and read what it finds that it needs, until it can answer.

Client and worker decide in the same way; they differ in what they do when the planner refuses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from squidmesh.planner.facts import NO_FACTS, Facts, NeedsMore
from squidmesh.store.jobs import lock_jobs
from squidmesh.store.runs import read_completions, read_signals, read_values
from squidmesh.store.statements import Batch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import TypeAlias

    from squidmesh.planner.graph import Graph
    from squidmesh.planner.plan import LiveJob, LockedRun, Plan
    from squidmesh.store.statements import Flow, Statement

    Decision: TypeAlias = Callable[[Graph, LockedRun, Mapping[int, LiveJob], Facts], Plan | None]


@dataclass(slots=True, kw_only=True)
class Locked:
    """A locked run, and what was read of it under its lock.

    Args:
        run: The run.
        jobs: Its jobs by slot: those that were read.
        facts: What else was read; shared as long as that is nothing.
    """

    run: LockedRun
    jobs: dict[int, LiveJob] = field(default_factory=dict[int, "LiveJob"])
    facts: Facts = field(default_factory=lambda: NO_FACTS)

    @property
    def own_facts(self) -> Facts:
        """The facts, to add to."""
        if self.facts is NO_FACTS:
            self.facts = Facts()
        return self.facts


def decide_one(graph: Graph, locked: Locked, decision: Decision) -> Flow[Plan | None]:
    """Decide about one run; None if nothing is to be changed.

    Raises:
        SquidMeshError: What was asked cannot be done; whatever the planner raises.
    """
    while True:
        try:
            return decision(graph, locked.run, locked.jobs, locked.facts)
        except NeedsMore as needs:
            wanted = needs
        yield from read_more([(graph, locked, wanted)])


def read_more(asked: Sequence[tuple[Graph, Locked, NeedsMore]]) -> Flow[None]:
    """Read what decisions need, for all of them in one round trip."""
    by_id = {locked.run.id: locked for _, locked, _ in asked}
    jobs = [locked.run.id for _, locked, needs in asked if needs.jobs]
    signals = [locked.run.id for _, locked, needs in asked if needs.signals]
    values = [(locked.run.id, needs.key) for _, locked, needs in asked if needs.key is not None]
    completions = [
        (locked.run.id, needs.below, list(graph.members(graph.undoable)))
        for graph, locked, needs in asked
        if needs.below is not None
    ]
    statements: dict[str, Statement[Any]] = {}
    if jobs:
        statements["jobs"] = lock_jobs(jobs)
    if signals:
        statements["signals"] = read_signals(signals)
    if values:
        statements["values"] = read_values(values)
    if completions:
        statements["completions"] = read_completions(completions)
    found = dict(zip(statements, (yield Batch(tuple(statements.values()))), strict=True))
    for run_id in jobs:
        by_id[run_id].own_facts.jobs = True
    for job in found.get("jobs", ()):
        by_id[job.run_id].jobs[job.slot] = job
    for run_id in signals:
        by_id[run_id].own_facts.signals = tuple(signal for run, signal in found["signals"] if run == run_id)
    for run_id, key, value, now in found.get("values", ()):
        facts = by_id[run_id].own_facts
        facts.values[key], facts.now = value, now
    for run_id, below, completion in found.get("completions", ()):
        by_id[run_id].own_facts.completions[below] = completion
