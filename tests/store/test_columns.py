"""Columns: the literals that are joined in Python are read by Postgres as the arrays that were meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from squidmesh.store import columns
from tests.store.kit import Session

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

EXAMPLES = settings(max_examples=60)

# What the literal of an array gives a meaning to, more often than chance would have it.
tricky = st.text(st.sampled_from("{}\",\\ NULnul\t\n%$'é\U0001f419"), max_size=12)
texts = tricky | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))


@pytest.fixture(scope="module")
def session(store_dsn: str) -> Iterator[Session]:
    session = Session(store_dsn)
    yield session
    session.close()


def read(session: Session, literal: str, element: str) -> Any:
    return session.value(f"SELECT %s::text::{element}[]", literal)


@EXAMPLES
@given(values=st.lists(st.none() | texts, max_size=12))
def test_texts(session: Session, values: list[str | None]) -> None:
    assert read(session, columns.texts(values), "text") == values


@EXAMPLES
@given(values=st.lists(st.lists(texts, max_size=4), max_size=4))
def test_arrays_within_texts(session: Session, values: list[list[str]]) -> None:
    """What ``takes`` needs: arrays of different lengths are not an array of Postgres, so each is a text."""
    literals = read(session, columns.texts(columns.texts(inner) for inner in values), "text")
    assert [read(session, literal, "text") for literal in literals] == values


@EXAMPLES
@given(values=st.lists(st.none() | st.floats()))
def test_numbers(session: Session, values: list[float | None]) -> None:
    assert repr(read(session, columns.numbers(values), "float8")) == repr(values)


@EXAMPLES
@given(values=st.lists(st.none() | st.floats(0, 1e9)))
def test_seconds(session: Session, values: list[float | None]) -> None:
    stored = read(session, columns.seconds(values), "float8")
    assert [None if v is None else pytest.approx(v, rel=1e-12, abs=1e-6) for v in values] == stored


@EXAMPLES
@given(values=st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers(session: Session, values: list[int]) -> None:
    assert read(session, columns.whole(values), "bigint") == values


@given(values=st.lists(st.booleans()))
@settings(max_examples=10)
def test_flags(session: Session, values: list[bool]) -> None:
    assert read(session, columns.flags(values), "boolean") == values


@given(values=st.lists(st.none() | st.uuids()))
@settings(max_examples=10)
def test_ids(session: Session, values: list[UUID | None]) -> None:
    assert read(session, columns.ids(values), "uuid") == values
