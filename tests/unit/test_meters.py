"""Limits and rates as values: what names them, and what they come to."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squidmesh import ConfigurationError, Limit, Rate
from squidmesh.meters import LONGEST_KEY, MeterTable, meter_name, meter_to_pause

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


# -- names ------------------------------------------------------------------------------------------------------------


def test_a_job_carries_its_limit_its_rate_and_its_queue_a_line_each() -> None:
    table = MeterTable.of({"mail": 9})
    limit, rate = Limit(1, key="to"), Rate(2, per=3, name="smtp")
    table.declare("w/send", limit, rate)

    metering = table.metering("w/send", limit, rate, "mail")

    assert metering is not None
    assert metering.meters({"to": "ann"}) == "w/send:to=ann\nsmtp\n@mail"
    assert (table.limits, table.queues) == ({"@mail": 9, "w/send:to": 1}, {"mail": "@mail"})
    assert table.metering("w/other", None, None, "default") is None
    assert table.metering("w/other", None, None, "mail") is not None


@pytest.mark.parametrize(
    ("value", "text"),
    [("a=b", "a=b"), (7, "7"), (True, "true"), (None, ""), ({"b": 1, "a": 2}, '{"a": 2, "b": 1}')],
)
def test_a_meter_is_named_by_the_value_of_its_key(value: object, text: str) -> None:
    assert meter_name("w/s:k", value) == f"w/s:k={text}"


@given(JSON)
def test_any_value_makes_a_name_that_is_one_line_and_not_too_long(value: object) -> None:
    name = meter_name("w/s:k", value)
    definition, _, text = name.partition("=")
    assert definition == "w/s:k"
    assert len(text.encode()) <= LONGEST_KEY
    assert "\n" not in text
    assert "\0" not in text


@given(st.text(min_size=LONGEST_KEY), st.text(min_size=LONGEST_KEY))
def test_long_values_have_names_of_their_own(one: str, other: str) -> None:
    assert (meter_name("d", one) == meter_name("d", other)) is (one == other)


@pytest.mark.parametrize(("meters", "paused"), [("l\nr\nq", "r"), ("l\n\nq", "l"), ("\n\nq", "")])
def test_a_step_that_is_told_to_wait_pauses_its_rate_or_else_its_limit_and_never_its_queue(
    meters: str, paused: str
) -> None:
    assert meter_to_pause(meters) == paused


def test_a_rate_is_as_many_tokens_as_come_back_in_its_period() -> None:
    assert Rate(30, per=timedelta(minutes=1)).refill == 0.5
    assert (Rate(30, per=60).most, Rate(30, per=60, burst=2).most) == (30, 2)


def test_one_name_is_one_rate() -> None:
    table = MeterTable()
    table.declare("w/a", None, Rate(30, per=60, name="api"))
    table.declare("w/b", None, Rate(60, per=120, name="api", burst=30))  # which says the same
    with pytest.raises(ConfigurationError, match="'w/c' shares the rate 'api', which is Rate"):
        table.declare("w/c", None, Rate(31, per=60, name="api"))
