"""Results: what came of the tickets in hand, until it is saved. Only the engine's thread changes them.

A body has ended, or the worker says something of it itself: that its time is up, or that it is given back. What comes
of a job that is not ours any more is discarded. A run that somebody else holds is asked for again, less and less often.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from squidmesh.events import discarded, events_of
from squidmesh.planner.outcome import Returned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from squidmesh.events import EventBus
    from squidmesh.planner.outcome import Happening
    from squidmesh.planner.plan import Plan
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.desk import Desk
    from squidmesh.worker.executor import Executor
    from squidmesh.worker.ticket import Ticket

SHORTEST_HOLD: Final = 0.005
LONGEST_HOLD: Final = 0.2
"""Seconds between two questions for a run that somebody else holds, from the one to the other."""


class Results:
    """What came of the tickets in hand, until it is saved.

    Args:
        desk: What is in hand.
        executor: Where bodies run that are told to stop.
        bus: Where events go.
        monotonic: The clock that durations are measured with.

    Attributes:
        runs: The runs with results to save, in the order in which they came.
    """

    def __init__(self, desk: Desk, executor: Executor, bus: EventBus, monotonic: Callable[[], float]) -> None:
        self.runs: dict[CarriedRun, None] = {}
        self._desk = desk
        self._executor = executor
        self._bus = bus
        self._monotonic = monotonic

    def due(self, now: float) -> Iterator[CarriedRun]:
        """The runs whose results can be saved now, as far as is known."""
        return (run for run in self.runs if run.ask_again <= now)

    def next_batch(self, most: int, most_bytes: int) -> list[CarriedRun]:
        """The runs whose results are saved in one turn: about so many of them, of about so many bytes."""
        batch: list[CarriedRun] = []
        count = size = 0
        for run in self.due(self._monotonic()):
            batch.append(run)
            count += len(run.results)
            size += sum(ticket.size for ticket in run.results)
            if count >= most or size > most_bytes:
                break
        return batch

    def settle(self, run: CarriedRun, *, held: bool) -> None:
        """A turn has committed that was to save them: it did, or somebody else held the run."""
        if held:
            run.patience = min(max(run.patience * 2, SHORTEST_HOLD), LONGEST_HOLD)
            run.ask_again = self._monotonic() + run.patience
            return
        run.results.clear()
        run.ask_again = run.patience = 0.0
        self.runs.pop(run, None)

    # -- what comes in -------------------------------------------------------------------------------------------

    def keep(self, ticket: Ticket) -> None:
        """Keep what happened to a ticket until it is saved."""
        ticket.run.results.append(ticket)
        self.runs[ticket.run] = None

    def take(self, ticket: Ticket) -> None:
        """A body has ended."""
        if not self._desk.has(ticket):
            self._discard(ticket)
        elif ticket not in ticket.run.results:  # where it is already, if it was given up
            self.keep(ticket)

    def follow(self, ticket: Ticket, plan: Plan) -> None:
        """A transactional step has saved its result itself: bring memory up to date."""
        run = ticket.run
        if ticket in run.results:
            run.results.remove(ticket)
            if not run.results:
                self.runs.pop(run, None)
        self._desk.remove(ticket)
        self._desk.lost.discard(ticket)
        if run.upto == plan.run.seq:
            run.follow(plan)
        self._desk.forget_idle([run])
        if self._bus.active:
            self._bus.emit(events_of(plan))

    def _discard(self, ticket: Ticket) -> None:
        """A body has ended whose job was lost meanwhile: its slot is free again, and its result is worth nothing."""
        self._desk.lost.discard(ticket)
        settled = ticket.permit is not None and (ticket.permit.saved is not None or ticket.permit.in_doubt)
        if self._bus.active and not settled and not isinstance(ticket.happening, Returned):
            self._bus.emit(list(discarded([ticket])))

    # -- what the worker says itself -----------------------------------------------------------------------------

    def give_back(self, tickets: Iterable[Ticket]) -> None:
        """Give back what was not started."""
        for ticket in tickets:
            if self._desk.has(ticket):
                ticket.happening = Returned()
                self.keep(ticket)

    def give_up(self, ticket: Ticket, happening: Happening) -> None:
        """Say what happened to a body that still runs, and may never end: what it comes to later is refused."""
        self._stop_body(ticket)
        ticket.happening, ticket.given_up = happening, True
        ticket.finished = self._monotonic()
        self.keep(ticket)

    def drop_everything(self) -> None:
        """The worker was declared dead: what it had is not its own any more."""
        self.give_back(self._executor.withdraw())
        for ticket in self._desk.drop_everything():
            if ticket.busy:
                self._stop_body(ticket)
            else:
                self._discard(ticket)
        self.runs.clear()

    def _stop_body(self, ticket: Ticket) -> None:
        """Nothing will come of what a body does: its permit is revoked before it hears of it, and may end at once."""
        if ticket.permit is not None and ticket.permit.revoke():
            # The server is told on a thread that has time.
            threading.Thread(target=ticket.permit.sever, name="squidmesh-sever", daemon=True).start()
        self._executor.tell_to_stop(ticket)
