"""The desk: what a worker has in hand, in memory. Only the engine's thread touches it.

It knows which tickets are out, what is carried of their runs, and how much more may be claimed. It talks to nobody.
"""

from __future__ import annotations

import logging
from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Final

from squidmesh.definition import StepKind
from squidmesh.planner.outcome import Filed, Finding, Happening, Returned
from squidmesh.planner.scheduling import filed
from squidmesh.records import JobKind, Lane
from squidmesh.states import JobState
from squidmesh.store.jobs import LAST, Room
from squidmesh.worker.carried import CarriedRun, fold
from squidmesh.worker.permit import Permit
from squidmesh.worker.slots import WEIGHT
from squidmesh.worker.ticket import Ticket
from squidmesh.worker.walk import MeterWalk

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from uuid import UUID

    from squidmesh.planner.plan import LiveJob, NextJob, Plan
    from squidmesh.records import Job
    from squidmesh.registry import Registry
    from squidmesh.store.jobs import Material
    from squidmesh.worker.settings import WorkerSettings
    from squidmesh.worker.slots import Standing


ELAPSED_BATCH: Final = 250
"""At most so many jobs of which nothing executes are claimed of a queue in one turn, and decided in the next."""

logger = logging.getLogger("squidmesh.engine")


class Desk:
    """What a worker has in hand.

    Args:
        registry: Knows functions and graphs.
        settings: How much it may have in hand.
        monotonic: The clock that durations are measured with.
    """

    def __init__(self, registry: Registry, settings: WorkerSettings, monotonic: Callable[[], float]) -> None:
        self.registry = registry
        self.settings = settings
        self.monotonic = monotonic
        self.runs: dict[UUID, CarriedRun] = {}
        self._in_hand: dict[str, int] = dict.fromkeys(settings.queues, 0)
        self.lost: set[Ticket] = set()
        """What was lost to somebody else while its body ran: it occupies its slot until the body has ended."""
        self._elapsing = 0
        """Tickets of which nothing executes: they take no slot."""
        self._suspects = 0
        self.walk = MeterWalk()
        self._usual = 0.0
        """Bytes that a run weighs when it is claimed, on average."""
        self.heavy = False
        """Whether what is in hand weighs more than it may."""

    # -- tickets come and go -------------------------------------------------------------------------------------

    @property
    def count(self) -> int:
        """How many tickets are in hand."""
        return self._elapsing + sum(self._in_hand.values())

    @property
    def empty(self) -> bool:
        """Whether nothing is in hand."""
        return not self.count

    def tickets(self) -> list[Ticket]:
        """Everything in hand."""
        return [ticket for run in self.runs.values() for ticket in run.tickets.values()]

    def find(self, run_id: UUID, slot: int) -> Ticket | None:
        """The ticket of a job, if it is in hand."""
        run = self.runs.get(run_id)
        return run.tickets.get(slot) if run else None

    def has(self, ticket: Ticket) -> bool:
        """Whether a ticket is still in hand: it was not lost to a rescue, nor replaced."""
        return ticket.run.tickets.get(ticket.job.slot) is ticket

    def add(self, ticket: Ticket) -> Ticket:
        """Take a ticket in hand, in place of an earlier one of the same job."""
        run = ticket.run
        old = run.tickets.get(ticket.job.slot)
        if old is not None:
            self.remove(old)
        if not run.tickets:
            self.runs[run.run_id] = run
        run.tickets[ticket.job.slot] = ticket
        self._count(ticket, 1)
        return ticket

    def remove(self, ticket: Ticket) -> None:
        """Let go of a ticket; what is carried of its run is forgotten later (``forget_idle``)."""
        if self.has(ticket):
            del ticket.run.tickets[ticket.job.slot]
            if ticket.busy:
                self.lost.add(ticket)
            self._count(ticket, -1)

    def _count(self, ticket: Ticket, change: int) -> None:
        if ticket.job.lane is Lane.CLOCK:
            self._elapsing += change
            return
        self._in_hand[ticket.job.queue] += change
        if ticket.job.lane is not Lane.AHEAD:
            self._suspects += change * ticket.job.lane.suspect

    @property
    def may_have_suspect(self) -> bool:
        """Whether nothing is in hand with which a worker has died already: at most one at a time is."""
        return not self._suspects

    def forget_idle(self, runs: Iterable[CarriedRun]) -> None:
        """Forget the runs of which nothing is left in hand."""
        for run in runs:
            if not run.tickets and self.runs.get(run.run_id) is run:
                del self.runs[run.run_id]

    def drop_everything(self) -> list[Ticket]:
        """Let go of all: the worker was declared dead."""
        dropped = self.tickets()
        for ticket in dropped:
            self.remove(ticket)
            ticket.run.results.clear()
        self.runs.clear()
        return dropped

    # -- how much more -------------------------------------------------------------------------------------------

    def rooms(
        self,
        standing: Callable[[str], Standing],
        settled: Iterable[Ticket],
        coming: Collection[LiveJob],
        staying: Collection[CarriedRun],
    ) -> list[Room]:
        """How many jobs of each queue and lane may be claimed, once ``settled`` tickets are gone.

        Args:
            standing: How the slots of a queue stand.
            settled: The tickets whose results are being saved.
            coming: What will be in hand instead: successors that stay, jobs that were found to be ours.
            staying: The runs of these successors.
        """
        gone = set(settled)
        in_hand = dict(self._in_hand)
        for ticket in gone:
            in_hand[ticket.job.queue] -= not ticket.busy and ticket.job.lane is not Lane.CLOCK
        for lost in self.lost:
            in_hand[lost.job.queue] += 1
        kept: dict[str, list[int]] = {queue: [] for queue in self.settings.queues}
        for job in coming:
            if job.lane is not Lane.CLOCK:
                in_hand[job.queue] += 1
                kept[job.queue].append(job.priority)
        now = {queue: standing(queue) for queue in self.settings.queues}
        weights = self._weights(gone, staying, sum(in_hand[queue] * now[queue].output for queue in now))
        found: list[Room] = []
        for queue, concurrency in self.settings.queues.items():
            found.append(Room(queue, Lane.CLOCK, ELAPSED_BATCH))
            most = self._affordable(weights, now[queue].output, least=not in_hand[queue])
            free = concurrency - in_hand[queue]
            found += self._rooms_of(queue, now[queue], free, kept[queue], most)
            suspects = self._suspects or any(room.lane is Lane.SUSPECT for room in found)
            if not suspects and max(free, now[queue].soon) > 0:
                found.append(Room(queue, Lane.SUSPECT, min(1, most)))
        return [room for room in found if room.limit]

    def _rooms_of(self, queue: str, now: Standing, free: int, kept: Sequence[int], most: int) -> list[Room]:
        """The rooms of one queue: those without a free slot are for what gets one within a moment, or goes first."""
        found: list[Room] = []
        urgent, worst = urgent_room(now, kept)
        for lane, room, waiting in ((Lane.AHEAD, free + now.ahead, 0), (Lane.ALONE, max(free, now.soon), now.alone)):
            if room > 0:
                found.append(Room(queue, lane, min(room, most)))
            elif urgent > waiting:
                found.append(Room(queue, lane, min(urgent - waiting, most), worst=worst))
        return found

    def _weights(self, gone: set[Ticket], staying: Collection[CarriedRun], expected: float) -> tuple[float, float]:
        """Bytes in hand once ``gone`` is gone, with what is ``expected`` to be returned; and those of one run."""
        total, count = sum(run.weight for run in self.runs.values()), len(self.runs)
        if total + expected > self.settings.memory_bytes / 2:  # only then it is worth looking closely
            for run in {ticket.run for ticket in gone}.difference(staying):
                if run.tickets and gone.issuperset(run.tickets.values()):
                    total, count = total - run.weight, count - 1
        self.heavy = total + expected > self.settings.memory_bytes and count > 1
        return total + expected, max(self._usual, total / count if count else 0.0)

    def _affordable(self, weights: tuple[float, float], output: float, *, least: bool) -> int:
        """How many more jobs of a queue the memory has room for; at least one, if nothing of it is in hand."""
        total, each = weights
        spare = self.settings.memory_bytes - total
        return max(int(spare / max(each + output, 1.0)), int(least))

    def metered_rooms(self, rooms: Iterable[Room], *, strays: bool) -> dict[str, int]:
        """How many metered jobs of each queue may be claimed: those that can start at once.

        Args:
            rooms: What may be claimed of each lane.
            strays: Whether to look also if this code has no limits: for what is filed under those that no code has.
        """
        free = {room.queue: room.limit for room in rooms if room.lane is Lane.ALONE and room.worst == LAST}
        if free and (self.registry.meters or strays or self.walk.again <= self.monotonic()):
            return free
        self.walk.again = inf  # the turn that frees a slot looks again
        return {}

    def file(self, plan: Plan, run: CarriedRun) -> None:
        """File what a plan makes live under what it shares with others, as whoever claims it would have to.

        Only with the run's context at hand: else that does so.
        """
        if not self.registry.meters or run.upto != plan.run.seq:
            return
        graph, state = self.registry.graph(run.fingerprint), None
        for job in plan.jobs:
            function = self.registry.function(run.workflow, job.step)
            if function is None or graph is None or job.same_visit or job.kind is not JobKind.STEP:
                continue
            metering = self.registry.metering(function, job.queue)
            if metering is not None:
                state = run.state_after(plan) if state is None else state
                filed(job, metering.meters(state), graph)

    # -- from jobs to tickets ------------------------------------------------------------------------------------

    def open(self, jobs: Iterable[Job], materials: Iterable[Material]) -> list[Ticket]:
        """Tickets for jobs that were claimed, with what was read of their runs."""
        by_run = {material.run_id: material for material in materials}
        for read in by_run.values():
            self._usual += (read.size - self._usual) * (WEIGHT if self._usual else 1.0)
        states: dict[tuple[CarriedRun, int], dict[str, object]] = {}
        now = self.monotonic()
        found: list[Ticket] = []
        for job in jobs:
            material = by_run.get(job.run_id)
            if material is None:
                logger.error("job %s of run %s has no run", job.slot, job.run_id)
                continue
            run = self.runs.get(job.run_id) or CarriedRun(material)
            run.error = material.error
            if run.upto < job.saw:
                run.take(material, job.saw)
            key = (run, job.saw)
            if key not in states:
                before = run.upto > job.saw
                states[key] = {**run.start, **fold(material.outputs, job.saw)} if before else run.state()
            found.append(self.add(self._ticket(run, job, states[key], now)))
        return found

    def go_on(self, run: CarriedRun, job: NextJob, material: Material | None, kept_since: float) -> Ticket:
        """A ticket for a successor that is kept; ``material`` if the run had to be read again."""
        if material is not None:
            run.take(material, job.saw)
        return self.add(self._ticket(run, job, run.state(), kept_since))

    def _ticket(self, run: CarriedRun, job: LiveJob, state: dict[str, object], since: float) -> Ticket:
        graph = self.registry.graph(run.fingerprint)
        function = self.registry.function(run.workflow, job.step, job.kind)
        ticket = Ticket(
            run=run,
            job=job,
            step=graph.steps.get(job.step) if graph else None,
            function=function,
            state=state,
            kept_since=since,
            permit=Permit() if function is not None and function.transaction else None,
        )
        if function is not None and (self.registry.meters or job.meters is not None):
            metering = self.registry.metering(function, job.queue)
            meters = None if metering is None else metering.meters(state)
            if meters != job.meters:
                ticket.happening = Filed(meters)
        return ticket

    def can_run(self, workflow: str, step: str, fingerprint: str) -> bool:
        """Whether this worker can do a step: it has the function, or the step needs none."""
        graph = self.registry.graph(fingerprint)
        if graph is None:
            return False
        return graph.steps[step].kind is not StepKind.FUNCTION or self.registry.function(workflow, step) is not None

    def may_keep(self, plan: Plan, job: NextJob, before: Ticket) -> bool:
        """Whether the successor of ``before`` may stay here: ready at once, of the same queue, and not for too long."""
        return (
            job.state is JobState.READY
            and not job.same_visit  # which sees what its first attempt saw, not what the worker remembers by now
            and job.lane is Lane.AHEAD
            and not self.heavy  # its context is read again by whoever has room for it
            and before.job.lane is not Lane.CLOCK  # which has no slot that it could leave to it
            and job.queue == before.job.queue
            and self.monotonic() - before.kept_since < self.settings.keep
            and self.can_run(plan.run.workflow, job.step, plan.run.fingerprint)
        )


