"""The engine: the one thread of a worker that saves results and claims jobs, turn by turn.

A *turn* is one transaction of two round trips for everything at hand:

1. **lock** the runs whose steps ended, skipping those that somebody holds, and read their jobs (the fence);
2. **decide**: fold each run's results through the planner;
3. **save** the plans, set-wise; each hand-out, the kept successor included, has this turn's claim number;
4. **claim** ready jobs, then read their runs;
5. **commit**, hand the work out, then tell of it.

While a turn is in flight, ended steps gather, and the next one takes them: group commit without a timer. A turn
never waits for a lock, and the engine never runs user code.
"""

from __future__ import annotations

import logging
import threading
from enum import Enum, auto
from math import inf
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

import psycopg

from squidmesh.errors import CommitUnknown
from squidmesh.events import discarded, events_of, handed_out
from squidmesh.planner.outcome import Abandoned, Elapsed, Unknown
from squidmesh.records import BODILESS, JobKind
from squidmesh.registry import learn_graphs
from squidmesh.worker import body
from squidmesh.worker.desk import Desk
from squidmesh.worker.floors import Floors
from squidmesh.worker.isolation import save_isolated
from squidmesh.worker.results import Results
from squidmesh.worker.ticket import Ticket
from squidmesh.worker.turn import Turn, sleeps
from squidmesh.worker.vigil import Look, Vigil
from squidmesh.worker.watchdog import Expired

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from uuid import UUID

    from squidmesh.events import EventBus
    from squidmesh.registry import Registry
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.executor import Executor
    from squidmesh.worker.link import Link
    from squidmesh.worker.settings import WorkerSettings

PASSING_ERRORS: Final = (psycopg.OperationalError, psycopg.InterfaceError, CommitUnknown)
"""What may be over when it is tried again."""

LONGEST_RECONNECT: Final = 5.0
MOST_DRIFT: Final = 0.005
"""Seconds by which the machine and the database may differ in when a timer is due, before the engine looks itself."""

SMALL_TURN: Final = 64
"""So many results are saved in one turn in any case. Beyond that it is half of what is in hand: the bodies of the other
half run while the server is at it. Otherwise all of them would run at once, and then wait for the server at once."""

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


Message: TypeAlias = "Ticket | Call | Expired | UUID"
"""What comes into the inbox: a body has ended, somebody says something, a time is up, the worker has a new id."""


