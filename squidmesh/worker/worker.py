"""The worker: wires the threads together, and owns the order in which they start and stop.

=================  ==========================================  ====================
thread             does                                        talks to the database
=================  ==========================================  ====================
engine             saves results, claims jobs                  yes, own connection
executors          run sync steps                              for transactional ones
event loop         runs async steps                            for transactional ones
watchdog           says when the time of steps is up           no
caretaker          heartbeat, rescue                           yes, own connection
scheduler          starts runs for nominal times               yes, own connection
listener           hears notifications                         yes, own connection
events             tells subscribers                           no
=================  ==========================================  ====================
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import threading
from importlib.metadata import PackageNotFoundError, version
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, Self

from squidmesh.clock import SystemClock, new_id
from squidmesh.errors import WorkerStopped
from squidmesh.events import WORKER_FAILED, WORKER_STARTED, WORKER_STOPPED, Event
from squidmesh.operations import Operations
from squidmesh.scheduler import Scheduler
from squidmesh.scheduling import Scheduling
from squidmesh.store.listener import Listener
from squidmesh.store.workers import WorkerRecord
from squidmesh.worker.caretaker import Caretaker
from squidmesh.worker.engine import Call, Engine
from squidmesh.worker.eventloop import EventLoopThread
from squidmesh.worker.executor import Executor
from squidmesh.worker.link import Link
from squidmesh.worker.pools import Pools
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.transactions import Transactions
from squidmesh.worker.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from uuid import UUID

    import psycopg

    from squidmesh.clock import Clock
    from squidmesh.context import Context
    from squidmesh.events import EventBus
    from squidmesh.registry import Registry
    from squidmesh.worker.engine import Message
    from squidmesh.worker.pools import PoolAddress

LISTENER_PATIENCE: Final = 5.0
"""Seconds to wait for the listener at the start; without it the worker polls."""

LAST_WORDS: Final = 1.0
"""Seconds that subscribers have for the last events when the worker stops."""

logger = logging.getLogger("squidmesh.worker")


class Worker:
    """Runs the steps of workflows. Made by ``SquidMesh.worker()``; a context manager that starts and stops it.

    Args:
        connect: Opens a connection in autocommit mode.
        listen: Opens a connection for LISTEN; None to poll only.
        address: Where the pools of transactional steps connect to.
        schema: The schema that squidmesh lives in.
        channel: Where workers listen.
        registry: Knows functions and graphs.
        bus: Where events go.
        settings: How the worker behaves.
        clock: What durations are measured with.
    """

    def __init__(
        self,
        *,
        connect: Callable[[], psycopg.Connection[Any]],
        listen: Callable[[], psycopg.Connection[Any]] | None,
        address: PoolAddress,
        schema: str,
        channel: str,
        registry: Registry,
        bus: EventBus,
        settings: WorkerSettings | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings or WorkerSettings()
        self.registry = registry
        self._bus = bus
        clock = clock or SystemClock()
        monotonic = clock.monotonic
        inbox: SimpleQueue[Message] = SimpleQueue()
        self._watchdog = Watchdog(inbox.put, monotonic)
        self._loop = EventLoopThread(self._watchdog, monotonic)
        self._executor = Executor(self.settings, self._loop, self._watchdog, inbox.put, monotonic)
        record = self._record()
        self._engine = Engine(
            worker=record.id,
            link=Link(connect, schema),
            channel=channel,
            registry=registry,
            settings=self.settings,
            executor=self._executor,
            bus=bus,
            monotonic=monotonic,
            inbox=inbox,
        )
        self._pools = self._loop.pools = Pools(address, self.settings.queues)
        self._executor.transactions = self._loop.transactions = Transactions(self._engine, self._pools)
        self._caretaker = Caretaker(record, self._record, self._engine, connect)
        scheduling = Scheduling(Operations(registry, channel, new_id, clock.now), new_id)
        self._scheduler = Scheduler(scheduling, lambda: self.id, connect, schema, bus)
        self._listener = Listener(listen, channel, self._hear) if listen else None
        self._engine_thread = threading.Thread(target=self._run_engine, name="squidmesh-engine", daemon=True)
        self._ended = threading.Event()
        self._failure: BaseException | None = None
        self._stop_lock = threading.Lock()
        self._started = self._stopped = False

    @property
    def id(self) -> UUID:
        """The worker's id: random, new at each start, and when it goes on after it was declared dead."""
        return self._caretaker.record.id

    @property
    def running(self) -> tuple[Context, ...]:
        """The steps whose bodies run in it right now."""
        return tuple(ticket.context() for ticket in self._executor.running())

    def start(self) -> Self:
        """Start the threads and begin to work. Starting twice is allowed.

        Raises:
            psycopg.Error: The database cannot be reached.
            SchemaError: Its schema is missing, or not served by this code.
        """
        if not self._started:
            self._caretaker.start()
            self._started = True
            if self._listener is not None:
                self._listener.start()
                self._listener.connected.wait(LISTENER_PATIENCE)
            self._engine_thread.start()
            self._scheduler.start()
            about = {"worker": str(self.id), "queues": dict(self.settings.queues), "pid": os.getpid()}
            self._bus.emit([Event(WORKER_STARTED, None, about)])
        return self

    def stop(self, grace: float | None = None) -> None:
        """Stop in good order. Stopping twice, or a worker that was never started, is allowed.

        Args:
            grace: Seconds that running steps may go on; by default the setting.

        Raises:
            WorkerStopped: The engine had failed before.
        """
        with self._stop_lock:
            if self._started and not self._stopped:
                self._stopped = True
                self._shut_down(self.settings.grace if grace is None else grace)
        self._raise_failure()

    def cut_off(self) -> None:
        """End the grace period at once; for the second signal. Only after ``stop`` was called."""
        self._engine.inbox.put(Call.CUT_OFF)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the worker has ended by itself or was stopped; return whether it has.

        Args:
            timeout: Seconds to wait at most; None waits for ever.

        Raises:
            WorkerStopped: Its engine has failed.
        """
        ended = self._ended.wait(timeout)
        self._raise_failure()
        return ended

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.start)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- the order of things -------------------------------------------------------------------------------------

    def _shut_down(self, grace: float) -> None:
        # Fire nothing more.
        self._scheduler.stop()
        # Claim nothing more, and give back what was not started.
        self._engine.inbox.put(Call.STOP)
        # Running steps may go on, and their results are saved; those cut off then are not charged with it.
        self._engine_thread.join(grace)
        if self._engine_thread.is_alive():
            self._engine.inbox.put(Call.CUT_OFF)
            self._engine_thread.join(max(self.settings.lease, 1.0))
            self._engine.inbox.put(Call.LEAVE)
        self._executor.stop()
        self._loop.stop()
        self._watchdog.stop()
        self._pools.close()
        if self._listener is not None:
            self._listener.stop()
        # The heartbeat goes last: until here what is in hand was still ours.
        self._caretaker.stop()
        self._bus.emit([Event(WORKER_STOPPED, None, {"worker": str(self.id)})])
        self._bus.flush(LAST_WORDS)
        self._ended.set()

    def _run_engine(self) -> None:
        try:
            self._engine.run()
        except BaseException as error:  # an engine that dies takes the worker down, visibly
            self._failure = error
            logger.critical("the engine of worker %s failed; the worker stops", self.id, exc_info=error)
            # What it had is rescued by others when the lease is past; nothing more of it must be started here.
            self._executor.withdraw()
            self._executor.stop()
            self._bus.emit([Event(WORKER_FAILED, None, {"worker": str(self.id), "error": repr(error)})])
            self._ended.set()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise WorkerStopped(f"the worker's engine failed: {self._failure!r}") from self._failure

    def _hear(self, payload: str | None) -> None:
        """Something was said on the channel, or may have been missed."""
        self._scheduler.hear(payload)
        kind, _, name = (payload or "").partition(":")
        if payload is None or (kind == "queue" and name in self.settings.queues):
            self._engine.inbox.put(Call.WORK)
        elif kind == "worker" and name == str(self.id):
            self._caretaker.wake()

    def _record(self) -> WorkerRecord:
        return new_record(self.settings.queues, self.registry)


def new_record(queues: Iterable[str], registry: Registry) -> WorkerRecord:
    """A worker of this process, under a new id, as it announces itself."""
    return WorkerRecord(
        id=new_id(),
        pid=os.getpid(),
        host=platform.node(),
        version=_version(),
        queues=tuple(sorted(queues)),
        knows=registry.knows,
    )


def _version() -> str:
    try:
        return version("squidmesh")
    except PackageNotFoundError:  # run from a checkout that was not installed
        return "unknown"
