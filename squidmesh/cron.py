"""Cron expressions: at which instants a schedule fires. Nothing here knows what time it is now.

The five fields name *nominal times*: minutes, as a clock on the wall would show them. A zone's clock does not
show each of them once: in spring it skips an hour of them, in autumn it shows an hour of them twice.

**The law** is Debian cron's:

- A *fixed-time* schedule fires once for each nominal time: at the first instant at which the zone's clock
  shows that time or a later one.
- A schedule whose minute or hour field begins with ``*`` *follows real time*: it fires whenever the zone's
  clock shows one of its nominal times.

So ``30 2 * * *`` fires right after the gap on the day that has no 2:30, and once, the first time, on the day
that has two, while ``*/30 * * * *`` keeps firing every thirty minutes on both.

Two things are not Debian's. Nominal times of one schedule that fall into one gap share one instant, so they
are one firing. And the law knows no size: a zone may skip thirty minutes, an hour at midnight or a whole day.
(Debian takes a change of three hours or more for a correction of a wrong clock; the rules of a zone are never
that.)

**The algorithm**: walk the nominal times, matching day by matching day, from what the clock shows; turn each
into its instant; take the first that lies past the instant asked about. For a schedule that follows real
time two such walks are merged, one for the first showings and one for the second (``fold`` 0 and 1): each of
them alone is in order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime, time, timedelta
from heapq import merge
from itertools import product
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from squidmesh.errors import InvalidOption, RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import tzinfo

    from squidmesh.records import JSONObject

_HORIZON_MONTHS = 41 * 12
"""How far a walk goes. The rarest day, 29 February on a given weekday, comes back within 40 years."""


class CronError(RequestError):
    """A cron expression or its time zone cannot be used.

    Args:
        field: Where the problem is: the name of a field, "expression" or "timezone".
        value: The text that was refused.
        problem: What is wrong with it and what is allowed.
    """

    code = "invalid_cron"

    def __init__(self, field: str, value: str, problem: str) -> None:
        self.field = field
        self.value = value
        super().__init__(f"{field}: {value or repr(value)} {problem}")

    @property
    def details(self) -> JSONObject:
        """Where the problem is and the text that was refused."""
        return {"field": self.field, "value": self.value}


@dataclass(frozen=True, slots=True)
class Cron:
    """When a schedule fires. Made by :meth:`parse`; equal if the expressions and the zones are the same text.

    Attributes:
        expression: As given, with single spaces.
        timezone: The IANA name of the zone whose clock counts.
    """

    expression: str
    timezone: str
    _pattern: _Pattern = field(repr=False, compare=False)
    _zone: tzinfo = field(repr=False, compare=False)

    @classmethod
    def parse(cls, expression: str, timezone: str = "UTC") -> Cron:
        """Read an expression.

        Args:
            expression: "minute hour day-of-month month day-of-week", or a nickname such as "@daily".
                "@reboot" is accepted, has no nominal times and so never fires.
            timezone: An IANA name such as "Europe/Berlin".

        Raises:
            CronError: A field cannot be read, the expression never matches, or the zone is unknown.

        Example:
            >>> cron = Cron.parse("30 2 * * mon-fri", "Europe/Berlin")
            >>> cron.next_after(datetime(2026, 1, 2, 12, tzinfo=UTC))
            datetime.datetime(2026, 1, 5, 1, 30, tzinfo=datetime.timezone.utc)
        """
        text = " ".join(expression.split())
        return cls(text, timezone, _read_expression(text), _find_zone(timezone))

    def matches(self, at: datetime) -> bool:
        """Whether the schedule fires at exactly this instant, to the microsecond.

        Raises:
            InvalidOption: ``at`` has no time zone, or its year is out of range.
        """
        now = _to_utc(at)
        return self.next_after(now - timedelta(microseconds=1)) == now

    def next_after(self, at: datetime) -> datetime | None:
        """The first firing later than ``at``, in UTC; None if there is none within 41 years.

        Raises:
            InvalidOption: ``at`` has no time zone, or its year is out of range.
        """
        now = _to_utc(at)
        firings = self._firings(self._clock(now) - self._turned_back(now), step=1)
        return next((instant for instant in firings if instant > now), None)

    def previous_before(self, at: datetime) -> datetime | None:
        """The last firing earlier than ``at``, in UTC; None if there is none within 41 years.

        Raises:
            InvalidOption: ``at`` has no time zone, or its year is out of range.
        """
        now = _to_utc(at)
        firings = self._firings(self._clock(now) + self._turned_back(now), step=-1)
        return next((instant for instant in firings if instant < now), None)

    def _firings(self, start: datetime, *, step: int) -> Iterator[datetime]:
        """The instants of the nominal times from ``start`` on, in order; one may come up more than once."""
        showings = (0, 1) if self._pattern.follows_real_time else (0,)
        return merge(*(self._walk(start, step, showing) for showing in showings), reverse=step < 0)

    def _walk(self, start: datetime, step: int, showing: int) -> Iterator[datetime]:
        for nominal in self._pattern.nominal_times(start, step):
            instant = nominal.replace(tzinfo=self._zone, fold=showing).astimezone(UTC)
            if self._clock(instant) == nominal:
                yield instant
            elif not self._pattern.follows_real_time:
                yield self._end_of_gap(nominal)

    def _end_of_gap(self, skipped: datetime) -> datetime:
        """The first instant at which the clock shows more than ``skipped``, which it never shows."""
        # Read with the offset that holds after the gap, a skipped time lies before the gap; and vice versa.
        before, after = (skipped.replace(tzinfo=self._zone, fold=fold).astimezone(UTC) for fold in (1, 0))
        seconds = range((after - before) // timedelta(seconds=1))
        past = bisect_left(seconds, True, key=lambda s: self._clock(before + timedelta(seconds=s)) > skipped)
        return before + timedelta(seconds=past)

    def _clock(self, instant: datetime) -> datetime:
        """What the zone's clock shows at an instant (a naive datetime)."""
        return instant.astimezone(self._zone).replace(tzinfo=None)

    def _turned_back(self, instant: datetime) -> timedelta:
        """How far the clock is turned back over what it shows now; zero if it shows that only once.

        In such an hour, nominal times that far behind the clock may be still to come, and nominal times that
        far ahead of it may be over.
        """
        local = instant.astimezone(self._zone)
        return local.replace(fold=1).astimezone(UTC) - local.replace(fold=0).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What the five fields say: nominal times, of no zone in particular. By default there are none."""

    times: tuple[time, ...] = ()
    days: frozenset[int] = frozenset()
    months: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()  # as in ISO 8601: Sunday is 7
    needs_both_days: bool = True
    follows_real_time: bool = False

    def nominal_times(self, start: datetime, step: int) -> Iterator[datetime]:
        """The nominal times from ``start`` (included) to the horizon: later (1) or earlier (-1) ones."""
        for day in self.days_from(start.date(), step):
            times = self.times
            if day == start.date() and step > 0:
                times = times[bisect_left(times, start.time()) :]
            elif day == start.date():
                times = times[: bisect_right(times, start.time())]
            yield from (datetime.combine(day, t) for t in times[::step])

    def days_from(self, start: date, step: int) -> Iterator[date]:
        """The matching days from ``start`` (included) to the horizon: later (1) or earlier (-1) ones."""
        first = start.year * 12 + start.month - 1
        for number in range(first, first + step * _HORIZON_MONTHS, step):
            year, month = number // 12, number % 12 + 1
            if month in self.months and MINYEAR < year < MAXYEAR:
                days = self._days_of_month(year, month, step)
                yield from (day for day in days if (day >= start if step > 0 else day <= start))

    def _days_of_month(self, year: int, month: int, step: int) -> Iterator[date]:
        first_weekday, last = monthrange(year, month)  # Monday is 0 here
        for day in range(1, last + 1)[::step]:
            weekday, n = (first_weekday + day - 1) % 7 + 1, (day + 6) // 7
            by_weekday = weekday in self.weekdays or _nth(weekday, n) in self.weekdays
            by_day = day in self.days or (day == last and _LAST_DAY in self.days)
            if (by_day and by_weekday) if self.needs_both_days else (by_day or by_weekday):
                yield date(year, month, day)


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five fields: what it may say, and how that is read."""

    name: str
    low: int
    high: int
    names: Mapping[str, int] = field(default_factory=dict[str, int])
    alone: Mapping[str, int] = field(default_factory=dict[str, int])  # not part of a range, not with a step
    also: str = ""

    def read(self, text: str) -> frozenset[int]:
        """The values that the text stands for."""
        return frozenset(value for item in text.split(",") for value in self._read_item(item or text))

    def _read_item(self, item: str) -> range:
        if (value := self.alone.get(item.lower())) is not None:
            return range(value, value + 1)
        span, slash, step = item.partition("/")
        if span == "*":
            first, last = self.low, self.high
        else:
            start, dash, end = span.partition("-")
            first = self._read_value(start, item)
            last = self._read_value(end, item) if dash else self.high if slash else first
        if self is _DAY_OF_WEEK and last == 0 < first:
            last = 7  # fri-sun: as the end of a range, Sunday ends the week
        if last < first:
            raise CronError(self.name, item, "runs backwards; write two ranges with a comma between them")
        return range(first, last + 1, self._read_step(step, item) if slash else 1)

    def _read_value(self, text: str, item: str) -> int:
        value = self.names.get(text.lower(), _whole_number(text))
        if value is None or not self.low <= value <= self.high:
            allowed = f"{self.low} to {self.high}{self.also}, a range a-b, a step */n or a-b/n, or a list a,b"
            raise CronError(self.name, item, f"is not allowed; {allowed}")
        return value

    def _read_step(self, text: str, item: str) -> int:
        step = _whole_number(text)
        if step is None or not 1 <= step <= self.high:
            raise CronError(self.name, item, f"has a step that is not allowed; 1 to {self.high}")
        return step