def urgent_room(now: Standing, kept: Iterable[int]) -> tuple[int, int]:
    """How many jobs may be claimed though there is no room, as they go first; and the worst priority that does so.

    Args:
        now: How the slots of a queue stand.
        kept: The priorities of successors that will wait for them, too.
    """
    levels = Counter(dict(now.waiting))
    levels.update(kept)
    room, worst, better = 0, LAST, 0
    for priority, count in sorted(levels.items()):
        if better >= now.quick:
            break
        room, worst = min(now.quick, levels.total()) - better, priority - 1
        better += count
    return room, worst


def finding_of(ticket: Ticket, worker: UUID, now: float) -> Finding:
    """What a finished ticket says, as the planner wants it."""
    happening: Happening = ticket.happening if ticket.happening is not None else Returned()
    return Finding(
        slot=ticket.job.slot,
        worker=worker,
        claim=ticket.job.claim,
        happening=happening,
        started_ago=None if ticket.started is None else max(now - ticket.started, 0.0),
        finished_ago=0.0 if ticket.started is None else max(now - ticket.finished, 0.0),
        takes=differing_takes(ticket),
    )


def differing_takes(ticket: Ticket) -> tuple[str, ...] | None:
    """The parameters that the body took, where live code differs from the graph that the run started with."""
    if ticket.function is None or ticket.step is None or ticket.function.takes is ticket.step.takes:
        return None
    taken = tuple(parameter.name for parameter in ticket.function.takes)
    return taken if set(taken) != {parameter.name for parameter in ticket.step.takes} else None
