"""Random contracts and random payloads: what is accepted can be stored and read back, what is refused is told."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, make_dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import GenericAlias
from typing import Any, Literal
from uuid import UUID

from hypothesis import assume, given
from hypothesis import strategies as st

from squidmesh.errors import InvalidPayload
from squidmesh.payload import Contract, now, today
from squidmesh.store.codec import Unencodable, decode, encode
from squidmesh.values.compiler import compile_type
from squidmesh.values.jsonable import to_json
from squidmesh.values.misfit import Misfit

NOW = datetime(2025, 3, 31, 8, 30, tzinfo=UTC)


class Size(Enum):
    SMALL = "s"
    LARGE = 2


# Postgres refuses NUL and surrogates; half of the texts have them, to see that we do, too.
good_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
any_text = good_text | st.text(st.characters() | st.just("\ud800") | st.just("\x00"), max_size=3)
names = st.sampled_from(["a", "b", "c", "price", "items"])


def json_values(text: st.SearchStrategy[str], numbers: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | numbers | text
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text | names, inner, max_size=4),
        max_leaves=12,
    )


good_json = json_values(good_text, st.floats(allow_nan=False, allow_infinity=False))
any_json = json_values(any_text, st.floats())

scalars: dict[Any, st.SearchStrategy[Any]] = {
    str: good_text,
    int: st.integers(),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    Any: good_json,
    dict: st.dictionaries(good_text, good_json, max_size=3),
    list: st.lists(good_json, max_size=3),
    date: st.dates(),
    datetime: st.datetimes(timezones=st.timezones()),
    time: st.times(),
    timedelta: st.timedeltas(timedelta(days=-36_500), timedelta(days=36_500)),
    Decimal: st.decimals(allow_nan=False, allow_infinity=False) | st.integers(),
    UUID: st.uuids(),
    Size: st.sampled_from(Size),
    Literal["x", 1]: st.sampled_from(["x", 1]),
}


@dataclass
class Case:
    """A type, and values that fit it."""

    annotation: Any
    values: st.SearchStrategy[Any]
    record: type | None = field(default=None)


def record_of(fields: dict[str, Case], defaulted: dict[str, str]) -> Case:
    """A dataclass; a defaulted field has ``today()``, ``now()`` or null, and gets a type that allows for it."""
    declared: list[Any] = [(name, case.annotation) for name, case in fields.items()]
    marked = {"today": (date | None, today()), "now": (str, now()), "null": (str | None, None)}
    declared += [(name, marked[how][0], field(default=marked[how][1])) for name, how in defaulted.items()]
    kind = make_dataclass("Record", declared, kw_only=True)
    given_fields = {name: case.values for name, case in fields.items()}
    return Case(kind, st.fixed_dictionaries(given_fields) | st.builds(kind, **given_fields), kind)


def records(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    defaults = st.dictionaries(st.sampled_from(["x", "y"]), st.sampled_from(["today", "now", "null"]), max_size=2)
    return st.builds(record_of, st.dictionaries(names, inner, max_size=4), defaults)


def container_of(case: Case, kind: str) -> Case:
    item, values = case.annotation, st.lists(case.values, max_size=3)
    if kind == "list":
        return Case(GenericAlias(list, (item,)), values)
    if kind == "tuple":
        return Case(GenericAlias(tuple, (item, ...)), values.map(tuple))
    if kind == "dict":
        return Case(GenericAlias(dict, (str, item)), st.dictionaries(good_text, case.values, max_size=3))
    return Case(item | None, st.none() | case.values)


def containers(inner: st.SearchStrategy[Case]) -> st.SearchStrategy[Case]:
    kinds = st.sampled_from(["list", "tuple", "dict", "optional"])
    return st.builds(container_of, inner, kinds) | records(inner)


cases = st.recursive(
    st.sampled_from([Case(annotation, values) for annotation, values in scalars.items()]), containers, max_leaves=6
)
contracts = records(cases)


def resolve(case: Case, payload: object) -> dict[str, Any]:
    return Contract.of(case.annotation).resolve(payload, NOW, workflow="w")


@given(st.data())
def test_a_payload_that_fits_is_stored_and_resolves_to_itself(data: st.DataObject) -> None:
    case = data.draw(contracts)
    stored = resolve(case, data.draw(case.values))
    assert resolve(case, stored) == stored
    encoded = encode(stored, what="payload")
    assert resolve(case, encoded.value) == stored == encoded.value


@given(st.data())
def test_a_random_payload_is_accepted_and_storable_or_refused_as_invalid(data: st.DataObject) -> None:
    case = data.draw(contracts)
    fields = Contract.of(case.annotation).fields
    shuffled = st.dictionaries(st.sampled_from([each.name for each in fields] or ["a"]), any_json, max_size=6)
    payload = data.draw(any_json | shuffled)
    try:
        stored = resolve(case, payload)
    except InvalidPayload as error:
        encode(error.details, what="error")
    else:
        encode(stored, what="payload")


@given(contracts)
def test_a_contract_of_supported_types_has_no_problems_and_a_description(case: Case) -> None:
    contract = Contract.of(case.annotation)
    assert contract.problems() == []
    json.dumps(contract.describe())


@given(st.data())
def test_what_is_written_is_read_back(data: st.DataObject) -> None:
    """From the JSON of a value its shape makes a value with the same JSON, strictly and from storage."""
    case = data.draw(cases)
    shape = compile_type(case.annotation)
    stored = to_json(shape.load(data.draw(case.values), now=NOW))
    assert to_json(shape.load(stored)) == stored
    assert to_json(shape.load(encode(stored, what="x").value, lenient=True)) == stored


@given(good_json)
def test_json_survives_the_codec(value: Any) -> None:
    encoded = encode(value, what="result")
    assert encoded.value == value
    assert decode(encoded.text) == encoded.value
    assert encoded.size == len(encoded.text.encode())
    assert encode(encoded.value, what="result").value == encoded.value


@given(st.recursive(any_json | st.binary(max_size=2) | st.datetimes() | st.sets(st.integers()), lambda inner: st.one_of(
    st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
    st.dictionaries(any_text | st.integers() | st.booleans() | st.none() | st.floats(), inner, max_size=3),
), max_leaves=6))  # fmt: skip
def test_the_codec_accepts_what_the_walk_accepts(value: Any) -> None:
    """Its fast path never lets through, or changes, what a look at every part would not."""
    try:
        walked = to_json(value)
    except Misfit:
        walked = Misfit
    try:
        encoded = encode(value, what="result").value
    except Unencodable:
        encoded = Misfit
    assert encoded == walked


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_stays_the_same_float(number: float) -> None:
    value = encode([number], what="result").value[0]
    assert type(value) is float
    assert value == number
    assert number or math.copysign(1, value) == 1


@given(cases, st.text(st.characters(categories=["Lu"]), min_size=100, max_size=300))
def test_no_message_quotes_more_than_80_characters_of_a_value(case: Case, secret: str) -> None:
    assume(case.annotation is not Any)
    for value in (secret, {secret: secret}, [secret], [{"a": secret}]):
        try:
            compile_type(case.annotation).load(value, "x", now=NOW)
        except Misfit as misfit:
            for _, text in misfit.problems:
                assert secret[:81] not in text
                assert secret[-81:] not in text
