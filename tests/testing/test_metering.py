"""Limits and rates in a harness: tokens come back with virtual time, and what waits for them is waited for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from squidmesh import Constant, Context, Defer, Limit, Rate, Reason, Retry, RetryAfter, SquidMesh, Workflow, testing
from tests.lab import NOON, laboratory, standing_still

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Account:
    account: str = "a"


def calling(body: Callable[[str], object] = lambda account: None, **options: Any) -> Workflow:
    """A workflow of one step that calls somebody."""
    workflow = Workflow("calling", payload=Account)

    @workflow.step(**options)
    def call(account: str) -> None:
        body(account)

    return workflow


def of(*accounts: str) -> list[dict[str, str]]:
    return [{"account": account} for account in accounts]


# -- rates -------------------------------------------------------------------------------------------------------------


def test_a_rate_lets_through_what_it_has_and_time_the_next_ones(dsn: str) -> None:
    with standing_still(dsn, calling(rate=Rate(3, per=60))) as h:
        runs = h.mesh.start_runs("calling", of(*"aaaaa"))
        assert len(h.drain()) == 3
        assert h.next_timer == NOON + timedelta(seconds=20)
        assert h.travel(seconds=19) == []
        assert len(h.travel(seconds=1)) == 1
        for run in runs:
            h.run_until(run)
        assert h.now == NOON + timedelta(seconds=40)
        assert {run.status for run in h.runs()} == {"completed"}
        assert h.next_timer is None


def test_run_until_goes_on_across_openings(dsn: str) -> None:
    with standing_still(dsn, calling(rate=Rate(1, per=3600))) as h:
        runs = h.mesh.start_runs("calling", of(*"aaaa"))
        for run in runs:
            h.run_until(run)
        assert h.now == NOON + timedelta(hours=3)


def test_what_was_started_later_waits_for_its_token_as_well(dsn: str) -> None:
    """The worker has looked, and found nothing that it would have to look for again."""
    with standing_still(dsn, calling(rate=Rate(1, per=3600))) as h:
        first = h.mesh.start_run("calling")
        h.run_until(first)
        second = h.mesh.start_run("calling")
        assert h.drain() == []
        h.run_until(second)
        assert h.now == NOON + timedelta(hours=1)


def test_a_burst_gathers_while_nothing_is_done(dsn: str) -> None:
    with standing_still(dsn, calling(rate=Rate(60, per=60, burst=2))) as h:
        h.mesh.start_runs("calling", of(*"aa"))
        assert len(h.drain()) == 2
        h.outage(minutes=10)
        h.mesh.start_runs("calling", of(*"aaa"))
        assert len(h.drain()) == 2
        assert len(h.travel(seconds=1)) == 1


def test_each_value_of_the_key_has_its_own_tokens(dsn: str) -> None:
    called: list[str] = []
    with standing_still(dsn, calling(called.append, rate=Rate(1, per=60, key="account"))) as h:
        h.mesh.start_runs("calling", of("a", "a", "b"))
        h.drain()
        assert sorted(called) == ["a", "b"]
        h.travel(minutes=1)
        assert sorted(called) == ["a", "a", "b"]


def test_a_retry_takes_a_token(dsn: str) -> None:
    def fail(account: str) -> None:
        raise ValueError(account)

    with standing_still(dsn, calling(fail, rate=Rate(1, per=60), retry=Retry(3, Constant(1)))) as h:
        run = h.mesh.start_run("calling")
        h.run_until(run)
        begun = [attempt.started_at for attempt in h.attempts(run)]
        assert begun == [NOON, NOON + timedelta(minutes=1), NOON + timedelta(minutes=2)]


# -- limits ------------------------------------------------------------------------------------------------------------


def test_a_limit_is_passed_from_one_to_the_next(dsn: str) -> None:
    at_work = [0, 0]

    def work(account: str) -> None:
        at_work[0] += 1
        at_work[1] = max(at_work)
        at_work[0] -= 1

    with standing_still(dsn, calling(work, limit=Limit(1, key="account"))) as h:
        h.mesh.start_runs("calling", of(*"aaabbb"))
        assert len(h.drain()) == 6
        assert at_work[1] == 1


def test_the_limits_of_queues_are_those_of_the_mesh_that_was_given(dsn: str) -> None:
    app = SquidMesh(workflows=[calling(queue="mail")], queue_limits={"mail": 3})
    with testing.harness(dsn, mesh=app) as h:
        app.start_run("calling")
        assert h.registry.meters.queue_limits == {"mail": 3}
        app.meters.pause("@mail", seconds=60)
        assert h.drain() == []
        app.meters.resume("@mail")
        assert len(h.drain()) == 1


def test_a_limit_holds_for_a_worker_that_dies_with_it(dsn: str) -> None:
    workflow = calling(limit=Limit(1))
    with standing_still(dsn, workflow) as h:
        run, other = h.mesh.start_runs("calling", of("a", "b"))
        h.crash("call")
        for each in (run, other):
            h.run_until(each)
        assert sorted(len(h.attempts(each)) for each in (run, other)) == [1, 2]


# -- pauses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [Defer, RetryAfter])
def test_a_step_that_is_told_to_wait_pauses_its_key(dsn: str, how: Callable[..., Exception]) -> None:
    called: list[str] = []

    def call(account: str) -> None:
        called.append(account)
        if called == ["a"]:
            raise how(600, pause=True)

    workflow = calling(call, rate=Rate(100, per=1, key="account"), retry=Retry(2, Constant(1)))
    with standing_still(dsn, workflow) as h:
        h.mesh.start_run("calling")
        h.drain()
        h.mesh.start_runs("calling", of("a", "b"))
        h.drain()
        assert called == ["a", "b"]
        assert h.next_timer == NOON + timedelta(minutes=10)
        h.travel(minutes=9)
        assert called == ["a", "b"]
        h.travel(minutes=1)
        assert called == ["a", "b", "a", "a"]


def test_a_step_that_is_told_to_wait_does_not_stop_its_whole_queue(dsn: str) -> None:
    """One service that is busy is no reason for the steps that call others to wait."""

    def call(account: str) -> None:
        if account == "a" and h.now == NOON:
            raise Defer(600, pause=True)

    app = SquidMesh(workflows=[calling(call, queue="mail")], queue_limits={"mail": 3})
    with testing.harness(dsn, mesh=app, at=NOON) as h:
        busy, other = app.start_runs("calling", of("a", "b"))
        h.drain()
        assert (h.run(busy).status, h.run(other).status) == ("running", "completed")
        assert [meter.paused_until for meter in app.meters.list()] == [None]


def test_a_pause_that_a_person_ends_is_over_at_once(dsn: str) -> None:
    with standing_still(dsn, calling(limit=Limit(9, key="account"))) as h:
        h.mesh.meters.pause("calling/call:account=a", seconds=3600)
        run = h.mesh.start_run("calling")
        h.drain()
        assert h.mesh.explain_run(run.id).reason == "key_paused"
        h.mesh.meters.resume("calling/call:account=a")
        h.drain()
        assert h.run(run).status == "completed"
        assert h.now == NOON


def test_it_is_the_same_in_a_transaction_that_the_test_rolls_back(dsn: str) -> None:
    with laboratory(dsn) as lab, lab.session(autocommit=False) as connection:
        workflow = calling(rate=Rate(2, per=60, key="account"), limit=Limit(1))
        with testing.harness(connection=connection, schema=lab.schema, workflows=[workflow], at=NOON) as h:
            runs = h.mesh.start_runs("calling", of(*"aaaab"))
            assert len(h.drain()) == 3
            assert [h.mesh.explain_run(run.id).reason for run in runs].count(Reason.WAITING_FOR_RATE) == 2
            assert len(h.travel(minutes=1)) == 2
            h.mesh.meters.pause("calling/call", seconds=5)
        connection.rollback()


# -- the twin ----------------------------------------------------------------------------------------------------------


def test_the_async_harness_waits_for_tokens_as_well(dsn: str) -> None:
    workflow, called = Workflow("calling"), list[Any]()

    @workflow.step(rate=Rate(2, per=60))
    async def call(ctx: Context) -> None:
        called.append(ctx.run_id)

    async def main() -> None:
        async with testing.async_harness(dsn, workflows=[workflow], at=NOON) as h:
            runs = await h.mesh.start_runs("calling", [{}] * 4)
            assert len(await h.drain()) == 2
            for run in runs:
                await h.run_until(run)
            assert h.now == NOON + timedelta(minutes=1)

    asyncio.run(main())
