"""Definitions to try: graphs of every shape that the rules of a definition allow, kept small.

Each step is an entry, a join (``after``), or the target of a transition, and is led to by something earlier; what is
added to that may lead anywhere, also back.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, TypeVar

from hypothesis import strategies as st

from squidmesh.definition import COMPLETE, Definition, Options, Step, StepKind, Transition
from squidmesh.retry import NEVER, Constant, Exponential, Retry

if TYPE_CHECKING:
    from collections.abc import Sequence

T = TypeVar("T")

ARROW: Final = re.compile(r"(?P<sources>[\w, ]+?) *(?:=>|->|-(?P<outcome>\w+)->) *(?P<target>\w+)")


NAMES: Final = "abcdefg"

OUTCOMES: Final = ("ok", "error", "review")

RETRIES: Final = (
    NEVER,
    NEVER,
    Retry(max_attempts=2),
    Retry(max_attempts=3, backoff=Constant(5), jitter=0.5),
    Retry(max_attempts=2, backoff=Exponential(min=1, max=30)),
)


@dataclass
class Choices:
    """Decisions, drawn beforehand: much cheaper than drawing one by one. When they run out, the first option is taken.

    So the first option of every choice must be the one that brings the run closer to its end.
    """

    drawn: bytes
    taken: int = field(default=0, init=False)

    def among(self, options: Sequence[T]) -> T:
        """One of these."""
        number = self.drawn[self.taken] if self.taken < len(self.drawn) else 0
        self.taken += 1
        return options[number % len(options)]

    def once_in(self, n: int) -> bool:
        """True about once in ``n``; False when the decisions have run out."""
        return self.among(range(n)) == n - 1


def choices() -> st.SearchStrategy[Choices]:
    """Decisions for one example: many, for it is with the last ones that it becomes interesting."""
    return st.binary(min_size=120, max_size=120).map(Choices)


def definitions(*, loops: bool = True, joins: bool = True, people: bool = False) -> st.SearchStrategy[Definition]:
    """Definitions that are valid.

    Args:
        loops: Whether a step may be reached more than once. Without, the graph has no circle, and one transition at
            most leads to each step.
        joins: Whether there are steps with ``after``.
        people: Whether there are gates, waits for signals, compensations and deadlines.
    """
    size, options = st.integers(1, len(NAMES)), {"loops": st.just(loops), "joins": st.just(joins)}
    return st.builds(_definition, size, choices(), people=st.just(people), **options)


def _definition(size: int, chosen: Choices, *, loops: bool, joins: bool, people: bool) -> Definition:
    left = list(NAMES)
    names = [left.pop(left.index(chosen.among(left))) for _ in range(size)]
    after: dict[str, tuple[str, ...]] = {}
    edges: dict[tuple[str, str], str] = {}
    entries = [names[0]]
    for i, name in enumerate(names[1:], start=1):
        free = [(source, outcome) for source in names[:i] for outcome in OUTCOMES if (source, outcome) not in edges]
        match chosen.among(("target", "target", "entry", *(("join", "join") if joins else ()))):
            case "join":
                some = tuple(source for source in names[:i] if chosen.once_in(2))
                after[name] = some or (chosen.among(names[:i]),)
            case "target" if free:
                edges[chosen.among(free)] = name
            case _:
                entries.append(name)
    _add_edges(names, chosen, edges, targets=[n for n in names if n not in after] if loops else [])
    marked = len(entries) > 1 or bool(set(entries) & set(edges.values()))
    steps = [_step(n, chosen, after.get(n, ()), start=marked and n in entries, edges=edges) for n in names]
    if people:
        steps = [_for_people(step, chosen, edges) for step in steps]
    transitions = [
        Transition(source, outcome, target, chosen.among((None, "undo")) if outcome == "error" else None)
        for (source, outcome), target in edges.items()
    ]
    deadline = chosen.among((None, None, 600.0)) if people else None
    return Definition("random", tuple(steps), tuple(transitions), deadline=deadline)


def _for_people(step: Step, chosen: Choices, edges: dict[tuple[str, str], str]) -> Step:
    """Perhaps a gate or a wait for a signal, where its edges allow that; or a step that can be undone."""
    if step.kind is StepKind.FUNCTION and not step.irreversible and chosen.once_in(2):
        undone = Options(retry=step.options.retry, compensate_retry=chosen.among(RETRIES))
        step = replace(step, compensate="undo", options=undone)
    if (step.name, "review") in edges or not chosen.once_in(3):
        return step
    kind = chosen.among((StepKind.APPROVAL, StepKind.SIGNAL, StepKind.PAUSE))
    limit = chosen.once_in(2)
    settings: dict[str, str | float] = {}
    if kind is StepKind.APPROVAL:
        settings = {"approvers": chosen.among((1, 2)), **({"deadline": 60.0} if limit else {})}
    elif kind is StepKind.SIGNAL:
        settings = {"signal": chosen.among(("go", "stop")), **({"timeout": 60.0} if limit else {})}
    elif (step.name, "error") in edges:
        return step
    return Step(
        name=step.name, kind=kind, after=step.after, start=step.start, visit_limit=step.visit_limit, output="said",
        settings=settings,
    )  # fmt: skip


def _add_edges(
    names: Sequence[str], chosen: Choices, edges: dict[tuple[str, str], str], targets: Sequence[str]
) -> None:
    """Edges that are not needed to reach a step: to the end of the path, or to any of ``targets``."""
    for name in names:
        for outcome in OUTCOMES:
            if (name, outcome) not in edges and chosen.once_in(4):
                edges[name, outcome] = chosen.among((COMPLETE, *targets))


def _step(
    name: str, chosen: Choices, after: tuple[str, ...], *, start: bool, edges: dict[tuple[str, str], str]
) -> Step:
    step = Step(
        name=name,
        after=after,
        start=start,
        irreversible=chosen.once_in(5),
        visit_limit=chosen.among((3, 1, 2, 4)),
        options=Options(retry=chosen.among(RETRIES)),
    )
    only_ok = not any((name, outcome) in edges for outcome in OUTCOMES if outcome != "ok")
    if only_ok and chosen.once_in(6):
        return replace(step, kind=StepKind.WAIT, irreversible=False, settings={"seconds": 60.0}, options=Options())
    return step


def flow(*edges: str, start: str = "", steps: Sequence[Step] = ()) -> Definition:
    """A definition in a few words, for tests that tell a story.

    Args:
        edges: ``a -> b`` (on ok), ``a -error-> b``, ``a -> END``; ``a, b => c`` lets c join a and b.
        start: The entry steps, with spaces between, where they must be declared.
        steps: Steps of which more is to be said than their edges.
    """
    known = {name: Step(name=name) for name in start.split()} | {step.name: step for step in steps}
    transitions: list[Transition] = []
    for edge in edges:
        found = ARROW.fullmatch(edge)
        assert found is not None, edge
        sources, outcome, target = found["sources"].replace(",", " ").split(), found["outcome"] or "ok", found["target"]
        for name in [*sources, *([] if target == "END" else [target])]:
            known.setdefault(name, Step(name=name))
        if "=>" in edge:
            known[target] = replace(known[target], after=tuple(sources))
        else:
            transitions.append(Transition(sources[0], outcome, COMPLETE if target == "END" else target))
    named = {name: replace(step, start=name in start.split()) for name, step in known.items()}
    return Definition("story", tuple(named.values()), tuple(transitions))
