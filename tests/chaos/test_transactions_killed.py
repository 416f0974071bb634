"""A worker dies at each statement of a step's transaction: in the end its writes are there once, with its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from squidmesh import RunStatus
from tests.chaos import apps
from tests.chaos.processes import WorkerProcess, start_workers, traces
from tests.effort import FULL_CHAOS
from tests.invariants import check
from tests.proxy import Proxy
from tests.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab import Lab

pytestmark = pytest.mark.chaos

STATEMENTS: Final = (
    "BEGIN",
    "pg_current_xact_id",  # what the transaction is at its beginning
    "INSERT INTO",  # the body's
    "pg_current_xact_id",
    "enable_seqscan",
    "lock_timeout",
    "NO KEY UPDATE",  # the run
    ".jobs j ON",
    "UPDATE",  # the run
    ".attempts",
    "UPDATE",  # the job
    "COMMIT",
)
"""What a step's session says, in order: the test below shows that this is all."""

POINTS: Final = range(len(STATEMENTS)) if FULL_CHAOS else (2, 9, 11)


def begins(message: bytes) -> bool:
    """Whether a message begins a transaction of a step: the worker's own begin otherwise."""
    return message.startswith(b"Q") and b"BEGIN ISOLATION LEVEL" in message


def is_statement(message: bytes) -> bool:
    """Whether a message is a statement: a simple one, or one that is parsed."""
    return message[:1] in (b"Q", b"P")


def ledger_of(lab: Lab) -> list[tuple[str, int]]:
    return lab.rows("SELECT step, count(*) FROM squidmesh.ledger GROUP BY 1 ORDER BY 1")


@pytest.fixture(autouse=True)
def table(lab: Lab) -> None:
    lab.rows("CREATE TABLE squidmesh.ledger (run_id uuid, step text)")


@pytest.mark.parametrize("step", ["book", "abook"])
@pytest.mark.parametrize("arrives", [True, False], ids=["arrives", "lost"])
@pytest.mark.parametrize("point", POINTS, ids=lambda n: f"{n} {STATEMENTS[n]}")
def test_a_worker_killed_at_a_statement(lab: Lab, tmp_path: Path, point: int, arrives: bool, step: str) -> None:
    """Whether the statement still arrives or not: another worker goes on, and what was written is there once."""
    mesh = lab.mesh(*apps.ALL)
    victims: list[WorkerProcess] = []
    transactions = left = 0

    def begins_the_step(message: bytes) -> bool:
        nonlocal transactions, left
        if begins(message):
            transactions += 1
            left = point
        return transactions == (1 if step == "book" else 2) and begins(message)

    def kill_at_the_point(message: bytes) -> bool:
        nonlocal left
        if not is_statement(message):
            return False
        left -= 1
        if left >= 0:
            return False
        assert STATEMENTS[point].encode() in message
        victims[0].kill()
        return True

    with Proxy(lab.dsn) as proxy:
        done = proxy.cut_when(kill_at_the_point, drop_reply=arrives, after=begins_the_step)
        victims += start_workers(lab, tmp_path, 1, dsn=proxy.dsn)
        run = mesh.start_run(apps.ledger)
        until(done.is_set, what="the kill")
    start_workers(lab, tmp_path, 1)
    ended = mesh.wait_for_run(run.id, 20)

    assert ended.status is RunStatus.COMPLETED
    assert ended.context == {"booked": 1, "abooked": 2, "all": 2}
    assert ledger_of(lab) == [("abook", 1), ("book", 1)]
    applied = arrives and STATEMENTS[point] == "COMMIT"
    bodies = [name for _, name, *_ in traces(tmp_path, "bodies")].count(step)
    assert bodies == (1 if applied or point < 2 else 2)
    statuses = [status for name, _, status in lab.attempts(run) if name == step]
    assert statuses == (["completed"] if applied else ["abandoned", "completed"])
    check(lab)


def test_a_step_says_no_more_than_that(lab: Lab, tmp_path: Path) -> None:
    """The statements of each of both sessions are those of the list, so that the points above are all there are."""
    mesh = lab.mesh(*apps.ALL)
    said: list[bytes] = []

    def note(message: bytes) -> bool:
        if is_statement(message):
            said.append(message)
        return False

    with Proxy(lab.dsn) as proxy:
        proxy.cut_when(note, after=begins)
        start_workers(lab, tmp_path, 1, dsn=proxy.dsn)
        assert mesh.wait_for_run(mesh.start_run(apps.ledger).id, 20).status is RunStatus.COMPLETED
    assert len(said) == 2 * len(STATEMENTS), said
    assert all(wanted.encode() in message for wanted, message in zip(2 * STATEMENTS, said, strict=True)), said


def test_workers_killed_again_and_again_book_once(lab: Lab, tmp_path: Path) -> None:
    """Of several workers one after the other is killed at any point while many runs write."""
    mesh = lab.mesh(*apps.ALL)
    count = 200 if FULL_CHAOS else 40
    runs = mesh.start_runs(apps.ledger, [None] * count)
    victims = start_workers(lab, tmp_path, 3)
    for number, victim in enumerate(victims):
        until(lambda n=number: len(traces(tmp_path, "bodies")) > count // 4 * (n + 1), what="some bodies")  # type: ignore[misc]
        victim.kill()
        WorkerProcess(lab, tmp_path)
    for run in runs:
        assert mesh.wait_for_run(run.id, 60).status is RunStatus.COMPLETED
    assert ledger_of(lab) == [("abook", count), ("book", count)]
    assert lab.value("SELECT count(*) FROM (SELECT DISTINCT * FROM squidmesh.ledger) AS d") == 2 * count
    check(lab)


def test_a_frozen_worker_commits_nothing_when_it_thaws(lab: Lab, tmp_path: Path) -> None:
    """It was stopped with a statement under way, and rescued; its session's transaction meets the fence."""
    mesh = lab.mesh(*apps.ALL)
    frozen: list[WorkerProcess] = []
    seen: list[bytes] = []

    def freeze(message: bytes) -> bool:
        if b"INSERT INTO" in message and not seen:
            seen.append(message)
            frozen[0].freeze()
        return False

    with Proxy(lab.dsn) as proxy:
        proxy.cut_when(freeze, after=begins)
        frozen += start_workers(lab, tmp_path, 1, dsn=proxy.dsn)
        run = mesh.start_run(apps.ledger)
        until(lambda: seen, what="the write")
        start_workers(lab, tmp_path, 1)
        assert mesh.wait_for_run(run.id, 20).status is RunStatus.COMPLETED
        frozen[0].thaw()
        assert frozen[0].stop() == 0
    assert ledger_of(lab) == [("abook", 1), ("book", 1)]
    assert lab.value("SELECT count(*) FROM squidmesh.attempts WHERE status = 'abandoned'") == 1
    check(lab)
