"""Events: what happened, told to whoever subscribed, after the commit that made it true.

Names are the original's where it has one. Subscribers run on a thread of their own: one that is slow delays only
other events, one that raises harms nothing. Nothing is computed for an event that nobody subscribed to.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeAlias

from squidmesh.records import JobKind
from squidmesh.states import AttemptStatus, JobState, RunStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from uuid import UUID

    from squidmesh.planner.plan import NewAttempt, NewAudit, Plan
    from squidmesh.records import JSONObject
    from squidmesh.worker.ticket import Ticket

RUN_CREATED: Final = "run.created"
RUN_REPLAYED: Final = "run.replayed"
RUN_DISPATCHED: Final = "run.dispatched"
RUN_TRANSITION: Final = "run.transition"
STEP_STARTED: Final = "step.started"
STEP_SKIPPED: Final = "step.skipped"
STEP_COMPLETED: Final = "step.completed"
STEP_FAILED: Final = "step.failed"
STEP_RETRY_SCHEDULED: Final = "step.retry_scheduled"
STEP_ABANDONED: Final = "step.abandoned"
STEP_DISCARDED: Final = "step.discarded"
GATE_OPENED: Final = "gate.opened"
GATE_DECIDED: Final = "gate.decided"
SIGNAL_RECEIVED: Final = "signal.received"
COMPENSATION_STARTED: Final = "compensation.started"
COMPENSATION_COMPLETED: Final = "compensation.completed"
COMPENSATION_FAILED: Final = "compensation.failed"
SCHEDULE_SKIPPED: Final = "schedule.skipped"
WORKER_STARTED: Final = "worker.started"
WORKER_STOPPED: Final = "worker.stopped"
WORKER_FAILED: Final = "worker.failed"
WORKER_DECLARED_DEAD: Final = "worker.declared_dead"

EVENT_NAMES: Final = (
    RUN_CREATED,
    RUN_REPLAYED,
    RUN_DISPATCHED,
    RUN_TRANSITION,
    STEP_STARTED,
    STEP_SKIPPED,
    STEP_COMPLETED,
    STEP_FAILED,
    STEP_RETRY_SCHEDULED,
    STEP_ABANDONED,
    STEP_DISCARDED,
    GATE_OPENED,
    GATE_DECIDED,
    SIGNAL_RECEIVED,
    COMPENSATION_STARTED,
    COMPENSATION_COMPLETED,
    COMPENSATION_FAILED,
    SCHEDULE_SKIPPED,
    WORKER_STARTED,
    WORKER_STOPPED,
    WORKER_FAILED,
    WORKER_DECLARED_DEAD,
)

logger = logging.getLogger("squidmesh.events")


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened.

    Args:
        name: One of ``EVENT_NAMES``.
        run_id: The run it concerns, if it concerns one.
        metadata: What it is about: ``workflow``, ``trigger``, ``step``, ``attempt``, ``from_status`` ...
        measurements: Numbers: ``duration`` and ``delay`` in seconds.
    """

    name: str
    run_id: UUID | None
    metadata: JSONObject = field(default_factory=dict[str, object])
    measurements: dict[str, float] = field(default_factory=dict[str, float])


Subscriber: TypeAlias = "Callable[[Event], object]"


