"""Chancy: an asyncio job queue on psycopg."""

from __future__ import annotations

import asyncio
import logging

from chancy import Chancy, Queue, Worker, job

from tests.benchmarks.peers.program import Task, main, one_by_one

_tasks: list[Task] = []

QUIET = logging.getLogger("bench")
"""Its own logger says a line for each job."""


@job(queue="bench")
async def single(*, number: int) -> None:
    _tasks[0].end(number)


class ChancyPeer:
    """The peer. Its asyncio executor with a concurrency of 1,000 and eager polling was the fastest."""

    def setup(self, task: Task) -> None:
        async def run() -> None:
            async with Chancy(task.dsn, log=QUIET) as chancy:
                await chancy.migrate()

        asyncio.run(run())

    def fill(self, task: Task) -> None:
        async def run() -> None:
            async with Chancy(task.dsn, log=QUIET) as chancy:
                jobs = [single.job.with_kwargs(number=-1) for _ in range(task.count)]
                async for _ in chancy.push_many(jobs):
                    pass

        asyncio.run(run())

    def start(self, task: Task) -> None:
        async def run() -> None:
            async with Chancy(task.dsn, log=QUIET) as chancy:
                await one_by_one(task, lambda number: chancy.push(single.job.with_kwargs(number=number)))

        asyncio.run(run())

    def work(self, task: Task) -> None:
        _tasks.append(task)

        async def run() -> None:
            async with Chancy(task.dsn, log=QUIET) as chancy:
                queue = Queue(
                    "bench",
                    concurrency=10 if task.latency else 1000,
                    polling_interval=1,
                    eager_polling=True,
                    executor=Chancy.Executor.Async,
                )
                await chancy.declare(queue, upsert=True)
                async with Worker(chancy) as worker:
                    await worker.wait_for_shutdown()

        asyncio.run(run())


if __name__ == "__main__":
    main(ChancyPeer())
