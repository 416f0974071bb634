"""The codec: what can be stored and as what, what is refused and how it is named, and that memory equals storage."""

from __future__ import annotations

import json
import sys
from collections import Counter, OrderedDict, defaultdict, namedtuple
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from squidmesh.store.codec import DEFAULT_LIMIT, Encoded, Unencodable, decode, encode
from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit


class Colour(Enum):
    RED = "red"
    PAIR = (1, "a")


class Level(IntEnum):
    LOW = 1


class Word(StrEnum):
    YES = "yes"


Point = namedtuple("Point", "x y")  # noqa: PYI024 - an untyped one on purpose


@dataclass(frozen=True, slots=True)
class Line:
    sku: str
    due: date
    price: Decimal = Decimal("1.50")


@dataclass
class Basket:
    lines: list[Line]
    total: Decimal = field(init=False)

    def __post_init__(self) -> None:
        self.total = sum((line.price for line in self.lines), Decimal(0))


def value_of(value: object) -> Any:
    return encode(value, what="result").value


def refused(value: object, **options: int) -> Unencodable:
    with pytest.raises(Unencodable) as caught:
        encode(value, what="result", **options)
    return caught.value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        (True, True),
        (0, 0),
        ("ü🎉\\u0000 \n", "ü🎉\\u0000 \n"),
        ({"a": [1, 2.5, {"b": None}]}, {"a": [1, 2.5, {"b": None}]}),
        ((1, (2,)), [1, [2]]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({"b", "a"}), ["a", "b"]),
        (Point(1, 2), [1, 2]),
        (OrderedDict(b=1), {"b": 1}),
        (defaultdict(list, a=[1]), {"a": [1]}),
        (Counter("aab"), {"a": 2, "b": 1}),
        (MappingProxyType({"a": (1,)}), {"a": [1]}),
        (Colour.RED, "red"),
        (Colour.PAIR, [1, "a"]),
        (Level.LOW, 1),
        ({Word.YES: Word.YES}, {"yes": "yes"}),
        (date(2025, 3, 31), "2025-03-31"),
        (datetime(2025, 3, 31, 8, tzinfo=UTC), "2025-03-31T08:00:00+00:00"),
        (datetime(2025, 3, 31, 8, tzinfo=timezone(timedelta(hours=2))), "2025-03-31T08:00:00+02:00"),
        (datetime(2025, 3, 31, 8, tzinfo=ZoneInfo("Europe/Berlin")), "2025-03-31T08:00:00+02:00"),
        (time(8, 30), "08:30:00"),
        (timedelta(minutes=2), 120),
        (timedelta(milliseconds=1500), 1.5),
        (Decimal("1.10"), "1.10"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Line("a", date(2025, 1, 1)), {"sku": "a", "due": "2025-01-01", "price": "1.50"}),
    ],
)
def test_each_type_is_stored_as_documented(value: object, stored: object) -> None:
    assert value_of(value) == stored
    assert type(value_of(value)) is type(stored)


def test_fields_that_a_dataclass_computes_are_stored_too() -> None:
    assert value_of({"basket": Basket([Line("a", date(2025, 1, 1))])})["basket"]["total"] == "1.50"


def test_a_set_of_several_kinds_has_one_order() -> None:
    assert value_of({"b", 2, None, "a", 1}) == value_of({None, 1, "a", 2, "b"})


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({"a": [1, float("nan")]}, "result.a[1]", "nan is no JSON number"),
        ([float("-inf")], "result[0]", "-inf is no JSON number"),
        (Decimal("NaN"), "result", "Decimal('NaN') is not a number"),
        ({"a": "x\x00y"}, "result.a", "NUL"),
        ({"a\x00": 1}, "result", "the key 'a\\x00' contains a NUL"),
        (["\ud800"], "result[0]", "surrogate"),
        ({"\udfff": 1}, "result", "the key '\\udfff' contains half a surrogate pair"),
        ({"a": {1: "x"}}, "result.a", "keys must be text, not int (1)"),
        ({"a": {None: "x"}}, "result.a", "keys must be text, not null (None)"),
        ({True: 1}, "result", "keys must be text, not bool (True)"),
        ({1.5: 1}, "result", "keys must be text, not float (1.5)"),
        ({(1, 2): 1}, "result", "keys must be text, not a list ((1, 2))"),
        ({Level.LOW: 1}, "result", "keys must be text, not Level"),
        ({"file": b"x"}, "result.file", "base64"),
        ({"a b": [bytearray()]}, "result['a b'][0]", "base64"),
        ([10**4000], "result[0]", "4,000 digits"),
        ([-(10**5000)], "result[0]", "4,000 digits"),
        ({"items": [{}, {"when": datetime(2025, 1, 1)}]}, "result.items[1].when", "datetime.now(UTC)"),  # noqa: DTZ001
        (time(8, tzinfo=ZoneInfo("Europe/Berlin")), "result", "depends on the day"),
        ({"a": object()}, "result.a", "of type object"),
        ([Line], "result[0]", "of type type"),
        ([Line("a", b"x")], "result[0].due", "base64"),  # type: ignore[arg-type]
        ({"s": {b"x"}}, "result.s[*]", "base64"),
        (timedelta.max, "result", "round it"),
        (Basket.__new__(Basket), "result.lines", "has no value"),
    ],
)
def test_what_cannot_be_stored_is_refused_with_its_path(value: object, path: str, says: str) -> None:
    error = refused(value)
    assert error.path == path
    assert says in error.problem
    assert str(error) == f"{path}: {error.problem}"


