"""The engine: the one thread of a worker that saves results and claims jobs, turn by turn.

A *turn* is one transaction of two round trips for everything at hand:

1. **lock** the runs whose steps ended, skipping those that somebody holds, and read their jobs (the fence);
2. **decide**: fold each run's results through the planner;
3. **save** the plans, set-wise; each hand-out, the kept successor included, has this turn's claim number;
4. **claim** ready jobs, then read their runs;
5. **commit**, hand the work out, then tell of it.

While a turn is in flight, ended steps gather, and the next one takes them all: group commit without a timer. A turn
never waits for a lock, and the engine never runs user code.
"""

from __future__ import annotations

import logging
import threading
from enum import Enum, auto
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, Final

import psycopg

from squidmesh.errors import CommitUnknown
from squidmesh.events import discarded, events_of, handed_out
from squidmesh.planner.outcome import Abandoned, Broken, Completed, Failed, Output, Returned, Unknown
from squidmesh.records import JobKind
from squidmesh.store.database import drive
from squidmesh.store.runs import read_definitions
from squidmesh.worker.body import describe
from squidmesh.worker.desk import Desk
from squidmesh.worker.ticket import Ticket
from squidmesh.worker.turn import Turn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from uuid import UUID

    from squidmesh.events import EventBus
    from squidmesh.registry import Registry
    from squidmesh.store.statements import Flow, Statement
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.executor import Executor
    from squidmesh.worker.settings import WorkerSettings

DATA_ERRORS: Final = ("22", "23", "54")
"""SQLSTATE classes that say that a value cannot be stored: data exception, integrity violation, limit exceeded."""

VALUE_ERRORS: Final = (ValueError, TypeError, OverflowError)
"""What building a statement raises for a value that cannot be sent."""

PASSING_ERRORS: Final = (psycopg.OperationalError, psycopg.InterfaceError, CommitUnknown)
"""What may be over when it is tried again."""

SHORTEST_HOLD: Final = 0.005
LONGEST_HOLD: Final = 0.2
LONGEST_RECONNECT: Final = 5.0
LATE_STARTS: Final = 0.1
"""Seconds within which a start that found this worker awake has committed; one that takes longer waits for a beat."""

LONGEST_UNLOOKED: Final = 1.0
"""Seconds until a busy worker looks for timers and parked jobs: nobody tells it of those that others made."""

BUSY_TURNS: Final = 10
"""After so many turns without a nap the worker tells starts that they need not notify it."""

logger = logging.getLogger("squidmesh.engine")


class Call(Enum):
    """What other threads tell the engine."""

    WORK = auto()
    """A queue that it serves may have ready jobs, or earlier timers."""
    BEAT = auto()
    """Time to look for oneself: for work, timers, and differences between memory and database."""
    STOP = auto()
    """Claim nothing more; give back what was not started."""
    CUT_OFF = auto()
    """The grace period is over: give back what still runs, too."""
    LEAVE = auto()
    """The database is away for too long: end, and leave what is in hand to rescue."""


