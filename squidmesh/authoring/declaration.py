"""What an author declared, collected: single values are read, and nobody has asked yet whether they fit together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

from squidmesh.authoring.functions import StepFunction
from squidmesh.authoring.reading import Given, Reader, StepReference
from squidmesh.authoring.signature import Signature
from squidmesh.context import Outcome
from squidmesh.definition import COMPLETE, DEFAULT_QUEUE, Definition, Options, Step, StepKind, Transition, Trigger
from squidmesh.errors import DefinitionError
from squidmesh.payload import Contract
from squidmesh.records import SCHEDULE_KEY
from squidmesh.values.misfit import quote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from squidmesh.retry import Retry

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_TRIGGER: Final = "manual"
RECOVERIES: Final = ("compensation", "undo")


@dataclass(slots=True)
class Declaration:
    """Steps, edges and triggers in the order of their declaration: well typed, but not checked together.

    Args:
        workflow: The workflow's name.
        steps: May hold two of one name, as may the triggers.
        transitions: May lead from and to anything.
        triggers: Each with the contract of its payload.
        functions: By the name of their step; of two with one name, the first.
        signals: The contracts of the signals that steps wait for: (step, signal, contract); None takes any JSON value.
        deadline: Seconds after which a run fails that has not ended.
        problems: What was wrong with single values.
    """

    workflow: str
    steps: list[Step] = field(default_factory=list[Step])
    transitions: list[Transition] = field(default_factory=list[Transition])
    triggers: list[tuple[Trigger, Contract]] = field(default_factory=list[tuple[Trigger, Contract]])
    functions: dict[str, StepFunction[..., object]] = field(default_factory=dict[str, StepFunction[..., object]])
    signals: list[tuple[str, str, Contract | None]] = field(default_factory=list[tuple[str, str, "Contract | None"]])
    deadline: float | None = None
    problems: list[str] = field(default_factory=list[str])

    @staticmethod
    def of(workflow: object) -> Declaration:
        """An empty declaration."""
        declaration = Declaration("")
        declaration.workflow = declaration.reader("workflow").name(workflow)
        return declaration

    @property
    def known_triggers(self) -> list[tuple[Trigger, Contract]]:
        """The triggers; a workflow that declares none is started by hand, without a payload."""
        return self.triggers or [(Trigger(name=DEFAULT_TRIGGER), Contract.of(None))]

    def freeze(self) -> Definition:
        """The definition, of a declaration without problems."""
        triggers = tuple(trigger for trigger, _ in self.known_triggers)
        return Definition(self.workflow, self._filed_steps(), tuple(self.transitions), triggers, self.deadline)

    def _filed_steps(self) -> tuple[Step, ...]:
        """The steps; waits and logs are filed where somebody works, not in a queue that no function uses."""
        used = [step.options.queue for step in self.steps if step.kind is StepKind.FUNCTION]
        queue = DEFAULT_QUEUE if DEFAULT_QUEUE in used or not used else used[0]
        return tuple(
            step if step.kind is StepKind.FUNCTION else replace(step, options=replace(step.options, queue=queue))
            for step in self.steps
        )

    def reader(self, where: str) -> Reader:
        """A reader for the values of one declaration, which notes problems here."""
        return Reader(self.workflow, where, self.problems)

    def add_function(
        self, function: Callable[P, R], name: object, given: Given, caller: FrameType | None
    ) -> StepFunction[P, R]:
        """Add a step that has a function; without a name it is called like its function."""
        plain = self._plain(function)
        chosen = (_own_name(plain) or None) if name is None else name
        reader = self.reader(f"step {quote(plain if chosen is None else chosen)}")
        if chosen is None:
            reader.note("the function has no name; give the step one: step(name='...')")
        called = quote(plain) if chosen is None else reader.name(chosen)
        signature = Signature.of(plain, caller)
        step = given.read(reader, called)
        for problem in [*signature.problems, *(_unfit_returns(signature) if given.output is None else ())]:
            reader.note(problem)
        declared = StepFunction(called, self.workflow, plain, signature, step.options)
        declared.compensation = self._compensation(given.compensate, called, step.options.compensate_retry, caller)
        undo = declared.compensation.label if declared.compensation else None
        self.functions.setdefault(called, declared)
        self.steps.append(replace(step, takes=declared.takes, takes_all=declared.takes_all, compensate=undo))
        return declared

    def _compensation(
        self, function: object, step: str, retry: Retry, caller: FrameType | None
    ) -> StepFunction[..., object] | None:
        """What undoes a step, read as a step's function is."""
        if function is None:
            return None
        reader = self.reader(f"step {quote(step)}")
        if not callable(function):
            reader.note(f"compensate={quote(function)} must be a function: what undoes the step")
            return None
        plain = self._plain(function)
        signature = Signature.of(plain, caller)
        for problem in signature.problems:
            reader.note(f"its compensation: {problem}")
        declared = StepFunction(step, self.workflow, plain, signature, Options(retry=retry))
        declared.label = _own_name(plain) or "compensation"
        return declared

    def _plain(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function itself, also of one that is a step already: of another workflow, or of this one by mistake."""
        while isinstance(function, StepFunction | staticmethod):
            function = function.function if isinstance(function, StepFunction) else function.__func__
        given: object = function
        if not callable(given):
            said = f"step() was given {quote(given)}, which cannot be called"
            raise DefinitionError(self.workflow, [f"{said}; options go by name: @workflow.step(name='load')"])
        return function

    def add_built_in(
        self, kind: StepKind, name: object, given: Given, settings: Mapping[str, str | float]
    ) -> StepReference:
        """Add a step without a function."""
        reader = self.reader(f"{kind} {quote(name)}")
        called = reader.name(name)
        self.steps.append(replace(given.read(reader, called), kind=kind, settings=settings))
        return StepReference(called, self.workflow)

    def add_sequence(self, steps: Iterable[object]) -> None:
        """Add a transition on "ok" from each step to the next."""
        reader = self.reader("sequence()")
        names = [reader.reference("a step", step) for step in steps]
        if len(names) == 1:
            reader.note(f"has one step only, {quote(names[0])}; it leads from step to step, so give it two or more")
        self.transitions += [
            Transition(source, Outcome.OK, target)
            for source, target in pairwise(names)
            if source is not None and target is not None
        ]

    def add_transition(self, source: object, outcome: object, target: object, recovery: object) -> None:
        """Add an edge."""
        reader = self.reader(f"transition from {_said(source)} on {quote(outcome)} to {_said(target)}")
        source_name, target_name = reader.reference("the source", source), reader.reference("to", target)
        named = reader.name(outcome, "the outcome")
        kept = None if recovery is None else reader.choice("recovery", recovery, RECOVERIES)
        if source_name is not None and target_name is not None:
            self.transitions.append(Transition(source_name, named, target_name, kept))


def _unfit_returns(signature: Signature) -> Iterator[str]:
    """Why what the function returns cannot be merged into the context."""
    if signature.returns.unusable:
        yield (
            f"it returns {' or '.join(signature.returns.unusable)}, which cannot be merged into the context; "
            "declare output='...' to store it under that key, or return a mapping or dataclass"
        )
    if SCHEDULE_KEY in signature.returns.keys:
        yield f"it returns the key {SCHEDULE_KEY!r}, which is reserved for runs that cron starts; rename it"


def _own_name(function: object) -> str:
    """What a function is called; empty for a lambda, and for what is called like a function but is none."""
    name = getattr(function, "__name__", "")
    return name if isinstance(name, str) and name != "<lambda>" else ""


def _said(reference: object) -> str:
    """A step, as problems name it."""
    if reference == COMPLETE:
        return "COMPLETE"
    return repr(reference.name) if isinstance(reference, StepReference) else quote(reference)
