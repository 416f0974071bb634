"""A workflow's graph as lines of text: a line for each step, and lanes beside it for the edges that are under way.

The picture grows downwards, as ``git log --graph`` does: it needs no coordinates, no crossings have to be minimised,
and each step keeps a line of its own for what else is to be said of it. What the lanes cannot show is said beside them:
outcomes, edges back into a loop, and paths that end. A graph too large or too wide for that becomes a list.

Values in, values out: nothing here knows of terminals, colours or runs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from squidmesh.authoring.flow import Flow, postorder
from squidmesh.context import Outcome
from squidmesh.definition import COMPLETE, StepKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from squidmesh.definition import Definition, Transition

MOST_LANES: Final = 8
MOST_STEPS: Final = 60

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_FINE: Final = dict(zip(range(16), " ╵╷│╴╯╮┤╶╰╭├─┴┬┼", strict=True))
_PLAIN: Final = {bits: "|" if bits in (1, 2, 3) else "-" if bits in (4, 8, 12) else "+" for bits in range(1, 16)}


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the drawing.

    Args:
        before: The lanes to the left of the step's mark, or all lanes of a line without a step.
        step: The step whose line it is; None on a line between steps.
        after: The lanes to the right of the step's mark.
        note: What is said beside the lanes: outcomes, ends, ways back; in a list, where the step leads to.
    """

    before: str
    step: str | None = None
    after: str = ""
    note: str = ""

    @property
    def lanes_width(self) -> int:
        """Columns that the lanes and the mark take."""
        return len(self.before) + len(self.after) + (self.step is not None)


@dataclass(frozen=True, slots=True)
class _Edge:
    target: str
    label: str


def draw(definition: Definition, *, unicode: bool = True) -> list[Line]:
    """The drawing of a graph, steps in an order in which they may run.

    Args:
        definition: The graph; checked.
        unicode: Whether box characters may be used.
    """
    edges = _edges(definition)
    order = _order(definition, edges)
    if len(order) <= MOST_STEPS:
        picture = _Picture({step: place for place, step in enumerate(order)}, _FINE if unicode else _PLAIN)
        for step in order:
            picture.add(step, edges[step])
        if picture.width <= MOST_LANES:
            return picture.lines
    return [Line("", step, "", _listed(edges[step], "→" if unicode else "->")) for step in order]


def _edges(definition: Definition) -> Mapping[str, Sequence[_Edge]]:
    """Where each step leads: an edge a target, named outcomes first, then what "ok" runs."""
    outcomes: dict[str, dict[str, list[str]]] = {step.name: {} for step in definition.steps}
    for edge in sorted(definition.transitions, key=lambda edge: edge.outcome == Outcome.OK):
        outcomes[edge.source].setdefault(edge.target, []).extend(_labels(definition, edge))
    for step in definition.steps:
        for dependency in step.after:
            outcomes[dependency].setdefault(step.name, []).append(Outcome.OK)
    return {
        source: [_Edge(target, "" if said == [Outcome.OK] else ", ".join(said)) for target, said in targets.items()]
        for source, targets in outcomes.items()
    }


def _labels(definition: Definition, edge: Transition) -> list[str]:
    """The outcomes that take an edge: of a gate, "error" stands for those that have no edge of their own."""
    step = definition.by_name[edge.source]
    if edge.outcome != Outcome.ERROR or step.kind not in (StepKind.APPROVAL, StepKind.SIGNAL):
        return [edge.outcome]
    limited = {"deadline", "timeout"} & step.settings.keys()
    possible = [Outcome.REJECTED] * (step.kind is StepKind.APPROVAL) + [Outcome.TIMEOUT] * bool(limited)
    own = {other.outcome for other in definition.transitions if other.source == edge.source}
    return [outcome for outcome in possible if outcome not in own] or [edge.outcome]


def _order(definition: Definition, edges: Mapping[str, Sequence[_Edge]]) -> list[str]:
    """The steps, each after all that lead to it (loops aside), with the steps of a branch together."""
    names = [step.name for step in definition.steps]
    numbers = Flow.of(definition.steps, definition.transitions, ()).numbers
    # Reversed twice: what is visited last comes first, and the first branch is to be drawn first.
    targets = [[numbers[e.target] for e in reversed(edges[name]) if e.target != COMPLETE] for name in names]
    entries = [numbers[step.name] for step in reversed(definition.entries)]
    return [names[number] for number in reversed(postorder(targets, entries))]


def _listed(edges: Sequence[_Edge], arrow: str) -> str:
    """Where a step leads, outcome by outcome."""
    targets: dict[str, list[str]] = {}
    for edge in edges:
        targets.setdefault(edge.label, []).append("end" if edge.target == COMPLETE else edge.target)
    return "; ".join(f"{label} {arrow} {', '.join(names)}".lstrip() for label, names in targets.items())


