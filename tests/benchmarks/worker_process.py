"""A worker in a process of its own, so that the harness's interpreter does not disturb it.

``WorkerProcess`` is the harness's side. The other side is this module run as a program: it makes everything ready, says
so, starts its worker when it is told to, and stops when the harness closes the pipe, or dies.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from squidmesh import SquidMesh
from squidmesh.worker.process import dedicate_process
from tests.benchmarks.board import Board
from tests.benchmarks.gauges import cpu_seconds
from tests.benchmarks.recorder import noting
from tests.benchmarks.workflows import workflow_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
STOP_SECONDS = 30.0


class ToldProcess:
    """A process that says when it is ready, starts when it is told to, and ends when its pipe is closed.

    Args:
        command: What it is.
        environment: What it is given beside what this process has.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,  # it may end its whole group, and what it has started with it
        )

    def __enter__(self) -> Self:
        self._hear("ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def start(self) -> None:
        """Start the worker, and wait until it has."""
        assert self._process.stdin is not None
        self._process.stdin.write("start\n")
        self._process.stdin.flush()
        self._hear("started")

    def stop(self) -> None:
        """Stop the worker and end the process. Stopping twice is allowed."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()

    def cpu_seconds(self) -> float:
        """CPU time it has used."""
        return cpu_seconds(self.pid)

    def check(self) -> None:
        """Raise if it has ended by itself; why stands on stderr."""
        assert self._process.poll() is None, "the worker's process has ended"

    def _hear(self, word: str) -> None:
        assert self._process.stdout is not None
        heard = self._process.stdout.readline().strip()
        assert heard == word, f"the worker's process said {heard!r} instead of {word!r}; why stands above"


class WorkerProcess(ToldProcess):
    """A worker of squidmesh.

    Args:
        dsn: Its database.
        workflow: The names of the workflows that it knows, with spaces between them.
        board: Where it notes what it did.
        concurrency: How many steps it runs at once; None for the library's default.
        queues: How many steps of each queue, if it serves another one than "default".
        record: A file in which it leaves the statements that it sent, with the last parameters of each.
    """

    def __init__(
        self,
        dsn: str,
        workflow: str,
        board: Board,
        concurrency: int | None = None,
        *,
        queues: Mapping[str, int] | None = None,
        record: str | None = None,
    ) -> None:
        given = queues or ({"default": concurrency} if concurrency else None)
        said = {"dsn": dsn, "workflow": workflow, "board": board.path, "queues": given, "record": record}
        super().__init__([sys.executable, "-m", "tests.benchmarks.worker_process", json.dumps(said)])


def main(said: Mapping[str, Any]) -> None:
    """Be the worker's process."""
    board = Board(said["board"])
    sent: dict[str, object] = {}

    def note(text: str, params: object) -> None:
        board.count_statement()
        if said["record"]:
            sent[text] = params

    with noting(note):
        mesh = SquidMesh(said["dsn"], workflows=[workflow_of(name, board) for name in said["workflow"].split()])
        worker = mesh.worker(queues=said["queues"])
        dedicate_process()  # as `squidmesh worker` does
        print("ready", flush=True)
        if sys.stdin.readline():
            with worker:
                print("started", flush=True)
                sys.stdin.read()
        mesh.close()
    if said["record"]:
        Path(said["record"]).write_bytes(pickle.dumps(sent))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
