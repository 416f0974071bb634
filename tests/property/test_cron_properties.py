"""The law of ``squidmesh.cron``, held against a slow reading of itself and against two well-known libraries.

The slow reading looks at the zone's clock minute by minute. It knows each expression by the sets it was made from, so that
neither the parser nor the walk is trusted. ``SQUIDMESH_PROPERTY_EXAMPLES=5000`` tries harder.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, Literal, TypeAlias
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter  # type: ignore[import-untyped]
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from squidmesh.cron import Cron, CronError
from tests.effort import EXAMPLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Alone: TypeAlias = Literal["ours", "theirs"] | None

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)

# Their clocks change by one or two whole hours, on the hour: what the two libraries are made for. (cronsim never returns
# from some walks over a skipped day or over a change at 0:01, and steps by whole hours over a change of half an hour.)
ORDINARY_ZONES = [
    "Africa/Cairo",
    "Africa/Casablanca",  # turned back each Ramadan
    "America/Havana",  # skips 0:00 to 1:00, and shows it twice
    "America/New_York",
    "America/Nuuk",
    "America/Sao_Paulo",  # skips midnight, and shows 23:00 to 0:00 twice
    "Antarctica/Troll",  # changes by two hours
    "Asia/Beirut",
    "Asia/Tokyo",
    "Atlantic/Azores",
    "Australia/Sydney",
    "Europe/Berlin",
    "Europe/Dublin",
    "UTC",
]
ODD_ZONES = [
    "Africa/Monrovia",  # had an offset of 44 minutes and 30 seconds
    "America/Caracas",  # moved its standard time by half an hour, twice
    "America/St_Johns",  # changed at 0:01, and by two hours in 1988
    "Antarctica/Casey",  # changes by three hours
    "Asia/Gaza",
    "Asia/Kathmandu",  # moved its standard time by a quarter of an hour
    "Asia/Pyongyang",
    "Asia/Tehran",
    "Australia/Lord_Howe",  # changes by half an hour
    "Pacific/Apia",  # had no 30 December 2011
    "Pacific/Kiritimati",
    "Pacific/Kwajalein",  # had no 21 August 1993
]


# Expressions, and what they say


@dataclass(frozen=True, slots=True)
class Field:
    """The text of a field and what it stands for: numbers, "L", or "1#3" for the third Monday."""

    text: str
    values: frozenset[int | str] = field(repr=False)

    @property
    def is_starred(self) -> bool:
        return self.text.startswith("*")


@dataclass(frozen=True, slots=True)
class Expression:
    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    @property
    def text(self) -> str:
        return " ".join(f.text for f in (self.minute, self.hour, self.day, self.month, self.weekday))

    @property
    def follows_real_time(self) -> bool:
        return self.minute.is_starred or self.hour.is_starred

    @property
    def needs_both_days(self) -> bool:
        return self.day.is_starred or self.weekday.is_starred

    def names(self, clock: datetime) -> bool:
        """Whether what a clock shows is one of the nominal times."""
        return (
            (clock.second, clock.microsecond) == (0, 0)
            and clock.minute in self.minute.values
            and clock.hour in self.hour.values
            and self.names_day(clock)
        )

    def names_day(self, day: date) -> bool:
        """Whether the day is one of those on which there are nominal times."""
        is_last = (day + timedelta(days=1)).day == 1
        weekday, n = day.isoweekday() % 7, (day.day + 6) // 7
        by_day = day.day in self.day.values or (is_last and "L" in self.day.values)
        by_weekday = bool(self.weekday.values & {weekday, weekday or 7, f"{weekday}#{n}"})
        both = by_day and by_weekday
        return day.month in self.month.values and (both if self.needs_both_days else by_day or by_weekday)


MONTHS = dict(enumerate(["jan", "feb", "MAR", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "Dec"], 1))
WEEKDAYS = dict(enumerate(["sun", "MON", "tue", "wed", "Thu", "fri", "sat"]))


@st.composite
def items(draw: st.DrawFn, low: int, high: int, names: dict[int, str]) -> Field:
    """A number, a range, or steps."""
    first = draw(st.integers(low, high))
    last = draw(st.integers(first, high))
    step = draw(st.integers(1, max(2, high // 2)))
    named = draw(st.booleans())
    start, end = (names.get(n, f"{n:02}") if named else str(n) for n in (first, last))
    texts: dict[str, range] = {
        start: range(first, first + 1),
        f"{start}-{end}": range(first, last + 1),
        f"{start}-{end}/{step}": range(first, last + 1, step),
        f"{start}/{step}": range(first, high + 1, step),
        f"*/{step}": range(low, high + 1, step),
    }
    text = draw(st.sampled_from(list(texts)))
    return Field(text, frozenset(texts[text]))


def fields(
    low: int, high: int, names: dict[int, str] | None = None, also: list[str] | None = None
) -> st.SearchStrategy[Field]:
    """An asterisk or a list of one to three items, of which some may be special."""
    star = Field("*", frozenset(range(low, high + 1)))
    special = [Field(text, frozenset({text})) for text in also or ()]
    item = items(low, high, names or {})
    some = st.lists(item | st.sampled_from(special) if special else item, min_size=1, max_size=3)
    return st.just(star) | some.map(
        lambda fs: Field(",".join(f.text for f in fs), frozenset[int | str]().union(*(f.values for f in fs)))
    )


def expressions(*, special: bool = True) -> st.SearchStrategy[Expression]:
    """Any expression, half of them due on every day, so that some meet the day on which the clock changes."""
    nth = [f"{weekday}#{n}" for weekday in range(7) for n in range(1, 6)] if special else None
    any_day, any_weekday = (Field("*", frozenset(range(low, high + 1))) for low, high in ((1, 31), (0, 7)))
    day, weekday = fields(1, 31, also=["L"] if special else None), fields(0, 7, WEEKDAYS, nth)
    month = st.just(Field("*", frozenset(range(1, 13)))) | fields(1, 12, MONTHS)
    daily = st.builds(Expression, fields(0, 59), fields(0, 23), st.just(any_day), month, st.just(any_weekday))
    return daily | st.builds(Expression, fields(0, 59), fields(0, 23), day, month, weekday)


# Zones, and what their clocks show


def clock(instant: datetime, zone: str) -> datetime:
    """What the zone's clock shows, without any mark of which showing it is."""
    return instant.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0)


