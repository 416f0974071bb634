"""A laboratory: a schema for one test, with meshes, workers and sessions on it that are closed when the test ends."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import psycopg

from squidmesh import SquidMesh, WorkerStopped, testing
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.worker import Worker
from tests.invariants import check
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from squidmesh import Run, Workflow
    from squidmesh.events import Event

NOON = datetime(2031, 2, 3, 12, tzinfo=UTC)
"""When time stands still, it stands here."""

QUICK = {"lease": 1.0, "beat": 0.1, "grace": 5.0}
"""Settings of a worker that is soon missed, and soon misses others."""


class Lab:
    """What one test works with.

    Args:
        dsn: The address of the database.
        schema: The schema, migrated.
        undo: Where what is opened registers how it is closed.
    """

    def __init__(self, dsn: str, schema: str, undo: ExitStack) -> None:
        self.dsn = dsn
        self.schema = schema
        self.undo = undo
        self._observer: psycopg.Connection[Any] | None = None

    def mesh(self, *workflows: Workflow, dsn: str | None = None, **options: Any) -> SquidMesh:
        """A mesh on the schema."""
        mesh = SquidMesh(dsn or self.dsn, workflows=workflows, schema=self.schema, **options)
        self.undo.callback(mesh.close)
        return mesh

    def worker(self, mesh: SquidMesh, concurrency: int = 10, **settings: Any) -> Worker:
        """A started worker that soon misses others; its settings beyond those of ``mesh.worker`` may be given, too."""
        queues, clock = settings.pop("queues", {"default": concurrency}), settings.pop("clock", None)
        worker = mesh.worker(queues=queues)
        chosen = WorkerSettings(**{"queues": queues, **QUICK, **settings})
        # ``mesh.worker`` offers what an operator may choose; tests choose more.
        address = mesh._address
        worker = Worker(
            connect=address.connect,
            listen=None if address.polling_only else address.connect_to_listen,
            address=address,
            schema=mesh.schema,
            channel=mesh.schema,
            registry=mesh.registry,
            bus=mesh.events,
            settings=chosen,
            clock=clock,
        )
        self.undo.callback(_stop, worker)
        return worker.start()

    def session(self, **options: Any) -> psycopg.Connection[Any]:
        """A session of one's own, in autocommit mode if nothing else is said."""
        connection = psycopg.connect(self.dsn, **{"autocommit": True, "application_name": "lab", **options})
        self.undo.callback(connection.close)
        return connection

    def rows(self, query: str, *params: object) -> list[tuple[Any, ...]]:
        """The rows of a query, which names the schema as the SQL files do."""
        if self._observer is None or self._observer.closed:
            self._observer = self.session()
        try:
            return self._run(query, params)
        except psycopg.OperationalError:  # the server was restarted
            self._observer = self.session()
            return self._run(query, params)

    def _run(self, query: str, params: tuple[object, ...]) -> list[tuple[Any, ...]]:
        assert self._observer is not None
        cursor = self._observer.execute(self.sql(query), params)
        return cursor.fetchall() if cursor.description else []

    def value(self, query: str, *params: object) -> Any:
        """The first column of a query's only row."""
        ((value, *_),) = self.rows(query, *params)
        return value

    def sql(self, query: str) -> bytes:
        """A query for this schema."""
        return query.replace("squidmesh.", f"{self.schema}.").encode()

    def jobs(self) -> Counter[str]:
        """How many jobs there are in each state."""
        return Counter(dict(self.rows("SELECT state, count(*) FROM squidmesh.jobs GROUP BY 1")))

    def attempts(self, run: Run | UUID) -> list[tuple[str, int, str]]:
        """(step, attempt, status) of a run's ended attempts, in order."""
        run_id = getattr(run, "id", run)
        query = "SELECT step, attempt, status FROM squidmesh.attempts WHERE run_id = %s AND kind = 'step' ORDER BY seq"
        return self.rows(query, run_id)

    def until_ended(self, count: int, timeout: float = TIMEOUT) -> None:
        """Wait until so many runs have ended."""
        query = "SELECT count(*) FROM squidmesh.runs WHERE finished_at IS NOT NULL"
        until(lambda: self.value(query) >= count, timeout, what=f"{count} runs that have ended")

    def terminate(self, condition: str = "true") -> int:
        """Terminate the backends of squidmesh's connections that meet a condition on pg_stat_activity."""
        query = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'squidmesh' AND {condition}"
        return int(self.value(query))


def until_status(mesh: SquidMesh, run: Run, status: str) -> Run:
    """Wait until a run has a status or needs this attention; return it with its history."""

    def reached() -> list[Run]:
        shown = mesh.inspect_run(run.id, include_history=True)
        return [shown] if status in (shown.status, shown.attention) else []

    return until(reached, what=f"a run that is {status}")[0]


class Ear:
    """A subscriber that remembers."""

    def __init__(self, mesh: SquidMesh, *names: str) -> None:
        self.events: list[Event] = []
        self._mesh = mesh
        self.stop = mesh.subscribe(self.events.append, *names)

    def names(self) -> list[str]:
        """The names of what was heard so far."""
        assert self._mesh.events.flush(TIMEOUT)
        return [event.name for event in self.events]

    def heard(self, name: str, count: int = 0) -> list[Event]:
        """The events of a name that were heard so far; they come after the commit that they tell of.

        Args:
            name: The name.
            count: At least so many are waited for.
        """

        def found() -> list[Event]:
            assert self._mesh.events.flush(TIMEOUT)
            return [event for event in self.events if event.name == name]

        if count:
            until(lambda: len(found()) >= count, what=f"{count} events {name}")
        return found()


class Gate:
    """A door that steps come to: a test waits until they are there, and lets them through."""

    def __init__(self) -> None:
        self.come = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def pass_(self) -> None:
        """Come to the door, and go on when it is open."""
        with self._lock:
            self.come += 1
        assert self._open.wait(TIMEOUT), "nobody opened the gate"

    def until_come(self, count: int = 1) -> None:
        """Wait until so many have come."""
        until(lambda: self.come >= count, what=f"{count} steps at the gate")

    def open(self) -> None:
        """Let through who is there and who will come."""
        self._open.set()


def _stop(worker: Worker) -> None:
    with suppress(WorkerStopped):
        worker.stop(grace=0)


@contextmanager
def laboratory(dsn: str) -> Iterator[Lab]:
    """A laboratory on a database."""
    schema = f"t_{uuid4().hex[:10]}"
    with ExitStack() as undo:
        with SquidMesh(dsn, schema=schema) as mesh:
            mesh.migrate()
        undo.callback(_drop, dsn, schema)
        yield Lab(dsn, schema, undo)


@contextmanager
def standing_still(dsn: str, *workflows: Workflow, at: datetime = NOON) -> Iterator[testing.Harness]:
    """A harness whose time stands at an instant; what it leaves behind is checked at the end."""
    with testing.harness(dsn, workflows=workflows, at=at) as harness:
        yield harness
        with ExitStack() as undo:
            check(Lab(dsn, harness.schema, undo))


def _drop(dsn: str, schema: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("SET client_min_messages = warning")
        connection.execute(f"DROP SCHEMA {schema} CASCADE".encode())


__all__ = ["NOON", "Ear", "Gate", "Lab", "laboratory", "standing_still", "until_status"]