@dataclass(slots=True)
class _Picture:
    """Lines, and the lanes as they stand below the last of them: each waits for the step that it leads to.

    Args:
        places: The place of each step in the order.
        strokes: The character for each set of directions.
    """

    places: Mapping[str, int]
    strokes: Mapping[int, str]
    lines: list[Line] = field(default_factory=list[Line])
    lanes: list[str | None] = field(default_factory=list["str | None"])
    width: int = 0

    def add(self, step: str, edges: Sequence[_Edge]) -> None:
        """Draw a step and the beginnings of its edges."""
        mine = self._arrive(step)
        left, right = self._through(self.lanes[:mine]), self._through(self.lanes[mine + 1 :])
        self.lines.append(Line(left.ljust(2 * mine), step, f" {right}".rstrip()))
        onward = [e for e in edges if e.target != COMPLETE and self.places[e.target] > self.places[step]]
        self._say_ends(mine, step, [e for e in edges if e not in onward], goes_on=bool(onward))
        # The step's own lane goes on with "ok", and of several to what comes last; all else is drawn beside it.
        onward.sort(key=lambda edge: (bool(edge.label), -self.places[edge.target]))
        main = onward.pop(0) if onward and not onward[0].label else None
        self.lanes[mine] = main.target if main else step
        labels = list(dict.fromkeys(edge.label for edge in onward))
        for label in labels:
            goes_on = main is not None or label != labels[-1]
            self._fork(mine, [edge.target for edge in onward if edge.label == label], label, goes_on=goes_on)
        self.lanes[mine] = main.target if main else None
        if main and not onward:
            self.lines.append(Line(self._through(self.lanes)))
        self.width = max(self.width, len(self.lanes))

    def _arrive(self, step: str) -> int:
        """The lane of a step; where several lead to it, they are joined first."""
        waiting = [lane for lane, target in enumerate(self.lanes) if target == step]
        if not waiting:
            return self._free_lane()
        mine, *others = waiting
        if others:
            if self.lines[-1] == Line(self._through(self.lanes)):
                self.lines.pop()
            self.lines.append(Line(self._across(mine, others, _UP, _UP | _DOWN)))
            for lane in others:
                self.lanes[lane] = None
        return mine

    def _fork(self, mine: int, targets: Sequence[str], label: str, *, goes_on: bool) -> None:
        opened: list[int] = []
        for target in targets:
            opened.append(self._free_lane())
            self.lanes[opened[-1]] = target
        self.lines.append(Line(self._across(mine, opened, _DOWN, _UP | _DOWN if goes_on else _UP), note=label))

    def _say_ends(self, mine: int, step: str, edges: Sequence[_Edge], *, goes_on: bool) -> None:
        """What leads to no step below: ends of paths, and ways back into a loop."""
        said = [e for e in edges if e.label or e.target != COMPLETE or goes_on]
        arrow = "→" if self.strokes is _FINE else "->"
        for number, edge in enumerate(said):
            more = goes_on or number + 1 < len(said)
            where = "end" if edge.target == COMPLETE else "itself" if edge.target == step else f"back to {edge.target}"
            cells = {2 * lane: _UP | _DOWN for lane, target in enumerate(self.lanes) if target is not None}
            cells |= {2 * mine: _UP | _RIGHT | (_DOWN if more else 0), 2 * mine + 1: _LEFT}
            self.lines.append(Line(self._row(cells), note=f"{edge.label} {arrow} {where}".lstrip()))

    def _free_lane(self) -> int:
        if None not in self.lanes:
            self.lanes.append(None)
        return self.lanes.index(None)

    def _across(self, mine: int, others: Sequence[int], towards: int, own: int) -> str:
        """A row in which lanes leave mine (downwards) or join it (upwards); ``own`` is where mine itself comes from."""
        cells = {2 * lane: _UP | _DOWN for lane, target in enumerate(self.lanes) if target is not None}
        cells[2 * mine] = own
        for other in others:
            cells[2 * other] = towards
        for other in others:
            low, high = sorted((2 * mine, 2 * other))
            for cell in range(low, high + 1):
                cells[cell] = cells.get(cell, 0) | (_LEFT if cell > low else 0) | (_RIGHT if cell < high else 0)
        return self._row(cells)

    def _through(self, lanes: Sequence[str | None]) -> str:
        return self._row({2 * lane: _UP | _DOWN for lane, target in enumerate(lanes) if target is not None})

    def _row(self, cells: Mapping[int, int]) -> str:
        return "".join(self.strokes[cells[n]] if n in cells else " " for n in range(max(cells, default=-1) + 1))
