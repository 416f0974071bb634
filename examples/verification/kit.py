"""What the verifications share: a database of their own, worker processes to kill, and what they are in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from squidmesh.embedded import EmbeddedPostgres, given_dsn
from tests.lab import Lab, laboratory
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Generator

ROOT: Final = Path(__file__).resolve().parents[2]
APP: Final = "examples.verification.workflows:mesh"
SETTINGS: Final = {"fsync": "off", "full_page_writes": "off", "max_connections": "200"}
"""A killed server loses nothing with these; only a machine that loses its power would."""


PATIENCE: Final = 60.0
"""Seconds; far more than anything takes that is waited for."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is verified.

    Args:
        lab: A schema of its own.
        folder: Where steps leave traces, and where files hold them up.
        postgres: The server, where it is our own and may be restarted.
        workers: The worker processes.
    """

    lab: Lab
    folder: Path
    postgres: EmbeddedPostgres | None
    workers: list[WorkerProcess] = field(default_factory=list["WorkerProcess"])

    @property
    def log(self) -> Path:
        """What the workers say."""
        return self.folder / "log"

    def start_worker(self, *arguments: str) -> WorkerProcess:
        """Start one more worker process; ``until_ready`` waits until it works."""
        worker = WorkerProcess(self, *arguments)
        self.workers.append(worker)
        return worker

    def until_ready(self) -> None:
        """Wait until all workers that were started have told the database."""
        pids = [worker.process.pid for worker in self.workers]
        query = "SELECT count(*) FROM squidmesh.workers WHERE pid = ANY (%s) AND NOT dead"
        until(lambda: self.lab.value(query, pids) >= len(pids), PATIENCE, what="workers that work")

    def kill_workers(self) -> None:
        """End all of them at once, without a chance to say anything."""
        for worker in self.workers:
            worker.end()
        self.workers.clear()

    def stop_workers(self) -> list[int]:
        """Let all of them stop in good order; return their exit codes."""
        for worker in self.workers:
            worker.process.send_signal(signal.SIGTERM)
        codes = [worker.process.wait(60) for worker in self.workers]
        self.kill_workers()
        return codes


class WorkerProcess:
    """``python -m squidmesh worker`` with the workflows of the verifications.

    Args:
        place: Where it works.
        arguments: Its further arguments.
    """

    def __init__(self, place: Place, *arguments: str) -> None:
        command = ["-m", "squidmesh", "worker", "--app", APP, "--lease", "1s", "--heartbeat", "200ms", "--grace", "2s"]
        environ = {
            **os.environ,
            "SQUIDMESH_DATABASE_URL": place.lab.dsn,
            "VERIFICATION_SCHEMA": place.lab.schema,
            "VERIFICATION_FOLDER": str(place.folder),
            "PYTHONPATH": str(ROOT),
        }
        with place.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, *command, *arguments], env=environ, cwd=ROOT, stdout=log, stderr=log
            )

    def end(self) -> None:
        """Kill it, if it lives, and forget it."""
        self.process.kill()
        self.process.wait()


@contextmanager
def opened(dsn: str | None = None) -> Generator[Place]:
    """A place for one verification, on the database that was given or on a server of its own."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory(prefix="verification-")))
        given, postgres = dsn or given_dsn(os.environ), None
        if given is None:
            postgres = undo.enter_context(EmbeddedPostgres(settings=SETTINGS))
            given = postgres.dsn
        place = Place(undo.enter_context(laboratory(given)), folder, postgres)
        undo.callback(place.kill_workers)
        yield place