def test_a_coroutine_is_refused_with_a_hint_to_await_it() -> None:
    async def fetch() -> int:
        return 1

    coroutine = fetch()
    try:
        assert "await" in refused({"a": coroutine}).problem
    finally:
        coroutine.close()


def test_lists_and_objects_may_be_nested_100_deep_and_no_deeper() -> None:
    assert value_of(nested(100)) == nested(100)
    for depth in (101, 5_000, 100_000):
        assert "deeper than 100" in refused(nested(depth)).problem
    assert "deeper than 100" in refused({"a": {"b": tuple(nested(99))}}).problem


def test_many_shallow_containers_are_not_mistaken_for_deep_ones() -> None:
    wide = {"rows": [{"n": [n]} for n in range(500)], "text": "[{" * 500}
    assert value_of(wide) == wide


def test_a_value_that_contains_itself_is_refused() -> None:
    loop: dict[str, Any] = {"text": "x" * 1000}
    loop["me"] = [loop, loop]
    assert "contains itself" in refused(loop).problem


def test_the_path_of_something_deep_stays_readable() -> None:
    path = refused(nested(200)).path
    assert path.startswith("result[0]")
    assert len(path) < 250


def test_integers_of_4000_digits_are_kept_and_digits_in_text_are_no_integers() -> None:
    longest = {"n": 10**4000 - 1, "m": -(10**4000 - 1), "text": "7" * 9000}
    assert value_of(longest) == longest


def test_an_integer_that_this_python_was_told_not_to_print_is_refused() -> None:
    limit = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(640)
    try:
        assert "cannot be written as JSON" in refused(10**1000).problem
    finally:
        sys.set_int_max_str_digits(limit)


def test_size_is_that_of_the_text_in_utf_8_and_has_a_limit() -> None:
    assert encode("é", what="result").size == 4
    assert encode("x" * (DEFAULT_LIMIT - 2), what="result").size == DEFAULT_LIMIT
    error = refused("é" * DEFAULT_LIMIT)
    assert error.problem.startswith("2,097,154 bytes as JSON, and the limit is 1,048,576")
    assert "limit is 10" in refused({"a": (1,) * 10}, limit=10).problem


def test_floats_stay_floats_however_large() -> None:
    floats = [1e16, -1e16, 1.5e300, sys.float_info.max, 5e-324, 1e-7, 123456789012345678.0, 1.0, 0.1]
    text, _, value = encode(floats, what="result")
    assert value == floats
    assert all(type(each) is float for each in value)
    assert "e+" not in text


def test_negative_zero_is_stored_as_zero_and_its_look_alikes_are_left_alone() -> None:
    text = encode({"-0.0": [-0.0, -0.05, -0.0, "-0.0", 'a"-0.0,1e+16', "\\"]}, what="result").text
    assert text == r'{"-0.0":[0.0,-0.05,0.0,"-0.0","a\"-0.0,1e+16","\\"]}'


def test_keys_come_in_the_order_in_which_jsonb_gives_them_back() -> None:
    value = value_of({"zz": 1, "é": 2, "b": {"yy": 1, "x": 2}, "a": 3, "abc": 4})
    assert list(value) == ["a", "b", "zz", "é", "abc"]
    assert list(value["b"]) == ["x", "yy"]
    walked = value_of({"zz": (), "é": 2, "a": 3})
    assert list(walked) == ["a", "zz", "é"]


def test_the_encoded_value_shares_nothing_with_the_original() -> None:
    original = {"a": [1]}
    value = value_of(original)
    original["a"].append(2)
    assert value == {"a": [1]}


def test_decoding_the_text_gives_the_value() -> None:
    encoded = encode({"b": [1e20, "ü"], "a": Colour.RED}, what="result")
    assert isinstance(encoded, Encoded)
    assert decode(encoded.text) == encoded.value == {"a": "red", "b": [1e20, "ü"]}


def test_the_fast_path_decides_as_the_walk_does() -> None:
    """Whatever needs no walk comes out as the walk would have it."""
    value = {"a": [1, 2.5, "x", None, True, {"k": -1}], "b": {}}
    assert encode(value, what="result").value == to_json(value)
    assert json.loads(encode(value, what="result").text) == value


def test_the_walk_finds_every_problem() -> None:
    with pytest.raises(Misfit) as caught:
        to_json({"a": b"", "b": [float("nan"), 1, object()], "c": {1: 2}})
    assert [path for path, _ in caught.value.problems] == [".a", ".b[0]", ".b[2]", ".c"]


def test_the_walk_stops_at_fifty_problems() -> None:
    with pytest.raises(Misfit) as caught:
        to_json([b""] * 1000)
    assert len(caught.value.problems) == 50


def test_messages_quote_little_of_a_key() -> None:
    assert len(str(refused({"k" * 10_000 + "\x00": 1}))) < 250
    assert len(str(refused({"k" * 10_000: b""}))) < 250
