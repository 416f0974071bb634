"""The command line as people use it: processes, their output and their exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]

QUICK: Final = ("--heartbeat", "200ms", "--lease", "600ms")
"""A worker that is soon missed."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed for programs; it must be one object with a version."""
        (line,) = self.out.splitlines()
        found = json.loads(line)
        assert found["schema_version"] == 1
        return found

    def ok(self) -> Said:
        """Itself, if it went well."""
        assert self.code == 0, self
        return self


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs commands.

    Args:
        dsn: The database, given through the environment.
        app: The app, likewise.
        directory: Where commands run.
    """

    dsn: str | None = None
    app: str | None = "cli_app:mesh"
    directory: Path = HERE

    def __call__(self, *arguments: object, stdin: str = "", **environ: str) -> Said:
        """Run a command to its end."""
        process = self.open(*arguments, **environ)
        out, err = process.communicate(stdin, timeout=60)
        assert "Traceback" not in err or "--debug" in arguments, err
        return Said(process.returncode, out, err)

    def open(self, *arguments: object, **environ: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, "-m", "squidmesh", *map(str, arguments)],
            cwd=self.directory,
            env={**self.environ, **environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    @property
    def environ(self) -> dict[str, str]:
        """The environment of the commands: nothing of the user's squidmesh settings."""
        ours = ("SQUIDMESH_APP", "SQUIDMESH_DATABASE_URL", "DATABASE_URL")
        found = {name: value for name, value in os.environ.items() if name not in ours}
        found |= {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "utf-8"}
        found |= {"SQUIDMESH_DATABASE_URL": self.dsn} if self.dsn else {}
        return found | ({"SQUIDMESH_APP": self.app} if self.app else {})

    def worker(self, *arguments: object, **environ: str) -> WorkerProcess:
        """Start a worker, and wait until it works."""
        worker = WorkerProcess(self.open("worker", *arguments, **environ)).listen()
        worker.says(" started: ")
        return worker


@dataclass(slots=True)
class WorkerProcess:
    """A worker and its log."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list[str])
    out: list[str] = field(default_factory=list[str])

    def listen(self) -> WorkerProcess:
        """Collect what it says."""
        for stream, lines in ((self.process.stderr, self.lines), (self.process.stdout, self.out)):
            threading.Thread(target=_collect, args=(stream, lines), daemon=True).start()
        return self

    def says(self, text: str) -> str:
        """Wait for a line of its log, and return it."""
        return until(lambda: next((line for line in list(self.lines) if text in line), None), what=f"log: {text}") or ""

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def ends(self) -> int:
        """Wait until it has ended; return its exit code."""
        return self.process.wait(TIMEOUT)

    def stop(self) -> int:
        """Stop it in good order; return its exit code."""
        self.signal(signal.SIGTERM)
        return self.ends()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in self._streams():
            stream.close()

    def _streams(self) -> Iterator[Any]:
        return (s for s in (self.process.stdin, self.process.stdout, self.process.stderr) if s is not None)


def _collect(stream: Any, lines: list[str]) -> None:
    for line in stream:
        lines.append(line.rstrip("\n"))  # noqa: PERF401 - one by one: others look at them meanwhile
