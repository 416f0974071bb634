"""One turn of the engine as a flow: what is asked of the database, and what is decided in between."""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import TYPE_CHECKING, Any, Final

from squidmesh.records import Job, Lane
from squidmesh.states import JobState
from squidmesh.store.jobs import (
    LAST,
    adopt_jobs,
    check_fences,
    claim_jobs,
    list_claimed,
    notify_idle,
    pin_plans,
    read_claimed,
    wake_jobs,
)
from squidmesh.store.meters import claim_metered, lock_meters
from squidmesh.store.runs import lock_runs
from squidmesh.store.saving import save_plans
from squidmesh.store.statements import Batch
from squidmesh.store.workers import set_idle
from squidmesh.worker.deciding import Case, decide
from squidmesh.worker.desk import finding_of
from squidmesh.worker.vigil import Look

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from uuid import UUID

    from squidmesh.planner.plan import LiveJob, LockedRun, NextJob, Plan
    from squidmesh.store.jobs import Material, Room, Woken
    from squidmesh.store.meters import Metered, Walked
    from squidmesh.store.statements import Flow, Statement
    from squidmesh.worker.carried import CarriedRun
    from squidmesh.worker.engine import Engine
    from squidmesh.worker.ticket import Ticket


PART: Final = 128
"""So many runs are decided before the server begins to save them: it works while the next ones are decided."""


