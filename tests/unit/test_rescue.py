"""Who is dead: judged by two looks, on the observer's own clock."""

from __future__ import annotations

from uuid import UUID

from squidmesh.store.workers import LateWorker
from squidmesh.worker.rescue import Lookout

WORKER = UUID(int=7)


def late(beats: int = 3, *, dead: bool = False, silence: float = 0.0) -> LateWorker:
    return LateWorker(WORKER, beats, dead=dead, host="h", pid=1, late=5.0, silence=silence)


def test_a_late_worker_is_dead_when_its_beats_stood_still_between_two_looks() -> None:
    lookout = Lookout(between=10.0)
    assert lookout.judge([late()], 0.0) == []
    assert lookout.judge([late()], 9.9) == []
    assert lookout.judge([late()], 10.0) == [late()]


def test_a_worker_that_beats_is_alive_whatever_the_clock_says() -> None:
    lookout = Lookout(between=10.0)
    for number in range(10):
        assert lookout.judge([late(number)], number * 10.0) == []


def test_a_worker_whose_lease_says_nothing_is_dead_once_it_was_silent_for_as_long_as_that_was() -> None:
    """The clock was set back: who beats slower than the observer must not be taken for dead."""
    lookout = Lookout(between=10.0)
    assert lookout.judge([late(silence=60.0)], 0.0) == []
    assert lookout.judge([late(silence=60.0)], 59.0) == []
    assert lookout.judge([late(silence=60.0)], 60.0) == [late(silence=60.0)]


def test_a_worker_that_was_declared_dead_is_dead_at_once() -> None:
    assert Lookout(between=10.0).judge([late(dead=True)], 0.0) == [late(dead=True)]
