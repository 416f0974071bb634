"""Dataclasses and TypedDicts, field by field: what each declares, and how one is filled from a JSON object.

A dataclass is read by building it, so its ``__post_init__`` checks what no annotation can say. It may run more than
once for one payload (a caller's instance is read like an object), so it must give the same result every time.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import MISSING, InitVar, dataclass, field
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    NamedTuple,
    NotRequired,
    Required,
    TypeGuard,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit, Problem, label, member, shortened
from squidmesh.values.scalars import Mode, must_be

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.values.shapes import Shape

QUALIFIERS: Final = frozenset({Annotated, Required, NotRequired, Final})
"""What an annotation is wrapped in without changing what fits it."""


class UnsupportedType(TypeError):
    """An annotation that no value can be checked against; says which and what to use. Collected by validation."""


class Declared(NamedTuple):
    """A field as its class declares it."""

    name: str
    annotation: object
    required: bool
    default: object = MISSING
    factory: Callable[[], object] | None = None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a contract.

    Args:
        name: Its name.
        shape: What fits it.
        required: Whether it must be given. Given means present: null is a value like any other.
        default: What stands in for an absent one; ``dataclasses.MISSING`` for none.
        factory: Makes the default, each time anew.
    """

    name: str
    shape: Shape
    required: bool
    default: object = MISSING
    factory: Callable[[], object] | None = None

    def value(self, given: Mapping[object, object], mode: Mode) -> object:
        """The field's value, or MISSING; raises Misfit for one that does not fit, wherever it came from."""
        value = given.get(self.name, MISSING)
        if value is MISSING:
            value = self.default if self.factory is None else _made(self.factory)
        if isinstance(value, Marker):
            return value.read_as(self.shape, mode)
        return value if value is MISSING else self.shape.read(value, mode)


@dataclass(frozen=True, slots=True)
class Marker:
    """What ``today()`` and ``now()`` return: stands for a moment that is known when a run is created.

    Args:
        name: How it was written.
        at: The moment's value.
        fits: The types that it fits.
    """

    name: str
    at: Callable[[datetime], object]
    fits: str

    def read_as(self, shape: Shape, mode: Mode) -> object:
        """The moment as the shape wants it: itself, else as text."""
        if mode.now is None:
            raise Misfit.because(f"{self.name} stands for a value only while a run is created: pass a value")
        moment: Any = self.at(mode.now)
        try:
            return shape.read(moment, mode)
        except Misfit:
            return shape.read(moment.isoformat(), mode)


