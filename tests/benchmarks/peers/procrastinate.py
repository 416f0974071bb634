"""Procrastinate: an asyncio job queue on psycopg."""

from __future__ import annotations

import asyncio
from typing import Any

import procrastinate

from tests.benchmarks.peers.program import Task, batches, main, one_by_one


class Procrastinate:
    """The peer. Five jobs at once on five connections were the fastest."""

    def setup(self, task: Task) -> None:
        async def run() -> None:
            app, _ = _declared(task)
            async with app.open_async():
                await app.schema_manager.apply_schema_async()

        asyncio.run(run())

    def fill(self, task: Task) -> None:
        async def run() -> None:
            app, single = _declared(task)
            async with app.open_async():
                for size in batches(task.count):
                    await single.batch_defer_async(*({"number": -1} for _ in range(size)))

        asyncio.run(run())

    def start(self, task: Task) -> None:
        async def run() -> None:
            app, single = _declared(task)
            async with app.open_async():
                await one_by_one(task, lambda number: single.defer_async(number=number))

        asyncio.run(run())

    def work(self, task: Task) -> None:
        async def run() -> None:
            app, _ = _declared(task)
            async with app.open_async():
                await app.run_worker_async(concurrency=5, name="worker")

        asyncio.run(run())


def _declared(task: Task) -> tuple[Any, Any]:
    connector = procrastinate.PsycopgConnector(conninfo=task.dsn, min_size=4, max_size=5)
    app = procrastinate.App(connector=connector)

    @app.task(name="single")
    async def single(number: int) -> None:
        task.end(number)

    return app, single


if __name__ == "__main__":
    main(Procrastinate())
