"""Types compiled into shapes: what fits each annotation, strictly and from storage, and what is said of what does not."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import InitVar, dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Annotated, Any, Generic, Literal, NewType, NotRequired, Optional, Required, TypedDict, TypeVar
from uuid import UUID

import pytest

from squidmesh.values.compiler import compile_type
from squidmesh.values.fields import UnsupportedType
from squidmesh.values.misfit import Misfit, Problem

T = TypeVar("T")
AccountId = NewType("AccountId", str)


class Colour(StrEnum):
    RED = "red"


class Level(IntEnum):
    LOW = 1


class Odd(Enum):
    PAIR = (1, "a")
    DAY = date(2025, 1, 1)
    HALF = 0.5


class Broken(Enum):
    OBJECT = object()


@dataclass(frozen=True)
class Item:
    sku: str
    price: Decimal = Decimal(1)


@dataclass(frozen=True)
class SaleItem(Item):
    discount: Decimal = Decimal(0)


@dataclass
class Node:
    name: str
    children: list[Node] = field(default_factory=list)


@dataclass
class Span:
    start: int
    end: int
    length: int = field(init=False)

    def __post_init__(self) -> None:
        if self.end < self.start:
            raise ValueError("end must not be before start")
        self.length = self.end - self.start


class Options(TypedDict, total=False):
    colour: Colour
    level: Required[int]


class Address(TypedDict):
    city: str
    zip: NotRequired[str]


@dataclass
class Seeded:
    seed: InitVar[int]


@dataclass
class Box(Generic[T]):
    content: T


@dataclass
class TwoWrongs:
    a: bytes
    b: list[set[int]]
    c: int


def load(annotation: object, value: object, *, lenient: bool = False, path: str = "x") -> object:
    return compile_type(annotation).load(value, path, lenient=lenient)


def problems(annotation: object, value: object, *, lenient: bool = False) -> list[tuple[str, str]]:
    with pytest.raises(Misfit) as caught:
        load(annotation, value, lenient=lenient)
    return [(path, text) for path, text in caught.value.problems]


DAY = date(2025, 3, 31)
MOMENT = datetime(2025, 3, 31, 8, tzinfo=UTC)
ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.mark.parametrize(
    ("annotation", "value", "loaded"),
    [
        (str, "a", "a"),
        (str, Colour.RED, "red"),
        (int, 5, 5),
        (int, Level.LOW, 1),
        (bool, True, True),
        (float, 1.5, 1.5),
        (None, None, None),
        (Any, {"a": 1}, {"a": 1}),
        (object, [1], [1]),
        (list, [1], [1]),
        (list, (1,), [1]),
        (dict, {"a": 1}, {"a": 1}),
        (tuple, [1], (1,)),
        (list[int], [1, 2], [1, 2]),
        (Sequence[int], (1, 2), [1, 2]),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (Mapping[AccountId, int], {"a": 1}, {"a": 1}),
        (tuple[int, ...], [1, 2], (1, 2)),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[()], [], ()),
        (int | None, None, None),
        (Optional[int], 3, 3),  # noqa: UP045
        (int | str, "a", "a"),
        (date | str, "2025-03-31", DAY),
        (str | date, "2025-03-31", "2025-03-31"),
        (Item | list[Item], [{"sku": "a"}], [Item("a")]),
        (Literal["a", 1, None], 1, 1),  # noqa: PYI061
        (Literal["a", 1, None], None, None),  # noqa: PYI061
        (Literal[Colour.RED], "red", Colour.RED),
        (Colour, "red", Colour.RED),
        (Colour, Colour.RED, Colour.RED),
        (Level, 1, Level.LOW),
        (Odd, [1, "a"], Odd.PAIR),
        (Odd, "2025-01-01", Odd.DAY),
        (Odd, 0.5, Odd.HALF),
        (date, "2025-03-31", DAY),
        (date, DAY, DAY),
        (datetime, "2025-03-31T08:00:00Z", MOMENT),
        (datetime, "2025-03-31T10:00:00+02:00", MOMENT),
        (datetime, MOMENT, MOMENT),
        (time, "08:30", time(8, 30)),
        (timedelta, 90, timedelta(seconds=90)),
        (timedelta, 0.5, timedelta(milliseconds=500)),
        (timedelta, timedelta(1), timedelta(1)),
        (Decimal, "1.10", Decimal("1.10")),
        (Decimal, 3, Decimal(3)),
        (Decimal, Decimal("1E+3"), Decimal("1E+3")),
        (UUID, str(ID), ID),
        (UUID, ID, ID),
        (Item, {"sku": "a", "price": "2"}, Item("a", Decimal(2))),
        (Item, Item("a"), Item("a")),
        (Node, {"name": "a", "children": [{"name": "b"}]}, Node("a", [Node("b")])),
        (Span, {"start": 1, "end": 3}, Span(1, 3)),
        (Span, {"start": 1, "end": 3, "length": 2}, Span(1, 3)),
        (Options, {"level": 1}, {"level": 1}),
        (Options, {"level": 1, "colour": "red"}, {"level": 1, "colour": Colour.RED}),
        (Address, {"city": "a"}, {"city": "a"}),
        (AccountId, "a", "a"),
        (Annotated[int, []], 5, 5),
        (Annotated[AccountId, "doc"], "a", "a"),
    ],
)
def test_what_fits_is_loaded(annotation: object, value: object, loaded: object) -> None:
    result = load(annotation, value)
    assert result == loaded
    assert type(result) is type(loaded)


@pytest.mark.parametrize(
    ("annotation", "value", "problem"),
    [
        (str, 5, "must be text, not int"),
        (str, None, "must be text, not null"),
        (int, True, "must be an int, not bool"),
        (int, 5.0, "must be an int, not float"),
        (int, "5", "must be an int, not text"),
        (bool, 1, "must be true or false, not int"),
        (float, 5, "must be a float such as 5.0, not int"),
        (float, True, "must be a float, not bool"),
        (float, "1.5", "must be a float, not text"),
        (float, float("nan"), "must be a finite float, not nan"),
        (None, 0, "must be null, not int"),
        (list, {"a": 1}, "must be a list, not an object"),
        (list, "ab", "must be a list, not text"),
        (Sequence[str], "ab", "must be a list, not text"),
        (dict, [], "must be an object, not a list"),
        (tuple[int, str], [1], "must be a list of 2 items, not 1"),
        (int | None, "a", "must be an int, not text"),
        (
            int | date,
            "a",
            "fits none of int | date: must be an int, not text; must be a date such as 2025-03-31, not 'a'",
        ),
        (Literal["a", 1], True, "must be one of 'a', 1, not True"),
        (Literal["a", 1], 1.0, "must be one of 'a', 1, not 1.0"),
        (Colour, "blue", "must be one of 'red', not 'blue'"),
        (Level, True, "must be one of 1, not True"),
        (Odd, [1], "must be one of (1, 'a'), datetime.date(2025, 1, 1), 0.5, not [1]"),
        (date, "31.3.2025", "must be a date such as 2025-03-31, not '31.3.2025'"),
        (date, MOMENT, "must be a date, not datetime: pass its .date()"),
        (date, 5, "must be a date such as 2025-03-31, not int"),
        (datetime, DAY, "must be a time stamp such as 2025-03-31T08:00:00Z, not date"),
        (datetime, "2025-03-31T08:00:00", "must have a time zone"),
        (datetime, datetime(2025, 1, 1), "must have a time zone"),  # noqa: DTZ001
        (timedelta, True, "must be a duration in seconds, not bool"),
        (timedelta, 1e300, "must be a duration in seconds, not 1e+300"),
        (timedelta, float("nan"), "must be a duration in seconds, not nan"),
        (Decimal, 1.5, "must be a decimal, as text or int, not float"),
        (Decimal, "1,5", "must be a decimal, as text or int, not '1,5'"),
        (Decimal, "NaN", "must be a finite decimal, not 'NaN'"),
        (Decimal, True, "must be a decimal, as text or int, not bool"),
        (UUID, "abc", "must be a UUID, not 'abc'"),
        (Item, "a", "must be an object with the fields of Item, not text"),
        (Item, Node("a"), "must be an object with the fields of Item, not Node"),
        (Span, {"start": 3, "end": 1}, "end must not be before start"),
    ],
)
def test_what_does_not_fit_is_named(annotation: object, value: object, problem: str) -> None:
    ((path, text),) = problems(annotation, value)
    assert path == "x"
    assert text.startswith(problem)


def test_every_problem_is_found_with_its_path() -> None:
    found = problems(dict[str, list[Item]], {"a b": [{"sku": 1, "price": 1.5}, {"colour": 1}], "c": [0], 5: []})
    assert found == [
        ("x['a b'][0].sku", "must be text, not int"),
        ("x['a b'][0].price", "must be a decimal, as text or int, not float"),
        ("x['a b'][1].sku", "required, but missing"),
        ("x['a b'][1].colour", "not a field of Item"),
        ("x.c[0]", "must be an object with the fields of Item, not int"),
        ("x", "keys must be text, not int (5)"),
    ]


def test_an_int_fits_a_float_only_from_storage() -> None:
    assert load(float, 5, lenient=True) == 5.0
    assert type(load(float, 5, lenient=True)) is float
    assert load(list[float | None], [1, None], lenient=True) == [1.0, None]
    assert "must fit a float" in problems(float, 10**400, lenient=True)[0][1]
    assert problems(int, 5.0, lenient=True)
    assert problems(float, True, lenient=True)


def test_of_a_union_from_storage_the_exact_member_goes_first() -> None:
    loaded = load(float | int, 5, lenient=True)
    assert (loaded, type(loaded)) == (5, int)
    assert type(load(float | str, 5, lenient=True)) is float


def test_from_storage_fields_that_another_version_wrote_are_not_looked_at() -> None:
    assert load(Item, {"sku": "a", "colour": "red"}, lenient=True) == Item("a")
    assert load(Span, {"start": 1, "end": 3, "length": 99}, lenient=True) == Span(1, 3)


def test_a_computed_field_is_accepted_only_as_it_comes_out() -> None:
    assert problems(Span, {"start": 1, "end": 3, "length": 99}) == [("x.length", "computed by Span: leave it out")]
    assert problems(Span, {"start": 1, "end": 3, "length": object()}) == [
        ("x.length", "computed by Span: leave it out")
    ]


def test_an_instance_of_a_subclass_does_not_lose_fields_silently() -> None:
    assert problems(Item, SaleItem("a")) == [("x.discount", "not a field of Item")]


def test_an_instance_is_checked_like_an_object() -> None:
    assert problems(Item, Item(sku=5, price=1.5)) == [  # type: ignore[arg-type]
        ("x.sku", "must be text, not int"),
        ("x.price", "must be a decimal, as text or int, not float"),
    ]


def test_what_holds_itself_is_refused() -> None:
    node = Node("a")
    node.children.append(node)
    assert problems(Node, node) == [("x", "nested too deeply, or contains itself: flatten it")]


def test_the_path_may_be_empty() -> None:
    with pytest.raises(Misfit) as caught:
        compile_type(Item).load({})
    assert caught.value.problems == [Problem("sku", "required, but missing")]


def test_optional_keys_of_a_typed_dict_are_seen_through_text_annotations() -> None:
    assert problems(Address, {}) == [("x.city", "required, but missing")]
    assert problems(Options, {}) == [("x.level", "required, but missing")]


def test_a_plain_value_comes_back_as_it_is() -> None:
    """The fast path: no copy, no look inside."""
    value = {"a": [1]}
    for annotation in (dict, dict[str, Any], Any, Mapping[str, object]):
        assert load(annotation, value) is value


def test_problems_of_one_value_stop_at_fifty() -> None:
    assert len(problems(list[int], ["a"] * 1000)) == 50


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (Optional[list[Item]], "list[Item] | None"),  # noqa: UP045
        (dict[str, tuple[int, ...]], "dict[str, tuple[int, ...]]"),
        (tuple[int, str], "tuple[int, str]"),
        (tuple[()], "tuple[()]"),
        (Literal["a", 1], "Literal['a', 1]"),
        (Annotated[AccountId, 1], "str"),
        (list[Any], "list"),
        (Colour | None, "Colour | None"),
    ],
)
def test_a_shape_says_what_it_is(annotation: object, text: str) -> None:
    assert compile_type(annotation).text == text


@pytest.mark.parametrize(
    ("annotation", "says"),
    [
        (bytes, "the type bytes is not supported: JSON has no bytes, so use str and base64"),
        (set[int], "the type set[int] is not supported: use list[...]"),
        (list[bytes], "the type bytes is not supported"),
        (dict[int, str], "dict[int, str]: keys of JSON objects are text, so use dict[str, ...]"),
        (complex, "use two floats"),
        (T, "the type ~T is not supported: use a dataclass"),
        (Box[int], "Box[int] is not supported"),
        (Box, "Box.content: the type ~T is not supported"),
        (type, "the type type is not supported"),
        ("Item", "the annotation 'Item' is text: resolve it with typing.get_type_hints"),
        (Seeded, "Seeded.seed is an InitVar, which cannot be stored: make it a field"),
        (Broken, "Broken has a member that cannot be stored: of type object"),
        (5, "the type 5 is not supported"),
        (Item("a"), "is not supported"),
    ],
)
def test_an_unsupported_type_is_named_with_a_remedy(annotation: object, says: str) -> None:
    with pytest.raises(UnsupportedType) as caught:
        compile_type(annotation)
    assert says in str(caught.value)


def test_every_unsupported_field_is_named() -> None:
    with pytest.raises(UnsupportedType) as caught:
        compile_type(list[TwoWrongs])
    assert "TwoWrongs.a: the type bytes" in str(caught.value)
    assert "TwoWrongs.b: the type set[int]" in str(caught.value)


def test_a_class_declared_in_a_function_may_name_itself() -> None:
    @dataclass
    class Local:
        inner: Local | None = None

    assert load(Local, {"inner": {}}) == Local(Local())


def test_a_class_that_names_a_class_of_its_function_is_refused_with_a_remedy() -> None:
    @dataclass
    class Inner:
        a: int

    @dataclass
    class Outer:
        inner: Inner

    with pytest.raises(UnsupportedType) as caught:
        compile_type(Outer)
    assert "name 'Inner', which cannot be found from module" in str(caught.value)
    assert "at the top of the module" in str(caught.value)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement")
def test_aliases_of_the_type_statement_are_seen_through_unless_they_refer_to_themselves() -> None:
    names: dict[str, Any] = {}
    exec("type Ids = list[int]\ntype Tree = list[Tree]", names)
    assert load(names["Ids"], [1]) == [1]
    with pytest.raises(UnsupportedType, match="refers to itself"):
        compile_type(names["Tree"])


def test_messages_quote_little_of_a_value_whatever_its_repr_does() -> None:
    class Rude:
        def __repr__(self) -> str:
            raise RuntimeError("no")

    for annotation, value in [(date, "x" * 10_000), (Colour, "x" * 10_000), (Level, 10**5000), (UUID, "x" * 100)]:
        assert len(problems(annotation, value)[0][1]) < 150
    assert problems(dict[str, int], {Rude(): 1})[0][1].startswith("keys must be text, not Rude (<Rude")
