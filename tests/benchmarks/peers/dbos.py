"""DBOS Transact: durable workflows, run through a DBOS queue."""

from __future__ import annotations

import threading
from typing import Any

import sqlalchemy
from dbos import DBOS, DBOSClient

from tests.benchmarks.peers.program import CHAIN, Task, batches, main

QUEUE = "bench"


class Dbos:
    """The peer. Four threads and no pre-ping were the fastest; polling more often costs idle transactions."""

    def setup(self, task: Task) -> None:
        _declare(task)
        DBOS.launch()
        DBOS.destroy()

    def fill(self, task: Task) -> None:
        client = DBOSClient(system_database_url=task.dsn)
        engine = sqlalchemy.create_engine(task.dsn.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            for size in batches(task.count):
                with connection.begin():
                    for _ in range(size):
                        client.enqueue_in_transaction(connection, _options(task), -1)
        client.destroy()

    def start(self, task: Task) -> None:
        client = DBOSClient(system_database_url=task.dsn)
        for number in task.numbers():
            client.enqueue(_options(task), number)
        client.destroy()

    def work(self, task: Task) -> None:
        _declare(task)
        DBOS.launch()
        DBOS.register_queue(
            QUEUE,
            worker_concurrency=None if task.latency else 400,
            polling_interval_sec=0.01 if task.latency else 0.05,
            on_conflict="always_update",
        )
        threading.Event().wait()


def _options(task: Task) -> dict[str, Any]:
    return {"workflow_name": task.workflow, "queue_name": QUEUE}


def _declare(task: Task) -> None:
    DBOS(
        config={
            "name": "bench",
            "system_database_url": task.dsn,
            "log_level": "ERROR",
            "application_version": "bench",
            "executor_id": "worker",
            "sys_db_pool_size": 20,
            "db_engine_kwargs": {"pool_pre_ping": False},
            "max_executor_threads": 4,
        }
    )

    @DBOS.step(name="early")
    def early(number: int) -> int:
        task.enter()
        return number

    @DBOS.step(name="last")
    def last(number: int) -> int:
        task.end(number)
        return number

    @DBOS.workflow(name="chain")
    def chain(number: int) -> object:
        for _ in range(CHAIN - 1):
            early(number)
        return last(number)

    @DBOS.workflow(name="single")
    def single(number: int) -> object:
        return last(number)


if __name__ == "__main__":
    main(Dbos())
