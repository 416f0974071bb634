"""``SquidMesh``: what a sync application holds. Each method checks, asks, returns; see ``operations`` for what."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self, TypeVar

from psycopg_pool import ConnectionPool

from squidmesh.control import Control
from squidmesh.deploy import check_deploy
from squidmesh.errors import RunTimeout
from squidmesh.explaining import explain_run
from squidmesh.keyed import with_key
from squidmesh.mesh import Deadline
from squidmesh.mesh_meters import Meters
from squidmesh.operations import run_filter, run_id_of
from squidmesh.schedules import Schedules
from squidmesh.store.database import Database, check_pooled, close_at_exit
from squidmesh.store.migrations import ensure_schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from types import TracebackType
    from uuid import UUID

    import psycopg

    from squidmesh.explanation import Explanation
    from squidmesh.keyed import OnConflict
    from squidmesh.operations import Start
    from squidmesh.planner.graph import Graph
    from squidmesh.records import DeployCheck, Run, RunDiff
    from squidmesh.retry import Seconds
    from squidmesh.states import RunStatus
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow

T = TypeVar("T")


class SquidMesh(Control):
    """Durable workflows on a Postgres database; for sync code. ``AsyncSquidMesh`` is its twin for async code.

    Methods that change something take ``connection=``, a psycopg connection whose transaction they then take part in:
    what they do happens if and when that transaction commits, and no event tells of it.

    Args:
        dsn: Address of the database; by default SQUIDMESH_DATABASE_URL or DATABASE_URL.
        workflows: The workflows of this app. They are checked and frozen.
        schema: The schema that squidmesh lives in.
        listen_dsn: Address for LISTEN, where ``dsn`` goes through a pooler that shares sessions.
        polling_only: Do without LISTEN.
        prepared_statements: False behind a pooler that cannot keep them.
        max_connections: Size of the pool.
        queue_limits: How many steps of a queue may execute at once, on all workers together.

    Raises:
        DefinitionError: A workflow is declared wrongly.
        ConfigurationError: Two workflows have one name, or the schema's name cannot be used.

    Example::

        mesh = SquidMesh("postgresql://localhost/billing", workflows=[orders])
        run = mesh.start_run(orders, {"order_id": "o-17"})
    """

    _database: Database | None = None

    @property
    def schedules(self) -> Schedules:
        """The schedules: those that code declares, and those that are created at run time."""
        return Schedules(self._schedules, self._ask, self._register, self._tell_scheduled)

    @property
    def meters(self) -> Meters:
        """The limits and rates that steps share: who holds them, who waits, and what is paused."""
        return Meters(self._meters, self._ask)

    def start_run(
        self,
        workflow: Workflow | str,
        payload: object = None,
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        key: str | None = None,
        on_conflict: OnConflict = "return",
        connection: psycopg.Connection[Any] | None = None,
    ) -> Run:
        """Start a run.

        Args:
            workflow: A registered workflow, or its name.
            payload: A dataclass instance or mapping that meets the trigger's contract.
            trigger: The trigger's name; the first one declared by default.
            run_at: An aware datetime before which it does not begin.
            delay: Seconds or timedelta from now before which it does not begin.
            key: Names the run: however often and by whomever it is started, there is one run of the workflow with this
                key, as long as its row exists. At most 200 characters.
            on_conflict: What happens if there is one already, whatever its payload: "return" returns it, as
                ``list_runs`` would; "raise" raises ``RunExists``.
            connection: A psycopg connection to take part in the transaction of.

        Raises:
            WorkflowNotFound: The workflow is not registered.
            TriggerNotFound: It has no such trigger.
            InvalidPayload: The payload does not meet the contract.
            InvalidOption: ``run_at``, ``delay``, ``key`` or ``on_conflict`` cannot be used.
            RunExists: The key is taken, and ``on_conflict`` is "raise".
            ConnectionUnusable: ``connection`` cannot take part.
        """
        start = self._operations.prepare(workflow, [payload], trigger=trigger, run_at=run_at, delay=delay)
        return self._start(with_key(start, key, on_conflict), connection)[0]

    def start_runs(
        self,
        workflow: Workflow | str,
        payloads: Iterable[object],
        *,
        trigger: str | None = None,
        run_at: datetime | None = None,
        delay: Seconds | None = None,
        connection: psycopg.Connection[Any] | None = None,
    ) -> list[Run]:
        """Start many runs in one transaction: all of them, or none. As ``start_run``, with a payload for each."""
        start = self._operations.prepare(workflow, payloads, trigger=trigger, run_at=run_at, delay=delay)
        return self._start(start, connection) if start.runs.ids else []

    def inspect_run(
        self, run_id: UUID | str, *, include_history: bool = False, after_seq: int = 0, limit: int = 1000
    ) -> Run:
        """A run, with its context.

        Args:
            run_id: Its id.
            include_history: Whether to add its declared steps, step runs, attempts and audit events.
            after_seq: Where the page of history begins: ``history.next_seq`` of the page before.
            limit: Attempts on a page, at most, up to 1,000.

        Raises:
            InvalidOption: ``after_seq`` or ``limit`` cannot be used.
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
        """
        flow = self._operations.inspect(run_id_of(run_id), history=include_history, after_seq=after_seq, limit=limit)
        return self._ask(flow)

    def explain_run(self, run_id: UUID | str) -> Explanation:
        """Why a run is where it is, the evidence for that, and what may be done about it now.

        Everything is of one instant. Each of its ``next_actions`` is one that this mesh would accept at that instant.

        Args:
            run_id: Its id.

        Raises:
            ConfigurationError: The run's graph was stored by a newer squidmesh.
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.

        Example::

            why = mesh.explain_run(run.id)
            print(why.summary)
            for action in why.next_actions:
                print(action.name, action.arguments, action.why)
        """
        return self._ask(explain_run(self._operations, run_id_of(run_id)))

    def list_runs(
        self,
        *,
        workflow: Workflow | str | None = None,
        status: RunStatus | str | Sequence[RunStatus | str] | None = None,
        trigger: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        before: Run | tuple[datetime, UUID] | None = None,
        limit: int = 50,
    ) -> list[Run]:
        """Runs, newest first, without context and history.

        Args:
            workflow: Only of this workflow.
            status: Only in this status, or one of these.
            trigger: Only started by this trigger.
            key: Only started with this key.
            since: Only created at or after this instant.
            until: Only created before this instant.
            before: Continue after this run: the last one of the page before, or its (created_at, id).
            limit: At most so many, up to 1,000.

        Raises:
            InvalidOption: A filter cannot be used.
        """
        wanted = run_filter(
            workflow=workflow,
            status=status,
            trigger=trigger,
            key=key,
            since=since,
            until=until,
            before=before,
            limit=limit,
        )
        return self._ask(self._operations.list_runs(wanted))

    def wait_for_run(self, run_id: UUID | str, timeout: Seconds | None = None) -> Run:
        """Wait until a run has ended, and return it with its context.

        Args:
            run_id: Its id.
            timeout: Seconds or timedelta to wait at most; None waits for ever.

        Raises:
            RunTimeout: It has not ended in time. It goes on.
            InvalidOption: ``timeout`` cannot be used.
            InvalidRunId: ``run_id`` is not the text of a UUID.
            RunNotFound: There is no such run.
        """
        wanted, deadline = run_id_of(run_id), Deadline(timeout)
        if self._stand_in is not None:
            return self._stand_in.wait(wanted, deadline.seconds)
        woken = threading.Event()
        remove = self._waiters.add(wanted, woken.set)
        try:
            while not (found := self._ask(self._operations.watch(wanted)))[0].status.terminal:
                run, watched = found
                if deadline.passed:
                    raise RunTimeout(wanted, deadline.seconds, run.status)
                woken.wait(deadline.next_look(told=watched and self._waiters.listening))
                woken.clear()
        finally:
            remove()
        return self.inspect_run(wanted)

    def diff_runs(self, a: UUID | str, b: UUID | str) -> RunDiff:
        """Compare two runs, such as a run and its replay: what they were started with, and what each step did.

        Args:
            a: The id of a run.
            b: That of another one.

        Raises:
            InvalidRunId: One of them is not the text of a UUID.
            RunNotFound: There is no such run.
        """
        return self._ask(self._operations.diff(run_id_of(a), run_id_of(b)))

    def check_deploy(self) -> DeployCheck:
        """Compare the code at hand, the workflows of this mesh, with the runs that are live, before it is deployed.

        Each run finishes on the graph that it started with. What is asked is whether this code has a function for each
        step that those runs are at or can still get to. Nothing is changed.
        """
        return self._ask(check_deploy(self.registry))

    def migrate(self) -> None:
        """Bring the database's schema up to date. Doing so again, or from many processes at once, is safe.

        Raises:
            SchemaError: It cannot be done; the message says why.
        """
        self._migrate()

    def close(self) -> None:
        """Close the pool and stop listening. Using the mesh again opens them again."""
        self._waiters.close()
        with self._lock:
            database, self._database = self._database, None
        if database is not None:
            database.pool.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, start: Start, connection: psycopg.Connection[Any] | None) -> list[Run]:
        self._register(start.graph)
        runs = None
        while runs is None:
            runs = self._ask(self._operations.start(start, always_notify=connection is not None), connection)
        if connection is None:
            self._tell_started(start, runs)
        return runs

    def _register(self, graph: Graph) -> None:
        fingerprint = graph.definition.fingerprint
        if fingerprint not in self._registered:
            # On a connection of ours: in a host's transaction it would hold up everybody else who starts.
            self._ask(self._operations.register(graph))
            self._registered.add(fingerprint)

    def _ask(self, flow: Flow[T], connection: psycopg.Connection[Any] | None = None) -> T:
        return (self._stand_in or self._opened()).run(flow, connection)

    def _forget_connections(self) -> None:
        self._database = None

    def _opened(self) -> Database:
        """The database, opened and checked at the first use in this process."""
        with self._lock:
            if self._database is None:
                pool: ConnectionPool[psycopg.Connection[Any]] = ConnectionPool(
                    self._address.conninfo(),
                    kwargs=self._address.kwargs,
                    min_size=0,
                    max_size=self._max_connections,
                    open=True,
                    name="squidmesh",
                    check=check_pooled,
                )
                close_at_exit(pool)
                database = Database(pool, self.schema)
                try:
                    database.run(ensure_schema(self.schema))
                except BaseException:
                    pool.close()
                    raise
                self._database = database
            return self._database
