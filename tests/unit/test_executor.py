"""The executor: short steps are done by few threads, and long ones by as many as there may be."""

from __future__ import annotations

import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any
from uuid import UUID

from squidmesh import SquidMesh
from squidmesh.planner.outcome import Unknown
from squidmesh.planner.plan import NextJob
from squidmesh.store.jobs import Material
from squidmesh.worker.carried import CarriedRun
from squidmesh.worker.eventloop import EventLoopThread
from squidmesh.worker.executor import Executor
from squidmesh.worker.pools import Pools
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.ticket import Ticket
from squidmesh.worker.watchdog import Watchdog

if TYPE_CHECKING:
    import pytest


def new_ticket(slot: int) -> Ticket:
    """A ticket of which nothing is known, so that its body is over at once."""
    run = CarriedRun(Material(UUID(int=slot), "w", "t", "f", "running", {}, None, None, ()))
    return Ticket(
        run=run,
        job=NextJob(slot=slot, step="s", visit=1, attempt=1, queue="q", priority=0),
        step=None,
        function=None,
        state={},
        kept_since=0.0,
    )


def threads_begin_late(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Threads that are started from now on are listed here, and begin when the test calls their ``begin``."""
    made: list[Any] = []

    class LateThread(threading.Thread):
        def start(self) -> None:
            made.append(self)

        def begin(self) -> None:
            super().start()

    monkeypatch.setattr(threading, "Thread", LateThread)
    return made


def test_no_second_thread_is_made_before_the_first_one_has_come(monkeypatch: pytest.MonkeyPatch) -> None:
    made = threads_begin_late(monkeypatch)
    finished: SimpleQueue[Ticket] = SimpleQueue()
    watchdog = Watchdog(lambda _: None, time.monotonic)
    settings = WorkerSettings(queues={"q": 10})
    executor = Executor(settings, EventLoopThread(watchdog, time.monotonic), watchdog, finished.put, time.monotonic)

    executor.submit([new_ticket(slot) for slot in range(5)])
    executor.submit([new_ticket(slot) for slot in range(5, 10)])
    assert len(made) == 1

    made[0].begin()
    happened = [finished.get(timeout=10).happening for _ in range(10)]
    assert happened == [Unknown()] * 10
    assert len(made) == 2, "it made the next one as it took its first ticket, and none while that one had not come"

    made[1].begin()  # there is nothing left for it
    executor.stop()
    for thread in made:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_an_async_step_that_is_cancelled_before_it_has_begun_is_heard_of() -> None:
    """A task whose first step is yet to come would be thrown away without a word."""
    watchdog = Watchdog(lambda _: None, time.monotonic)
    loop, finished = EventLoopThread(watchdog, time.monotonic), SimpleQueue[Ticket]()
    first, second = new_ticket(0), new_ticket(1)
    busy, go_on = threading.Event(), threading.Event()

    def hold(ticket: Ticket) -> None:
        """Keep the loop busy, so that what comes next comes together."""
        finished.put(ticket)
        busy.set()
        go_on.wait(10)

    loop.submit(first, hold)
    assert busy.wait(10)
    loop.submit(second, finished.put)
    loop.cancel(second)
    go_on.set()

    assert [finished.get(timeout=10).job.slot for _ in range(2)] == [0, 1]


def test_a_loop_that_is_stopped_before_its_thread_has_begun_ends_in_good_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not stopped once more while it waits for its steps to clean up: an error in its thread fails this test."""
    made = threads_begin_late(monkeypatch)
    watchdog = Watchdog(lambda _: None, time.monotonic)
    loop, finished = EventLoopThread(watchdog, time.monotonic), SimpleQueue[Ticket]()
    loop.pools = Pools(SquidMesh("").address, {"q": 1})
    loop.submit(new_ticket(0), finished.put)
    loop.stop()
    made[0].begin()
    made[0].join(timeout=10)
    assert not made[0].is_alive()
