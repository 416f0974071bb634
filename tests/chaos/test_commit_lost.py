"""The answer to a COMMIT is lost, or the COMMIT is: the worker cannot know which, and must guess nothing."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

from squidmesh import RunStatus
from tests.effort import FULL_CHAOS
from tests.invariants import check
from tests.proxy import Proxy
from tests.runtime.apps import Bodies, chain_of, fork_of
from tests.waiting import until

if TYPE_CHECKING:
    from tests.lab import Lab

pytestmark = pytest.mark.chaos

SEEDS = range(20 if FULL_CHAOS else 3)


@pytest.mark.parametrize("drop_reply", [True, False], ids=["reply lost", "commit lost"])
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_is_orphaned_or_doubled(lab: Lab, seed: int, drop_reply: bool) -> None:
    """At random commits the connection is cut: each run completes, each body starts once, each attempt is there once."""
    chance = random.Random(seed)
    bodies = Bodies()
    workflows = (chain_of(bodies), fork_of(bodies, 4))
    mesh = lab.mesh(*workflows)
    with Proxy(lab.dsn) as proxy:
        flaky = lab.mesh(*workflows, dsn=proxy.dsn, prepared_statements=False)
        runs = [run for workflow in workflows for run in mesh.start_runs(workflow, [None] * 15)]
        worker = lab.worker(flaky, concurrency=4, lease=30.0)
        for _ in range(6):
            left = chance.randrange(8)

            def at_a_commit(message: bytes) -> bool:
                nonlocal left
                left -= message.startswith(b"P") and b"COMMIT" in message
                return left < 0

            done = proxy.cut_when(at_a_commit, drop_reply=drop_reply)
            until(lambda d=done: d.is_set(), what="a commit")  # type: ignore[misc]
        lab.until_ended(len(runs))
        worker.stop()

    assert {mesh.inspect_run(run.id).status for run in runs} == {RunStatus.COMPLETED}
    assert set(bodies.started.values()) == {1}
    assert bodies.total() == lab.value("SELECT count(*) FROM squidmesh.attempts")
    assert lab.value("SELECT count(*) FROM squidmesh.attempts WHERE status <> 'completed'") == 0
    check(lab, workers_left=False)
