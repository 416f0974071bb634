"""What a cron expression may say, when it fires, and what the law does on the days when a zone's clock jumps."""

from __future__ import annotations

import pickle
import sys
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest

from squidmesh.cron import Cron, CronError
from squidmesh.errors import InvalidOption, RequestError

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)  # a Thursday


def at(text: str, zone: str = "UTC") -> datetime:
    """An instant, from what the zone's clock shows, with an offset where that is ambiguous."""
    instant = datetime.fromisoformat(text)
    return instant if instant.tzinfo else instant.replace(tzinfo=ZoneInfo(zone))


def firings(expression: str, zone: str, after: str, count: int) -> list[str]:
    """The next firings, as the zone's clock shows them."""
    cron, now, found = Cron.parse(expression, zone), at(after, zone), list[str]()
    for _ in range(count):
        instant = cron.next_after(now)
        assert instant is not None
        found.append(instant.astimezone(ZoneInfo(zone)).isoformat(" ", "minutes"))
        now = instant
    return found


def minutes_of(field: str) -> list[int]:
    """The minutes that a minute field stands for."""
    return [minute for minute in range(60) if Cron.parse(f"{field} * * * *").matches(NEW_YEAR.replace(minute=minute))]


def days_of(expression: str, start: date, end: date) -> list[str]:
    """The days from start to end on which the expression fires."""
    cron, midnight = Cron.parse(expression), datetime(start.year, start.month, start.day, tzinfo=UTC)
    days = [midnight + timedelta(days=n) for n in range((end - start).days + 1)]
    return [f"{day:%a %-d %b}" for day in days if cron.matches(day)]


# What the fields say


@pytest.mark.parametrize(
    ("field", "minutes"),
    [
        ("7", [7]),
        ("07", [7]),
        ("1,2,1", [1, 2]),
        ("57-59", [57, 58, 59]),
        ("*/20", [0, 20, 40]),
        ("10-40/15", [10, 25, 40]),
        ("5/15", [5, 20, 35, 50]),
        ("58/1,0", [0, 58, 59]),
        ("3-3/7", [3]),
        ("*", list(range(60))),
    ],
)
def test_a_field_stands_for_its_values_ranges_steps_and_lists(field: str, minutes: list[int]) -> None:
    assert minutes_of(field) == minutes


@pytest.mark.parametrize(
    ("field", "days"),
    [
        ("0", ["Sun"]),
        ("7", ["Sun"]),
        ("sun", ["Sun"]),
        ("MON-Wed", ["Mon", "Tue", "Wed"]),
        ("fri-sun", ["Fri", "Sat", "Sun"]),
        ("sun-tue", ["Mon", "Tue", "Sun"]),
        ("5-7", ["Fri", "Sat", "Sun"]),
        ("*/2", ["Tue", "Thu", "Sat", "Sun"]),
        ("4/2", ["Thu", "Sat"]),
    ],
)
def test_the_day_of_the_week_has_names_in_any_case_and_two_numbers_for_sunday(field: str, days: list[str]) -> None:
    a_week = days_of(f"0 0 * * {field}", date(2026, 1, 5), date(2026, 1, 11))
    assert [day.split()[0] for day in a_week] == days


def test_months_have_names() -> None:
    assert days_of("0 0 1 feb,NOV-dec *", date(2026, 1, 1), date(2026, 12, 31)) == [
        "Sun 1 Feb",
        "Sun 1 Nov",
        "Tue 1 Dec",
    ]


@pytest.mark.parametrize(
    ("nickname", "expression"),
    [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * sun"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@Annually", "0 0 1 1 *"),
    ],
)
def test_a_nickname_fires_when_its_expression_does(nickname: str, expression: str) -> None:
    now = at("2026-03-28T23:59", "Europe/Berlin")
    for _ in range(5):
        expected = Cron.parse(expression, "Europe/Berlin").next_after(now)
        assert Cron.parse(nickname, "Europe/Berlin").next_after(now) == expected
        assert expected is not None
        now = expected


