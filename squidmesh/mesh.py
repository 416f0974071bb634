"""What ``SquidMesh`` and ``AsyncSquidMesh`` share: everything that does not talk to the database itself.

Constructors open nothing. A forked child forgets its parent's pools and threads without closing them.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from math import inf
from random import uniform
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict

from squidmesh.clock import new_id
from squidmesh.definition import DEFAULT_QUEUE
from squidmesh.errors import ConfigurationError, InvalidOption
from squidmesh.events import EventBus, events_of, started
from squidmesh.meter_flows import MeterFlows
from squidmesh.operations import Operations
from squidmesh.registry import Registry
from squidmesh.retry import measured
from squidmesh.schedule_flows import ScheduleFlows
from squidmesh.scheduling import Scheduling
from squidmesh.states import JobState
from squidmesh.steering import Steering
from squidmesh.store.migrations import migrate
from squidmesh.store.statements import DEFAULT_SCHEMA, check_schema_name
from squidmesh.waiting import Waiters
from squidmesh.worker.settings import DEFAULT_CONCURRENCY, WorkerSettings
from squidmesh.worker.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager
    from uuid import UUID

    from squidmesh.events import Subscriber
    from squidmesh.operations import Start
    from squidmesh.planner.plan import Plan
    from squidmesh.records import Run
    from squidmesh.retry import Seconds
    from squidmesh.store.statements import Flow
    from squidmesh.workflow import Workflow

T = TypeVar("T")

POLL: Final = (1.0, 3.0)
"""Seconds between looks of somebody who waits for a run: a notification that was lost costs no more than this."""

SOONEST_LOOK: Final = 0.01
"""Seconds until the second look of somebody whom nobody will tell; then twice as long each time."""


LIVELINESS: Final[Mapping[str, str | int]] = MappingProxyType(
    {
        "application_name": "squidmesh",
        "connect_timeout": 10,
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 25_000,
    }
)
"""Parameters of libpq, where an address does not say otherwise: a network that swallows packets without a word must not
hold up a worker for longer than its lease (the system's own patience is a quarter of an hour)."""


VARIABLES: Final[Mapping[str, str]] = MappingProxyType(
    {"application_name": "PGAPPNAME", "connect_timeout": "PGCONNECT_TIMEOUT"}
)
"""Those of them that libpq also takes from the environment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where the database is, and how to connect to it."""

    dsn: str | None
    listen_dsn: str | None
    schema: str
    prepare: bool
    polling_only: bool

    def conninfo(self) -> str:
        """The address of the database, given or from the environment.

        Raises:
            ConfigurationError: There is none.
        """
        found = self.dsn or os.environ.get("SQUIDMESH_DATABASE_URL") or os.environ.get("DATABASE_URL")
        if not found:
            raise ConfigurationError(
                "no database is given: pass SquidMesh(dsn) or set SQUIDMESH_DATABASE_URL (or DATABASE_URL)"
            )
        return found

    @property
    def kwargs(self) -> dict[str, Any]:
        """How connections are set up, beside what the address itself says."""
        return self._kwargs_beside(self.conninfo())

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection."""
        return psycopg.connect(self.conninfo(), **self.kwargs)

    def connect_to_listen(self) -> psycopg.Connection[Any]:
        """A new connection that LISTEN works on."""
        dsn = self.listen_dsn or self.conninfo()
        return psycopg.connect(dsn, **self._kwargs_beside(dsn))

    def _kwargs_beside(self, dsn: str) -> dict[str, Any]:
        said = {*conninfo_to_dict(dsn), *(name for name, variable in VARIABLES.items() if variable in os.environ)}
        unsaid = {name: value for name, value in LIVELINESS.items() if name not in said}
        return {**unsaid, "autocommit": True, "prepare_threshold": 5 if self.prepare else None}


class StandIn(Protocol):
    """What a mesh asks in place of its own database while a test has it in its hands."""

    def run(self, operation: Flow[T], connection: psycopg.Connection[Any] | None) -> T:
        """Run an operation, in a transaction of its own or in the caller's."""
        ...

    async def run_async(self, operation: Flow[T], connection: psycopg.AsyncConnection[Any] | None) -> T:
        """The same for the async twin."""
        ...

    def wait(self, run_id: UUID, seconds: float) -> Run:
        """Wait for a run's end."""
        ...

    async def wait_async(self, run_id: UUID, seconds: float) -> Run:
        """The same for the async twin."""
        ...

    def now(self) -> datetime:
        """The current instant."""
        ...


class Mesh:
    """What the twins share: everything that does not talk to the database."""

    def __init__(
        self,
        dsn: str | None = None,
        *,
        workflows: Iterable[Workflow] = (),
        schema: str = DEFAULT_SCHEMA,
        listen_dsn: str | None = None,
        polling_only: bool = False,
        prepared_statements: bool = True,
        max_connections: int = 10,
        queue_limits: Mapping[str, int] | None = None,
    ) -> None:
        self.schema = check_schema_name(schema)
        self.registry = Registry(workflows, queue_limits or {})
        self.events = EventBus()
        self._address = Address(
            dsn=dsn,
            listen_dsn=listen_dsn,
            schema=schema,
            prepare=prepared_statements,
            polling_only=polling_only,
        )
        self._max_connections = max_connections
        self._operations = Operations(self.registry, self.schema, new_id, self._now)
        self._steering = Steering(self._operations, self._now)
        self._stand_in: StandIn | None = None
        self._meters = MeterFlows(self._operations)
        self._schedules = ScheduleFlows(Scheduling(self._operations, new_id))
        self._lock = threading.Lock()
        self._registered: set[str] = set()
        self._waiters = self._new_waiters()
        _IN_CHILD.append(weakref.WeakMethod(self._leave_to_parent, _IN_CHILD.remove))

    def _new_waiters(self) -> Waiters:
        return Waiters(None if self._address.polling_only else self._address.connect_to_listen, self.schema)

    @property
    def address(self) -> Address:
        """Where the database is, and how connections to it are set up."""
        return self._address

    def _now(self) -> datetime:
        return datetime.now(UTC) if self._stand_in is None else self._stand_in.now()

    def _migrate(self) -> None:
        if self._stand_in is not None:
            return  # a test's database is migrated
        with self._address.connect() as connection:
            migrate(connection, self.schema)

    def subscribe(self, subscriber: Subscriber, *names: str) -> Callable[[], None]:
        """Call ``subscriber(event)`` after the commit of what these events tell; of all events if none is named.

        Args:
            subscriber: Called on a thread of its own; if it raises, that is logged and harms nothing.
            names: Some of ``squidmesh.events.EVENT_NAMES``.

        Returns:
            A function that ends the subscription.
        """
        return self.events.subscribe(subscriber, *names)

    def worker(
        self,
        *,
        queues: Mapping[str, int] | None = None,
        grace: float = 30.0,
        lease: float = 30.0,
        heartbeat: float = 10.0,
    ) -> Worker:
        """A worker in this process, to be started: ``with mesh.worker(): ...`` (or ``async with``).

        Args:
            queues: The queues it serves, and how many steps of each it runs at once; ``{"default": 10}`` by default.
            grace: Seconds that running steps may go on when it is stopped.
            lease: Seconds that it is taken to be alive after its last heartbeat.
            heartbeat: Seconds between heartbeats, which also look for work that nobody announced.

        Raises:
            ConfigurationError: One of these cannot be used.
        """
        if self._stand_in is not None:
            raise ConfigurationError("a test harness runs this mesh's steps; use its drain() instead of a worker")
        return Worker(
            connect=self._address.connect,
            listen=None if self._address.polling_only else self._address.connect_to_listen,
            address=self._address,
            schema=self.schema,
            channel=self.schema,
            registry=self.registry,
            bus=self.events,
            settings=WorkerSettings(
                queues=dict(queues) if queues is not None else {DEFAULT_QUEUE: DEFAULT_CONCURRENCY},
                grace=grace,
                lease=lease,
                beat=heartbeat,
                poll=uniform(*POLL) if self._address.polling_only else None,  # noqa: S311 - jitter, not a secret
            ),
        )

    def _leave_to_parent(self) -> None:
        """In a forked child: forget what was opened, without closing it, since it is the parent's."""
        self._lock = threading.Lock()
        self._waiters = self._new_waiters()
        self.events.begin_anew()
        self._forget_connections()

    @contextmanager
    def _taken_over(self, stand_in: StandIn) -> Generator[None]:
        if self._stand_in is not None:
            raise ConfigurationError("this mesh is in the hands of another test harness; close that one first")
        registered, self._registered, self._stand_in = self._registered, set(), stand_in
        try:
            yield
        finally:
            self._stand_in, self._registered = None, registered

    def _forget_connections(self) -> None:
        raise NotImplementedError

    def _tell_started(self, start: Start, runs: Sequence[Run]) -> None:
        if self.events.active:
            steps = [job.step for job in start.runs.plan.jobs if job.step and job.state is not JobState.PARKED]
            for run in runs:
                if run.id not in start.runs.ids:
                    continue  # it was there: its key is taken
                self.events.emit(started(run.id, run.workflow, run.trigger, steps, run.replayed_from))

    def _tell_scheduled(self, runs: Sequence[Run]) -> None:
        for run in runs if self.events.active else ():
            self.events.emit(started(run.id, run.workflow, run.trigger, run.current_steps, run.replayed_from))

    def _tell(self, plan: Plan | None) -> None:
        if plan is not None and self.events.active:
            self.events.emit(events_of(plan))


def taken_over(mesh: Mesh, stand_in: StandIn) -> AbstractContextManager[None]:
    """Have a mesh ask ``stand_in`` in place of its own database, for a test.

    Raises:
        ConfigurationError: Another test has it.
    """
    # Not a method that every user of a mesh would see.
    return mesh._taken_over(stand_in)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]


