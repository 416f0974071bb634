"""When a worker looks below the floors of its claims: soon, and not with each look."""

from __future__ import annotations

import pytest

from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.vigil import LATE_STARTS, LONGEST_HIDDEN, Look, Vigil


@pytest.fixture
def vigil() -> Vigil:
    """One that has taken its first turn at 100."""
    made = Vigil(WorkerSettings(), 100.0)
    assert made.begin_turn(100.0) == (Look.BELOW_FLOORS, None)
    made.end_turn(100.0, None)
    return made


def turn(vigil: Vigil, now: float) -> Look:
    look, idle = vigil.begin_turn(now)
    vigil.end_turn(now, idle)
    return look


def test_a_look_that_follows_at_once_stays_above_the_floors_and_is_made_up_for(vigil: Vigil) -> None:
    vigil.look = Look.EVERYTHING
    assert turn(vigil, 100.2) is Look.EVERYTHING
    assert not vigil.wake(100.9)
    assert vigil.patience(100.9, (), stopping=False) == pytest.approx(0.02)  # a nap
    assert vigil.wake(100.0 + LONGEST_HIDDEN)
    assert turn(vigil, 100.0 + LONGEST_HIDDEN) is Look.BELOW_FLOORS
    assert not vigil.wake(200.0)


def test_a_busy_worker_looks_below_them_once_a_second(vigil: Vigil) -> None:
    looks = [turn(vigil, 100.0 + number / 100) for number in range(1, 1000)]
    assert looks.count(Look.BELOW_FLOORS) == 9
    assert looks.count(Look.EVERYTHING) == 0


def test_one_that_is_told_all_the_time_does_so_no_more_often(vigil: Vigil) -> None:
    looks: list[Look] = []
    for number in range(1, 1000):
        vigil.look = Look.EVERYTHING
        looks.append(turn(vigil, 100.0 + number / 100))
    assert looks.count(Look.BELOW_FLOORS) == 9
    assert looks.count(Look.EVERYTHING) == 990


def test_going_to_sleep_it_still_looks_again_for_late_starts(vigil: Vigil) -> None:
    vigil.waited_in_vain(WorkerSettings().nap)
    assert vigil.begin_turn(100.1) == (Look.EVERYTHING, True)
    vigil.end_turn(100.1, idle=True)
    assert turn(vigil, 100.1) is Look.EVERYTHING
    assert vigil.wake(100.1 + LATE_STARTS + 0.001)
    assert turn(vigil, 100.1 + LATE_STARTS + 0.001) is Look.EVERYTHING
    assert vigil.wake(101.0)
    assert turn(vigil, 101.0) is Look.BELOW_FLOORS


def test_a_turn_that_failed_is_followed_by_a_look_below_them_within_the_time(vigil: Vigil) -> None:
    vigil.look = Look.EVERYTHING
    assert vigil.begin_turn(102.0)[0] is Look.BELOW_FLOORS  # and no end
    vigil.look = Look.EVERYTHING
    assert turn(vigil, 102.1) is Look.EVERYTHING
    assert vigil.wake(102.0 + LONGEST_HIDDEN)
    assert turn(vigil, 102.0 + LONGEST_HIDDEN) is Look.BELOW_FLOORS