def test_reboot_is_accepted_and_never_fires() -> None:
    reboot = Cron.parse("@reboot")
    assert reboot.next_after(NEW_YEAR) is None
    assert reboot.previous_before(NEW_YEAR) is None
    assert not reboot.matches(NEW_YEAR)


def test_restricted_days_of_month_and_of_week_combine_by_or() -> None:
    days = days_of("0 0 1,15 * mon", date(2026, 1, 1), date(2026, 1, 20))
    assert days == ["Thu 1 Jan", "Mon 5 Jan", "Mon 12 Jan", "Thu 15 Jan", "Mon 19 Jan"]


def test_a_day_field_that_begins_with_an_asterisk_restricts_the_other_one() -> None:
    january = date(2026, 1, 1), date(2026, 1, 31)
    assert days_of("0 0 13 * *", *january) == ["Tue 13 Jan"]
    assert days_of("0 0 * * tue", *january) == ["Tue 6 Jan", "Tue 13 Jan", "Tue 20 Jan", "Tue 27 Jan"]
    assert days_of("0 0 */13 * thu", *january) == ["Thu 1 Jan"]  # 1, 14 and 27, as far as they are Thursdays
    assert days_of("0 0 1-7 * */7", *january) == ["Sun 4 Jan"]


def test_the_last_day_of_the_month() -> None:
    days = days_of("0 0 L * *", date(2028, 1, 1), date(2028, 4, 30))
    assert days == ["Mon 31 Jan", "Tue 29 Feb", "Fri 31 Mar", "Sun 30 Apr"]
    assert days_of("0 0 l,1 2 *", date(2026, 2, 1), date(2026, 2, 28)) == ["Sun 1 Feb", "Sat 28 Feb"]


def test_the_nth_weekday_of_the_month() -> None:
    january = date(2026, 1, 1), date(2026, 1, 31)
    assert days_of("0 0 * * thu#1,Fri#2", *january) == ["Thu 1 Jan", "Fri 9 Jan"]
    assert days_of("0 0 * * 0#4,7#1", *january) == ["Sun 4 Jan", "Sun 25 Jan"]
    assert days_of("0 0 * * thu#5", *january) == ["Thu 29 Jan"]