def is_second_showing(instant: datetime, zone: str) -> bool:
    """Whether the clock has shown this before."""
    return instant.astimezone(ZoneInfo(zone)).fold == 1


@cache
def changes(zone: str) -> list[datetime]:
    """The instants, from 1970 to 2100, from which on the zone's clock has another distance to UTC."""

    def offset(instant: datetime) -> timedelta:
        return clock(instant, zone) - instant.replace(tzinfo=None)

    fortnights = [datetime(1970, 1, 1, tzinfo=UTC) + n * timedelta(days=14) for n in range(131 * 26)]
    return [
        start
        + bisect_left(range(14 * 86400), True, key=lambda s: offset(start + timedelta(seconds=s)) != before) * SECOND
        for (start, before), (_, after) in pairwise((t, offset(t)) for t in fortnights)
        if before != after
    ]


@st.composite
def moments(draw: st.DrawFn, zones: list[str]) -> tuple[str, datetime]:
    """A zone and an instant on a full minute, mostly within five hours of a change of the zone's clock."""
    zone = draw(st.sampled_from(zones))
    near_a_change = draw(st.integers(0, 3)) > 0
    if near_a_change and changes(zone):
        change = draw(st.sampled_from(changes(zone))).replace(second=0)
        return zone, change + draw(st.integers(-300, 300)) * MINUTE
    return zone, datetime(1970, 1, 1, tzinfo=UTC) + draw(st.integers(0, 131 * 365 * 24 * 60)) * MINUTE


