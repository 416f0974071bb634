"""What a test arranges for steps: another function, an error at an attempt, no end in time, a worker that dies."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, Self, TypeAlias, cast, get_args

from squidmesh.authoring.functions import StepFunction
from squidmesh.authoring.reading import StepReference
from squidmesh.authoring.signature import Signature
from squidmesh.errors import InvalidOption
from squidmesh.records import JobKind
from squidmesh.values.shapes import ANY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
    from types import FrameType

    from squidmesh.authoring.reading import Reference
    from squidmesh.context import Context
    from squidmesh.registry import Registry
    from squidmesh.worker.ticket import Ticket

Faulty: TypeAlias = "Reference | Callable[..., object]"
"""A step, or what undoes one."""

StepKey: TypeAlias = tuple[str, str, str]
"""Workflow, step, and whether its job is the step or the compensation."""

Moment: TypeAlias = Literal["in_body", "before_commit", "after_commit"]

MOMENTS: Final = get_args(Moment)

RECORDED: Final = (Exception, SystemExit, asyncio.CancelledError, GeneratorExit)
"""What a step may raise as a failure of its own; all else (Ctrl-C, ``pytest.fail``) is meant for the test."""


class Crash(BaseException):
    """Raised in a step, or in what replaces it, kills the worker there: nothing of the attempt is stored."""


class OutOfTime(BaseException):
    """Raised in place of a body whose time is up."""


class _Arranged:
    """Something that holds from its making until ``end`` is called, the ``with`` block ends, or the harness closes."""

    def __init__(self, step: StepKey, faults: Faults) -> None:
        self.step = step
        self._faults = faults
        faults.arranged.append(self)

    def end(self) -> None:
        """Let the step be as it was."""
        if self in self._faults.arranged:
            self._faults.arranged.remove(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function that replaces a step's.

    Args:
        arguments: What it was called with, by parameter.
        context: Where: run, visit, attempt, state.
    """

    arguments: Mapping[str, object]
    context: Context


class Replacement(_Arranged):
    """A function in place of a step's own.

    Attributes:
        calls: How it was called, in order.
    """

    def __init__(self, step: StepKey, faults: Faults, function: StepFunction[..., object]) -> None:
        super().__init__(step, faults)
        self.function = function
        self.calls: list[Call] = []


class Failing(_Arranged):
    """An error in place of some of a step's attempts.

    Attributes:
        count: How often it was raised.
    """

    def __init__(
        self,
        step: StepKey,
        faults: Faults,
        error: BaseException | type[BaseException],
        hits: Callable[[int], bool],
    ) -> None:
        super().__init__(step, faults)
        self.error = error
        self.hits = hits
        self.count = 0


class Crashing(_Arranged):
    """The death of the worker, the next few times that it runs a step.

    Attributes:
        count: How often it has died.
    """

    def __init__(self, step: StepKey, faults: Faults, when: Moment, times: int) -> None:
        super().__init__(step, faults)
        self.when: Moment = when
        self.times = times
        self.count = 0


@dataclass(slots=True)
class Dress:
    """What one attempt went through beside its function.

    Args:
        crash: The worker's death that was arranged for it.
        crashed: Whether the worker has died in the body.
        late: Whether the body did not end in time.
        escaped: What was raised in the body and is meant for the test.
    """

    crash: Crashing | None = None
    crashed: bool = False
    late: bool = False
    escaped: BaseException | None = None

    @property
    def dies(self) -> Moment | None:
        """When the worker is to die."""
        return None if self.crash is None else self.crash.when