class Engine:
    """Saves results and claims jobs, on a connection of its own.

    Args:
        worker: The worker's id.
        link: Its connection to the database.
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
        link: Link,
        channel: str,
        registry: Registry,
        settings: WorkerSettings,
        executor: Executor,
        bus: EventBus,
        monotonic: Callable[[], float],
        inbox: SimpleQueue[Message],
    ) -> None:
        self.worker = worker
        self.schema = link.schema
        self.channel = channel
        self.registry = registry
        self.settings = settings
        self.executor = executor
        self.bus = bus
        self.monotonic = monotonic
        self.inbox = inbox
        self.desk = Desk(registry, settings, monotonic)
        self.results = Results(self.desk, executor, bus, monotonic)
        self.floors = Floors()
        self.number = 0
        """Number of the latest turn: the claim number of what it hands out."""
        self.stopping = False
        self._leaving = False
        self.busy_since: float | None = None
        """When the turn in flight began, for the caretaker: a heartbeat is renewed only while the engine lives."""
        self._link = link
        self._vigil = Vigil(settings, monotonic())
        self._reconcile = False
        """Whether to compare what is in hand with what the database says in the next turn."""
        self._failures = 0
        self._share_again = 0.0
        """When to look next whether tickets wait in vain; on the monotonic clock."""
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
            self._link.close()

    def take_turn(self, *, look: bool) -> None:
        """Take one turn in the caller's thread, for who drives an engine instead of running it; errors are raised.

        Args:
            look: Whether to look for timers and parked jobs, too.
        """
        while not self.inbox.empty():
            self._take_in(self.inbox.get())
        self.floors.forget()  # who drives it may set the clock
        self._vigil.look = Look.EVERYTHING if look else Look.NOTHING
        save_isolated(list(self.results.runs), self._run_turn)

    @property
    def unsaved(self) -> tuple[CarriedRun, ...]:
        """The runs with results that are not saved yet; those with some ``patience`` are held by somebody else."""
        return tuple(self.results.runs)

    @property
    def quiet(self) -> bool:
        """Whether nothing is in hand, and nothing is left to compare."""
        return self.desk.empty and not self._reconcile

    def is_alive(self, longest: float) -> bool:
        """Whether the loop goes round: no turn has been in flight for more than ``longest`` seconds."""
        began = self.busy_since
        return not self._stopped.is_set() and (began is None or self.monotonic() - began < longest)

    def knows_of(self, due: float | None) -> bool:
        """Whether nothing is in hand, and it will wake by itself for what is due in so many seconds, if anything is."""
        known = self._vigil.next_timer(self.monotonic())
        in_time = due is None or (known is not None and known < due + MOST_DRIFT)
        return in_time and self.desk.empty

    @property
    def timers(self) -> dict[str, float]:
        """Seconds until the next timer of each queue that this worker knows of."""
        return self._vigil.timers(self.monotonic())

    def _gather(self) -> bool:
        """Wait until there is something to do, and take in all that was said; return whether a turn is due."""
        message = self._next_message(self._patience())
        while message is not None:
            self._take_in(message)
            message = self._next_message(0.0)
        now = self.monotonic()
        self._share(now)
        return self._vigil.wake(now) or self._reconcile or self._has_due(now)

    def _next_message(self, patience: float | None) -> Message | None:
        if patience == 0.0:
            return None if self.inbox.empty() else self.inbox.get()
        began = self.monotonic()
        try:
            message = self.inbox.get(timeout=patience)
        except Empty:
            self._vigil.waited_in_vain(patience)
            return None
        self._vigil.waited(self.monotonic() - began)
        return message

    def _patience(self) -> float | None:
        """Seconds to wait for a message; 0 if there is work."""
        now = self.monotonic()
        if self._vigil.look is not Look.NOTHING or self._reconcile or self._has_due(now):
            return 0.0
        reasons = [run.ask_again for run in self.results.runs]
        if self.desk.walk.again < inf and not self.stopping:
            reasons.append(self.desk.walk.again)
        if self.executor.waits:
            reasons.append(self._share_again)
        return self._vigil.patience(now, reasons, stopping=self.stopping)

    def _take_in(self, message: Message) -> None:
        match message:
            case Ticket() as ticket:  # most of what comes
                self._receive(ticket)
            case Call.WORK:
                self._vigil.look = Look.EVERYTHING
            case Call.BEAT:
                self._reconcile, self._vigil.look = True, Look.EVERYTHING
            case Call.STOP:
                self.stopping = True
                self.results.give_back(self.executor.withdraw())
            case Call.CUT_OFF:
                self.stopping = True
                self.results.give_back(self.executor.withdraw())
                self._cut_off([ticket for ticket in self.desk.tickets() if ticket.happening is None])
            case Call.LEAVE:
                self._leaving = True
            case Expired(ticket):
                self._time_out(ticket)
            case worker:
                self._be_reborn(worker)

    def _receive(self, ticket: Ticket) -> None:
        """A body has ended."""
        ticket.given_up = False
        ticket.run.weight += ticket.size
        permit = ticket.permit
        if permit is not None and permit.saved is not None:
            self.results.follow(ticket, permit.saved)
            self._vigil.look = Look.EVERYTHING  # for what follows
            return
        if permit is not None and permit.in_doubt:
            self._reconcile, self._vigil.look = True, Look.EVERYTHING
        self.results.take(ticket)

    def _time_out(self, ticket: Ticket) -> None:
        """The time of a body is up, unless it has ended meanwhile or is not ours any more."""
        seconds = ticket.function.timeout if ticket.function is not None else None
        if self.desk.has(ticket) and ticket.happening is None and seconds is not None:
            self.results.give_up(ticket, body.timed_out(ticket, seconds))

    def _share(self, now: float) -> None:
        """Give back what waits for slots that are not free for long: another worker may be idle."""
        if now >= self._share_again:
            self._share_again = now + self.settings.longest_ahead / 2
            self.results.give_back(self.executor.withdraw_stale())

    def _cut_off(self, tickets: Iterable[Ticket]) -> None:
        """Give up on bodies that outlived the grace period: they are run again elsewhere, and it is not their fault."""
        error = {"type": "CutOff", "message": "the worker stopped before the step was done"}
        for ticket in tickets:
            self.results.give_up(ticket, Abandoned(error, cut_off=True))

    def _be_reborn(self, worker: UUID) -> None:
        """The worker was declared dead: what it had is not its own any more. Go on under a new name."""
        logger.error("this worker was declared dead; it drops what it had and goes on as %s", worker)
        self.results.drop_everything()
        self.worker, self._vigil.look = worker, Look.EVERYTHING

    def _has_due(self, now: float) -> bool:
        """Whether results are to be saved now, or metered jobs to be looked at."""
        return any(self.results.due(now)) or (self.desk.walk.again <= now and not self.stopping)

    # -- one turn ------------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        self.busy_since = self.monotonic()
        try:
            most = max(self.desk.count // 2, SMALL_TURN)
            save_isolated(self.results.next_batch(most, self.settings.batch_bytes), self._run_turn)
            self._failures = 0
        except (psycopg.Error, CommitUnknown) as error:
            if not self._may_pass(error):
                raise
            self._recover(error)
        finally:
            self.busy_since = None

    def _may_pass(self, error: Exception) -> bool:
        """Whether an error is one of the connection or the server, which may be over when we try again."""
        # 25: the transaction was ended by a time-out, or the server became read-only, as after a failover.
        passing = isinstance(error, psycopg.Error) and (error.sqlstate or "")[:2] == "25"
        return self._link.lost or passing or isinstance(error, PASSING_ERRORS)

    def _run_turn(self, batch: list[CarriedRun]) -> None:
        self.number += 1
        look, idle = self._vigil.begin_turn(self.monotonic())
        # A turn that fails leaves it unknown what it did: the next one compares first.
        reconcile, self._reconcile = self._reconcile, True
        turn = Turn(self, batch, look=look, reconcile=reconcile, idle=idle)
        asked = self.monotonic()
        self._link.ask(turn.flow())
        self._note_floors(turn, asked)
        self._reconcile = turn.adopted
        self._apply(turn)

    def _note_floors(self, turn: Turn, asked: float) -> None:
        """Only once it has committed: what a turn claims in vain is as ready as it was before."""
        self.floors.note_claimed(turn.rooms, turn.caught, asked)
        if turn.dues is not None:
            self.floors.note_woken(self.settings.queues, turn.dues, asked)

    def _apply(self, turn: Turn) -> None:
        """The turn has committed: bring memory up to date, hand the work out, then tell of it."""
        now = self.monotonic()
        if turn.dues is not None:
            self._vigil.note_looked(now, turn.dues, turn.woken)
        for queue, seconds in sleeps(turn.plans, self.settings.queues) if turn.dues is None else ():
            self._vigil.note_timer(queue, now + seconds)
        self._vigil.end_turn(now, turn.idle)
        if turn.walked is not None and turn.metered is not None:
            self.desk.walk.end(now, turn.walked, turn.metered)
        for ticket in turn.settled:
            self.desk.remove(ticket)
        for run in turn.batch:
            self.results.settle(run, held=run in turn.held)
        for plan, run in turn.decided:
            run.follow(plan)
        fingerprints = [material.fingerprint for material in turn.materials]
        if self.registry.missing(fingerprints):
            self._link.ask(learn_graphs(self.registry, fingerprints))
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

    def _hand_out(self, tickets: Sequence[Ticket]) -> None:
        if self.stopping:  # what was adopted
            self.results.give_back(tickets)
            return
        bodies: list[Ticket] = []
        elapsed: list[Ticket] = []
        for ticket in tickets:
            if ticket.happening is not None:
                self.results.keep(ticket)  # it is filed elsewhere first
                continue
            bodiless = ticket.job.kind is not JobKind.STEP and ticket.job.kind in BODILESS
            (elapsed if bodiless else bodies).append(ticket)
        if self.bus.active:
            self.bus.emit(list(handed_out(bodies)))
        self.executor.submit(bodies)
        for ticket in elapsed:
            self._elapse(ticket)

    def _elapse(self, ticket: Ticket) -> None:
        """Nothing but time: its time has come as soon as it is claimed."""
        if self.registry.graph(ticket.run.fingerprint) is None:
            ticket.happening = Unknown()
        else:
            ticket.happening, ticket.finished = Elapsed(), self.monotonic()
            if ticket.step is not None and "seconds" in ticket.step.settings:
                ticket.started = ticket.finished - float(ticket.step.settings["seconds"])
        self.results.keep(ticket)

    # -- when the database is away -------------------------------------------------------------------------------

    def _recover(self, error: Exception) -> None:
        """A turn failed as a whole: what it did is unknown, so compare memory with the database before going on."""
        self._failures += 1
        self._reconcile, self._vigil.look = True, Look.EVERYTHING
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
