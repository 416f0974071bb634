"""Absurd: durable tasks with checkpointed steps, in stored procedures."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import psycopg
from absurd_sdk import Absurd

from tests.benchmarks.peers.program import CHAIN, Task, batches, main

QUEUE = "bench"


class AbsurdPeer:
    """The peer. Four worker loops in threads, each with its own connection, were the fastest."""

    def setup(self, task: Task) -> None:
        """The SDK brings no SQL: ``absurdctl`` of the same release installs it; it needs psql on the path."""
        program = str(Path(sys.prefix) / "bin" / "absurdctl")
        environment = {**os.environ, "ABSURD_DATABASE_URL": task.dsn}
        subprocess.run([program, "init"], check=True, stdout=subprocess.DEVNULL, env=environment)
        Absurd(task.dsn, queue_name=QUEUE).create_queue(QUEUE)

    def fill(self, task: Task) -> None:
        """The SDK has no bulk call: many spawns share a commit."""
        with psycopg.connect(task.dsn) as connection:
            app = Absurd(connection, queue_name=QUEUE)
            for size in batches(task.count):
                for _ in range(size):
                    app.spawn(task.workflow, {"number": -1}, queue=QUEUE)
                connection.commit()

    def start(self, task: Task) -> None:
        with psycopg.connect(task.dsn, autocommit=True) as connection:
            app = Absurd(connection, queue_name=QUEUE)
            for number in task.numbers():
                app.spawn(task.workflow, {"number": number}, queue=QUEUE)

    def work(self, task: Task) -> None:
        options: dict[str, Any] = {"concurrency": 1, "batch_size": 20, "poll_interval": 0.25}
        if task.latency:
            options |= {"batch_size": None, "poll_interval": 0.01}
        for loop in range(1 if task.latency else 4):
            worker = _declared(task).start_worker
            threading.Thread(target=worker, kwargs={**options, "worker_id": f"w{loop}"}, daemon=True).start()
        threading.Event().wait()


def _declared(task: Task) -> Any:
    app = Absurd(task.dsn, queue_name=QUEUE)

    @app.register_task(name="chain")
    def chain(params: Any, ctx: Any) -> Any:
        for step in range(CHAIN - 1):
            ctx.step(f"s{step}", task.enter)
        return ctx.step("last", lambda: task.end(params["number"]))

    @app.register_task(name="single")
    def single(params: Any, ctx: Any) -> Any:
        return ctx.step("last", lambda: task.end(params["number"]))

    return app


if __name__ == "__main__":
    main(AbsurdPeer())
