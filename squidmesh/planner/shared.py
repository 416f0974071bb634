"""Whether what a ready job shares with others lets it begin: limits, rates and pauses, as they were seen.

How much there is of a limit or a rate is known to code only. Where this process has none that declares it, what is
known is told, and nothing is guessed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from squidmesh.explanation import Reason
from squidmesh.meters import OF_QUEUE
from squidmesh.planner.wording import clock_time, iso, lasted, until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from squidmesh.meters import MeterTable
    from squidmesh.planner.sight import SeenMeter
    from squidmesh.records import JSONObject

WHOLE: float = 1 - 1e-9
"""A token, as the claim takes it: what sums of fractions lack of one is not held against them."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """What keeps a ready job from beginning.

    Args:
        reason: Which kind of thing.
        said: It, within a sentence.
        details: What belongs to the reason.
    """

    reason: Reason
    said: str
    details: JSONObject


def barrier(meters: Sequence[SeenMeter], known: MeterTable, now: datetime) -> Barrier | None:
    """What keeps a ready job from beginning; None if nothing that it shares does, as far as is known.

    Args:
        meters: What it shares.
        known: What live code declares.
        now: The database's time.
    """
    return _paused(meters, now) or _full(meters, known) or _empty(meters, known, now)


def _paused(meters: Sequence[SeenMeter], now: datetime) -> Barrier | None:
    found = [(m.paused_until, m) for m in meters if m.paused_until is not None and m.paused_until > now]
    if not found:
        return None
    end, meter = max(found, key=lambda pause: pause[0])
    said = f"{named(meter.name)} is paused until {clock_time(end)} (for {lasted((end - now).total_seconds())})"
    return Barrier(Reason.KEY_PAUSED, said, {"meter": meter.name, "paused_until": iso(end)})


def _full(meters: Sequence[SeenMeter], known: MeterTable) -> Barrier | None:
    for meter in meters:
        most = known.most_of(meter.name) if meter.kind != "rate" else None
        if most is not None and meter.held >= most:
            what = named(meter.name) if meter.kind == "queue" else f"the limit {named(meter.name)}"
            details: JSONObject = {"meter": meter.name, "held": meter.held, "most": most}
            return Barrier(Reason.WAITING_FOR_LIMIT, f"{what} is taken: {meter.held} of {most} are at work", details)
    return None


def _empty(meters: Sequence[SeenMeter], known: MeterTable, now: datetime) -> Barrier | None:
    for meter in meters:
        rate = known.rate_of(meter.name) if meter.kind == "rate" else None
        if rate is None or (tokens := rate.tokens(meter.tokens, meter.refilled_ago)) >= WHOLE:
            continue
        due = now + timedelta(seconds=(1 - tokens) / rate.refill)
        said = f"the rate {named(meter.name)} has no token: it has the next one {until(due, now)}"
        return Barrier(Reason.WAITING_FOR_RATE, said, {"meter": meter.name, "due": iso(due)})
    return None


def unknown(meters: Sequence[SeenMeter], known: MeterTable) -> list[str]:
    """The names of those of which live code here does not say how much there is."""
    return [m.name for m in meters if (known.rate_of(m.name) if m.kind == "rate" else known.most_of(m.name)) is None]


def named(meter: str) -> str:
    """A meter within a sentence."""
    return f"the limit of the queue {meter[1:]!r}" if meter.startswith(OF_QUEUE) else repr(meter)


def meters_json(meters: Sequence[SeenMeter], known: MeterTable) -> list[JSONObject]:
    """What a job shares, as evidence."""
    return [_meter_json(meter, known) for meter in meters]


def _meter_json(meter: SeenMeter, known: MeterTable) -> JSONObject:
    said: JSONObject = {"kind": meter.kind, "name": meter.name, "paused_until": iso(meter.paused_until)}
    if meter.kind == "rate":
        rate = known.rate_of(meter.name)
        return {**said, "tokens": None if rate is None else rate.tokens(meter.tokens, meter.refilled_ago)}
    return {**said, "held": meter.held, "most": known.most_of(meter.name)}
