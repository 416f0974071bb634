"""How a worker goes through what ready jobs share, page by page."""

from __future__ import annotations

from math import inf
from uuid import UUID

import pytest

from squidmesh.records import Job, JobKind, Lane
from squidmesh.states import JobState
from squidmesh.store.meters import Metered, Walked
from squidmesh.worker.walk import LONGEST_REST, MeterWalk


def walked(last: str, *, more: bool = False, busy: bool = False) -> dict[str, Walked]:
    return {"default": Walked(last, more, busy)}


def test_the_next_turn_goes_on_after_the_last_page_and_then_begins_anew() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    assert walk.begin(rooms, news=False) == {"default": ""}
    walk.end(10.0, walked("m", more=True), Metered([], None))
    assert walk.again == 10.0
    assert walk.begin(rooms, news=False) == {"default": "m"}
    walk.end(11.0, walked("z"), Metered([], None))
    assert walk.again == inf
    assert walk.begin(rooms, news=False) == {"default": ""}


def test_the_first_opening_of_all_pages_is_the_one_that_is_waited_for() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms, news=False)
    walk.end(10.0, walked("m", more=True), Metered([], 5.0))
    walk.begin(rooms, news=False)
    walk.end(10.1, walked("z"), Metered([], 60.0))
    assert walk.again == 15.0
    walk.begin(rooms, news=False)
    walk.end(15.0, walked("m", more=True), Metered([], 30.0))
    walk.begin(rooms, news=False)
    walk.end(15.1, walked("z"), Metered([], 55.0))
    assert walk.again == 45.0
    walk.begin(rooms, news=False)
    walk.end(45.0, {}, Metered([], None))
    assert walk.again == inf, "what opened is gone"


def test_what_is_locked_on_an_earlier_page_is_looked_at_again_soon() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms, news=False)
    walk.end(10.0, walked("m", more=True, busy=True), Metered([], None))
    walk.begin(rooms, news=False)
    walk.end(10.0, walked("z"), Metered([], None))
    assert 10.0 < walk.again < 10.1


def test_a_queue_that_has_no_free_slot_keeps_its_place() -> None:
    walk = MeterWalk()
    walk.begin({"mail": 1, "default": 1}, news=False)
    walk.end(10.0, {"mail": Walked("m", True, False), "default": Walked("d", True, False)}, Metered([], None))
    assert walk.begin({"default": 1}, news=False) == {"default": "d"}
    walk.end(10.0, walked("z"), Metered([], None))
    assert walk.again == inf
    assert walk.begin({"mail": 1, "default": 1}, news=False) == {"mail": "m", "default": ""}


JOB = Job(
    run_id=UUID(int=1),
    slot=0,
    state=JobState.CLAIMED,
    kind=JobKind.STEP,
    step="s",
    visit=1,
    attempt=1,
    saw=1,
    queue="default",
    priority=0,
    lane=Lane.METERED,
    worker=None,
    claim=1,
    started=True,
    crashes=0,
    defers=0,
    reason=None,
    meters=None,
)


def test_what_was_left_on_a_page_for_want_of_a_slot_is_looked_at_in_another_round() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms, news=True)
    walk.end(10.0, walked("m", more=True), Metered([JOB], 9.0))
    assert walk.begin(rooms, news=False) == {"default": "m"}
    walk.end(11.0, {}, Metered([], None))
    assert walk.again == 11.0
    assert walk.begin(rooms, news=False) == {"default": ""}
    walk.end(11.0, walked("m"), Metered([], 8.0))
    assert walk.again == 19.0, "nothing is left"


def test_what_is_new_on_a_page_that_was_seen_is_looked_at_in_another_round() -> None:
    walk, rooms = MeterWalk(), {"default": 1}
    walk.begin(rooms, news=False)
    walk.end(10.0, walked("m", more=True), Metered([], None))
    walk.begin(rooms, news=True)
    walk.end(11.0, walked("z"), Metered([], None))
    assert walk.again == 11.0
    walk.begin(rooms, news=True)
    walk.end(12.0, walked("z"), Metered([], None))
    assert walk.again == inf, "all was looked at since"


# -- when to look again -----------------------------------------------------------------------------------------------

NOTHING = Metered([], None)


def looked(walk: MeterWalk, metered: Metered = NOTHING, walked: Walked | None = None, now: float = 100.0) -> float:
    """Seconds until the next look, after one."""
    walk.begin({"q": 1}, news=False)
    walk.end(now, {} if walked is None else {"q": walked}, metered)
    return walk.again - now


def test_where_nothing_waits_nobody_looks_again_by_itself() -> None:
    assert looked(MeterWalk()) == inf


def test_a_page_that_was_full_is_followed_by_the_next_one() -> None:
    walk = MeterWalk()
    assert looked(walk, walked=Walked("m", more=True, busy=False)) == 0
    assert walk.begin({"q": 1, "r": 1}, news=False) == {"q": "m", "r": ""}
    walk.end(0, {"q": Walked("z", more=False, busy=False)}, NOTHING)
    assert walk.begin({"q": 1}, news=False) == {"q": ""}


def test_what_somebody_else_has_locked_is_looked_at_soon() -> None:
    assert 0 < looked(MeterWalk(), walked=Walked("m", more=False, busy=True)) < 0.02


def test_a_worker_looks_when_a_rate_has_a_token_again_unless_others_take_them_all() -> None:
    walk = MeterWalk()
    waits = [looked(walk, Metered([], 0.001)) for _ in range(30)]
    assert waits[:2] == [pytest.approx(0.001)] * 2
    assert LONGEST_REST / 2 <= waits[-1] <= LONGEST_REST
    assert looked(walk, Metered([], 60.0)) == pytest.approx(60.0)
