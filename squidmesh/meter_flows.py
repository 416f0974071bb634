"""What people and programs do with limits and rates at run time: flows, run by both twins of ``mesh.meters``.

What a limit or a rate allows is known to code only; who holds it, who waits and what is paused, to the database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from squidmesh.errors import InvalidOption, MeterNotFound
from squidmesh.meters import Meter
from squidmesh.operations import MOST_LISTED
from squidmesh.retry import LONGEST_DELAY, measured
from squidmesh.store.meters import MeterRow, list_meters, pause_meters, resume_meters
from squidmesh.store.statements import Batch, ask

if TYPE_CHECKING:
    from datetime import datetime

    from squidmesh.operations import Operations
    from squidmesh.retry import Seconds
    from squidmesh.store.statements import Flow

MeterList: TypeAlias = "list[Meter]"
"""By another name, because a class that has a method ``list`` cannot say so."""


class MeterFlows:
    """The flows of ``mesh.meters``.

    Args:
        operations: Knows what live code declares, where workers listen, and what time it is.
    """

    def __init__(self, operations: Operations) -> None:
        self._known = operations.registry.meters
        self._channel = operations.channel
        self._now = operations.now

    def list(self, prefix: object, limit: object) -> Flow[MeterList]:
        """What is in use, and what this code declares that has no key."""
        if type(limit) is not int or not 1 <= limit <= MOST_LISTED:
            raise InvalidOption("limit", f"must be a whole number from 1 to {MOST_LISTED}, not {limit!r}")
        if prefix is not None and not isinstance(prefix, str):
            raise InvalidOption("prefix", f"must be how names begin, not {prefix!r}")
        wanted = prefix or ""
        rows = yield from ask(list_meters(limit, prefix=wanted), last=True)
        found = {row.name: row for row in rows}
        idle = {name: MeterRow(name) for name in self._known.names if name.startswith(wanted)}
        return [self._meter(row) for _, row in sorted({**idle, **found}.items())][:limit]

    def pause(self, name: str, seconds: Seconds | None, until: datetime | None) -> Flow[Meter]:
        """Let nothing that shares it begin for some time; one that is paused for longer stays so."""
        pause = self._checked_pause(seconds, until)
        yield from self._find(name)
        _, rows = yield Batch((pause_meters([(name, *pause)]), list_meters(1, name=name)), last=True)
        return self._meter(rows[0])

    def resume(self, name: str) -> Flow[Meter]:
        """Let what shares it begin again; resuming what is not paused is allowed."""
        yield from self._find(name)
        _, rows = yield Batch((resume_meters([name], self._channel), list_meters(1, name=name)), last=True)
        return self._meter(rows[0] if rows else MeterRow(name))

    def _find(self, name: object) -> Flow[None]:
        """Refuse a name that neither code nor the database knows: a typo must not pause nothing in silence."""
        if not isinstance(name, str):
            raise InvalidOption("name", f"must be the name of a limit or rate, not {name!r}")
        if not self._known.may_name(name) and not (yield from ask(list_meters(1, name=name))):
            raise MeterNotFound(name, self._known.shown)

    def _checked_pause(self, seconds: object, until: datetime | None) -> tuple[float | None, datetime | None]:
        if (seconds is None) == (until is None):
            raise InvalidOption("seconds", "give either seconds= or until=")
        if until is None:
            length = measured(seconds)
            if not 0 < length <= LONGEST_DELAY:
                longest = f"{LONGEST_DELAY:g}"
                raise InvalidOption("seconds", f"must be seconds or a timedelta, above 0, up to {longest} seconds")
            return length, None
        if getattr(until, "tzinfo", None) is None or not (ahead := (until - self._now()).total_seconds()) > 0:
            raise InvalidOption("until", f"must be an aware datetime that is to come, not {until!r}")
        if ahead > LONGEST_DELAY:
            raise InvalidOption("until", f"must be at most {LONGEST_DELAY:g} seconds from now, not {until!r}")
        return None, until

    def _meter(self, row: MeterRow) -> Meter:
        rate = self._known.rate_of(row.name)
        return Meter(
            name=row.name,
            held=row.held,
            waiting=row.waiting,
            most=self._known.most_of(row.name),
            tokens=None if rate is None else rate.tokens(row.tokens, row.refilled_ago),
            paused_until=row.paused_until,
        )
