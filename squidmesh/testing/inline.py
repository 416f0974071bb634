"""A worker without threads: the real engine, desk and turn, driven by hand, with one step running at a time."""

from __future__ import annotations

import time
from collections import deque
from datetime import timedelta
from math import inf
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, TypeVar

from squidmesh.errors import HarnessError
from squidmesh.events import events_of
from squidmesh.store.database import as_flow
from squidmesh.store.jobs import list_flagged, wake_jobs
from squidmesh.store.statements import Batch
from squidmesh.store.workers import LateWorker, declare_dead, register_worker, remove_worker, renew_worker
from squidmesh.testing.faults import Crash
from squidmesh.worker import body
from squidmesh.worker.engine import Call, Engine
from squidmesh.worker.eventloop import EventLoopThread
from squidmesh.worker.executor import Executor
from squidmesh.worker.link import Link
from squidmesh.worker.rescue import list_rescuable, rescue
from squidmesh.worker.settings import WorkerSettings
from squidmesh.worker.transactions import Transactions
from squidmesh.worker.watchdog import Watchdog
from squidmesh.worker.worker import new_record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    import psycopg

    from squidmesh.events import EventBus
    from squidmesh.planner.outcome import Completed, Happening
    from squidmesh.planner.plan import Plan
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow, Statement
    from squidmesh.testing.faults import Moment
    from squidmesh.testing.sessions import Session
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.engine import Message
    from squidmesh.worker.ticket import Ticket

T = TypeVar("T")

LOOKS: Final = 200
BETWEEN_LOOKS: Final = 0.01
"""Real seconds; so often and so long is somebody else's lock on a run waited for."""


class _Link(Link):
    """The engine's link to a session, on which the worker can die."""

    def __init__(self, session: Session) -> None:
        super().__init__(_no_connection, session.schema)
        self._session = session
        self.dies: Moment | None = None

    @property
    def lost(self) -> bool:
        """The session is the test's: it does not come back by itself."""
        return False

    def ask(self, operation: Flow[T] | Statement[T]) -> T:
        """Run an operation; die with it if that was arranged."""
        dies, self.dies = self.dies, None
        if dies is None:
            return self._session.ask(operation)
        if dies == "before_commit":
            return self._session.ask(_without_commit(as_flow(operation)))
        self._session.ask(operation)
        raise Crash


def _no_connection() -> psycopg.Connection[object]:
    raise NotImplementedError


def _without_commit(flow: Flow[T]) -> Flow[T]:
    """Everything that a flow does but its commit."""
    batch = next(flow)
    while True:
        results = yield Batch(batch.statements)
        if batch.last:
            raise Crash
        batch = flow.send(results)


class _Blind(Watchdog):
    """Watches nothing: a body in the caller's thread cannot be interrupted, and time stands still while it runs."""

    def watch(self, ticket: Ticket, seconds: float) -> None:
        """Do nothing."""


class _Transactions(Transactions):
    """Transactional steps on the session's connections; the worker can die at their commit."""

    def __init__(self, engine: Engine, session: Session) -> None:
        super().__init__(engine, session)
        self._session = session
        self.dies: Moment | None = None
        self.died = False

    def ask(self, connection: psycopg.Connection[Any], operation: Flow[T] | Statement[T]) -> T:
        """Run an operation within a step's transaction."""
        return self._session.ask_within(connection, operation)

    def save(self, ticket: Ticket, completed: Completed, began: str) -> Flow[Plan]:
        """Save a step's result; die in place of the commit if that was arranged."""
        plan = yield from super().save(ticket, completed, began)
        self.died = self.dies == "before_commit"
        if self.died:
            raise Crash
        return plan


class _Hand(Executor):
    """Keeps tickets in order, urgent ones first, until the driver asks for the next one."""

    def __init__(
        self, settings: WorkerSettings, finish: Callable[[Message], None], monotonic: Callable[[], float]
    ) -> None:
        watchdog = _Blind(finish, monotonic)
        super().__init__(settings, EventLoopThread(watchdog, monotonic), watchdog, finish, monotonic)
        self.waiting: deque[Ticket] = deque()

    def submit(self, tickets: Iterable[Ticket]) -> None:
        """Keep tickets."""
        self.waiting = deque(sorted([*self.waiting, *tickets], key=lambda ticket: ticket.job.priority))

    def withdraw(self) -> list[Ticket]:
        """Give back what was kept."""
        tickets = list(self.waiting)
        self.waiting.clear()
        return tickets


