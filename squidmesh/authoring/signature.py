"""Reads a step's function: its parameters are the step's input, its return annotation tells of the output.

Everything is looked up once, when the step is declared: the shape of each parameter, who wants the context object,
whether the function is a coroutine. Nothing here calls the function.
"""

from __future__ import annotations

import functools
import inspect
import types
import typing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from squidmesh.authoring.returns import ANYTHING, Returns
from squidmesh.context import Context
from squidmesh.values.compiler import compile_type
from squidmesh.values.fields import UnsupportedType
from squidmesh.values.shapes import ANY, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import FrameType

    Function: TypeAlias = Callable[..., object]

_EMPTY: Final = inspect.Parameter.empty
_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Slot:
    """A parameter that is filled from the run.

    Args:
        name: Its name, and the key that it is filled with.
        shape: What fits it.
        required: Whether the key must be there.
    """

    name: str
    shape: Shape
    required: bool


@dataclass(slots=True)
class Signature:
    """What calling a step's function needs.

    Args:
        slots: The parameters that are filled from the run.
        rest: What fits the values of ``**state``; None if it has no such parameter.
        context: The parameter that receives the context object.
        bound: The parameters that a ``functools.partial`` has filled for good.
        is_async: Whether calling it gives an awaitable.
        returns: What its return annotation tells.
        problems: Why it cannot be a step, each with its remedy.
    """

    slots: list[Slot] = field(default_factory=list[Slot])
    rest: Shape | None = None
    context: str | None = None
    bound: frozenset[str] = frozenset()
    is_async: bool = False
    returns: Returns = ANYTHING
    problems: list[str] = field(default_factory=list[str])

    @staticmethod
    def of(function: Function, caller: FrameType | None = None) -> Signature:
        """Read a function.

        Args:
            function: Anything that can be called.
            caller: Where it is declared: annotations may name what is local there.
        """
        read = Signature(problems=list(_unfit(function)))
        if read.problems:
            return read
        try:
            declared = inspect.signature(function)
        except (NameError, TypeError, ValueError) as error:
            read.problems.append(f"its signature cannot be read ({error}); wrap it in a function of your own")
            return read
        read.is_async = inspect.iscoroutinefunction(_called(function))
        read.bound = _bound(function)
        scope = _Scope.of(function, caller)
        for number, parameter in enumerate(declared.parameters.values()):
            if parameter.name not in read.bound:
                read._add(parameter, scope, first=number == 0)
        read.returns = _read_returns(declared.return_annotation, scope)
        return read

    def _add(self, parameter: inspect.Parameter, scope: _Scope, *, first: bool) -> None:
        try:
            _refuse_unfit(parameter, first=first)
            annotation = scope.resolve(parameter.annotation)
            if annotation is Context and parameter.kind in _BY_NAME:
                self._take_context(parameter.name)
                return
            shape = _shape(annotation)
        except UnsupportedType as error:
            self.problems.append(f"parameter {parameter.name!r}: {error}")
            return
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            self.rest = shape
        else:
            self.slots.append(Slot(parameter.name, shape, parameter.default is _EMPTY))

    def _take_context(self, name: str) -> None:
        if self.context is not None:
            raise UnsupportedType(f"the parameter {self.context!r} receives the context object already; keep one")
        self.context = name


@dataclass(frozen=True, slots=True)
class _Scope:
    """Where the names in a function's annotations are looked up."""

    outer: dict[str, object]
    local: Mapping[str, object]

    @staticmethod
    def of(function: Function, caller: FrameType | None) -> _Scope:
        outer = getattr(_written(function), "__globals__", {})
        # A function from another module means that module's names, whatever they are called here.
        local = caller.f_locals if caller is not None and caller.f_globals is outer else {}
        return _Scope(outer, local)

    def resolve(self, annotation: object) -> object:
        """The annotation with names in text looked up; raises UnsupportedType when one is not found."""
        if annotation is _EMPTY:
            return annotation
        carrier = types.SimpleNamespace(__annotations__={"it": annotation})
        try:
            return typing.get_type_hints(carrier, self.outer, dict(self.local), include_extras=True)["it"]
        except NameError as error:
            remedy = "import or declare it where the step is declared, and not under TYPE_CHECKING"
            raise UnsupportedType(f"its annotation names {error.name!r}, which cannot be found; {remedy}") from error
        except Exception as error:  # text in annotations is the author's code, and may raise anything
            raise UnsupportedType(f"its annotation {annotation!r} cannot be read: {error}") from error


def _read_returns(annotation: object, scope: _Scope) -> Returns:
    try:
        return Returns.of(scope.resolve(annotation))
    except UnsupportedType:  # only a hint: a type that is imported for type checkers alone is no mistake here
        return ANYTHING


def _unfit(function: Function) -> Iterator[str]:
    """Why this cannot be a step at all."""
    called = _called(function)
    if inspect.isclass(function):
        yield "it is a class; declare a function, or an instance that can be called"
    elif inspect.isgeneratorfunction(called) or inspect.isasyncgenfunction(called):
        yield "it yields; a step returns its output at once, so collect the values and return them"


def _refuse_unfit(parameter: inspect.Parameter, *, first: bool) -> None:
    """Raise UnsupportedType for a parameter that cannot be filled by name."""
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
        raise UnsupportedType("a step is called with names only; replace it with the keys that it needs, or **state")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise UnsupportedType("a step is called with names only; move it behind the / or take the / away")
    if first and parameter.name in ("self", "cls") and parameter.annotation is _EMPTY:
        remedy = "declare the bound one, as in workflow.step(service.charge), or a plain function"
        raise UnsupportedType(f"the function is a method without its object; {remedy}")


def _shape(annotation: object) -> Shape:
    if annotation is _EMPTY:
        return ANY
    if Context in (annotation, *typing.get_args(annotation)):
        raise UnsupportedType("the context object is always there; annotate one parameter with Context alone")
    return compile_type(annotation)


def _bound(function: object) -> frozenset[str]:
    """The parameters that a partial has filled by name."""
    keywords = cast("functools.partial[object]", function).keywords if isinstance(function, functools.partial) else {}
    return frozenset(keywords)


def _called(function: object) -> object:
    """What runs when ``function`` is called: for a partial its function, for an object its ``__call__``."""
    called: object = function
    while isinstance(called, functools.partial):
        called = cast("functools.partial[object]", called).func
    return called if inspect.isroutine(called) or inspect.isclass(called) else type(called).__call__


def _written(function: Function) -> object:
    """The function whose annotations ``inspect.signature`` shows: the innermost one of all wrappers."""
    called = _called(function)
    return _called(inspect.unwrap(called)) if callable(called) else called