# What is refused, and how


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("61 * * * *", "minute: 61 is not allowed; 0 to 59, a range a-b, a step */n or a-b/n, or a list a,b"),
        ("* 24 * * *", "hour: 24 is not allowed; 0 to 23, a range"),
        ("* * 0 * *", "day-of-month: 0 is not allowed; 1 to 31, L (the last), a range"),
        ("* * * foo *", "month: foo is not allowed; 1 to 12, jan to dec, a range"),
        (
            "* * * * 8",
            "day-of-week: 8 is not allowed; 0 to 7 (0 and 7 are Sunday), sun to sat, mon#1 (the first) to mon#5",
        ),
        ("* * * * mon#6", "day-of-week: mon#6 is not allowed"),
        ("* * 1-L * *", "day-of-month: 1-L is not allowed"),
        ("1,,2 * * * *", "minute: 1,,2 is not allowed"),
        ("1- * * * *", "minute: 1- is not allowed"),
        ("-1 * * * *", "minute: -1 is not allowed"),
        ("1-2-3 * * * *", "minute: 1-2-3 is not allowed"),
        ("*-5 * * * *", "minute: *-5 is not allowed"),
        ("١ * * * *", "minute: ١ is not allowed"),  # noqa: RUF001 - a digit elsewhere, not in cron
        ("50-10 * * * *", "minute: 50-10 runs backwards; write two ranges with a comma between them"),
        ("* * * * sat-mon", "day-of-week: sat-mon runs backwards; write two ranges with a comma between them"),
        ("*/0 * * * *", "minute: */0 has a step that is not allowed; 1 to 59"),
        ("*/90 * * * *", "minute: */90 has a step that is not allowed; 1 to 59"),
        ("*/ * * * *", "minute: */ has a step that is not allowed"),
        ("*/5/5 * * * *", "minute: */5/5 has a step that is not allowed"),
        ("0 0 30 feb *", "expression: 0 0 30 feb * never matches: none of its months has such a day"),
        ("0 0 31 4,6,9,11 *", "expression: 0 0 31 4,6,9,11 * never matches"),
        ("", "expression: '' is not five fields: minute hour day-of-month month day-of-week; nor @hourly,"),
        ("0 0 * * * *", "expression: 0 0 * * * * is not five fields"),
        ("@noon", "expression: @noon is not five fields: minute hour day-of-month month day-of-week; nor @hourly,"),
    ],
)
def test_a_bad_expression_is_refused_with_the_field_the_value_and_what_is_allowed(
    expression: str, message: str
) -> None:
    with pytest.raises(CronError) as refused:
        Cron.parse(expression)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize("zone", ["", "Mars/Olympus", "Europe", "../etc/passwd", "/etc/localtime", "a\0b", "zone.tab"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(CronError, match="is not a known zone; use an IANA name such as Europe/Berlin"):
        Cron.parse("@daily", zone)


def test_utc_needs_no_zone_data(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on Windows without the package tzdata; the error of any other zone names the package."""
    for module in ["tzdata", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, module, None)
    zoneinfo.ZoneInfo.clear_cache()
    zoneinfo.reset_tzpath(to=())
    try:
        assert Cron.parse("@daily").matches(NEW_YEAR)
        with pytest.raises(CronError, match="a system without zone data needs the package tzdata"):
            Cron.parse("@daily", "Europe/Berlin")
    finally:
        zoneinfo.reset_tzpath()


def test_the_error_is_a_request_error_that_knows_where_the_problem_is() -> None:
    with pytest.raises(CronError) as refused:
        Cron.parse("0 25 * * *")
    assert isinstance(refused.value, RequestError)
    assert refused.value.to_json()["error"] == "invalid_cron"
    assert refused.value.details == {"field": "hour", "value": "25"}


@pytest.mark.parametrize("method", ["matches", "next_after", "previous_before"])
def test_an_instant_without_a_zone_or_out_of_range_is_refused(method: str) -> None:
    ask = getattr(Cron.parse("@daily"), method)
    with pytest.raises(InvalidOption, match="has no time zone; pass an aware datetime"):
        ask(datetime(2026, 1, 1))  # noqa: DTZ001 - the point
    for year in (1, 9999):
        with pytest.raises(InvalidOption, match=f"the year {year} is out of range; 2 to 9998"):
            ask(datetime(year, 6, 1, tzinfo=UTC))


# A value


def test_it_is_a_value_equal_by_text() -> None:
    cron = Cron.parse(" 0  9 * * mon\n", "Europe/Berlin")
    assert cron == Cron.parse("0 9 * * mon", "Europe/Berlin")
    assert hash(cron) == hash(Cron.parse("0 9 * * mon", "Europe/Berlin"))
    assert cron != Cron.parse("0 9 * * 1", "Europe/Berlin")
    assert cron != Cron.parse("0 9 * * mon", "Europe/Paris")
    assert repr(cron) == "Cron(expression='0 9 * * mon', timezone='Europe/Berlin')"
    assert pickle.loads(pickle.dumps(cron)).next_after(NEW_YEAR) == cron.next_after(NEW_YEAR)
    with pytest.raises(AttributeError):
        cron.timezone = "UTC"  # type: ignore[misc]


# Before and after


def test_next_and_previous_are_strict_and_in_utc() -> None:
    daily = Cron.parse("0 9 * * *", "Asia/Kolkata")
    nine = at("2026-01-01T09:00", "Asia/Kolkata")
    assert daily.next_after(nine) == nine + timedelta(days=1)
    assert daily.previous_before(nine) == nine - timedelta(days=1)
    just = timedelta(microseconds=1)
    for answer in (daily.next_after(nine - just), daily.previous_before(nine + just)):
        assert answer == nine
        assert answer is not None
        assert answer.tzinfo is UTC


def test_matches_is_exact() -> None:
    daily = Cron.parse("0 9 * * *")
    nine = at("2026-01-01T09:00")
    assert daily.matches(nine)
    assert daily.matches(nine.astimezone(ZoneInfo("Asia/Tokyo")))
    assert not daily.matches(nine + timedelta(seconds=1))
    assert not daily.matches(nine + timedelta(microseconds=1))


def test_the_rarest_day_is_found_across_a_century_that_is_not_a_leap_year() -> None:
    rare = Cron.parse("0 0 * 2 mon#5")  # a fifth Monday in February is the 29th
    assert rare.next_after(at("2072-03-01")) == at("2112-02-29")
    assert rare.previous_before(at("2112-02-29")) == at("2072-02-29")


def test_no_day_is_rarer_than_the_horizon() -> None:
    """A 29 February on a given weekday comes back within 40 years, in any of the calendar's 400-year cycles."""
    leap_days = [date(year, 2, 29) for year in range(1600, 2445) if year % 4 == 0 and (year % 100 or year % 400 == 0)]
    for weekday in range(7):
        years = [day.year for day in leap_days if day.weekday() == weekday]
        assert max(later - earlier for earlier, later in pairwise(years)) == 40


def test_what_the_zone_always_skips_has_no_next() -> None:
    """31 March on a Sunday is the day on which Berlin has no 2 o'clock; a schedule that follows real time waits in vain."""
    in_vain = Cron.parse("*/5 2 31 3 */7", "Europe/Berlin")
    assert in_vain.next_after(NEW_YEAR) is None
    fixed = Cron.parse("5 2 31 3 */7", "Europe/Berlin")
    assert fixed.next_after(NEW_YEAR) == at("2030-03-31T03:00", "Europe/Berlin")


def test_the_walk_ends_at_the_ends_of_the_calendar() -> None:
    yearly = Cron.parse("@yearly", "Pacific/Kiritimati")
    assert yearly.next_after(datetime(9998, 12, 30, tzinfo=UTC)) is None
    assert yearly.previous_before(datetime(2, 1, 2, tzinfo=UTC)) is not None
    assert yearly.next_after(datetime(2, 1, 2, tzinfo=UTC)) is not None


# The law: fixed-time schedules


def test_a_skipped_time_fires_right_after_the_gap() -> None:
    assert firings("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 2) == [
        "2026-03-29 03:00+02:00",
        "2026-03-30 02:30+02:00",
    ]


def test_a_repeated_time_fires_the_first_time_only() -> None:
    assert firings("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
        "2026-10-25 02:30+02:00",
        "2026-10-26 02:30+01:00",
    ]


def test_several_skipped_times_are_one_firing_even_with_the_time_at_the_end_of_the_gap() -> None:
    assert firings("0,15,30 2,3 * * *", "Europe/Berlin", "2026-03-28T12:00", 3) == [
        "2026-03-29 03:00+02:00",
        "2026-03-29 03:15+02:00",
        "2026-03-29 03:30+02:00",
    ]


def test_around_a_repeated_hour_each_fixed_time_fires_once_in_order() -> None:
    assert firings("0,30 1-3 * * *", "America/New_York", "2026-11-01T00:00", 7) == [
        "2026-11-01 01:00-04:00",
        "2026-11-01 01:30-04:00",
        "2026-11-01 02:00-05:00",
        "2026-11-01 02:30-05:00",
        "2026-11-01 03:00-05:00",
        "2026-11-01 03:30-05:00",
        "2026-11-02 01:00-05:00",
    ]


def test_asked_within_the_second_showing_the_first_one_is_over() -> None:
    fixed, in_second_showing = Cron.parse("30 2 * * *", "Europe/Berlin"), at("2026-10-25T02:10+01:00")
    assert fixed.next_after(in_second_showing) == at("2026-10-26T02:30+01:00")
    assert fixed.previous_before(in_second_showing) == at("2026-10-25T02:30+02:00")
    assert fixed.matches(at("2026-10-25T02:30+02:00"))
    assert not fixed.matches(at("2026-10-25T02:30+01:00"))


@pytest.mark.parametrize(
    ("zone", "expression", "after", "fires"),
    [
        ("Australia/Lord_Howe", "15 2 * * *", "2026-10-03T12:00", "2026-10-04 02:30+11:00"),  # skips half an hour
        ("America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00", "2018-11-04 01:00-02:00"),  # skips midnight
        ("Asia/Beirut", "@daily", "2026-03-28T12:00", "2026-03-29 01:00+03:00"),
        ("Antarctica/Troll", "30 1 * * *", "2026-03-28T12:00", "2026-03-29 03:00+02:00"),  # skips two hours
        ("Antarctica/Casey", "30 1 * * *", "2020-10-03T12:00", "2020-10-04 03:01+11:00"),  # three, from 0:01
        ("Pacific/Apia", "0 9 30 * *", "2011-12-01T00:00", "2011-12-31 00:00+14:00"),  # has no 30 December
        ("Asia/Pyongyang", "45 23 * * *", "2018-05-04T12:00", "2018-05-05 00:00+09:00"),  # a new standard time
        ("Africa/Monrovia", "30 0 * * *", "1972-01-06T12:00", "1972-01-07 00:44+00:00"),  # skips 44 min 30 s
    ],
)
def test_the_size_of_the_gap_makes_no_difference(zone: str, expression: str, after: str, fires: str) -> None:
    assert firings(expression, zone, after, 1) == [fires]


def test_a_skipped_day_is_one_firing() -> None:
    assert firings("0 9,17 * * *", "Pacific/Apia", "2011-12-29T12:00", 4) == [
        "2011-12-29 17:00-10:00",
        "2011-12-31 00:00+14:00",
        "2011-12-31 09:00+14:00",
        "2011-12-31 17:00+14:00",
    ]


def test_a_day_turned_back_into_the_day_before_fires_once() -> None:
    """In St. John's the clock went from 0:01 back to 23:01 of the day before."""
    assert firings("0 0 * * *", "America/St_Johns", "2010-11-06T12:00", 2) == [
        "2010-11-07 00:00-02:30",
        "2010-11-08 00:00-03:30",
    ]


# The law: schedules that follow real time


@pytest.mark.parametrize("expression", ["*/30 * * * *", "0,30 * * * *", "*/30 0-23 * * *"])
def test_a_schedule_that_follows_real_time_keeps_its_pace(expression: str) -> None:
    for after in ("2026-03-29T00:00", "2026-10-25T00:00"):
        cron, now = Cron.parse(expression, "Europe/Berlin"), at(after, "Europe/Berlin").astimezone(UTC)
        for _ in range(10):
            assert cron.next_after(now) == now + timedelta(minutes=30)
            now += timedelta(minutes=30)


def test_a_schedule_that_follows_real_time_loses_what_is_skipped_and_repeats_what_is_repeated() -> None:
    assert firings("*/30 2 * * *", "Europe/Berlin", "2026-03-28T12:00", 1) == ["2026-03-30 02:00+02:00"]
    assert firings("*/30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 5) == [
        "2026-10-25 02:00+02:00",
        "2026-10-25 02:30+02:00",
        "2026-10-25 02:00+01:00",
        "2026-10-25 02:30+01:00",
        "2026-10-26 02:00+01:00",
    ]


def test_hourly_fires_where_the_clock_shows_a_full_hour() -> None:
    assert firings("@hourly", "Australia/Lord_Howe", "2026-04-05T00:30", 4) == [
        "2026-04-05 01:00+11:00",
        "2026-04-05 02:00+10:30",
        "2026-04-05 03:00+10:30",
        "2026-04-05 04:00+10:30",
    ]
