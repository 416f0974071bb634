"""A board: a few numbers in a memory-mapped file, that a worker's process writes and the harness reads.

It costs neither of them a system call, and the database nothing.
"""

from __future__ import annotations

import mmap
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST, _BODIES, _STATEMENTS, _RUNS = range(4)
MOST_RUNS: Final = 4096
_CALLS: Final = _RUNS + MOST_RUNS
_SIZE: Final = 8 * (_CALLS + MOST_RUNS)


class Board:
    """The numbers. Instants are nanoseconds of the machine's clock, the same in all processes.

    Args:
        path: The file, made by ``new_board``.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        with Path(path).open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), _SIZE)).cast("q")
        self._lock = threading.Lock()

    @property
    def first_body(self) -> int:
        """When the first body was entered; 0 before."""
        return self._cells[_FIRST]

    def enter(self) -> None:
        """A body was entered: only the first one is noted."""
        if not self._cells[_FIRST]:
            self._cells[_FIRST] = time.time_ns()

    @property
    def bodies(self) -> int:
        """How many last bodies of a run have been entered."""
        return self._cells[_BODIES]

    def count_body(self) -> None:
        """A run's last body was entered."""
        self.enter()
        with self._lock:
            self._cells[_BODIES] += 1

    @property
    def statements(self) -> int:
        """How many commands were sent to the database."""
        return self._cells[_STATEMENTS]

    def count_statement(self) -> None:
        """A command was sent to the database."""
        with self._lock:
            self._cells[_STATEMENTS] += 1

    def entered_at(self, run: int) -> int:
        """When a numbered run's body was entered; 0 before."""
        return self._cells[_RUNS + run]

    def note_run(self, run: int) -> None:
        """A numbered run's body was entered."""
        self._cells[_RUNS + run] = time.time_ns()

    def called_at(self, run: int) -> int:
        """When a numbered run's start was called for by another process; 0 before."""
        return self._cells[_CALLS + run]

    def note_call(self, run: int) -> None:
        """A numbered run is about to be started."""
        self._cells[_CALLS + run] = time.time_ns()


@contextmanager
def new_board() -> Iterator[Board]:
    """A board full of zeros."""
    with TemporaryDirectory(prefix="squidmesh-bench-") as folder:
        path = Path(folder) / "board"
        path.write_bytes(bytes(_SIZE))
        yield Board(str(path))