def law(expression: Expression, zone: str, start: datetime, end: datetime) -> list[datetime]:
    """The firings from start to end, by watching the zone's clock and reading the law out loud."""
    fired: list[datetime] = []
    instant = start - 4 * HOUR  # no clock was turned back further since 1970
    highest = clock(instant, zone)
    while instant < end:
        instant += MINUTE / 2  # the offsets since 1970 are multiples of it
        shown = clock(instant, zone)
        if expression.follows_real_time:
            fires = expression.names(shown)
        else:
            reached = [highest + n * MINUTE / 2 for n in range(1, 2 * ((shown - highest) // MINUTE) + 3)]
            fires = any(expression.names(nominal) for nominal in reached if nominal <= shown)
        if fires and instant >= start:
            fired.append(instant)
        highest = max(highest, shown)
    return fired


def parse(expression: Expression, zone: str = "UTC") -> Cron:
    """Parse, and discard what is refused because it never matches, such as 31 June; but make sure of that."""
    try:
        return Cron.parse(expression.text, zone)
    except CronError as refused:
        assert "never matches" in str(refused)  # noqa: PT017 - only some expressions are refused
        assert not any(expression.names_day(date(1970, 1, 1) + timedelta(days=n)) for n in range(41 * 366))
        assume(condition=False)
        raise


def chain(ask: Callable[[datetime], datetime | None], at: datetime) -> Iterator[datetime]:
    """Ask again with each answer."""
    while (answer := ask(at)) is not None:
        yield answer
        at = answer


# The law


def a_daily(minute: str, hour: str) -> Expression:
    """An expression for an example that is always tried, of numbers and lists of numbers."""
    values = [Field(text, frozenset(int(n) for n in text.split(","))) for text in (minute, hour)]
    star = [Field("*", frozenset(range(low, high + 1))) for low, high in ((1, 31), (1, 12), (0, 7))]
    return Expression(*values, *star)


@example(a_daily("0,30", "0,9,23"), ("Pacific/Apia", datetime(2011, 12, 30, 9, tzinfo=UTC)))
@example(a_daily("15,45", "0,2"), ("Africa/Monrovia", datetime(1972, 1, 7, tzinfo=UTC)))
@example(a_daily("0,1", "0,23"), ("America/St_Johns", datetime(2010, 11, 7, 2, tzinfo=UTC)))
@given(expressions(), moments(ORDINARY_ZONES + ODD_ZONES))
@settings(max_examples=EXAMPLES)
def test_both_walks_fire_as_the_law_says(expression: Expression, moment: tuple[str, datetime]) -> None:
    zone, start = moment
    end = start + 5 * HOUR
    cron = parse(expression, zone)
    lawful = law(expression, zone, start, end)
    just = timedelta(microseconds=1)
    assert list(takewhile(lambda t: t <= end, chain(cron.next_after, start - just))) == lawful
    assert list(takewhile(lambda t: t >= start, chain(cron.previous_before, end + just))) == lawful[::-1]


@given(expressions(), moments(ORDINARY_ZONES + ODD_ZONES), st.timedeltas(-HOUR, HOUR), st.floats(0, 1))
@settings(max_examples=EXAMPLES)
def test_next_previous_and_matches_agree(
    expression: Expression, moment: tuple[str, datetime], apart: timedelta, part: float
) -> None:
    zone, instant = moment
    at = instant + apart
    cron = parse(expression, zone)
    later, earlier = cron.next_after(at), cron.previous_before(at)
    assume(later and earlier)
    assert later is not None
    assert earlier is not None
    assert earlier < at < later
    assert cron.matches(later)
    assert cron.matches(earlier)
    for start, end in ((at, later), (earlier, at)):
        between = start + part * (end - start)
        assert not cron.matches(between) or between in {earlier, at, later}
    before_later, after_earlier = cron.previous_before(later), cron.next_after(earlier)
    assert (
        before_later == after_earlier == at if cron.matches(at) else (before_later, after_earlier) == (earlier, later)
    )


# The libraries


def assert_same(
    ours: Iterator[datetime], theirs: Iterator[datetime], alone: Callable[[datetime, datetime], Alone]
) -> None:
    """The first answers are the same, once those that only one side gives, for a known reason, are left out."""
    our, their = next(ours), next(theirs).astimezone(UTC)
    while our != their:
        match alone(our, their):
            case "ours":
                our = next(ours)
            case "theirs":
                their = next(theirs).astimezone(UTC)
            case None:
                raise AssertionError(f"ours {our}, theirs {their}")


def ask_cronsim(text: str, zone: str, at: datetime, forwards: bool) -> Iterator[datetime]:
    return CronSim(text, at.astimezone(ZoneInfo(zone)), reverse=not forwards)


def ask_croniter(text: str, zone: str, at: datetime, forwards: bool, *, day_or: bool = True) -> Iterator[datetime]:
    asked = croniter(text, at.astimezone(ZoneInfo(zone)), day_or=day_or, ret_type=datetime)
    return iter(asked.get_next if forwards else asked.get_prev, None)


def ask_us(cron: Cron, at: datetime, forwards: bool) -> Iterator[datetime]:
    return chain(cron.next_after if forwards else cron.previous_before, at)


@given(expressions(), moments(ORDINARY_ZONES), st.booleans())
@settings(max_examples=2 * EXAMPLES)
def test_cronsim_agrees(expression: Expression, moment: tuple[str, datetime], forwards: bool) -> None:
    zone, at = moment
    fixed = not expression.follows_real_time

    def alone(our: datetime, their: datetime) -> Alone:
        # Of a fixed-time schedule it walks what the clock shows, and forgets which showing it was asked in. So, in the
        # second one, it takes what the clock shows again for still to come (1), or for not yet over (2).
        if fixed and is_second_showing(at, zone):
            if forwards and their <= at:
                return "theirs"
            if not forwards and clock(our, zone) >= clock(at, zone):
                return "ours"
        # Of one that follows real time, going back over midnight, it comes to the first showing of 23:00 at once (3).
        if not fixed and not forwards and is_second_showing(our, zone) and clock(our, zone).hour == 23:
            return "ours"
        # It fires one that follows real time at the end of a skipped midnight, as though 0:00 had been (4).
        if not fixed and not expression.names(clock(their, zone)) and is_end_of_gap_at_midnight(their, zone):
            return "theirs"
        return None

    text = re.sub(r"(\w+)-\1/\d+", r"\1", expression.text)  # it takes 5-5/10 for 5/10
    assert_same(ask_us(parse(expression, zone), at, forwards), ask_cronsim(text, zone, at, forwards), alone)


def is_end_of_gap_at_midnight(instant: datetime, zone: str) -> bool:
    """Whether the clock jumps to this from the end of the day before."""
    earlier = clock(instant - MINUTE, zone)
    return earlier.time() == time(23, 59) and clock(instant, zone) - earlier > MINUTE


@given(expressions(special=False), moments(ORDINARY_ZONES), st.booleans())
@settings(max_examples=2 * EXAMPLES)
def test_croniter_agrees(expression: Expression, moment: tuple[str, datetime], forwards: bool) -> None:
    zone, at = moment
    fixed = not expression.follows_real_time

    def alone(our: datetime, their: datetime) -> Alone:
        # It fires whatever names an hour at both showings of a repeated hour (5).
        if fixed and is_second_showing(their, zone) and expression.names(clock(their, zone)):
            return "theirs"
        # It fires whatever names an hour at the end of a gap, also if its minute begins with an asterisk (6).
        if not fixed and not expression.names(clock(their, zone)):
            return "theirs"
        # It takes all 24 hours, named one by one, for an asterisk, and drops what the clock skips (7).
        if fixed and len(expression.hour.values) == 24 and not expression.names(clock(our, zone)):
            return "ours"
        return None

    text, day_or = spelled_for_croniter(expression), not expression.needs_both_days
    theirs = ask_croniter(text, zone, at, forwards, day_or=day_or)
    assert_same(ask_us(parse(expression, zone), at, forwards), theirs, alone)


def spelled_for_croniter(expression: Expression) -> str:
    """The expression with every value listed.

    Its syntax differs: there ``5-5`` is the whole cycle, the week ends on day 6 (``*/7`` and ``1/3``), ``*/10`` is no
    asterisk, and a day field that lists all its values is one.
    """
    minute, hour, day, month = (
        ",".join(str(n) for n in sorted(f.values, key=int))
        for f in (expression.minute, expression.hour, expression.day, expression.month)
    )
    weekdays = {int(n) % 7 for n in expression.weekday.values}
    weekday = ",".join(map(str, sorted(weekdays)))
    if not expression.needs_both_days and (len(weekdays) == 7 or len(expression.day.values) == 31):
        day = weekday = "*"
    return f"{minute} {hour} {day} {month} {weekday}"


@pytest.mark.parametrize(
    ("number", "expression", "zone", "forwards", "instants"),
    [
        (1, "30 2 * * *", "Europe/Berlin", True, "2026-10-25T02:10+01 2026-10-26T02:30+01 2026-10-25T02:30+02"),
        (2, "30 2 * * *", "Europe/Berlin", False, "2026-10-25T02:10+01 2026-10-25T02:30+02 2026-10-24T02:30+02"),
        (3, "30 * * * sat", "Asia/Beirut", False, "2026-10-25T00:15+02 2026-10-24T23:30+02 2026-10-24T23:30+03"),
        (4, "0 */4 * * sun", "Asia/Beirut", True, "2026-03-28T12:00+02 2026-03-29T04:00+03 2026-03-29T01:00+03"),
        (5, "30 2 * * *", "Europe/Berlin", True, "2026-10-25T02:30+02 2026-10-26T02:30+01 2026-10-25T02:30+01"),
        (6, "*/30 2 * * *", "Europe/Berlin", True, "2026-03-29T01:45+01 2026-03-30T02:00+02 2026-03-29T03:00+02"),
        (7, "30 0-23 * * *", "Europe/Berlin", True, "2026-03-29T01:45+01 2026-03-29T03:00+02 2026-03-29T03:30+02"),
    ],
)
def test_each_known_difference_is_still_there(
    number: int, expression: str, zone: str, forwards: bool, instants: str
) -> None:
    """Asked at the first instant, we answer the second and they the third; else the reason of this number can go."""
    at, our, their = map(datetime.fromisoformat, instants.split())
    ask_library = ask_cronsim if number <= 4 else ask_croniter
    assert next(ask_us(Cron.parse(expression, zone), at, forwards)) == our
    assert next(ask_library(expression, zone, at, forwards)).astimezone(UTC) == their


# Any text


@given(
    st.text("0123456789*/,-#@ Llmonsuj", max_size=20) | st.text(max_size=9), st.sampled_from(["UTC", "Europe/Berlin"])
)
@settings(max_examples=2 * EXAMPLES)
def test_any_text_is_an_expression_or_refused(text: str, zone: str) -> None:
    for expression in (text, f"{text} 0 * * *", f"0 0 {text} * *", f"0 0 * * {text}"):
        try:
            cron = Cron.parse(expression, zone)
        except CronError as refused:
            assert refused.details["field"] in str(refused)  # noqa: PT017 - being refused is one of two good ends
        else:
            assert cron.next_after(datetime(2026, 1, 1, tzinfo=UTC)) or text.lower().strip() == "@reboot"
