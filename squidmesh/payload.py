"""Payload contracts: what a run may be started with, declared as a dataclass (or TypedDict).

A contract is checked once, when its workflow is defined (``problems``), and applied whenever a run is started
(``resolve``): absent fields get their defaults, everything is checked, and what results is JSON, ready to be stored.
All problems of a payload are reported at once. The clock is the caller's: ``today()`` and ``now()`` are filled in from
the instant that is handed to ``resolve``.

Example:
    >>> @dataclass
    ... class Digest:
    ...     account_id: UUID
    ...     scheduled_for: date = today()
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Final, cast

from squidmesh.errors import InvalidPayload
from squidmesh.values.compiler import Compiler, type_text
from squidmesh.values.fields import Field, Filled, Marker, Record, UnsupportedType, is_record
from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit, Problem, member, quote
from squidmesh.values.scalars import Mode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from squidmesh.records import JSONObject


def today() -> date:
    """Default of a field: the date in UTC when the run is created.

    It stands for that date only from then on: an instance of the dataclass that you build holds a marker. It also fits
    a ``str`` field, as ISO 8601 text; there a type checker wants ``cast(str, today())``.
    """
    return cast("date", _TODAY)


def now() -> datetime:
    """Default of a field: the instant in UTC when the run is created. What is said of ``today`` holds here too."""
    return cast("datetime", _NOW)


@dataclass(frozen=True, slots=True)
class Contract:
    """What a trigger's payload must be. Made by ``Contract.of``.

    Args:
        record: The fields, compiled.
        unsupported: What of the declaration could not be compiled.
        nested: The records that its fields hold, and itself.
    """

    record: Record
    unsupported: tuple[str, ...] = ()
    nested: tuple[Record, ...] = ()

    @classmethod
    def of(cls, annotation: object) -> Contract:
        """Compile the contract that a dataclass or TypedDict declares; None allows no field at all.

        Never raises: what is wrong with the declaration is in ``problems()``.
        """
        if annotation is None:
            return cls(Record(None))
        if not is_record(annotation):
            kind = type_text(annotation)
            return cls(Record(None), (f"a payload is declared by a dataclass or TypedDict, not by {kind}",))
        compiler = Compiler()
        try:
            record = compiler.record(annotation)
        except UnsupportedType as error:
            return cls(Record(None), (str(error),))
        return cls(record, tuple(compiler.problems), tuple(compiler.records.values()))

    @property
    def fields(self) -> tuple[Field, ...]:
        """The fields, in the order of their declaration."""
        return self.record.fields

    def problems(self) -> list[str]:
        """What is wrong with the declaration: unsupported types, and defaults that do not fit their fields."""
        defaults = [_default_problem(record, field) for record in self.nested for field in record.fields]
        return [*self.unsupported, *(problem for problem in defaults if problem)]

    def resolve(self, payload: object, now: datetime, *, workflow: str) -> JSONObject:
        """The payload as it is stored: complete, checked, JSON.

        Args:
            payload: A mapping, an instance of the dataclass, or None for an empty payload. A field that is given,
                even as None, is not replaced by its default.
            now: The instant (aware) at which the run is created.
            workflow: The workflow's name, for messages.

        Raises:
            InvalidPayload: It does not meet the contract; with all problems.
        """
        mode = Mode(now=now.astimezone(UTC))
        filled, cause = Filled(), None
        try:
            filled = self.record.fill(self.record.given({} if payload is None else payload), mode)
            if filled.complete:
                return cast("JSONObject", to_json(self.record.build(filled, mode)))
        except Misfit as misfit:
            filled.problems += misfit.problems
            cause = misfit.__cause__
        except RecursionError:
            filled.problems.append(Problem("", "nested too deeply, or contains itself: flatten it"))
        else:
            filled.problems += _unstorable(filled.values)
        raise _invalid(workflow, filled) from cause

    def describe(self) -> JSONObject:
        """The contract as JSON: its name, and the name, type and presence of each field in order of declaration."""
        fields = [{"name": each.name, "type": each.shape.text, "required": each.required} for each in self.fields]
        return {"name": self.record.name if self.record.kind else None, "fields": fields}


def _invalid(workflow: str, filled: Filled) -> InvalidPayload:
    invalid: dict[str, str] = {}
    for path, text in Misfit(filled.problems).rooted(""):
        before = invalid.get(path or "payload")
        invalid[path or "payload"] = f"{before}; {text}" if before else text
    missing, unknown = filled.missing, filled.unknown
    return InvalidPayload(workflow, missing_fields=missing, unknown_fields=unknown, invalid_fields=invalid)


def _unstorable(values: Mapping[str, object]) -> list[Problem]:
    """What cannot be stored of the fields that are of the right type, to be reported along with the others."""
    problems: list[Problem] = []
    for name, value in values.items():
        try:
            to_json(value)
        except Misfit as misfit:
            problems += misfit.under(member(name))
    return problems


def _default_problem(record: Record, field: Field) -> str:
    """What is wrong with a field's default; empty if nothing, or if only a call of its factory could tell."""
    if field.default is MISSING:
        return ""
    try:
        to_json(field.value({}, Mode(now=_ANY_MOMENT)))
    except Misfit as misfit:
        where, marker = f"{record.name}.{field.name}", field.default
        if isinstance(marker, Marker):
            return f"{where}: {marker.name} fits {marker.fits}, not {field.shape.text}: change the field's type"
        said = Misfit(misfit.rooted("")[:1])
        return f"{where}: the default {quote(field.default)} does not fit {field.shape.text}: {said}"
    return ""


def _date_of(now: datetime) -> date:
    return now.date()


def _itself(now: datetime) -> datetime:
    return now


_TODAY: Final = Marker("today()", _date_of, "date or str")
_NOW: Final = Marker("now()", _itself, "datetime or str")
_ANY_MOMENT: Final = datetime(2000, 1, 1, tzinfo=UTC)