class InlineWorker:
    """A worker in the caller's thread.

    Args:
        session: Where the database is, and time.
        registry: Knows functions and graphs.
        bus: Where events go.
    """

    def __init__(self, session: Session, registry: Registry, bus: EventBus) -> None:
        self._session = session
        self._began = session.now
        queues = {step.options.queue for flow in registry.workflows.values() for step in flow.check().steps}
        self.settings = WorkerSettings(queues=dict.fromkeys(sorted({"default", *queues}), 1))
        inbox: SimpleQueue[Message] = SimpleQueue()
        self._hand = _Hand(self.settings, inbox.put, self.monotonic)
        self._link = _Link(session)
        self._record = new_record(self.settings.queues, registry)
        self.engine = Engine(
            worker=self._record.id,
            link=self._link,
            channel=session.schema,
            registry=registry,
            settings=self.settings,
            executor=self._hand,
            bus=bus,
            monotonic=self.monotonic,
            inbox=inbox,
        )
        self._transactions = _Transactions(self.engine, session)
        self._beats = 0
        session.ask(register_worker(self._record, self.settings.lease))

    def monotonic(self) -> float:
        """Seconds of virtual time since this worker began."""
        return (self._session.now - self._began).total_seconds()

    # -- steps ---------------------------------------------------------------------------------------------------

    def next_ticket(self) -> Ticket | None:
        """A step to run, claimed if none is in hand; None if nothing is ready.

        What takes no body (a wait that is over, a step without a function) is settled on the way.

        Raises:
            HarnessError: Another transaction holds a run that a result is to be saved of.
        """
        while not self._hand.waiting:
            self._take_turn(look=True)
            if self.engine.quiet:
                return None
        ticket = self._hand.waiting.popleft()
        if (*ticket.key, ticket.job.claim) in self._session.ask(list_flagged(self._record.id)):
            self.engine.executor.tell_to_stop(ticket)
        return ticket

    def put_back(self, ticket: Ticket) -> None:
        """Keep a ticket that was not begun."""
        self._hand.waiting.appendleft(ticket)

    def run(self, ticket: Ticket, dies: Moment | None) -> Happening:
        """Run a sync step's body, as an executor's thread does.

        Args:
            ticket: The step.
            dies: When the worker is to die with it.
        """
        self._transactions.dies = dies
        return body.run(ticket) if ticket.permit is None else self._transactions.run(ticket, ticket.permit)

    async def run_async(self, ticket: Ticket, dies: Moment | None) -> Happening:
        """The twin of ``run``, on the loop of whoever awaits it.

        Raises:
            HarnessError: The step is to have a connection, and there can be none.
        """
        if ticket.permit is None:
            return await body.run_async(ticket)
        self._session.lend_async()  # if it is refused, then before the step begins, and not as a failure of it
        self._transactions.dies = dies
        return await self._transactions.run_async(ticket, ticket.permit)

    def save(self, ticket: Ticket, dies: Moment | None) -> None:
        """Save what happened to a step, or follow what it has saved itself.

        Args:
            ticket: It, with what happened.
            dies: When the worker is to die with it.

        Raises:
            Crash: It died.
        """
        saved = ticket.permit is not None and ticket.permit.saved is not None
        if self._transactions.died or (saved and dies == "after_commit"):
            raise Crash
        self._link.dies = dies if dies != "in_body" else None  # the body was not reached
        self.engine.inbox.put(ticket)
        self._take_turn(look=False)

    @property
    def empty_handed(self) -> bool:
        """Whether nothing that was claimed is still to be run."""
        return not self._hand.waiting

    def give_back(self) -> None:
        """Give back what was claimed and not begun: nobody must see it in the hands of a worker that stands still."""
        if self._hand.waiting or self.engine.unsaved:
            self.engine.inbox.put(Call.STOP)
            try:
                self._take_turn(look=False)
            finally:
                self.engine.stopping = False

    def _take_turn(self, *, look: bool) -> None:
        held: list[CarriedRun] = []
        for _ in range(LOOKS):
            self.engine.take_turn(look=look)
            held = [run for run in self.engine.unsaved if run.patience]
            if not held:
                return
            time.sleep(BETWEEN_LOOKS)
        said = ", ".join(f"{run.run_id} ({run.workflow})" for run in held)
        raise HarnessError(f"another transaction holds run {said}; commit it, or roll it back, before steps are run")

    # -- life and death ------------------------------------------------------------------------------------------

    def next_timer(self) -> datetime | None:
        """When the next sleeping job is due, or something that is limited by a rate or paused may begin."""
        woken = self._session.ask(wake_jobs(dict.fromkeys(self.settings.queues, 0)))
        opens = self.engine.desk.walk.again - self.monotonic()
        seconds = min([*woken.dues.values(), opens])
        return None if seconds == inf else self._session.now + timedelta(seconds=max(seconds, 0.0))

    def beat(self) -> None:
        """Renew the lease: time has passed, and this worker lives."""
        self._session.ask(renew_worker(self._record.id, self.settings.lease))
        self._beats += 1

    def rescue(self, dead: InlineWorker) -> None:
        """Give back what a dead worker had, as the caretaker does, but for waiting until its lease is over."""
        record, ask = dead._record, self._session.ask
        ask(declare_dead(record.id, dead._beats))
        late = LateWorker(record.id, dead._beats, dead=True, host=record.host, pid=record.pid, late=0.0)
        while jobs := ask(list_rescuable(record.id)):
            plans = ask(rescue(self.engine.registry, late, jobs, self._session.schema))
            if not plans:
                raise HarnessError("another transaction holds a run of the worker that died; commit or roll it back")
            for plan in plans:
                self.engine.bus.emit(events_of(plan))
        ask(remove_worker(record.id))
