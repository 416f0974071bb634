"""Schedules under fire: eight worker processes, kills, and a database whose clock jumps."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest

from squidmesh import CatchUp
from squidmesh.cron import Cron
from squidmesh.store.database import drive
from squidmesh.store.schedules import limit_idleness, lock_due_schedules
from tests.chaos import apps
from tests.chaos.processes import WorkerProcess, start_workers
from tests.clockwork import Clockwork
from tests.effort import FULL_CHAOS
from tests.invariants import check
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from squidmesh import SquidMesh
    from tests.lab import Lab

pytestmark = pytest.mark.chaos

START = datetime(2026, 3, 2, 12, 0, 30, tzinfo=UTC)
EXPRESSIONS = ("* * * * *", "*/2 * * * *", "*/5 * * * *", "1-59/3 * * * *")


def nominal_times(lab: Lab, name: str) -> list[datetime]:
    query = "SELECT schedule->>'nominal_at' FROM squidmesh.runs WHERE schedule->>'name' = %s ORDER BY 1"
    return [datetime.fromisoformat(text) for (text,) in lab.rows(query, name)]


def all_between(expression: str, first: datetime, last: datetime) -> list[datetime]:
    cron, found, at = Cron.parse(expression), [], first
    while (following := cron.next_after(at)) is not None and following <= last:
        found.append(following)
        at = following
    return found


def until_past(mesh: SquidMesh, when: datetime) -> None:
    """Wait until all that has come by then is decided."""

    def decided() -> bool:
        return all(schedule.next_at and schedule.next_at > when for schedule in mesh.schedules.list())

    until(decided, 60, what=f"schedules that are past {when}")


def test_eight_workers_that_are_killed_start_each_nominal_time_once(lab: Lab, tmp_path: Path) -> None:
    """At most one run for a nominal time, and, within the window, exactly one, while workers die and the clock jumps."""
    chance = random.Random(7)
    clock, mesh = Clockwork(lab, START), lab.mesh(*apps.ALL)
    for number, expression in enumerate(EXPRESSIONS):
        mesh.schedules.create(f"s{number}", apps.chain, expression, catch_up=CatchUp(timedelta(days=1), "all"))
    workers = start_workers(lab, tmp_path, 8)
    furthest = START
    for _ in range(60 if FULL_CHAOS else 12):
        match chance.randrange(4):
            case 0:
                clock.step_and_tell(minutes=-chance.randint(1, 90))
            case 1:
                victim = workers.pop(chance.randrange(len(workers)))
                clock.tell()
                victim.kill()
                workers.append(WorkerProcess(lab, tmp_path))
            case _:
                clock.step_and_tell(minutes=chance.randint(1, 20))
        furthest = max(furthest, clock.now())
        if chance.random() < 0.5:
            until_past(mesh, furthest)
    until_past(mesh, furthest)
    for number, expression in enumerate(EXPRESSIONS):
        name = f"s{number}"
        schedule = mesh.schedules.get(name)
        found = nominal_times(lab, name)
        assert Counter(found).most_common(1)[0][1] == 1, "at most one"
        assert schedule.next_at is not None
        assert found == all_between(expression, START, schedule.next_at - timedelta(seconds=1)), "exactly one"
        assert schedule.skipped == 0
    lab.until_ended(lab.value("SELECT count(*) FROM squidmesh.runs"), 60)
    check(lab)


def test_workers_that_die_while_they_fire_leave_the_nominal_time_to_others(lab: Lab, tmp_path: Path) -> None:
    """All of them are killed at the moment at which the time comes; whoever comes later catches up."""
    clock, mesh = Clockwork(lab, START), lab.mesh(*apps.ALL)
    mesh.schedules.create("often", apps.chain, "* * * * *", catch_up=CatchUp(3600, "all"))
    for _ in range(20 if FULL_CHAOS else 3):
        workers = start_workers(lab, tmp_path, 2)
        clock.step_and_tell(minutes=1)
        for worker in workers:
            worker.kill()
    start_workers(lab, tmp_path, 1)
    clock.tell()
    until_past(mesh, clock.now())
    assert nominal_times(lab, "often") == all_between("* * * * *", START, clock.now())


def test_a_worker_that_freezes_while_it_fires_does_not_keep_the_schedule(lab: Lab) -> None:
    """It has locked the row, and falls silent before it commits: the server gives the lock up, and another one fires."""
    clock, mesh = Clockwork(lab, START), lab.mesh(apps.chain)
    mesh.schedules.create("often", apps.chain, "* * * * *")
    clock.step(minutes=1)
    frozen = lab.session()
    frozen.execute("BEGIN")
    drive(frozen, limit_idleness(0.5), lab.schema, own_transaction=False)
    held = drive(frozen, lock_due_schedules(["chain/manual"], 1), lab.schema, own_transaction=False)
    assert held is not None
    lab.worker(mesh)
    until_past(mesh, clock.now())
    assert nominal_times(lab, "often") == [START + timedelta(seconds=30)]
    with pytest.raises(psycopg.Error):
        frozen.execute("COMMIT")
