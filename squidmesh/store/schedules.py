"""Statements about schedules: read and lock them, fire them, register what code declares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from squidmesh.planner.registering import Known
from squidmesh.store import columns
from squidmesh.store.codec import decode, encode
from squidmesh.store.rows import instant
from squidmesh.store.runs import beginning
from squidmesh.store.statements import Statement, nothing
from squidmesh.timetable import Overlap, Policy, Schedule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from uuid import UUID

    from squidmesh.planner.firing import Firing
    from squidmesh.planner.plan import StartPlan
    from squidmesh.records import JSONObject, Tick
    from squidmesh.store.statements import Row, Rows


class Listed(NamedTuple):
    """Schedules, and the database's time."""

    now: datetime
    schedules: list[Schedule]


class Agenda(NamedTuple):
    """When a scheduler has to look again.

    Attributes:
        known: How many schedules there are for it.
        seconds: Until one is due; None if none will be.
        awaited: The runs that schedules wait for.
    """

    known: int
    seconds: float | None
    awaited: frozenset[UUID]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRuns:
    """Runs of one schedule to start together.

    Args:
        ids: Their ids.
        payloads: Their payloads as JSON texts.
        keys: What names them, so that a nominal time has one run; None where it may have several.
        ticks: The nominal times that they are for.
        run_ats: When they may begin.
        workflow: The workflow's name.
        fingerprint: Names its graph.
        trigger: The trigger whose contract the payloads meet.
        plan: What each begins with.
    """

    ids: Sequence[UUID]
    payloads: Sequence[str]
    keys: Sequence[str | None]
    ticks: Sequence[Tick]
    run_ats: Sequence[datetime]
    workflow: str
    fingerprint: str
    trigger: str
    plan: StartPlan


def read_schedules(name: str | None = None, workflow: str | None = None) -> Statement[Listed]:
    """Schedules by name, and the time."""
    return Statement("read_schedules", {"name": name, "workflow": workflow}, _listed)


def lock_schedules(names: Iterable[str]) -> Statement[Listed | None]:
    """Lock schedules; None if there is none of these names."""
    return Statement("lock_schedules", {"names": columns.texts(names)}, lambda rows: _listed(rows) if rows else None)


def lock_due_schedules(triggers: Iterable[str], most: int) -> Statement[Listed | None]:
    """Lock schedules that are due and nobody is firing; None if there are none."""
    params = {"triggers": columns.texts(triggers), "most": most}
    return Statement("lock_due_schedules", params, lambda rows: _listed(rows) if rows else None)


def limit_idleness(seconds: float) -> Statement[None]:
    """Give up this transaction when the client falls silent, or waits for a lock, for so long in the middle of it."""
    return Statement("limit_idleness", {"seconds": seconds}, nothing)


def read_agenda(triggers: Iterable[str]) -> Statement[Agenda]:
    """When a scheduler that can start runs of these triggers has to look again."""
    return Statement("read_agenda", {"triggers": columns.texts(triggers)}, _agenda)


def list_live_runs(ids: Iterable[UUID]) -> Statement[set[UUID]]:
    """Which of these runs are live."""
    return Statement("list_live_runs", {"ids": columns.ids(ids)}, lambda rows: {run_id for (run_id,) in rows})


def read_declared(worker: UUID, workflows: Iterable[str]) -> Statement[tuple[datetime, list[Known]]]:
    """The schedules that code has declared for these workflows, as a worker sees them, and the time."""
    return Statement("read_declared", {"worker": worker, "workflows": columns.texts(workflows)}, _declared)


def insert_schedules(schedules: Sequence[Schedule], declared_by: UUID | None = None) -> Statement[set[str]]:
    """Add schedules whose name is free; the result is the names of those that were added."""
    params = _written(schedules, declared_by)
    return Statement("insert_schedules", params, lambda rows: {name for (name,) in rows})


def update_schedules(schedules: Sequence[Schedule], declared_by: UUID | None = None) -> Statement[None]:
    """Write what locked schedules are."""
    return Statement("update_schedules", _written(schedules, declared_by), nothing)


def delete_schedule(name: str) -> Statement[None]:
    """Delete a locked schedule."""
    return Statement("delete_schedule", {"name": name}, nothing)