class Turn:
    """One turn: the flow, and what came of it.

    Args:
        engine: Whose turn it is.
        batch: The runs whose results are to be saved.
        look: For what to look beside ready jobs.
        reconcile: Whether to compare what is in hand with what the database says first.
        idle: What to tell starts, if anything changed: whether this worker sleeps.
    """

    def __init__(
        self, engine: Engine, batch: Sequence[CarriedRun], *, look: Look, reconcile: bool, idle: bool | None
    ) -> None:
        self.engine = engine
        self.desk = engine.desk
        self.batch = batch
        self.look = look
        self.reconcile = reconcile
        self.idle = idle
        self.decided: list[tuple[Plan, CarriedRun]] = []
        self._saved = 0
        """How many of them the server has been told of."""
        self.kept: list[tuple[Plan, NextJob, Ticket]] = []
        self.held: list[CarriedRun] = []
        self.settled: list[Ticket] = []
        self.claimed: list[Job] = []
        self.rooms: list[Room] = []
        """For how many jobs it asked."""
        self.caught: list[Job] = []
        """What it got."""
        self.materials: list[Material] = []
        self.late: list[Ticket] = []
        """The results whose job is not ours any more."""
        self.adopted = False
        """Whether parked jobs were claimed; the next turn finds them to be ours, and reads their runs."""
        self.dues: Mapping[str, float] | None = None
        """Seconds until the next timer of each queue, if the turn has looked."""
        self.woken = 0
        self.walked: Mapping[str, Walked] | None = None
        """How far metered jobs were looked at, if the turn has."""
        self.metered: Metered | None = None

    def flow(self) -> Flow[None]:
        """Lock, decide, save, claim: two round trips, or one if there is nothing to save."""
        if self.batch or self.reconcile:
            yield from self._lock_and_decide()
        statements = self._last_statements()
        found = _by_name(statements, (yield Batch(tuple(statements), last=True)))
        self.caught = found.get("claim_jobs", [])
        self.claimed += self.caught
        self.walked, self.metered = found.get("lock_meters"), found.get("claim_metered")
        if self.metered is not None:
            self.claimed += self.metered.jobs
        self.adopted = bool(found.get("adopt_jobs"))
        self.materials = found.get("read_claimed", [])
        woken: Woken | None = found.get("wake_jobs")
        if woken is not None:
            self.woken, self.dues = woken.count, woken.dues

    @property
    def plans(self) -> list[Plan]:
        """What was decided."""
        return [plan for plan, _ in self.decided]

    # -- lock and decide -----------------------------------------------------------------------------------------

    def _lock_and_decide(self) -> Flow[None]:
        statements: list[Statement[Any]] = [pin_plans()]
        if self.reconcile:
            statements.append(list_claimed(self.engine.worker))
        if self.batch:
            handed_out = [(run.run_id, ticket.job) for run in self.batch for ticket in run.results]
            statements.append(lock_runs([run.run_id for run in self.batch]))
            statements.append(check_fences(self.engine.worker, handed_out))
        found = _by_name(statements, (yield Batch(tuple(statements))))
        if self.reconcile:
            self._reconcile(found["list_claimed"])
        if self.batch:
            yield from self._decide(found["lock_runs"], found["check_fences"])

    def _reconcile(self, listed: list[Job]) -> None:
        """Adopt what the database says is ours and memory does not have; let go of what it says is not."""
        ours = {(job.run_id, job.slot): job.claim for job in listed}
        known: dict[tuple[UUID, int], int] = {}
        for ticket in self.desk.tickets():
            known[ticket.key] = ticket.job.claim
            if ours.get(ticket.key) != ticket.job.claim:
                ticket.cancellation.raised = True
                self.settled.append(ticket)
        self.claimed += [job for job in listed if known.get((job.run_id, job.slot)) != job.claim]

    def _decide(self, locked: list[LockedRun], ours: list[tuple[UUID, LiveJob]]) -> Flow[None]:
        now, worker = self.engine.monotonic(), self.engine.worker
        carried = {run.run_id: run for run in self.batch}
        cases: dict[UUID, Case] = {}
        for run in locked:
            mine = carried[run.id]
            findings = [finding_of(ticket, worker, now) for ticket in mine.results]
            cases[run.id] = Case(run=run, findings=findings, may_snapshot=mine.upto == run.seq)
        held: set[UUID] = set()
        for run_id, job in ours:
            case = cases.get(run_id)
            if case is None:
                held.add(run_id)
            else:
                case.jobs[job.slot] = job
        ready = list(cases.values())
        for begin in range(0, len(ready), PART):
            if begin:
                yield self._save_ahead()
            for plan in (yield from decide(self.engine.registry, ready[begin : begin + PART])):
                mine = carried[plan.run.id]
                self.decided.append((plan, mine))
                self._conclude(plan, mine)
        self._sort_out_held([run for run in self.batch if run.run_id not in cases], held)

    def _save_ahead(self) -> Batch:
        """Let the server save what was decided until now, while the rest is decided."""
        return Batch(tuple(self._save()), ahead=True)

    def _save(self) -> list[Statement[Any]]:
        """The statements that save what was decided since the last time."""
        plans = [plan for plan, _ in self.decided[self._saved :]]
        self._saved = len(self.decided)
        return save_plans(plans, self.engine.channel)

    def _conclude(self, plan: Plan, run: CarriedRun) -> None:
        self.settled += run.results
        if unsure := {ticket.job.slot for ticket in run.results if ticket.unsure}:
            plan.discarded = [finding for finding in plan.discarded if finding.slot not in unsure]
        if plan.snapshot_seq is not None:
            plan.add_snapshot(run.snapshot(plan))
        self.desk.file(plan, run)
        if not self.engine.stopping:
            self._keep_one(plan, run.results[0])

    def _keep_one(self, plan: Plan, before: Ticket) -> None:
        """Keep one successor of what ended, under a new claim number."""
        for job in plan.jobs:
            if self.desk.may_keep(plan, job, before):
                job.state, job.worker, job.claim = JobState.CLAIMED, self.engine.worker, self.engine.number
                self.kept.append((plan, job, before))
                return

    def _sort_out_held(self, runs: list[CarriedRun], held: Collection[UUID]) -> None:
        """What was not locked is held by somebody else, and asked for again; or is not ours any more, and lost."""
        for run in runs:
            if run.run_id in held:
                self.held.append(run)
            else:
                self.settled += run.results
                self.late += [ticket for ticket in run.results if not ticket.unsure]

    # -- save and claim ------------------------------------------------------------------------------------------

    def _last_statements(self) -> list[Statement[Any]]:
        engine = self.engine
        statements: list[Statement[Any]] = [] if self.batch or self.reconcile else [pin_plans()]
        statements += self._save()
        if self.idle is not None:
            statements.append(set_idle(engine.worker, idle=self.idle))
        self.rooms = rooms = [] if engine.stopping else self._rooms()
        metered = self.desk.metered_rooms(rooms, strays=self.reconcile)
        elsewhere = self._for_others(rooms, metered)
        if elsewhere:
            statements.append(notify_idle(engine.channel, elsewhere, engine.worker))
        free = [room for room in rooms if room.lane is Lane.ALONE and room.worst == LAST]
        below = self.look is Look.BELOW_FLOORS
        if self.look is not Look.NOTHING and not engine.stopping:
            slots = dict.fromkeys(engine.settings.queues, 0) | {room.queue: room.limit for room in free}
            floors = {} if below else engine.floors.due(engine.monotonic())
            statements.append(wake_jobs(slots, engine.channel, engine.worker, floors=floors))
            if free and self.look >= Look.EVERYTHING:
                known = engine.registry
                statements.append(adopt_jobs(engine.worker, engine.number, free, known.knows, known.unreadable))
        if rooms:
            wanted = rooms if below else engine.floors.under(rooms, engine.monotonic())
            statements.append(claim_jobs(engine.worker, engine.number, wanted))
        if metered:
            statements += self._claim_metered(metered)
        unread = [(plan.run.id, job.saw) for plan, job, before in self.kept if before.run.upto != plan.run.seq]
        unread += [(job.run_id, job.saw) for job in self.claimed]
        if rooms or unread:
            statements.append(read_claimed(unread))
        return statements

    def _claim_metered(self, rooms: Mapping[str, int]) -> list[Statement[Any]]:
        engine, meters = self.engine, self.engine.registry.meters
        suspect = self.desk.may_have_suspect
        news = bool(self.batch) or self.reconcile or self.look is not Look.NOTHING
        return [
            lock_meters(self.desk.walk.begin(rooms, news=news), meters),
            claim_metered(engine.worker, engine.number, rooms, meters, suspect=suspect),
        ]

    def _rooms(self) -> list[Room]:
        coming: list[LiveJob] = [*(job for _, job, _ in self.kept), *self.claimed]
        staying = {before.run for _, _, before in self.kept}
        return self.desk.rooms(self.engine.executor.standing, self.settled, coming, staying)

    def _for_others(self, rooms: list[Room], metered: Mapping[str, int]) -> list[str]:
        """The queues whose new jobs this worker will not take at once: sleeping workers are told of them."""
        room = {room.queue: room.limit for room in rooms if room.lane is Lane.AHEAD and room.worst == LAST}
        found = queues_to_tell(self.plans, room, self.engine.settings.queues, self.engine.timers)
        freed = Counter(ticket.job.queue for ticket in self.settled if ticket.job.meters is not None)
        # Who makes room in a limit takes the next job itself, if it can.
        return sorted({*found, *(queue for queue, count in freed.items() if count > metered.get(queue, 0))})

    # -- after the commit ----------------------------------------------------------------------------------------

    def open_tickets(self) -> list[Ticket]:
        """The tickets of what was handed out; called once memory has followed the plans."""
        read = {material.run_id: material for material in self.materials}
        tickets: list[Ticket] = []
        for plan, job, before in self.kept:
            run = before.run
            material = None if run.upto == plan.seq else read[run.run_id]
            tickets.append(self.desk.go_on(run, job, material, before.kept_since))
        return tickets + self.desk.open(self.claimed, self.materials)