def _whole_number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= len("59") else None


def _nth(weekday: int, n: int) -> int:
    """The value in the field day-of-week for "the n-th such weekday of the month"."""
    return 10 * n + weekday


_LAST_DAY = 32
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat", "sun")
_NTH_WEEKDAYS = {
    f"{name}#{n}": _nth(number or 7, n)
    for number, text in enumerate(_WEEKDAYS)
    for name in (text, str(number))
    for n in range(1, 6)
}

_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day-of-month", 1, 31, alone={"l": _LAST_DAY}, also=", L (the last)")
_MONTH = _Field("month", 1, 12, {name: _MONTHS.index(name) + 1 for name in _MONTHS}, also=", jan to dec")
_DAY_OF_WEEK = _Field(
    "day-of-week",
    0,
    7,
    names={name: _WEEKDAYS.index(name) for name in _WEEKDAYS},
    alone=_NTH_WEEKDAYS,
    also=" (0 and 7 are Sunday), sun to sat, mon#1 (the first) to mon#5",
)

_NICKNAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}


def _read_expression(text: str) -> _Pattern:
    if text.lower() == "@reboot":
        return _Pattern()
    try:
        minute, hour, day, month, weekday = _NICKNAMES.get(text.lower(), text).split()
    except ValueError:
        known = ", ".join(_NICKNAMES)
        problem = f"is not five fields: minute hour day-of-month month day-of-week; nor {known} or @reboot"
        raise CronError("expression", text, problem) from None
    minutes, hours = _MINUTE.read(minute), _HOUR.read(hour)
    pattern = _Pattern(
        times=tuple(time(h, m) for h, m in product(sorted(hours), sorted(minutes))),
        days=_DAY_OF_MONTH.read(day),
        months=_MONTH.read(month),
        weekdays=frozenset(value or 7 for value in _DAY_OF_WEEK.read(weekday)),
        needs_both_days=day.startswith("*") or weekday.startswith("*"),
        follows_real_time=minute.startswith("*") or hour.startswith("*"),
    )
    if next(pattern.days_from(date(2000, 1, 1), step=1), None) is None:
        raise CronError("expression", text, "never matches: none of its months has such a day")
    return pattern


def _find_zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC  # needs no zone data
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        problem = "is not a known zone; use an IANA name such as Europe/Berlin (a system without zone data"
        raise CronError("timezone", name, f"{problem} needs the package tzdata)") from error


def _to_utc(at: datetime) -> datetime:
    if at.utcoffset() is None:
        raise InvalidOption("at", f"{at} has no time zone; pass an aware datetime such as datetime.now(UTC)")
    if not MINYEAR < at.year < MAXYEAR:
        raise InvalidOption("at", f"the year {at.year} is out of range; {MINYEAR + 1} to {MAXYEAR - 1}")
    return at.astimezone(UTC)