def save_schedules(decided: Sequence[tuple[Schedule, Firing, Sequence[UUID]]]) -> Statement[None]:
    """Write what was decided about locked schedules, and the ids of the runs that were to be started."""
    firings = [firing for _, firing, _ in decided]
    latest = [max(firing.skips, key=lambda skip: skip.last, default=None) for firing in firings]
    params = {
        "names": columns.texts(schedule.name for schedule, _, _ in decided),
        "next_ats": columns.instants(firing.next_at for firing in firings),
        "last_ats": columns.instants(firing.starts[-1] if firing.starts else None for firing in firings),
        "last_runs": columns.ids(ids[-1] if ids else None for _, _, ids in decided),
        "skipped": columns.whole(sum(skip.count for skip in firing.skips) for firing in firings),
        "last_skipped": columns.instants(skip.last if skip else None for skip in latest),
        "reasons": columns.texts(skip.reason if skip else None for skip in latest),
    }
    return Statement("save_schedules", params, nothing)


def start_scheduled_runs(
    new: ScheduledRuns, channel: str, *, always_notify: bool
) -> Statement[tuple[datetime, set[UUID]]]:
    """Start runs of one schedule; the result is when they were created, and those whose key was free."""
    params: dict[str, object] = {
        "ids": columns.ids(new.ids),
        "payloads": columns.texts(new.payloads),
        "keys": columns.texts(new.keys),
        "schedules": columns.texts(encode(tick.to_json(), what="schedule").text for tick in new.ticks),
        "run_ats": columns.instants(new.run_ats),
        "workflow": new.workflow,
        "fingerprint": new.fingerprint,
        "trigger": new.trigger,
        "channel": channel,
        "always": always_notify,
        **beginning(new.plan),
    }
    return Statement(
        "start_scheduled_runs", params, lambda rows: (cast("datetime", instant(rows[0][0])), set(rows[0][1]))
    )


def _written(schedules: Sequence[Schedule], declared_by: UUID | None) -> dict[str, object]:
    return {
        "names": columns.texts(s.name for s in schedules),
        "workflows": columns.texts(s.workflow for s in schedules),
        "triggers": columns.texts(s.trigger for s in schedules),
        "sources": columns.texts(s.source for s in schedules),
        "expressions": columns.texts(s.expression for s in schedules),
        "timezones": columns.texts(s.timezone for s in schedules),
        "catch_ups": columns.texts(s.policy.mode for s in schedules),
        "overlaps": columns.texts(s.policy.overlap for s in schedules),
        "windows": columns.numbers(s.policy.window for s in schedules),
        "jitters": columns.numbers(s.policy.jitter for s in schedules),
        "payloads": columns.texts(encode(s.payload, what="payload").text for s in schedules),
        "paused": columns.flags(s.paused for s in schedules),
        "retired": columns.flags(s.retired for s in schedules),
        "next_ats": columns.instants(s.next_at for s in schedules),
        "declared": columns.ids(declared_by for _ in schedules),
    }


def _listed(rows: Rows) -> Listed:
    return Listed(instant(rows[0][0]), [_schedule_of(row[1:]) for row in rows if row[1] is not None])


def _agenda(rows: Rows) -> Agenda:
    ((count, seconds, awaited),) = rows
    return Agenda(count, seconds, frozenset(awaited))


def _declared(rows: Rows) -> tuple[datetime, list[Known]]:
    found = [Known(_schedule_of(row[3:]), newer=row[1], followed=row[2]) for row in rows if row[3] is not None]
    return instant(rows[0][0]), found


def _schedule_of(row: Row) -> Schedule:
    name, workflow, trigger, source, expression, timezone, window, mode, overlap, jitter, payload, *rest = row
    paused, retired, next_at, last_at, last_run, skipped, last_skipped, reason = rest
    return Schedule(
        name=name,
        workflow=workflow,
        trigger=trigger,
        source=source,
        expression=expression,
        timezone=timezone,
        policy=Policy(window=window, every=mode == "all", overlap=Overlap(overlap), jitter=jitter),
        payload=cast("JSONObject", decode(payload)),
        paused=paused,
        retired=retired,
        next_at=instant(next_at),
        last_at=instant(last_at),
        last_run=last_run,
        skipped=skipped,
        last_skipped=instant(last_skipped),
        skip_reason=reason,
    )
