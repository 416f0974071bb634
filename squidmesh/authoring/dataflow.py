"""Who provides which key of the context, as far as annotations tell, and who needs it.

A step that is annotated to return a plain dict, or not annotated, could provide anything: then nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from squidmesh.authoring.flow import members
from squidmesh.authoring.triggers import payload_keys
from squidmesh.authoring.wording import Known, listed, subject
from squidmesh.definition import StepKind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from squidmesh.authoring.declaration import Declaration
    from squidmesh.authoring.flow import Flow
    from squidmesh.definition import Step
    from squidmesh.payload import Contract


DECISION_KEYS: Final = ("decision", "actor", "decided_at", "comment", "metadata", "approvers")
"""What an approval adds to the context."""


@dataclass(frozen=True, slots=True)
class Providers:
    """Where keys come from; sets of steps are bits, as in ``flow``.

    Args:
        payload: The keys that a run may have from its start.
        steps: For each other known key, the steps that return it.
        anything: The steps that could return any key.
    """

    payload: frozenset[str]
    steps: Mapping[str, int]
    anything: int

    @staticmethod
    def of(declaration: Declaration, flow: Flow) -> Providers:
        """The providers of a declaration."""
        outputs = {step.name: step.output for step in declaration.steps}
        steps: dict[str, int] = {}
        anything = 0
        for name, function in declaration.functions.items():
            bit = 1 << flow.numbers[name]
            output = outputs[name]
            if output is None and function.signature.returns.anything:
                anything |= bit
            for key in sorted(function.signature.returns.keys) if output is None else [output]:
                steps[key] = steps.get(key, 0) | bit
        contracts = {name: contract for name, _, contract in declaration.signals}
        for step in declaration.steps:
            bit = 1 << flow.numbers[step.name]
            returned = _built_in_keys(step, contracts.get(step.name))
            if returned is None:
                anything |= bit
            for key in returned or ():
                steps[key] = steps.get(key, 0) | bit
        return Providers(payload_keys(declaration.known_triggers), steps, anything)


def _built_in_keys(step: Step, contract: Contract | None) -> Sequence[str] | None:
    """The keys that a gate or a signal adds to the context; None if it could be any."""
    if step.kind not in (StepKind.APPROVAL, StepKind.SIGNAL):
        return ()
    if step.output is not None:
        return (step.output,)
    if step.kind is StepKind.APPROVAL:
        return DECISION_KEYS
    return None if contract is None else [field.name for field in contract.fields]


def refused(declaration: Declaration, flow: Flow) -> Iterator[str]:
    """Required keys that only steps return which do not run before."""
    for step, key, providers in _unmet(declaration, flow):
        if providers:
            names = flow.names_of(members(providers))
            otherwise = ", or give the parameter a default" if step in declaration.functions else ""
            yield (
                f"step {step!r}: needs {key!r}, which only comes from {listed(names)}, and no run has it from there "
                f"when it gets to {step!r}; lead from {names[0]!r} to {step!r} with a transition or after={otherwise}"
            )


def unprovided(declaration: Declaration, flow: Flow) -> Iterator[str]:
    """Required keys that nothing is known to provide."""
    known = Known([*payload_keys(declaration.known_triggers), *Providers.of(declaration, flow).steps])
    needed: dict[str, list[str]] = {}
    for step, key, providers in _unmet(declaration, flow):
        if not providers:
            needed.setdefault(key, []).append(step)
    for key, steps in needed.items():
        otherwise = "; a default makes the parameter optional" if set(steps) & declaration.functions.keys() else ""
        yield (
            f"{subject(steps)}: needs {key!r}, but no payload has it and no step before returns it"
            f"{_hint(key, known)}{otherwise}"
        )


def raced(declaration: Declaration, flow: Flow) -> Iterator[str]:
    """Keys that two steps return which can run at the same time."""
    for key, writers in Providers.of(declaration, flow).steps.items():
        pair = next(((one, two) for one in members(writers) for two in flow.rivals(one, writers)), None)
        if pair:
            yield (
                f"{subject(flow.names_of(pair))}: can run at the same time, and both return {key!r}, so the last "
                "one to end wins; give each its own key"
            )


def _unmet(declaration: Declaration, flow: Flow) -> Iterator[tuple[str, str, int]]:
    """Step, required key and who else returns it, for what no payload has and no step before can return."""
    providers = Providers.of(declaration, flow)
    for name, keys in _required(declaration):
        before = flow.stored_before[flow.numbers[name]]
        if before & providers.anything:
            continue
        for key in keys:
            known = providers.steps.get(key, 0)
            if key not in providers.payload and not known & before:
                yield name, key, known


def _required(declaration: Declaration) -> Iterator[tuple[str, list[str]]]:
    """The keys that steps cannot do without: parameters of functions, and what waits wait until."""
    for name, function in declaration.functions.items():
        yield name, [parameter.name for parameter in function.takes if parameter.required]
    for step in declaration.steps:
        if step.kind is StepKind.WAIT and step.settings.get("key"):
            yield step.name, [str(step.settings["until"])]


def _hint(key: str, known: Known) -> str:
    if key in ("ctx", "context"):
        return "; to receive the context object, annotate the parameter with Context"
    return known.suggestion(key)
