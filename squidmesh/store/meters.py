"""Statements about meters: what limits and rates leave for jobs that share them, and what is paused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from squidmesh.records import JobKind
from squidmesh.store import columns
from squidmesh.store.rows import instant, job_of
from squidmesh.store.statements import Statement, nothing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    from squidmesh.meters import MeterTable
    from squidmesh.records import Job
    from squidmesh.store.statements import Row, Rows

MOST_METERS: Final = 100
"""So many different meters of a queue are looked at in one turn; the next turn goes on after them."""

LIMIT, RATE, QUEUE = 1, 2, 3
"""The lines of a job's meters."""


@dataclass(frozen=True, slots=True)
class Walked:
    """How far the meters of a queue were looked at.

    Args:
        last: The last meters that were.
        more: Whether there may be more behind them.
        busy: Whether somebody else has the lock of some of them, so that they are to be looked at again soon.
    """

    last: str
    more: bool
    busy: bool


@dataclass(frozen=True, slots=True)
class Metered:
    """What was claimed of metered jobs.

    Args:
        jobs: Those.
        opens: Seconds until more may be claimed of what is empty or paused; None if nothing is.
    """

    jobs: Sequence[Job]
    opens: float | None


def lock_meters(afters: Mapping[str, str], meters: MeterTable, most: int = MOST_METERS) -> Statement[dict[str, Walked]]:
    """Find what ready jobs share with others, and lock it for ``claim_metered``.

    Args:
        afters: The queues, and after which meters of each to go on; the empty text begins at the first.
        meters: What this process knows.
        most: So many meters of each queue.
    """
    limits = {d: most for d, most in meters.limits.items() if d not in meters.queues.values()}
    known: list[tuple[int, str, int | None]] = [
        *((LIMIT, definition, most) for definition, most in limits.items()),
        *((RATE, definition, None) for definition in meters.rates),
        *((QUEUE, definition, meters.limits[definition]) for definition in meters.queues.values()),
    ]
    params: dict[str, object] = {
        "queues": columns.texts(afters),
        "afters": columns.texts(afters.values()),
        "most": most,
        "parts": columns.whole(part for part, _, _ in known),
        "definitions": columns.texts(definition for _, definition, _ in known),
        "mosts": columns.numbers(most for _, _, most in known),
    }
    return Statement("lock_meters", params, _walked)


def _walked(rows: Rows) -> dict[str, Walked]:
    return {queue: Walked(last, more, busy) for queue, last, more, busy in rows}


def claim_metered(
    worker: UUID, claim: int, rooms: Mapping[str, int], meters: MeterTable, *, suspect: bool
) -> Statement[Metered]:
    """Claim ready jobs of the meters that ``lock_meters`` has locked.

    Args:
        worker: Who claims.
        claim: The claim number.
        rooms: How many of each queue.
        meters: What this process knows.
        suspect: Whether one with which a worker has died may be among them.
    """
    params: dict[str, object] = {
        "worker": worker,
        "claim": claim,
        "queues": columns.texts(rooms),
        "limits": columns.whole(rooms.values()),
        "suspect": suspect,
        "kinds": columns.texts(JobKind),
        "definitions": columns.texts(meters.limits),
        "mosts": columns.whole(meters.limits.values()),
        "rates": columns.texts(meters.rates),
        "bursts": columns.numbers(rate.most for rate in meters.rates.values()),
        "refills": columns.numbers(rate.refill for rate in meters.rates.values()),
    }
    return Statement("claim_metered", params, _metered)


def _metered(rows: Rows) -> Metered:
    return Metered([job_of(tuple(row[1:])) for row in rows if row[1] is not None], rows[0][0])


@dataclass(frozen=True, slots=True)
class MeterRow:
    """What the database says of a meter.

    Args:
        name: Its name.
        held: How many claimed jobs carry it.
        waiting: How many ready ones do.
        tokens: What was left of its bucket when somebody last took of it; None if nobody has.
        refilled_ago: How many seconds ago that was.
        paused_until: Until when it is paused, if it is.
    """

    name: str
    held: int = 0
    waiting: int = 0
    tokens: float | None = None
    refilled_ago: float | None = None
    paused_until: datetime | None = None


def list_meters(most: int, prefix: str = "", name: str | None = None) -> Statement[list[MeterRow]]:
    """List meters by name: what jobs carry, and what has a row.

    Args:
        most: At most so many.
        prefix: Names that begin so.
        name: This one alone.
    """
    params: dict[str, object] = {"most": most, "prefix": prefix, "name": name}
    return Statement("list_meters", params, lambda rows: [_meter_row(row) for row in rows])


def _meter_row(row: Row) -> MeterRow:
    name, held, waiting, tokens, ago, paused = row
    return MeterRow(name, held, waiting, tokens, ago, instant(paused))


def pause_meters(pauses: Sequence[tuple[str, float | None, datetime | None]]) -> Statement[None]:
    """Let nothing begin that shares these meters: (name, seconds from now, or until when)."""
    params = {
        "names": columns.texts(name for name, _, _ in pauses),
        "seconds": columns.numbers(seconds for _, seconds, _ in pauses),
        "untils": columns.instants(until for _, _, until in pauses),
    }
    return Statement("pause_meters", params, nothing)


def resume_meters(names: Sequence[str], channel: str) -> Statement[None]:
    """End the pauses of these meters, and tell workers to look."""
    return Statement("resume_meters", {"names": columns.texts(names), "channel": channel}, nothing)


def delete_idle_meters(most: int = 1000) -> Statement[None]:
    """Delete the rows of meters that say no more than no row would."""
    return Statement("delete_idle_meters", {"most": most}, nothing)
