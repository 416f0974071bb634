"""What the programs of all peers share: how they are told what to do, and how they say what they did."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tests.benchmarks.board import Board

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator

CHAIN = 5
"""Steps in a chain."""


@dataclass(frozen=True, slots=True)
class Task:
    """What is asked of the program.

    Args:
        dsn: The database.
        workflow: "chain" or "single".
        board: Where bodies note that they were entered.
        count: How many runs to start.
        pause: Seconds between two, if they are measured one by one.
        latency: Whether the worker is idle, and how soon it begins is what is measured.
        option: What else the peer is told: the driver that it uses.
    """

    dsn: str
    workflow: str
    board: Board
    count: int = 0
    pause: float = 0.0
    latency: bool = False
    option: str = ""

    def enter(self) -> None:
        """A body that is not the last of its run was entered."""
        self.board.enter()

    def end(self, number: int) -> None:
        """The last body of a run was entered; runs with a number are noted singly."""
        if number < 0:
            self.board.count_body()
        else:
            self.board.note_run(number)

    def numbers(self) -> Iterator[int]:
        """The runs to start one by one: numbered, at their pace, where each is timed; else as fast as possible.

        A few without a number come first where each is timed: they open what opens late.
        """
        if self.latency:
            for _ in range(3):
                yield -1
                time.sleep(self.pause)
        for number in range(self.count):
            if self.latency or not number:
                self.board.note_call(number)
            yield number if self.latency else -1
            time.sleep(self.pause)


class Peer(Protocol):
    """What a peer's module offers. Each takes the task and returns when it has done it; ``work`` never returns."""

    def setup(self, task: Task) -> None:
        """Make the tables."""

    def fill(self, task: Task) -> None:
        """Start the runs in bulk, as fast as the library allows."""

    def start(self, task: Task) -> None:
        """Start the runs one by one, each committed."""

    def work(self, task: Task) -> None:
        """Run what was started."""


def main(peer: Peer) -> None:
    """Do what the command line says, and say how many seconds it took."""
    said = json.loads(sys.argv[1])
    action = said.pop("action")
    task = Task(**{**said, "board": Board(said["board"])})
    if action == "work":
        print("ready", flush=True)
        if sys.stdin.readline():
            threading.Thread(target=_end_when_closed, daemon=True).start()
            print("started", flush=True)
            peer.work(task)
        return
    began = time.time_ns()
    getattr(peer, action)(task)
    ended = time.time_ns()
    # Clients open before the first call, which is not part of it.
    began = max(began, task.board.called_at(0))
    print(json.dumps({"seconds": (ended - began) / 1e9}), flush=True)


def _end_when_closed() -> None:
    """What is measured is over, and the database is about to be dropped: end it all, with what was started from here."""
    sys.stdin.read()
    os.killpg(0, signal.SIGKILL)


def batches(count: int, size: int = 1000) -> Iterator[int]:
    """The sizes of batches of ``count`` in all."""
    while count > 0:
        yield min(size, count)
        count -= size


def run_uvloop(work: Coroutine[Any, Any, None]) -> None:
    """Run it on uvloop, where the library's own program or benchmark does."""
    import uvloop

    uvloop.run(work)


async def one_by_one(task: Task, start: Callable[[int], Awaitable[object]]) -> None:
    """Start runs one by one.

    Args:
        task: How many.
        start: Starts one, given its number.
    """
    for number in task.numbers():
        await start(number)