class EventBus:
    """Delivers events to subscribers on a thread of its own, which starts with the first subscriber."""

    def __init__(self) -> None:
        self._subscribers: tuple[tuple[frozenset[str], Subscriber], ...] = ()
        self._queue: SimpleQueue[Iterable[Event] | threading.Event] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @property
    def active(self) -> bool:
        """Whether anybody listens: otherwise no event need be made."""
        return bool(self._subscribers)

    def subscribe(self, subscriber: Subscriber, *names: str) -> Callable[[], None]:
        """Call ``subscriber(event)`` for these events, or for all.

        Args:
            subscriber: Called on the events' thread.
            names: The events to tell it of; none means all.

        Returns:
            A function that ends the subscription.

        Raises:
            ValueError: There is no event of such a name.
        """
        unknown = set(names) - set(EVENT_NAMES)
        if unknown:
            raise ValueError(f"no such events: {', '.join(sorted(unknown))}; there are: {', '.join(EVENT_NAMES)}")
        entry = (frozenset(names or EVENT_NAMES), subscriber)
        with self._lock:
            self._subscribers = (*self._subscribers, entry)
            if self._thread is None:
                self._start()

        def unsubscribe() -> None:
            with self._lock:
                self._subscribers = tuple(known for known in self._subscribers if known is not entry)

        return unsubscribe

    def begin_anew(self) -> None:
        """In a forked child: keep the subscribers; the thread, and what it has not delivered yet, are the parent's."""
        self._queue, self._lock, self._thread = SimpleQueue(), threading.Lock(), None

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._deliver, name="squidmesh-events", daemon=True)
        self._thread.start()

    def emit(self, events: Iterable[Event]) -> None:
        """Hand events over for delivery; they are made lazily, on the delivering thread."""
        if self._subscribers:
            self._queue.put(events)
            if self._thread is None:  # the subscribers are older than this process
                with self._lock:
                    if self._thread is None:
                        self._start()

    def flush(self, timeout: float) -> bool:
        """Wait until everything emitted so far was delivered, at most ``timeout`` seconds; return whether it was."""
        if self._thread is None or self._thread is threading.current_thread():
            return True
        delivered = threading.Event()
        self._queue.put(delivered)
        return delivered.wait(timeout)

    def _deliver(self) -> None:
        while True:
            batch = self._queue.get()
            if isinstance(batch, threading.Event):
                batch.set()
                continue
            try:
                for event in batch:
                    self._tell(event)
            except Exception:  # the top of a service loop: events are made here, lazily
                logger.exception("events could not be told")

    def _tell(self, event: Event) -> None:
        for names, subscriber in self._subscribers:
            if event.name in names:
                _call(subscriber, event)


def _call(subscriber: Subscriber, event: Event) -> None:
    try:
        subscriber(event)
    except BaseException:  # the edge of user code: a broken subscriber harms nothing else, SystemExit or not
        logger.exception("a subscriber of %s raised", event.name)


def events_of(plan: Plan) -> Iterator[Event]:
    """What a saved plan means, as events."""
    run = plan.run
    about: JSONObject = {"workflow": run.workflow, "trigger": run.trigger, "status": str(plan.status)}
    for attempt in plan.attempts:
        if attempt.kind in ("step", "compensation"):
            yield from _events_of_attempt(run.id, about, attempt)
    for audit in plan.audits:
        if audit.type in _AUDITED:
            yield _event_of_audit(run.id, about, audit)
    for late in plan.discarded:
        yield Event(STEP_DISCARDED, run.id, {**about, "slot": late.slot, "claim": late.claim})
    old, new = plan.shown_move
    if old is not new:
        yield Event(RUN_TRANSITION, run.id, {**about, "from_status": str(old), "to_status": str(new)})
    failed = {(a.step, a.visit, a.attempt) for a in plan.attempts if a.status is AttemptStatus.FAILED}
    for job in plan.jobs:
        where: JSONObject = {**about, "step": job.step, "attempt": job.attempt, "queue": job.queue}
        if (job.step, job.visit, job.attempt - 1) in failed:
            yield Event(STEP_RETRY_SCHEDULED, run.id, {**where, "attempt": job.attempt - 1}, {"delay": job.delay})
        if job.state is not JobState.PARKED and job.kind != JobKind.TIMER:
            yield Event(RUN_DISPATCHED, run.id, where, {"delay": job.delay})


_AUDITED: Final = {
    "skipped": STEP_SKIPPED,
    "paused": GATE_OPENED,
    "signalled": SIGNAL_RECEIVED,
    **dict.fromkeys(("voted", "approved", "rejected", "resumed", "resolved"), GATE_DECIDED),
}
"""The audit events that are told of, under these names."""


