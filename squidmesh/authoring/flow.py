"""The steps of a workflow as numbers and its edges as bits: what leads where, and what can be live at once.

A set of steps is one ``int`` with a bit for each, so that "all ancestors of all steps" stays cheap for ten thousand
steps. Nothing here knows what is allowed and nothing here raises; edges to unknown steps are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from squidmesh.context import Outcome
from squidmesh.definition import StepKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from squidmesh.definition import Step, Transition

    Edges = Sequence[Sequence[int]]


_WITHOUT_OUTPUT: Final[Mapping[StepKind, Collection[str]]] = {
    # Who rejects has decided, and so have those who let the time pass: that is the output.
    StepKind.APPROVAL: (),
    StepKind.SIGNAL: (Outcome.ERROR, Outcome.TIMEOUT),
}
"""The outcomes that leave no output behind; of other kinds of steps "error" alone."""


@dataclass(frozen=True)
class Flow:
    """What leads where, by the numbers of the steps: their places in the order of declaration.

    Args:
        names: The steps' names.
        together: For each step, what runs when it ends with "ok": its transition's target and the joins that list it.
        otherwise: For each step, what runs when it ends with another outcome: one target each, never two at once.
        failing: Those among ``otherwise`` that are taken without an output of the step: error edges, mostly.
        joined: For each step, what it waits for with ``after``.
        entries: What a run begins with.
    """

    names: Sequence[str]
    together: Edges
    otherwise: Edges
    failing: frozenset[tuple[int, int]]
    joined: Edges
    entries: Sequence[int]
    numbers: dict[str, int] = field(repr=False)

    @staticmethod
    def of(steps: Sequence[Step], transitions: Iterable[Transition], entries: Iterable[str]) -> Flow:
        """The flow of what was declared; the first step of a name counts."""
        names = [step.name for step in steps]
        numbers = {name: number for number, name in reversed(list(enumerate(names)))}
        together: list[list[int]] = [[] for _ in names]
        otherwise: list[list[int]] = [[] for _ in names]
        failing: set[tuple[int, int]] = set()
        for edge in transitions:
            source, target = numbers.get(edge.source), numbers.get(edge.target)
            if source is None or target is None:
                continue
            (together if edge.outcome == Outcome.OK else otherwise)[source].append(target)
            if edge.outcome in _WITHOUT_OUTPUT.get(steps[source].kind, (Outcome.ERROR,)):
                failing.add((source, target))
        joined = [[numbers[name] for name in step.after if name in numbers] for step in steps]
        for number, dependencies in enumerate(joined):
            for dependency in dependencies:
                together[dependency].append(number)
        known = [numbers[name] for name in entries]
        return Flow(names, together, otherwise, frozenset(failing), joined, known, numbers)

    def names_of(self, numbers: Iterable[int]) -> list[str]:
        """The names of these steps, in the order of their declaration."""
        return [self.names[number] for number in sorted(numbers)]

    @cached_property
    def successors(self) -> Edges:
        """What each step can lead to."""
        return [[*together, *otherwise] for together, otherwise in zip(self.together, self.otherwise, strict=True)]

    @cached_property
    def reachable(self) -> frozenset[int]:
        """What a run can reach from its entries."""
        return frozenset(postorder(self.successors, self.entries))

    @cached_property
    def loops(self) -> list[frozenset[int]]:
        """The groups of steps each of which can lead back to itself."""
        return _round(self.successors, self._groups)

    @cached_property
    def stored_before(self) -> Sequence[int]:
        """For each step, the steps whose output can be there when it runs (bits).

        These are its ancestors, as far as they ended well on the way to it; in a loop, all steps of the loop.
        """
        before = [0] * len(self.names)
        looping = frozenset[int]().union(*self.loops)
        for group in self._groups:
            if group[0] in looping:
                shared = union(before[number] | 1 << number for number in group)
                for number in group:
                    before[number] = shared
            for number in group:
                for target in self.successors[number]:
                    failed = (number, target) in self.failing and target not in self.together[number]
                    before[target] |= before[number] if failed else before[number] | 1 << number
        return before

    @cached_property
    def leads_to(self) -> Sequence[int]:
        """For each step, itself and what comes after it (bits), edges that lead back into a loop left aside.

        The last one stands for the start of the run, and leads to everything.
        """
        after = [0] * (len(self.names) + 1)
        for number, targets in self._onward.items():
            after[number] = union(after[target] for target in targets) | 1 << number
        return after

    @cached_property
    def at_once(self) -> Sequence[int]:
        """For each step, the steps that may be live at the same time (bits); two are rivals if each has the other.

        What runs beside a step runs beside its successors too, except for what comes before or after them, and what
        runs only when a join was skipped; and the steps that one "ok" runs together run beside each other, with all
        that follows. Loops are left aside.
        """
        start = len(self.names)
        before = [1 << number for number in range(start + 1)]
        beside = [0] * (start + 1)
        for number, targets in reversed(self._onward.items()):
            beside[number] &= ~(before[number] | self.leads_to[number] | self._instead.get(number, 0))
            others = self.beside_edges(number)
            for target in targets:
                before[target] |= before[number]
                beside[target] |= beside[number] | others.get(target, 0)
        return beside[:start]

    def rivals(self, number: int, among: int) -> Iterator[int]:
        """Which of these steps (bits) can be live at the same time as this one."""
        return (other for other in members(self.at_once[number] & among) if self.at_once[other] >> number & 1)

    def beside_edges(self, number: int) -> dict[int, int]:
        """For each step that runs at this one's "ok": what the same "ok" runs besides, and all that follows (bits)."""
        start = len(self.names)
        together = self.entries if number == start else self.together[number]
        onward = set(self._onward.get(number, ()))
        siblings = [target for target in dict.fromkeys(together) if target in onward]
        return dict(zip(siblings, _unions_of_others([self.leads_to[s] for s in siblings]), strict=True))

    @cached_property
    def _groups(self) -> list[list[int]]:
        return components(self.successors)

    @cached_property
    def _instead(self) -> dict[int, int]:
        """For each join, what runs only after one of its dependencies ended in another way than "ok" (bits)."""
        badly: dict[int, int] = {}
        for number, targets in enumerate(self.otherwise):
            if targets:
                well = union(self.leads_to[target] for target in self.together[number])
                badly[number] = union(self.leads_to[target] for target in targets) & ~well
        found: dict[int, int] = {}
        for number in reversed(self._onward):
            for step in self.joined[number] if number < len(self.names) else ():
                found[number] = found.get(number, 0) | badly.get(step, 0) | found.get(step, 0)
        return found

    @cached_property
    def _onward(self) -> dict[int, list[int]]:
        """The successors of each reachable step without edges back into a loop, each step after all it leads to.

        The last key is the start of the run, a number past the last step; its successors are the entries.
        """
        start = len(self.names)
        successors = [*self.successors, self.entries]
        order = postorder(successors, [start])
        place = {number: at for at, number in enumerate(order)}
        return {number: [t for t in successors[number] if place[t] < place[number]] for number in order}


