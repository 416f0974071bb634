"""Oban for Python: an asyncio job queue on psycopg."""

from __future__ import annotations

import asyncio
from typing import Any

from oban import Oban, worker
from oban.schema import install

from tests.benchmarks.peers.program import Task, batches, main, one_by_one, run_uvloop

_tasks: list[Task] = []


class _Body:
    async def process(self, job: Any) -> None:
        _tasks[0].end(job.args["number"])


Single: Any = worker(queue="default")(_Body)


class ObanPeer:
    """The peer. uvloop, as its own program has it, and a limit of 500 were the fastest; of 10 where latency counts."""

    def setup(self, task: Task) -> None:
        async def run() -> None:
            pool = await Oban.create_pool(task.dsn)
            await install(pool)
            await pool.close()

        run_uvloop(run())

    def fill(self, task: Task) -> None:
        async def run() -> None:
            pool = await Oban.create_pool(task.dsn)
            async with Oban(pool=pool) as oban:
                for size in batches(task.count):
                    await oban.enqueue_many(Single.new({"number": -1}) for _ in range(size))
            await pool.close()

        run_uvloop(run())

    def start(self, task: Task) -> None:
        async def run() -> None:
            pool = await Oban.create_pool(task.dsn)
            async with Oban(pool=pool) as oban:
                await one_by_one(task, lambda number: oban.enqueue(Single.new({"number": number})))
            await pool.close()

        run_uvloop(run())

    def work(self, task: Task) -> None:
        _tasks.append(task)

        async def run() -> None:
            pool = await Oban.create_pool(task.dsn)
            async with Oban(pool=pool, queues={"default": {"limit": 10 if task.latency else 500}}):
                await asyncio.Event().wait()

        run_uvloop(run())


if __name__ == "__main__":
    main(ObanPeer())