def _event_of_audit(run_id: UUID, about: JSONObject, audit: NewAudit) -> Event:
    name = _AUDITED[audit.type]
    where: JSONObject = {**about, "step": audit.step, **audit.metadata}
    if name == STEP_SKIPPED:
        where["reason"] = "dependency_not_completed"
    if name == GATE_DECIDED:
        where["decision"] = audit.type
    if audit.actor is not None:
        where["actor"] = audit.actor
    return Event(name, run_id, where)


def _events_of_attempt(run_id: UUID, about: JSONObject, attempt: NewAttempt) -> Iterator[Event]:
    where: JSONObject = {**about, "step": attempt.step, "visit": attempt.visit, "attempt": attempt.attempt}
    measured: dict[str, float] = {}
    if attempt.started_ago is not None:
        measured["duration"] = attempt.started_ago - attempt.finished_ago
    undoing = attempt.kind == "compensation"
    match attempt.status:
        case AttemptStatus.COMPLETED if undoing:
            yield Event(COMPENSATION_COMPLETED, run_id, where, measured)
        case AttemptStatus.FAILED if undoing:
            yield Event(COMPENSATION_FAILED, run_id, {**where, "error": attempt.error}, measured)
        case AttemptStatus.COMPLETED:
            yield Event(STEP_COMPLETED, run_id, {**where, "outcome": attempt.outcome}, measured)
        case AttemptStatus.FAILED:
            yield Event(STEP_FAILED, run_id, {**where, "error": attempt.error}, measured)
        case AttemptStatus.ABANDONED:
            yield Event(STEP_ABANDONED, run_id, {**where, "error": attempt.error}, measured)
        case AttemptStatus.CANCELLED:
            pass


def handed_out(tickets: Iterable[Ticket]) -> Iterator[Event]:
    """What a committed hand-out means, as events: steps are started, and with the first one the run is running."""
    for ticket in tickets:
        run = ticket.run
        ending = RunStatus(run.status).ending
        status = str(run.status) if ending else str(RunStatus.RUNNING)
        about: JSONObject = {"workflow": run.workflow, "trigger": run.trigger, "status": status}
        if run.status in (RunStatus.PENDING, RunStatus.RETRYING):
            moved = {"from_status": run.status, "to_status": str(RunStatus.RUNNING)}
            yield Event(RUN_TRANSITION, run.run_id, {**about, **moved})
            run.status = str(RunStatus.RUNNING)
        where = {"step": ticket.job.step, "visit": ticket.job.visit, "attempt": ticket.job.attempt}
        undoing = ticket.job.kind == JobKind.COMPENSATION
        yield Event(COMPENSATION_STARTED if undoing else STEP_STARTED, run.run_id, {**about, **where})


def discarded(tickets: Iterable[Ticket]) -> Iterator[Event]:
    """What it means that results came too late: their jobs were given to somebody else."""
    for ticket in tickets:
        run = ticket.run
        about: JSONObject = {"workflow": run.workflow, "trigger": run.trigger, "status": str(run.status)}
        where = {"step": ticket.job.step, "slot": ticket.job.slot, "claim": ticket.job.claim}
        yield Event(STEP_DISCARDED, run.run_id, {**about, **where})


def started(run_id: UUID, workflow: str, trigger: str, steps: Iterable[str], source: UUID | None) -> Iterator[Event]:
    """What a committed start means, as events."""
    about: JSONObject = {"workflow": workflow, "trigger": trigger, "status": str(RunStatus.PENDING)}
    if source is None:
        yield Event(RUN_CREATED, run_id, about)
    else:
        yield Event(RUN_REPLAYED, run_id, {**about, "replayed_from": str(source)})
    for step in steps:
        yield Event(RUN_DISPATCHED, run_id, {**about, "step": step, "attempt": 1})
