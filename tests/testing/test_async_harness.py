"""The async twin: steps run on the test's own loop, and what runs them is awaited."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from squidmesh import Constant, Retry, Workflow, testing

NOON = datetime(2031, 2, 3, 12, tzinfo=UTC)


def test_async_steps_use_what_belongs_to_the_tests_loop_and_sync_ones_do_not_hold_it_up(dsn: str) -> None:
    async def test() -> None:
        loop, asked, answered = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        workflow = Workflow("mixed")

        @workflow.step(retry=Retry(max_attempts=2, backoff=Constant(60)))
        async def ask() -> dict[str, str]:
            assert asyncio.get_running_loop() is loop
            asked.set()
            await answered.wait()
            return {"answer": "yes"}

        @workflow.step
        def note(answer: str) -> dict[str, bool]:
            asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result(10)
            return {"apart": threading.current_thread() is not threading.main_thread()}

        workflow.sequence(ask, note)

        async def answer() -> None:
            await asked.wait()
            answered.set()

        async with testing.async_harness(dsn, workflows=[workflow], at=NOON) as h:
            run = await h.mesh.start_run(workflow)
            h.fail(ask, ConnectionError, first=1)
            answering = asyncio.create_task(answer())
            assert [each.step for each in await h.drain()] == ["ask"]
            assert (await h.run_until(run, step=ask)).status == "running"
            await answering
            assert [each.step for each in await h.travel(1)] == ["note"]
            await h.travel_to(NOON + timedelta(hours=1))
            assert (await h.mesh.wait_for_run(run.id)).context == {"answer": "yes", "apart": True}
            async with await psycopg.AsyncConnection.connect(dsn) as host:
                await h.mesh.start_run(workflow, connection=host)
                await host.commit()
            h.assert_started(workflow, 2)
            h.crash("note", times=1)
            await h.travel(minutes=2)
            assert [str(each.status) for each in h.runs()] == ["completed", "completed"]

    asyncio.run(test())


def test_a_test_whose_time_is_up_cancels_its_step_and_stores_nothing(dsn: str) -> None:
    async def test() -> None:
        workflow, began = Workflow("endless"), asyncio.Event()

        @workflow.step
        async def hang() -> None:
            began.set()
            await asyncio.Event().wait()

        async with testing.async_harness(dsn, workflows=[workflow]) as h:
            run = await h.mesh.start_run(workflow)
            draining = asyncio.create_task(h.drain())
            await began.wait()
            draining.cancel()
            with pytest.raises(asyncio.CancelledError):
                await draining
            assert [str(attempt.status) for attempt in h.attempts(run)] == ["abandoned"]
            h.replace(hang, lambda: None)
            await h.run_until(run, status="completed")

    asyncio.run(test())


def test_the_sync_harness_in_an_async_test_says_which_one_to_use(dsn: str) -> None:
    workflow = Workflow("lost")

    @workflow.step
    async def work() -> None: ...

    async def test() -> None:
        with testing.harness(dsn, workflows=[workflow]) as h:
            h.mesh.start_run(workflow)
            with pytest.raises(testing.HarnessError, match="async_harness"):
                h.drain()

    asyncio.run(test())
