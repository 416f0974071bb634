"""The scheduler: a thread of a worker that registers what its code declares, and fires what is due.

It sleeps until the earliest nominal time, by what the database says of it: the machine's clock is never asked what time
it is. It is woken when somebody has changed a schedule, and when a run has ended that a schedule waits for; and it
looks for itself from time to time, because a notification may be lost and the database's clock may be set. All
schedulers do the same at the same instant, and whoever locks a row fires it.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import psycopg

from squidmesh.errors import CommitUnknown
from squidmesh.events import SCHEDULE_SKIPPED, Event, started
from squidmesh.planner.firing import SkipReason
from squidmesh.records import instant_text
from squidmesh.scheduling import LONGEST_SILENCE, TOLD
from squidmesh.store.schedules import read_agenda
from squidmesh.worker.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from squidmesh.events import EventBus
    from squidmesh.scheduling import Fired, Scheduling
    from squidmesh.store.schedules import Agenda

LONGEST_SLEEP: Final = 30.0
"""Seconds until it looks for itself: so late, at most, it notices that the database's clock was set."""

LONGEST_SLEEP_WITHOUT: Final = 60.0
"""The same while there are no schedules: it keeps no connection then."""

LONGEST_WAIT: Final = 5.0
"""The same while a schedule waits for a run, whose end may be announced to nobody."""

REGISTER_EVERY: Final = 60.0
"""Seconds until it looks whether its code is the newest by now: in a deploy, others may have gone."""

SHORTEST_SLEEP: Final = 0.02
LONGEST_HOLD: Final = 1.0
"""Seconds between looks, from the one to the other, while something is due that somebody else has locked."""

LONGEST_RECONNECT: Final = 5.0

logger = logging.getLogger("squidmesh.scheduler")


class Scheduler:
    """Fires schedules, on a connection of its own that it opens only while there are any.

    Args:
        scheduling: What to do.
        worker: The id of the worker that it belongs to, as it is now.
        connect: Opens a connection in autocommit mode.
        schema: The schema that squidmesh lives in.
        bus: Where events go.
    """

    def __init__(
        self,
        scheduling: Scheduling,
        worker: Callable[[], UUID],
        connect: Callable[[], psycopg.Connection[Any]],
        schema: str,
        bus: EventBus,
    ) -> None:
        self._scheduling = scheduling
        self._worker = worker
        self._link = Link(connect, schema)
        self._bus = bus
        self._woken = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="squidmesh-scheduler", daemon=True)
        self._awaited: frozenset[str] = frozenset()
        """What is said on the channel when a run has ended that a schedule waits for."""
        self._registered_at: float | None = None
        self._graphs_stored = False
        self._hold = SHORTEST_SLEEP
        self._failures = 0

    def start(self) -> None:
        """Register what the code declares, then go on in the background."""
        try:
            self._register()
        except (psycopg.Error, CommitUnknown) as error:
            logger.warning("schedules could not be registered (%s); trying again", error)
        self._thread.start()

    def hear(self, payload: str | None) -> None:
        """Something was said on the channel, or may have been missed; called on the listener's thread."""
        if payload is None or payload.startswith(TOLD) or payload in self._awaited:
            self._woken.set()

    def stop(self) -> None:
        """Start nothing more."""
        self._stopping.set()
        self._woken.set()
        if self._thread.is_alive():
            # Not for ever: a database that is away must not keep the worker from stopping in good order.
            self._thread.join(LONGEST_SILENCE)
        if not self._thread.is_alive():
            self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                patience = self._look()
                self._failures = 0
            except (psycopg.Error, CommitUnknown) as error:
                patience = self._pause()
                logger.warning("schedules could not be looked at (%s); trying again in %.1f s", error, patience)
            except Exception:  # the top of a service loop: the worker goes on, and so must its schedules
                patience = self._pause()
                logger.exception("schedules could not be looked at; trying again in %.1f s", patience)
            self._woken.wait(patience)
            self._woken.clear()

    def _pause(self) -> float:
        self._failures += 1
        return min(0.05 * 2.0 ** min(self._failures, 10), LONGEST_RECONNECT)

    def _look(self) -> float:
        """Register now and then, fire what is due, and say how long to sleep."""
        self._register()
        if not self._graphs_stored and self._link.ask(read_agenda(self._scheduling.triggers)).known:
            self._link.ask(self._scheduling.register_graphs())
            self._graphs_stored = True
        agenda = self._fire_all() if self._graphs_stored else None
        if agenda is None or not agenda.known:
            self._link.close()
            return LONGEST_SLEEP_WITHOUT
        awaited, before = frozenset(f"run:{run_id}" for run_id in agenda.awaited), self._awaited
        self._awaited = awaited
        if awaited - before:
            # What ended between the look and this moment was announced to nobody: look once more.
            self._woken.set()
        patience = self._patience(agenda.seconds)
        return min(patience, LONGEST_WAIT) if awaited else patience

    def _fire_all(self) -> Agenda:
        """Fire what is due, a transaction after the other."""
        while True:
            fired = self._link.ask(self._scheduling.fire())
            tell(fired, self._bus)
            if not fired.moved or self._stopping.is_set():
                return fired.agenda

    def _register(self) -> None:
        now = time.monotonic()
        if self._registered_at is None or now - self._registered_at >= REGISTER_EVERY:
            worker = self._worker()
            if not self._link.ask(self._scheduling.is_registered(worker)):
                self._link.ask(self._scheduling.register(worker))
            self._registered_at = now

    def _patience(self, seconds: float | None) -> float:
        if seconds is None:
            return LONGEST_SLEEP
        if seconds > 0:
            self._hold = SHORTEST_SLEEP
            return min(seconds, LONGEST_SLEEP)
        # Due, and in somebody else's hands.
        self._hold = min(self._hold * 2, LONGEST_HOLD)
        return self._hold


def tell(fired: Fired, bus: EventBus) -> None:
    """Log and tell subscribers what came of a look."""
    for schedule, firing in fired.decided:
        for skip in firing.skips:
            grave = skip.reason in (SkipReason.MISSED, SkipReason.PAYLOAD)
            said = "schedule %s passes over %d nominal times from %s to %s: %s"
            level = logging.WARNING if grave else logging.INFO
            first, last = instant_text(skip.first), instant_text(skip.last)
            logger.log(level, said, schedule.name, skip.count, first, last, skip.reason)
            about = {"schedule": schedule.name, "workflow": schedule.workflow, "trigger": schedule.trigger}
            what = {"reason": str(skip.reason), "count": skip.count, "first": first, "last": last}
            bus.emit([Event(SCHEDULE_SKIPPED, None, {**about, **what})])
    for run in fired.runs if bus.active else ():
        bus.emit(started(run.id, run.workflow, run.trigger, run.current_steps, run.replayed_from))
