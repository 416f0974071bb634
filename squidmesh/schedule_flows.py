"""What people and programs do with schedules at run time: flows, run by both twins of ``mesh.schedules``.

Whatever a call changes, it changes on a locked row, and tells the workers, whose schedulers look again at once.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeAlias

from squidmesh.authoring.reading import name_problem
from squidmesh.cron import Cron
from squidmesh.errors import InvalidOption, InvalidPayload, ScheduleExists, ScheduleNotFound
from squidmesh.planner.firing import INSTANT, times_from
from squidmesh.planner.registering import API, CODE, declared_in
from squidmesh.scheduling import TOLD
from squidmesh.store.codec import Unencodable, encode
from squidmesh.store.jobs import notify
from squidmesh.store.schedules import (
    delete_schedule,
    insert_schedules,
    lock_schedules,
    read_schedules,
    update_schedules,
)
from squidmesh.store.statements import Batch, ask
from squidmesh.timetable import CatchUp, Policy, Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from squidmesh.records import JSON, JSONObject
    from squidmesh.retry import Seconds
    from squidmesh.scheduling import Prepared, Scheduling
    from squidmesh.store.statements import Flow
    from squidmesh.timetable import OverlapName
    from squidmesh.workflow import Workflow

Times: TypeAlias = "list[datetime]"
Listing: TypeAlias = "list[Schedule]"
"""By other names, because a class that has a method ``list`` cannot say so."""

MOST_TIMES: Final = 1000
"""Nominal times that one call lists or backfills."""


class ScheduleFlows:
    """The flows of ``mesh.schedules``.

    Args:
        scheduling: What workers and clients do with schedules.
    """

    def __init__(self, scheduling: Scheduling) -> None:
        self.scheduling = scheduling
        self._registry = scheduling.registry
        self._told = notify(scheduling.channel, [TOLD])

    # -- read ----------------------------------------------------------------------------------------------------

    def list(self, workflow: Workflow | str | None) -> Flow[Listing]:
        """Schedules by name, all or those of a workflow."""
        name = workflow if workflow is None or isinstance(workflow, str) else workflow.name
        listed = yield from ask(read_schedules(workflow=name), last=True)
        return listed.schedules

    def get(self, name: str) -> Flow[Schedule]:
        """A schedule."""
        _, schedule = yield from self._find(name)
        return schedule

    def next_times(self, name: str, count: int) -> Flow[Times]:
        """The nominal times that are to come, as if it were not paused."""
        if type(count) is not int or not 1 <= count <= MOST_TIMES:
            raise InvalidOption("count", f"must be a whole number from 1 to {MOST_TIMES}, not {count!r}")
        now, schedule = yield from self._find(name)
        cron = Cron.parse(schedule.expression, schedule.timezone)
        first = schedule.next_at if schedule.next_at and schedule.next_at > now else cron.next_after(now)
        return [] if first is None else list(islice(times_from(cron, first, None), count))

    def _find(self, name: str) -> Flow[tuple[datetime, Schedule]]:
        listed = yield from ask(read_schedules(_name(name)), last=True)
        if not listed.schedules:
            raise ScheduleNotFound(name)
        return listed.now, listed.schedules[0]

    # -- change --------------------------------------------------------------------------------------------------

    def create(self, wanted: Schedule) -> Flow[Schedule]:
        """Add a schedule that was checked."""
        cron = Cron.parse(wanted.expression, wanted.timezone)
        now, _ = yield from ask(read_schedules(wanted.name))
        created = replace(wanted, next_at=cron.next_after(now))
        added, _ = yield Batch((insert_schedules([created]), self._told), last=True)
        if not added:
            raise ScheduleExists(wanted.name)
        return created

    def change(self, name: str, changed: Callable[[Schedule], Schedule]) -> Flow[Schedule]:
        """Change a locked schedule; one that fires at other times from now on does so from now on."""
        listed = yield from ask(lock_schedules([_name(name)]))
        if listed is None:
            raise ScheduleNotFound(name)
        (before,) = listed.schedules
        after: Schedule = changed(before)
        if after == before:
            return before
        times = [(s.expression, s.timezone, s.paused) for s in (before, after)]
        if times[0] != times[1] and not after.paused:
            after = replace(after, next_at=Cron.parse(after.expression, after.timezone).next_after(listed.now))
        yield Batch((update_schedules([after]), self._told), last=True)
        return after

    def delete(self, name: str) -> Flow[None]:
        """Delete a schedule."""
        listed = yield from ask(lock_schedules([_name(name)]))
        if listed is None:
            raise ScheduleNotFound(name)
        declared = declared_in(workflow.check() for workflow in self._registry.workflows.values())
        if name in declared:
            raise InvalidOption("name", f"{name} is declared in code: take it out there, or pause it")
        yield Batch((delete_schedule(name), self._told), last=True)

    # -- start ---------------------------------------------------------------------------------------------------

    def prepare_now(self, name: str) -> Flow[Prepared | None]:
        """Check a request to start a run now, whatever the schedule says."""
        now, schedule = yield from self._find(name)
        self._check_known(schedule)
        return self.scheduling.prepare(schedule, [now], now, keyed=False)

    def prepare_backfill(self, name: str, start: datetime, end: datetime) -> Flow[Prepared | None]:
        """Check a request to start runs for the nominal times that have been, from ``start`` until before ``end``."""
        for option, at in (("start", start), ("end", end)):
            if getattr(at, "tzinfo", None) is None:
                raise InvalidOption(option, f"must be an aware datetime, not {at!r}")
        now, schedule = yield from self._find(name)
        self._check_known(schedule)
        cron = Cron.parse(schedule.expression, schedule.timezone)
        first = cron.next_after(start - INSTANT)
        before = min(end, now + INSTANT)
        times = [] if first is None else list(islice(times_from(cron, first, before), MOST_TIMES + 1))
        if len(times) > MOST_TIMES:
            until = times[-1].isoformat()
            raise InvalidOption("end", f"that is more than {MOST_TIMES} nominal times; do it up to {until} first")
        return self.scheduling.prepare(schedule, times, now)

    def _check_known(self, schedule: Schedule) -> None:
        self._registry.workflow(schedule.workflow).contract(schedule.trigger)

    # -- check ---------------------------------------------------------------------------------------------------

    def wanted(
        self,
        name: str,
        workflow: Workflow | str,
        expression: str,
        *,
        trigger: str | None,
        timezone: str,
        payload: Mapping[str, JSON] | None,
        policy: Policy,
        paused: bool,
    ) -> Schedule:
        """Check a request to create a schedule. Nothing is stored yet.

        Raises:
            InvalidOption: The name, or a policy, cannot be used.
            WorkflowNotFound: The workflow is not registered.
            TriggerNotFound: It has no such trigger.
            CronError: The expression or the time zone cannot be used.
            InvalidPayload: The payload and the contract's defaults do not make a whole one.
        """
        problem = name_problem(_name(name))
        if problem:
            raise InvalidOption("name", f"{name!r} {problem}")
        found = self._registry.workflow(workflow)
        chosen = trigger if trigger is not None else found.check().triggers[0].name
        cron = Cron.parse(expression, timezone)
        schedule = Schedule(
            name=name,
            workflow=found.name,
            trigger=chosen,
            source=API,
            expression=cron.expression,
            timezone=timezone,
            policy=policy,
            paused=paused is True,
        )
        return self.with_payload(schedule, payload)

    def with_payload(self, schedule: Schedule, payload: Mapping[str, JSON] | None) -> Schedule:
        """The schedule with a payload that is checked against the contract of its trigger."""
        found = self._registry.workflow(schedule.workflow)
        contract = found.contract(schedule.trigger)
        try:
            given: JSONObject = encode(dict(payload or {}), what="payload").value
        except Unencodable as error:
            raise InvalidPayload(found.name, invalid_fields={error.path: error.problem}) from error
        except (TypeError, ValueError):
            raise InvalidOption("payload", f"must be a mapping of fields to values, not {payload!r}") from None
        contract.resolve(given, self.scheduling.operations.now(), workflow=found.name)
        return replace(schedule, payload=given)

    def changer(
        self,
        *,
        expression: str | None,
        timezone: str | None,
        payload: Mapping[str, JSON] | None,
        catch_up: CatchUp | Seconds | None,
        overlap: OverlapName | None,
        jitter: Seconds | None,
    ) -> Callable[[Schedule], Schedule]:
        """What to do with a locked schedule, to change what is not None."""

        def changed(schedule: Schedule) -> Schedule:
            if schedule.source == CODE:
                raise InvalidOption("name", f"{schedule.name} is declared in code: change it there")
            cron = Cron.parse(expression or schedule.expression, timezone or schedule.timezone)
            old = schedule.policy
            policy = policy_of(
                CatchUp(old.window, old.mode) if catch_up is None else catch_up,
                overlap or str(old.overlap),
                old.jitter if jitter is None else jitter,
            )
            after = replace(schedule, expression=cron.expression, timezone=cron.timezone, policy=policy)
            return after if payload is None else self.with_payload(after, payload)

        return changed


def policy_of(catch_up: object, overlap: object, jitter: object) -> Policy:
    """The policy that was given.

    Raises:
        InvalidOption: It cannot be used.
    """
    policy, problems = Policy.read(catch_up, overlap, jitter)
    for option, problem in problems:
        raise InvalidOption(option, problem)
    return policy


def paused_one(schedule: Schedule) -> Schedule:
    """The schedule, paused."""
    return replace(schedule, paused=True)


def resumed_one(schedule: Schedule) -> Schedule:
    """The schedule, not paused."""
    return replace(schedule, paused=False)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise InvalidOption("name", f"must be the name of a schedule, not {name!r}")
    return name
