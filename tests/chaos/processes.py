"""Worker processes that a test starts, kills, freezes and thaws."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from tests.lab import QUICK
from tests.waiting import TIMEOUT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab


class WorkerProcess:
    """A worker in a process of its own.

    Args:
        lab: The schema it works on.
        folder: Where its steps leave their traces.
        settings: Its settings, beside the quick ones.
    """

    def __init__(self, lab: Lab, folder: Path, *, dsn: str | None = None, **settings: Any) -> None:
        said = {
            "dsn": dsn or lab.dsn,
            "schema": lab.schema,
            "folder": str(folder),
            "settings": {**QUICK, "queues": {"default": 10}, **settings},
        }
        command = [sys.executable, "-m", "tests.chaos.worker_process", json.dumps(said)]
        with (folder / "stderr").open("a") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.pid = self._process.pid
        lab.undo.callback(self.end)

    def until_ready(self) -> WorkerProcess:
        """Wait until it works."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line.startswith("ready "), f"the worker did not start: {line!r}"
        return self

    @property
    def running(self) -> bool:
        """Whether the process still exists."""
        return self._process.poll() is None

    def wait(self, timeout: float = TIMEOUT) -> int:
        """Wait until it has ended; return its code."""
        return self._process.wait(timeout)

    def kill(self) -> None:
        """End it at once, without a chance to say anything."""
        self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop all its threads, in the middle of whatever they do; return when the last of them stands still."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)  # a busy machine may let a thread go on for a while

    def thaw(self) -> None:
        """Let it go on."""
        os.kill(self.pid, signal.SIGCONT)

    def stop(self) -> int:
        """Let it stop in good order; return its code."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self.wait()

    def end(self) -> None:
        """Make sure that nothing is left of it."""
        self.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()


def start_workers(lab: Lab, folder: Path, count: int, **settings: Any) -> list[WorkerProcess]:
    """Start so many at once and wait until all of them work."""
    workers = [WorkerProcess(lab, folder, **settings) for _ in range(count)]
    return [worker.until_ready() for worker in workers]


def traces(folder: Path, name: str) -> list[list[str]]:
    """The lines that steps or events left in a file, in order, split at spaces."""
    path = folder / name
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []
