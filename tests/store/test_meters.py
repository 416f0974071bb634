"""``lock_meters`` and ``claim_metered``: limits and rates are exact, whoever claims at the same time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest

from squidmesh.meters import MeterTable, Rate
from squidmesh.records import Lane
from squidmesh.states import JobState
from squidmesh.store.jobs import adopt_jobs, pin_plans, read_claimed
from squidmesh.store.meters import claim_metered, delete_idle_meters, lock_meters, pause_meters
from squidmesh.store.statements import Batch
from tests.store.kit import Session, claim, entry, in_schema, locked, plan, register, rooms, save, start

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from squidmesh.store.jobs import Material
    from squidmesh.store.meters import Metered, Walked
    from squidmesh.store.statements import Flow
    from tests.store.conftest import Connect

WORKER = UUID(int=7)

CHARGE = "orders/charge:account"
"""The definition of the tests' limit, and of their rate."""


@pytest.fixture
def tick(store: Session) -> Callable[[float], None]:
    """Lets seconds pass for meters; a negative number sets the clock back."""

    def passing(seconds: float) -> None:
        store.connection.execute(
            in_schema(
                "UPDATE squidmesh.meters m SET refilled_at = m.refilled_at - s.gone, idle_at = m.idle_at - s.gone,"
                " paused_until = m.paused_until - s.gone FROM (SELECT make_interval(secs => %s)) AS s (gone)"
            ),
            [seconds],
        )

    return passing


def limit(name: str) -> str:
    """What a job carries that shares nothing but a limit."""
    return f"{name}\n\n"


def rate(name: str) -> str:
    """What a job carries that shares nothing but a rate."""
    return f"\n{name}\n"


def ready(session: Session, *meters: str, **changes: Any) -> list[UUID]:
    """Ready jobs, each of a run of its own, filed under these meters."""
    found: list[UUID] = []
    for filed in meters:
        found += start(session, 1, entry(**{"lane": Lane.METERED, **changes}))
        session.connection.execute(
            in_schema("UPDATE squidmesh.jobs SET meters = %s WHERE run_id = %s"), [filed, found[-1]]
        )
    return found


def taking(
    known: MeterTable, rooms: Mapping[str, int], *, after: str = "", most: int = 100, suspect: bool = True
) -> Flow[tuple[dict[str, Walked], Metered, list[Material]]]:
    """What a turn says."""
    _, walked, metered, materials = yield Batch(
        (
            pin_plans(),
            lock_meters(dict.fromkeys(rooms, after), known, most),
            claim_metered(WORKER, 1, rooms, known, suspect=suspect),
            read_claimed(),
        ),
        last=True,
    )
    return walked, metered, materials


def take(session: Session, known: MeterTable, room: int = 100, *, within: bool = False) -> list[UUID]:
    """Claim what may be claimed of the default queue; the runs."""
    flow = taking(known, {"default": room})
    _, metered, materials = session.within(flow) if within else session.run(flow)
    assert {material.run_id for material in materials} == {job.run_id for job in metered.jobs}
    return [job.run_id for job in metered.jobs]


def look(session: Session, known: MeterTable) -> tuple[Walked, Metered]:
    """Claim, and see what else is told."""
    walked, metered, _ = session.run(taking(known, {"default": 100}))
    return walked["default"], metered


def end(session: Session, run_id: UUID) -> None:
    """The run's only job ends."""
    save(session, plan(locked(session, run_id), removed=[0]))


# -- limits ----------------------------------------------------------------------------------------------------------


def test_as_many_are_claimed_as_the_limit_leaves_those_first_that_wait_longest(store: Session) -> None:
    runs = ready(store, *[limit(f"{CHARGE}=a")] * 5)
    known = MeterTable({CHARGE: 2})

    assert take(store, known) == runs[:2]
    assert take(store, known) == []
    end(store, runs[0])
    assert take(store, known) == runs[2:3]


