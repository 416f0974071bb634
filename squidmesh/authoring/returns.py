"""What a step's return annotation tells: which keys it adds to the context, or that it cannot be an output at all.

Annotations are hints: what a step really returns is judged when it has returned.
"""

from __future__ import annotations

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Never, NewType, NoReturn, TypeAlias, Union, cast

from squidmesh.context import Outcome
from squidmesh.values.misfit import shortened

Annotation: TypeAlias = object


@dataclass(frozen=True, slots=True)
class Returns:
    """What is known of a step's output.

    Args:
        keys: The keys that it may have.
        anything: Whether it may have any other key as well.
        nothing: Whether the step is annotated to return None, and only None.
        unusable: The types among the annotation that can be merged into nothing.
    """

    keys: frozenset[str] = frozenset()
    anything: bool = False
    nothing: bool = False
    unusable: tuple[str, ...] = ()

    @staticmethod
    def of(annotation: Annotation) -> Returns:
        """What a return annotation tells; ``inspect.Signature.empty`` for none."""
        bare: Any = _bare(annotation)
        if bare in (None, types.NoneType):
            return Returns(nothing=True)
        if bare in (NoReturn, Never):
            return Returns()
        if typing.get_origin(bare) in (Union, types.UnionType):
            return _merged([Returns.of(member) for member in typing.get_args(bare)])
        if typing.get_origin(bare) is Literal:
            values: tuple[object, ...] = typing.get_args(bare)
            return _merged([Returns.of(type(value)) for value in values])
        kind: object = typing.get_origin(bare) or bare
        return _of_class(cast("type[Any]", kind)) if isinstance(kind, type) else ANYTHING


ANYTHING: Final = Returns(anything=True)
"""What is known of a function without a return annotation."""


def _of_class(kind: type[Any]) -> Returns:
    if kind in (inspect.Signature.empty, Any, object, Outcome) or getattr(kind, "_is_protocol", False):
        return ANYTHING
    if typing.is_typeddict(kind):
        return Returns(keys=frozenset(typing.get_type_hints(kind)))
    if dataclasses.is_dataclass(kind):
        return Returns(keys=frozenset(field.name for field in dataclasses.fields(kind)))
    if issubclass(kind, Mapping):
        return ANYTHING
    return Returns(unusable=(shortened(kind.__qualname__, 80),))


def _bare(annotation: Annotation) -> Annotation:
    """The annotation without what only other tools read, and without the names it goes by."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # ``type Name = ...``, from Python 3.12 on
            annotation = getattr(annotation, "__value__", Any)
        else:
            return annotation


def _merged(members: list[Returns]) -> Returns:
    return Returns(
        keys=frozenset[str]().union(*(member.keys for member in members)),
        anything=any(member.anything for member in members),
        nothing=all(member.nothing for member in members),
        unusable=tuple(dict.fromkeys(name for member in members for name in member.unusable)),
    )