_IN_CHILD: Final[list[weakref.WeakMethod[Callable[[], None]]]] = []
"""What is called in a forked child, for each mesh that is still in use."""


def _leave_all_to_parent() -> None:
    for reference in _IN_CHILD:
        leave = reference()
        if leave is not None:
            leave()


if hasattr(os, "register_at_fork"):  # where there is no fork, there is nothing to forget
    os.register_at_fork(after_in_child=_leave_all_to_parent)


class Deadline:
    """How long somebody is willing to wait.

    Raises:
        InvalidOption: That is no duration.
    """

    def __init__(self, timeout: Seconds | None) -> None:
        self.seconds = inf if timeout is None else measured(timeout)
        if not self.seconds >= 0:
            raise InvalidOption("timeout", f"must be seconds or a timedelta, not negative, or None, not {timeout!r}")
        self._at = time.monotonic() + self.seconds
        self._soon = SOONEST_LOOK

    @property
    def passed(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self._at

    def next_look(self, *, told: bool) -> float:
        """Seconds until the next look: a jittered poll, or the end; sooner at first if nobody will tell.

        Args:
            told: Whether the end will be announced.
        """
        longest = uniform(*POLL)  # noqa: S311 - jitter, not a secret
        wait = longest if told else min(self._soon, longest)
        self._soon *= 2
        return max(min(wait, self._at - time.monotonic()), 0.0)
