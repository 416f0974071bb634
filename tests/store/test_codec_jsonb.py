"""Memory equals storage, asked of a real jsonb: what the codec keeps in memory is what Postgres gives back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from squidmesh.store.codec import decode, encode

if TYPE_CHECKING:
    from collections.abc import Iterator

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8)
floats = st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | floats | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=6),
    max_leaves=20,
)


@pytest.fixture(scope="module")
def connection(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        yield connection


def shown(value: object) -> str:
    """Everything that a program could notice about a JSON value: types, order of keys, and 0.0 against -0.0."""
    return repr(value)


def stored(connection: psycopg.Connection[Any], text: str) -> Any:
    row = connection.execute("SELECT %s::jsonb::text", [text]).fetchone()
    assert row is not None
    return decode(row[0])


@given(batch=st.lists(values, min_size=1, max_size=20))
def test_what_is_in_memory_is_what_storage_gives_back(connection: psycopg.Connection[Any], batch: list[Any]) -> None:
    for value in batch:
        encoded = encode(value, what="result")
        assert shown(stored(connection, encoded.text)) == shown(encoded.value)


@pytest.mark.parametrize(
    "value",
    [
        [1e16, 1e22, 1.5e300, sys.float_info.max, sys.float_info.min, 5e-324, -0.0, 0.1, 1.0, 1e-7],
        [10**4000 - 1, -(10**3999)],
        {"b": 1, "a": 2, "é": 3, "zz": 4, "": 5, "Z": 6, "\U0001f419": 7, "\uffff": 8, "abc": 9},
        "\\u0000 \x01\x7f\u2028 \\",
        {"a": {"b": {"c": [[], {}, ""]}}},
    ],
)
def test_what_jsonb_is_known_to_change(connection: psycopg.Connection[Any], value: object) -> None:
    encoded = encode(value, what="result")
    assert shown(stored(connection, encoded.text)) == shown(encoded.value)
    assert encoded.value == value


def test_the_reasons_of_the_codec_still_hold(connection: psycopg.Connection[Any]) -> None:
    """If one of these fails, Postgres has changed, and the codec may do less."""
    assert shown(stored(connection, "[1e+16, -0.0]")) == "[10000000000000000, 0.0]"
    assert list(stored(connection, '{"zz": 1, "é": 2, "b": 3, "a": 4}')) == ["a", "b", "zz", "é"]
    for text in (r'"\u0000"', r'"\ud800"'):
        with pytest.raises(psycopg.DataError):
            stored(connection, text)
