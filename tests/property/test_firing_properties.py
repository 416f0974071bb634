"""Which nominal times get a run: whatever the clock does, each is decided once, in order, and none is lost."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squidmesh import Workflow
from squidmesh.cron import Cron
from squidmesh.planner.firing import SkipReason, decide_firing, jitter_of, tick_of, times_from
from squidmesh.planner.registering import Known, declared_in, plan_registration
from squidmesh.records import Tick
from squidmesh.timetable import CatchUp, Overlap, Policy, Schedule

T0 = datetime(2026, 3, 28, 22, 17, 30, tzinfo=UTC)
"""A few hours before clocks are put forward in Berlin."""

EXPRESSIONS = ("* * * * *", "*/7 * * * *", "0,15,30 2 * * *", "30 2 * * *", "0 0-23 * * *", "0 9 * * mon-fri")

policies = st.builds(
    Policy,
    window=st.sampled_from((1.0, 90.0, 3600.0, 86400.0)),
    every=st.booleans(),
    overlap=st.sampled_from(Overlap),
    jitter=st.sampled_from((0.0, 30.0)),
)
jumps = st.one_of(st.floats(0, 120), st.floats(-7200, 7200), st.floats(-400_000, 400_000)).map(
    lambda seconds: timedelta(seconds=round(seconds, 6))
)
schedules = st.builds(
    lambda expression, zone, policy: Schedule(
        name="s",
        workflow="w",
        trigger="t",
        source="api",
        expression=expression,
        timezone=zone,
        policy=policy,
        next_at=Cron.parse(expression, zone).next_after(T0),
    ),
    st.sampled_from(EXPRESSIONS),
    st.sampled_from(("UTC", "Europe/Berlin")),
    policies,
)


@given(schedules, st.lists(st.tuples(jumps, st.booleans()), max_size=25), st.integers(1, 5))
def test_each_nominal_time_is_decided_once_and_in_order(
    schedule: Schedule, looks: list[tuple[timedelta, bool]], most: int
) -> None:
    """It starts a run or is passed over for a reason; together these are all there are up to the next one, and no others."""
    cron, now, origin = Cron.parse(schedule.expression, schedule.timezone), T0, schedule.next_at
    started: list[datetime] = []
    skipped = 0
    for jump, busy in looks:
        now += jump
        before = schedule.next_at
        assert before is not None
        firing = decide_firing(cron, schedule, now, busy=busy, most=most)
        assert firing.next_at is not None
        assert firing.next_at >= before, "it never goes back"
        assert all(before <= at <= now for at in firing.starts), "none is early"
        assert all(now - at <= timedelta(seconds=schedule.policy.window) for at in firing.starts), "none is stale"
        assert all(before <= skip.first <= skip.last <= now for skip in firing.skips)
        started += firing.starts
        skipped += sum(skip.count for skip in firing.skips)
        for skip in firing.skips:
            assert skip.last < firing.next_at
        schedule = replace(schedule, next_at=firing.next_at)
    assert all(one < two for one, two in pairwise(started)), "at most one run for each, oldest first"
    assert origin is not None
    assert schedule.next_at is not None
    there_were = sum(1 for _ in times_from(cron, origin, schedule.next_at))
    # What is passed over at once is counted up to a thousand.
    assert len(started) + skipped == there_were or skipped >= 1000


@given(schedules, st.lists(jumps, max_size=20))
def test_with_all_of_a_wide_window_every_nominal_time_gets_exactly_one_run(
    schedule: Schedule, looks: list[timedelta]
) -> None:
    """Whatever the clock does within the window: nothing is doubled, nothing lost."""
    everything = Policy(window=366 * 86400.0, every=True)
    schedule = replace(schedule, policy=everything)
    cron, now, origin = Cron.parse(schedule.expression, schedule.timezone), T0, schedule.next_at
    started: list[datetime] = []
    for jump in looks:
        now += jump
        while (firing := decide_firing(cron, schedule, now, busy=False, most=1000)).starts:
            assert not firing.skips
            started += firing.starts
            schedule = replace(schedule, next_at=firing.next_at)
    assert origin is not None
    assert started == list(times_from(cron, origin, schedule.next_at))
    latest = max([T0, *[T0 + sum(looks[: n + 1], timedelta()) for n in range(len(looks))]])
    assert schedule.next_at == cron.next_after(latest)


MINUTES = Cron.parse("* * * * *")
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def minutely(**policy: object) -> Schedule:
    return Schedule(
        name="s",
        workflow="w",
        trigger="t",
        source="api",
        expression="* * * * *",
        timezone="UTC",
        policy=Policy(**policy),  # type: ignore[arg-type]
        next_at=NOON,
    )


def minutes(*values: int) -> tuple[datetime, ...]:
    return tuple(NOON + timedelta(minutes=value) for value in values)


@pytest.mark.parametrize(
    ("policy", "busy", "starts", "skips", "following"),
    [
        ({}, False, (5,), {"superseded": 5}, 6),
        ({}, True, (5,), {"superseded": 5}, 6),
        ({"every": True}, True, (0, 1, 2, 3), {}, 4),
        ({"window": 120.0}, False, (5,), {"missed": 4, "superseded": 1}, 6),
        ({"window": 120.0, "every": True}, False, (4, 5), {"missed": 4}, 6),
        ({"window": 10.0}, False, (), {"missed": 6}, 6),
        ({"overlap": Overlap.SKIP}, False, (5,), {"superseded": 5}, 6),
        ({"overlap": Overlap.SKIP}, True, (), {"superseded": 5, "overlap": 1}, 6),
        ({"overlap": Overlap.SKIP, "every": True}, False, (0,), {"overlap": 5}, 6),
        ({"overlap": Overlap.SKIP, "every": True}, True, (), {"overlap": 6}, 6),
        ({"overlap": Overlap.QUEUE}, False, (5,), {"superseded": 5}, 6),
        ({"overlap": Overlap.QUEUE}, True, (), {}, 0),
        ({"overlap": Overlap.QUEUE, "every": True}, False, (0,), {}, 1),
    ],
)
def test_the_policies_after_five_minutes_and_a_half_in_which_nobody_looked(
    policy: dict[str, object], busy: bool, starts: tuple[int, ...], skips: dict[str, int], following: int
) -> None:
    late = NOON + timedelta(minutes=5, seconds=30)
    firing = decide_firing(MINUTES, minutely(**policy), late, busy=busy, most=4)
    assert firing.starts == minutes(*starts)
    assert {str(skip.reason): skip.count for skip in firing.skips} == skips
    assert (firing.next_at,) == minutes(following)


def test_what_is_passed_over_is_named_from_the_first_to_the_last() -> None:
    (missed, superseded) = decide_firing(MINUTES, minutely(window=90.0), *minutes(5), busy=False, most=1).skips
    assert (missed.reason, missed.first, missed.last) == (SkipReason.MISSED, *minutes(0, 3))
    assert (superseded.reason, superseded.first, superseded.last) == (SkipReason.SUPERSEDED, *minutes(4, 4))


@given(schedules, st.integers(0, 10_000))
def test_a_tick_is_the_same_after_it_was_stored(schedule: Schedule, seconds: int) -> None:
    now = T0 + timedelta(seconds=seconds)
    cron = Cron.parse(schedule.expression, schedule.timezone)
    nominal = cron.next_after(now)
    assert nominal is not None
    tick = tick_of(cron, schedule, nominal, now)
    assert Tick.from_json(tick.to_json()) == tick
    assert tick.window_end is not None
    assert tick.window_start == tick.nominal_at < tick.window_end
    assert timedelta() <= jitter_of(schedule, nominal) <= timedelta(seconds=schedule.policy.jitter)


def test_the_signal_id_is_the_digest_that_the_format_says() -> None:
    """SHA-256 over each part with its length in bytes, in URL-safe base64 without padding."""
    schedule = minutely()
    tick = tick_of(MINUTES, schedule, NOON, NOON)
    assert tick.signal_id == "sha256:54mPY-F3z2HHhIsaMe6I9ORIYhbQFQ2VQ6OijaxS7eg"
    assert tick.to_json()["intended_window"] == {"start_at": "2026-03-02T12:00:00Z", "end_at": "2026-03-02T12:01:00Z"}


def test_a_catch_up_is_a_window_or_both() -> None:
    assert Policy.read(timedelta(hours=1), "skip", 5) == (Policy(window=3600.0, overlap=Overlap.SKIP, jitter=5.0), ())
    assert Policy.read(CatchUp(60, "all"), "allow", 0)[0] == Policy(window=60.0, every=True)
    problems = Policy.read(CatchUp(0.5, "some"), "wait", -1)[1]  # type: ignore[arg-type]
    assert [option for option, _ in problems] == ["catch_up", "catch_up", "overlap", "jitter"]


# -- registering ----------------------------------------------------------------------------------------------------


def declared(expression: str) -> dict[str, Schedule]:
    schedule = Schedule(name="w/t", workflow="w", trigger="t", source="code", expression=expression, timezone="UTC")
    return {schedule.name: schedule}


@given(st.lists(st.tuples(st.sampled_from(("old", "new", "none")), st.booleans()), min_size=1, max_size=12))
def test_when_all_workers_have_one_code_the_schedule_is_what_it_says(steps: list[tuple[str, bool]]) -> None:
    """Workers of several versions begin and end in any order; then those that are left look once more, in any order."""
    code = {"old": declared("0 1 * * *"), "new": declared("0 2 * * *"), "none": dict[str, Schedule]()}
    row: Schedule | None = None
    follows = -1
    alive: dict[int, str] = {}

    def look(worker: int) -> None:
        nonlocal row, follows
        known = [] if row is None else [Known(row, follows in alive and follows > worker, follows == worker)]
        plan = plan_registration(code[alive[worker]], known, NOON)
        for schedule in (*plan.added, *plan.changed):
            row, follows = schedule, worker

    for number, (version, leaves) in enumerate(steps):
        alive[number] = version
        look(number)
        if leaves and len(alive) > 1:
            del alive[min(alive)]
        for worker in alive:
            look(worker)
    last = steps[-1][0]
    for worker in [number for number, version in alive.items() if version != last]:
        del alive[worker]
    for worker in alive:
        look(worker)
    wanted = code[last].get("w/t")
    if wanted is None:
        assert row is None or row.retired
    else:
        assert row is not None
        assert (row.expression, row.retired) == (wanted.expression, False)
    # And nobody has anything left to say.
    before = row
    for worker in alive:
        look(worker)
    assert row == before


def test_a_change_fires_from_now_on_and_a_person_s_pause_stays() -> None:
    row = replace(minutely(), name="w/t", source="code", paused=True)
    (changed,) = plan_registration(declared("0 1 * * *"), [Known(row, False, True)], NOON + timedelta(hours=2)).changed
    assert (changed.expression, changed.paused, changed.next_at) == ("0 1 * * *", True, NOON + timedelta(hours=13))
    same = plan_registration({"w/t": row}, [Known(row, False, True)], NOON + timedelta(hours=2))
    assert same == ([], []), "what is declared as before keeps its next time, also one that is past"


def test_what_is_declared_is_what_workflows_say() -> None:
    workflow = Workflow("w")
    workflow.manual("by_hand")
    workflow.cron("t", "0 1 * * *", catch_up=CatchUp(60, "all"), overlap="queue", jitter=3)
    workflow.log("one", "nothing")
    ((name, schedule),) = declared_in([workflow.check()]).items()
    assert (name, schedule.expression, schedule.trigger) == ("w/t", "0 1 * * *", "t")
    assert schedule.policy == Policy(window=60.0, every=True, overlap=Overlap.QUEUE, jitter=3.0)
