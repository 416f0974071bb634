"""How a worker goes through what ready jobs share, page by page."""

from __future__ import annotations

from math import inf

from squidmesh.store.meters import Metered, Walked
from squidmesh.worker.walk import MeterWalk


def walked(last: str, *, more: bool = False, busy: bool = False) -> dict[str, Walked]:
    return {"default": Walked(last, more, busy)}


def test_the_next_turn_goes_on_after_the_last_page_and_then_begins_anew() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    assert walk.begin(rooms) == {"default": ""}
    walk.end(10.0, walked("m", more=True), Metered([], None))
    assert walk.again == 10.0
    assert walk.begin(rooms) == {"default": "m"}
    walk.end(11.0, walked("z"), Metered([], None))
    assert walk.again == inf
    assert walk.begin(rooms) == {"default": ""}


def test_the_first_opening_of_all_pages_is_the_one_that_is_waited_for() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms)
    walk.end(10.0, walked("m", more=True), Metered([], 5.0))
    walk.begin(rooms)
    walk.end(10.1, walked("z"), Metered([], 60.0))
    assert walk.again == 15.0
    walk.begin(rooms)
    walk.end(15.0, walked("m", more=True), Metered([], 30.0))
    walk.begin(rooms)
    walk.end(15.1, walked("z"), Metered([], 55.0))
    assert walk.again == 45.0
    walk.begin(rooms)
    walk.end(45.0, {}, Metered([], None))
    assert walk.again == inf, "what opened is gone"


def test_what_is_locked_on_an_earlier_page_is_looked_at_again_soon() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms)
    walk.end(10.0, walked("m", more=True, busy=True), Metered([], None))
    walk.begin(rooms)
    walk.end(10.0, walked("z"), Metered([], None))
    assert 10.0 < walk.again < 10.1


def test_a_queue_that_has_no_free_slot_keeps_its_place() -> None:
    walk = MeterWalk()
    walk.begin({"mail": 1, "default": 1})
    walk.end(10.0, {"mail": Walked("m", True, False), "default": Walked("d", True, False)}, Metered([], None))
    assert walk.begin({"default": 1}) == {"default": "d"}
    walk.end(10.0, walked("z"), Metered([], None))
    assert walk.again == inf
    assert walk.begin({"mail": 1, "default": 1}) == {"mail": "m", "default": ""}
