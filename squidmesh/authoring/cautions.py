"""What is allowed in a workflow, but probably not meant: said once, when it is checked.

A pure function over what was declared without problems. Whoever means it filters the warning
(``warnings.filterwarnings("ignore", message="workflow 'orders': ...", category=WorkflowWarning)``).
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from squidmesh.authoring import dataflow
from squidmesh.authoring.flow import members, union
from squidmesh.authoring.triggers import never_fires
from squidmesh.authoring.validation import flow_of
from squidmesh.authoring.wording import listed, subject
from squidmesh.context import Outcome
from squidmesh.definition import DEFAULT_VISIT_LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from squidmesh.authoring.declaration import Declaration
    from squidmesh.authoring.flow import Flow


class WorkflowWarning(UserWarning):
    """A workflow can be used as it is declared, but is probably not meant so."""


def warnings(declaration: Declaration) -> list[str]:
    """Everything that is probably not meant, each saying where it is and what to write instead."""
    flow = flow_of(declaration)
    return [
        *_idle_triggers(declaration),
        *_empty_outputs(declaration),
        *_endless_loops(declaration, flow),
        *_irreversible_loops(declaration, flow),
        *_double_runs(declaration, flow),
        *dataflow.unprovided(declaration, flow),
        *dataflow.raced(declaration, flow),
    ]


def _idle_triggers(declaration: Declaration) -> Iterator[str]:
    for trigger, _ in declaration.known_triggers:
        if never_fires(trigger):
            yield f"trigger {trigger.name!r}: {trigger.expression} names no time, so it never fires; use manual()"


def _empty_outputs(declaration: Declaration) -> Iterator[str]:
    for step in declaration.steps:
        function = declaration.functions.get(step.name)
        if step.output is not None and function is not None and function.signature.returns.nothing:
            remedy = "return the value, or take output= away"
            yield f"step {step.name!r}: has output={step.output!r}, but is annotated to return None; {remedy}"


def _endless_loops(declaration: Declaration, flow: Flow) -> Iterator[str]:
    """Loops of which no step can end with an outcome that leads out, or nowhere."""
    ways: dict[str, dict[str, list[str]]] = {step.name: {Outcome.OK: []} for step in declaration.steps}
    for edge in declaration.transitions:
        ways[edge.source].setdefault(edge.outcome, []).append(edge.target)
    for step in declaration.steps:
        for dependency in step.after:
            ways[dependency][Outcome.OK].append(step.name)
    for loop in flow.loops:
        names = flow.names_of(loop)
        inside = set(names)
        if all(inside.intersection(targets) for name in names for targets in ways[name].values()):
            yield (
                f"{subject(names)}: a loop with no way out, which ends only when a step fails or has reached its "
                "visit_limit; add a transition that leaves the loop, on another outcome or to COMPLETE"
            )


def _irreversible_loops(declaration: Declaration, flow: Flow) -> Iterator[str]:
    looping = set(flow.names_of(number for loop in flow.loops for number in loop))
    for step in declaration.steps:
        if step.irreversible and step.name in looping and step.visit_limit == DEFAULT_VISIT_LIMIT:
            yield (
                f"step {step.name!r}: is irreversible and part of a loop, so one run may do it many times; "
                "lead the loop around it, or set its visit_limit"
            )


def _double_runs(declaration: Declaration, flow: Flow) -> Iterator[str]:
    """Steps that two live branches lead to, other than by their errors: each of them runs it once."""
    sources: dict[str, dict[int, bool]] = {}
    for edge in declaration.transitions:
        if edge.outcome != Outcome.ERROR and edge.target in flow.numbers:
            known = sources.setdefault(edge.target, {})
            number = flow.numbers[edge.source]
            known[number] = known.get(number, False) or edge.outcome == Outcome.OK
    for target, known in sources.items():
        number = flow.numbers[target]
        # What comes after the step leads back to it: a loop, which has its own visits.
        others = union(1 << source for source in known) & ~flow.leads_to[number]
        for source, with_ok in known.items():
            beside = flow.beside_edges(source).get(number, 0) if with_ok else 0
            rival = next(chain(flow.rivals(source, others), members(beside & others)), None)
            if rival is not None:
                yield (
                    f"step {target!r}: {listed(flow.names_of([source, rival]))} can be live at once and both have a "
                    "transition to it, so it runs once for each; to run it once, when both are done, "
                    "declare it with after= in their place"
                )
                break