def test_each_value_of_the_key_has_a_limit_of_its_own(store: Session) -> None:
    a, b = ready(store, limit(f"{CHARGE}=a"), limit(f"{CHARGE}=b"))
    ready(store, limit(f"{CHARGE}=a"), limit(f"{CHARGE}=b"))

    assert set(take(store, MeterTable({CHARGE: 1}))) == {a, b}


def test_a_claimed_job_is_marked_as_started_and_carries_its_meters(store: Session) -> None:
    ready(store, limit(f"{CHARGE}=a"))

    _, metered = look(store, MeterTable({CHARGE: 1}))

    (job,) = metered.jobs
    assert (job.state, job.worker, job.claim, job.started) == (JobState.CLAIMED, WORKER, 1, True)
    assert (job.lane, job.meters) == (Lane.METERED, limit(f"{CHARGE}=a"))


def test_no_more_are_claimed_than_the_worker_has_room_for_the_urgent_ones_first(store: Session) -> None:
    late, first, urgent = (
        ready(store, limit(f"{CHARGE}={key}"), priority=priority)[0]
        for key, priority in (("c", 1), ("b", 0), ("a", -1))
    )
    known = MeterTable({CHARGE: 9})

    assert [take(store, known, 1) for _ in range(3)] == [[urgent], [first], [late]]


def test_an_ordinary_claim_leaves_metered_jobs_alone(store: Session) -> None:
    ready(store, limit(f"{CHARGE}=a"))

    assert claim(store) == []


def test_jobs_of_one_limit_may_have_different_rates(store: Session) -> None:
    """What one rate does not let through must not keep others from what the limit leaves."""
    known = MeterTable({CHARGE: 3}, {"slow": Rate(1, per=60), "fast": Rate(10, per=60)})
    slow = ready(store, *[f"{CHARGE}=a\nslow\n"] * 4)
    fast = ready(store, *[f"{CHARGE}=a\nfast\n"] * 4)

    assert set(take(store, known)) == {*slow[:1], *fast[:2]}
    assert take(store, known) == []


def test_the_limit_of_a_queue_holds_beside_those_of_its_steps(store: Session) -> None:
    known = MeterTable({CHARGE: 2, "@default": 3}, {}, {"default": "@default"})
    ready(store, *[f"{CHARGE}=a\n\n@default"] * 3, *["\n\n@default"] * 3)

    assert len(take(store, known)) == 3
    assert take(store, known) == []
    held = store.value("SELECT count(*) FROM squidmesh.jobs WHERE state = 'claimed' AND meters LIKE %s", f"{CHARGE}%")
    assert held <= 2


def test_of_those_with_which_a_worker_died_one_at_a_time_is_claimed(store: Session) -> None:
    known = MeterTable({CHARGE: 9})
    ready(store, limit(f"{CHARGE}=a"), limit(f"{CHARGE}=b"), lane=Lane.METERED_SUSPECT)
    (sound,) = ready(store, limit(f"{CHARGE}=a"))

    _, metered, _ = store.run(taking(known, {"default": 9}, suspect=False))
    assert [job.run_id for job in metered.jobs] == [sound]
    assert len(take(store, known)) == 1


# -- several at once --------------------------------------------------------------------------------------------------


def test_who_claims_at_the_same_time_finds_the_meter_locked_and_does_not_wait(store: Session, connect: Connect) -> None:
    """What the first one has claimed and not committed yet, the second one cannot see: it must not count without it."""
    ready(store, *[limit(f"{CHARGE}=a")] * 4, limit(f"{CHARGE}=b"))
    known, other = MeterTable({CHARGE: 2}), connect()
    with other.transaction():
        other.within(together_locked(known, f"{CHARGE}=a"))

        walked, metered = look(store, known)

        assert [job.meters for job in metered.jobs] == [limit(f"{CHARGE}=b")]
        assert walked.busy
        assert len(take(other, known, within=True)) == 2
    walked, metered = look(store, known)
    assert (metered.jobs, walked.busy) == ([], False)


def together_locked(known: MeterTable, name: str) -> Flow[None]:
    """Lock one meter as ``lock_meters`` does."""
    yield Batch((pin_plans(), lock_meters({"default": ""}, known, 1)))


