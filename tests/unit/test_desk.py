"""How much a worker may claim: free slots, look-ahead, what is claimed alone, urgent jobs, and what memory has room for."""

from __future__ import annotations

import pytest

from squidmesh.records import Lane
from squidmesh.registry import Registry
from squidmesh.store.jobs import LAST, Room
from squidmesh.worker.desk import Desk, urgent_room
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.slots import Standing


def rooms(desk: Desk, standing: Standing) -> dict[Lane, int]:
    """The rooms of a queue with nothing in hand, without the one for what takes no slot."""
    found = desk.rooms(lambda _: standing, (), (), ())
    return {room.lane: room.limit for room in found if room.lane is not Lane.CLOCK}


def desk_of(concurrency: int = 10, **settings: int) -> Desk:
    """A desk with nothing on it."""
    return Desk(Registry(()), WorkerSettings(queues={"q": concurrency}, **settings), lambda: 0.0)


def test_free_slots_are_for_all_lanes_and_look_ahead_is_for_one() -> None:
    assert rooms(desk_of(), Standing(quick=10, ahead=40)) == {Lane.AHEAD: 50, Lane.ALONE: 10, Lane.SUSPECT: 1}


def test_one_suspect_is_claimed_whatever_the_number_of_queues() -> None:
    desk = Desk(Registry(()), WorkerSettings(queues={"a": 1, "b": 1}), lambda: 0.0)

    found = desk.rooms(lambda _: Standing(quick=1), (), (), ())

    assert [room.queue for room in found if room.lane is Lane.SUSPECT] == ["a"]


@pytest.mark.parametrize(
    ("standing", "soon"),
    [
        (Standing(quick=10, ahead=1000), 10),  # no more than there are slots
        (Standing(quick=10, ahead=4), 4),  # no more than get one within a moment
        (Standing(quick=3, ahead=1000), 3),  # long bodies' slots do not count
        (Standing(quick=10, ahead=1000, alone=4), 6),  # nor those that others wait for
        (Standing(quick=0), 0),
    ],
)
def test_what_is_marked_as_started_gets_a_slot_soon(standing: Standing, soon: int) -> None:
    assert standing.soon == soon


@pytest.mark.parametrize(
    ("waiting", "kept", "expected"),
    [
        ({}, [], (0, LAST)),  # nothing that could be overtaken
        ({0: 500}, [], (4, -1)),
        ({0: 2}, [], (2, -1)),  # as many as overtake something
        ({}, [0, 0], (2, -1)),
        ({-5: 3, 0: 500}, [], (1, -1)),  # what goes first in any case leaves one slot to better ones
        ({-5: 4, 0: 500}, [], (4, -6)),
        ({-5: 3}, [-5, 0], (4, -6)),
        ({-5: 1}, [7], (1, 6)),
    ],
)
def test_urgent_jobs_are_claimed_in_place_of_what_they_overtake(
    waiting: dict[int, int], kept: list[int], expected: tuple[int, int]
) -> None:
    """With four slots: the first four to go are the best there are."""
    assert urgent_room(Standing(quick=4, waiting=tuple(sorted(waiting.items()))), kept) == expected


def test_nobody_overtakes_behind_bodies_that_are_long() -> None:
    assert urgent_room(Standing(quick=0, waiting=((0, 5),)), [0]) == (0, LAST)


def test_what_waits_already_leaves_less_room_for_urgent_jobs() -> None:
    desk = desk_of(4)
    desk._in_hand["q"] = 1004
    standing = Standing(quick=4, ahead=1000, alone=3, waiting=((0, 1000),))

    found = [room for room in desk.rooms(lambda _: standing, (), (), ()) if room.lane is not Lane.CLOCK]

    assert found == [
        Room("q", Lane.AHEAD, 4, worst=-1),
        Room("q", Lane.ALONE, 1),
        Room("q", Lane.SUSPECT, 1),
    ]


def test_less_is_claimed_where_results_are_heavy() -> None:
    """Each of four slots is expected to return 100 bytes, of 1,000 that there may be in all."""
    desk = desk_of(4, memory_bytes=1000)
    desk._in_hand["q"] = 4
    standing = Standing(quick=4, ahead=1000, output=100.0)

    assert rooms(desk, standing)[Lane.AHEAD] == 6


def test_one_job_of_a_queue_is_claimed_however_heavy_it_is() -> None:
    assert rooms(desk_of(memory_bytes=1000), Standing(quick=10, ahead=40, output=5000.0)) == {
        Lane.AHEAD: 1,
        Lane.ALONE: 1,
        Lane.SUSPECT: 1,
    }
