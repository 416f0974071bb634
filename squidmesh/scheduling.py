"""Flows about schedules: fire those that are due, and register those that code declares.

Firing needs no leader. Whoever finds a row that is due locks it, starts its run and stores the next nominal time in one
transaction; others pass over what is locked. A run has a key of its schedule and its nominal time besides, so that not
even a row that was changed by hand, or a backfill, gives a nominal time a second run.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from squidmesh.cron import Cron, CronError
from squidmesh.errors import InvalidPayload
from squidmesh.planner.firing import Firing, SkipReason, decide_firing, jitter_of, tick_of, without
from squidmesh.planner.registering import declared_in, plan_registration
from squidmesh.records import Run
from squidmesh.states import RunStatus
from squidmesh.store.codec import Unencodable, decode, encode
from squidmesh.store.jobs import notify
from squidmesh.store.runs import register_definition
from squidmesh.store.saving import begin_histories
from squidmesh.store.schedules import (
    ScheduledRuns,
    insert_schedules,
    limit_idleness,
    list_live_runs,
    lock_due_schedules,
    lock_schedules,
    read_agenda,
    read_declared,
    save_schedules,
    start_scheduled_runs,
    update_schedules,
)
from squidmesh.store.statements import Batch, ask
from squidmesh.timetable import Overlap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import Any
    from uuid import UUID

    from squidmesh.operations import Operations
    from squidmesh.planner.graph import Graph
    from squidmesh.records import JSONObject
    from squidmesh.store.schedules import Agenda
    from squidmesh.store.statements import Flow, Statement
    from squidmesh.timetable import Schedule

MOST_SCHEDULES: Final = 100
"""Schedules that are fired in one transaction."""

MOST_RUNS: Final = 100
"""Runs of one schedule that are started in one transaction, when it catches up."""

LONGEST_SILENCE: Final = 5.0
"""Seconds that a process which is frozen or cut off holds the schedules that it was about to fire."""

TOLD: Final = "schedule:"
"""What is said on the channel when schedules were changed."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Runs of a schedule that can be started: everything that can be wrong with them has been looked at.

    Args:
        graph: The graph that they will run on.
        new: What is to be stored.
    """

    graph: Graph
    new: ScheduledRuns

    def runs(self, created: datetime, started: set[UUID]) -> list[Run]:
        """The runs that were started, in order of their nominal times."""
        new = self.new
        steps = tuple(sorted(job.step for job in new.plan.jobs))
        return [
            Run(
                id=run_id,
                workflow=new.workflow,
                trigger=new.trigger,
                status=RunStatus.PENDING,
                attention=None,
                payload=decode(payload),
                context={},
                current_steps=steps,
                error=None,
                fingerprint=new.fingerprint,
                replayed_from=None,
                created_at=created,
                finished_at=None,
                schedule=tick,
            )
            for run_id, payload, tick in zip(new.ids, new.payloads, new.ticks, strict=True)
            if run_id in started
        ]


class Fired(NamedTuple):
    """What came of one look.

    Attributes:
        decided: The schedules that were due, and what was decided.
        runs: The runs that were started.
        agenda: When to look again.
    """

    decided: list[tuple[Schedule, Firing]]
    runs: list[Run]
    agenda: Agenda

    @property
    def moved(self) -> bool:
        """Whether anything was decided, so that there may be more."""
        return any(firing.next_at != schedule.next_at for schedule, firing in self.decided)


class Scheduling:
    """What workers and clients do with schedules.

    Args:
        operations: What clients can ask for.
        new_id: Makes run ids.
    """

    def __init__(self, operations: Operations, new_id: Callable[[], UUID]) -> None:
        self.operations = operations
        self.registry = operations.registry
        self.channel = operations.channel
        self._new_id = new_id

    @property
    def triggers(self) -> list[str]:
        """``workflow/trigger`` of each trigger that this process can start runs of."""
        definitions = [workflow.check() for workflow in self.registry.workflows.values()]
        return [f"{known.workflow}/{trigger.name}" for known in definitions for trigger in known.triggers]

    # -- starting ------------------------------------------------------------------------------------------------

    def prepare(
        self, schedule: Schedule, times: Sequence[datetime], now: datetime, *, keyed: bool = True
    ) -> Prepared | None:
        """Check what the runs for some nominal times are to be started with; None if there are none.

        Defaults such as ``today()`` are those of the nominal time: a run that begins late is for its day nevertheless.

        Args:
            schedule: The schedule, of a workflow that this process knows.
            times: The nominal times.
            now: The database's time.
            keyed: Whether there may be one run only for each.

        Raises:
            InvalidPayload: The schedule's payload does not meet the contract.
        """
        if not times:
            return None
        workflow = self.registry.workflow(schedule.workflow)
        contract, cron = workflow.contract(schedule.trigger), Cron.parse(schedule.expression, schedule.timezone)
        payloads = [_text(contract.resolve(schedule.payload, at, workflow=workflow.name), schedule) for at in times]
        plan = self.operations.start_plan(workflow)
        if schedule.policy.overlap is Overlap.QUEUE:
            # Its end is announced: somebody waits for it.
            plan = replace(plan, progress=replace(plan.progress, watched=True))
        new = ScheduledRuns(
            ids=[self._new_id() for _ in times],
            payloads=payloads,
            keys=[schedule.key(at) if keyed else None for at in times],
            ticks=[tick_of(cron, schedule, at, now) for at in times],
            run_ats=[at + jitter_of(schedule, at) for at in times],
            workflow=workflow.name,
            fingerprint=workflow.check().fingerprint,
            trigger=schedule.trigger,
            plan=plan,
        )
        return Prepared(self.registry.live_graph(workflow), new)

    def start(self, prepared: Prepared, *, always_notify: bool) -> Flow[list[Run]]:
        """Start prepared runs; the result is those whose nominal time had no run yet."""
        statement = start_scheduled_runs(prepared.new, self.channel, always_notify=always_notify)
        history = prepared.new.plan.audits
        created, started = yield from ask(statement, last=not history)
        if history:
            yield Batch(tuple(begin_histories(sorted(started), prepared.new.plan)), last=True)
        return prepared.runs(created, started)

    # -- firing --------------------------------------------------------------------------------------------------

    def fire(self) -> Flow[Fired]:
        """Fire what is due, as much as fits into one transaction."""
        triggers = self.triggers
        _, due = yield Batch((limit_idleness(LONGEST_SILENCE), lock_due_schedules(triggers, MOST_SCHEDULES)))
        if due is None:
            return Fired([], [], (yield from ask(read_agenda(triggers), last=True)))
        held = [s.last_run for s in due.schedules if s.last_run and s.policy.overlap is not Overlap.ALLOW]
        live: set[UUID] = (yield from ask(list_live_runs(held))) if held else set()
        decided = [self._decide(schedule, due.now, busy=schedule.last_run in live) for schedule in due.schedules]
        prepared = [part for _, _, part in decided if part is not None]
        statements: list[Statement[Any]] = [
            start_scheduled_runs(part.new, self.channel, always_notify=False) for part in prepared
        ]
        ids = [list(part.new.ids) if part else [] for _, _, part in decided]
        saved = [(schedule, firing, mine) for (schedule, firing, _), mine in zip(decided, ids, strict=True)]
        histories = any(part.new.plan.audits for part in prepared)
        *started, _, agenda = yield Batch(
            (*statements, save_schedules(saved), read_agenda(triggers)), last=not histories
        )
        if histories:
            found = zip(prepared, started, strict=True)
            said = [s for part, (_, ids) in found for s in begin_histories(sorted(ids), part.new.plan)]
            yield Batch(tuple(said), last=True)
        runs = [run for part, found in zip(prepared, started, strict=True) for run in part.runs(*found)]
        return Fired([(schedule, firing) for schedule, firing, _ in decided], runs, agenda)

    def _decide(self, schedule: Schedule, now: datetime, *, busy: bool) -> tuple[Schedule, Firing, Prepared | None]:
        try:
            cron = Cron.parse(schedule.expression, schedule.timezone)
        except CronError:  # written by newer code: left to that
            return schedule, Firing((), (), schedule.next_at), None
        firing = decide_firing(cron, schedule, now, busy=busy, most=MOST_RUNS)
        try:
            return schedule, firing, self.prepare(schedule, firing.starts, now)
        except InvalidPayload:
            # The contract has changed under a schedule that was created with a payload. It must not hold up others.
            return schedule, without(firing, SkipReason.PAYLOAD), None

    # -- registering ---------------------------------------------------------------------------------------------

    def is_registered(self, worker: UUID) -> Flow[bool]:
        """Whether all is there as the code of this process declares it; the usual answer, in one statement.

        Args:
            worker: In whose name.
        """
        workflows = self.registry.workflows
        wanted = declared_in(workflow.check() for workflow in workflows.values())
        now, known = yield from ask(read_declared(worker, workflows), last=True)
        plan = plan_registration(wanted, known, now)
        return not (plan.added or plan.changed)

    def register(self, worker: UUID) -> Flow[int]:
        """Add, change and retire what the code of this process declares; the result is how many rows were written.

        Args:
            worker: In whose name.
        """
        workflows = self.registry.workflows
        wanted = declared_in(workflow.check() for workflow in workflows.values())
        now, known = yield from ask(read_declared(worker, workflows))
        plan = plan_registration(wanted, known, now)
        if plan.changed:
            # Once more, when nobody else can change them.
            yield from ask(lock_schedules(schedule.name for schedule in plan.changed))
            now, known = yield from ask(read_declared(worker, workflows))
            plan = plan_registration(wanted, known, now)
        statements: list[Statement[Any]] = []
        if plan.added:
            statements.append(insert_schedules(plan.added, worker))
        if plan.changed:
            statements.append(update_schedules(plan.changed, worker))
        if statements:
            yield Batch((*statements, notify(self.channel, [TOLD])), last=True)
        return len(plan.added) + len(plan.changed)

    def register_graphs(self) -> Flow[None]:
        """Store the graphs of this process's workflows, before runs are started on them."""
        definitions = [workflow.check() for workflow in self.registry.workflows.values()]
        yield Batch(
            tuple(register_definition(known.fingerprint, known.workflow, known.to_json()) for known in definitions),
            last=True,
        )


def _text(payload: JSONObject, schedule: Schedule) -> str:
    try:
        return encode(payload, what="payload").text
    except Unencodable as error:
        raise InvalidPayload(schedule.workflow, invalid_fields={error.path: error.problem}) from error
