"""Shapes: what fits a type, as a reader with a name. Those of containers are made from those of their parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

from squidmesh.values import scalars
from squidmesh.values.jsonable import key_text
from squidmesh.values.misfit import Misfit, Problem, convert_list, convert_object
from squidmesh.values.scalars import LENIENT, STRICT, Mode, Reader, must_be

if TYPE_CHECKING:
    from datetime import datetime
    from enum import Enum


@dataclass(frozen=True, slots=True)
class Shape:
    """What fits an annotation.

    Args:
        text: The annotation, for people.
        read: Gives the value that a JSON value stands for.
        plain: The type whose values fit as they are.
    """

    text: str
    read: Reader
    plain: type | None = None

    def load(self, value: object, path: str = "", *, lenient: bool = False, now: datetime | None = None) -> object:
        """The Python value that a JSON value stands for. Lists and dicts may be the very ones that were given.

        Args:
            value: A JSON value, or a value of the annotated type.
            path: Where it is, for messages.
            lenient: It comes from storage: see ``Mode``.
            now: What ``today()`` and ``now()`` in defaults stand for.

        Raises:
            Misfit: It does not fit; with every problem and its path.
        """
        if type(value) is self.plain:
            return value
        mode = Mode(lenient, now) if now else LENIENT if lenient else STRICT
        try:
            return self.read(value, mode)
        except Misfit as misfit:
            raise Misfit(misfit.rooted(path)) from misfit
        except RecursionError:
            raise Misfit([Problem(path, "nested too deeply, or contains itself: flatten it")]) from None


def list_of(item: Shape) -> Shape:
    """A list, every item of one shape."""
    if item is ANY:
        return LIST

    def read(value: object, mode: Mode) -> object:
        return convert_list(_listed(value), item.read, mode)

    return Shape(f"list[{item.text}]", read)


def tuple_of(item: Shape) -> Shape:
    """A tuple of any length, every item of one shape; a list in JSON."""

    def read(value: object, mode: Mode) -> object:
        return tuple(convert_list(_listed(value), item.read, mode))

    return Shape(f"tuple[{item.text}, ...]", read)


def fixed_tuple(items: Sequence[Shape]) -> Shape:
    """A tuple with a shape for each item."""

    def read(value: object, mode: Mode) -> object:
        given = _listed(value)
        if len(given) != len(items):
            raise Misfit.because(f"must be a list of {len(items)} items, not {len(given)}")
        return tuple(convert_list(zip(items, given, strict=True), _read_pair, mode))

    return Shape(f"tuple[{', '.join(item.text for item in items) or '()'}]", read)


def dict_of(item: Shape) -> Shape:
    """A dict with text keys, every value of one shape."""
    if item is ANY:
        return DICT

    def read(value: object, mode: Mode) -> object:
        return convert_object(_mapped(value), key_text, item.read, mode)

    return Shape(f"dict[str, {item.text}]", read)


def union_of(members: Sequence[Shape]) -> Shape:
    """The first of several shapes that fits. From storage, one that fits exactly goes before a lenient fit."""
    text = " | ".join(each.text for each in members)
    others = [each for each in members if each is not NULL]
    inner = others[0].read if len(others) == 1 else _any_of(others, text)

    def read(value: object, mode: Mode) -> object:
        return None if value is None else inner(value, mode)

    return Shape(text, inner if len(others) == len(members) else read)


def literal_of(choices: Sequence[object]) -> Shape:
    """One of some values."""
    return Shape(f"Literal[{', '.join(map(repr, choices))}]", scalars.one_of(choices))


def enum_of(kind: type[Enum]) -> Shape:
    """A member of an Enum, by value; raises Misfit if a value cannot be stored."""
    return Shape(kind.__name__, scalars.one_of(kind))


def _any_of(members: Sequence[Shape], text: str) -> Reader:
    def read(value: object, mode: Mode) -> object:
        said: list[str] = []
        for each_mode in (Mode(now=mode.now), mode) if mode.lenient else (mode,):
            said.clear()
            for member in members:
                try:
                    return member.read(value, each_mode)
                except Misfit as misfit:
                    said.append(str(Misfit(misfit.rooted("")[:1])))
        raise Misfit.because(f"fits none of {text}: {'; '.join(said)}")

    return read


def _read_pair(pair: Any, mode: Mode) -> object:
    shape, value = pair
    return shape.read(value, mode)


def _read_list(value: object, mode: Mode) -> object:
    del mode
    return list(_listed(value))


def _read_tuple(value: object, mode: Mode) -> object:
    del mode
    return tuple(_listed(value))


def _read_dict(value: object, mode: Mode) -> object:
    del mode
    return dict(_mapped(value))


def _listed(value: object) -> Sequence[object]:
    if not isinstance(value, (list, tuple)):
        raise must_be("a list", value)
    return cast("Sequence[object]", value)


def _mapped(value: object) -> Mapping[object, object]:
    if not isinstance(value, Mapping):
        raise must_be("an object", value)
    return cast("Mapping[object, object]", value)


ANY: Final = Shape("Any", scalars.read_anything)
NULL: Final = Shape("None", scalars.read_null)
LIST: Final = Shape("list", _read_list, list)
TUPLE: Final = Shape("tuple", _read_tuple)
DICT: Final = Shape("dict", _read_dict, dict)
