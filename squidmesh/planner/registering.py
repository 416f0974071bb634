"""What a worker that starts does to the schedules that its code declares. Pure: rows and the time are arguments.

During a deploy, old and new code declare different things under one name. The code of the worker that began last is
taken for the newest; it holds as long as that worker lives. Whoever finds that it is gone goes by what is left.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from squidmesh.cron import Cron
from squidmesh.definition import TriggerKind
from squidmesh.timetable import Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from squidmesh.definition import Definition

CODE = "code"
API = "api"


class Known(NamedTuple):
    """A declared schedule as one worker sees it.

    Attributes:
        schedule: The schedule.
        newer: Whether it follows the code of a live worker that began after the one that asks.
        followed: Whether it follows the code of the one that asks.
    """

    schedule: Schedule
    newer: bool
    followed: bool


class Registration(NamedTuple):
    """What is to be written.

    Attributes:
        added: Schedules that there are none of yet.
        changed: Those that are declared differently now, or not any more, or follow other code from now on.
    """

    added: list[Schedule]
    changed: list[Schedule]


def declared_in(definitions: Iterable[Definition]) -> dict[str, Schedule]:
    """The schedules of cron triggers, by name."""
    return {
        f"{definition.workflow}/{trigger.name}": Schedule(
            name=f"{definition.workflow}/{trigger.name}",
            workflow=definition.workflow,
            trigger=trigger.name,
            source=CODE,
            expression=trigger.expression or "",
            timezone=trigger.timezone or "UTC",
            policy=trigger.policy,
        )
        for definition in definitions
        for trigger in definition.triggers
        if trigger.kind is TriggerKind.CRON
    }


def plan_registration(wanted: Mapping[str, Schedule], known: Iterable[Known], now: datetime) -> Registration:
    """Compare what code declares with what is there.

    Args:
        wanted: What the code declares.
        known: What is there of the same workflows.
        now: The database's time: what is new or changed never fires for what is past.
    """
    rows = {one.schedule.name: one for one in known}
    added = [_from_now(schedule, now) for name, schedule in wanted.items() if name not in rows]
    changed: list[Schedule] = []
    for name, (schedule, newer, followed) in rows.items():
        if newer:
            continue
        declared = wanted.get(name)
        if declared is None:
            if not schedule.retired:
                changed.append(replace(schedule, retired=True))
            continue
        merged = _merged(schedule, declared, now)
        if merged != schedule or not followed:
            changed.append(merged)
    return Registration(added, changed)


def _merged(schedule: Schedule, declared: Schedule, now: datetime) -> Schedule:
    """A row with what the code says of it; what it has done, and whether it is paused, stays."""
    same = (schedule.expression, schedule.timezone) == (declared.expression, declared.timezone)
    merged = replace(
        schedule, expression=declared.expression, timezone=declared.timezone, policy=declared.policy, retired=False
    )
    return merged if same and not schedule.retired else _from_now(merged, now)


def _from_now(schedule: Schedule, now: datetime) -> Schedule:
    return replace(schedule, next_at=Cron.parse(schedule.expression, schedule.timezone).next_after(now))