class Engine:
    """Saves results and claims jobs, on a connection of its own.

    Args:
        worker: The worker's id.
        connect: Opens a connection in autocommit mode.
        schema: The schema that squidmesh lives in.
        channel: Where workers listen.
        registry: Knows functions and graphs.
        settings: How the worker behaves.
        executor: Runs the tickets; its ``finish`` is ``inbox.put``.
        bus: Where events go.
        monotonic: The clock that durations are measured with.
        inbox: Finished tickets, and what other threads say.
    """

    def __init__(
        self,
        *,
        worker: UUID,
        connect: Callable[[], psycopg.Connection[Any]],
        schema: str,
        channel: str,
        registry: Registry,
        settings: WorkerSettings,
        executor: Executor,
        bus: EventBus,
        monotonic: Callable[[], float],
        inbox: SimpleQueue[Ticket | Call | UUID],
    ) -> None:
        self.worker = worker
        self.schema = schema
        self.channel = channel
        self.registry = registry
        self.settings = settings
        self.executor = executor
        self.bus = bus
        self.monotonic = monotonic
        self.inbox = inbox
        self.desk = Desk(registry, settings, monotonic)
        self.number = 0
        """Number of the latest turn: the claim number of what it hands out."""
        self.stopping = False
        self._leaving = False
        self.busy_since: float | None = None
        """When the turn in flight began, for the caretaker: a heartbeat is renewed only while the engine lives."""
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._waiting: set[CarriedRun] = set()
        """The runs with results to save."""
        self._look = True
        """Whether to look for ready jobs, timers and adoptable jobs in the next turn."""
        self._looked = monotonic()
        self._reconcile = False
        self._idle = False
        self._idle_said = False
        self._busy_turns = 0
        self._next_due: float | None = None
        self._failures = 0
        self._stopped = threading.Event()

    # -- the loop ------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Take turns until told to stop and nothing is in hand."""
        try:
            while not (self._leaving or (self.stopping and self.desk.empty)):
                if self._gather():
                    self._take_turn()
        finally:
            self._stopped.set()
            if self._connection is not None:
                self._connection.close()

    def is_alive(self, longest: float) -> bool:
        """Whether the loop goes round: no turn has been in flight for more than ``longest`` seconds."""
        began = self.busy_since
        return not self._stopped.is_set() and (began is None or self.monotonic() - began < longest)

    def tell_to_stop(self, ticket: Ticket) -> None:
        """A ticket's run is ending: raise its flag, and cancel it for real if it is async."""
        ticket.cancellation.raised = True
        if ticket.function is not None and ticket.function.is_async:
            self.executor.loop.cancel(ticket)

    def _gather(self) -> bool:
        """Wait until there is something to do, and take in all that was said; return whether a turn is due."""
        message = self._next_message(self._patience())
        while message is not None:
            self._take_in(message)
            message = self._next_message(0.0)
        now = self.monotonic()
        if self._next_due is not None and self._next_due <= now:
            self._next_due, self._look = None, True
        if self.settings.poll is not None and now - self._looked >= self.settings.poll:
            self._look = True
        return self._look or self._reconcile or any(self._due_runs(now))

    def _next_message(self, patience: float | None) -> Ticket | Call | UUID | None:
        began = self.monotonic()
        try:
            message = self.inbox.get_nowait() if patience == 0.0 else self.inbox.get(timeout=patience)
        except Empty:
            if patience == self.settings.nap:
                self._go_to_sleep()
            return None
        if patience != 0.0 and self.monotonic() - began >= self.settings.nap:
            self._busy_turns = 0
        return message

    def _patience(self) -> float | None:
        """Seconds to wait for a message: none if there is work, a nap before going to sleep, then until a timer."""
        now = self.monotonic()
        if self._look or self._reconcile or any(self._due_runs(now)):
            return 0.0
        times = [run.ask_again for run in self._waiting] + ([self._next_due] if self._next_due is not None else [])
        if self.settings.poll is not None:
            times.append(self._looked + self.settings.poll)
        until = max(min(times) - now, 0.0001) if times else None
        if self._idle or self.stopping:
            return until
        return self.settings.nap if until is None else min(until, self.settings.nap)

    def _go_to_sleep(self) -> None:
        """Tell starts to notify, then look once more: what came in between would not have been announced."""
        self._idle, self._look, self._busy_turns = True, True, 0

    def _take_in(self, message: Ticket | Call | UUID) -> None:
        match message:
            case Call.WORK:
                self._look = True
            case Call.BEAT:
                self._look = self._reconcile = True
            case Call.STOP:
                self.stopping = True
                self._give_back(self.executor.withdraw())
            case Call.CUT_OFF:
                self.stopping = True
                self._give_back(self.executor.withdraw())
                self._cut_off([ticket for ticket in self.desk.tickets() if ticket.happening is None])
            case Call.LEAVE:
                self._leaving = True
            case Ticket() as ticket:
                if self.desk.has(ticket):
                    self._keep_result(ticket)
                else:
                    self._discard(ticket)
            case worker:
                self._be_reborn(worker)

    def _keep_result(self, ticket: Ticket) -> None:
        ticket.run.results.append(ticket)
        self._waiting.add(ticket.run)

    def _discard(self, ticket: Ticket) -> None:
        """A body has ended whose job was lost meanwhile: its slot is free again, and its result is worth nothing."""
        self.desk.lost.discard(ticket)
        if self.bus.active and not isinstance(ticket.happening, Returned):
            self.bus.emit(list(discarded([ticket])))

    def _give_back(self, tickets: Iterable[Ticket]) -> None:
        """Give back what was not started."""
        for ticket in tickets:
            if self.desk.has(ticket):
                ticket.happening = Returned()
                self._keep_result(ticket)

    def _cut_off(self, tickets: Iterable[Ticket]) -> None:
        """Give up on bodies that outlived the grace period: they are run again elsewhere, and it is not their fault."""
        error = {"type": "CutOff", "message": "the worker stopped before the step was done"}
        for ticket in tickets:
            self.tell_to_stop(ticket)
            ticket.happening = Abandoned(error, cut_off=True)
            ticket.finished = self.monotonic()
            self._keep_result(ticket)

    def _be_reborn(self, worker: UUID) -> None:
        """The worker was declared dead: what it had is not its own any more. Go on under a new name."""
        logger.error("this worker was declared dead; it drops what it had and goes on as %s", worker)
        self._give_back(self.executor.withdraw())
        for ticket in self.desk.drop_everything():
            if ticket.happening is None:
                self.tell_to_stop(ticket)
            else:
                self._discard(ticket)
        self._waiting.clear()
        self.worker, self._look = worker, True

    def _due_runs(self, now: float) -> Iterator[CarriedRun]:
        return (run for run in self._waiting if run.ask_again <= now)

    # -- one turn ------------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        self.busy_since = self.monotonic()
        try:
            self._commit(self._next_batch())
            self._failures = 0
        except (psycopg.Error, CommitUnknown) as error:
            if not self._may_pass(error):
                raise
            self._recover(error)
        finally:
            self.busy_since = None

    def _may_pass(self, error: Exception) -> bool:
        """Whether an error is one of the connection or the server, which may be over when we try again."""
        lost = self._connection is None or self._connection.closed or self._connection.broken
        # 25: the transaction was ended by a time-out, or the server became read-only, as after a failover.
        passing = isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] == "25"
        return lost or passing or isinstance(error, PASSING_ERRORS)

    def _next_batch(self) -> list[CarriedRun]:
        """The runs whose results are saved in this turn."""
        batch: list[CarriedRun] = []
        size = 0
        for run in self._due_runs(self.monotonic()):
            batch.append(run)
            size += sum(_size(ticket) for ticket in run.results)
            if size > self.settings.batch_bytes:
                break
        return batch

    def _commit(self, batch: list[CarriedRun]) -> None:
        """Save a batch; if a value in it cannot be stored, halve it until the value's run stands alone."""
        try:
            self._run_turn(batch)
        except (psycopg.Error, *VALUE_ERRORS) as error:
            if not _is_data_error(error) or not batch:
                raise
            self._reconcile = True
            if len(batch) == 1:
                self._commit_broken(batch[0], error)
            else:
                self._commit(batch[: len(batch) // 2])
                self._commit(batch[len(batch) // 2 :])

    def _commit_broken(self, run: CarriedRun, error: Exception) -> None:
        """Save a plain failure in place of what cannot be stored; if that fails too, only that it is broken."""
        said = describe(error, retryable=False)
        for happening in (Failed(said, retryable=False), Broken({"type": said["type"], "message": "cannot be stored"})):
            for ticket in run.results:
                ticket.happening = happening
            try:
                self._run_turn([run])
            except (psycopg.Error, *VALUE_ERRORS) as again:
                if not _is_data_error(again):
                    raise
                error = again
            else:
                return
        raise error

    def _run_turn(self, batch: list[CarriedRun]) -> None:
        self.number += 1
        now = self.monotonic()
        if self._look or now - self._looked > LONGEST_UNLOOKED:
            self._look, self._looked = True, now
        turn = Turn(self, batch, look=self._look, reconcile=self._reconcile, idle=self._idle_change())
        drive(self._connected(), turn.flow(), self.schema)
        self._look = self._reconcile = False
        self._apply(turn)

    def _idle_change(self) -> bool | None:
        """Whether to tell starts that this worker sleeps, or sleeps no more; None if nothing changes."""
        self._busy_turns += 1
        if self._busy_turns > BUSY_TURNS:
            self._idle = False
        return self._idle if self._idle is not self._idle_said else None

    def _apply(self, turn: Turn) -> None:
        """The turn has committed: bring memory up to date, hand the work out, then tell of it."""
        if turn.idle is not None:
            self._idle_said = turn.idle
            if turn.idle:
                # Until this commit starts found us awake and did not notify, and the turn's own look may have missed
                # them; some of them commit only after the next one.
                self._look = True
                self._note_due(LATE_STARTS)
        self._reconcile |= turn.adopted
        if turn.next_due is not None:
            self._note_due(turn.next_due)
        for ticket in turn.settled:
            self.desk.remove(ticket)
        for run in turn.batch:
            self._settle_results(run, held=run in turn.held)
        for plan, run in turn.decided:
            run.follow(plan)
        self._learn(turn)
        tickets = turn.open_tickets()
        self.desk.forget_idle(ticket.run for ticket in turn.settled)
        self._tell(turn)
        self._hand_out(tickets)

    def _tell(self, turn: Turn) -> None:
        for plan in turn.plans if self.bus.active else ():
            # After a commit whose answer was lost, results that come too late are those that it had saved.
            if plan.changes or not self._failures:
                self.bus.emit(events_of(plan))
        if turn.late and self.bus.active and not self._failures:
            self.bus.emit(list(discarded(turn.late)))

    def _settle_results(self, run: CarriedRun, *, held: bool) -> None:
        if held:
            run.patience = min(max(run.patience * 2, SHORTEST_HOLD), LONGEST_HOLD)
            run.ask_again = self.monotonic() + run.patience
            return
        run.results.clear()
        run.ask_again = run.patience = 0.0
        self._waiting.discard(run)

    def _note_due(self, seconds: float) -> None:
        at = self.monotonic() + max(seconds, 0.0)
        self._next_due = at if self._next_due is None else min(at, self._next_due)

    def _learn(self, turn: Turn) -> None:
        """Read the graphs that this process has not met yet."""
        missing = self.registry.missing(material.fingerprint for material in turn.materials)
        if missing:
            self.registry.learn(self._ask(read_definitions(missing)))

    def _hand_out(self, tickets: Sequence[Ticket]) -> None:
        if self.stopping:  # what was adopted
            self._give_back(tickets)
            return
        bodies = [ticket for ticket in tickets if ticket.kind is not JobKind.WAIT]
        if self.bus.active:
            self.bus.emit(list(handed_out(bodies)))
        self.executor.submit(bodies)
        for ticket in tickets:
            if ticket.kind is JobKind.WAIT:
                self._end_wait(ticket)

    def _end_wait(self, ticket: Ticket) -> None:
        """Nothing but time: a wait is over as soon as it is claimed."""
        if ticket.step is None:
            ticket.happening = Unknown()
        else:
            ticket.happening, ticket.finished = Completed(), self.monotonic()
            ticket.started = ticket.finished - float(ticket.step.settings["seconds"])
        self._keep_result(ticket)

    # -- the connection ------------------------------------------------------------------------------------------

    def _connected(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        return self._connection

    def _ask(self, operation: Flow[Any] | Statement[Any]) -> Any:
        return drive(self._connected(), operation, self.schema)

    def _recover(self, error: Exception) -> None:
        """A turn failed as a whole: what it did is unknown, so compare memory with the database before going on."""
        self._failures += 1
        self._reconcile = self._look = True
        if self._connection is not None and (self._connection.broken or self._connection.closed):
            self._connection.close()
            self._connection = None
        delay = min(0.05 * 2**self._failures, LONGEST_RECONNECT)
        logger.warning("a turn failed (%s); trying again in %.1f s", error, delay)
        self._pause(delay)

    def _pause(self, seconds: float) -> None:
        """Wait, but listen: results keep coming, and a stop must be heard."""
        until = self.monotonic() + seconds
        while not self._leaving and (left := until - self.monotonic()) > 0:
            try:
                self._take_in(self.inbox.get(timeout=left))
            except Empty:
                return


def _is_data_error(error: Exception) -> bool:
    """Whether a value cannot be stored, by the server's word, or the driver's, which looks at values first."""
    if isinstance(error, psycopg.Error):
        return (error.sqlstate or "")[:2] in DATA_ERRORS or isinstance(error, psycopg.DataError)
    return True


def _size(ticket: Ticket) -> int:
    happening = ticket.happening
    if isinstance(happening, Completed) and isinstance(happening.output, Output):
        return len(happening.output.text)
    return 0