@dataclass(slots=True)
class Filled:
    """What a record was filled with, and what stood in the way."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    computed: dict[str, object] = field(default_factory=dict[str, object])
    missing: list[str] = field(default_factory=list[str])
    unknown: list[str] = field(default_factory=list[str])
    problems: list[Problem] = field(default_factory=list[Problem])

    @property
    def complete(self) -> bool:
        """Whether the record can be built."""
        return not (self.missing or self.unknown or self.problems)


class Record:
    """A dataclass or TypedDict, or nothing at all (``kind`` None: an object without fields).

    Its fields are added after it is made, since one of them may hold records of the same kind.
    """

    __slots__ = ("computed", "fields", "kind", "known", "name")

    def __init__(self, kind: type | None) -> None:
        self.kind: type[Any] | None = kind
        self.name = kind.__name__ if kind else "no payload"
        self.fields: tuple[Field, ...] = ()
        self.computed = frozenset(computed_names(kind)) if kind else frozenset[str]()
        self.known: frozenset[object] = frozenset()

    def add(self, fields: list[Field]) -> None:
        """Give the record its fields, in the order of their declaration."""
        self.fields = tuple(fields)
        self.known = self.computed.union(each.name for each in fields)

    def read(self, value: object, mode: Mode) -> object:
        """The record that an object (or an instance) stands for; raises Misfit with all problems."""
        filled = self.fill(self.given(value), mode)
        if not filled.complete:
            absent = [Problem(member(name), "required, but missing") for name in filled.missing]
            extra = [Problem(member(name), f"not a field of {self.name}") for name in filled.unknown]
            raise Misfit(absent + extra + filled.problems)
        return self.build(filled, mode)

    def given(self, value: object) -> Mapping[object, object]:
        """What was given for each field; an instance of a subclass also gives the fields that it adds."""
        if self.is_instance(value):
            names = [each.name for each in dataclasses.fields(value) if each.init]  # type: ignore[arg-type]
            return {name: getattr(value, name) for name in names if hasattr(value, name)}
        if isinstance(value, Mapping):
            return value  # pyright: ignore[reportUnknownVariableType]
        raise must_be(f"an object with the fields of {self.name}", value)

    def is_instance(self, value: object) -> bool:
        """Whether the value already is of the dataclass."""
        return self.kind is not None and dataclasses.is_dataclass(self.kind) and isinstance(value, self.kind)

    def fill(self, given: Mapping[object, object], mode: Mode) -> Filled:
        """Read each field, and note all that is wrong."""
        filled = Filled()
        for each in self.fields:
            try:
                value = each.value(given, mode)
            except Misfit as misfit:
                filled.problems += misfit.under(member(each.name))
                continue
            if value is not MISSING:
                filled.values[each.name] = value
            elif each.required:
                filled.missing.append(each.name)
        if not mode.lenient:
            filled.unknown = sorted(label(key) for key in given if key not in self.known)
            filled.computed = {name: given[name] for name in self.computed if name in given}
        return filled

    def build(self, filled: Filled, mode: Mode) -> object:
        """Make the record; raises Misfit when its own checks refuse."""
        if self.kind is None or not dataclasses.is_dataclass(self.kind):
            return filled.values
        try:
            built = self.kind(**filled.values)
        except Exception as error:
            raise Misfit.because(_told(error)) from error
        if not mode.lenient:
            wrong = [name for name, value in filled.computed.items() if not _same(getattr(built, name, None), value)]
            if wrong:
                raise Misfit(Problem(member(name), f"computed by {self.name}: leave it out") for name in wrong)
        return built


def is_record(annotation: object) -> TypeGuard[type]:
    """Whether this is a dataclass or a TypedDict (the class, not an instance)."""
    return _is_typed_dict(annotation) or (isinstance(annotation, type) and dataclasses.is_dataclass(annotation))


def computed_names(kind: type) -> list[str]:
    """Fields that the class fills itself (``field(init=False)``): stored, and accepted only as they would come out."""
    return [each.name for each in dataclasses.fields(kind) if not each.init] if dataclasses.is_dataclass(kind) else []


def declared(kind: type) -> list[Declared]:
    """The fields of a dataclass or TypedDict, in the order of their declaration.

    Raises:
        UnsupportedType: An annotation cannot be resolved, or is an ``InitVar``.
    """
    hints = _hints(kind)
    if _is_typed_dict(kind):
        return [Declared(name, hint, _is_required(kind, name, hint)) for name, hint in hints.items()]
    for name, hint in hints.items():
        if isinstance(hint, InitVar) or hint is InitVar:
            raise UnsupportedType(f"{kind.__name__}.{name} is an InitVar, which cannot be stored: make it a field")
    return [_declared_field(each, hints) for each in dataclasses.fields(kind) if each.init]


def _declared_field(each: dataclasses.Field[Any], hints: dict[str, object]) -> Declared:
    factory = None if each.default_factory is MISSING else each.default_factory
    required = each.default is MISSING and factory is None
    return Declared(each.name, hints[each.name], required, each.default, factory)


def _hints(kind: type) -> dict[str, object]:
    """The annotations of a class, with names in text resolved."""
    try:
        try:
            return get_type_hints(kind, include_extras=True)
        except NameError:  # a class declared in a function does not find itself
            return get_type_hints(kind, localns={kind.__name__: kind}, include_extras=True)
    except NameError as error:
        where = "at the top of the module, not inside a function or under TYPE_CHECKING"
        raise UnsupportedType(
            f"{kind.__name__}: its annotations name {error.name!r}, which cannot be found from module "
            f"{kind.__module__!r}: declare or import it {where}"
        ) from error
    except (AttributeError, SyntaxError, TypeError) as error:
        raise UnsupportedType(f"{kind.__name__}: its annotations cannot be read: {error}") from error


def _is_typed_dict(annotation: object) -> bool:
    """Whether this is a TypedDict, that of typing_extensions included."""
    return is_typeddict(annotation) or (hasattr(annotation, "__required_keys__") and hasattr(annotation, "__total__"))


def _is_required(kind: Any, name: str, hint: object) -> bool:
    """Whether a TypedDict wants the key. ``__required_keys__`` does not see through annotations that were text."""
    while (origin := get_origin(hint)) in QUALIFIERS:
        if origin in (Required, NotRequired):
            return origin is Required
        hint = get_args(hint)[0]
    return name in kind.__required_keys__


def _made(factory: Callable[[], object]) -> object:
    try:
        return factory()
    except Exception as error:
        raise Misfit.because(f"its default_factory failed: {_told(error)}") from error


def _same(computed: object, given: object) -> bool:
    try:
        return bool(to_json(computed) == to_json(given))
    except Misfit:
        return False


def _told(error: Exception) -> str:
    """What the caller's own code said; a ValueError speaks for itself."""
    text = shortened(str(error), 200)
    return text if isinstance(error, ValueError) and text else f"{type(error).__name__}: {text}"