def test_a_limit_is_exact_however_many_race_for_it(store: Session, connect: Connect) -> None:
    """Eight workers claim and end jobs as fast as they can; whoever has claimed counts what is held in all."""
    known, keys = MeterTable({CHARGE: 3, "@default": 7}, {}, {"default": "@default"}), "abcd"
    ready(store, *[f"{CHARGE}={key}\n\n@default" for key in keys * 30])
    left, seen, most = threading.Semaphore(0), [0], []

    def work(session: Session) -> None:
        while seen[0] < 30 * len(keys):
            with session.transaction():
                mine = take(session, known, 5, within=True)
                if mine:
                    query = "SELECT meters, count(*) FROM squidmesh.jobs WHERE state = 'claimed' GROUP BY 1"
                    most.append(dict(session.rows(query)))
            for run_id in mine:
                end(session, run_id)
                seen[0] += 1
        left.release()

    with ThreadPoolExecutor(8) as pool:
        for _ in range(8):
            pool.submit(work, connect())
        for _ in range(8):
            assert left.acquire(timeout=60)
    assert max(max(held.values()) for held in most) <= 3
    assert max(sum(held.values()) for held in most) <= 7
    assert seen[0] == 30 * len(keys)


def test_what_is_full_is_not_locked_so_that_whoever_makes_room_can_claim(store: Session, connect: Connect) -> None:
    runs, known, other = ready(store, *[limit(f"{CHARGE}=a")] * 3), MeterTable({CHARGE: 1}), connect()
    take(store, known)
    with other.transaction():
        assert take(other, known, within=True) == []
        end(store, runs[0])
        assert take(store, known) == runs[1:2]


def test_meters_are_looked_at_page_by_page(store: Session) -> None:
    names = sorted(limit(f"{CHARGE}={n}") for n in range(5))
    ready(store, *names)
    known, found, after = MeterTable({CHARGE: 1}), [], ""
    for more in (True, True, False):
        walked, metered, _ = store.run(taking(known, {"default": 9}, after=after, most=2))
        found += [job.meters for job in metered.jobs]
        assert walked["default"].more is more
        after = walked["default"].last
    assert found == names


# -- rates ------------------------------------------------------------------------------------------------------------


def test_a_rate_lets_through_what_its_bucket_has_and_fills_up_with_time(
    store: Session, tick: Callable[[float], None]
) -> None:
    known = MeterTable({}, {CHARGE: Rate(6, per=60, burst=3)})
    runs = ready(store, *[rate(f"{CHARGE}=a")] * 10)

    assert take(store, known) == runs[:3]
    _, metered = look(store, known)
    assert metered.jobs == []
    assert metered.opens == pytest.approx(10, abs=0.5)
    tick(9.9)
    assert take(store, known) == []
    tick(0.2)
    assert take(store, known) == runs[3:4]
    tick(3600)
    assert take(store, known) == runs[4:7]  # no more gather than the burst


def test_a_rate_of_each_value_of_the_key(store: Session) -> None:
    known = MeterTable({}, {CHARGE: Rate(1, per=60)})
    ready(store, *[rate(f"{CHARGE}=a")] * 2, *[rate(f"{CHARGE}=b")] * 2)

    assert len(take(store, known)) == 2
    assert take(store, known) == []


def test_a_rate_is_exact_however_many_race_for_it(
    store: Session, connect: Connect, tick: Callable[[float], None]
) -> None:
    known = MeterTable({}, {CHARGE: Rate(50, per=1000)})
    ready(store, *[rate(f"{CHARGE}=a")] * 80)
    with ThreadPoolExecutor(6) as pool:
        taken = list(
            pool.map(
                lambda session: sum(len(take(session, known, 7)) for _ in range(10)), [connect() for _ in range(6)]
            )
        )
    assert sum(taken) + len(take(store, known)) == 50