def loops(successors: Edges) -> list[frozenset[int]]:
    """The groups of numbers that can each lead back to themselves."""
    return _round(successors, components(successors))


def _round(successors: Edges, groups: Iterable[list[int]]) -> list[frozenset[int]]:
    return [frozenset(group) for group in groups if len(group) > 1 or group[0] in successors[group[0]]]


def postorder(successors: Edges, roots: Iterable[int]) -> list[int]:
    """Everything reachable from the roots, each after all that it leads to, loops aside (depth first, no recursion).

    An edge leads back into a loop exactly when its target does not come before its source.
    """
    seen: set[int] = set()
    done: list[int] = []
    for root in roots:
        stack = [] if root in seen else [(root, iter(successors[root]))]
        seen.add(root)
        while stack:
            number, rest = stack[-1]
            following = next((target for target in rest if target not in seen), None)
            if following is None:
                stack.pop()
                done.append(number)
            else:
                seen.add(following)
                stack.append((following, iter(successors[following])))
    return done


def components(successors: Edges) -> list[list[int]]:
    """The strongly connected components, each before those that it leads to (Kosaraju's algorithm)."""
    backwards: list[list[int]] = [[] for _ in successors]
    for number, targets in enumerate(successors):
        for target in targets:
            backwards[target].append(number)
    found: list[list[int]] = []
    seen: set[int] = set()
    for root in reversed(postorder(successors, range(len(successors)))):
        if root in seen:
            continue
        seen.add(root)
        group = [root]
        for number in group:  # grows while it is walked
            fresh = [source for source in dict.fromkeys(backwards[number]) if source not in seen]
            seen.update(fresh)
            group += fresh
        found.append(group)
    return found


def members(bits: int) -> Iterator[int]:
    """The numbers in a set of steps."""
    while bits:
        lowest = bits & -bits
        yield lowest.bit_length() - 1
        bits ^= lowest


def union(sets: Iterable[int]) -> int:
    """What is in any of the sets."""
    found = 0
    for bits in sets:
        found |= bits
    return found


def _unions_of_others(sets: Sequence[int]) -> list[int]:
    """For each set the union of all the others."""
    ahead = [0, *accumulate(sets, int.__or__)]
    behind = [0, *accumulate(reversed(sets), int.__or__)]
    return [ahead[at] | behind[len(sets) - 1 - at] for at in range(len(sets))]
