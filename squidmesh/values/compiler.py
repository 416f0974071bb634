"""Type annotations compiled into shapes: once per contract or step, since shapes read every payload and parameter.

Supported: the scalars of ``scalars``, ``Any`` and ``object``, ``list``, ``tuple``, ``dict`` with text keys (also as
Sequence and Mapping), ``X | Y``, ``Literal``, ``Enum``, dataclasses, TypedDicts, and what these are wrapped in
(``NewType``, ``Annotated``, aliases). Anything else is refused when it is compiled, never when a value arrives.

A union gives the first member that fits, in the order written; of ``str | date`` it is always the text.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final, Literal, TypeGuard, Union, cast, get_args, get_origin
from uuid import UUID

from squidmesh.values import scalars, shapes
from squidmesh.values.fields import QUALIFIERS, Declared, Field, Record, UnsupportedType, declared, is_record
from squidmesh.values.misfit import Misfit, shortened
from squidmesh.values.shapes import ANY, DICT, LIST, NULL, TUPLE, Shape


def compile_type(annotation: object) -> Shape:
    """Compile an annotation; names in text must have been resolved (``typing.get_type_hints``).

    Raises:
        UnsupportedType: No value can be checked against it, or against a part of it.

    Example:
        >>> compile_type(list[date]).load(["2025-03-31"])
        [datetime.date(2025, 3, 31)]
    """
    compiler = Compiler()
    shape = compiler.compile(annotation)
    if compiler.problems:
        raise UnsupportedType("; ".join(compiler.problems))
    return shape


class Compiler:
    """Compiles annotations, each class once, and collects the fields whose types are not supported.

    Attributes:
        records: The dataclasses and TypedDicts met.
        problems: What is wrong with their fields.
    """

    def __init__(self) -> None:
        self.records: dict[type, Record] = {}
        self.problems: list[str] = []

    def compile(self, annotation: object) -> Shape:
        """Compile one annotation; raises UnsupportedType for it, but not for fields of classes in it."""
        try:
            return self._compile(annotation)
        except RecursionError:
            text = f"{type_text(annotation)} refers to itself: use a dataclass for that"
            raise UnsupportedType(text) from None

    def record(self, kind: type) -> Record:
        """The record of a dataclass or TypedDict; raises UnsupportedType if its annotations cannot be resolved."""
        if kind not in self.records:
            self.records[kind] = record = Record(kind)
            record.add([self._field(record, each) for each in declared(kind)])
        return self.records[kind]

    def _field(self, record: Record, field: Declared) -> Field:
        try:
            shape = self.compile(field.annotation)
        except UnsupportedType as error:
            self.problems.append(f"{record.name}.{field.name}: {error}")
            shape = ANY
        return Field(field.name, shape, field.required, field.default, field.factory)

    def _compile(self, annotation: object) -> Shape:
        annotation = _unwrapped(annotation)
        leaf = _leaf(annotation)
        if leaf is not None:
            return leaf
        if _is_enum(annotation):
            return _enum(annotation)
        if is_record(annotation):
            record = self.record(annotation)
            return Shape(record.name, record.read)
        return self._generic(annotation, get_origin(annotation), get_args(annotation))

    def _generic(self, annotation: object, origin: object, arguments: tuple[Any, ...]) -> Shape:
        if origin in _UNIONS:
            return shapes.union_of([self._compile(each) for each in arguments])
        if origin is Literal:
            return shapes.literal_of(arguments)
        if origin is tuple:
            return self._tuple(arguments)
        if origin in _LISTS:
            return shapes.list_of(self._compile(arguments[0])) if arguments else LIST
        if origin in _DICTS:
            return self._dict(annotation, arguments) if arguments else DICT
        raise UnsupportedType(_not_supported(annotation))

    def _tuple(self, arguments: tuple[Any, ...]) -> Shape:
        if arguments[1:] == (Ellipsis,):
            return shapes.tuple_of(self._compile(arguments[0]))
        return shapes.fixed_tuple([self._compile(each) for each in arguments])

    def _dict(self, annotation: object, arguments: tuple[Any, ...]) -> Shape:
        key, value = arguments
        if _unwrapped(key) is not str:
            raise UnsupportedType(f"{type_text(annotation)}: keys of JSON objects are text, so use dict[str, ...]")
        return shapes.dict_of(self._compile(value))


def type_text(annotation: object) -> str:
    """An annotation for a message."""
    text = annotation.__qualname__ if isinstance(annotation, type) else repr(annotation)
    return shortened(text.replace("typing.", ""), 80)


def _is_enum(annotation: object) -> TypeGuard[type[Enum]]:
    return isinstance(annotation, type) and issubclass(annotation, Enum)


def _enum(kind: type[Enum]) -> Shape:
    try:
        return shapes.enum_of(kind)
    except Misfit as misfit:
        raise UnsupportedType(f"{kind.__name__} has a member that cannot be stored: {misfit}") from None


def _unwrapped(annotation: object) -> object:
    """The annotation without what it is wrapped in: qualifiers, ``NewType``, aliases of the ``type`` statement."""
    while True:
        if get_origin(annotation) in QUALIFIERS:
            annotation = get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = cast("Any", annotation).__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = cast("Any", annotation).__value__
        else:
            return annotation


def _leaf(annotation: object) -> Shape | None:
    try:
        return _LEAVES.get(annotation)
    except TypeError:  # not hashable, hence no type
        return None


def _not_supported(annotation: object) -> str:
    if isinstance(annotation, str):
        return f"the annotation {annotation!r} is text: resolve it with typing.get_type_hints"
    remedy = _REMEDIES.get(get_origin(annotation) or annotation, "use a dataclass, or a type that JSON can hold")
    return f"the type {type_text(annotation)} is not supported: {remedy}"


_UNIONS: Final[tuple[object, ...]] = (Union, types.UnionType)
_LISTS: Final[tuple[object, ...]] = (list, Sequence, MutableSequence)
_DICTS: Final[tuple[object, ...]] = (dict, Mapping, MutableMapping)

_LEAVES: Final[dict[object, Shape]] = {
    Any: ANY,
    object: ANY,
    None: NULL,
    type(None): NULL,
    str: Shape("str", scalars.read_text, str),
    int: Shape("int", scalars.read_int, int),
    bool: Shape("bool", scalars.read_bool, bool),
    float: Shape("float", scalars.read_float),
    date: Shape("date", scalars.read_date),
    datetime: Shape("datetime", scalars.read_datetime),
    time: Shape("time", scalars.read_time),
    timedelta: Shape("timedelta", scalars.read_timedelta),
    Decimal: Shape("Decimal", scalars.read_decimal),
    UUID: Shape("UUID", scalars.read_uuid),
    tuple: TUPLE,
    **dict.fromkeys(_LISTS, LIST),
    **dict.fromkeys(_DICTS, DICT),
}

_REMEDIES: Final[dict[object, str]] = {
    bytes: "JSON has no bytes, so use str and base64",
    set: "use list[...]",
    frozenset: "use list[...]",
    complex: "use two floats",
}