def queues_to_tell(
    plans: Iterable[Plan], room: dict[str, int], served: Collection[str], timers: Mapping[str, float]
) -> list[str]:
    """The queues of which others must know: the worker will not take their new jobs at once, or may not live to do it.

    Args:
        plans: What is saved.
        room: How many ready jobs of each queue it will take; used up.
        served: The queues that it serves.
        timers: Seconds until the next timer of each of them that everybody knows, who serves the queue and sleeps.
    """
    found: set[str] = set()
    for plan in plans:
        for job in plan.jobs:
            match job.state:
                case JobState.READY if job.lane is not Lane.CLOCK or job.queue not in served:
                    room[job.queue] = room.get(job.queue, 0) - 1
                    if room[job.queue] < 0:
                        found.add(job.queue)
                case JobState.SLEEPING if job.queue not in served or job.delay < timers.get(job.queue, inf):
                    # Whoever knows of an earlier one looks then, and learns of this one.
                    found.add(job.queue)
                case JobState.PARKED:
                    found.add(job.queue)  # a step that only others know
                case _:
                    pass
    return sorted(found)


def sleeps(plans: Iterable[Plan], served: Collection[str]) -> Iterator[tuple[str, float]]:
    """The timers that plans set: the queue, and seconds from now."""
    for plan in plans:
        for job in plan.jobs:
            if job.state is JobState.SLEEPING and job.queue in served:
                yield job.queue, job.delay


def _by_name(statements: list[Statement[Any]], results: list[Any]) -> dict[str, Any]:
    return {statement.name: result for statement, result in zip(statements, results, strict=True)}
