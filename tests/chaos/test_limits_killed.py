"""Workers die while steps share limits and rates: no more execute than may, and nothing is left waiting for a place."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.chaos import apps
from tests.chaos.processes import start_workers, traces
from tests.invariants import check
from tests.waiting import TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.chaos

RUNS = 90


@contextmanager
def watching(lab: Lab) -> Iterator[list[int]]:
    """Asks again and again how many of one account's jobs are claimed; the most that were seen comes first."""
    query = lab.sql(
        "SELECT coalesce(max(count), 0) FROM (SELECT count(*) FROM squidmesh.jobs WHERE state = 'claimed'"
        " AND meters IS NOT NULL GROUP BY meters) AS held"
    )
    seen, over = [0, 0], threading.Event()

    def watch() -> None:
        with psycopg.connect(lab.dsn, autocommit=True) as connection:
            while not over.is_set():
                row = connection.execute(query).fetchone()
                assert row is not None
                seen[:] = max(seen[0], row[0]), seen[1] + 1

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def test_a_limit_holds_and_lets_everything_through_while_workers_are_killed(lab: Lab, tmp_path: Path) -> None:
    mesh = lab.mesh(*apps.ALL)
    mesh.start_runs(apps.limited, [{"account": "abc"[number % 3]} for number in range(RUNS)])
    (tmp_path / "hold-share").touch()
    workers = start_workers(lab, tmp_path, 3)
    with watching(lab) as seen:
        until(lambda: seen[0] > 1, what="two steps of one account")
        (tmp_path / "hold-share").unlink()
        for number in range(3):
            until(lambda n=number: len(traces(tmp_path, "bodies")) > RUNS // 6 * (n + 1), what="some bodies")  # type: ignore[misc]
            workers.pop(0).kill()
            workers += start_workers(lab, tmp_path, 1)
        lab.until_ended(RUNS, 3 * TIMEOUT)
    assert seen[0] == 2
    assert seen[1] > 10
    assert lab.rows("SELECT DISTINCT status FROM squidmesh.runs") == [("completed",)]
    check(lab)


def test_a_rate_holds_while_workers_are_killed(lab: Lab, tmp_path: Path) -> None:
    """A token is taken in the commit that hands the step out: who dies with it has used it up."""
    mesh = lab.mesh(*apps.ALL)
    mesh.start_runs(apps.rated, [{}] * RUNS)
    began = lab.value("SELECT squidmesh.clock()")
    workers = start_workers(lab, tmp_path, 2)
    for number in range(2):
        until(lambda n=number: len(traces(tmp_path, "bodies")) > RUNS // 5 * (n + 1), what="some bodies")  # type: ignore[misc]
        workers.pop(0).kill()
        workers += start_workers(lab, tmp_path, 1)
    lab.until_ended(RUNS, 3 * TIMEOUT)
    started, last = lab.rows("SELECT count(started_at), max(started_at) FROM squidmesh.attempts")[0]
    assert RUNS <= started <= apps.BURST + apps.PER_SECOND * (last - began).total_seconds()
    check(lab)
