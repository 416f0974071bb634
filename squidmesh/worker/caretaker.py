"""The caretaker: a thread that renews the worker's lease, tells its steps to stop, and rescues what the dead left.

It has a connection of its own and runs no user code, so that no step, however long, and no turn, however large, costs
the worker its lease. But it renews only while the engine's loop is alive: a worker that heartbeats and does nothing is
worse than a dead one.
"""

from __future__ import annotations

import logging
import random
import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import psycopg

from squidmesh.errors import CommitUnknown
from squidmesh.events import WORKER_DECLARED_DEAD, Event, events_of
from squidmesh.store.jobs import find_work, list_flagged, pin_plans
from squidmesh.store.meters import delete_idle_meters
from squidmesh.store.migrations import ensure_schema
from squidmesh.store.statements import Batch
from squidmesh.store.workers import (
    LateWorker,
    declare_dead,
    list_late_workers,
    register_worker,
    remove_worker,
    renew_worker,
)
from squidmesh.worker.engine import Call
from squidmesh.worker.link import Link
from squidmesh.worker.rescue import Lookout, list_rescuable, rescue

if TYPE_CHECKING:
    from collections.abc import Callable
    from uuid import UUID

    from squidmesh.store.statements import Flow
    from squidmesh.store.workers import WorkerRecord
    from squidmesh.worker.engine import Engine
    from squidmesh.worker.settings import WorkerSettings

LOOK_AFTER: Final = 3
"""Of so many beats in a row that find nothing to do, one has the engine look itself: its connection stays in use."""

logger = logging.getLogger("squidmesh.caretaker")


class Caretaker:
    """Keeps a worker alive in the eyes of others, and looks after the others.

    Args:
        record: The worker as it announces itself.
        rename: Makes the record it goes on with after it was declared dead.
        engine: The worker's engine.
        connect: Opens a connection in autocommit mode.
    """

    def __init__(
        self,
        record: WorkerRecord,
        rename: Callable[[], WorkerRecord],
        engine: Engine,
        connect: Callable[[], psycopg.Connection[Any]],
    ) -> None:
        self.record = record
        self._rename = rename
        self._engine = engine
        self._settings = engine.settings
        self._link = Link(connect, engine.schema)
        self._lookout = Lookout(between=self._settings.beat)
        self._calm_beats = 0
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name="squidmesh-caretaker", daemon=True)

    def start(self) -> None:
        """Announce the worker, then keep on in the background.

        Raises:
            psycopg.Error: It cannot be announced.
            SchemaError: The schema is missing, or not served by this code.
        """
        try:
            self._link.ask(ensure_schema(self._engine.schema))
            self._link.ask(register_worker(self.record, self._settings.lease))
        except BaseException:
            self._link.close()
            raise
        self._thread.start()

    def wake(self) -> None:
        """Look at once, instead of at the next beat: a step is to be told to stop."""
        self._woken.set()

    def stop(self) -> None:
        """Stop, and take the worker's row away: it has nothing in hand any more."""
        self._stopping.set()
        self._woken.set()
        self._thread.join()
        try:
            self._link.ask(remove_worker(self.record.id))
        except (psycopg.Error, CommitUnknown) as error:
            logger.warning("could not take the worker's row away (%s); others will, when its lease is past", error)
        self._link.close()

    def _run(self) -> None:
        while not self._stopping.is_set():
            # Jittered, so that a fleet that was started together does not beat together.
            woken = self._woken.wait(self._settings.beat * random.uniform(0.8, 1.0))  # noqa: S311
            self._woken.clear()
            if self._stopping.is_set():
                return
            calm = False
            try:
                calm = self._beat()
            except (psycopg.Error, CommitUnknown) as error:
                logger.warning("a heartbeat failed (%s); trying again", error)
            except Exception:  # the top of a service loop: a worker without heartbeats would be a zombie
                logger.exception("a heartbeat failed; trying again")
            self._calm_beats = self._calm_beats + 1 if calm else 0
            if not woken and self._calm_beats % LOOK_AFTER == 0:
                self._engine.inbox.put(Call.BEAT)

    def _beat(self) -> bool:
        """Renew the lease and look around; return whether there is nothing that the engine would find to do."""
        if not self._engine.is_alive(self._settings.lease):
            logger.error("the engine of worker %s hangs; its lease is not renewed", self.record.id)
            return False
        worker = self.record.id
        alive, flagged, late, (work, due) = self._link.ask(_beat_flow(worker, self._settings))
        if not alive:
            self._be_reborn()
            return False
        for run_id, slot, claim in flagged:
            ticket = self._engine.desk.find(run_id, slot)
            if ticket is not None and ticket.job.claim == claim:
                self._engine.executor.tell_to_stop(ticket)
        if self._engine.registry.meters.rates and self._calm_beats % LOOK_AFTER == 0:
            self._link.ask(_forget_idle_meters())
        for dead in self._lookout.judge(late, self._engine.monotonic()):
            self._rescue(dead)
        return not work and self._engine.knows_of(due)

    def _be_reborn(self) -> None:
        self.record = self._rename()
        self._link.ask(register_worker(self.record, self._settings.lease))
        self._engine.inbox.put(self.record.id)

    def _rescue(self, dead: LateWorker) -> None:
        """Declare a worker dead, give back what it had, and take its row away once nothing is left."""
        if not dead.dead and not self._link.ask(declare_dead(dead.id, dead.beats)):
            return
        if not dead.dead:
            logger.error("worker %s on %s (pid %s) is dead: %.0f s late", dead.id, dead.host, dead.pid, dead.overdue)
            about = {"worker": str(dead.id), "host": dead.host, "pid": dead.pid}
            self._engine.bus.emit([Event(WORKER_DECLARED_DEAD, None, about, {"late": dead.overdue})])
        while jobs := self._link.ask(list_rescuable(dead.id)):
            plans = self._link.ask(rescue(self._engine.registry, dead, jobs, self._engine.channel))
            if not plans:
                return  # somebody holds their runs; the next beat tries again
            for plan in plans:
                self._engine.bus.emit(events_of(plan))
            self._engine.inbox.put(Call.WORK)
        self._link.ask(remove_worker(dead.id))


_Beat: TypeAlias = "tuple[bool, list[tuple[UUID, int, int]], list[LateWorker], tuple[bool, float | None]]"


def _forget_idle_meters() -> Flow[None]:
    yield Batch((pin_plans(), delete_idle_meters()), last=True)


def _beat_flow(worker: UUID, settings: WorkerSettings) -> Flow[_Beat]:
    _, alive, flagged, late, work = yield Batch(
        (
            pin_plans(),
            renew_worker(worker, settings.lease),
            list_flagged(worker),
            list_late_workers(worker),
            find_work(settings.queues, worker),
        ),
        last=True,
    )
    return alive, flagged, late, work
