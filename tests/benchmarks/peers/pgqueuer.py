"""PgQueuer: an asyncio job queue on asyncpg, or on psycopg: ``option`` says which."""

from __future__ import annotations

from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pgqueuer import PgQueuer
from pgqueuer.db import AsyncpgDriver, PsycopgDriver
from pgqueuer.queries import Queries

from tests.benchmarks.peers.program import Task, batches, main, one_by_one, run_uvloop

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class PgQueuerPeer:
    """The peer. uvloop and batches of 500 were the fastest; of 10 where latency counts."""

    def setup(self, task: Task) -> None:
        async def run() -> None:
            async with _driver(task) as driver:
                await Queries(driver).install()

        run_uvloop(run())

    def fill(self, task: Task) -> None:
        async def run() -> None:
            async with _driver(task) as driver:
                for size in batches(task.count):
                    await Queries(driver).enqueue(["single"] * size, [b"-1"] * size, [0] * size)

        run_uvloop(run())

    def start(self, task: Task) -> None:
        async def run() -> None:
            async with _driver(task) as driver:
                queries = Queries(driver)
                await one_by_one(task, lambda number: queries.enqueue("single", str(number).encode()))

        run_uvloop(run())

    def work(self, task: Task) -> None:
        async def run() -> None:
            async with _driver(task) as driver:
                queuer = PgQueuer(driver)

                @queuer.entrypoint("single")
                async def single(job: Any) -> None:
                    task.end(int(job.payload))

                await queuer.run(batch_size=10 if task.latency else 500, dequeue_timeout=timedelta(seconds=30))

        run_uvloop(run())


@asynccontextmanager
async def _driver(task: Task) -> AsyncIterator[Any]:
    if task.option == "psycopg":
        import psycopg

        async with await psycopg.AsyncConnection.connect(task.dsn, autocommit=True) as connection:
            yield PsycopgDriver(connection)
    else:
        import asyncpg

        connection = await asyncpg.connect(task.dsn)
        yield AsyncpgDriver(connection)
        await connection.close()


if __name__ == "__main__":
    main(PgQueuerPeer())