@dataclass(slots=True)
class Faults:
    """Everything that is arranged, the latest last: it wins.

    Args:
        registry: Knows the steps.
    """

    registry: Registry
    arranged: list[_Arranged] = field(default_factory=list[_Arranged])

    # -- arranging -----------------------------------------------------------------------------------------------

    def replace(self, step: Faulty, function: Callable[..., object], caller: FrameType | None) -> Replacement:
        """Replace a step's function."""
        key, old = self._find(step)
        signature = Signature.of(function, caller)
        if signature.problems:
            raise InvalidOption("function", "; ".join(signature.problems))
        _take_context(signature, old.context_parameter)
        return Replacement(key, self, StepFunction(old.name, old.workflow, function, signature, old.options))

    def fail(
        self,
        step: Faulty,
        error: BaseException | type[BaseException],
        attempts: Iterable[int] | None,
        first: int | None,
    ) -> Failing:
        """Raise an error at some attempts, in place of running the body."""
        key, _ = self._find(step)
        if not _can_be_raised(error):
            raise InvalidOption("error", f"must be an exception, or the class of one, not {error!r}")
        return Failing(key, self, error, _chosen(attempts, first))

    def time_out(self, step: Faulty, attempts: Iterable[int] | None, first: int | None) -> Failing:
        """Have some attempts not end in time, in place of running the body."""
        key, function = self._find(step)
        if function.timeout is None:
            raise InvalidOption("step", f"{function.name!r} has no time-out; declare it with step(timeout=...)")
        return Failing(key, self, OutOfTime, _chosen(attempts, first))

    def crash(self, step: Faulty, when: str, times: int) -> Crashing:
        """Kill the worker the next ``times`` times that it runs the step."""
        key, _ = self._find(step)
        if when not in MOMENTS:
            raise InvalidOption("when", f"must be one of {', '.join(map(repr, MOMENTS))}, not {when!r}")
        return Crashing(key, self, cast("Moment", when), times)

    def _find(self, step: Faulty) -> tuple[StepKey, StepFunction[..., object]]:
        """The one that is meant: what its declaration returned, its name, or ``"workflow/step"``; or what undoes it."""
        found = {key: function for key, function in self._all() if _means(step, key[0], function)}
        if len(found) != 1:
            said = ", ".join(map(_said, found)) if found else "none of the harness's workflows has it"
            problem = "is the name of several" if found else "is no step with a function"
            raise InvalidOption("step", f"{step!r} {problem}: {said}")
        ((key, function),) = found.items()
        return key, function

    def _all(self) -> Iterator[tuple[StepKey, StepFunction[..., object]]]:
        for name, workflow in self.registry.workflows.items():
            for step, function in workflow.functions.items():
                yield (name, step, JobKind.STEP), function
                if function.compensation is not None:
                    yield (name, step, JobKind.COMPENSATION), function.compensation

    # -- applying ------------------------------------------------------------------------------------------------

    def dress(self, ticket: Ticket) -> Dress:
        """Give a ticket the function that it is to run, with what was arranged for it."""
        dress = Dress()
        original = ticket.function
        if original is None:
            return dress
        mine = [each for each in self.arranged if each.step == (ticket.run.workflow, ticket.job.step, ticket.job.kind)]
        replaced = [each for each in mine if isinstance(each, Replacement)]
        failing = [each for each in mine if isinstance(each, Failing) and each.hits(ticket.job.attempt)]
        crashing = [each for each in mine if isinstance(each, Crashing) and each.count < each.times]
        if crashing:
            dress.crash = crashing[-1]
        replacement = replaced[-1] if replaced else None
        function = copy.copy(replacement.function if replacement else original)

        def begin(arguments: dict[str, object]) -> None:
            if dress.crash is not None and dress.crash.when == "in_body":
                raise Crash
            if failing:
                failing[-1].count += 1
                raise failing[-1].error
            if replacement is not None:
                replacement.calls.append(Call(arguments, ticket.context()))

        function.call = _watched(function, begin, dress)
        ticket.function = function
        return dress


def _means(step: Faulty, workflow: str, function: StepFunction[..., object]) -> bool:
    """Whether a step, or what undoes it, is the one that is meant."""
    if isinstance(step, str):  # a compensation has its function's name
        return step in (function.label, f"{workflow}/{function.label}")
    if isinstance(step, StepReference):
        return step is function
    return step == function.function


def _said(key: StepKey) -> str:
    workflow, step, kind = key
    return f"{workflow}/{step}" if kind == JobKind.STEP else f"what undoes {workflow}/{step}"


def _chosen(attempts: Iterable[int] | None, first: int | None) -> Callable[[int], bool]:
    """Whether an attempt, by its number, is one of those that are given."""
    if attempts is not None and first is not None:
        raise InvalidOption("attempts", "give either attempts= or first=, not both")
    return (frozenset(attempts) if attempts is not None else frozenset(range(1, (first or 1) + 1))).__contains__


def _take_context(signature: Signature, name: str | None) -> None:
    """Give a fake the context under the name that the step itself has for it: a lambda cannot annotate it."""
    mine = [slot for slot in signature.slots if slot.name == name and slot.shape is ANY]
    if mine and signature.context is None:
        signature.slots.remove(mine[0])
        signature.context = name


def _can_be_raised(error: object) -> bool:
    kind = error if isinstance(error, type) else type(error)
    return issubclass(kind, BaseException)


def _watched(
    function: StepFunction[..., object], begin: Callable[[dict[str, object]], None], dress: Dress
) -> Callable[..., object]:
    """The function's call, with ``begin`` in front, which tells what is not the step's own failure."""
    call = function.call

    def note(error: BaseException) -> None:
        if isinstance(error, Crash):
            dress.crashed = True
        elif isinstance(error, OutOfTime):
            dress.late = True
        elif not isinstance(error, RECORDED):
            dress.escaped = error

    def watched(**arguments: Any) -> object:
        try:
            begin(arguments)
            return call(**arguments)
        except BaseException as error:
            note(error)
            raise

    async def watched_async(**arguments: Any) -> object:
        try:
            begin(arguments)
            return await cast("Awaitable[object]", call(**arguments))
        except BaseException as error:
            note(error)
            raise

    return watched_async if function.is_async else watched
