"""Drives an inline worker through time. A *journey* is a generator: it yields each ticket whose body is to be run now.

So how a body is run, sync or async, is decided in one place each (``twins``), and no journey is written twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from squidmesh.errors import HarnessError, InvalidOption
from squidmesh.planner.outcome import Abandoned, Completed, Deferred, Failed
from squidmesh.testing.faults import Crash, Dress
from squidmesh.testing.inline import InlineWorker
from squidmesh.worker import body

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from datetime import datetime
    from uuid import UUID

    from squidmesh.events import EventBus
    from squidmesh.planner.outcome import Happening
    from squidmesh.registry import Registry
    from squidmesh.testing.calendar import Calendar
    from squidmesh.testing.faults import Faults
    from squidmesh.testing.sessions import Session
    from squidmesh.worker.ticket import Ticket

T = TypeVar("T")
Journey: TypeAlias = "Generator[tuple[Ticket, Dress], None, T]"

DEFAULT_LIMIT: Final = 1000
"""Steps that one call runs, at most, where nothing else is said."""

SHOWN: Final = 6
"""How many of the latest steps an error names."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A step that was run.

    Args:
        run_id: Its run.
        workflow: The workflow's name.
        step: The step's name.
        visit: Number of the visit.
        attempt: Number of the attempt.
        result: ``completed``, ``failed``, ``timed_out``, ``deferred``, ``crashed``; ``returned`` if its run ended
            before it began; ``discarded`` if a transactional step lost its job meanwhile, and was rolled back.
        kind: ``step``, or ``compensation``, which undid it.
    """

    run_id: UUID
    workflow: str
    step: str
    visit: int
    attempt: int
    result: str
    kind: str = "step"


class _Log(list[Ran]):
    """What one call ran, and how much more it may.

    Args:
        limit: So many steps, and so many timers.
        stands: Says how things stand, should that not be enough.
    """

    def __init__(self, limit: int, stands: Callable[[], str] = str) -> None:
        super().__init__()
        self._limit = limit
        self._stands = stands
        self._stops = 0

    @property
    def full(self) -> bool:
        """Whether as much was run as was allowed."""
        return len(self) >= self._limit

    def stop(self) -> None:
        """Count a timer, which need not run a step.

        Raises:
            HarnessError: As many came as steps are allowed.
        """
        self._stops += 1
        if self._stops > self._limit:
            raise HarnessError(
                f"time has come to {self._limit} timers and there are more; do waits follow each other without an end? "
                f"If not, pass a higher limit={self._stands()}"
            )

    def too_much(self) -> HarnessError:
        """The error that stops a run-away."""
        latest = ", ".join(f"{ran.workflow}/{ran.step}" for ran in self[-SHOWN:])
        return HarnessError(
            f"{self._limit} steps were run and more are ready, the latest being {latest}; "
            f"is there a loop without an end? If not, pass a higher limit={self._stands()}"
        )


class Driver:
    """Drives one worker at a time, and replaces it when it dies.

    Args:
        session: Where the database is, and time.
        registry: Knows functions and graphs.
        bus: Where events go.
        faults: What is arranged for steps.
        calendar: The schedules.
    """

    def __init__(self, session: Session, registry: Registry, bus: EventBus, faults: Faults, calendar: Calendar) -> None:
        self.session = session
        self._calendar = calendar
        self._registry = registry
        self._bus = bus
        self._faults = faults
        self._worker: InlineWorker | None = None
        self._dead: list[InlineWorker] = []
        self._running: Ticket | None = None

    # -- journeys ------------------------------------------------------------------------------------------------

    def drain(self, limit: int) -> Journey[list[Ran]]:
        """Run what is ready until nothing is."""
        log = _Log(limit)
        yield from self._drain(log)
        return log

    def travel(self, instant: datetime, limit: int) -> Journey[list[Ran]]:
        """Let time pass until an instant; run what becomes ready on the way, when it does."""
        if instant < self.session.now:
            raise InvalidOption("instant", f"{instant} is past: time only goes forward, and it is {self.session.now}")
        log = _Log(limit)
        yield from self._drain(log)
        while (due := self.next_timer()) is not None and due <= instant:
            log.stop()
            self._move(due)
            yield from self._drain(log)
        self._move(instant)
        return log

    def until(
        self,
        holds: Callable[[], bool],
        limit: int,
        latest: datetime | None = None,
        stands: Callable[[], str] = str,
    ) -> Journey[bool]:
        """Run and travel until something holds.

        Args:
            holds: Looks.
            limit: Steps to run at most.
            latest: The instant to give up at.
            stands: Says how things stand, should the limit be reached: others may go on for ever.

        Returns:
            Whether it holds; if not, ``latest`` has come, or nothing can happen any more by itself.
        """
        log = _Log(limit, stands)
        while not holds():
            if (yield from self._one(log)):
                continue
            if holds():  # what has no body was settled on the way
                break
            due = self.next_timer()
            if latest is not None and (due is None or due > latest):
                self._move(latest)
                return holds()
            if due is None:
                return False
            log.stop()
            self._move(due)
        return True

    def _drain(self, log: _Log) -> Journey[None]:
        while (yield from self._one(log)):
            pass

    def _one(self, log: _Log) -> Journey[bool]:
        """Run one step that is ready, and save what came of it; whether there was one."""
        self._bury()
        worker = self.worker
        if worker.empty_handed:
            self._calendar.fire()
        ticket = worker.next_ticket()
        if ticket is None:
            return False
        if log.full:
            worker.put_back(ticket)
            raise log.too_much()
        dress = self._faults.dress(ticket)
        if dress.crash is not None:
            worker.give_back()  # it dies with this step, and takes nothing else with it
        self._running = ticket
        yield ticket, dress
        self._running = None
        if dress.late and ticket.function is not None and ticket.function.timeout is not None:
            ticket.happening = body.timed_out(ticket, ticket.function.timeout)
        result = "timed_out" if dress.late else _result(ticket.happening)
        try:
            if dress.crashed:
                raise Crash  # noqa: TRY301 - as if it had come out of the turn
            worker.save(ticket, dress.dies)
        except Crash:
            result = "crashed"
            if dress.crash is not None:
                dress.crash.count += 1
            self._replace_worker(worker)
        run, job = ticket.run, ticket.job
        log.append(Ran(run.run_id, run.workflow, job.step, job.visit, job.attempt, result, str(job.kind)))
        return True

    # -- time ----------------------------------------------------------------------------------------------------

    def next_timer(self) -> datetime | None:
        """The next instant at which something becomes due by itself: the earliest over everything that waits for time.

        Sleeping jobs, and schedules. Whatever else wakes by itself is asked here, and fired where time arrives.
        """
        sources = (self.worker.next_timer, self._calendar.next_timer)
        return min((due for source in sources if (due := source()) is not None), default=None)

    def pass_over(self, instant: datetime) -> None:
        """Let time pass in which there is no worker, and nothing is run."""
        self._move(instant)

    def _move(self, instant: datetime) -> None:
        if instant > self.session.now:
            self.session.set_clock(instant)
            self.worker.beat()

    # -- workers -------------------------------------------------------------------------------------------------

    @property
    def worker(self) -> InlineWorker:
        """The worker that is alive."""
        if self._worker is None:
            self._worker = self._new_worker()
        return self._worker

    def rest(self) -> None:
        """Between two calls nothing is in a worker's hands; if one was interrupted in a body, it is dead."""
        worker = self._worker
        if self._running is not None and worker is not None:
            self._running = None
            self._replace_worker(worker)
        elif worker is not None:
            worker.give_back()

    def _new_worker(self) -> InlineWorker:
        return InlineWorker(self.session, self._registry, self._bus)

    def _replace_worker(self, dead: InlineWorker) -> None:
        self._worker = None
        self._dead.append(dead)
        self._bury()

    def _bury(self) -> None:
        """Rescue what dead workers had; what could not be, because somebody held a run, is tried again."""
        while self._dead:
            self.worker.rescue(self._dead[-1])
            self._dead.pop()


def _result(happening: Happening | None) -> str:
    match happening:
        case Completed():
            return "completed"
        case Failed():
            return "failed"
        case Deferred():
            return "deferred"
        case Abandoned():
            return "discarded"
        case _:
            return "returned"