def test_a_clock_that_was_set_back_takes_nothing_away(store: Session, tick: Callable[[float], None]) -> None:
    known = MeterTable({}, {CHARGE: Rate(3, per=60)})
    ready(store, *[rate(f"{CHARGE}=a")] * 5)
    assert len(take(store, known, 1)) == 1
    tick(-3600)
    assert len(take(store, known)) == 2


# -- pauses -----------------------------------------------------------------------------------------------------------


def test_nothing_begins_of_what_is_paused_until_the_pause_is_over(
    store: Session, tick: Callable[[float], None]
) -> None:
    known = MeterTable({CHARGE: 5})
    a, b = ready(store, limit(f"{CHARGE}=a"), limit(f"{CHARGE}=b"))
    store.run(pause_meters([(f"{CHARGE}=a", 30.0, None), (f"{CHARGE}=a", 10.0, None)]))

    _, metered = look(store, known)

    assert [job.run_id for job in metered.jobs] == [b]
    assert metered.opens == pytest.approx(30, abs=0.5)
    tick(30.1)
    assert take(store, known) == [a]


def test_a_shorter_pause_does_not_end_a_longer_one(store: Session, tick: Callable[[float], None]) -> None:
    known = MeterTable({CHARGE: 5})
    ready(store, limit(f"{CHARGE}=a"))
    store.run(pause_meters([(f"{CHARGE}=a", 30.0, None)]))
    store.run(pause_meters([(f"{CHARGE}=a", 5.0, None)]))
    tick(20)
    assert take(store, known) == []


def test_a_pause_waits_for_a_claim_in_flight_and_no_claim_waits_for_a_pause(store: Session, connect: Connect) -> None:
    ready(store, limit(f"{CHARGE}=a"))
    pauser, known = connect(), MeterTable({CHARGE: 5})
    with pauser.transaction():
        pauser.within(pause_meters([(f"{CHARGE}=a", 30.0, None)]))
        walked, metered = look(store, known)
        assert (metered.jobs, walked.busy) == ([], True)
    assert take(store, known) == []


def test_rows_that_say_nothing_are_deleted(store: Session, tick: Callable[[float], None]) -> None:
    known = MeterTable({}, {CHARGE: Rate(1, per=60)})
    ready(store, rate(f"{CHARGE}=a"), rate(f"{CHARGE}=b"))
    take(store, known)
    store.run(pause_meters([(f"{CHARGE}=b", 600.0, None)]))
    store.run(delete_idle_meters())
    assert store.value("SELECT count(*) FROM squidmesh.meters") == 2
    tick(61)
    store.run(delete_idle_meters())
    assert store.rows("SELECT name FROM squidmesh.meters") == [(f"{CHARGE}=b",)]


# -- deploys ----------------------------------------------------------------------------------------------------------


def test_what_other_live_code_declares_is_left_to_it(store: Session) -> None:
    (run_id,) = ready(store, limit("orders/renamed:account=a"))
    other = register(store, knows=["meter/orders/renamed:account"])

    assert take(store, MeterTable({CHARGE: 5})) == []
    store.connection.execute(in_schema("UPDATE squidmesh.workers SET dead = true WHERE id = %s"), [other])
    assert take(store, MeterTable({CHARGE: 5})) == [
        run_id
    ]  # nobody else would: it is filed anew by whoever knows the step


def test_what_is_adopted_is_filed_anew_by_who_adopts_it(store: Session) -> None:
    """Its limit was not asked; and where no code limits it any more, nobody would look for it among what is limited."""
    (plain, suspect) = (
        ready(store, limit(f"{CHARGE}=a"), lane=lane)[0] for lane in (Lane.METERED, Lane.METERED_SUSPECT)
    )
    store.connection.execute(in_schema("UPDATE squidmesh.jobs SET state = 'parked', reason = 'unknown_step'"))

    adopted = store.run(adopt_jobs(WORKER, 1, rooms(9), ["orders/step/first"]))

    assert {(job.run_id, job.lane, job.meters, job.started) for job in adopted} == {
        (plain, Lane.ALONE, None, True),
        (suspect, Lane.SUSPECT, None, True),
    }
