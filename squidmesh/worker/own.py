"""Objects of one's own for a step's body: one that changes its input must not change that of others."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final, Self, cast

from squidmesh.context import Context

if TYPE_CHECKING:
    from squidmesh.records import JSON, JSONObject

_COPIED: Final = ("payload", "state")
_TAKEN_OVER: Final = tuple(field.name for field in fields(Context) if field.name not in _COPIED)


def own(value: JSON) -> JSON:
    """A copy of a JSON value that shares nothing with it that can be changed."""
    if type(value) is dict:
        return {key: own(item) for key, item in cast("JSONObject", value).items()}
    if type(value) is list:
        return [own(item) for item in value]  # pyright: ignore[reportUnknownVariableType] - JSON is Any
    return value


class OwnContext(Context):
    """A context whose payload and state are copied when they are first looked at, which most steps never do.

    A copy of a megabyte takes longer than everything else that is done for a step.
    """

    __slots__ = ("_shared",)
    _shared: Context

    @classmethod
    def of(cls, shared: Context) -> Self:
        """The same context for one body."""
        found = object.__new__(cls)
        object.__setattr__(found, "_shared", shared)
        for name in _TAKEN_OVER:
            object.__setattr__(found, name, getattr(shared, name))
        return found

    def __getattr__(self, name: str) -> Any:
        """Called for what is not there yet."""
        if name not in _COPIED:
            raise AttributeError(name, name=name, obj=self)
        copy = own(getattr(self._shared, name))
        object.__setattr__(self, name, copy)
        return copy
