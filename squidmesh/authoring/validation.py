"""What is wrong with a workflow: every problem at once, each saying where it is and how to mend it.

A pure function over what was declared. Problems that would only follow from other problems (a step cannot be reached
because the edge to it names a step that does not exist) wait until those are mended.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from squidmesh.authoring import dataflow, triggers
from squidmesh.authoring.flow import Flow, loops
from squidmesh.authoring.wording import Known, listed, subject
from squidmesh.context import Outcome
from squidmesh.definition import COMPLETE, StepKind
from squidmesh.records import SCHEDULE_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from squidmesh.authoring.declaration import Declaration
    from squidmesh.definition import Step, Transition
    from squidmesh.records import JSON


def problems(declaration: Declaration) -> list[str]:
    """Everything that keeps a declaration from being a definition; empty if nothing does."""
    found = [*declaration.problems, *triggers.problems(declaration.known_triggers)]
    steps, transitions = declaration.steps, declaration.transitions
    if not steps:
        return [*found, "it has no steps: declare one with @workflow.step"]
    broken = [*_duplicate_names(steps), *_unknown_names(steps, transitions), *_bad_joins(steps, transitions)]
    found += [*broken, *_bad_transitions(steps, transitions)]
    if not broken:
        found += [*_bad_waits(declaration), *_bad_signals(declaration)]
        lost = list(_bad_entries(steps, transitions)) or list(_unreachable(declaration))
        found += lost or dataflow.refused(declaration, flow_of(declaration))
    return found


def flow_of(declaration: Declaration) -> Flow:
    """What leads where in what was declared."""
    entries = dict.fromkeys(step.name for step in declaration.freeze().entries)
    return Flow.of(declaration.steps, declaration.transitions, entries)


def edge_name(edge: Transition) -> str:
    """A transition, as problems begin."""
    target = "COMPLETE" if edge.target == COMPLETE else repr(edge.target)
    return f"transition from {edge.source!r} on {edge.outcome!r} to {target}"


def _duplicate_names(steps: Sequence[Step]) -> Iterator[str]:
    counts = Counter(step.name for step in steps)
    for name, count in counts.items():
        if count > 1:
            yield f"step {name!r}: is declared {count} times; give each its own name, with name= where needed"


def _unknown_names(steps: Sequence[Step], transitions: Sequence[Transition]) -> Iterator[str]:
    known = Known(step.name for step in steps)
    for step in steps:
        for dependency in step.after:
            if dependency not in known:
                yield f"step {step.name!r}: after= lists {dependency!r}, which is no step{_hint(dependency, known)}"
    for edge in transitions:
        if edge.source == COMPLETE:
            yield f"{edge_name(edge)}: COMPLETE is the end of a path, nothing can lead on from it"
        elif edge.source not in known:
            yield f"{edge_name(edge)}: {edge.source!r} is no step{_hint(edge.source, known)}"
        if edge.target != COMPLETE and edge.target not in known:
            yield f"{edge_name(edge)}: {edge.target!r} is no step{_hint(edge.target, known)}"


def _hint(name: str, known: Known) -> str:
    if name.lower() == "complete":
        return "; to end the path, use COMPLETE (from squidmesh import COMPLETE)"
    return known.suggestion(name) or f"; there are {known}"


def _bad_transitions(steps: Sequence[Step], transitions: Sequence[Transition]) -> Iterator[str]:
    known = {step.name: step for step in steps}
    for edge in transitions:
        if edge.outcome not in (Outcome.OK, Outcome.ERROR) and edge.outcome.lower() in (Outcome.OK, Outcome.ERROR):
            yield f"{edge_name(edge)}: outcomes are case-sensitive; write on={edge.outcome.lower()!r}"
        elif edge.source in known and edge.outcome not in (outcomes := _outcomes(known[edge.source])) and outcomes:
            kind, possible = known[edge.source].kind, " or ".join(map(repr, outcomes))
            yield f"{edge_name(edge)}: a {kind} can only end with {possible}; take the transition away"
        if edge.recovery is not None and edge.outcome != Outcome.ERROR:
            yield f"{edge_name(edge)}: recovery= belongs to transitions with on='error' only"
    targets: dict[tuple[str, str], list[str]] = {}
    for edge in transitions:
        targets.setdefault((edge.source, edge.outcome), []).append(edge.target)
    for (source, outcome), led in targets.items():
        if len(led) > 1:
            yield (
                f"step {source!r}: has {len(led)} transitions on {outcome!r}, to {listed(led)}; keep one. "
                f"To run several steps at its end, declare each with after=[{source!r}]"
            )


def _outcomes(step: Step) -> tuple[str, ...]:
    """How a step without a function may end; empty for one with a function, which may name any outcome."""
    timeout = (Outcome.TIMEOUT,) if {"deadline", "timeout"} & step.settings.keys() else ()
    match step.kind:
        case StepKind.FUNCTION:
            return ()
        case StepKind.APPROVAL:
            return (Outcome.OK, Outcome.REJECTED, *timeout, Outcome.ERROR)
        case StepKind.SIGNAL if timeout:
            return (Outcome.OK, *timeout, Outcome.ERROR)
        case _:
            return (Outcome.OK,)


def _bad_joins(steps: Sequence[Step], transitions: Sequence[Transition]) -> Iterator[str]:
    led_to: dict[str, list[str]] = {}
    for edge in transitions:
        led_to.setdefault(edge.target, []).append(edge.source)
    for step in steps:
        if not step.after:
            continue
        if step.name in step.after:
            yield f"step {step.name!r}: lists itself in after=; leave it out"
        if step.name in led_to:
            yield (
                f"step {step.name!r}: has after=, and transitions from {listed(led_to[step.name])} lead to it as well; "
                "keep one of the two (list those steps in after= if it waits for them too)"
            )
        if step.start:
            yield f"step {step.name!r}: has after= and start=True; a step that waits for others begins no run"
    for circle in _circles_of_joins(steps):
        yield f"{subject(circle)}: wait for each other with after=, so none can be the first; break the circle"


def _bad_waits(declaration: Declaration) -> Iterator[str]:
    for step in declaration.freeze().entries:
        if "until" in step.settings:
            yield (
                f"wait {step.name!r}: a run cannot begin with a wait until an instant; start it with run_at=, "
                "or put a step before the wait"
            )


def _bad_signals(declaration: Declaration) -> Iterator[str]:
    contracts: dict[str, JSON] = {}
    steps = {step.name: step for step in declaration.steps}
    for name, signal, contract in declaration.signals:
        yield from (f"signal {signal!r}: {problem}" for problem in (contract.problems() if contract else ()))
        described = contract.describe() if contract else None
        if contracts.setdefault(signal, described) != described:
            yield f"signal {signal!r}: has different contracts at several steps; give it one payload=, or two names"
        if contract is not None and steps[name].output is None and SCHEDULE_KEY in {f.name for f in contract.fields}:
            yield f"signal {signal!r}: the payload field {SCHEDULE_KEY!r} is reserved; rename it, or declare output="


def _circles_of_joins(steps: Sequence[Step]) -> list[list[str]]:
    flow = Flow.of(steps, (), ())
    return [flow.names_of(group) for group in loops(flow.successors) if len(group) > 1]


def _bad_entries(steps: Sequence[Step], transitions: Sequence[Transition]) -> Iterator[str]:
    """A run begins with what nothing leads to; several, or one that a loop leads back to, must say start=True."""
    leading = {edge.source for edge in transitions}.union(*(step.after for step in steps))
    targets = {edge.target for edge in transitions}
    roots = [s for s in steps if not s.after and not s.start and s.name not in targets]
    alone = len(steps) == 1  # a wait that is a whole workflow begins and ends its runs
    loose = {s.name: s.kind for s in roots if s.kind is not StepKind.FUNCTION and s.name not in leading and not alone}
    for name, kind in loose.items():
        yield (
            f"{kind} {name!r}: is part of no edge, so it would never run; "
            "put it into a sequence() or transition(), or take it away"
        )
    entries = [s.name for s in roots if s.name not in loose]
    declared = [s.name for s in steps if s.start]
    if declared and entries:
        yield (
            f"{subject(entries)}: nothing leads there, but runs begin with {listed(declared)} (start=True); "
            "lead there with sequence(), transition() or after=, or declare start=True there too"
        )
    elif len(entries) > 1:
        yield (
            f"{subject(entries)}: nothing leads there, so where a run begins is not clear; lead to all but one with "
            "sequence(), transition() or after=, or declare start=True on each to begin with all of them"
        )
    elif not declared and not entries and not loose:
        yield "it has no entry step: each step has an edge that leads to it; declare the first one with start=True"


def _unreachable(declaration: Declaration) -> Iterator[str]:
    flow = flow_of(declaration)
    lost = flow.names_of(set(range(len(flow.names))) - flow.reachable)
    if lost:
        yield (
            f"{subject(lost)}: no run ever gets there from {listed(flow.names_of(flow.entries))}; "
            "lead there with a transition() or after=, or take away what is not needed"
        )
