"""Payload contracts: defaults, checks, what is stored, and what is said of a bad payload or a bad declaration."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from typing import Any, NotRequired, TypedDict, cast
from uuid import UUID

import pytest

from squidmesh.errors import InvalidPayload
from squidmesh.payload import Contract, now, today
from squidmesh.store.codec import encode
from squidmesh.values.compiler import compile_type
from squidmesh.values.misfit import Misfit

# Just after midnight in UTC, and still the day before in the zone in which it is written.
NOW = datetime(2025, 3, 30, 22, 30, tzinfo=timezone(timedelta(hours=-2)))


class Channel(StrEnum):
    EMAIL = "email"


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    sku: str
    price: Decimal
    tags: list[str] = field(default_factory=list)


@dataclass
class Order:
    account_id: UUID
    items: list[Item]
    channel: Channel = Channel.EMAIL
    scheduled_for: date = today()  # noqa: RUF009
    at: datetime = now()  # noqa: RUF009
    note: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass
class Stamped:
    day: str = cast("str", today())
    moment: str | None = cast("str", now())
    later: date | None = field(default_factory=today)


@dataclass(frozen=True, slots=True)
class Period:
    start: date
    end: date
    days: int = field(init=False)

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("end must not be before start")
        object.__setattr__(self, "days", (self.end - self.start).days)


class Signup(TypedDict):
    email: str
    plan: NotRequired[str]


@dataclass
class Nested:
    stamp: Stamped


@dataclass
class Loose:
    anything: Any
    score: float = 0.5


@dataclass
class BadDefaults:
    count: int = "three"  # type: ignore[assignment]
    price: Decimal = 1.5  # type: ignore[assignment]
    start: datetime = today()  # type: ignore[assignment]  # noqa: RUF009
    number: int = now()  # type: ignore[assignment]
    blob: Any = b"x"
    fine: str = "x"


@dataclass
class BadTypes:
    blob: bytes
    inner: BadDefaults
    keys: dict[int, str] = field(default_factory=dict)


ID = "01890a5d-ac96-774b-bcce-b302099a8057"


def resolve(declared: object, payload: object) -> dict[str, Any]:
    return Contract.of(declared).resolve(payload, NOW, workflow="w")


def refused(declared: object, payload: object) -> InvalidPayload:
    with pytest.raises(InvalidPayload) as caught:
        resolve(declared, payload)
    return caught.value


def test_a_payload_is_completed_and_becomes_json() -> None:
    assert resolve(Order, {"account_id": ID, "items": [{"sku": "a", "price": 2}]}) == {
        "account_id": ID,
        "items": [{"sku": "a", "price": "2", "tags": []}],
        "channel": "email",
        "scheduled_for": "2025-03-31",
        "at": "2025-03-31T00:30:00+00:00",
        "note": None,
        "extra": {},
    }


def test_an_instance_gives_what_the_same_object_gives() -> None:
    """Markers that its defaults left in it included."""
    order = Order(UUID(ID), [Item(sku="a", price=Decimal("2.50"))])
    assert resolve(Order, order) == resolve(Order, {"account_id": ID, "items": [{"sku": "a", "price": "2.50"}]})


def test_today_and_now_fill_text_fields_with_iso_8601() -> None:
    assert resolve(Stamped, None) == {
        "day": "2025-03-31",
        "moment": "2025-03-31T00:30:00+00:00",
        "later": "2025-03-31",
    }


def test_today_and_now_work_in_nested_dataclasses_and_when_given() -> None:
    assert resolve(Nested, {"stamp": {}})["stamp"] == resolve(Stamped, {})
    assert resolve(Nested, Nested(Stamped()))["stamp"] == resolve(Stamped, {})
    assert resolve(Order, {"account_id": ID, "items": [], "scheduled_for": today()})["scheduled_for"] == "2025-03-31"


def test_today_and_now_stand_for_nothing_when_a_step_s_parameter_is_read() -> None:
    """A step is run again and again: it must not see another day each time."""
    with pytest.raises(Misfit, match=r"day: today\(\) stands for a value only while a run is created"):
        compile_type(Stamped).load({}, lenient=True)


def test_a_field_that_is_given_is_not_replaced_by_its_default_even_by_null() -> None:
    assert resolve(Stamped, {"moment": None})["moment"] is None
    assert refused(Stamped, {"day": None}).invalid_fields == {"day": "must be text, not null"}


def test_a_factory_is_called_anew_for_each_run() -> None:
    contract = Contract.of(Order)
    payload = {"account_id": ID, "items": []}
    first = contract.resolve(payload, NOW, workflow="w")
    first["extra"]["changed"] = True
    assert contract.resolve(payload, NOW, workflow="w")["extra"] == {}


def test_what_is_stored_shares_nothing_with_what_was_given() -> None:
    given = {"anything": {"list": [1]}}
    stored = resolve(Loose, given)
    given["anything"]["list"].append(2)
    assert stored["anything"] == {"list": [1]}


def test_all_problems_are_reported_at_once() -> None:
    error = refused(
        Order, {"zebra": 1, "items": [{"sku": "a", "price": 1.5}, 5], "apple": 2, "note": 1, "extra": {"x": b""}}
    )
    assert error.workflow == "w"
    assert error.missing_fields == ("account_id",)
    assert error.unknown_fields == ("apple", "zebra")
    assert error.invalid_fields == {
        "items[0].price": "must be a decimal, as text or int, not float",
        "items[1]": "must be an object with the fields of Item, not int",
        "note": "must be text, not int",
        "extra.x": "JSON has no bytes: store base64.b64encode(...).decode()",
    }


def test_missing_fields_come_in_the_order_of_their_declaration() -> None:
    assert refused(Period, {}).missing_fields == ("start", "end")
    assert refused(Order, None).missing_fields == ("account_id", "items")


@pytest.mark.parametrize("payload", [5, "text", [1], [("start", "x")], Stamped(), Stamped])
def test_a_payload_that_is_no_object_is_refused(payload: object) -> None:
    assert "must be an object with the fields of Order" in refused(Order, payload).invalid_fields["payload"]


def test_keys_that_are_not_text_are_unknown_fields() -> None:
    assert refused(Loose, {"anything": 1, 5: 1, None: 2}).unknown_fields == ("5", "None")


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (float("nan"), "anything"),
        ([1, {"a": "\x00"}], "anything[1].a"),
        ({"a": "\ud800"}, "anything.a"),
        ({1: 2}, "anything"),
        ({"when": datetime(2025, 1, 1)}, "anything.when"),  # noqa: DTZ001
        (object(), "anything"),
    ],
)
def test_what_cannot_be_stored_is_refused_before_it_is_stored(value: object, path: str) -> None:
    assert list(refused(Loose, {"anything": value}).invalid_fields) == [path]


def test_several_problems_with_one_value_are_all_told() -> None:
    assert refused(Loose, {"anything": {1: 1, 2: 2}}).invalid_fields == {
        "anything": "keys must be text, not int (1); keys must be text, not int (2)"
    }


def test_a_payload_that_contains_itself_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert "contains itself" in next(iter(refused(Loose, {"anything": loop}).invalid_fields.values()))


def test_the_dataclass_s_own_checks_are_applied_and_its_error_is_the_cause() -> None:
    error = refused(Period, {"start": "2025-01-02", "end": "2025-01-01"})
    assert error.invalid_fields == {"payload": "end must not be before start"}
    assert isinstance(error.__cause__, ValueError)


def test_computed_fields_are_stored_and_may_be_given_back() -> None:
    stored = resolve(Period, {"start": "2025-01-01", "end": "2025-01-03"})
    assert stored == {"start": "2025-01-01", "end": "2025-01-03", "days": 2}
    assert resolve(Period, stored) == stored
    assert refused(Period, {**stored, "days": 5}).invalid_fields == {"days": "computed by Period: leave it out"}


def test_a_factory_that_fails_or_does_not_fit_is_a_problem_of_its_field() -> None:
    @dataclass
    class Failing:
        a: Any = field(default_factory=lambda: 1 / 0)
        b: int = field(default_factory=lambda: "x")  # type: ignore[assignment]

    assert refused(Failing, {}).invalid_fields == {
        "a": "its default_factory failed: ZeroDivisionError: division by zero",
        "b": "must be an int, not text",
    }


def test_a_typed_dict_declares_a_contract_too() -> None:
    assert resolve(Signup, {"email": "a@b"}) == {"email": "a@b"}
    assert refused(Signup, {"plan": 1, "x": 1}).to_json() == {
        "error": "invalid_payload",
        "message": "the payload of 'w' is invalid: email: required, but missing; x: not a field of this payload; "
        "plan: must be text, not int",
        "workflow": "w",
        "missing_fields": ["email"],
        "unknown_fields": ["x"],
        "invalid_fields": {"plan": "must be text, not int"},
    }


def test_no_contract_allows_no_field() -> None:
    assert resolve(None, None) == {}
    assert resolve(None, {}) == {}
    assert refused(None, {"a": 1}).unknown_fields == ("a",)
    assert "payload" in refused(None, Stamped()).invalid_fields


def test_a_good_declaration_has_no_problems() -> None:
    for declared in (None, Order, Stamped, Period, Signup, Nested, Loose):
        assert Contract.of(declared).problems() == []


def test_defaults_that_do_not_fit_are_problems_of_the_declaration() -> None:
    assert Contract.of(BadDefaults).problems() == [
        "BadDefaults.count: the default 'three' does not fit int: must be an int, not text",
        "BadDefaults.price: the default 1.5 does not fit Decimal: must be a decimal, as text or int, not float",
        "BadDefaults.start: today() fits date or str, not datetime: change the field's type",
        "BadDefaults.number: now() fits datetime or str, not int: change the field's type",
        "BadDefaults.blob: the default b'x' does not fit Any: JSON has no bytes: store base64.b64encode(...).decode()",
    ]


def test_unsupported_types_are_problems_of_the_declaration_nested_ones_too() -> None:
    problems = Contract.of(BadTypes).problems()
    assert problems[:2] == [
        "BadTypes.blob: the type bytes is not supported: JSON has no bytes, so use str and base64",
        "BadTypes.keys: dict[int, str]: keys of JSON objects are text, so use dict[str, ...]",
    ]
    assert problems[2:] == Contract.of(BadDefaults).problems()


@pytest.mark.parametrize("declared", [int, dict, dict[str, int], Loose(1), "Order", Order | None])
def test_a_payload_that_is_not_declared_by_a_class_of_fields_is_a_problem(declared: object) -> None:
    (problem,) = Contract.of(declared).problems()
    assert problem.startswith("a payload is declared by a dataclass or TypedDict, not by ")


def test_names_that_cannot_be_found_are_problems_of_the_declaration() -> None:
    @dataclass
    class Inner:
        a: int

    @dataclass
    class Outer:
        inner: Inner

    (problem,) = Contract.of(Outer).problems()
    assert "'Inner', which cannot be found" in problem


def test_the_description_lists_the_fields_in_order() -> None:
    assert Contract.of(Period).describe() == {
        "name": "Period",
        "fields": [
            {"name": "start", "type": "date", "required": True},
            {"name": "end", "type": "date", "required": True},
        ],
    }
    assert [each["type"] for each in Contract.of(Order).describe()["fields"]] == [
        "UUID", "list[Item]", "Channel", "date", "datetime", "str | None", "dict",
    ]  # fmt: skip
    assert Contract.of(None).describe() == {"name": None, "fields": []}
    assert encode(Contract.of(Order).describe(), what="contract").value == Contract.of(Order).describe()


def test_the_moment_is_that_of_the_caller() -> None:
    later = Contract.of(Order).resolve({"account_id": ID, "items": []}, datetime(2030, 1, 1, tzinfo=UTC), workflow="w")
    assert (later["scheduled_for"], later["at"]) == ("2030-01-01", "2030-01-01T00:00:00+00:00")
