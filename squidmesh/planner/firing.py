"""Which nominal times of a schedule get a run, given its row and the time. Pure: the time is an argument.

The nominal times of a schedule are decided one after the other, and each once: it starts a run, or it is passed over
for a reason, or it stays undecided, because it is to come or waits for the run before. ``next_at`` is the first that is
undecided; it moves on and never back, so a clock that is put back decides nothing twice.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from itertools import islice
from typing import TYPE_CHECKING, Final

from squidmesh.records import Tick, instant_text
from squidmesh.timetable import Overlap

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from squidmesh.cron import Cron
    from squidmesh.timetable import Schedule

MOST_COUNTED: Final = 1000
"""Nominal times that are counted when they are passed over together: a year of minutes would take a minute."""

INSTANT: Final = timedelta(microseconds=1)
"""The database's clock knows no smaller difference."""


class SkipReason(StrEnum):
    """Why a nominal time was passed over."""

    MISSED = "missed"
    """Nobody was there, for longer than the window."""
    SUPERSEDED = "superseded"
    """A later one was due as well, and only the latest is caught up."""
    OVERLAP = "overlap"
    """The run before was live."""
    PAYLOAD = "payload"
    """The schedule's payload does not meet the contract of its trigger any more."""


@dataclass(frozen=True, slots=True)
class Skip:
    """Nominal times that were passed over together.

    Args:
        reason: Why.
        count: How many, at least.
        first: The earliest.
        last: The latest.
    """

    reason: SkipReason
    count: int
    first: datetime
    last: datetime


@dataclass(frozen=True, slots=True)
class Firing:
    """What is to be done with a schedule now.

    Args:
        starts: The nominal times that get a run, oldest first.
        skips: Those that are passed over.
        next_at: The first one that is not decided.
    """

    starts: tuple[datetime, ...]
    skips: tuple[Skip, ...]
    next_at: datetime | None


def decide_firing(cron: Cron, schedule: Schedule, now: datetime, *, busy: bool, most: int) -> Firing:
    """Decide about the nominal times that have come.

    Args:
        cron: The schedule's expression.
        schedule: Its row.
        now: The database's time.
        busy: Whether the run that it started last is live.
        most: Runs that are started together, at most; the rest is for the next time.
    """
    policy, first = schedule.policy, schedule.next_at
    if first is None or first > now or (busy and policy.overlap is Overlap.QUEUE):
        return Firing((), (), first)
    skips: list[Skip] = []
    # One on the edge of the window is within it.
    edge = now - timedelta(seconds=policy.window)
    if first < edge:
        skips.append(_passed_over(SkipReason.MISSED, cron, first, edge))
        following = cron.next_after(edge - INSTANT)
        if following is None or following > now:
            return Firing((), tuple(skips), following)
        first = following
    latest = max(first, cron.previous_before(now + INSTANT) or first)
    if not policy.every and first < latest:
        skips.append(_passed_over(SkipReason.SUPERSEDED, cron, first, latest))
        first = latest
    if busy and policy.overlap is Overlap.SKIP:
        skips.append(_passed_over(SkipReason.OVERLAP, cron, first, now + INSTANT))
        return Firing((), tuple(skips), cron.next_after(now))
    return _with_starts(cron, schedule, (first, latest), skips, most)


def _with_starts(
    cron: Cron, schedule: Schedule, span: tuple[datetime, datetime], skips: list[Skip], most: int
) -> Firing:
    """Start as many as may run at once; where only one may, it holds up the others, or they are passed over."""
    overlap, (first, latest) = schedule.policy.overlap, span
    starts = tuple(islice(times_from(cron, first, latest + INSTANT), most if overlap is Overlap.ALLOW else 1))
    following = cron.next_after(starts[-1])
    if overlap is Overlap.SKIP and following is not None and following <= latest:
        skips.append(_passed_over(SkipReason.OVERLAP, cron, following, latest + INSTANT))
        following = cron.next_after(latest)
    return Firing(starts, tuple(skips), following)


def times_from(cron: Cron, first: datetime, before: datetime | None) -> Iterator[datetime]:
    """The nominal times from ``first``, which is taken for one, until before ``before``, or on and on."""
    at: datetime | None = first
    while at is not None and (before is None or at < before):
        yield at
        at = cron.next_after(at)


def _passed_over(reason: SkipReason, cron: Cron, first: datetime, before: datetime) -> Skip:
    count = sum(1 for _ in islice(times_from(cron, first, before), MOST_COUNTED))
    return Skip(reason, count, first, max(first, cron.previous_before(before) or first))


def without(firing: Firing, reason: SkipReason) -> Firing:
    """The same, with all of the starts passed over instead."""
    if not firing.starts:
        return firing
    skip = Skip(reason, len(firing.starts), firing.starts[0], firing.starts[-1])
    return replace(firing, starts=(), skips=(*firing.skips, skip))


def tick_of(cron: Cron, schedule: Schedule, nominal_at: datetime, now: datetime) -> Tick:
    """What a run for a nominal time is told.

    Args:
        cron: The schedule's expression.
        schedule: Its row.
        nominal_at: The nominal time.
        now: The database's time.
    """
    end = cron.next_after(nominal_at)
    parts = (schedule.workflow, schedule.trigger, instant_text(nominal_at), instant_text(end) if end else "")
    return Tick(
        name=schedule.name,
        workflow=schedule.workflow,
        trigger_name=schedule.trigger,
        cron_expression=schedule.expression,
        timezone=schedule.timezone,
        nominal_at=nominal_at,
        window_start=nominal_at,
        window_end=end,
        signal_id=signal_id(*parts) if end else None,
        received_at=now.replace(microsecond=0),
    )


def signal_id(*parts: str) -> str:
    """A digest of texts that cannot be confused with that of other texts."""
    said = "|".join(f"{len(part.encode())}:{part}" for part in parts)
    digest = base64.urlsafe_b64encode(hashlib.sha256(said.encode()).digest())
    return f"sha256:{digest.decode().rstrip('=')}"


def jitter_of(schedule: Schedule, nominal_at: datetime) -> timedelta:
    """How much later the run for a nominal time begins: always the same, and different from schedule to schedule."""
    digest = hashlib.sha256(schedule.key(nominal_at).encode()).digest()
    return timedelta(seconds=schedule.policy.jitter * int.from_bytes(digest[:6]) / 2**48)
