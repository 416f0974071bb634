"""Limits and rates that steps share, with real workers."""

from __future__ import annotations

import threading
from collections import defaultdict
from typing import TYPE_CHECKING

import pytest

from squidmesh import Limit, Workflow
from tests.invariants import check
from tests.waiting import TIMEOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab import Lab


class Crowd:
    """Counts how many bodies are at work at once, in all and by key, and lets them go when it is told to."""

    def __init__(self) -> None:
        self.lock = threading.Condition()
        self.at_work: dict[str, int] = defaultdict(int)
        self.most: dict[str, int] = defaultdict(int)
        self.begun = 0
        self._leave = 0

    def enter(self, key: str = "") -> None:
        """A body begins, and stays until it may leave."""
        with self.lock:
            self.begun += 1
            self.at_work[key] += 1
            self.most[key] = max(self.most[key], self.at_work[key])
            self.lock.notify_all()
            assert self.lock.wait_for(lambda: self._leave > 0, TIMEOUT)
            self._leave -= 1
            self.at_work[key] -= 1
            self.lock.notify_all()

    def until_begun(self, count: int) -> None:
        """Wait until so many bodies have begun."""
        with self.lock:
            assert self.lock.wait_for(lambda: self.begun >= count, TIMEOUT), f"{self.begun} of {count} have begun"

    def let_go(self, count: int) -> None:
        """So many may leave."""
        with self.lock:
            self._leave += count
            self.lock.notify_all()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    crowd = Crowd()
    yield crowd
    crowd.let_go(10_000)


def keyed(crowd: Crowd, limit: Limit, **options: object) -> Workflow:
    workflow = Workflow("metered")
    workflow.manual("manual", payload=None)

    def work(account: str = "") -> None:
        crowd.enter(account)

    workflow.step(limit=limit)(work)
    return workflow


def test_a_limit_holds_across_workers(lab: Lab, crowd: Crowd) -> None:
    workflow = Workflow("metered")

    @workflow.step(limit=Limit(3))
    def work() -> None:
        crowd.enter()

    mesh = lab.mesh(workflow)
    mesh.start_runs(workflow, [{}] * 20)
    for _ in range(2):
        lab.worker(lab.mesh(workflow), 10)
    for turn in range(17):
        crowd.until_begun(3 + turn)
        crowd.let_go(1)
    crowd.until_begun(20)
    crowd.let_go(3)
    lab.until_ended(20)
    assert crowd.most == {"": 3}
    check(lab)
