"""Floors: what a worker remembers of a claim, and where its next one begins."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from squidmesh.records import Job, JobKind, Lane
from squidmesh.states import JobState
from squidmesh.store.jobs import Room
from squidmesh.worker.floors import MARGIN, MOST_PRIORITIES, Floors

AHEAD: Final = Room("q", Lane.AHEAD, 3)


def job(priority: int, waited: float = 0.0, *, queue: str = "q", lane: Lane = Lane.AHEAD) -> Job:
    return Job(
        run_id=UUID(int=1),
        slot=0,
        state=JobState.CLAIMED,
        kind=JobKind.STEP,
        step="s",
        visit=1,
        attempt=1,
        saw=1,
        queue=queue,
        priority=priority,
        lane=lane,
        waited=waited,
    )


def ages(floors: Floors, now: float, room: Room = AHEAD) -> dict[int, float]:
    """How old what is looked at may be, beyond the margin, by its priority."""
    (under,) = floors.under([room], now)
    return {priority: age - MARGIN for priority, age in under.floors}


def test_nothing_is_known_at_first() -> None:
    assert Floors().under([AHEAD], 7.0) == [AHEAD]
    assert Floors().due(7.0) == {}


def test_a_claim_that_got_all_there_was_need_not_be_repeated() -> None:
    floors = Floors()
    floors.note_claimed([AHEAD], [job(0, 50.0), job(4)], 100.0)
    assert ages(floors, 103.0) == {0: 3.0, 4: 3.0}


def test_a_claim_that_left_some_goes_on_where_it_stopped() -> None:
    """It got all of the better priorities, of the last one's some, and has not looked at the others."""
    floors = Floors()
    floors.note_claimed([AHEAD], [job(0), job(9)], 100.0)
    floors.note_claimed([AHEAD], [job(0, 2.0), job(4, 60.0), job(4, 50.0)], 110.0)
    assert ages(floors, 111.0) == {0: 1.0, 4: 51.0, 9: 11.0}


def test_a_later_claim_that_found_older_jobs_takes_the_floor_back() -> None:
    """As a look without floors does, when the clock was set or a start took long to commit."""
    floors = Floors()
    floors.note_claimed([AHEAD], [job(0)], 100.0)
    floors.note_claimed([AHEAD], [job(0, 3600.0)] * 3, 101.0)
    assert ages(floors, 101.0) == {0: 3600.0}


def test_jobs_from_before_a_clock_was_set_back_put_no_floor_into_the_future() -> None:
    floors = Floors()
    floors.note_claimed([AHEAD], [job(0, -3600.0)] * 3, 100.0)
    assert ages(floors, 100.0) == {0: 0.0}


def test_priorities_are_in_order_whatever_the_order_they_were_seen_in() -> None:
    floors = Floors()
    floors.note_claimed([AHEAD], [job(5), job(-2)], 100.0)
    (under,) = floors.under([AHEAD], 100.0)
    assert [priority for priority, _ in under.floors] == [-2, 5]


def test_each_queue_and_lane_has_its_own() -> None:
    floors = Floors()
    others = [Room("r", Lane.AHEAD, 3), Room("q", Lane.ALONE, 3)]
    floors.note_claimed([AHEAD], [job(0)], 100.0)
    assert floors.under(others, 101.0) == others
    floors.note_claimed(others, [job(1, queue="r"), job(2, lane=Lane.ALONE)], 101.0)
    assert [ages(floors, 101.0, room) for room in (AHEAD, *others)] == [{0: 1.0}, {1: 0.0}, {2: 0.0}]


def test_of_very_many_priorities_nothing_is_remembered() -> None:
    floors = Floors()
    for priority in range(MOST_PRIORITIES):
        floors.note_claimed([AHEAD], [job(priority)], 100.0)
    assert len(ages(floors, 101.0)) == MOST_PRIORITIES
    floors.note_claimed([AHEAD], [job(-1)], 100.0)
    assert ages(floors, 101.0) == {}


def test_a_look_that_left_timers_that_are_due_is_repeated() -> None:
    floors = Floors()
    floors.note_woken(["a", "b", "c"], {"a": 9.0, "b": 0.0}, 100.0)
    assert floors.due(101.0) == {"a": 1.0 + MARGIN, "c": 1.0 + MARGIN}
    floors.note_woken(["a", "b"], {"a": 0.0}, 105.0)
    assert floors.due(105.0) == {"a": 5.0 + MARGIN, "b": MARGIN, "c": 5.0 + MARGIN}


def test_what_is_forgotten_is_looked_at_again() -> None:
    floors = Floors()
    floors.note_claimed([AHEAD], [job(0)], 100.0)
    floors.note_woken(["q"], {}, 100.0)
    floors.forget()
    assert floors.under([AHEAD], 101.0) == [AHEAD]
    assert floors.due(101.0) == {}
