"""How often a step is tried and how long it waits: the arithmetic, and what an author can get wrong."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from squidmesh.retry import LONGEST_DELAY, NEVER, Constant, Exponential, Retry, measured, seconds_of


def delays(retry: Retry, *, chance: float = 0.0) -> list[float | None]:
    return [retry.delay_after(attempt, chance) for attempt in range(1, retry.max_attempts + 1)]


def test_an_exponential_backoff_doubles_up_to_its_most() -> None:
    """The original's example: min 1000, max 5000 gives 1000, 2000, 4000, 5000; the last attempt has no next one."""
    assert delays(Retry(max_attempts=6, backoff=Exponential(min=1, max=5))) == [1, 2, 4, 5, 5, None]


def test_however_many_attempts_the_delay_stays_a_number() -> None:
    retry = Retry(max_attempts=10**6, backoff=Exponential(min=0.001, max=LONGEST_DELAY))
    assert retry.delay_after(10**6 - 1, 0.0) == LONGEST_DELAY


def test_a_constant_backoff_stays() -> None:
    assert delays(Retry(max_attempts=3, backoff=Constant(timedelta(minutes=1)))) == [60, 60, None]


def test_without_a_backoff_the_next_attempt_is_at_once() -> None:
    assert delays(Retry(max_attempts=2)) == [0, None]


def test_a_step_that_declares_nothing_is_tried_once() -> None:
    assert delays(NEVER) == [None]


def test_past_the_last_attempt_there_is_none_either() -> None:
    """Attempts may be counted under an older policy than the one that decides."""
    assert Retry(max_attempts=2).delay_after(3, 0.0) is None


def test_jitter_adds_up_to_its_fraction() -> None:
    retry = Retry(max_attempts=2, backoff=Constant(10), jitter=0.2)
    assert [retry.delay_after(1, chance) for chance in (0.0, 0.5, 1.0)] == [10, 11, 12]


def test_only_what_it_is_for_is_retried_and_giving_up_is_stronger() -> None:
    retry = Retry(max_attempts=2, on=(OSError, KeyError), give_up_on=(ConnectionError,))
    assert [retry.covers(error) for error in (OSError(), TimeoutError(), KeyError())] == [True, True, True]
    assert [retry.covers(error) for error in (ConnectionResetError(), ValueError())] == [False, False]
    assert Retry(max_attempts=2).covers(ValueError())


@pytest.mark.parametrize(
    "retry",
    [
        NEVER,
        Retry(max_attempts=3, backoff=Constant(2.5), jitter=0.1),
        Retry(max_attempts=5, backoff=Exponential(min=timedelta(seconds=1), max=30)),
    ],
)
def test_a_stored_policy_waits_as_long_as_the_live_one(retry: Retry) -> None:
    stored = Retry.from_json(json.loads(json.dumps(retry.to_json())))
    assert delays(stored, chance=0.5) == delays(retry, chance=0.5)
    assert stored.jitter == retry.jitter
    assert stored.to_json() == retry.to_json()


def test_the_exceptions_are_not_stored() -> None:
    """Classes exist in live code only; without it, every failure counts."""
    assert Retry.from_json(Retry(max_attempts=2, on=(OSError,)).to_json()).covers(ValueError())


GOOD = [
    NEVER,
    Retry(max_attempts=1000, backoff=Exponential(min=timedelta(seconds=1), max=LONGEST_DELAY), jitter=1),
    Retry(max_attempts=2, backoff=Exponential(min=5, max=5), jitter=0.5, on=(), give_up_on=(ValueError, OSError)),
]

HUGE = 10**400

BAD: list[tuple[dict[str, Any], str]] = [
    ({"max_attempts": 0}, "max_attempts >= 1"),
    ({"max_attempts": -1}, "max_attempts >= 1"),
    ({"max_attempts": True}, "max_attempts >= 1"),
    ({"max_attempts": 2.0}, "max_attempts >= 1"),
    ({"max_attempts": "3"}, "max_attempts >= 1"),
    ({"backoff": 5}, "a backoff that is a Constant or an Exponential, such as Constant(5)"),
    ({"backoff": None}, "a backoff that is a Constant or an Exponential"),
    ({"backoff": Constant(-1)}, "Constant needs 0 <= delay <= 3.16224e+07 seconds"),
    ({"backoff": Constant(float("nan"))}, "Constant needs"),
    ({"backoff": Constant(float("inf"))}, "Constant needs"),
    ({"backoff": Constant("5")}, "Constant needs"),  # type: ignore[arg-type]
    ({"backoff": Constant(True)}, "Constant needs"),
    ({"backoff": Constant(HUGE)}, "Constant needs"),
    ({"backoff": Exponential(min=0, max=5)}, "Exponential needs 0 < min <= max"),
    ({"backoff": Exponential(min=5, max=1)}, "Exponential needs"),
    ({"backoff": Exponential(min=1, max=HUGE)}, "Exponential needs"),
    ({"backoff": Exponential(min=1, max=None)}, "Exponential needs"),  # type: ignore[arg-type]
    ({"backoff": Exponential(min=timedelta(days=400), max=timedelta(days=500))}, "Exponential needs"),
    ({"jitter": -0.1}, "a jitter from 0 to 1"),
    ({"jitter": 1.1}, "a jitter from 0 to 1"),
    ({"jitter": None}, "a jitter from 0 to 1"),
    ({"jitter": float("nan")}, "a jitter from 0 to 1"),
    ({"on": OSError}, "on= to be a tuple of exception classes, such as (TimeoutError,)"),
    ({"on": [OSError]}, "on= to be a tuple"),
    ({"on": (OSError(),)}, "on= to be a tuple"),
    ({"on": (KeyboardInterrupt,)}, "on= to be a tuple"),
    ({"give_up_on": None}, "give_up_on= to be a tuple"),
    ({"give_up_on": ("ValueError",)}, "give_up_on= to be a tuple"),
]


@pytest.mark.parametrize("retry", GOOD)
def test_nothing_is_wrong_with_it(retry: Retry) -> None:
    assert retry.problems() == []


@pytest.mark.parametrize(("options", "expected"), BAD)
def test_a_bad_value_is_one_problem_with_its_remedy(options: dict[str, Any], expected: str) -> None:
    (problem,) = Retry(**{"max_attempts": 2, **options}).problems()
    assert expected in problem


def test_all_problems_are_told() -> None:
    bad: Any = {"max_attempts": 0, "backoff": 5, "jitter": 2, "on": OSError, "give_up_on": OSError}
    assert len(Retry(**bad).problems()) == 5


def test_durations_are_seconds_or_timedeltas() -> None:
    assert seconds_of(timedelta(minutes=1, milliseconds=5)) == 60.005
    assert type(seconds_of(3)) is float
    assert [measured(3), measured(timedelta(days=1)), measured(HUGE)] == [3, 86400, float("inf")]
    assert [value for value in ("5", None, True, [5], 5j) if measured(value) == measured(value)] == []
