"""A definition, indexed for the planner: who follows whom, who joins whom, what can still be reached.

Sets of steps are bit sets (Python ints): step *i* of the canonical (alphabetical) order is bit *i*. They stay small in
the run row and cost next to nothing however wide a graph is.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final, TypeAlias

from squidmesh.context import Outcome
from squidmesh.definition import COMPLETE, Definition, Step, StepKind, Transition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

GATE_OUTCOMES: Final = (Outcome.REJECTED, Outcome.TIMEOUT)
"""How a gate, or a wait for a signal, may end otherwise than well."""

StepSet: TypeAlias = int
"""A set of steps as a bit set over the graph's canonical order."""


class Graph:
    """A definition's edges, indexed.

    Args:
        definition: The definition; checked before it gets here.
        readable: False for a stand-in, where the stored graph is newer than this code: then nothing can be decided but
            that the jobs are left to others.
    """

    def __init__(self, definition: Definition, *, readable: bool = True) -> None:
        self.definition = definition
        self.readable = readable
        self.steps: Mapping[str, Step] = definition.by_name
        self.names: tuple[str, ...] = tuple(sorted(self.steps))
        self.bit: Mapping[str, StepSet] = {name: 1 << i for i, name in enumerate(self.names)}
        self.edges: Mapping[tuple[str, str], Transition] = {(e.source, e.outcome): e for e in definition.transitions}
        self.joins: Mapping[str, StepSet] = {s.name: self.set_of(s.after) for s in definition.steps if s.after}

    def set_of(self, names: Iterable[str]) -> StepSet:
        """The set of these steps."""
        found = 0
        for name in names:
            found |= self.bit[name]
        return found

    def members(self, steps: StepSet) -> Iterator[str]:
        """The names in a set, in canonical order."""
        while steps:
            lowest = steps & -steps
            yield self.names[lowest.bit_length() - 1]
            steps ^= lowest

    @cached_property
    def joined_by(self) -> Mapping[str, tuple[str, ...]]:
        """For each step, the joins that list it."""
        found: dict[str, list[str]] = {name: [] for name in self.names}
        for join in sorted(self.joins):
            for name in self.steps[join].after:
                found[name].append(join)
        return {name: tuple(joins) for name, joins in found.items()}

    @cached_property
    def successors(self) -> tuple[StepSet, ...]:
        """For each step, by its place in the canonical order, the steps that it may lead to directly."""
        found = [self.set_of(self.joined_by[name]) for name in self.names]
        for edge in self.edges.values():
            if edge.target != COMPLETE:
                found[self.bit[edge.source].bit_length() - 1] |= self.bit[edge.target]
        return tuple(found)

    def reachable(self, start: StepSet) -> StepSet:
        """Everything that may still run because something in ``start`` is live, not counting ``start`` itself."""
        return Reach(self, start).all()

    def way(self, step: str, outcome: str) -> Transition | None:
        """The transition that an outcome takes. What people and signals did not do goes the way of errors otherwise."""
        edge = self.edges.get((step, outcome))
        if edge is None and outcome in GATE_OUTCOMES and self.steps[step].kind in (StepKind.APPROVAL, StepKind.SIGNAL):
            edge = self.edges.get((step, Outcome.ERROR))
        return edge

    @cached_property
    def undoable(self) -> StepSet:
        """The steps that have a compensation."""
        return self.set_of(step.name for step in self.definition.steps if step.compensate)


class Reach:
    """What may still run because some steps are live, walked only as far as it is asked for.

    Args:
        graph: The graph.
        start: The live steps; they do not count themselves.
    """

    def __init__(self, graph: Graph, start: StepSet) -> None:
        self._successors = graph.successors
        self._reached = 0
        self._fresh = start

    def meets(self, targets: StepSet) -> bool:
        """Whether any of ``targets`` may still run."""
        while not targets & self._reached:
            if not self._fresh:
                return False
            self._walk()
        return True

    def all(self) -> StepSet:
        """Everything that may still run."""
        while self._fresh:
            self._walk()
        return self._reached

    def _walk(self) -> None:
        lowest = self._fresh & -self._fresh
        ahead = self._successors[lowest.bit_length() - 1]
        self._fresh = (self._fresh ^ lowest) | (ahead & ~self._reached)
        self._reached |= ahead
